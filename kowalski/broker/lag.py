"""How far the broker is behind, asked of Kafka itself."""

from __future__ import annotations

import re

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from kowalski.broker.kafka import client_config, group_id
from kowalski.config import Settings
from kowalski.surveys.base import Survey


def consumer_lag(settings: Settings, survey: Survey, timeout: float = 10.0) -> dict[str, int]:
    """Count the messages of each of a survey's topics that are not committed yet; see `partition_lag`."""
    lag: dict[str, int] = {}
    for (topic, _), behind in partition_lag(settings, survey, timeout).items():
        lag[topic] = lag.get(topic, 0) + behind
    return lag


def partition_lag(settings: Settings, survey: Survey, timeout: float = 10.0) -> dict[tuple[str, int], int]:
    """Count the messages of each partition of a survey's topics that are not committed yet.

    Raises
    ------
    confluent_kafka.KafkaException
        If Kafka does not answer within ``timeout`` seconds.
    """
    admin = AdminClient(client_config(settings))
    pattern = re.compile(topic_pattern(settings, survey))
    topics = admin.list_topics(timeout=timeout).topics
    partitions = [
        TopicPartition(name, partition)
        for name, topic in sorted(topics.items())
        if pattern.match(name)
        for partition in topic.partitions
    ]
    if not partitions:
        return {}
    ends = admin.list_offsets(dict.fromkeys(partitions, OffsetSpec.latest()), request_timeout=timeout)
    starts = admin.list_offsets(dict.fromkeys(partitions, OffsetSpec.earliest()), request_timeout=timeout)
    committed = _committed(settings, survey, partitions, timeout)
    lag: dict[tuple[str, int], int] = {}
    for partition, end in ends.items():
        key = (partition.topic, partition.partition)
        begin = max(committed.get(key, 0), starts[partition].result().offset)
        lag[key] = max(0, end.result().offset - begin)
    return lag


def _committed(
    settings: Settings, survey: Survey, partitions: list[TopicPartition], timeout: float
) -> dict[tuple[str, int], int]:
    """Ask what the broker has committed; as a member of its group that reads nothing, so it takes no part in it.

    The admin client has a call for this, in which librdkafka aborts the process when the connection breaks just then.
    """
    consumer = Consumer(client_config(settings, **{"group.id": group_id(settings, survey)}))
    try:
        found = consumer.committed(partitions, timeout=timeout)
    finally:
        consumer.close()
    committed: dict[tuple[str, int], int] = {}
    for partition in found:
        if partition.error is not None:
            raise KafkaException(partition.error)
        if partition.offset >= 0:
            committed[partition.topic, partition.partition] = partition.offset
    return committed


def topic_pattern(settings: Settings, survey: Survey, nights: tuple[str, ...] = ()) -> str:
    """Build the regular expression of a survey's topics, narrowed to ``nights`` (YYYYMMDD) if given.

    The group ``date`` of `Survey.topics` (or of ``surveys.<name>.topics``) becomes a plain one, which librdkafka's
    regular expressions know too.
    """
    switch = settings.surveys.get(survey.name)
    pattern = switch.topics if switch is not None and switch.topics else survey.topics
    anchored = pattern if pattern.startswith("^") else f"^{pattern}"
    date = re.compile(r"\(\?P<date>([^()]*)\)")
    return date.sub(lambda group: f"({'|'.join(nights)})" if nights else f"({group[1]})", anchored)
