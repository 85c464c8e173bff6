"""Reading archives of ``mongodump --archive``, plain or compressed (gzip, bzip2, Zstandard), as a stream.

The layout is that of mongo-tools (``common/archive/spec.md`` there). All integers are little-endian::

    archive  = magic, header, metadata of each collection …, terminator, block …
    block    = namespace header {db, collection, EOF, CRC}, document …, terminator
    magic    = 6d e2 99 81
    terminator = ff ff ff ff

Everything else is BSON. Blocks of collections that were dumped side by side are interleaved. The last block of each
collection holds no document; its header says ``EOF: true`` and gives the CRC-64 (ECMA, as in xz) of all its documents.
"""

from __future__ import annotations

import bz2
import gzip
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

import bson
import fastcrc
import pyarrow as pa
from bson import json_util
from bson.errors import BSONError

from kowalski.dumps.errors import DumpError

MAGIC = b"\x6d\xe2\x99\x81"
TERMINATOR = b"\xff\xff\xff\xff"
COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\x28\xb5\x2f\xfd": "zstd"}
"""First bytes of a compressed file -> what compressed it."""
SMALLEST, LARGEST = 5, 16 * 1024 * 1024 + 16 * 1024
"""Bytes of a BSON document; the server's own may be 16 kB larger than users'."""
BROKEN = (OSError, EOFError, ValueError)
"""What decompressors raise on a damaged file (`pyarrow.ArrowInvalid` is a ValueError)."""


@dataclass(frozen=True, slots=True)
class Dumped:
    """A collection in an archive, as the beginning of the archive tells.

    Attributes
    ----------
    options
        With which it was made.
    indexes
        Their definitions, that on ``_id`` among them.
    kind
        ``collection``, ``view`` or ``timeseries``.
    """

    database: str
    name: str
    options: dict[str, Any]
    indexes: list[dict[str, Any]]
    kind: str


