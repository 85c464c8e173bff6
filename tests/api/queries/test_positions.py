"""Every form in which users write positions."""

from __future__ import annotations

from typing import Any

import pytest
from astropy.coordinates import SkyCoord
from hypothesis import given
from hypothesis import strategies as st

from kowalski.api.errors import InvalidRequestError
from kowalski.api.queries.positions import RADIANS, parse

RA, DEC = 71.6578333, -10.2263889


@pytest.mark.parametrize(
    ("radec", "name"),
    [
        ({"my.star": [71.6, -10.2]}, "my_star"),
        ([[71.6, -10.2]], "[71_6, -10_2]"),
        ("[(71.6, -10.2)]", "(71_6, -10_2)"),
        ("{'my.star': (71.6, -10.2)}", "my_star"),
        ("71.6 -10.2", "(71_6, -10_2)"),
        ([["71.6", -10.2]], "['71_6', -10_2]"),
    ],
)
def test_degrees(radec: Any, name: str) -> None:
    (position,) = parse(radec)
    assert (position.name, position.ra, position.dec) == (name, 71.6, -10.2)
    assert position.point == [71.6 - 180.0, -10.2]


@pytest.mark.parametrize(
    ("radec", "name"),
    [
        ("04:46:37.88 -10:13:35.0", "('04:46:37_88', '-10:13:35_0')"),
        ("04h46m37.88s -10d13m35.0s", "('04h46m37_88s', '-10d13m35_0s')"),
        ({"a": ["04:46:37.88", "-10:13:35.0"]}, "a"),
        ("{'a': ('04h46m37.88s', '-10d13m35.0s')}", "a"),
    ],
)
def test_hours_minutes_seconds(radec: Any, name: str) -> None:
    (position,) = parse(radec)
    assert position.name == name
    assert position.ra == pytest.approx(RA, abs=1e-7)
    assert position.dec == pytest.approx(DEC, abs=1e-7)


@given(st.floats(0, 359.999), st.floats(-89.999, 89.999))
def test_sexagesimal_agrees_with_astropy(ra: float, dec: float) -> None:
    text = SkyCoord(ra, dec, unit="deg").to_string("hmsdms", sep=":", precision=8)
    (position,) = parse(text)
    there = SkyCoord(text, unit=("hourangle", "deg"))
    assert position.ra == pytest.approx(there.ra.deg, abs=1e-9)
    assert position.dec == pytest.approx(there.dec.deg, abs=1e-9)


def test_a_declination_just_south_of_the_equator_keeps_its_sign() -> None:
    (position,) = parse("00:00:00.0 -00:30:00")
    assert position.dec == -0.5


def test_several_positions_keep_their_order_and_repeats_count_once() -> None:
    assert [position.name for position in parse([[1, 2], [3, 4], [1, 2]])] == ["[1, 2]", "[3, 4]"]


@pytest.mark.parametrize(
    "radec",
    [
        [71.6, -10.2],
        [["71.6", "-10.2"]],
        [["25:00:00", "x"]],
        {"a": [1]},
        {"a": [361, 0]},
        {"a": [0, 91]},
        {"a": [float("nan"), 0]},
        {"a": [None, 0]},
        {"a": [10**400, 0]},
        {"a.b": [1, 2], "a_b": [3, 4]},
        "nonsense",
        "00:61:00 00:00:00",
        7,
    ],
)
def test_what_is_no_position_is_refused(radec: Any) -> None:
    with pytest.raises(InvalidRequestError, match="radec"):
        parse(radec)


def test_units() -> None:
    assert RADIANS["deg"] == pytest.approx(60 * RADIANS["arcmin"]) == pytest.approx(3600 * RADIANS["arcsec"])
