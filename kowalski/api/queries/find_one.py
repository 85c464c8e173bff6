"""``find_one``: the first document that matches a filter."""

from __future__ import annotations

from kowalski.api import extjson, sandbox
from kowalski.api.models.queries import FindOneQuery
from kowalski.api.queries.archive import Archive
from kowalski.archive.client import Document


async def run(query: FindOneQuery, archive: Archive) -> Document | None:
    """Give the document, or None."""
    body = query.query
    sandbox.check_expression([body.filter, body.projection])
    collection = archive.collection(body.catalog).with_options(codec_options=extjson.OPTIONS)
    options = archive.finding(query.kwargs) | {"limit": 1}
    async for document in collection.find(body.filter, body.projection or None, **options):
        return document
    return None
