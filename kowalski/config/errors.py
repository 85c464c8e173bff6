"""Wrong settings, told in one sentence: which key, what it holds, what is allowed."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

LONGEST_VALUE = 60


class ConfigError(Exception):
    """A setting, or the file that holds it, can't be used; the text is one sentence for the operator."""

    def __init__(self, text: str) -> None:
        """Keep ``text`` on one line, whatever a key or a file's name holds."""
        super().__init__("".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text))


def sentence(error: ValidationError, model: type[BaseModel]) -> tuple[tuple[str, ...], str]:
    """Tell the first thing that is wrong.

    Returns
    -------
    tuple
        Path of the key (empty if it is about several keys), and the sentence.
    """
    first = error.errors(include_url=False)[0]
    location = tuple(str(part) for part in first["loc"] if part != "[key]")
    key = ".".join(location)
    if first["type"] == "extra_forbidden":
        return location, unknown(key, _siblings(model, location[:-1]), first["input"])
    message = first["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    return location, f"{key} = {shown(first['input'])}: {message}" if key else message


def unknown(key: str, known: Sequence[str], value: Any) -> str:
    """Tell that there is no setting ``key``, and which one may be meant."""
    section, dot, last = key.rpartition(".")
    close = difflib.get_close_matches(last.lower(), [name.lower() for name in known], n=1)
    if close:
        meant = next(name for name in known if name.lower() == close[0])
        hint = f"did you mean {section}{dot}{meant}?"
    else:
        hint = f"known here: {', '.join(known)}" if known else "nothing is set below it"
    return f"unknown setting {key} = {shown(value)}; {hint}"


def shown(value: Any) -> str:
    """Write a value as in a sentence: on one line, and not too long."""
    text = repr(value)
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 1] + "…"


def _siblings(model: type[BaseModel], location: Sequence[str]) -> list[str]:
    """Keys that are known in the section at ``location``; names that operators choose are not looked into."""
    level: Any = model
    for part in location:
        field = getattr(level, "model_fields", {}).get(part)
        level = field.annotation if field is not None else None
        if not (isinstance(level, type) and issubclass(level, BaseModel)):
            return []
    return sorted(level.model_fields)
