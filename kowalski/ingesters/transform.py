"""Batches of a table to documents, and the rows that make none, with reasons."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kowalski.ingesters import bson_columns
from kowalski.ingesters.columns import Columns, Resolved, degrees, kept, without_nulls
from kowalski.ingesters.errors import IngestError
from kowalski.ingesters.tables import Batch
from kowalski.science.coordinates import Bools, Floats

LARGEST = 16 * 1024 * 1024
"""Bytes of a document that MongoDB takes."""
SHOWN = 1000
"""Characters of a rejected row that are kept."""

Rejected = tuple[int, str, str]
"""Number of a row, why it was rejected, and what it holds."""
LookUp = Callable[[list[object]], dict[object, tuple[float, float]]]
"""Finds right ascension and declination of sources by id."""

Enrich = Callable[[list[object], Floats, Floats], dict[str, list[Any]]]
"""Gives further fields of sources by id, right ascension and declination."""


@dataclass(frozen=True, slots=True)
class Made:
    """What came of a batch.

    Attributes
    ----------
    documents
        BSON.
    numbers
        Of the rows they were made from.
    left_out
        Rows that the conditions leave out.
    """

    documents: list[bytes]
    numbers: list[int]
    rejected: list[Rejected]
    left_out: int


@dataclass(frozen=True, slots=True)
class Transformer:
    """Makes the documents of one file.

    Attributes
    ----------
    prefix
        Seven bytes that tell the file, for the ids of rows without one.
    """

    columns: Columns
    resolved: Resolved
    orders: Sequence[int]
    prefix: bytes
    look_up: LookUp | None = None
    enrich: Enrich | None = None

    def make(self, batch: Batch) -> Made:
        """Turn a batch into documents."""
        table, numbers = batch.table, batch.numbers
        wanted = kept(table, self.columns.keep)
        left_out = int((~wanted).sum())
        if left_out:
            table, numbers = table.filter(pa.array(wanted)), numbers[wanted]
        reasons = np.full(table.num_rows, None, object)
        ids = self._ids(table, reasons)
        ra, dec = self._positions(table, ids, reasons)
        good = _unset(reasons)
        rejected = list(batch.unread)
        if not good.all():
            rejected += [(int(numbers[i]), reasons[i], _shown(table, i)) for i in np.flatnonzero(~good).tolist()]
            chosen = pa.array(good)
            table, numbers = table.filter(chosen), numbers[good]
            ids = None if ids is None else ids.filter(chosen)
            ra, dec = (None, None) if ra is None or dec is None else (ra[good], dec[good])
        if not table.num_rows:
            return Made([], [], rejected, left_out)
        documents = self._documents(table, numbers, ids, ra, dec)
        fitting = np.asarray(pc.binary_length(documents)) <= LARGEST
        if not fitting.all():
            too_large = np.flatnonzero(~fitting).tolist()
            rejected += [(int(numbers[i]), "it is larger than 16 MB", _shown(table, i)) for i in too_large]
            documents, numbers = documents.filter(pa.array(fitting)), numbers[fitting]
        return Made(documents.to_pylist(), numbers.tolist(), rejected, left_out)

    def _documents(
        self, table: pa.RecordBatch, numbers: np.ndarray, ids: pa.Array | None, ra: Floats | None, dec: Floats | None
    ) -> pa.Array:
        elements = [
            bson_columns.object_ids("_id", self.prefix, numbers) if ids is None else bson_columns.column("_id", ids)
        ]
        for name, field in self.resolved.fields.items():
            elements.append(bson_columns.column(field, without_nulls(table.column(name), self.columns.nulls)))
        for name, value in self.columns.constants.items():
            elements.append(bson_columns.column(name, pa.array([value] * table.num_rows)))
        if ra is not None and dec is not None:
            if self.enrich is not None and ids is not None:
                further = self.enrich(ids.to_pylist(), ra, dec)
                elements += [bson_columns.encoded(name, values) for name, values in further.items()]
            elements.append(bson_columns.coordinates(ra, dec, self.orders))
        return bson_columns.documents(elements, table.num_rows)

    def _ids(self, table: pa.RecordBatch, reasons: np.ndarray) -> pa.Array | None:
        if self.resolved.id is None:
            return None
        ids = without_nulls(table.column(self.resolved.id), self.columns.nulls)
        if pa.types.is_dictionary(ids.type):
            ids = ids.cast(ids.type.value_type)
        if pa.types.is_floating(ids.type) and table.num_rows:
            try:
                ids = ids.cast(pa.int64())
            except pa.ArrowInvalid as error:
                raise IngestError(f"the ids in {self.resolved.id} are neither whole numbers nor texts") from error
        if self.columns.id_as_text:
            ids = ids.cast(pa.string())
        elif pa.types.is_integer(ids.type):
            ids = ids.cast(pa.int64())  # one type of number for all files
        reasons[_mask(ids.is_null())] = f"it has no id ({self.resolved.id})"
        return ids

    def _positions(
        self, table: pa.RecordBatch, ids: pa.Array | None, reasons: np.ndarray
    ) -> tuple[Floats | None, Floats | None]:
        if self.look_up is not None and ids is not None:
            wanted = ids.to_pylist()
            found = self.look_up([each for each in wanted if each is not None])
            for i, each in enumerate(wanted):
                if each not in found and reasons[i] is None:
                    reasons[i] = f"there is no source {each!r} in {self.columns.position_from}"
            pairs = np.array([found.get(each, (np.nan, np.nan)) for each in wanted], float).reshape(-1, 2)
            return pairs[:, 0], pairs[:, 1]
        if self.resolved.ra is None or self.resolved.dec is None:
            return None, None
        axes = []
        for name, is_ra in ((self.resolved.ra, True), (self.resolved.dec, False)):
            values = without_nulls(table.column(name), self.columns.nulls)
            angle, valid = degrees(values, self.resolved.unit, is_ra=is_ra)
            axes.append(angle)
            reasons[_mask(values.is_null()) & _unset(reasons)] = f"it has no position ({name})"
            reasons[~valid & _unset(reasons)] = f"its position can't be read ({name})"
        ra, dec = axes
        ra = np.where(ra == 360.0, 0.0, ra)
        outside = ~((ra >= 0.0) & (ra < 360.0) & (np.abs(dec) <= 90.0))
        reasons[outside & _unset(reasons)] = "its position is out of range: right ascension 0 to 360, declination ±90"
        return ra, dec


def file_prefix(key: str) -> bytes:
    """Make the seven bytes by which the ids of a file's rows begin."""
    return hashlib.sha256(key.encode()).digest()[:7]


def _mask(values: pa.Array) -> Bools:
    return np.asarray(values.to_numpy(zero_copy_only=False), bool)


def _unset(reasons: np.ndarray) -> Bools:
    return np.asarray(pc.is_null(pa.array(reasons, pa.string())).to_numpy(zero_copy_only=False), bool)


def _shown(table: pa.RecordBatch, row: int) -> str:
    return str({name: table.column(name)[row].as_py() for name in table.schema.names})[:SHOWN]
