"""All figures of an instance: what its services have published, and what databases and Kafka tell of its queues.

They are asked when somebody wants to know, so that a queue is seen, too, while the service that empties it is down.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime

from confluent_kafka import KafkaException
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample
from pymongo.database import Database
from pymongo.errors import PyMongoError

from kowalski import surveys
from kowalski.archive import figures, names, schema_changes
from kowalski.archive.client import Document
from kowalski.archive.outbox import State
from kowalski.broker.lag import partition_lag
from kowalski.config import Settings

KEPT = ("kowalski_", "process_")
"""Beginnings of names: what else Prometheus's client tells of each process nobody looks at."""
KAFKA_SECONDS = 3.0
"""How long Kafka is waited for."""


def gather(settings: Settings, system: Database[Document]) -> list[Metric]:
    """Ask services, databases and Kafka; what does not answer is told by ``kowalski_up``."""
    up = GaugeMetricFamily("kowalski_up", "Whether a part of the instance answers.", labels=["part"])
    found: list[Metric] = [up]
    try:
        found += published(figures.read(system))
        found += [_dead_letters(system), *_outboxes(settings, system), *_filters(system), _schemas(system)]
        up.add_metric(["database"], 1.0)
    except PyMongoError:
        up.add_metric(["database"], 0.0)
    try:
        _knock(settings.kafka.servers)
        found.append(_lag(settings))
        up.add_metric(["kafka"], 1.0)
    except (KafkaException, OSError):
        up.add_metric(["kafka"], 0.0)
    return found


def text(found: Iterable[Metric]) -> bytes:
    """Write figures in the text format of Prometheus."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Once(found))
    return generate_latest(registry)


def _knock(servers: str) -> None:
    """See whether any of the servers takes connections: Kafka's client would try for as long as it may.

    Raises
    ------
    OSError
        If none does.
    """
    for server in servers.split(","):
        host, _, port = server.strip().rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), KAFKA_SECONDS).close()
        except OSError:
            continue
        else:
            return
    raise ConnectionRefusedError(f"no server of {servers} takes connections")


class _Once(Collector):
    def __init__(self, found: Iterable[Metric]) -> None:
        self._found = found

    def collect(self) -> Iterable[Metric]:
        return self._found


def published(texts: Mapping[str, str]) -> list[Metric]:
    """Put together what services have published: each sample gets a label that says whose it is."""
    families: dict[str, Metric] = {}
    for service, content in texts.items():
        for family in text_string_to_metric_families(content):
            if not family.name.startswith(KEPT) or family.name.endswith("_created"):
                continue
            joined = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
            joined.samples += _labelled(family.samples, service)
    return list(families.values())


def _labelled(samples: Iterable[Sample], service: str) -> Iterator[Sample]:
    for sample in samples:
        yield sample._replace(labels={**sample.labels, "service": service})


def _dead_letters(system: Database[Document]) -> Metric:
    family = GaugeMetricFamily("kowalski_dead_letters", "Packets that could not be processed.", labels=["survey"])
    letters = system[names.DEAD_LETTERS]
    for survey in letters.distinct("survey"):  # by the index, like the counts: the packets themselves are large
        family.add_metric([survey], letters.count_documents({"survey": survey}))
    return family


def _outboxes(settings: Settings, system: Database[Document]) -> Iterator[Metric]:
    size = GaugeMetricFamily("kowalski_outbox_documents", "Alerts in an outlet's outbox.", labels=["outlet", "state"])
    told = "Seconds since the oldest pending alert passed; 0: none."
    oldest = GaugeMetricFamily("kowalski_outbox_oldest_seconds", told, labels=["outlet"])
    for outlet, own in settings.outlets.items():
        if not own.enabled:
            continue
        box = system[names.OUTBOXES[outlet]]
        for state in (State.PENDING.value, State.FAILED.value):
            size.add_metric([outlet, state], box.count_documents({"state": state}))
        first = box.find_one({"state": State.PENDING.value}, {"created_at": 1}, sort=[("created_at", 1)])
        age = 0.0 if first is None else (datetime.now(UTC) - first["created_at"].replace(tzinfo=UTC)).total_seconds()
        oldest.add_metric([outlet], age)
    yield from (size, oldest)


FILTER_COUNTS = {
    "alerts": ("kowalski_filter_alerts", "Alerts that a filter has looked at.", 1.0),
    "passes": ("kowalski_filter_passes", "Alerts that it passed.", 1.0),
    "errors": ("kowalski_filter_errors", "Alerts on which it failed.", 1.0),
    "timed_alerts": ("kowalski_filter_timed_alerts", "Alerts on which it ran by itself, and was timed.", 1.0),
    "ms": ("kowalski_filter_timed_seconds", "How long these took.", 0.001),
}
"""Field of a filter's statistics -> name, meaning, unit."""


def _filters(system: Database[Document]) -> Iterator[Metric]:
    """Tell how filters do, their versions together."""
    totals: dict[int, dict[str, float]] = {}
    for each in system[names.FILTER_STATISTICS].find():
        own = totals.setdefault(each["_id"]["filter_id"], dict.fromkeys(FILTER_COUNTS, 0.0))
        for name in FILTER_COUNTS:
            own[name] += each.get(name, 0)
    for name, (metric, told, unit) in FILTER_COUNTS.items():
        family = CounterMetricFamily(metric, told, labels=["filter"])
        for number, own in sorted(totals.items()):
            family.add_metric([str(number)], own[name] * unit)
        yield family
    off = GaugeMetricFamily("kowalski_filters_suspended", "Filters that were switched off because they failed.")
    off.add_metric([], system[names.FILTERS].count_documents({"suspended": {"$ne": None}}))
    yield off


def _schemas(system: Database[Document]) -> Metric:
    told = "Fields of packets that are new or of another type since the first packet."
    family = GaugeMetricFamily("kowalski_schema_changes", told, labels=["survey"])
    for survey, changes in schema_changes.listing(system).items():
        family.add_metric([survey], len(changes))
    return family


def _lag(settings: Settings) -> Metric:
    told = "Messages of a partition that are not processed."
    family = GaugeMetricFamily("kowalski_lag_messages", told, labels=["survey", "topic", "partition"])
    for survey in settings.enabled_surveys:
        for (topic, partition), behind in partition_lag(settings, surveys.get(survey), KAFKA_SECONDS).items():
            family.add_metric([survey, topic, str(partition)], behind)
    return family
