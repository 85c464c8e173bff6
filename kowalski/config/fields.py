"""What settings are made of: kinds of values, and closed groups of them."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field


def _no_switch(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("must be a number")
    return value


def _network(value: str) -> str:
    ip_network(value, strict=False)  # a ValueError says what is wrong
    return value


Number = BeforeValidator(_no_switch)
"""Python counts ``true`` as 1, operators don't."""
Port = Annotated[int, Number, Field(ge=1, le=65535)]
Positive = Annotated[int, Number, Field(ge=1, le=2**53)]
Count = Annotated[int, Number, Field(ge=0, le=2**53)]
Seconds = Annotated[float, Number, Field(gt=0, le=1e9, allow_inf_nan=False)]
Measure = Annotated[float, Number, Field(gt=0, allow_inf_nan=False)]
Size = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)? ?([kKMGT]i?B)?$")]
Duration = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)? ?(s|m|h|d|(second|minute|hour|day)s?)$")]
Network = Annotated[str, AfterValidator(_network)]
"""An address, or a network as ``10.0.0.0/8``."""
Text = Annotated[str, Field(pattern=r"^[^\x00-\x1f]+$")]
"""Not empty, and on one line."""


class Section(BaseModel):
    """A closed group of settings: an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", validate_default=True)
