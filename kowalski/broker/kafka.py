"""How Kowalski's own clients talk to Kafka."""

from __future__ import annotations

import logging
from typing import Any

from kowalski.config import Settings
from kowalski.surveys.base import Survey


def client_config(settings: Settings, **options: Any) -> dict[str, Any]:
    """Build the librdkafka settings that every client shares; ``kafka.client`` (SASL, TLS, …) goes through as it is."""
    return {
        "bootstrap.servers": settings.kafka.servers,
        "client.id": "kowalski",
        "logger": logging.getLogger("kowalski.kafka"),
        **settings.kafka.client,
        **options,
    }


def producer_config(settings: Settings, **options: Any) -> dict[str, Any]:
    """Build the settings of a producer that loses nothing: acknowledged is written, by all replicas.

    Not by librdkafka's idempotence: with that, one new topic in twenty lost messages that were acknowledged, where many
    were sent at once (its issue 4134 tells of the like). Most likely a leader that has just started refuses the first
    batch of a producer and takes the second, by whose sequence number the client holds the first for written, too.
    Without it a message may come twice, which every reader of ours knows by the alert's identity. One request at a time
    keeps the order of a partition when one is sent again.
    """
    alone = {"acks": "all", "enable.idempotence": False, "max.in.flight.requests.per.connection": 1}
    return client_config(settings, **alone, **options)


def group_id(settings: Settings, survey: Survey) -> str:
    """Name of the consumer group of a survey: stable, so that committed offsets outlive a restart."""
    return f"{settings.kafka.group}-{survey.name.lower()}"
