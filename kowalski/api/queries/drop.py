"""``drop``: delete a catalog; for the administrator."""

from __future__ import annotations

import logging
from typing import Annotated, ClassVar, Literal

from kowalski.api import sandbox
from kowalski.api.errors import ForbiddenError
from kowalski.api.models.queries import CatalogQuery, NoneAsEmpty, Options
from kowalski.api.queries.archive import Archive
from kowalski.api.queries.base import ArchiveQuery
from kowalski.api.results import Value

log = logging.getLogger(__name__)


class DropBody(CatalogQuery):
    """The catalog to delete."""


class DropQuery(ArchiveQuery):
    """Delete a catalog; for the administrator."""

    message: ClassVar[str] = "Successfully dropped collection"

    query_type: Literal["drop"]
    query: DropBody
    kwargs: Annotated[Options, NoneAsEmpty] = Options()

    async def run(self, archive: Archive) -> Value:
        """Delete it.

        Raises
        ------
        ForbiddenError
            If the user is not the administrator.
        """
        services, catalog = archive.services, sandbox.check_catalog(self.query.catalog)
        if not services.accounts.is_admin(archive.user):
            raise ForbiddenError
        await services.writable.drop_collection(catalog)
        log.warning("%s has dropped %s", archive.user.name, catalog)
        return Value(None)
