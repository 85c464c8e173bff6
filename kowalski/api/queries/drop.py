"""``drop``: delete a catalog; for the administrator."""

from __future__ import annotations

import logging

from kowalski.api import sandbox
from kowalski.api.errors import ForbiddenError
from kowalski.api.models.queries import DropQuery
from kowalski.api.queries.archive import Archive

log = logging.getLogger(__name__)


async def run(query: DropQuery, archive: Archive) -> None:
    """Delete the catalog.

    Raises
    ------
    ForbiddenError
        If the user is not the administrator.
    """
    services, catalog = archive.services, sandbox.check_catalog(query.query.catalog)
    if not services.accounts.is_admin(archive.user):
        raise ForbiddenError
    await services.writable.drop_collection(catalog)
    log.warning("%s has dropped %s", archive.user.name, catalog)
