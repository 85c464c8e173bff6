"""Decoding of Avro (Apache Avro 1.11 specification), in the two forms in which alerts travel.

An object container file carries its schema in its header: 27 kB of JSON and the same for a whole night, so it is
parsed once per header. Confluent's wire format is one record after a zero byte and the number of its schema in four
bytes; the schema itself comes from `kowalski.broker.schemas`. The first bytes of a message tell which form it has.

``cavro`` decodes three times as fast as ``fastavro``; what it can't read, ``fastavro`` may. Surveys publish schemas
with defaults that the specification forbids (null for an integer): both readers are told to overlook them.
"""

from __future__ import annotations

import bz2
import io
import json
import lzma
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import cavro
import cramjam
import fastavro

from kowalski.broker import avro_limits
from kowalski.surveys.base import PacketError, Record

MAGIC = b"Obj\x01"
WIRE = b"\x00"
"""First byte of Confluent's wire format."""
WIRE_HEADER = struct.Struct(">xI")
SYNC_SIZE = 16
MAX_BLOCK = 128 * 1024 * 1024
"""Bytes to which the compressed blocks of a message may expand together: an alert is a thousand times smaller."""
MAX_HEADER = 2 * 1024 * 1024
"""Bytes of a file's header: surveys' own have up to 300,000, and they are kept."""

_OPTIONS = cavro.PERMISSIVE_OPTIONS.replace(
    record_decodes_to_dict=True, allow_invalid_default_values=True, unicode_errors="strict"
)
DECODING_ERRORS = (
    cavro.CavroException,
    cramjam.DecompressionError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    EOFError,
    OSError,
    OverflowError,
    MemoryError,
    RecursionError,
    struct.error,
    zlib.error,
    lzma.LZMAError,
    fastavro.schema.SchemaParseException,
    fastavro.schema.UnknownType,
)
"""What the readers raise for bytes that are no valid Avro."""


_BYTE = cavro.Schema('{"type": "fixed", "name": "byte", "size": 1}')


def _at_end(reader: cavro.MemoryReader) -> bool:
    """Whether nothing is left to read; cavro has no other way to ask."""
    try:
        _BYTE.binary_read(reader)
    except EOFError:
        return True
    return False


class Reader:
    """Reads records of one schema.

    Parameters
    ----------
    text
        The schema as JSON, everything that it refers to included.
    fast
        False: by the reference reader alone.

    Raises
    ------
    One of `DECODING_ERRORS`
        If it is no schema.
    PacketError
        If messages of it may become anything: see `kowalski.broker.avro_limits`.
    """

    def __init__(self, text: str, *, fast: bool = True) -> None:
        self.schema = fastavro.parse_schema(json.loads(text), _ignore_default_error=True)
        self._ratio = avro_limits.ratio(self.schema)
        try:
            self._fast = cavro.Schema(text, options=_OPTIONS) if fast else None
        except (cavro.CavroException, ValueError, TypeError, KeyError):
            self._fast = None

    def records(self, body: bytes, count: int) -> list[Record]:
        """Decode ``count`` records that are all of ``body``."""
        avro_limits.check(len(body), self._ratio)
        if self._fast is not None:
            try:
                reader = cavro.MemoryReader(body)
                found = [self._fast.binary_read(reader) for _ in range(count)]
                if _at_end(reader):
                    return found
            except DECODING_ERRORS:
                pass  # the reference reader has the last word, and its error is the one reported
        stream = io.BytesIO(body)
        records = [fastavro.schemaless_reader(stream, self.schema, None) for _ in range(count)]
        if stream.read(1):
            raise PacketError("bytes are left over after the last record")
        return [record for record in records if isinstance(record, dict)]


@dataclass(frozen=True, slots=True)
class _Header:
    """The start of a container file up to its sync marker, and what it says."""

    raw: bytes
    codec: str
    reader: Reader


class Schemas(Protocol):
    """Where the schemas of the wire format are found."""

    def text(self, number: int) -> str:
        """Give the schema with that number as JSON; a `PacketError` says that there is none."""


