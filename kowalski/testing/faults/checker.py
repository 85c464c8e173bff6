"""What has become of each alert, found without asking the broker: Kafka's content, MongoDB's, and SkyPortal's.

Nothing here uses what the broker counts, reports or commits. Kafka is read from its beginning with a plain consumer,
packets are decoded with the reference reader, and what must have come of them is worked out anew.
"""

from __future__ import annotations

import io
import math
import re
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import fastavro
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient
from pymongo.database import Database

from kowalski.archive import names
from kowalski.archive.client import Document
from kowalski.surveys.base import Alert, Survey

EVERY = 10
"""One alert in so many passes the filter: those whose candid leaves `REMAINDER`."""
REMAINDER = 5
MODEL, CATALOG, GROUP = "trial", "Gaia_EDR3", 2
READ_SECONDS = 60.0


def pipeline(every: int = EVERY) -> list[dict[str, Any]]:
    """Write the filter that passes one alert in ``every``."""
    chosen = {"$eq": [{"$mod": ["$candid", every]}, REMAINDER]}
    return [{"$match": {"$expr": chosen}}, {"$project": {"annotations": {"mag": "$candidate.magpsf"}}}]


def passes(candid: int) -> bool:
    """Whether that filter passes an alert."""
    return candid % EVERY == REMAINDER


def score(magnitude: float) -> float:
    """Give the score of the model that the campaign uses."""
    return 1.0 / (1.0 + math.exp(18.0 - magnitude))


