"""How a cutout is drawn, as requests say it."""

from __future__ import annotations

from typing import Annotated, Any, get_args

from pydantic import BeforeValidator, Field

from kowalski.api.models.common import Request
from kowalski.science.colours import Colours
from kowalski.science.cutouts import Interval, Style
from kowalski.science.thumbnails import Curve


def _one_of(kind: Any) -> BeforeValidator:
    """Take what is unknown for nothing: clients have always got the default then."""
    known = get_args(kind)
    return BeforeValidator(lambda value: value if value in known else None)


class CutoutStyle(Request):
    """How to draw a cutout; for pictures only. What is unknown is taken for the default."""

    interval: Annotated[
        Interval | None,
        _one_of(Interval),
        Field(
            description=(
                "Pixels that take the first and the last colour: at 1 and 100 per cent (`asymmetric_percentile`, the "
                "default), the least and the greatest, or those that `zscale` chooses."
            )
        ),
    ] = None
    stretch: Annotated[
        Curve | None, _one_of(Curve), Field(description="Curve of the scale; `log`, for differences `linear`.")
    ] = None
    cmap: Annotated[Colours | None, _one_of(Colours), Field(description="Colours; `bone`.")] = None

    def style(self, cutout: str) -> Style:
        """Fill in what is not given."""
        curve: Curve = "linear" if cutout == "difference" else "log"
        return Style(self.interval or "asymmetric_percentile", self.stretch or curve, self.cmap or "bone")
