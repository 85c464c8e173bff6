"""The typed settings of a Kowalski instance, section by section.

Names follow ``config.defaults.yaml``, where every setting is explained for operators. Nothing here reads files or the
environment: see `kowalski.config.load`.
"""

from __future__ import annotations

import os
import re
from collections.abc import ItemsView
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from kowalski.config.deployment import Cluster, Docker, Kind
from kowalski.config.encryption import Tls
from kowalski.config.fields import (
    Count,
    Duration,
    Measure,
    Number,
    Port,
    Positive,
    Seconds,
    Section,
    Size,
    Text,
)
from kowalski.config.outlets import Distribution, OutletName, OutletSettings, SkyPortal
from kowalski.config.serving import Queries, Server, Skymaps, StatusPage, Triggers
from kowalski.config.watchers import Watchers


class Paths(Section):
    """Folders, relative to the project's folder unless absolute."""

    run: Path = Path("run")
    models: Path = Path("models")
    data: Path = Path("data")

    @field_validator("run", mode="after")
    @classmethod
    def _suits_the_supervisor(cls, value: Path) -> Path:
        if re.search("[%;#]", str(value)):
            raise ValueError("must not hold %, ; or #, which the supervisor's configuration can't hold")
        return value

    @field_validator("*", mode="after")
    @classmethod
    def _is_a_folder(cls, value: Path) -> Path:
        if re.search(r"[\x00-\x1f]", str(value)):
            raise ValueError("must be the name of a folder, on one line")
        try:
            return value.expanduser()
        except RuntimeError as error:
            raise ValueError("names the home of a user that there is not") from error


class Index(Section):
    """One MongoDB index: ``fields`` is a list of ``[field, 1 | -1 | "2dsphere"]``."""

    name: str
    fields: list[tuple[str, Literal[1, -1, "2dsphere"]]]
    unique: bool = False


class Latest(Section):
    """Which of several matches is kept: that of the largest ``time``, compared per ``object``; both are fields."""

    object: Text
    time: Text


class CrossMatch(Section):
    """How alerts of a survey are matched with one catalog (a collection of the data database)."""

    cone_search_radius: Measure
    cone_search_unit: Literal["arcsec", "arcmin", "deg", "rad"] = "arcsec"
    filter: dict[str, Any] = {}
    projection: dict[str, Any] = {}
    use_distance: bool = False
    distance_value: str | None = None
    distance_method: Literal["redshift", "z", "mpc", "Mpc"] | None = None
    cm_at_distance: Measure | None = None
    cm_low_distance: Measure | None = None
    latest: Latest | None = None
    refresh: bool = False

    @model_validator(mode="after")
    def _distance_is_whole(self) -> CrossMatch:
        needed = (self.distance_value, self.distance_method, self.cm_at_distance, self.cm_low_distance)
        if self.use_distance and None in needed:
            raise ValueError("use_distance needs distance_value, distance_method, cm_at_distance and cm_low_distance")
        if self.use_distance and self.latest is not None:
            raise ValueError("use_distance and latest can't be combined")
        return self


class Database(Section):
    """MongoDB: our own embedded server unless ``uri`` or ``host`` names another one."""

    uri: Annotated[str, Field(pattern=r"^mongodb(\+srv)?://[^\x00-\x20]+$")] | None = None
    host: Text | None = None
    port: Port = 27017
    srv: bool = False
    replica_set: str | None = "rs0"
    db: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,38}$")] = "kowalski"
    admin_username: Text = "mongoadmin"
    admin_password: str | None = None
    username: Text = "kowalski_writer"
    password: str | None = None
    query_username: Text = "kowalski_reader"
    query_password: str | None = None
    tls: Tls = Tls()
    max_pool_size: Positive = 200
    cache_gb: Annotated[float, Number, Field(ge=0.25, le=10_000)] = 1.0
    build_indexes: bool = True
    indexes: dict[str, list[Index]] = {}
    xmatch: dict[str, dict[str, CrossMatch]] = {}
    xmatch_max_time_ms: Positive = 10_000

    @property
    def is_embedded(self) -> bool:
        """Whether `kowalski.runtime` starts and keeps the server."""
        return self.uri is None and self.host is None

    @model_validator(mode="after")
    def _tls_has_a_server(self) -> Database:
        if self.tls.enabled and self.is_embedded:
            raise ValueError("tls is for a server of your own (uri or host); the embedded one is on this machine only")
        return self

    @property
    def system_db(self) -> str:
        """Name of the database that holds users, filters, outbox and dead letters."""
        return f"{self.db}_system"


class Bootstrap(Section):
    """Where the Kafka cluster answers first; null: the embedded one."""

    servers: Text | None = None

    @field_validator("servers", mode="before")
    @classmethod
    def _join(cls, value: Any) -> Any:
        is_names = isinstance(value, list) and all(isinstance(name, str) for name in value)
        return ",".join(value) if is_names else value


