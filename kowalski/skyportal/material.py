"""What the archive holds of an alert that is to be delivered and that never changes: its stamps."""

from __future__ import annotations

from pymongo.asynchronous.database import AsyncDatabase

from kowalski.archive.client import Document
from kowalski.surveys.base import Stamps, Survey


class Material:
    """Reads from the data database."""

    def __init__(self, data: AsyncDatabase[Document]) -> None:
        self._data = data

    async def stamps(self, survey: Survey, candid: int) -> Stamps:
        """Read the stamps of an alert; all None if the archive has lost it."""
        stored = await self._data[survey.alerts].find_one({"_id": candid}, dict.fromkeys(survey.stamp_fields, 1))
        return survey.stamps_of(stored or {})
