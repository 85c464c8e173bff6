"""Objects of the Transient Name Server as documents, from the answers of its API and from its tables (CSV).

A document has the fields of the API's answer, ``_id`` (TNS' ``objid``), ``name`` ("SN 2020oi"), ``discovery_date``
(UTC), ``coordinates``, and ``retrieved_at``: until when what it says was known to TNS.
"""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pymongo import UpdateOne

from kowalski.archive.client import Document
from kowalski.watchers.errors import Malformed
from kowalski.watchers.places import coordinates, is_place

NUMBERS = {"redshift": "redshift", "discoverymag": "discoverymag"}
TEXTS = {
    "name_prefix": "name_prefix",
    "name": "objname",
    "discoverydate": "discoverydate",
    "reporters": "reporter",
    "internal_names": "internal_names",
    "time_received": "time_received",
    "Discovery_ADS_bibcode": "discovery_ads_bibcode",
    "Class_ADS_bibcodes": "class_ads_bibcodes",
    "creationdate": "creationdate",
    "lastmodified": "lastmodified",
}
GROUPS = {
    "object_type": ("id", "typeid", "name", "type"),
    "reporting_group": ("groupid", "reporting_groupid", "group_name", "reporting_group"),
    "discovery_data_source": ("groupid", "source_groupid", "group_name", "source_group"),
    "discmagfilter": ("id", "discmagfilter", "name", "filter"),
}
"""Field of the API -> its number's name and the table's column of it, its name's name and the column."""
REQUIRED = {"objid", "name_prefix", "name", "ra", "declination", "discoverydate"}


class NoObject(Exception):
    """What came is no object; the text says why."""


def from_api(reply: Any, at: datetime) -> Document:
    """Make a document of the API's answer for one object.

    Raises
    ------
    NoObject
        If it has no number, no name or no position.
    """
    if not isinstance(reply, dict) or not isinstance(reply.get("objid"), int):
        raise NoObject("the answer has no objid")
    texts = [reply.get("ra"), reply.get("dec")]
    as_received = [str(text) for text in texts] if all(isinstance(text, str) for text in texts) else None
    return _document(dict(reply), reply.get("radeg"), reply.get("decdeg"), as_received, at)


def from_table(path: Path, at: datetime, rejected: dict[str, str]) -> Iterator[Document]:
    """Make documents of a zipped table: one line that says for when it is, one with names, then an object per line.

    Parameters
    ----------
    rejected
        Gets what is no object, and why.

    Raises
    ------
    Malformed
        If it is no such table, or broke off.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            (name,) = archive.namelist()
            with archive.open(name) as raw, io.TextIOWrapper(raw, "utf-8", newline="") as text:
                yield from _rows(text, at, rejected)
    except (zipfile.BadZipFile, EOFError, UnicodeDecodeError, csv.Error, ValueError) as error:
        raise Malformed(f"{path.name} is no table of TNS: {error}") from error


def _rows(text: io.TextIOWrapper, at: datetime, rejected: dict[str, str]) -> Iterator[Document]:
    lines = csv.reader(text, strict=True)
    head = next(lines, [])
    if "objid" not in head:  # the first line says when the table was made
        head = next(lines, [])
    if lacking := REQUIRED - set(head):
        raise ValueError(f"it has no columns {', '.join(sorted(lacking))}")
    for row in lines:
        what = f"line {lines.line_num}"
        if len(row) != len(head):
            rejected[what] = f"{len(row)} values for {len(head)} columns"
            continue
        values = {key: value.strip() for key, value in zip(head, row, strict=True) if value.strip()}
        try:
            document = _from_row(values, at)
        except (NoObject, ValueError) as error:
            rejected[f"{what} ({values.get('name', 'no name')})"] = str(error)
        else:
            yield document


def _from_row(values: dict[str, str], at: datetime) -> Document:
    fields: Document = {"objid": int(values.get("objid", ""))}
    fields |= {ours: float(values[theirs]) for theirs, ours in NUMBERS.items() if theirs in values}
    fields |= {ours: values[theirs] for theirs, ours in TEXTS.items() if theirs in values}
    for group, (number, number_column, name, name_column) in GROUPS.items():
        if name_column in values or number_column in values:
            code = values.get(number_column)
            fields[group] = {number: None if code is None else int(code), name: values.get(name_column)}
    ra, dec = float(values.get("ra", "nan")), float(values.get("declination", "nan"))
    return _document(fields | {"radeg": ra, "decdeg": dec}, ra, dec, None, at)


def _document(fields: Document, ra: Any, dec: Any, texts: list[str] | None, at: datetime) -> Document:
    if not is_place(ra, dec):
        raise NoObject(f"{ra}, {dec} is no position")
    if not isinstance(fields.get("objname"), str):
        raise NoObject("it has no name")
    prefix = fields.get("name_prefix")
    found = _date(fields.get("discoverydate"))
    return fields | {
        "_id": fields["objid"],
        "name": f"{prefix} {fields['objname']}" if prefix else fields["objname"],
        "discovery_date": found,
        "discovery_date_(ut)": fields.get("discoverydate"),
        "coordinates": coordinates([float(ra)], [float(dec)], [texts])[0],
        "retrieved_at": at,
    }


def _date(text: Any) -> datetime | None:
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(str(text))
    except ValueError as error:
        raise NoObject(f"{text!r} is no date") from error
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def upsert(document: Document) -> UpdateOne:
    """Build the update that adds an object, or what is new of it; what the archive knows of a later time stays."""
    new = {"$literal": document}
    is_newer = {"$gt": ["$retrieved_at", document["retrieved_at"]]}
    older, newer = {"$mergeObjects": [new, "$$ROOT"]}, {"$mergeObjects": ["$$ROOT", new]}
    change = {"$replaceWith": {"$cond": [is_newer, older, newer]}}
    return UpdateOne({"_id": document["_id"]}, [change], upsert=True)
