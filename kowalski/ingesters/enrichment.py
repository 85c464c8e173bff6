"""What the archive itself adds to sources that are loaded: alerts and catalog sources near them, and light curves.

SCoPe (van Roestel et al. 2021, AJ 161, 267) classifies by these features, too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from pymongo.database import Database

from kowalski.archive.catalogs import Catalogs
from kowalski.archive.client import Document
from kowalski.config.settings import CrossMatch
from kowalski.ingesters.errors import IngestError
from kowalski.science.coordinates import Floats

DT = (
    0.0, 4.0 / 145.0, 1.0 / 25.0, 2.0 / 25.0, 3.0 / 25.0, 0.3, 0.5, 0.75, 1.0, 1.5, 2.5, 3.5, 4.5, 5.5, 7.0, 10.0, 20.0,
    30.0, 45.0, 60.0, 75.0, 90.0, 120.0, 150.0, 180.0, 210.0, 240.0,
)  # fmt: skip
"""Edges of the intervals of time differences, days: version v20200318, by which the classifiers were trained."""
DM = (
    -8.0, -4.5, -3.0, -2.5, -2.0, -1.5, -1.25, -0.75, -0.5, -0.3, -0.2, -0.1, -0.05, 0.0, 0.05, 0.1, 0.2, 0.3, 0.5,
    0.75, 1.25, 1.5, 2.0, 2.5, 3.0, 4.5, 8.0,
)  # fmt: skip
"""Edges of the intervals of magnitude differences."""

Fields = dict[str, list[Any]]
"""Field -> value for each source, None where it has none."""


class Enrichment(BaseModel):
    """Which fields are added, and where from.

    Attributes
    ----------
    radius
        How near alerts and catalog sources must be, arcsec.
    alerts, object
        A collection of alerts, and its field of the object's name.
    count
        Field that gets the number of alerts.
    score, mean
        Field of an alert, and the one that gets its mean over the objects' means.
    light_curves
        Collection whose ``data`` are the sources' light curves, by the same ids: they give ``dmdt``.
    catalogs
        Catalog -> fields of its nearest source, stored as ``<catalog>__<field>``.
    """

    model_config = ConfigDict(extra="forbid")

    radius: float
    alerts: str
    object: str
    count: str
    score: str
    mean: str
    light_curves: str
    catalogs: dict[str, list[str]]

    def fields(self, data: Database[Document], ids: Sequence[Any], ra: Floats, dec: Floats) -> Fields:
        """Look up what is added to sources.

        Raises
        ------
        IngestError
            If a collection can't be searched by position.
        """
        shown = {self.alerts: [self.object, self.score], **self.catalogs}
        catalogs = Catalogs(data, {name: self._cone(fields) for name, fields in shown.items()})
        matches = catalogs.match(ra, dec)
        for name, reason in catalogs.missing.items():
            if name in data.list_collection_names():
                raise IngestError(f"{name} can't be searched: {reason}; give it one by `./kowalski.py catalogs index`")
        alerts = matches.pop(self.alerts, [[]] * len(ids))
        found: Fields = {
            self.count: [len(near) for near in alerts],
            self.mean: [self._mean(near) for near in alerts],
            "dmdt": self._dmdt(data, ids),
        }
        for name, near in matches.items():
            for field in self.catalogs[name]:
                found[f"{name}__{field}"] = [sources[0].get(field) if sources else None for sources in near]
        return found

    def _cone(self, fields: list[str]) -> CrossMatch:
        return CrossMatch(cone_search_radius=self.radius, projection=dict.fromkeys(fields, 1))

    def _mean(self, alerts: list[Document]) -> float | None:
        scores: dict[str, list[float]] = defaultdict(list)
        for alert in alerts:
            score: Any = alert
            for part in self.score.split("."):
                score = score.get(part) if isinstance(score, dict) else None
            if score is not None:
                scores[alert[self.object]].append(score)
        return float(np.mean([np.mean(each) for each in scores.values()])) if scores else None

    def _dmdt(self, data: Database[Document], ids: Sequence[Any]) -> list[list[list[float]] | None]:
        shown = {f"data.{name}": 1 for name in ("hjd", "mag", "catflags")}
        curves = {one["_id"]: one["data"] for one in data[self.light_curves].find({"_id": {"$in": list(ids)}}, shown)}
        return [_histogram(curves[each]) if each in curves else None for each in ids]


def dmdt(times: Floats, magnitudes: Floats) -> NDArray[np.float64]:
    """Count the pairs of points by difference of magnitude and of time (Mahabal et al. 2017, arXiv:1709.06257).

    Parameters
    ----------
    times
        Days, shape (n,), ascending.
    magnitudes
        Shape (n,).

    Returns
    -------
    NDArray
        Shape (26, 26): intervals of `DM` by those of `DT`, scaled to a Euclidean norm of 1; zero if there are no pairs.
    """
    first, second = np.triu_indices(times.size, 1)
    differences = times[second] - times[first], magnitudes[second] - magnitudes[first]
    counts = np.histogram2d(*differences, bins=(DT, DM))[0].T
    norm = float(np.linalg.norm(counts))
    return counts / norm if norm else counts


def _histogram(points: list[Document]) -> list[list[float]]:
    good = sorted((point["hjd"], point["mag"]) for point in points if point["catflags"] == 0)
    times, magnitudes = np.array(good, float).reshape(-1, 2).T
    found: list[list[float]] = dmdt(times, magnitudes).tolist()
    return found
