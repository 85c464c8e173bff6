"""Writing Avro object container files (Apache Avro 1.11 specification) with one record each, as surveys send them."""

from __future__ import annotations

import json
from hashlib import md5
from pathlib import Path
from typing import Any

import cavro

Record = dict[str, Any]

MAGIC = b"Obj\x01"
STRICT = cavro.DEFAULT_OPTIONS.replace(
    record_allow_extra_fields=False,
    record_encode_use_defaults=False,
    # Surveys do publish schemas with null as the default of a field that can't be null, and with one field twice.
    allow_invalid_default_values=True,
    record_fields_must_be_unique=False,
)
"""A record has no field more nor less than its schema."""


class Container:
    """Files of one schema: their header is made once, and equal records give equal bytes.

    Parameters
    ----------
    schema
        File with the schema as JSON.
    """

    def __init__(self, schema: Path) -> None:
        self.schema = json.loads(schema.read_text())
        text = json.dumps(self.schema)
        self._writer = cavro.Schema(text, options=STRICT)  # ten times as fast as fastavro where records are nested
        self._sync = md5(text.encode(), usedforsecurity=False).digest()  # the marker may be any 16 bytes
        metadata = {"avro.codec": "null", "avro.schema": text}
        pairs = b"".join(_text(name) + _text(value) for name, value in metadata.items())
        self._header = b"".join((MAGIC, _long(len(metadata)), pairs, _long(0), self._sync))

    def encode(self, record: Record) -> bytes:
        """Write ``record`` as one file, with the codec ``null``.

        Raises
        ------
        ValueError
            If the record has a field that the schema doesn't know, or lacks one.
        """
        body: bytes = self._writer.binary_encode(record)
        return b"".join((self._header, _long(1), _long(len(body)), body, self._sync))


def _text(text: str) -> bytes:
    encoded = text.encode()
    return _long(len(encoded)) + encoded


def _long(number: int) -> bytes:
    """Encode a number that isn't negative: zigzag, then seven bits per byte."""
    number <<= 1
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
