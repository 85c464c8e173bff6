"""What Kowalski is made of: the packages that ``requirements/*.txt`` lock, and the jars of the embedded Kafka."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any
from uuid import uuid4

from kowalski.config import PROJECT
from kowalski.runtime import jars
from kowalski.runtime.errors import ServiceError

GROUPS = ("core", "models", "test")
UNREACHED = re.compile(
    r"ConnectionError|NewConnection|ProxyError|Timeout|SSLError|Name or service|ServiceError|HTTPError"
)


@dataclass(frozen=True, slots=True)
class Package:
    """A locked package, and the groups that need it."""

    name: str
    version: str
    groups: tuple[str, ...]


def packages(folder: Path = PROJECT / "requirements") -> list[Package]:
    """Read which packages are locked, by name."""
    found: dict[tuple[str, str], tuple[str, ...]] = {}
    for group in GROUPS:
        for name, version in re.findall(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)", (folder / f"{group}.txt").read_text(), re.M):
            found[name, version] = (*found.get((name, version), ()), group)
    return [Package(name, version, groups) for (name, version), groups in sorted(found.items())]


# Known vulnerabilities


@dataclass(frozen=True, slots=True)
class Finding:
    """A known vulnerability of a package, and the versions that are without it."""

    package: str
    version: str
    identifier: str
    fixed_in: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Audit:
    """What an audit has found, and packages of which the service could tell nothing."""

    findings: tuple[Finding, ...]
    audited: int
    unknown: tuple[str, ...]


def audit(lock: Path, osv_url: str | None = None) -> Audit:
    """Ask the Python Packaging Advisory Database about the packages of a lock file, through pip-audit.

    Parameters
    ----------
    lock
        The lock file.
    osv_url
        Where a service that speaks OSV's query (``…/v1/query``) is to be asked instead.

    Raises
    ------
    ServiceError
        If the service can't be reached, or knows none of the packages (as behind a mirror that does not offer it): then
        nothing was audited.
    """
    command = [sys.executable, "-m", "pip_audit", "--format", "json", "--progress-spinner", "off"]
    command += ["--disable-pip", "--require-hashes", "--requirement", str(lock)]
    command += ["--vulnerability-service", "osv", "--osv-url", osv_url] if osv_url else []
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return read_audit(done.stdout, done.stderr)


def read_audit(output: str, errors: str) -> Audit:
    """Read what pip-audit said; see `audit`."""
    try:
        answers: list[dict[str, Any]] = json.loads(output)["dependencies"]
    except ValueError as error:
        lines = errors.strip().splitlines()
        if UNREACHED.search(errors):
            raise ServiceError("the network does not reach the vulnerability service: nothing was audited") from error
        raise ServiceError(f"pip-audit failed: {lines[-1] if lines else 'it said nothing'}") from error
    unknown = tuple(answer["name"] for answer in answers if "skip_reason" in answer)
    if answers and len(unknown) == len(answers):
        raise ServiceError("the network reaches no vulnerability service that knows the packages: nothing was audited")
    findings = tuple(
        Finding(answer["name"], answer["version"], found["id"], tuple(found["fix_versions"]))
        for answer in answers
        for found in answer.get("vulns", ())
    )
    return Audit(findings, len(answers) - len(unknown), unknown)


# Bill of materials


def bill_of_materials(version: str) -> dict[str, Any]:
    """Describe Kowalski and all that is locked as a CycloneDX 1.6 document (JSON).

    Licences are those that the installed packages state; what only tests and the conversion of models need is optional.
    """
    components = [_python(package) for package in packages()] + [_jar(jar) for jar in jars.locked()]
    root = {"type": "application", "name": "kowalski", "version": version, "bom-ref": "kowalski"}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid4()}",
        "version": 1,
        "metadata": {"component": root},
        "components": components,
        "dependencies": [{"ref": "kowalski", "dependsOn": [component["bom-ref"] for component in components]}],
    }


def _python(package: Package) -> dict[str, Any]:
    purl = f"pkg:pypi/{re.sub('[-_.]+', '-', package.name).lower()}@{package.version}"
    scope = "required" if "core" in package.groups else "optional"
    found = {"type": "library", "name": package.name, "version": package.version, "purl": purl, "bom-ref": purl}
    groups = [{"name": "kowalski:group", "value": group} for group in package.groups]
    return {**found, "scope": scope, "properties": groups, **_licence(package)}


def _licence(package: Package) -> Mapping[str, Any]:
    try:
        stated = metadata.metadata(package.name)
    except metadata.PackageNotFoundError:
        return {}
    if "License-Expression" in stated:
        return {"licenses": [{"expression": stated["License-Expression"]}]}
    text = stated["License"].strip() if "License" in stated else ""
    return {"licenses": [{"license": {"name": text}}]} if text and "\n" not in text else {}


def _jar(jar: jars.Jar) -> dict[str, Any]:
    purl = f"pkg:maven/{jar.group}/{jar.artifact}@{jar.version}"
    found = {"type": "library", "group": jar.group, "name": jar.artifact, "version": jar.version, "purl": purl}
    hashes = [{"alg": "SHA-256", "content": jar.sha256}]
    return {**found, "bom-ref": purl, "scope": "required", "hashes": hashes}
