"""Backups' files: documents as BSON in one Parquet column, so that every type and every bit of them comes back.

A collection is read in order of ``_id`` and cut where the ``_id`` of a document says so. Documents that come or go
change the chunk that they are in and, at most, the next; all others are the same as in the backup before, have the same
name (the checksum of their content) and are not written again. (The method is content-defined chunking, as in restic.)
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import bson
import pyarrow as pa
import pyarrow.parquet as pq
from bson.raw_bson import RawBSONDocument

from kowalski.dumps.errors import DumpError
from kowalski.dumps.places import Place

COLUMN = "document"
SCHEMA = pa.schema([pa.field(COLUMN, pa.large_binary(), nullable=False)])
SMALL, LARGE = 16 * 1024 * 1024, 64 * 1024 * 1024
"""Bytes of documents in a chunk: from SMALL on every `EVERY`-th ``_id`` ends it, LARGE ends it in any case."""
EVERY = 64
ROWS_AT_ONCE = 256


@dataclass(slots=True)
class Sum:
    """Number, size and checksum of documents; the checksum does not depend on their order.

    It is the sum of the documents' BLAKE2b digests (64 bits each), modulo 2⁶⁴.
    """

    rows: int = 0
    size: int = 0
    digest: int = 0

    def add(self, document: bytes) -> None:
        """Count a document."""
        self.rows += 1
        self.size += len(document)
        found = hashlib.blake2b(document, digest_size=8).digest()
        self.digest = (self.digest + int.from_bytes(found, "little")) % 2**64

    @property
    def hex(self) -> str:
        """The checksum as text."""
        return f"{self.digest:016x}"


@dataclass(slots=True)
class Chunk:
    """Documents that become one file.

    Attributes
    ----------
    documents
        BSON of each.
    size
        Bytes of all.
    """

    documents: list[bytes] = field(default_factory=list)
    size: int = 0

    @property
    def name(self) -> str:
        """SHA-256 of the content, by which the file is named."""
        return content_name(self.documents)


def content_name(documents: Iterable[bytes]) -> str:
    """Give the SHA-256 of documents, one after the other, as text."""
    digest = hashlib.sha256()
    for document in documents:
        digest.update(document)
    return digest.hexdigest()


def cut(documents: Iterable[bytes], small: int = SMALL, large: int = LARGE) -> Iterator[Chunk]:
    """Cut documents, which come in order of ``_id``, into chunks."""
    chunk = Chunk()
    for document in documents:
        chunk.documents.append(document)
        chunk.size += len(document)
        if chunk.size >= large or (chunk.size >= small and _ends(document)):
            yield chunk
            chunk = Chunk()
    if chunk.documents:
        yield chunk


def _ends(document: bytes) -> bool:
    key = bson.encode({"": RawBSONDocument(document).get("_id")})
    return zlib.crc32(key) % EVERY == 0


def split(batch: bytes) -> Iterator[bytes]:
    """Split BSON documents that follow each other, as `find_raw_batches` gives them."""
    start = 0
    while start < len(batch):
        (size,) = struct.unpack_from("<i", batch, start)
        yield batch[start : start + size]
        start += size


def write(place: Place, name: str, chunk: Chunk) -> None:
    """Write a chunk."""
    with place.writing(name) as file:
        options = {"compression": "zstd", "use_dictionary": False, "write_statistics": False}
        with pq.ParquetWriter(file, SCHEMA, write_page_checksum=True, **options) as writer:
            for start in range(0, len(chunk.documents), ROWS_AT_ONCE):
                part = chunk.documents[start : start + ROWS_AT_ONCE]
                writer.write_batch(pa.record_batch([pa.array(part, pa.large_binary())], schema=SCHEMA))


def read(place: Place, name: str, expected: str) -> list[bytes]:
    """Read a chunk and see that it is what was written.

    Raises
    ------
    DumpError
        If the file is missing, damaged or another one.
    """
    try:
        with place.open(name) as file:
            documents: list[bytes] = pq.read_table(file, page_checksum_verification=True)[COLUMN].to_pylist()
    except FileNotFoundError as error:
        raise DumpError(f"the backup's file {name} is missing") from error
    except (OSError, ValueError, KeyError) as error:  # pyarrow's errors are ValueErrors and OSErrors
        raise DumpError(f"the backup's file {name} is damaged: {' '.join(str(error).split())}") from error
    if content_name(documents) != expected:
        raise DumpError(f"the backup's file {name} is damaged: its documents do not fit their checksum")
    return documents
