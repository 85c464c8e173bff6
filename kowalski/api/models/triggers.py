"""Bodies and answers of ``/api/triggers``."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, RootModel

from kowalski.api.models.common import Success

Name = Annotated[str, Field(min_length=1, max_length=500)]


class TriggerBody(BaseModel):
    """What is handed on to an observatory, with whatever else it has."""

    model_config = ConfigDict(extra="allow")
    name_field: ClassVar[str]


class Queue(TriggerBody):
    """A queue of targets."""

    name_field = "queue_name"
    queue_name: Name
    validity_window_mjd: Annotated[list[float], Field(description="Begin and end.")]
    targets: list[dict[str, Any]]
    queue_type: str
    user: str


class QueueName(TriggerBody):
    """Which queue to delete."""

    name_field = "queue_name"
    queue_name: Name
    user: str


class QueueSelection(TriggerBody):
    """Which queues to show; all if none is named."""

    name_field = "queue_name"
    queue_name: Name | None = None
    user: str | None = None


class Fields(TriggerBody):
    """Fields that cover the map of an event."""

    name_field = "trigger_name"
    trigger_name: Name
    trigger_time: float
    fields: list[dict[str, Any]]
    user: str


class FieldsName(TriggerBody):
    """Which trigger to delete."""

    name_field = "trigger_name"
    trigger_name: Name
    user: str


class FieldsSelection(TriggerBody):
    """Which triggers to show; all if none is named."""

    name_field = "trigger_name"
    trigger_name: Name | None = None
    user: str | None = None


class NewTrigger(RootModel[Queue | Fields]):
    """A request for observations; which of the forms depends on the telescope's `kind` in the configuration."""


class OldTrigger(RootModel[QueueName | FieldsName]):
    """A request to withdraw."""


class TriggerSelection(BaseModel):
    """Which requests to show."""

    queue_name: Name | None = None
    trigger_name: Name | None = None
    user: str | None = None


class TriggerAnswer(Success):
    """What the observatory has answered: its headers to a new request, its list when asked for one."""

    data: Annotated[Any, Field(description="Missing after a deletion.")] = None
