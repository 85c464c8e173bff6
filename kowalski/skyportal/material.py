"""What the archive holds of an alert that is to be delivered: its object's measurements and its stamps."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from pymongo.asynchronous.database import AsyncDatabase

from kowalski.archive.client import Document
from kowalski.science.photometry import LightCurve
from kowalski.surveys.base import Stamps, Survey

Row = dict[str, Any]


class LightCurves(NamedTuple):
    """All measurements of an object: those of alerts, and forced ones."""

    alerts: LightCurve
    forced: LightCurve


class Material:
    """Reads from the data database."""

    def __init__(self, data: AsyncDatabase[Document]) -> None:
        self._data = data

    async def light_curves(self, survey: Survey, candid: int, object_id: str) -> LightCurves:
        """Collect an object's light curves: the alert, the object's histories, and its other alerts.

        An alert of the object counts as known if the histories have a row of its time and filter.
        """
        history, _ = survey.light_curve
        stored = await self._data[survey.objects].find_one(
            {"_id": object_id}, dict.fromkeys((each.name for each in survey.histories), 1)
        )
        found: Document = stored or {}
        cursor = self._data[survey.alerts].find({survey.object_id_field: object_id}, {"candidate": 1})
        candidates = {alert["_id"]: alert["candidate"] async for alert in cursor}
        own = [candidates.pop(candid)] if candid in candidates else []
        rows = [*own, *found.get(history, ())]
        known = {_moment(row) for row in rows}
        rows += [row for row in candidates.values() if _moment(row) not in known]
        forced = [row for each in survey.histories if each.name != history for row in found.get(each.name, ())]
        return LightCurves(
            survey.alert_curve(_programmes(survey, rows)), survey.forced_curve(_programmes(survey, forced))
        )

    async def stamps(self, survey: Survey, candid: int) -> Stamps:
        """Read the stamps of an alert; all None if the archive has lost it."""
        stored = await self._data[survey.alerts].find_one({"_id": candid}, dict.fromkeys(survey.stamp_fields, 1))
        return survey.stamps_of(stored or {})


def _moment(row: Row) -> tuple[Any, Any]:
    return row.get("jd"), row.get("fid")


def _programmes(survey: Survey, rows: Iterable[Row]) -> list[Row]:
    """Let rows of a survey without programs have none, whatever their packets say."""
    return [*rows] if survey.program_field else [{**row, "programid": 0} for row in rows]
