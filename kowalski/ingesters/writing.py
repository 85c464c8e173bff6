"""Documents into a collection: what is there already stays as it is, what differs from it is named."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import bson
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo import ReplaceOne, UpdateOne
from pymongo.collection import Collection
from pymongo.errors import AutoReconnect, WriteConcernError

from kowalski.archive.client import Document

DUPLICATE = 11000
COMMAND_BYTES = 12 << 20
"""A command is a document, too: 16 MB at most, and a little for what else it holds."""
RAW: CodecOptions[RawBSONDocument] = CodecOptions(document_class=RawBSONDocument)


class _Encoded(RawBSONDocument):
    """A document that is only sent: making one costs half of what one that can be looked into costs."""

    __slots__ = ("_encoded",)

    def __init__(self, encoded: bytes) -> None:
        self._encoded = encoded

    @property
    def raw(self) -> bytes:
        """The document as BSON."""
        return self._encoded


class Mode(Enum):
    """What happens where a document of the same id is there."""

    INSERT = "insert"
    """The one that is there stays; another content is refused."""
    REPLACE = "replace"
    MERGE = "merge"
    """Its fields are added to those that are there."""
    HISTORIES = "histories"
    """The documents are alert packets, whose rows are merged into objects: `kowalski.ingesters.packets`."""


@dataclass(slots=True)
class Written:
    """What came of some documents; ``refused`` by their place in the batch, with the reason."""

    new: int = 0
    present: int = 0
    refused: list[tuple[int, str]] = field(default_factory=list)


def write(collection: Collection[Document], documents: list[bytes], mode: Mode) -> Written:
    """Write documents, each with an ``_id``, in one unordered bulk; may be repeated."""
    if not documents:
        return Written()
    if mode is Mode.INSERT:
        return _insert(collection, documents)
    changes: list[Any] = [_change(document, mode) for document in documents]
    done = collection.bulk_write(changes, ordered=False)
    return Written(done.upserted_count, len(documents) - done.upserted_count)


def compare(
    collection: Collection[Document], documents: list[bytes], places: Sequence[int] | None = None
) -> list[tuple[int, str]]:
    """Tell which of the documents, or of those at some places, are not in the collection as they are, and why."""
    ids = {
        place: RawBSONDocument(documents[place])["_id"]
        for place in (range(len(documents)) if places is None else places)
    }
    found = collection.with_options(codec_options=RAW).find({"_id": {"$in": list(ids.values())}})
    stored = {document["_id"]: document.raw for document in found}
    differing = []
    for place, _id in ids.items():
        if _id not in stored:
            differing.append((place, f"it is not stored (_id {_id})"))
        elif stored[_id] != documents[place]:
            differing.append((place, f"another row has its _id {_id}"))
    return differing


def _insert(collection: Collection[Document], documents: list[bytes]) -> Written:
    total = Written()
    for first, last in _pieces(documents):
        answer = _send(collection, documents[first:last])
        failed = answer.get("writeErrors", [])
        doubled = [first + each["index"] for each in failed if each["code"] == DUPLICATE]
        refused = compare(collection, documents, doubled)
        total.new += answer["n"]
        total.present += len(doubled) - len(refused)
        total.refused += refused
        total.refused += [(first + each["index"], each["errmsg"]) for each in failed if each["code"] != DUPLICATE]
    return total


def _pieces(documents: list[bytes]) -> Iterator[tuple[int, int]]:
    """Cut a batch into pieces that one command may hold."""
    first = size = 0
    for place, document in enumerate(documents):
        if size + len(document) > COMMAND_BYTES and place > first:
            yield first, place
            first, size = place, 0
        size += len(document)
    yield first, len(documents)


def _send(collection: Collection[Document], documents: list[bytes]) -> Document:
    """Insert documents by one command; `insert_many`, which looks into each, takes twice the time of a row."""
    command = {
        "insert": collection.name,
        "ordered": False,
        "writeConcern": collection.write_concern.document,
        "documents": [_Encoded(document) for document in documents],
    }
    try:
        answer = collection.database.command(command)
    except AutoReconnect:  # once more, as the driver does with its own writes: what was stored is there already
        answer = collection.database.command(command)
    if "writeConcernError" in answer:
        error = answer["writeConcernError"]
        raise WriteConcernError(error["errmsg"], error["code"], error)
    return answer


def _change(document: bytes, mode: Mode) -> Any:
    decoded = bson.decode(document)
    where = {"_id": decoded["_id"]}
    if mode is Mode.REPLACE:
        return ReplaceOne(where, decoded, upsert=True)
    return UpdateOne(where, {"$set": {name: value for name, value in decoded.items() if name != "_id"}}, upsert=True)