class Decoder:
    """Reads messages; keeps the headers and schemas it has seen, so one per process is enough.

    Parameters
    ----------
    schemas
        Where schemas of the wire format are found; None: messages of that format are refused.
    fast
        False: by the reference reader alone.
    """

    def __init__(self, schemas: Schemas | None = None, *, fast: bool = True) -> None:
        self._fast = fast
        self._headers: list[_Header] = []
        self._schemas = schemas
        self._numbered: dict[int, Reader] = {}
        self.unseen: list[Any] = []
        """Schemas, as fastavro parses them, that nobody has looked at yet; whoever does takes them out."""

    def records(self, value: bytes) -> list[Record]:
        """Decode all records of one message.

        Raises
        ------
        PacketError
            If ``value`` is no complete, valid container file or record; the text says what is wrong with it.
        kowalski.broker.schemas.RegistryError
            If its schema can't be had for now.
        """
        try:
            if value.startswith(MAGIC):
                return self._blocks(value, self._header(value))
            if value.startswith(WIRE):
                return self._wire(value)
        except DECODING_ERRORS as error:
            raise PacketError(f"not decodable as Avro: {type(error).__name__}: {error}"[:500]) from error
        raise PacketError("neither an Avro container file nor wire format: it begins with neither Obj\\x01 nor \\x00")

    def _wire(self, value: bytes) -> list[Record]:
        (number,) = WIRE_HEADER.unpack_from(value)
        reader = self._numbered.get(number)
        if reader is None:
            if self._schemas is None:
                raise PacketError(f"it needs schema {number}, and the survey has no schemas of its own")
            reader = self._numbered[number] = Reader(self._schemas.text(number), fast=self._fast)
            self.unseen.append(reader.schema)
        return reader.records(value[WIRE_HEADER.size :], 1)

    def _header(self, value: bytes) -> _Header:
        for header in self._headers:
            if value.startswith(header.raw):
                return header
        header = _read_header(value, fast=self._fast)
        self._headers.insert(0, header)
        self.unseen.append(header.reader.schema)
        del self.unseen[:-64]
        del self._headers[64:]  # a night has a handful of headers; hostile ones must not pile up
        return header

    def _blocks(self, value: bytes, header: _Header) -> list[Record]:
        position = len(header.raw)
        sync = value[position : position + SYNC_SIZE]
        position += SYNC_SIZE
        found: list[Record] = []
        expanded = 0
        while position < len(value):
            count, position = _long(value, position)
            size, position = _long(value, position)
            end = position + size
            if count < 0 or size < 0 or value[end : end + SYNC_SIZE] != sync:
                raise PacketError("the sync marker after a block is missing: the file is cut or damaged")
            body = _expand(value[position:end], header.codec)
            expanded += len(body)
            if expanded > max(MAX_BLOCK, len(value)):
                raise PacketError(f"its blocks expand to more than {MAX_BLOCK} bytes")
            found += header.reader.records(body, count)
            position = end + SYNC_SIZE
        if not found:
            raise PacketError("the file holds no record")
        return found


def _read_header(value: bytes, *, fast: bool) -> _Header:
    """Read the file metadata: a map of names to bytes, written in blocks that end with an empty one."""
    metadata: dict[str, bytes] = {}
    position = len(MAGIC)
    while True:
        count, position = _long(value, position)
        if count == 0:
            break
        if count < 0:
            count = -count
            _, position = _long(value, position)
        for _ in range(count):
            name, position = _bytes(value, position)
            metadata[name.decode()], position = _bytes(value, position)
    if position > MAX_HEADER:
        raise PacketError(f"its header has more than {MAX_HEADER} bytes")
    codec = metadata.get("avro.codec", b"null").decode()
    return _Header(value[:position], codec, Reader(metadata["avro.schema"].decode(), fast=fast))


def _expand(body: bytes, codec: str) -> bytes:
    if codec == "null":
        return body
    expand = _CODECS.get(codec)
    if expand is None:
        raise PacketError(f"unknown Avro codec {codec}")
    return expand(body)


def _inflate(body: bytes) -> bytes:
    inflater = zlib.decompressobj(-15)
    expanded = inflater.decompress(body, MAX_BLOCK)
    if inflater.unconsumed_tail:
        raise PacketError(f"a block expands to more than {MAX_BLOCK} bytes")
    return expanded


def _unsnap(body: bytes) -> bytes:
    """Expand a snappy block; its last four bytes are a checksum."""
    size, _ = _unsigned(body, 0)
    if size > MAX_BLOCK:
        raise PacketError(f"a block expands to more than {MAX_BLOCK} bytes")
    expanded = bytes(cramjam.snappy.decompress_raw(body[:-4]))
    if zlib.crc32(expanded) != struct.unpack(">I", body[-4:])[0]:
        raise PacketError("the checksum of a snappy block is wrong")
    return expanded


def _bounded(make: Callable[[], Any]) -> Callable[[bytes], bytes]:
    def expand(body: bytes) -> bytes:
        machine = make()
        expanded: bytes = machine.decompress(body, MAX_BLOCK)
        if not machine.eof:
            raise PacketError(f"a block is cut or expands to more than {MAX_BLOCK} bytes")
        return expanded

    return expand


_CODECS: dict[str, Callable[[bytes], bytes]] = {
    "deflate": _inflate,
    "snappy": _unsnap,
    "bzip2": _bounded(bz2.BZ2Decompressor),
    "xz": _bounded(partial(lzma.LZMADecompressor, memlimit=MAX_BLOCK)),  # or its header decides how much it takes
}


def _unsigned(value: bytes, position: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = value[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, position
        shift += 7
        if shift > 63:
            raise ValueError("a number is longer than 64 bits")


def _long(value: bytes, position: int) -> tuple[int, int]:
    """Read a zigzag-coded variable-length integer."""
    number, position = _unsigned(value, position)
    return (number >> 1) ^ -(number & 1), position


def _bytes(value: bytes, position: int) -> tuple[bytes, int]:
    size, position = _long(value, position)
    if size < 0 or position + size > len(value):
        raise ValueError("a length points beyond the end of the file")
    return value[position : position + size], position + size
