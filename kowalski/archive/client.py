"""Connections to MongoDB, one account per purpose, and where things are kept in it."""

from __future__ import annotations

from enum import Enum
from typing import Any
from urllib.parse import quote_plus

from bson.codec_options import CodecOptions
from pymongo import AsyncMongoClient, MongoClient, WriteConcern
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.database import Database

from kowalski.config import Settings

Document = dict[str, Any]

DURABLE = WriteConcern(w="majority", j=True, wtimeout=30_000)
"""A write is acknowledged when a majority of the replica set has it in its journal."""

PLAIN: CodecOptions[Document] = CodecOptions(document_class=dict)


class Role(Enum):
    """For what a connection is used; each role is an account of its own in MongoDB."""

    ADMIN = "admin"
    """Makes accounts and the replica set; only `kowalski.runtime` uses it."""
    WRITER = "writer"
    """Reads and writes data and system documents; services use it for their own bookkeeping."""
    READER = "reader"
    """Reads the data database and nothing else; users' queries use it."""


def uri(settings: Settings, role: Role) -> str:
    """Build the connection string of ``role``; user names and passwords are escaped.

    ``database.uri`` is used as it is when it carries credentials of its own.
    """
    database = settings.database
    name, password = {
        Role.ADMIN: (database.admin_username, database.admin_password),
        Role.WRITER: (database.username, database.password),
        Role.READER: (database.query_username, database.query_password),
    }[role]
    account = f"{quote_plus(name)}:{quote_plus(password or '')}@"
    if database.uri is not None:
        scheme, _, rest = database.uri.partition("://")
        return database.uri if "@" in rest.partition("/")[0] else f"{scheme}://{account}{rest}"
    host = database.host or "127.0.0.1"
    if database.srv:
        return f"mongodb+srv://{account}{host}/?authSource=admin"
    target = f"replicaSet={quote_plus(database.replica_set)}" if database.replica_set else "directConnection=true"
    return f"mongodb://{account}{host}:{database.port}/?authSource=admin&{target}"


def connect(settings: Settings, role: Role = Role.WRITER, **options: Any) -> MongoClient[Document]:
    """Open a blocking client of ``role``; it connects on first use."""
    return MongoClient(uri(settings, role), appname="kowalski", **_options(settings, options))


def connect_async(settings: Settings, role: Role = Role.WRITER, **options: Any) -> AsyncMongoClient[Document]:
    """Open an asyncio client of ``role``; it connects on first use."""
    pool = {"maxPoolSize": settings.database.max_pool_size}
    return AsyncMongoClient(uri(settings, role), appname="kowalski", **_options(settings, pool | options))


def _options(settings: Settings, options: dict[str, Any]) -> dict[str, Any]:
    return {"serverSelectionTimeoutMS": 10_000, "retryWrites": True, "retryReads": True} | _tls(settings) | options


def _tls(settings: Settings) -> dict[str, Any]:
    tls = settings.database.tls
    if not tls.enabled:
        return {}
    files = {"tlsCAFile": tls.ca_file, "tlsCertificateKeyFile": tls.certificate_file}
    found: dict[str, Any] = {name: str(file) for name, file in files.items() if file is not None}
    if tls.certificate_password is not None:
        found["tlsCertificateKeyFilePassword"] = tls.certificate_password
    return {"tls": True} | found


def data_database(client: MongoClient[Document], settings: Settings) -> Database[Document]:
    """Alerts, objects and catalogs; writes are durable when acknowledged."""
    return client.get_database(settings.database.db, codec_options=PLAIN, write_concern=DURABLE)


def system_database(client: MongoClient[Document], settings: Settings) -> Database[Document]:
    """Users, filters, outbox, dead letters and reports: what no user's query may reach."""
    return client.get_database(settings.database.system_db, codec_options=PLAIN, write_concern=DURABLE)


def async_data_database(client: AsyncMongoClient[Document], settings: Settings) -> AsyncDatabase[Document]:
    """Like `data_database`, for asyncio."""
    return client.get_database(settings.database.db, codec_options=PLAIN, write_concern=DURABLE)


def async_system_database(client: AsyncMongoClient[Document], settings: Settings) -> AsyncDatabase[Document]:
    """Like `system_database`, for asyncio."""
    return client.get_database(settings.database.system_db, codec_options=PLAIN, write_concern=DURABLE)
