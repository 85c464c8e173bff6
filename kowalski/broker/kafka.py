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


def group_id(settings: Settings, survey: Survey) -> str:
    """Name of the consumer group of a survey: stable, so that committed offsets outlive a restart."""
    return f"{settings.kafka.group}-{survey.name.lower()}"
