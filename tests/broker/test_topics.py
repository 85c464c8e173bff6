"""Each survey subscribes by a pattern, whatever the date; nights narrow it."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import date, timedelta

import pytest
from confluent_kafka import Consumer
from hypothesis import given
from hypothesis import strategies as st

from kowalski import surveys
from kowalski.broker.kafka import client_config
from kowalski.broker.lag import topic_pattern
from kowalski.broker.stream import ensure_topic
from kowalski.cli.run import _nights
from kowalski.config import Settings, load

SURVEYS = list(surveys.SURVEYS.values())
PATTERNS = {survey.name: topic_pattern(load(environ={}).settings, survey) for survey in SURVEYS}


@given(night=st.dates(date(2017, 1, 1), date(2099, 12, 31)), program=st.integers(1, 3))
def test_topics_of_any_night_are_those_of_one_survey(night: date, program: int) -> None:
    for survey in SURVEYS:
        topic = survey.topic_of(night, program)
        assert [name for name, pattern in PATTERNS.items() if re.search(pattern, topic)] == [survey.name]
        found = re.search(survey.topics, topic)
        assert found is not None
        assert found["date"] == f"{night:%Y%m%d}"
        for other in (f"x{topic}", f"{topic}x", topic.replace("_", "-"), f"{night:%Y%m%d}"):
            assert not any(re.search(pattern, other) for pattern in PATTERNS.values())


@contextmanager
def subscribed(settings: Settings, pattern: str) -> Iterator[Consumer]:
    options = {"group.id": f"{settings.kafka.group}-{pattern}", "topic.metadata.refresh.interval.ms": 500}
    with closing(Consumer(client_config(settings, **options))) as consumer:
        consumer.subscribe([pattern])
        yield consumer


def assigned(consumer: Consumer, expected: set[str]) -> set[str]:
    """Wait until the expected topics are assigned; give all that are by then."""
    deadline = time.monotonic() + 60
    while True:
        consumer.poll(0.2)
        topics = {partition.topic for partition in consumer.assignment()}
        if expected <= topics or time.monotonic() > deadline:
            return topics


@pytest.mark.parametrize("survey", SURVEYS, ids=lambda survey: survey.name)
def test_kafka_understands_the_pattern(settings: Settings, kafka: str, survey: surveys.Survey) -> None:
    night = date(3000, 1, 1) + timedelta(days=random.randrange(300_000))
    mine, later, other = (
        survey.topic_of(night),
        survey.topic_of(night + timedelta(days=1)),
        f"x{survey.topic_of(night)}",
    )
    for topic in (mine, later, other):
        ensure_topic(settings, topic, 1)
    with subscribed(settings, topic_pattern(settings, survey)) as consumer:
        found = assigned(consumer, {mine, later})
        assert {mine, later} <= found
        assert other not in found
    with subscribed(settings, topic_pattern(settings, survey, (f"{night:%Y%m%d}",))) as consumer:
        assert assigned(consumer, {mine}) == {mine}


def test_nights_on_the_command_line() -> None:
    assert _nights(["20240301,20240302", " 20240305"]) == [date(2024, 3, 1), date(2024, 3, 2), date(2024, 3, 5)]