class Kafka(Section):
    """Kafka: our own embedded broker unless ``bootstrap.servers`` names another cluster."""

    bootstrap: Bootstrap = Bootstrap()
    port: Port = 9092
    controller_port: Port = 9093
    heap: Annotated[str, Field(pattern=r"^[1-9][0-9]*[mMgG]$")] = "512m"
    retention_hours: Positive = 168
    partitions: Positive = 4
    group: Text = "kowalski"
    discover_seconds: Seconds = 5.0
    client: dict[str, str | int | float | bool] = {}

    @property
    def is_embedded(self) -> bool:
        """Whether `kowalski.runtime` starts and keeps the broker."""
        return self.bootstrap.servers is None

    @property
    def servers(self) -> str:
        """The bootstrap list that clients use."""
        return self.bootstrap.servers or f"127.0.0.1:{self.port}"


class Dask(Section):
    """The Dask cluster that does the work; ``scheduler_address`` names one that runs elsewhere."""

    cluster: Cluster = Cluster()
    scheduler_address: Text | None = None
    host: Text = "127.0.0.1"
    scheduler_port: Port = 8786
    dashboard_port: Port | None = 8787
    n_workers: Positive | None = None
    threads_per_worker: Positive = 1
    memory_limit: Size = "2GB"
    lifetime: Duration | None = None
    lifetime_stagger: Duration | None = None
    lifetime_restart: bool = True

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Dask:
        if (self.kind == "address") != (self.scheduler_address is not None):
            needs = "needs" if self.kind == "address" else "has no use for"
            raise ValueError(f"cluster.kind: {self.kind} {needs} scheduler_address")
        if self.kind == "slurm" and self.host == "127.0.0.1":
            raise ValueError("cluster.kind: slurm needs host, an address of this machine that its nodes can reach")
        return self

    @property
    def kind(self) -> Kind:
        """Which kind of cluster it is."""
        return self.cluster.kind or ("local" if self.scheduler_address is None else "address")

    @property
    def is_embedded(self) -> bool:
        """Whether `kowalski.runtime` starts scheduler and workers."""
        return self.kind == "local"

    @property
    def listens_here(self) -> bool:
        """Whether the scheduler listens on this machine."""
        return self.kind in ("local", "slurm")

    @property
    def address(self) -> str:
        """The scheduler's address."""
        if self.kind == "kubernetes":
            own = self.cluster.kubernetes
            return f"tcp://{own.name}-scheduler.{own.namespace}:8786"
        return self.scheduler_address or f"tcp://{self.host}:{self.scheduler_port}"

    @property
    def workers(self) -> int:
        """How many worker processes run here."""
        return self.n_workers or os.cpu_count() or 1


class Broker(Section):
    """Batches between Kafka and the workers."""

    batch_size: Annotated[int, Field(ge=1, le=4096)] = 256
    batch_bytes: Positive = 20 * 1024 * 1024
    batch_age_seconds: Seconds = 2.0
    spare_age_seconds: Seconds = 0.1
    in_flight: Positive = 6
    in_flight_bytes: Positive = 128 * 1024 * 1024
    spool: Path | None = None


class SchemaSource(Section):
    """Where the schemas of a survey's packets are found that don't carry their own."""

    registry: Annotated[str, Field(pattern=r"^https?://[^\x00-\x20]+$")] | None = None
    username: Text | None = None
    password: str | None = None
    folder: Path | None = None


