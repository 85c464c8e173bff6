"""Merging histories: what is kept depends on what was sent, never on when, and MongoDB would keep the same."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pymongo import MongoClient

from kowalski.config import Settings
from kowalski.science import lightcurve
from kowalski.surveys.base import History

Row = dict[str, Any]

HISTORY = History("rows", key=("jd", "candid"), prefer=("alert_mag",))
NAN = math.nan

# Few values, so that rows often share a key or a preference, and of all types that MongoDB keeps apart.
VALUES: list[Any] = [None, NAN, -1, 0, 1, 1.0, 1.5, 2, -math.inf, math.inf, 2**53 + 1, float(2**53), True, False]
VALUES += ["", "a", "ab", "é", "\uffff", "\U00010000", b"", b"b", b"ab"]
scalars = st.sampled_from(VALUES)
keys = st.sampled_from([None, NAN, 0, 1, 1.0, 2.5, True, "1"])
fields = st.tuples(
    st.one_of(st.just({}), keys.map(lambda value: {"jd": value})),
    st.one_of(st.just({}), keys.map(lambda value: {"candid": value})),
    st.one_of(st.just({}), scalars.map(lambda value: {"alert_mag": value})),
    st.dictionaries(st.sampled_from(["flux", "fid", "note"]), scalars, max_size=2),
)
rows_of_one_schema = fields.map(lambda parts: {name: value for part in parts for name, value in part.items()})
rows = st.lists(rows_of_one_schema, max_size=8)


def canonical(found: Sequence[Row]) -> list[list[tuple[str, str, Any]]]:
    """Rows in a form in which NaN equals NaN, 1 equals 1.0, True is not 1, and the order of fields counts."""

    def value(one: Any) -> tuple[str, Any]:
        if isinstance(one, list):
            return "list", list(map(value, one))
        if isinstance(one, bool) or not isinstance(one, int | float):
            return type(one).__name__, one
        return "number", "nan" if math.isnan(one) else one

    return [[(name, *value(one)) for name, one in row.items()] for row in found]


@given(st.data(), rows)
def test_order_does_not_matter(data: st.DataObject, sent: list[Row]) -> None:
    shuffled = data.draw(st.permutations(sent))
    assert canonical(lightcurve.merge(HISTORY, sent)) == canonical(lightcurve.merge(HISTORY, shuffled))


@pytest.mark.parametrize("name", HISTORY.key + HISTORY.prefer + ("flux",))
def test_order_does_not_matter_for_any_two_values(name: str) -> None:
    for one, two in itertools.combinations(({"jd": 2.5, name: value} for value in VALUES), 2):
        kept = canonical(lightcurve.merge(HISTORY, [one, two]))
        assert kept == canonical(lightcurve.merge(HISTORY, [two, one]))
        assert len(kept) == 1 or name in HISTORY.key


def test_order_does_not_matter_for_the_order_of_fields() -> None:
    one, two = {"jd": 2.5, "flux": 1.0, "fid": 1}, {"jd": 2.5, "fid": 1, "flux": 1.0}
    assert canonical(lightcurve.merge(HISTORY, [one, two])) == canonical(lightcurve.merge(HISTORY, [two, one]))


@given(rows)
def test_merging_again_changes_nothing(sent: list[Row]) -> None:
    once = lightcurve.merge(HISTORY, sent)
    assert canonical(lightcurve.merge(HISTORY, once)) == canonical(once)
    assert canonical(lightcurve.merge(HISTORY, once + sent)) == canonical(once)


@given(rows, rows, rows)
def test_parts_may_be_merged_in_any_grouping(one: list[Row], two: list[Row], three: list[Row]) -> None:
    first = lightcurve.merge(HISTORY, [*lightcurve.merge(HISTORY, one + two), *three])
    last = lightcurve.merge(HISTORY, [*one, *lightcurve.merge(HISTORY, two + three)])
    assert canonical(first) == canonical(last) == canonical(lightcurve.merge(HISTORY, one + two + three))


@given(rows, rows)
@example([{"jd": NAN}], [{"jd": float("nan")}])
@example([{"jd": 1, "flux": True}], [{"jd": 1, "flux": 1}])
@example([{"jd": 1, "flux": 1}], [{"jd": 1, "flux": True}])
@example([{"jd": 1, "flux": [True]}], [{"jd": 1, "flux": [1]}])
def test_news_are_what_changes_the_stored_rows(stored: list[Row], sent: list[Row]) -> None:
    stored, sent = lightcurve.merge(HISTORY, stored), lightcurve.merge(HISTORY, sent)
    both = lightcurve.merge(HISTORY, stored + sent)
    news = lightcurve.news(HISTORY, stored, sent)
    assert canonical(lightcurve.merge(HISTORY, stored + news)) == canonical(both)
    for row in news:  # and each is needed
        assert canonical([row])[0] in canonical(both)
        assert canonical([row])[0] not in canonical(stored)
    assert lightcurve.news(HISTORY, both, sent) == []


def test_one_row_per_key_the_preferred_one_in_order_of_keys() -> None:
    sent = [
        {"jd": 2.5, "candid": 7, "alert_mag": 18.0},
        {"jd": 1.5, "candid": 7, "alert_mag": 17.0, "flux": 2.0},
        {"jd": 1.5, "candid": 7, "alert_mag": 16.0, "flux": 9.0},
        {"jd": 1.5, "alert_mag": 16.0},
        {"jd": 1.5, "candid": 7, "alert_mag": 16.0, "flux": 3.0},
    ]
    assert lightcurve.merge(HISTORY, sent) == [sent[3], sent[4], sent[0]]


def test_a_missing_preference_comes_before_all_others() -> None:
    without, brightest = {"jd": 1.5, "flux": 2.0}, {"jd": 1.5, "alert_mag": -math.inf}
    assert lightcurve.merge(HISTORY, [brightest, without]) == [without]


def test_null_and_absent_fields_make_one_key() -> None:
    """As in MongoDB; of the two, the row without the field is kept."""
    assert lightcurve.merge(HISTORY, [{"jd": 1.5, "candid": None}, {"jd": 1.5}]) == [{"jd": 1.5}]


def test_true_is_no_number_and_text_no_number() -> None:
    sent: list[Row] = [{"jd": True}, {"jd": "1"}, {"jd": 1}, {"jd": 1.0}]
    assert canonical(lightcurve.merge(HISTORY, sent)) == canonical([{"jd": 1}, {"jd": "1"}, {"jd": True}])


def test_what_no_measurement_holds_is_refused() -> None:
    with pytest.raises(TypeError, match="set"):
        lightcurve.merge(HISTORY, [{"jd": {1}}])


nested = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(["a", "b", "ab"]), inner, max_size=3)
    ),
    max_leaves=5,
)


@pytest.fixture
def collection(mongo: MongoClient[Row], settings: Settings) -> Any:
    return mongo[settings.database.db]["lightcurve"]


def test_rows_rank_as_in_mongodb(collection: Any) -> None:
    """Drawn rows, in drawn order and in ours: MongoDB compares each with the one before, by preference and content."""
    drawn: list[Row] = [{"x": value} for pair in itertools.permutations(VALUES, 2) for value in pair]

    @given(st.dictionaries(st.sampled_from(["alert_mag", "flux", "x"]), nested, max_size=3))
    @hypothesis_settings(max_examples=400, database=None, derandomize=True, deadline=None)
    def draw(row: Row) -> None:
        drawn.append(row)

    draw()
    in_order = sorted(drawn, key=lambda row: lightcurve._rank(HISTORY, row))
    collection.insert_many([{"_id": "drawn", "rows": drawn}, {"_id": "in order", "rows": in_order}])
    ranks = {"$map": {"input": "$rows", "as": "row", "in": ["$$row.alert_mag", "$$row"]}}
    one, two = ({"$arrayElemAt": ["$ranks", {"$add": ["$$i", k]}]} for k in (0, 1))
    signs = {"$map": {"input": {"$range": [0, len(drawn) - 1]}, "as": "i", "in": {"$cmp": [one, two]}}}
    found = {
        each["_id"]: each for each in collection.aggregate([{"$set": {"ranks": ranks}}, {"$set": {"signs": signs}}])
    }
    assert found["drawn"]["signs"] == compared(drawn)
    assert found["in order"]["signs"] == compared(in_order)
    assert set(compared(in_order)) == {-1, 0}  # equal rows were among them
    assert set(compared(drawn)) >= {-1, 1}


def compared(rows: list[Row]) -> list[int]:
    """Each row with the next: -1 if it ranks before, 1 if after, 0 if they are equal."""
    ranks = [lightcurve._rank(HISTORY, row) for row in rows]
    return [(one > two) - (one < two) for one, two in itertools.pairwise(ranks)]