@dataclass(slots=True)
class Findings:
    """What is wrong: names of alerts and objects, with a word about each.

    Attributes
    ----------
    alerts
        How many different alerts Kafka holds.
    passes
        How many of them must be at SkyPortal.
    lost
        Alerts that are not stored, and passes that never reached SkyPortal.
    half_done
        Alerts or objects of which something is missing.
    doubled
        Passes and rows that are there more than once, and passes that should not be.
    """

    alerts: int = 0
    passes: int = 0
    lost: list[str] = field(default_factory=list)
    half_done: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether nothing is wrong."""
        return not (self.lost or self.half_done or self.doubled)


def kafka_content(servers: str, surveys: Sequence[Survey]) -> dict[str, dict[int, Alert]]:
    """Read all that Kafka holds of these surveys from the beginning: survey -> candid -> alert.

    Raises
    ------
    TimeoutError
        If Kafka does not give everything in time.
    """
    topics = AdminClient({"bootstrap.servers": servers}).list_topics(timeout=READ_SECONDS).topics
    owners = {name: survey for name in topics for survey in surveys if re.match(survey.topics, name)}
    found: dict[str, dict[int, Alert]] = {survey.name: {} for survey in surveys}
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "checker", "enable.auto.commit": False})
    try:
        for topic, value in _messages(
            consumer, [(name, number) for name in owners for number in topics[name].partitions]
        ):
            for record in fastavro.reader(io.BytesIO(value)):
                alert = owners[topic].shape(dict(record))  # type: ignore[arg-type]
                found[owners[topic].name][alert.candid] = alert
    finally:
        consumer.close()
    return found


def _messages(consumer: Consumer, partitions: Sequence[tuple[str, int]]) -> Iterable[tuple[str, bytes]]:
    """Read partitions from their beginning to where they end now."""
    left: dict[tuple[str, int], int] = {}
    starts = []
    for key in partitions:
        low, high = consumer.get_watermark_offsets(TopicPartition(*key), timeout=READ_SECONDS)
        starts.append(TopicPartition(*key, low))
        if low < high:
            left[key] = high
    consumer.assign(starts)
    deadline = time.monotonic() + READ_SECONDS
    while left:
        if time.monotonic() > deadline:
            raise TimeoutError(f"not everything of {', '.join(map(str, left))} can be read")
        for message in consumer.consume(500, 0.2):
            value, key = message.value(), (str(message.topic()), message.partition() or 0)
            if message.error() is not None or not isinstance(value, bytes):
                continue
            if (message.offset() or 0) + 1 >= left.get(key, 0):
                left.pop(key, None)
            yield key[0], value


def check(
    content: Mapping[str, Mapping[int, Alert]],
    surveys: Iterable[Survey],
    data: Database[Document],
    system: Database[Document],
    portal: Mapping[str, Any],
    filters: Mapping[str, int],
) -> Findings:
    """Compare what Kafka holds with the archive and with SkyPortal's memory.

    Parameters
    ----------
    content
        As of `kafka_content`.
    portal
        What SkyPortal's stand-in holds.
    filters
        Survey -> number of the filter that runs `pipeline` on it.
    """
    findings = Findings()
    for survey in surveys:
        alerts = content[survey.name]
        findings.alerts += len(alerts)
        _check_alerts(survey, alerts, data, system, findings)
        _check_objects(survey, alerts, data, findings)
        _check_passes(survey, alerts, system, portal, filters[survey.name], findings)
    return findings


def _check_alerts(
    survey: Survey,
    alerts: Mapping[int, Alert],
    data: Database[Document],
    system: Database[Document],
    findings: Findings,
) -> None:
    projection = {survey.object_id_field: 1, "classifications": 1, "candidate.magpsf": 1, "coordinates": 1}
    stored = {found["_id"]: found for found in data[survey.alerts].find({}, projection)}
    refused = system[names.DEAD_LETTERS].count_documents({"survey": survey.name})
    if refused:
        findings.lost.append(f"{survey.name}: {refused} dead letters")
    for candid in stored.keys() - alerts.keys():
        findings.doubled.append(f"{survey.name} {candid}: stored, though Kafka has no such alert")
    for candid, alert in alerts.items():
        found = stored.get(candid)
        name = f"{survey.name} {candid}"
        if found is None:
            findings.lost.append(f"{name}: not stored")
        elif found[survey.object_id_field] != alert.object_id:
            findings.half_done.append(f"{name}: of object {found[survey.object_id_field]}, not {alert.object_id}")
        elif "coordinates" not in found:
            findings.half_done.append(f"{name}: without coordinates")
        elif not _is_scored(alert, found.get("classifications", {})):
            findings.half_done.append(f"{name}: its scores are {found.get('classifications')}")


def _is_scored(alert: Alert, scores: Mapping[str, Any]) -> bool:
    magnitude = alert.document["candidate"].get("magpsf")
    if magnitude is None or not math.isfinite(magnitude):
        return MODEL not in scores
    return MODEL in scores and math.isclose(scores[MODEL], score(magnitude), abs_tol=1e-3)


def _check_objects(survey: Survey, alerts: Mapping[int, Alert], data: Database[Document], findings: Findings) -> None:
    (history,) = [kept for kept in survey.histories if kept.name == "prv_candidates"]

    def keys(rows: Iterable[Mapping[str, Any]]) -> Counter[tuple[Any, ...]]:
        return Counter(tuple(row.get(part) for part in history.key) for row in rows)

    wanted: dict[str, set[tuple[Any, ...]]] = {}
    for alert in alerts.values():
        wanted.setdefault(alert.object_id, set()).update(keys(alert.histories[history.name]))
    stored = {found["_id"]: found for found in data[survey.objects].find({})}
    for object_id, rows in wanted.items():
        name, found = f"{survey.name} {object_id}", stored.get(object_id)
        if found is None:
            findings.half_done.append(f"{name}: no such object")
            continue
        held = keys(found[history.name])
        if rows - held.keys():
            findings.half_done.append(f"{name}: {len(rows - held.keys())} rows of its history are missing")
        if max(held.values(), default=1) > 1 or held.keys() - rows:
            findings.doubled.append(f"{name}: rows are there twice, or come from nowhere")
        if not any(match["_id"] == f"{survey.name}:{object_id}" for match in found["cross_matches"].get(CATALOG, ())):
            findings.half_done.append(f"{name}: not matched with {CATALOG}")


def _check_passes(
    survey: Survey,
    alerts: Mapping[int, Alert],
    system: Database[Document],
    portal: Mapping[str, Any],
    filter_id: int,
    findings: Findings,
) -> None:
    wanted = {candid for candid in alerts if passes(candid)}
    findings.passes += len(wanted)
    key = {"_id.survey": survey.name, f"passes.{GROUP}:{filter_id}": {"$exists": True}}
    noted = {found["_id"]["candid"]: found["state"] for found in system[names.OUTBOX].find(key, {"state": 1})}
    posted = Counter(one["passing_alert_id"] for one in portal["candidates"] if one["filter_id"] == filter_id)
    annotated = {one["obj_id"] for one in portal["annotations"]}
    pictured = {key.partition("|")[0] for key in portal["thumbnails"]}
    for candid in wanted:
        name, object_id = f"{survey.name} {candid}", alerts[candid].object_id
        if candid not in posted:
            findings.lost.append(f"{name}: its pass never reached SkyPortal (outbox: {noted.get(candid)})")
        elif object_id not in annotated or (object_id not in pictured and any(_stamps(alerts[candid]))):
            findings.half_done.append(f"{name}: SkyPortal has no annotation or picture")
        elif noted.get(candid) != "delivered":
            findings.half_done.append(f"{name}: its outbox document is {noted.get(candid)}")
    for candid, times in posted.items():
        if times > 1 or candid not in wanted:
            findings.doubled.append(f"{survey.name} {candid}: at SkyPortal {times} times")
    findings.doubled += [f"{survey.name} {candid}: passed, though it must not" for candid in noted.keys() - wanted]


def _stamps(alert: Alert) -> tuple[bytes | None, ...]:
    return alert.stamps.science, alert.stamps.template, alert.stamps.difference
