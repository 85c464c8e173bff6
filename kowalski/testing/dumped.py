"""Has MongoDB's own mongodump write archives of documents that are the same each time, for tests of their reader.

``python -m kowalski.testing.dumped MONGODUMP…`` writes those of ``tests/dumps/archives`` again, where ``MONGODUMP…``
is a command that starts the tool.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from bson import SON, Binary, Code, DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from pymongo import MongoClient
from pymongo.database import Database

from kowalski.config import PROJECT
from kowalski.runtime import mongod
from kowalski.testing import services

Document = dict[str, Any]
FOLDER = PROJECT / "tests" / "dumps" / "archives"
DATABASE = "dumped"
SMALL = (f"--db={DATABASE}", "--excludeCollection=left", "--excludeCollection=right")
FORMS: dict[str, tuple[str, ...]] = {
    "plain": SMALL,
    "gzip": (f"--db={DATABASE}", "--gzip"),
    "oplog": ("--oplog", "--gzip"),
}
"""Name of an archive -> options with which it is written."""


def _types() -> list[Document]:
    values: list[Any] = [
        None, True, 1, Int64(2**40), -0.0, float("inf"), "étoile \x00 *", b"\x1f\x8b\x00", Binary(b"old", 2),
        Binary.from_uuid(UUID(int=7)), ObjectId("0123456789abcdef01234567"), datetime(2023, 10, 12, 5, tzinfo=UTC),
        Regex("^ZTF", "i"), Code("x"), Code("y", {"y": 1}), Timestamp(3, 4), Decimal128("1.50"), MinKey(), MaxKey(),
        DBRef("sources", 1), [1, [2, {}], "c"], {}, SON([("b", 1), ("a", {"c": []})]),
    ]  # fmt: skip
    return [{"_id": n, "value": value} for n, value in enumerate(values)]


def _sources() -> list[Document]:
    point = {"type": "Point", "coordinates": [1.5, 2.5]}
    return [
        {"_id": Int64(10**15 + n), "magpsf": n / 7, "fid": n % 3, "coordinates": {"radec_geojson": point}}
        for n in range(400)
    ]


def _large() -> list[Document]:
    """Make as much as it takes for mongodump to interleave two collections: tens of MB, nearly nothing when packed."""
    return [{"_id": n, "stamp": bytes([n]) * 800_000} for n in range(48)]


COLLECTIONS: dict[str, Callable[[], list[Document]]] = {
    "types": _types, "sources": _sources, "empty": list, "left": _large, "right": _large,
}  # fmt: skip
"""Name of a collection -> what makes its documents."""


def fill(database: Database[Document]) -> None:
    """Make the collections, indexes on one of them, and a view."""
    database.create_collection("empty", capped=True, size=4096)
    database.create_collection("sources", collation={"locale": "en", "strength": 2})
    database.create_collection("bright", viewOn="sources", pipeline=[{"$match": {"magpsf": {"$lt": 18}}}])
    for name, make in COLLECTIONS.items():
        if documents := make():
            database[name].insert_many(documents)
    database["sources"].create_index([("coordinates.radec_geojson", "2dsphere"), ("_id", -1)], name="position")
    database["sources"].create_index([("fid", 1), ("magpsf", -1)], partialFilterExpression={"magpsf": {"$gt": 3}})


def dump(command: Sequence[str], client: MongoClient[Document], uri: str, form: str) -> bytes:
    """Make the collections, let mongodump write them to an archive, and drop them.

    Raises
    ------
    OSError
        If it fails.
    """
    client.drop_database(DATABASE)
    fill(client[DATABASE])
    options = [f"--uri={uri}", *FORMS[form], "--archive", "--quiet"]
    done = subprocess.run([*command, *options], capture_output=True, check=False)
    client.drop_database(DATABASE)
    if done.returncode != 0:
        raise OSError(f"{' '.join(command)}: {done.stderr.decode(errors='replace')}")
    return done.stdout


def main(command: Sequence[str]) -> None:
    """Write all archives, from a MongoDB without accounts, so that none is in them."""
    (port,) = services.free_ports(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        argv = [str(mongod.find(folder)), "--dbpath", name, "--replSet", "rs0", "--port", str(port)]
        server = services.Process("mongod", [*argv, "--bind_ip", "127.0.0.1"], {}, folder / "mongod.log")
        server.start()
        try:
            uri = f"mongodb://127.0.0.1:{port}/?directConnection=true"
            with MongoClient[Document](uri) as client:
                members = [{"_id": 0, "host": f"127.0.0.1:{port}"}]
                client.admin.command("replSetInitiate", {"_id": "rs0", "members": members})
                while not client.admin.command("hello")["isWritablePrimary"]:
                    server.check()
                for form in FORMS:
                    (FOLDER / f"{form}.archive").write_bytes(dump(command, client, uri, form))
        finally:
            server.stop()


if __name__ == "__main__":
    main(sys.argv[1:])