class SurveySwitch(Section):
    """What an operator may set of one survey; its facts are in `kowalski.surveys`."""

    enabled: bool = True
    topics: str | None = None
    scheduler_address: Text | None = None
    classifications: bool = True
    position_error: Annotated[float, Number, Field(gt=0, le=5.6)] | None = None
    schemas: SchemaSource = SchemaSource()

    @field_validator("topics")
    @classmethod
    def _finds_the_night(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            pattern = re.compile(value)
        except re.error as error:
            raise ValueError(f"is no regular expression: {error}") from error
        if "date" not in pattern.groupindex:
            raise ValueError("needs a group (?P<date>[0-9]{8}) for the night")
        return value


class Surveys(BaseModel):
    """Whose alerts are taken in; every key that is not named here is a survey's name."""

    model_config = ConfigDict(extra="allow", validate_default=True)
    __pydantic_extra__: dict[str, SurveySwitch] = Field(init=False)

    plugins: list[Text] = []

    def __getitem__(self, survey: str) -> SurveySwitch:
        """What is set of ``survey``."""
        return self._switches[survey]

    def get(self, survey: str) -> SurveySwitch | None:
        """What is set of ``survey``, if anything."""
        return self._switches.get(survey)

    def items(self) -> ItemsView[str, SurveySwitch]:
        """Go through all surveys that are named."""
        return self._switches.items()

    @property
    def _switches(self) -> dict[str, SurveySwitch]:
        return self.__pydantic_extra__ or {}


class Model(Section):
    """One machine-learning model of a survey."""

    version: Annotated[str, Field(min_length=1)]
    triplet: bool = True
    feature_names: bool | tuple[str, ...] = False
    feature_norms: dict[str, float] = {}
    order: tuple[Literal["triplet", "features"], ...] = ("features", "triplet")
    format: Literal["h5", "pb", "onnx"] = "h5"
    file: str | None = None
    url: str | None = None
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None


class SurveyModels(Section):
    """The models that score a survey's alerts."""

    allowed_features: tuple[str, ...] = ()
    models: dict[str, Model] = {}


class MachineLearning(BaseModel):
    """Scoring; every key that is not named here is a survey's name."""

    model_config = ConfigDict(extra="allow", validate_default=True)
    __pydantic_extra__: dict[str, SurveyModels] = Field(init=False)

    use_tensorflow: bool = True
    device: Literal["cpu", "cuda"] = "cpu"

    def of(self, survey: str) -> SurveyModels:
        """The models declared for ``survey`` (none: an empty declaration)."""
        return (self.__pydantic_extra__ or {}).get(survey, SurveyModels())

    @property
    def surveys(self) -> tuple[str, ...]:
        """Names of the surveys for which models are declared."""
        return tuple(self.__pydantic_extra__ or {})


class Filters(Section):
    """How users' filters are run on alerts."""

    max_time_ms: Positive = 1000
    batch_max_time_ms: Positive = 3_000
    max_failures: Positive = 5
    reload_seconds: Seconds = 3.0
    sample_every: Positive = 512
    outlets: list[OutletName] = ["skyportal"]
    max_pass_rate: Annotated[float, Number, Field(gt=0, le=1)] | None = None
    max_pass_rate_time_ms: Positive = 3_000
    dry_run_max_alerts: Positive = 50_000
    dry_runs: Annotated[int, Number, Field(ge=1, le=64)] = 2


class Logging(Section):
    """What the services write."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["text", "json"] = "text"
    max_bytes: Positive = 30_000_000
    backups: Count = 5


class Settings(Section):
    """Everything an operator can set, validated."""

    server: Server = Server()
    status: StatusPage = StatusPage()
    path: Paths = Paths()
    database: Database = Database()
    kafka: Kafka = Kafka()
    dask: Dask = Dask()
    docker: Docker = Docker()
    broker: Broker = Broker()
    surveys: Surveys = Surveys()
    ml: MachineLearning = MachineLearning()
    filters: Filters = Filters()
    distribution: Distribution = Distribution()
    skyportal: SkyPortal = SkyPortal()
    queries: Queries = Queries()
    skymaps: Skymaps = Skymaps()
    triggers: Triggers = Triggers()
    watchers: Watchers = Watchers()
    logging: Logging = Logging()

    @property
    def spool(self) -> Path:
        """Folder through which batches reach the workers of this machine."""
        return self.broker.spool or self.path.run / "spool"

    @property
    def outlets(self) -> dict[OutletName, OutletSettings]:
        """The settings of each outlet of the courier."""
        return {"skyportal": self.skyportal, "kafka": self.distribution}

    @property
    def delivers(self) -> bool:
        """Whether there is an outlet to which passes are brought."""
        return any(own.enabled for own in self.outlets.values())

    @property
    def enabled_surveys(self) -> tuple[str, ...]:
        """Names of the surveys whose alerts are taken in."""
        return tuple(name for name, switch in self.surveys.items() if switch.enabled)

    def scheduler_of(self, survey: str) -> str:
        """Address of the Dask scheduler whose workers take the alerts of ``survey``."""
        switch = self.surveys.get(survey)
        return (switch.scheduler_address if switch is not None else None) or self.dask.address

    @model_validator(mode="after")
    def _ports_differ(self) -> Settings:
        taken: dict[int, str] = {}
        for key, port in self.local_ports.items():
            if port in taken:
                raise ValueError(f"{key} and {taken[port]} are both {port}; each needs a port of its own")
            taken[port] = key
        return self

    @property
    def local_ports(self) -> dict[str, int]:
        """Port of each service that this instance starts itself, by its config key."""
        ports: dict[str, int] = {"server.port": self.server.port}
        if self.database.is_embedded:
            ports["database.port"] = self.database.port
        if self.kafka.is_embedded:
            ports |= {"kafka.port": self.kafka.port, "kafka.controller_port": self.kafka.controller_port}
        if self.dask.listens_here:
            ports["dask.scheduler_port"] = self.dask.scheduler_port
            if self.dask.dashboard_port is not None:
                ports["dask.dashboard_port"] = self.dask.dashboard_port
        return ports
