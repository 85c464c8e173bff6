"""Stored alerts through chosen stages once more: what a worker does with a batch of them.

A stored alert has everything but what its packet brought of the object's history, and that is in the object's document.
Everything that is written may be written again, so a batch of which nobody knows how far it got is just repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from kowalski.archive import alerts, objects, reprocessing
from kowalski.archive.client import Document
from kowalski.broker.batch import Batch, Packet, Rejected, Work
from kowalski.broker.context import WorkerContext
from kowalski.broker.pipeline import BatchReport, Stage, run
from kowalski.broker.stages import crossmatch, filter, handover, recall, score
from kowalski.surveys.base import Alert, Survey

UNKNOWN = 0
"""When its packet was written to Kafka, of an alert that the archive gives."""
RECENT = 1.0
"""How old a worker's knowledge of catalogs may be, seconds: the catalog may have been ingested just now."""


@dataclass(frozen=True, slots=True)
class Rerun:
    """A batch of stored alerts, as Dask carries it.

    Attributes
    ----------
    stages
        Names out of `STAGES`.
    run
        The run of ``reprocess`` that it belongs to: its key and its name.
    post
        Whether what passes filters is delivered; else it is put on record only.
    """

    survey: str
    candids: tuple[int, ...]
    stages: tuple[str, ...]
    run: tuple[str, str]
    post: bool

    @property
    def size(self) -> int:
        """Bytes in flight: none, the alerts are in the archive."""
        return 0


def process_again(rerun: Rerun, context: WorkerContext) -> BatchReport:
    """Take stored alerts through stages; when it returns, every effect is durable.

    Raises
    ------
    pymongo.errors.PyMongoError, kowalski.broker.pipeline.SystemFault
        As `kowalski.broker.pipeline.process` does.
    """
    report = BatchReport(packets=len(rerun.candids))
    batch = read(rerun.candids, context, stamps=score.NAME in rerun.stages)
    chosen = [stage for name, stages in STAGES.items() if name in rerun.stages for stage in stages(rerun)]
    refused = run(batch, context, report, chosen)
    if refused:
        reasons = {one.packet.offset: f"{one.stage}: {one.reason}" for one in refused}
        reprocessing.note_failures(context.system, rerun.run[0], reasons)
    return report


def read(candids: Sequence[int], context: WorkerContext, *, stamps: bool = True) -> Batch:
    """Make a batch of stored alerts; those that are gone are left out, those that are damaged refused.

    Stamps are most of an alert, so they are read only for who looks at them.
    """
    survey = context.survey
    batch = Batch(survey)
    left_out = {} if stamps else dict.fromkeys(survey.stamp_fields, 0)
    for document in context.data[survey.alerts].find({"_id": {"$in": list(candids)}}, left_out):
        packet = Packet(survey.alerts, 0, document["_id"], UNKNOWN, b"")  # in its place stands the document
        try:
            batch.works.append(Work(packet, _alert(survey, document)))
        except (LookupError, TypeError) as error:
            batch.rejected.append(Rejected(packet, "read", f"{type(error).__name__}: {error}"))
    batch.works.sort(key=lambda work: (work.alert.object_id, work.alert.jd, work.alert.candid))
    return batch


def _alert(survey: Survey, document: Document) -> Alert:
    """Rebuild an alert."""
    content = {key: value for key, value in document.items() if key not in ("_id", "classifications", "coordinates")}
    candidate = content["candidate"]
    return Alert(
        candid=document["_id"],
        object_id=content[survey.object_id_field],
        jd=candidate["jd"],
        ra=candidate["ra"],
        dec=candidate["dec"],
        document=content,
        histories={},
        stamps=survey.stamps_of(content),
        keeps=frozenset(),
    )


def store_scores(batch: Batch, context: WorkerContext) -> None:
    """Put the new scores in place of the old ones; a score that can't be had this time stays what it was."""
    alerts.set_scores(context.data[batch.survey.alerts], {work.alert.candid: work.scores for work in batch.works})


def match_again(batch: Batch, context: WorkerContext) -> None:
    """Match the objects with every catalog at the place of their first alert, and store what is found.

    What was found earlier is replaced, even by nothing, except for catalogs that grow (``refresh``).
    """
    names = sorted(batch.objects())
    places = _places(names, context)
    known = [name for name in names if name in places]
    if not known:
        return
    context.catalogs.refresh(RECENT)
    ra, dec = np.array([places[name] for name in known]).T
    growing = {name for name, declared in context.catalogs.declared.items() if declared.refresh}
    found: dict[str, dict[str, list[Document]]] = {name: {} for name in known}
    for catalog, matches in context.catalogs.match(ra, dec).items():
        for name, documents in zip(known, matches, strict=True):
            if documents or catalog not in growing:
                found[name][catalog] = documents
    updates = [objects.set_matches(name, matched) for name, matched in found.items() if matched]
    if updates:
        context.data[batch.survey.objects].bulk_write(updates, ordered=False)


def _places(names: Sequence[str], context: WorkerContext) -> dict[str, tuple[float, float]]:
    """Find where objects are (RA, Dec in degrees): as they say it, or where their first alert is."""
    survey, found = context.survey, {}
    shown = {"coordinates.radec_geojson.coordinates": 1}
    for document in context.data[survey.objects].find({"_id": {"$in": list(names)}}, shown):
        if "coordinates" in document:
            longitude, dec = document["coordinates"]["radec_geojson"]["coordinates"]
            found[document["_id"]] = (longitude + 180.0, dec)
    rest = [name for name in names if name not in found]
    if rest:  # of which there are only alerts that not everybody may see
        found |= _first_places(rest, context)
    return found


def _first_places(names: Sequence[str], context: WorkerContext) -> dict[str, tuple[float, float]]:
    survey = context.survey
    order = {"candidate.jd": 1, "_id": 1}
    stages: list[Document] = [
        {"$match": {survey.object_id_field: {"$in": list(names)}}},
        {"$project": {survey.object_id_field: 1, "candidate.jd": 1, "candidate.ra": 1, "candidate.dec": 1}},
        {"$group": {"_id": f"${survey.object_id_field}", "first": {"$top": {"sortBy": order, "output": "$candidate"}}}},
    ]
    return {
        each["_id"]: (each["first"]["ra"], each["first"]["dec"])
        for each in context.data[survey.alerts].aggregate(stages)
    }


def filter_again(batch: Batch, context: WorkerContext) -> None:
    """Find out which alerts pass which filters, as these are at this moment."""
    if not batch.works:
        return
    context.past_filters.reload()
    passes = context.past_filters.run([work.alert.candid for work in batch.works])
    for work in batch.works:
        # A telescope is pointed at what was seen just now, never at what the archive is found to hold.
        work.passes = [one | {"followup": None} for one in passes.get(work.alert.candid, [])]


def _score(_: Rerun) -> Iterable[tuple[str, Stage]]:
    return (recall.NAME, recall.recall), (score.NAME, score.score), ("store", store_scores)


def _crossmatch(_: Rerun) -> Iterable[tuple[str, Stage]]:
    return ((crossmatch.NAME, match_again),)


def _filter(rerun: Rerun) -> Iterable[tuple[str, Stage]]:
    hand_over = partial(handover.hand_over_again, run=rerun.run[1] if rerun.post else None)
    return (filter.NAME, filter_again), (handover.NAME, hand_over)


STAGES: dict[str, Callable[[Rerun], Iterable[tuple[str, Stage]]]] = {
    score.NAME: _score,
    crossmatch.NAME: _crossmatch,
    filter.NAME: _filter,
}
"""What can be done again, in the order in which it is done: filters see new scores and matches."""
