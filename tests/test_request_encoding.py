"""What a request's columns become: the same as its encoders alone say, within limits, and whatever place a user comes
from.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from fitted_encoders import scaler_of, vocabulary_of
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_world import ITEMS, MAX_LENGTH, SCENARIOS, USER

from swrec_prod.encoding.at_once import IntegerColumns, NumberColumns
from swrec_prod.encoding.encoders import Encoders
from swrec_prod.encoding.lookups import Buckets, Hashing, Table
from swrec_prod.encoding.pack import PackedRequest
from swrec_prod.encoding.raw_values import RawLists
from swrec_prod.encoding.scaler import Scaler
from swrec_prod.errors import DataError, RequestError, SwrecError
from swrec_prod.schema.layout import Layout
from swrec_prod.serving.client import make_request
from swrec_prod.serving.protocol import wire
from swrec_prod.serving.protocol.call import Limits, call_of
from swrec_prod.serving.scoring.features import RequestEncoder

INT64 = st.integers(-(2**63), 2**63 - 1)
NEAR_OR_FAR = st.integers(-3, 12) | INT64 | st.sampled_from([2**63 - 1, -(2**63), 10**6, 10**6 + 1])
TABLES: dict[str, Table] = {
    "close": vocabulary_of(pa.array([3, 3, 5, 9])),
    "far": vocabulary_of(pa.array([-(2**63), 2**63 - 1, 0, 7])),
    "high": vocabulary_of(pa.array([10**6, 10**6, 10**6 + 2])),
    "lowest": vocabulary_of(pa.array([-(2**63), -(2**63) + 1])),
    "one": vocabulary_of(pa.array([4])),
    "none": vocabulary_of(pa.array([], pa.int64())),
    "hashed": Hashing(7, "int64"),
    "hashed more": Hashing(1 << 30, "int64"),
    "buckets": Buckets((0.0, 5.0)),
}
SCALERS = {
    "standard": scaler_of("standard", [1.0, 2.0, 9.0]),
    "clipped": scaler_of("standard", [1.0, 2.0, 9.0], clip=True),
    "minmax": scaler_of("minmax", [-1.0, 3.0]),
    "log1p": scaler_of("log1p", [0.0, 3.0, 99.0]),
    "constant": scaler_of("standard", [4.0, 4.0]),
    "unfitted": scaler_of("log1p", []),
}
NAMES = st.sampled_from(sorted(TABLES))


# Many columns at once


@settings(deadline=None)
@given(names=st.lists(NAMES, unique=True, min_size=1), rows=st.integers(0, 9), data=st.data())
def test_integers_of_many_columns_get_the_ids_of_each_alone(names: list[str], rows: int, data: st.DataObject) -> None:
    together = IntegerColumns({name: TABLES[name] for name in names})
    assert sorted(together.names) == sorted(names)
    drawn = [data.draw(st.lists(NEAR_OR_FAR, min_size=rows, max_size=rows)) for _ in names]
    values_CN = np.array(drawn, np.int64).reshape(len(names), rows)
    for name, values, ids in zip(together.names, values_CN, together(values_CN), strict=True):
        assert ids.dtype == np.int32
        np.testing.assert_array_equal(ids, TABLES[name](values, name))


@settings(deadline=None)
@given(names=st.lists(st.sampled_from(sorted(SCALERS)), unique=True, min_size=1), data=st.data())
def test_numbers_of_many_columns_are_scaled_as_each_alone(names: list[str], data: st.DataObject) -> None:
    number = st.floats(allow_infinity=True) | st.floats(-1, 1e4)
    numbers_FN = np.array([data.draw(st.lists(number, min_size=3, max_size=3)) for _ in names])
    alone, refused = {}, None
    for name, numbers in zip(names, numbers_FN, strict=True):
        try:
            alone[name] = SCALERS[name](numbers, name)
        except DataError as failure:
            refused = refused or str(failure)
    if refused is not None:
        with pytest.raises(DataError) as told:
            NumberColumns({name: SCALERS[name] for name in names})(numbers_FN)
        assert str(told.value) == refused
        return
    scaled_FN = NumberColumns({name: SCALERS[name] for name in names})(numbers_FN)
    for name, scaled in zip(names, scaled_FN, strict=True):
        np.testing.assert_array_equal(scaled, alone[name])


def test_numbers_are_held_where_it_is_asked_for_and_there_alone() -> None:
    scaler = Scaler("standard", shift=1.0, scale=2.0)
    held = NumberColumns({"x": scaler}, farthest=100.0)(np.array([[1e30, -1e30, 201.0, 190.0, np.nan]]))
    assert held.tolist() == [[100.0, -100.0, 100.0, 94.5, -0.5]]


@given(
    rows=st.lists(st.lists(st.lists(st.integers(0, 9), max_size=3), max_size=5), max_size=4), longest=st.integers(1, 4)
)
def test_the_latest_of_lists_of_lists(rows: list[list[list[int]]], longest: int) -> None:
    inner = [bag for row in rows for bag in row]
    bags = RawLists(np.array([v for bag in inner for v in bag], np.int64), offsets_of(inner))
    cut = RawLists(bags, offsets_of(rows)).latest(longest)
    assert isinstance(cut.elements, RawLists)
    flat, found = cut.elements.elements, []
    for first, last in pairwise(cut.offsets):
        ends = cut.elements.offsets[first : last + 1]
        found.append([flat[a:b].tolist() for a, b in pairwise(ends)])
    assert found == [row[-longest:] for row in rows]


def offsets_of(rows: list[Any]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum([len(row) for row in rows], dtype=np.int64)]).astype(np.int64)


# Requests


@pytest.fixture(scope="module")
def encoders(tiny_folder: Path) -> Encoders:
    return Encoders.load(tiny_folder)


def encoder_of(encoders: Encoders, **limits: int) -> RequestEncoder:
    return RequestEncoder(Layout.of(encoders.schema, history=True), encoders, Limits(**limits))


def encoded(encoder: RequestEncoder, user: dict[str, Any] = USER, items: dict[str, Any] = ITEMS) -> PackedRequest:
    return encoder.encode(call_of(make_request("home", user, items)), 0)


def test_a_place_that_is_not_known_is_no_scenario_and_is_counted(encoders: Encoders) -> None:
    encoder = encoder_of(encoders)
    packed = encoded(encoder, {**USER, "history.scenario": ["cart", "new shop", None]})
    assert packed.user.behaviour_scenario.tolist() == [1, len(SCENARIOS), len(SCENARIOS)]
    assert encoder.unknown.elsewhere == 2


def test_with_a_fallback_it_is_the_fallbacks(encoders: Encoders) -> None:
    scenario = encoders.schema.scenario.model_copy(update={"unseen": "fallback"})
    schema = encoders.schema.model_copy(update={"scenario": scenario})
    encoder = encoder_of(Encoders(schema, encoders.tables, encoders.scalers))
    packed = encoded(encoder, {**USER, "history.scenario": ["cart", "new shop", None]})
    assert packed.user.behaviour_scenario.tolist() == [1, 3, 4]


def test_behaviours_are_cut_before_their_places_are_looked_at(encoders: Encoders) -> None:
    encoder = encoder_of(encoders)
    places = ["nowhere"] * 50 + ["home"] * MAX_LENGTH
    packed = encoded(encoder, {**USER, "history.item": [1] * len(places), "history.scenario": places})
    assert packed.user.behaviour_scenario.tolist() == [0] * MAX_LENGTH
    assert encoder.unknown.elsewhere == 0


def test_what_is_not_known_of_a_candidate_has_row_0_and_the_mean(encoders: Encoders) -> None:
    items = {"item_id": [4, None, 5], "tags": [["t1"], [], ["t2"]], "price": [None, 1.5, None]}
    packed = encoded(encoder_of(encoders), items=items)
    assert packed.items.ids_values[-3:].tolist() == [*encoders.encode("item_id", [4, None, 5])]  # type: ignore[misc]
    np.testing.assert_array_equal(packed.items.dense_BF[:, 0], encoders.encode("price", [None, 1.5, None]))
    nothing = encoded(encoder_of(encoders), {**USER, "age": None, "user_id": None}, {**items, "item_id": [None] * 3})
    assert nothing.user.ids_values[:2].tolist() == [0, 0]


LONG = "x" * 2_000_000
TOO_MUCH = {
    "a candidate": ({}, {"item_id": [1] * 4, "tags": [[]] * 4, "price": [1.0] * 4},
                    "items: 4 candidates, expected 1 to 3; send the others in further requests"),
    "a value": ({}, {**ITEMS, "tags": [["a"], ["b"] * 6]},
                "items: feature 'tags' has 6 values in a row, allowed are 5; send fewer"),
    "a behaviour": ({"history.item": [1] * 11, "history.scenario": ["home"] * 11}, {},
                    "user: feature 'history.item' has 11 behaviours, allowed are 10; send the latest"),
    "text": ({"user_id": "u" * 31}, {},
             "user: feature 'user_id' has a text of 31 characters, allowed are 30; shorten it"),
    "text in a bag": ({}, {**ITEMS, "tags": [["a", "b" * 31], []]}, "feature 'tags' has a text of 31 characters"),
    "text of a place": ({"history.scenario": ["home", LONG, "home"]}, {}, "has a text of 2000000 characters"),
}  # fmt: skip


@pytest.mark.parametrize("case", TOO_MUCH)
def test_a_request_that_holds_too_much_is_refused_by_name(case: str, encoders: Encoders) -> None:
    user, items, said = TOO_MUCH[case]
    encoder = encoder_of(encoders, candidates=3, behaviours=10, values=5, text=30)
    assert encoded(encoder).items.dense_BF.shape == (2, 1)
    with pytest.raises(RequestError) as told:
        encoded(encoder, {**USER, **user}, {**ITEMS, **items})
    assert said in str(told.value)


NUMBERS = {
    "more than a float32 holds": (1e300, r"feature 'price': value 1e\+300 overflows float32"),
    "less": (-1e39, r"feature 'price': value -1e\+39 overflows float32"),
}


@pytest.mark.parametrize("case", NUMBERS)
def test_a_number_that_no_float32_holds_is_refused_by_name(case: str, encoders: Encoders) -> None:
    value, said = NUMBERS[case]
    with pytest.raises(DataError, match=said):
        encoded(encoder_of(encoders), items={**ITEMS, "price": [1.0, value]})


def test_a_number_far_from_all_of_training_is_held(encoders: Encoders) -> None:
    scaler = encoders.scalers["price"]
    prices = [3e38, -3e38, scaler.shift + 9e5 * scaler.scale]
    items = {"item_id": [1, 2, 3], "tags": [[]] * 3, "price": prices}
    dense = encoded(encoder_of(encoders), items=items).items.dense_BF[:, 0]
    assert dense[:2].tolist() == [1e6, -1e6]
    assert dense[2] == encoders.encode("price", prices[2:])[0]  # type: ignore[index]


def test_long_text_does_not_come_back(encoders: Encoders) -> None:
    encoder = encoder_of(encoders)
    column = wire.Column(name=LONG, ints=b"123")
    for part in ("user", "items"):
        request = make_request("home", USER, ITEMS)
        getattr(request, part).append(wire.Column(name=LONG))
        with pytest.raises(RequestError, match=f"{part}: unknown feature 'x{{100}}'...;") as told:
            encoder.encode(call_of(request), 0)
        assert len(str(told.value)) < 1000
        getattr(request, part).append(column)
        with pytest.raises(RequestError, match=r"ints has 3 bytes") as told:
            call_of(request)
        assert len(str(told.value)) < 1000
    with pytest.raises(DataError, match=r"value 'x{100}'... is str, expected int64") as wrong:
        encoder_of(encoders, text=len(LONG)).encode(
            call_of(make_request("home", USER, {**ITEMS, "item_id": [LONG, LONG]})), 0
        )
    assert len(str(wrong.value)) < 1000


def test_more_columns_than_any_schema_has_are_refused_unread() -> None:
    request = wire.ScoreRequest(scenario="home", user=[wire.Column(name="a")] * 10_001)
    with pytest.raises(RequestError, match="user: 10001 columns, allowed are 10000; send one a feature"):
        call_of(request)


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_any_lengths_are_encoded_or_refused_by_name(encoders: Encoders, data: st.DataObject) -> None:
    """Whatever lengths and types columns have: packed arrays fit each other, or one of our errors says why not."""
    request = make_request("home", USER, {"item_id": [1, 2], "tags": [["a"], []], "price": [1.0, 2.0]})
    columns = [*request.user, *request.items]
    for column in data.draw(st.lists(st.sampled_from(columns), max_size=3)):
        values = data.draw(st.lists(st.floats(width=64) | INT64, max_size=3))
        kind = data.draw(st.sampled_from(["ints", "floats", "strings"]))
        for field in ("ints", "floats", "strings", "lengths"):
            column.ClearField(field)
        if kind == "strings":
            column.strings.extend(map(str, values))
        else:
            numbers = np.array(
                [int(v) if v == v and abs(v) < 2**62 else 1 for v in values] if kind == "ints" else values
            )
            setattr(column, kind, numbers.astype(wire.INTS if kind == "ints" else wire.FLOATS).tobytes())
        lengths = data.draw(st.none() | st.lists(st.integers(-1, 3), max_size=3))
        if lengths:
            column.lengths = np.array(lengths, wire.LENGTHS).tobytes()
    try:
        user, items = encoder_of(encoders).encode(call_of(request), 0)
    except SwrecError as failure:
        assert "\n" not in str(failure)
        return
    assert user.ids_lengths.sum() == len(user.ids_values) and items.ids_lengths.sum() == len(items.ids_values)
    assert len(items.dense_BF) == len(items.scenario_B) == 2 and len(user.dense_BF) == 1
    assert user.sequence_lengths.sum() == len(user.sequence_values) == len(user.behaviour_scenario)
