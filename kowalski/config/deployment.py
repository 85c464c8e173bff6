"""Settings of where Kowalski runs: containers, and Dask clusters on other machines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from kowalski.config.fields import Positive, Section, Text

Kind = Literal["local", "address", "slurm", "kubernetes"]
Memory = Annotated[str, Field(pattern=r"^[1-9][0-9]*([kMGT]i?B?)?$")]


class Docker(Section):
    """How ``up --docker`` runs Kowalski."""

    project: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")] = "kowalski"
    variant: Literal["plain", "fritz", "traefik"] = "plain"
    files: list[Path] = []
    listen: Annotated[str, Field(pattern=r"^(\[[0-9a-fA-F:]+\]|[0-9.]+):[0-9]{1,5}$")] = "127.0.0.1:4000"
    domain: Annotated[str, Field(pattern=r"^[A-Za-z0-9.-]+$")] | None = None
    email: Annotated[str, Field(pattern=r"^[^@\s]+@[^@\s]+$")] | None = None


class Slurm(Section):
    """Workers as jobs of Slurm."""

    partition: Text | None = None
    account: Text | None = None
    cores: Positive = 1
    memory: Memory = "4GB"
    walltime: Annotated[str, Field(pattern=r"^([0-9]+-)?[0-9]{1,3}:[0-9]{2}:[0-9]{2}$")] = "12:00:00"
    interface: Text | None = None
    directives: list[Text] = []
    prologue: list[Text] = []


class Kubernetes(Section):
    """Workers as pods of Kubernetes, by Dask's operator."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,40}[a-z0-9])?$")] = "kowalski"
    namespace: Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$")] = "default"
    image: Text = "kowalski/ingester:latest"
    cpu: Text = "1"
    memory: Text = "4Gi"
    secret: Text = "kowalski"


class Cluster(Section):
    """Where the workers run; ``kind`` null: here, unless ``dask.scheduler_address`` names a cluster."""

    kind: Kind | None = None
    minimum: Positive = 1
    maximum: Positive = 4
    slurm: Slurm = Slurm()
    kubernetes: Kubernetes = Kubernetes()

    @model_validator(mode="after")
    def _is_a_range(self) -> Cluster:
        if self.minimum > self.maximum:
            raise ValueError("minimum must not be above maximum")
        return self
