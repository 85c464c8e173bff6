"""Pages that people read: templates of this folder, filled in on the server; they need no script and no other site."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from aiohttp import web
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

FOLDER = Path(__file__).parent
PLOT_WIDTH, PLOT_HEIGHT = 480.0, 120.0
GAP = 0.15
"""Part of a bar's room that stays empty."""


def respond(template: str, status: int = 200, **values: Any) -> web.Response:
    """Fill in a template; every value is escaped."""
    style = _style()
    text = _environment().get_template(template).render(style=Markup(style), **values)
    return web.Response(status=status, text=text, content_type="text/html", headers=_headers(style))


def _headers(style: str) -> dict[str, str]:
    """Forbid the page whatever it does not need: it may show itself, its own style, and send its own forms."""
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'sha256-{digest}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
    # Browsers that may not tell where a form comes from say that it comes from nowhere.
    return {"Content-Security-Policy": policy, "Referrer-Policy": "same-origin"}


@cache
def _style() -> str:
    return (FOLDER / "style.css").read_text()


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": _number, "duration": _duration, "moment": _moment}
    environment.globals |= {"bars": bars, "plot": {"width": PLOT_WIDTH, "height": PLOT_HEIGHT}}
    return environment


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar of a plot, in the units of its drawing."""

    x: float
    y: float
    width: float
    height: float


def bars(values: Sequence[float]) -> list[Bar]:
    """Lay values out as the bars of a plot of `PLOT_WIDTH` × `PLOT_HEIGHT`; the largest has its whole height."""
    largest = max(values, default=0.0) or 1.0
    room = PLOT_WIDTH / max(1, len(values))
    return [
        Bar(
            x=round(room * (place + GAP / 2), 2),
            y=round(PLOT_HEIGHT * (1.0 - value / largest), 2),
            width=round(room * (1.0 - GAP), 2),
            height=round(PLOT_HEIGHT * value / largest, 2),
        )
        for place, value in enumerate(values)
    ]


def _number(value: float | None, digits: int = 0) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"


def _duration(seconds: float | None) -> str:
    """Write seconds with two or three figures, or as days, hours and minutes."""
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    days, rest = divmod(timedelta(seconds=int(seconds)), timedelta(days=1))
    hours, minutes = divmod(rest.seconds // 60, 60)
    return (f"{days} d " if days else "") + (f"{hours} h " if days or hours else "") + f"{minutes} min"


def _moment(value: datetime | None) -> str:
    return "–" if value is None else f"{value:%Y-%m-%d %H:%M:%S} UTC"
