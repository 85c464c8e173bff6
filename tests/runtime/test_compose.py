"""The Compose files, and what the commands ask Docker for: a stand-in on PATH keeps what it was asked."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from compose_spec import PyCompose

from kowalski import surveys
from kowalski.cli.main import main
from kowalski.config import PROJECT, load
from kowalski.runtime import compose, programs, services

VARIANTS = ("plain", "fritz", "traefik")
STAND_IN = """\
#!{python}
import json, os, sys
known = json.load(open({answers!r}))
with open({log!r}, "a") as file:
    seen = {{name: value for name, value in os.environ.items() if name.startswith(("COMPOSE_", "KOWALSKI_", "MONGO_"))}}
    file.write(json.dumps([sys.argv[1:], seen]) + chr(10))
for start, (status, text) in known.items():
    if " ".join(sys.argv[1:]).startswith(start):
        print(text, file=sys.stderr if status else sys.stdout)
        sys.exit(status)
"""
WELL = {
    "--version": (0, "Docker version 28.2.2, build e6534b4"),
    "compose version": (0, "2.39.1"),
    "info": (0, "28.2.2"),
}


class Done(NamedTuple):
    """How a command ended, and what it said on standard error, with single spaces."""

    returncode: int
    stderr: str


class Docker:
    """The stand-in, and an instance's command that finds it."""

    def __init__(self, folder: Path, settings: Mapping[str, Any], output: pytest.CaptureFixture[str]) -> None:
        self.output = output
        self.run = folder / "run"
        self.bin = folder / "bin"
        self.log = folder / "asked"
        self.bin.mkdir()
        self.config = folder / "config.yaml"
        self.config.write_text(yaml.safe_dump({"path": {"run": str(self.run)}, **settings}))

    def answers(self, known: Mapping[str, tuple[int, str]]) -> None:
        answers = self.bin / "answers.json"
        answers.write_text(json.dumps(known))
        script = STAND_IN.format(python=sys.executable, answers=str(answers), log=str(self.log))
        (self.bin / "docker").write_text(script)
        (self.bin / "docker").chmod(0o755)

    def __call__(self, *arguments: str) -> Done:
        """Run a command of the instance; every output of its children is read, too."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PATH", str(self.bin))
            patch.setenv("KOWALSKI_CONFIG", str(self.config))
            self.output.readouterr()
            status = main(arguments)
        return Done(status, " ".join(self.output.readouterr().err.split()))

    @property
    def asked(self) -> list[tuple[list[str], dict[str, str]]]:
        """What Compose was asked to do, with the variables that it saw."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines()]
        return [(arguments, seen) for arguments, seen in lines if arguments[:2] == ["compose", "--project-directory"]]


@pytest.fixture
def docker(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., Docker]:
    def make(known: Mapping[str, tuple[int, str]] | None = WELL, **settings: Any) -> Docker:
        found = Docker(tmp_path, {"server": {"admin_password": "a good one"}, **settings}, capfd)
        if known is not None:
            found.answers(known)
        return found

    return make


# What the commands ask for


def test_up_down_and_status(docker: Callable[..., Docker]) -> None:
    off = {name: {"enabled": False} for name in surveys.SURVEYS if name != "ZTF"}
    found = docker(surveys=off, skyportal={"enabled": True}, dask={"n_workers": 3}, docker={"project": "survey"})
    for arguments in (("up", "--docker", "--build"), ("status", "--docker"), ("down", "--docker")):
        done = found(*arguments)
        assert done.returncode == 0, done.stderr
    files = ["--file", str(PROJECT / "docker-compose.defaults.yaml")]
    asked = [arguments[arguments.index(files[1]) + 1 :] for arguments, _ in found.asked]
    assert asked == [
        ["up", "--detach", "--wait", "--remove-orphans", "--build"],
        ["ps", "--all"],
        ["down", "--remove-orphans"],
    ]
    for arguments, seen in found.asked:
        assert arguments[:5] == ["compose", "--project-directory", str(PROJECT), *files]
        assert seen["COMPOSE_PROJECT_NAME"] == "survey"
        assert seen["COMPOSE_PROFILES"] == "ztf,courier"
        assert seen["KOWALSKI_WORKERS"] == "3"
        assert seen["KOWALSKI_SECRETS"] == str(found.run / "docker")


