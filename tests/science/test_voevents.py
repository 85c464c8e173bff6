"""Notices of events: when, where and which map; and texts that are none."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from kowalski.science import voevents
from kowalski.science.voevents import VOEventError


def notice(what: str = "", *, at: str = "2023-06-23T15:42:26Z", place: str = "", ivorn: str = "ivo://a.b/c#d") -> str:
    """A VOEvent with given parameters and position."""
    return (
        '<?xml version="1.0" encoding="UTF-8"?><voe:VOEvent xmlns:voe="http://www.ivoa.net/xml/VOEvent/v2.0" '
        f'role="test" version="2.0" ivorn="{ivorn}"><Who/><What>{what}</What><WhereWhen><ObsDataLocation>'
        f"<ObservationLocation><AstroCoords><Time><TimeInstant><ISOTime>{at}</ISOTime></TimeInstant></Time>{place}"
        "</AstroCoords></ObservationLocation></ObsDataLocation></WhereWhen></voe:VOEvent>"
    )


def position(ra: str = "10.5", dec: str = "-20", radius: str = "2") -> str:
    return f"<Position2D><Value2><C1>{ra}</C1><C2>{dec}</C2></Value2><Error2Radius>{radius}</Error2Radius></Position2D>"


def test_what_a_notice_says() -> None:
    url = "https://example.org/files/bayestar.multiorder.fits,1"
    values = '<Param name="TrigID" value="42"/><Param name="GraceID" value="S1"/>'
    what = f'{values}<Group><Param name="skymap_fits" value="{url}"/></Group>'
    event = voevents.parse(notice(what, place=position()))
    assert event == voevents.Event(datetime(2023, 6, 23, 15, 42, 26), 42, ("LVC#S1",), url, (10.5, -20.0, 2.0))
    bare = voevents.parse(notice(at="2023-06-23T17:42:26.5+02:00"))
    assert bare == voevents.Event(datetime(2023, 6, 23, 15, 42, 26, 500_000), None, (), None, None)


def test_fermi_names_its_trigger_and_its_map_in_urls() -> None:
    lightcurve = '<Param name="LightCurve_URL" value="http://a.b/gbm/triggers/2018/bn180116026/quicklook/lc.gif"/>'
    plot = '<Param name="LocationMap_URL" value="https://a.b/current/glg_locplot_all_bn1.png"/>'
    event = voevents.parse(notice(lightcurve + plot))
    assert (event.aliases, event.map_url) == (("FERMI#bn180116026",), "https://a.b/current/glg_healpix_all_bn1.fit")


def test_amon_gives_radii_of_90_per_cent() -> None:
    event = voevents.parse(notice(place=position(radius="2.145966"), ivorn="ivo://nasa.gsfc.gcn/AMON#X"))
    assert event.cone == pytest.approx((10.5, -20.0, 1.0), rel=1e-6)


@pytest.mark.parametrize("place", [position(radius="0"), position(ra="400"), position(radius="nan"), ""])
def test_a_position_that_is_none_is_left_out(place: str) -> None:
    assert voevents.parse(notice(place=place)).cone is None


def test_names_of_any_length_are_not_taken() -> None:
    long = "x" * 1000
    what = f'<Param name="GraceID" value="{long}"/><Param name="skymap_fits" value="https://a.b/{long}"/>'
    event = voevents.parse(notice(what))
    assert (event.aliases, event.map_url) == ((), None)


BOMB = '<!DOCTYPE a [<!ENTITY b "bbbbbbbbbb"><!ENTITY c "&b;&b;&b;&b;">]>'
FILE = '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]>'


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not valid XML"),
        ("<a>", "not valid XML"),
        ("<a/>", "not a VOEvent"),
        (f"{BOMB}<a>&c;</a>", "document types and entities are not accepted"),
        (f"{FILE}<a>&b;</a>", "document types and entities are not accepted"),
        ('<!DOCTYPE a SYSTEM "http://127.0.0.1:1/a.dtd"><a/>', "document types and entities are not accepted"),
        ("<a>" * 100_000, "not valid XML"),
        ("<a>" * 100_000 + "</a>" * 100_000, "not a VOEvent"),
        (" " * (1 << 21), "characters"),
        (notice(at=""), "ISOTime"),
        (notice(at="yesterday"), "ISOTime"),
        (notice(at="0001-01-01T00:00:00+23:00"), "ISOTime"),
        (notice(place=position(dec="south")), "position"),
        ("<a>\ud800</a>", "not valid XML"),
    ],
)
def test_texts_that_are_refused(text: str, reason: str) -> None:
    with pytest.raises(VOEventError, match=reason):
        voevents.parse(text)


@pytest.mark.sample_data
def test_real_notices(sample_data: Path) -> None:
    found = {path.stem: voevents.parse(path.read_text()) for path in (sample_data / "events").glob("*.xml")}
    assert {name for name, event in found.items() if event.cone} >= {"AMON", "GRB180116A_Fermi_GBM_Gnd_Pos"}
    assert found["GRB180116A_Fermi_GBM_Gnd_Pos"].trigger == 537755817
    assert found["GRB180116A_Fermi_GBM_Gnd_Pos"].aliases == ("FERMI#bn180116026",)
    assert found["voevent"].aliases == ("LVC#S230623ai",)
    assert (found["voevent"].map_url or "").endswith(".fits,1")
    assert found["AMON"].cone == pytest.approx((273.4834, 22.1648, 1.2755 / 2.145966), rel=1e-5)
