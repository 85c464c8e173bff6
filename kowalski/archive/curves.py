"""The light curve of an object as it travels in the outbox: what the archive held when an alert passed.

Read when the alert passes, so that what is delivered does not depend on when it is delivered. A document has ``since``
(MJD of the earliest measurement that the alert's packet brought) and, under ``alerts`` and ``forced``, the columns of a
`kowalski.science.photometry.LightCurve` as lists, null where there is no value.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pymongo.database import Database

from kowalski.archive.client import Document
from kowalski.science.photometry import LightCurve
from kowalski.science.times import MJD_ZERO
from kowalski.surveys.base import Alert, Survey

Row = dict[str, Any]

DTYPES = {"band": np.str_, "program": np.int64}
"""Columns that are no float64."""


class Curves(NamedTuple):
    """All measurements of an object: those of alerts, and forced ones.

    Attributes
    ----------
    since
        From this MJD on they are, at least, what the alert's packet brought.
    """

    since: float
    alerts: LightCurve
    forced: LightCurve

    def recent(self) -> Curves:
        """Leave out what is older than the packet."""
        return self._replace(
            alerts=self.alerts.take(self.alerts.mjd >= self.since),
            forced=self.forced.take(self.forced.mjd >= self.since),
        )

    def document(self) -> Document:
        """Write it as a document."""
        return {"since": self.since, "alerts": _columns(self.alerts), "forced": _columns(self.forced)}

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Curves:
        """Read what `document` wrote."""
        return cls(document["since"], _curve(document["alerts"]), _curve(document["forced"]))


def collect(data: Database[Document], survey: Survey, alerts: Sequence[Alert]) -> dict[int, Curves]:
    """Collect the light curves of stored alerts' objects: the alert, the object's histories, and its other alerts.

    Parameters
    ----------
    alerts
        Stored alerts of ``survey``.

    Returns
    -------
    dict
        Candid -> light curves. An alert of the object counts as known if the histories have a row of its time and
        filter.
    """
    if not alerts:
        return {}
    names = sorted({alert.object_id for alert in alerts})
    shown = dict.fromkeys((each.name for each in survey.histories), 1)
    held = {found["_id"]: found for found in data[survey.objects].find({"_id": {"$in": names}}, shown)}
    candidates: dict[str, dict[int, Row]] = {}
    match = {survey.object_id_field: {"$in": names}}
    for found in data[survey.alerts].find(match, {"candidate": 1, survey.object_id_field: 1}):
        candidates.setdefault(found[survey.object_id_field], {})[found["_id"]] = found["candidate"]
    return {
        alert.candid: _curves(survey, alert, held.get(alert.object_id, {}), candidates.get(alert.object_id, {}))
        for alert in alerts
    }


def _curves(survey: Survey, alert: Alert, held: Document, candidates: Mapping[int, Row]) -> Curves:
    history, _ = survey.light_curve
    rows: list[Row] = [alert.document["candidate"], *held.get(history, ())]
    known = {_moment(row) for row in rows}
    rows += [row for candid, row in candidates.items() if candid != alert.candid and _moment(row) not in known]
    forced = [row for each in survey.histories if each.name != history for row in held.get(each.name, ())]
    first = min((row["jd"] for brought in alert.histories.values() for row in brought), default=alert.jd)
    return Curves(
        min(first, alert.jd) - MJD_ZERO,
        survey.alert_curve(_programmes(survey, rows)),
        survey.forced_curve(_programmes(survey, forced)),
    )


def _moment(row: Row) -> tuple[Any, Any]:
    return row.get("jd"), row.get("fid")


def _programmes(survey: Survey, rows: Iterable[Row]) -> list[Row]:
    """Let rows of a survey without programs have none, whatever their packets say."""
    return [*rows] if survey.program_field else [{**row, "programid": 0} for row in rows]


def _columns(curve: LightCurve) -> Document:
    return {column.name: _values(getattr(curve, column.name)) for column in fields(curve)}


def _values(column: NDArray[Any]) -> list[Any]:
    return [None if value != value else value for value in column.tolist()]


def _curve(columns: Mapping[str, Any]) -> LightCurve:
    names = [column.name for column in fields(LightCurve)]
    return LightCurve(*(np.array(columns[name], dtype=DTYPES.get(name, np.float64)) for name in names))
