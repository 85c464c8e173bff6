"""The guides say what is true: each of their commands is run as it stands, from top to bottom, against one instance.

What can't be run on any machine is named in `NOT_HERE`, with the reason.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest

from kowalski.config import PROJECT
from kowalski.testing import forked
from kowalski.testing import instance as instances

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)
PATIENCE = 240.0
DOCKER = "needs Docker's engine; tests/runtime/test_compose.py sees what it is asked"
REMOTE = "asks a server far away; tests/watchers does the same with one on this machine"
CATALOG = "takes files of a survey; tests/ingesters/test_real_files.py loads such, where they are"
NOT_HERE = {
    "operator.md": {
        "git pull": "changes the project",
        "./kowalski.py up --build": "installs all packages again; tests/test_bootstrap.py tries that",
        "db.": "is for the shell of a MongoDB of one's own; `up` makes the same accounts, which other tests use",
        "  roles: [": "goes with the line before",
        "          {role: ": "goes with the line before",
    },
    "deploy.md": {
        "./kowalski.py up --docker": DOCKER,
        "./kowalski.py status --docker": DOCKER,
        "./kowalski.py test --docker": DOCKER,
        "./kowalski.py down --docker": DOCKER,
        "export MONGO_DIGEST": "has no digests; tests/runtime/test_compose.py gives some",
        ".venv/bin/python -m pip install": "is for the environment of an instance",
        "kubectl ": "needs Kubernetes; tests/runtime/test_clusters.py checks the manifest",
        "./kowalski.py run cluster --show": "is run by tests/runtime/test_deploy_guide.py with the guide's settings",
        "./kowalski.py up": "submits jobs to Slurm by sbatch; tests/runtime/test_clusters.py checks the script",
    },
    "watchers.md": {
        "./kowalski.py watch ": REMOTE,
        "./kowalski.py report --slack": REMOTE,
        "./kowalski.py ingest ": CATALOG,
    },
}
"""Guide -> beginnings of lines of its blocks that are left out, and why."""


def commands(guide: str) -> list[list[str]]:
    """Read the lines of a guide's commands, block by block."""
    text = (PROJECT / "docs" / guide).read_text()
    return [block.splitlines() for kind, block in BLOCK.findall(text) if kind in ("", "sh")]


def blocks(guide: str) -> list[str]:
    """Give the commands of a guide, block by block, without the lines that are left out."""
    left_out = tuple(NOT_HERE.get(guide, ()))
    kept = ["\n".join(line for line in lines if not line.startswith(left_out)) for lines in commands(guide)]
    return [block for block in kept if block.strip()]


@pytest.fixture(scope="module")
def kowalski(
    tmp_path_factory: pytest.TempPathFactory, bring_up: Callable[[Path], AbstractContextManager[instances.Instance]]
) -> Iterator[instances.Instance]:
    """An instance of its own: the guides restore, drop and rotate what other tests rely on."""
    with bring_up(tmp_path_factory.mktemp("guided") / "run") as found:
        yield found


@pytest.fixture(scope="module")
def place(kowalski: instances.Instance, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder in which ``./kowalski.py`` is the command of the instance, and a filter as users have them."""
    for program in ("curl", "openssl"):
        if shutil.which(program) is None:
            pytest.skip(f"there is no {program}, which the guides use")
    folder = tmp_path_factory.mktemp("guides")
    settings = kowalski.settings
    for name, target in (("run", settings.path.run), ("data", settings.path.data)):
        target.mkdir(exist_ok=True)
        (folder / name).symlink_to(target)
    login = {"username": "admin", "password": "admin"}
    token = httpx.post(f"{kowalski.url}/api/auth", json=login).json()["token"]
    new: dict[str, Any] = {"group_id": 1, "filter_id": 17, "catalog": "ZTF_alerts", "permissions": [1]}
    new["pipeline"] = [{"$match": {"candidate.drb": {"$gt": 0.9}}}]
    headers = {"Authorization": f"Bearer {token}"}
    assert httpx.post(f"{kowalski.url}/api/filters", json=new, headers=headers).status_code == 200
    with forked.command(folder / "kowalski.py", "--config", str(kowalski.config)):
        yield folder


def run(place: Path, kowalski: instances.Instance, guide: str) -> str:
    """Run the blocks of a guide, one after the other; gives all that they print."""
    said, environment = [], os.environ | {"COLUMNS": "150"}
    for block in blocks(guide):
        script = block.replace("localhost:4000", kowalski.url.removeprefix("http://"))
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=place, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
        assert "fault of Kowalski" not in done.stderr
        assert "Traceback" not in done.stderr
        said.append(done.stdout)
    return "\n".join(said)


def test_an_operator_does_what_the_guide_says(place: Path, kowalski: instances.Instance) -> None:
    told = run(place, kowalski, "operator.md")
    assert "What next" in told
    assert "Listening at" not in told
    assert re.search(r'"status": ?"success"', told)  # the filter is off
    assert "verified: " in told
    assert re.search(r"ZTF_alerts: 0 documents restored, [0-9,]{3,} were there already", told)
    assert re.search(r"ZTF_alerts: [0-9,]{3,} documents restored\n", told)  # after they were dropped
    assert "vera" in told
    kowalski.wait_until_well()


def test_watchers_bring_what_the_guide_takes_on(place: Path, kowalski: instances.Instance) -> None:
    """With an archive of alerts as a watcher would have brought it."""
    (place / "data" / "ztf_alerts").mkdir(exist_ok=True)
    kowalski.cli("simulate", "--n", "4", "--seed", "77", "--out", str(place / "public"))
    with tarfile.open(place / "data" / "ztf_alerts" / "ztf_public_20231012.tar.gz", "w:gz") as archive:
        for file in (place / "public").glob("*.avro"):
            archive.add(file, file.name)
    told = run(place, kowalski, "watchers.md")
    assert "sent to ztf_20231012_programid1: 4 packets" in told
    assert (place / "night.html").read_text().startswith("<!doctype html>")
    assert len(list((place / "night").glob("*.avro"))) == 4


def test_new_secrets_lose_nothing(place: Path, kowalski: instances.Instance) -> None:
    before = kowalski.settings
    assert "database.password" in run(place, kowalski, "security.md")
    after = kowalski.settings
    assert after.database.password != before.database.password
    assert after.server.jwt_secret_key != before.server.jwt_secret_key
    assert (place / "sbom.json").stat().st_size > 1000
    kowalski.wait_until_well()


def test_what_is_left_out_is_there_and_has_a_reason() -> None:
    for guide, lines in NOT_HERE.items():
        found = [line for block in commands(guide) for line in block]
        for start, reason in lines.items():
            assert [line for line in found if line.startswith(start)], f"{guide} has no line {start}"
            assert reason
    assert not blocks("deploy.md")
