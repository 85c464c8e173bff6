"""What the stages of one survey need in a worker: connections, models, catalogs and filters, made once per process."""

from __future__ import annotations

from dataclasses import dataclass

from pymongo.database import Database

from kowalski.archive import client as archive
from kowalski.archive.aliases import Aliases
from kowalski.archive.catalogs import Catalogs
from kowalski.archive.client import Document
from kowalski.broker.avro import Decoder
from kowalski.broker.filters import FilterRunner
from kowalski.broker.schemas import SchemaStore
from kowalski.config import Settings
from kowalski.ml.scorer import Scorer
from kowalski.surveys.base import Survey


@dataclass(slots=True)
class WorkerContext:
    """Everything a stage may use besides its batch."""

    settings: Settings
    survey: Survey
    data: Database[Document]
    system: Database[Document]
    decoder: Decoder
    scorer: Scorer
    catalogs: Catalogs
    aliases: Aliases
    filters: FilterRunner
    past_filters: FilterRunner
    """The same filters for alerts of the archive, which they see as they were when they came in."""

    @classmethod
    def open(cls, settings: Settings, survey: Survey) -> WorkerContext:
        """Connect to MongoDB and load the survey's models."""
        client = archive.connect(settings)
        data, system = archive.data_database(client, settings), archive.system_database(client, settings)
        return cls(
            settings=settings,
            survey=survey,
            data=data,
            system=system,
            decoder=Decoder(SchemaStore.of(settings, survey)),
            scorer=Scorer.load(settings, survey.name),
            catalogs=Catalogs(
                data,
                settings.database.xmatch.get(survey.name, {}),
                max_time_ms=settings.database.xmatch_max_time_ms,
            ),
            aliases=Aliases.of(data, settings, survey),
            filters=FilterRunner(data, system, survey, settings.filters),
            past_filters=FilterRunner(data, system, survey, settings.filters, past_only=True),
        )
