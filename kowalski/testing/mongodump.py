"""Archives of mongodump, laid out as the specification of mongo-tools says (``common/archive/spec.md``), for tests."""

from __future__ import annotations

import random
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import bson
from bson import json_util

TERMINATOR = b"\xff\xff\xff\xff"
POLYNOMIAL = 0xC96C5795D7870F42


def crc64(data: bytes) -> int:
    """CRC-64 (ECMA 182, reflected), bit by bit as the definition says."""
    value = 2**64 - 1
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ (POLYNOMIAL if value & 1 else 0)
    return value ^ (2**64 - 1)


def archive(
    collections: Mapping[tuple[str, str], Sequence[bytes]],
    indexes: Mapping[tuple[str, str], Sequence[Mapping[str, Any]]] | None = None,
    kinds: Mapping[tuple[str, str], str] | None = None,
    seed: int = 1,
) -> bytes:
    """Write an archive; the collections' documents are cut into blocks at random and interleaved."""
    parts = [bytes.fromhex("6de29981")]
    versions = {"version": "0.1", "server_version": "6.0.5", "tool_version": "100.9.4"}
    parts.append(bson.encode({"concurrent_collections": 4, **versions}))
    for where, documents in collections.items():
        key = {"v": {"$numberInt": "2"}, "key": {"_id": {"$numberInt": "1"}}, "name": "_id_"}
        more = [json_util.loads(json_util.dumps(dict(index))) for index in (indexes or {}).get(where, ())]
        metadata: dict[str, Any] = {"indexes": [key, *more], "uuid": "0" * 32, "collectionName": where[1]}
        metadata |= {"options": {}, "type": (kinds or {}).get(where, "collection")}
        text = json_util.dumps(metadata, json_options=json_util.CANONICAL_JSON_OPTIONS)
        size = sum(map(len, documents))
        parts.append(bson.encode({"db": where[0], "collection": where[1], "metadata": text, "size": size}))
    parts.append(TERMINATOR)
    chance = random.Random(seed)
    left = {where: list(documents) for where, documents in collections.items()}
    while left:
        where = chance.choice(sorted(left))
        count = chance.randint(1, 3)
        block, left[where] = left[where][:count], left[where][count:]
        if block:
            parts += [_header(where, False, 0), *block, TERMINATOR]
        else:
            parts += [_header(where, True, crc64(b"".join(collections[where]))), TERMINATOR]
            del left[where]
    return b"".join(parts)


def _header(where: tuple[str, str], eof: bool, crc: int) -> bytes:
    (signed,) = struct.unpack("<q", struct.pack("<Q", crc))
    return bson.encode({"db": where[0], "collection": where[1], "EOF": eof, "CRC": bson.Int64(signed)})
