"""What all tests share: real servers, started once per session, and settings of their own for each test.

- ``settings``: an instance with databases, accounts, consumer group, run folder and ports that no other test has.
- ``mongo``: a MongoClient that may write (role WRITER) for ``settings``; starts MongoDB, makes the accounts, and drops
  databases and accounts afterwards.
- ``new_archive``: both of these for all tests of a module, which then must leave them as they were.
- ``kafka``: the bootstrap servers for ``settings``; starts Kafka. Topics are shared by all tests: name yours uniquely.
- ``dask_cluster``: a Dask scheduler and a worker with `kowalski.broker.worker`, for ``settings``. Whatever a test wants
  to differ it sets on ``settings`` in a fixture of its own before, or it uses `kowalski.testing.services.dask_cluster`.
- ``servers``: the processes of the session's MongoDB and Kafka. A test that kills one starts it again.
- ``kowalski``, ``skyportal``: a whole instance, brought up by the command once per session, and the stand-in for
  SkyPortal that it talks to.
- ``bring_up``: brings up such an instance for one module, which may then do with it what others could not bear.
- ``weights``: a folder with real weights of models, as far as there are any; each is converted once per session.
- ``sample_data``, ``bench_scripts``: folders with real alerts and with workloads, else the test is skipped.
"""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from pymongo import MongoClient

from kowalski.archive.client import Role, connect
from kowalski.config import Settings
from kowalski.runtime import accounts
from kowalski.testing import instance as instances
from kowalski.testing import services
from kowalski.testing.skyportal.process import Standin

# The same examples in every run, however slow the machine is: what is found at random belongs to the long fuzz runs.
hypothesis_settings.register_profile(
    "kowalski", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
hypothesis_settings.load_profile("kowalski")

# A shell that starts the tests in the background has them ignore Ctrl-C, and so would every command they start.
signal.signal(signal.SIGINT, signal.default_int_handler)


SYSTEM = "tests/system/"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the longest go first, which are those of a whole instance: side by side, the rest fills the time beside."""
    items.sort(key=lambda item: not item.location[0].startswith(("tests/faults", SYSTEM)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give files to processes one by one, but all that share the whole instance to one: it is brought up once."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return SYSTEM if nodeid.startswith(SYSTEM) else super()._split_scope(nodeid)

    return Scheduling(config, log) if config.getoption("dist") == "loadfile" else None


@pytest.fixture(scope="session")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """The instance whose servers all tests use."""
    return services.new_settings(tmp_path_factory.mktemp("instance"))


@pytest.fixture(scope="session")
def servers() -> services.Servers:
    return services.Servers()


@pytest.fixture(scope="session")
def mongod_process(instance: Settings, servers: services.Servers) -> Iterator[services.Process]:
    servers.mongod = services.start_mongod(instance)
    yield servers.mongod
    servers.mongod.stop()


@pytest.fixture(scope="session")
def kafka_process(instance: Settings, servers: services.Servers) -> Iterator[services.Process]:
    servers.kafka = services.start_kafka(instance)
    yield servers.kafka
    servers.kafka.stop()


def settings_of_its_own(instance: Settings, run: Path) -> Settings:
    """A copy of the instance's settings in which everything that tests could share has a name of its own."""
    own = instance.model_copy(deep=True)
    name = f"test_{uuid.uuid4().hex[:12]}"
    own.path.run = run
    own.path.run.mkdir()
    own.database.db = name
    own.database.username = f"{name}_writer"
    own.database.query_username = f"{name}_reader"
    own.kafka.group = name
    own.server.port, own.dask.scheduler_port = services.free_ports(2)
    return own


@contextmanager
def databases(settings: Settings) -> Iterator[MongoClient[dict[str, Any]]]:
    """Databases and accounts for ``settings``, dropped afterwards, and a client that may write."""
    accounts.prepare(settings)
    with connect(settings, Role.WRITER) as client:
        yield client
    with connect(settings, Role.ADMIN) as admin:
        for name in (settings.database.db, settings.database.system_db):
            admin.drop_database(name)
    accounts.drop_accounts(settings)


@pytest.fixture
def settings(instance: Settings, tmp_path: Path) -> Settings:
    return settings_of_its_own(instance, tmp_path / "run")


@pytest.fixture
def mongo(settings: Settings, mongod_process: services.Process) -> Iterator[MongoClient[dict[str, Any]]]:
    with databases(settings) as client:
        yield client


@dataclass(frozen=True, slots=True)
class Archive:
    """Settings and databases that all tests of a module share."""

    settings: Settings
    mongo: MongoClient[dict[str, Any]]


@pytest.fixture(scope="module")
def new_archive(
    instance: Settings, mongod_process: services.Process, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[], Archive]]:
    """Makes an archive that a module's tests share, as often as they need one."""
    with ExitStack() as opened:

        def make() -> Archive:
            own = settings_of_its_own(instance, tmp_path_factory.mktemp("archive") / "run")
            return Archive(own, opened.enter_context(databases(own)))

        yield make


@pytest.fixture
def kafka(settings: Settings, kafka_process: services.Process) -> str:
    return settings.kafka.servers


@pytest.fixture
def dask_cluster(settings: Settings, mongo: MongoClient[dict[str, Any]]) -> Iterator[services.DaskCluster]:
    with services.dask_cluster(settings) as cluster:
        yield cluster


def _folder(variable: str) -> Path:
    named = os.environ.get(variable)
    if not named:
        pytest.skip(f"{variable} is not set")
    return Path(named)


@pytest.fixture(scope="session")
def sample_data() -> Path:
    """Folder of real alerts, which ``KOWALSKI_SAMPLE_DATA`` names."""
    return _folder("KOWALSKI_SAMPLE_DATA")


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the weights of ``KOWALSKI_SAMPLE_DATA``, if any; what one process has converted serves the other."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "weights"
    folder.mkdir(exist_ok=True)
    if data := os.environ.get("KOWALSKI_SAMPLE_DATA"):
        for file in Path(data, "models").iterdir():
            with suppress(FileExistsError):
                (folder / file.name).symlink_to(file)
    return folder


@pytest.fixture(scope="session")
def bench_scripts() -> Path:
    """Folder of the scripts that make workloads, which ``KOWALSKI_BENCH`` names."""
    return _folder("KOWALSKI_BENCH")


@pytest.fixture(scope="session")
def skyportal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standin]:
    fake = Standin(tmp_path_factory.mktemp("skyportal"))
    fake.start()
    yield fake
    fake.process.stop(5)


@pytest.fixture(scope="session")
def bring_up(skyportal: Standin, weights: Path) -> Callable[[Path], AbstractContextManager[instances.Instance]]:
    """A whole instance in a folder, brought up by the command for a block."""

    def instance_in(run: Path) -> AbstractContextManager[instances.Instance]:
        paths = {"run": str(run), "data": str(run.parent / "data"), "models": str(weights)}
        portal = {
            "enabled": True,
            "port": skyportal.port,
            "host": "127.0.0.1",
            "token": "a-token",
            "backoff_max_seconds": 2,
        }
        dask = {"n_workers": 2, "dashboard_port": None, "scheduler_port": services.free_ports(1)[0]}
        return instances.running(run, path=paths, skyportal=portal, dask=dask)

    return instance_in


@pytest.fixture(scope="session")
def kowalski(
    tmp_path_factory: pytest.TempPathFactory, bring_up: Callable[[Path], AbstractContextManager[instances.Instance]]
) -> Iterator[instances.Instance]:
    """The instance: ``up`` was run, ``down`` will be."""
    with bring_up(tmp_path_factory.mktemp("kowalski") / "run") as found:
        yield found