def test_variants_are_laid_over_the_plain_one(docker: Callable[..., Docker], tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    found = docker(docker={"variant": "traefik", "domain": "k.example.org", "email": "a@b.org", "files": [str(own)]})
    assert found("up", "--docker").returncode == 0
    ((arguments, seen),) = found.asked
    files = [Path(arguments[place + 1]).name for place, each in enumerate(arguments) if each == "--file"]
    assert files == ["docker-compose.defaults.yaml", "docker-compose.traefik.defaults.yaml", "own.yaml"]
    assert (seen["KOWALSKI_DOMAIN"], seen["KOWALSKI_EMAIL"]) == ("k.example.org", "a@b.org")


def test_tests_run_in_a_container_of_their_own(docker: Callable[..., Docker]) -> None:
    found = docker(
        {
            **WELL,
            f"compose --project-directory {PROJECT} --file {PROJECT}/docker-compose.defaults.yaml run": (1, "1 failed"),
        }
    )
    done = found("test", "--docker", "tests/config", "-k", "legacy")
    assert done.returncode == 1
    assert [arguments[5:] for arguments, _ in found.asked] == [
        ["build", "test"],
        ["run", "--rm", "--no-deps", "test", "python", "-m", "kowalski.cli", "test", "tests/config", "-k", "legacy"],
    ]


def test_what_containers_read_is_for_their_user_alone(docker: Callable[..., Docker]) -> None:
    found = docker(database={"admin_password": "chosen"})
    assert found("up", "--docker").returncode == 0
    folder = found.run / "docker"
    assert folder.stat().st_mode & 0o777 == 0o700
    files = {path.name: path for path in folder.iterdir()}
    assert files.keys() == {"config.yaml", "secrets.json", "mongo_password", "replica_key"}
    user = os.getuid() or compose.IMAGE_USER
    assert {(path.stat().st_mode & 0o777, path.stat().st_uid) for path in files.values()} == {(0o600, user)}
    assert files["config.yaml"].read_text() == found.config.read_text()
    assert files["mongo_password"].read_text() == "chosen"
    before = {name: path.stat().st_mtime_ns for name, path in files.items()}
    assert found("up", "--docker").returncode == 0  # what has not changed is not written again
    assert {name: path.stat().st_mtime_ns for name, path in files.items()} == before
    secrets = {json.loads(files["secrets.json"].read_text())[name] for name in ("password", "jwt_secret_key")}
    secrets |= {"chosen", "a good one"}
    for arguments, seen in found.asked:  # neither command lines nor variables carry any
        assert not [secret for secret in secrets if secret in json.dumps([arguments, seen])]


@pytest.mark.parametrize(
    ("known", "said"),
    [
        (None, "there is no docker on PATH"),
        (
            {**WELL, "--version": (0, "Docker version 19.03.15, build 99e3ed8919")},
            "this is Docker 19.3, which is too old",
        ),
        ({**WELL, "--version": (0, "nonsense")}, "does not say its version: nonsense"),
        ({**WELL, "compose version": (1, "docker: 'compose' is not a docker command.")}, "docker-compose-plugin"),
        ({**WELL, "compose version": (0, "v2.17.3")}, "this is Compose 2.17, which is too old: 2.24 is needed"),
        ({**WELL, "info": (1, "Cannot connect to the Docker daemon")}, "Cannot connect to the Docker daemon"),
    ],
    ids=["no docker", "old docker", "no version", "no compose", "old compose", "no daemon"],
)
def test_what_is_missing_is_told_in_a_sentence(
    docker: Callable[..., Docker], known: Mapping[str, tuple[int, str]] | None, said: str
) -> None:
    found = docker(known)
    for arguments in (("up", "--docker"), ("test", "--docker")):
        done = found(*arguments)
        assert done.returncode == 1
        assert said in done.stderr
        assert "Traceback" not in done.stderr
    assert known is None or not found.asked


def test_settings_that_are_not_enough(docker: Callable[..., Docker]) -> None:
    done = docker(server={"admin_password": "admin"})("up", "--docker")
    assert (done.returncode, "set server.admin_password" in done.stderr) == (1, True)


def test_a_certificate_needs_a_name(docker: Callable[..., Docker]) -> None:
    done = docker(docker={"variant": "traefik"})("up", "--docker")
    assert (done.returncode, "docker.domain" in done.stderr) == (1, True)


def test_that_compose_fails_is_told(docker: Callable[..., Docker]) -> None:
    done = docker({**WELL, "compose --project": (17, "no such image")})("up", "--docker")
    assert done.returncode == 1
    assert "no such image" in done.stderr
    assert "`docker compose up` has failed (17)" in done.stderr


# The files


class Loader(yaml.SafeLoader):
    """Reads Compose's own tags, too."""


Loader.add_constructor("!reset", lambda loader, node: {"reset": True})


def interpolated(text: str, variables: Mapping[str, str]) -> str:
    """Fill in variables as Compose does."""

    def fill(found: re.Match[str]) -> str:
        if found[0] == "$$":
            return "$"
        name, operator, rest = found[1], found[2] or "", found[3] or ""
        if variables.get(name):
            return variables[name]
        assert not operator.endswith("?"), f"{name}: {rest}"
        assert operator, f"{name} has no default"
        return rest

    return re.sub(r"\$\$|\$\{(\w+)(:?[-?+])?([^}]*)\}", fill, text)


def merged(variant: str, **variables: str) -> dict[str, Any]:
    """Read the files of a variant, one laid over the other."""
    texts = [PROJECT / "docker-compose.defaults.yaml"]
    texts += [] if variant == "plain" else [PROJECT / f"docker-compose.{variant}.defaults.yaml"]
    whole: dict[str, Any] = {}
    for path in texts:
        whole = laid_over(whole, yaml.load(interpolated(path.read_text(), variables), Loader))
    return {key: value for key, value in whole.items() if not key.startswith("x-")}


def laid_over(below: Any, above: Any) -> Any:
    if above == {"reset": True}:
        return []
    if isinstance(below, dict) and isinstance(above, dict):
        return below | {key: laid_over(below.get(key), value) for key, value in above.items()}
    return above


FOR_TRAEFIK = {"KOWALSKI_DOMAIN": "kowalski.example.org", "KOWALSKI_EMAIL": "ops@example.org"}


@pytest.fixture(params=VARIANTS)
def variant(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return request.param, merged(request.param, **FOR_TRAEFIK)


def test_they_are_as_the_specification_says(variant: tuple[str, dict[str, Any]]) -> None:
    spec = PyCompose.from_yaml(yaml.safe_dump(variant[1]))
    spec.validate()
    assert set(spec.service_names()) == variant[1]["services"].keys()


def test_the_specification_finds_what_is_wrong() -> None:
    wrong = merged("plain")
    wrong["services"]["api"]["ports"] = {"4000": "4000"}
    with pytest.raises(ValueError, match="ports"):
        PyCompose.from_yaml(yaml.safe_dump(wrong))


def test_our_own_containers_are_held_tight(variant: tuple[str, dict[str, Any]]) -> None:
    for name, service in variant[1]["services"].items():
        assert "no-new-privileges:true" in service["security_opt"], name
        assert not service.get("privileged")
        assert not any("docker.sock" in str(each) for each in service.get("volumes", []))
        assert not any(
            re.search("password|token|secret", key, re.I) and "FILE" not in key
            for key in service.get("environment", {})
        )
        if name == "test":
            continue
        assert service["restart"] == ("no" if name == "setup" else "unless-stopped")
        assert service["healthcheck"], name
        if service["image"].startswith("kowalski/"):
            assert (service["user"], service["cap_drop"], service["read_only"]) == ("10001:0", ["ALL"], True)
        else:
            assert re.fullmatch(r"[a-z/]+:v?[0-9]+\.[0-9.]+", service["image"])


def test_images_can_be_pinned_by_digest() -> None:
    digest = "@sha256:" + "0" * 64
    names = ("MONGO_DIGEST", "KAFKA_DIGEST", "TRAEFIK_DIGEST", "PYTHON_DIGEST")
    found = merged("traefik", **FOR_TRAEFIK, **dict.fromkeys(names, digest))["services"]
    for name in ("mongo", "kafka", "traefik"):
        assert found[name]["image"].endswith(digest)
    for name in ("api", "setup", "test"):
        assert found[name]["build"]["args"]["PYTHON_DIGEST"] == digest


def test_what_is_open_on_the_machine() -> None:
    def ports(variant: str) -> dict[str, list[str]]:
        found = merged(variant, **FOR_TRAEFIK)["services"].items()
        return {name: service["ports"] for name, service in found if service.get("ports")}

    assert ports("plain") == {"api": ["127.0.0.1:4000:4000"], "scheduler": ["127.0.0.1:8787:8787"]}
    assert ports("fritz") == {}
    behind = ports("traefik")
    assert behind.pop("traefik") == ["80:80", "443:443", "127.0.0.1:8081:8080"]
    assert behind == {"scheduler": ["127.0.0.1:8787:8787"]}


def test_traefik_serves_the_api_by_tls_and_keeps_its_dashboard() -> None:
    found = merged("traefik", **FOR_TRAEFIK)
    command = found["services"]["traefik"]["command"]
    assert "--entrypoints.web.http.redirections.entrypoint.scheme=https" in command
    assert "--certificatesresolvers.letsencrypt.acme.email=ops@example.org" in command
    rules = yaml.safe_load(found["configs"]["traefik"]["content"])
    routers = rules["http"]["routers"]
    assert routers["api"]["rule"] == "Host(`kowalski.example.org`)"
    assert (routers["api"]["entryPoints"], routers["api"]["tls"]["certResolver"]) == (["websecure"], "letsencrypt")
    assert routers["dashboard"]["entryPoints"] == ["private"]
    with pytest.raises(AssertionError, match="KOWALSKI_DOMAIN"):
        merged("traefik", KOWALSKI_EMAIL="ops@example.org")


def test_containers_run_the_parts_of_an_instance(variant: tuple[str, dict[str, Any]], tmp_path: Path) -> None:
    """The settings that containers are given load, and their services are those of an instance that is external."""
    found = variant[1]["services"]
    environment = {name: value for name, value in found["api"]["environment"].items() if name != "KOWALSKI_CONFIG"}
    settings = load(None, environment | {"KOWALSKI_SKYPORTAL__ENABLED": "true"}).settings
    assert (settings.database.host, settings.kafka.servers) == ("mongo", "kafka:9092")
    assert settings.dask.address == "tcp://scheduler:8786"
    assert [each.name for each in programs.plan(settings)] == [
        "api", *(programs.broker_name(name) for name in surveys.SURVEYS), "courier",
    ]  # fmt: skip
    known = {service.name for service in services.services(settings)} - {"mongod"} | {"mongo"}
    assert known == found.keys() - {"setup", "test", "traefik"}
    for name, service in found.items():
        if name.startswith("broker-"):
            survey = service["command"][-1]
            assert (programs.broker_name(survey), service["profiles"]) == (name, [survey.lower()])
        check = service.get("healthcheck", {}).get("test", [])
        if "kowalski.runtime.alive" in check:
            assert check[-1] == name
    assert found["setup"]["depends_on"] == {"mongo": {"condition": "service_healthy"}}
