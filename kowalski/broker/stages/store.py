"""Fifth stage: objects and alerts into MongoDB, durably and as often as a batch may be repeated."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from pymongo import UpdateOne
from pymongo.database import Database

from kowalski.archive import alerts, objects, places
from kowalski.archive.client import Document
from kowalski.broker.batch import Batch, Work
from kowalski.broker.context import WorkerContext
from kowalski.science import coordinates, lightcurve
from kowalski.surveys.base import History

NAME = "store"

Rows = dict[str, list[dict[str, Any]]]


def store(batch: Batch, context: WorkerContext) -> None:
    """Write objects first, then alerts, so that an alert that is seen is complete."""
    if not batch.works:
        return
    store_objects(batch, context.data)
    alerts.insert_new(context.data[batch.survey.alerts], _alert_documents(batch.works))


def _alert_documents(works: list[Work]) -> list[Document]:
    ra = np.array([work.alert.ra for work in works])
    dec = np.array([work.alert.dec for work in works])
    positions = coordinates.documents(ra, dec)
    return [
        {"_id": work.alert.candid, **work.alert.document, "classifications": work.scores, "coordinates": position}
        for work, position in zip(works, positions, strict=True)
    ]


def store_objects(batch: Batch, data: Database[Document]) -> None:
    """Store what a batch tells of objects: new rows of their histories, and what they were matched with."""
    collection, histories = data[batch.survey.objects], batch.survey.histories
    groups = batch.objects()
    rows = {object_id: _rows(works, histories) for object_id, works in groups.items()}
    found_places = _places(batch)
    new = [
        _object_document(object_id, groups[object_id][0], rows[object_id], found_places.get(object_id), batch)
        for object_id in groups
        if object_id not in batch.known
    ]
    # Another batch may have stored an object in the meantime: then its rows are merged like those of a known one.
    met = objects.insert_new(collection, new)
    appended, merged = _updates(batch, rows)
    merged += [objects.merge_rows(object_id, histories, rows[object_id]) for object_id in met]
    merged += [
        places.set_place(object_id, found) for object_id, found in found_places.items() if object_id in batch.known
    ]
    merged += [objects.set_matches(object_id, found) for object_id, found in _found_again(batch).items()]
    if appended:
        done = collection.bulk_write(list(appended.values()), ordered=False)
        if done.matched_count < len(appended):
            merged += [objects.merge_rows(object_id, histories, rows[object_id]) for object_id in appended]
    if merged:
        collection.bulk_write(merged, ordered=False)


def _places(batch: Batch) -> dict[str, Document]:
    """Where objects are that say nothing of it yet and may: new ones, and those of which there were private alerts."""
    located = {
        object_id: alert
        for object_id, alert in batch.located().items()
        if object_id not in batch.known or not batch.known[object_id].placed
    }
    if not located:
        return {}
    ra = np.array([alert.ra for alert in located.values()])
    dec = np.array([alert.dec for alert in located.values()])
    return dict(zip(located, places.places(ra, dec), strict=True))


def _found_again(batch: Batch) -> dict[str, dict[str, list[Document]]]:
    """Give what known objects were matched with this time; what was found earlier stays where nothing is now."""
    found: dict[str, dict[str, list[Document]]] = {}
    for object_id, matches in batch.matches.items():
        some = {name: documents for name, documents in matches.items() if documents}
        if some and object_id in batch.known:
            found[object_id] = some
    return found


def _rows(works: Iterable[Work], histories: tuple[History, ...]) -> Rows:
    """Merge what all alerts of one object bring."""
    return {
        history.name: lightcurve.merge(
            history, (row for work in works for row in work.alert.histories.get(history.name, ()))
        )
        for history in histories
    }


def _object_document(object_id: str, first: Work, rows: Rows, place: Document | None, batch: Batch) -> Document:
    """Build a new object; its earliest alert decides which histories it holds."""
    kept = {name: found for name, found in rows.items() if name in first.alert.keeps}
    document = {"_id": object_id, **kept, "cross_matches": batch.matches.get(object_id, {}), "aliases": {}}
    return document if place is None else {**document, "coordinates": place}


def _updates(batch: Batch, rows: dict[str, Rows]) -> tuple[dict[str, UpdateOne], list[UpdateOne]]:
    """Sort updates of known objects into cheap appends (by object) and merges; most objects need none or an append."""
    appended: dict[str, UpdateOne] = {}
    merged: list[UpdateOne] = []
    for object_id, known in batch.known.items():
        news: Rows = {}
        in_order = True
        for index, history in enumerate(batch.survey.histories):
            stored = known.rows.get(history.name)
            if stored is None and index > 0:  # an object holds it from its first alert on, or never
                continue
            fresh = lightcurve.news(history, stored or (), rows[object_id][history.name])
            if fresh:
                news[history.name] = fresh
                in_order &= stored is not None and _all_after(history, stored, fresh)
        if news and in_order:
            appended[object_id] = objects.append_rows(object_id, news, known.sizes)
        elif news:
            merged.append(objects.merge_rows(object_id, batch.survey.histories, news))
    return appended, merged


def _all_after(history: History, stored: list[objects.Row], fresh: list[objects.Row]) -> bool:
    """Whether all of ``fresh`` belong after ``stored``; both are in order."""
    return not stored or lightcurve.sort_key(history, stored[-1]) < lightcurve.sort_key(history, fresh[0])