class Archive:
    """One archive; the collections are known at once, the documents come as a stream, once.

    Parameters
    ----------
    file
        Open for reading; it need not be seekable.
    name
        What to call it in errors.

    Raises
    ------
    DumpError
        If it is no archive of mongodump, or its beginning is damaged.
    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.name = name
        self._in = _decompressed(file)
        if self._exactly(4, "its first bytes") != MAGIC:
            raise DumpError(f"{name} is no archive of mongodump")
        header = self._document()
        if header is None:
            raise self._damaged("it has no header")
        self.header = self._decoded(header)
        self.collections: list[Dumped] = []
        while (document := self._document()) is not None:
            self.collections.append(self._metadata(self._decoded(document)))

    def documents(self) -> Iterator[tuple[tuple[str, str], bytes]]:
        """Read all documents, in the order of the archive.

        Yields
        ------
        tuple
            Database and collection, and a document's BSON.

        Raises
        ------
        DumpError
            If the archive is damaged or ends too early. Documents that came before are as they were dumped.
        """
        sums: dict[tuple[str, str], int] = {}
        closed: set[tuple[str, str]] = set()
        while (first := self._next(4)) != b"":
            header = self._decoded(self._rest(first))
            namespace = (str(header.get("db", "")), str(header.get("collection", "")))
            if not namespace[1] or namespace in closed:
                raise self._damaged(f"there is a block of {'.'.join(namespace)!r} where none can be")
            if header.get("EOF"):
                self._close(namespace, int(header.get("CRC", 0)), sums)
                closed.add(namespace)
                continue
            crc = sums.get(namespace, 0)
            while (document := self._document()) is not None:
                crc = fastcrc.crc64.xz(document, crc)
                yield namespace, document
            sums[namespace] = crc
        unfinished = sorted(".".join(namespace) for namespace in sums.keys() - closed)
        unseen = [f"{each.database}.{each.name}" for each in self.collections if self._is_due(each, closed)]
        if unfinished or unseen:
            raise self._damaged(f"it ends before {', '.join([*unfinished, *unseen][:3])} is complete")

    def _is_due(self, dumped: Dumped, closed: set[tuple[str, str]]) -> bool:
        return dumped.kind == "collection" and (dumped.database, dumped.name) not in closed

    def _close(self, namespace: tuple[str, str], crc: int, sums: dict[tuple[str, str], int]) -> None:
        if self._document() is not None:
            raise self._damaged(f"there are documents behind the end of {'.'.join(namespace)}")
        if crc % 2**64 != sums.get(namespace, 0):
            raise self._damaged(f"the documents of {'.'.join(namespace)} do not fit their checksum")

    def _metadata(self, found: dict[str, Any]) -> Dumped:
        text = found.get("metadata") or "{}"
        try:
            read = json_util.loads(text)
            options = dict(read.get("options") or {})
            kind = "view" if "viewOn" in options else "collection"  # old tools do not name it
            return Dumped(
                database=str(found["db"]),
                name=str(found["collection"]),
                options=options,
                indexes=[dict(index) for index in read.get("indexes") or ()],
                kind=str(read.get("type") or found.get("type") or kind),
            )
        except (ValueError, TypeError, KeyError, AttributeError, BSONError) as error:
            raise self._damaged(f"the description of a collection can't be read ({error})") from error

    # Bytes

    def _document(self) -> bytes | None:
        """Read the next document; None at a terminator."""
        first = self._exactly(4, "a document")
        return None if first == TERMINATOR else self._rest(first)

    def _rest(self, first: bytes) -> bytes:
        """Read what follows a document's first four bytes, its length."""
        if len(first) < 4:
            raise self._damaged("it ends within a header")
        (size,) = struct.unpack("<i", first)
        if not SMALLEST <= size <= LARGEST:
            raise self._damaged(f"a document claims to have {size} bytes")
        return first + self._exactly(size - 4, "a document")

    def _exactly(self, count: int, what: str) -> bytes:
        found = self._next(count)
        if len(found) < count:
            raise self._damaged(f"it ends within {what}")
        return found

    def _next(self, count: int) -> bytes:
        """Read ``count`` bytes, fewer only at the end of the file."""
        parts: list[bytes] = []
        try:
            while count:
                part = self._in.read(count)
                if not part:
                    break
                parts.append(part)
                count -= len(part)
        except BROKEN as error:
            raise self._damaged(f"it can't be decompressed ({error})") from error
        return b"".join(parts)

    def _decoded(self, document: bytes) -> dict[str, Any]:
        try:
            return bson.decode(document)
        except BSONError as error:
            raise self._damaged(f"a header is no BSON ({error})") from error

    def _damaged(self, reason: str) -> DumpError:
        return DumpError(f"the archive {self.name} is damaged: {reason}")


class _Peeked:
    """A stream of which some bytes have been looked at."""

    def __init__(self, first: bytes, rest: BinaryIO) -> None:
        self._first, self._rest = first, rest
        self.closed = False

    def read(self, count: int = -1) -> bytes:
        if not self._first:
            return self._rest.read(count)
        if count < 0:
            taken, self._first = self._first + self._rest.read(), b""
        else:
            taken, self._first = self._first[:count], self._first[count:]
        return taken

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def writable(self) -> bool:
        return False

    def close(self) -> None:
        self.closed = True


def _decompressed(file: BinaryIO) -> BinaryIO:
    first = file.read(4)
    peeked = cast(BinaryIO, _Peeked(first, file))
    kind = next((kind for magic, kind in COMPRESSED.items() if first.startswith(magic)), None)
    if kind == "gzip":
        return cast(BinaryIO, gzip.GzipFile(fileobj=peeked))
    if kind == "bz2":
        return cast(BinaryIO, bz2.BZ2File(peeked))
    if kind == "zstd":
        return cast(BinaryIO, pa.CompressedInputStream(pa.PythonFile(peeked, mode="r"), "zstd"))
    return peeked
