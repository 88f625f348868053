"""What may be an argument of `score`: each value becomes the right column, or a RequestError that names the feature."""

from __future__ import annotations

import datetime
import enum
import math
from collections import deque
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from swrec_prod.errors import RequestError
from swrec_prod.serving.client.request import make_call, make_request, message_of, parts_of
from swrec_prod.serving.protocol import ranking_pb2


def sent(user=None, items=None, **more):
    """The request as any gRPC client's library reads it."""
    message = message_of(make_call("home", user or {}, items or {}, **more))
    return ranking_pb2.ScoreRequest.FromString(message.SerializeToString())


def column(values):
    """ints, floats, strings and lengths of one feature of items."""
    [found] = sent(items={"x": values}).items
    return list(found.ints), list(found.floats), list(found.strings), list(found.lengths)


class Colour(enum.IntEnum):
    RED = 1


class Place(enum.StrEnum):
    HOME = "home"


class Text(str):
    def __str__(self):
        return "something else"


ITEMS = {
    "ints": ([1, 2], ([1, 2], [], [], [])),
    "a tuple": ((1, 2), ([1, 2], [], [], [])),
    "a range": (range(2), ([0, 1], [], [], [])),
    "a deque": (deque(["a"]), ([], [], ["a"], [])),
    "floats": ([1.5, 2], ([], [1.5, 2.0], [], [])),
    "bools": ([True, False], ([1, 0], [], [], [])),
    "strings": (["a", ""], ([], [], ["a", ""], [])),
    "unknown ints": ([1, None], ([1], [], [], [1, 0])),
    "unknown floats": ([1.5, None, math.nan], ([], [1.5], [], [1, 0, 0])),
    "unknown strings": ([None, "a"], ([], [], ["a"], [0, 1])),
    "all unknown": ([None, None], ([], [], [], [0, 0])),
    "none": ([], ([], [], [], [])),
    "enumerations": ([Colour.RED, 2], ([1, 2], [], [], [])),
    "text enumerations": ([Place.HOME, Text("x")], ([], [], ["home", "x"], [])),
    "fractions": ([Fraction(1, 2), 1], ([], [0.5, 1.0], [], [])),
    "numpy scalars": ([np.int32(1), np.int64(2)], ([1, 2], [], [], [])),
    "numpy strings": ([np.str_("a"), "b"], ([], [], ["a", "b"], [])),
    "numpy ints": (np.array([1, 2], np.int8), ([1, 2], [], [], [])),
    "numpy big-endian": (np.array([1, 2], ">i8"), ([1, 2], [], [], [])),
    "numpy not contiguous": (np.arange(6)[::2], ([0, 2, 4], [], [], [])),
    "numpy bools": (np.array([True, False]), ([1, 0], [], [], [])),
    "numpy floats": (np.array([1.5, np.nan], np.float32), ([], [1.5], [], [1, 0])),
    "numpy strings array": (np.array(["a", "bc"]), ([], [], ["a", "bc"], [])),
    "numpy objects": (np.array(["a", None], object), ([], [], ["a"], [1, 0])),
    "numpy masked": (np.ma.array([1, 2], mask=[False, True]), ([1], [], [], [1, 0])),
    "a table of numbers": (np.array([[1, 2], [3, 4]]), ([1, 2, 3, 4], [], [], [2, 2])),
    "bags": ([["a"], [], None, ["b", "c"]], ([], [], ["a", "b", "c"], [1, 0, 0, 2])),
    "bags of arrays": ([np.array([1, 2]), (3,)], ([1, 2, 3], [], [], [2, 1])),
    "pandas": (pd.Series([1, 2]), ([1, 2], [], [], [])),
    "pandas with unknown": (pd.Series([1, None], dtype="Int64"), ([1], [], [], [1, 0])),
    "pandas text": (pd.Series(["a", None]), ([], [], ["a"], [1, 0])),
    "arrow": (pa.array([1, None]), ([1], [], [], [1, 0])),
    "arrow lists": (pa.chunked_array([[["a"], []]]), ([], [], ["a"], [1, 0])),
}


@pytest.mark.parametrize("case", ITEMS)
def test_values_of_candidates(case):
    values, wanted = ITEMS[case]
    assert column(values) == wanted


USERS = {
    "one value": (3, [("x", [3], [])]),
    "text": ("ab", [("x", ["ab"], [])]),
    "unknown": (None, [("x", [], [0])]),
    "a bag": (["a", "b"], [("x", ["a", "b"], [2])]),
    "an empty bag": ([], [("x", [], [0])]),
    "an array": (np.array([1, 2]), [("x", [1, 2], [2])]),
    "a scalar array": (np.array(7), [("x", [7], [])]),
}


@pytest.mark.parametrize("case", USERS)
def test_values_of_a_user(case):
    value, wanted = USERS[case]
    found = [(c.name, [*c.ints, *c.floats, *c.strings], list(c.lengths)) for c in sent(user={"x": value}).user]
    assert found == wanted


@pytest.mark.parametrize("several", [[[1, 2], 3, None, []], [np.array([1, 2]), 3, math.nan, ()]])
def test_behaviours_with_bags(several):
    flat, lengths = sent(user={"h.tags": several}).user
    assert (flat.name, list(flat.ints), list(flat.lengths)) == ("h.tags", [1, 2, 3], [])
    assert (lengths.name, list(lengths.ints), list(lengths.lengths)) == ("h.tags.length", [2, 1, 0, 0], [4])


SELF = []
SELF.append(SELF)
WRONG = {
    "text for a sequence": ("ab", r"feature 'x': 'ab' is no sequence; give one value for each candidate"),
    "bytes for a sequence": (b"ab", r"feature 'x': b'ab' is no sequence"),
    "a number for a sequence": (3, r"feature 'x': 3 is no sequence"),
    "a set": ({1, 2}, r"feature 'x': \{1, 2\} is no sequence"),
    "a generator": ((i for i in range(2)), r"feature 'x': <generator object .* is no sequence"),
    "a mapping": ({"a": 1}, r"feature 'x': \{'a': 1\} is no sequence"),
    "bytes": ([b"M"], r"feature 'x': values are strings or numbers, all of one kind, not b'M', which is bytes"),
    "a moment": ([datetime.datetime(2024, 1, 1)], r"not datetime.datetime\(2024, 1, 1, 0, 0\), which is datetime"),
    "an array of moments": (np.array(["2024-01-01"], "datetime64[ns]"), r"feature 'x': an array of datetime64\[ns\]"),
    "an array of bytes": (np.array([b"a"]), r"feature 'x': an array of \|S1; give numbers, strings or objects"),
    "complex": ([1j], r"not 1j, which is complex"),
    "a decimal": ([Decimal("1.5")], r"not Decimal\('1.5'\), which is Decimal"),
    "mixed": (["a", 3], r"feature 'x': values are strings or numbers, all of one kind, not 'a' and 3"),
    "mixed numpy": ([np.str_("a"), np.int64(3)], r"all of one kind, not 'a' and 3"),
    "too large": ([1 << 63], r"feature 'x': 9223372036854775808 does not fit a 64-bit integer"),
    "too large an array": (np.array([1 << 63], np.uint64), r"feature 'x': 9223372036854775808 does not fit"),
    "far too large": ([10**400, 1.5], r"feature 'x': 10{39} does not fit a 64-bit integer"),
    "a lone surrogate": (["a\ud800"], r"feature 'x': 'a\\ud800' is no Unicode text: surrogates not allowed"),
    "lone surrogates in an array": (np.array(["\udfff"]), r"feature 'x': '\\udfff' is no Unicode text"),
    "too deep": ([[[1]]], r"feature 'x': \[1\] lies too deep; a row has a value, or a list of them"),
    "endless": (SELF, r"feature 'x': .* lies too deep"),
    "some lists": ([[1], 2], r"feature 'x': row 1 is 2, but others are lists; give a list"),
    "unknown in a bag": ([[1, None]], r"feature 'x': None among the values of one row; leave out what is unknown"),
    "a frame's class": ([pd.Series], r"feature 'x': .* not <class 'pandas"),
    "moments of pandas": (pd.Series(pd.to_datetime(["2024-01-01"])), r"feature 'x': an array of datetime64"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_sent_is_named(case):
    values, message = WRONG[case]
    with pytest.raises(RequestError, match=message) as failure:
        sent(items={"x": values})
    assert "\n" not in str(failure.value) and len(str(failure.value)) < 400


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"user": {"x": b"M"}}, r"feature 'x': values are strings or numbers, .* not b'M', which is bytes"),
        ({"user": {"x": {1}}}, r"feature 'x': .* not \{1\}, which is set"),
        ({"user": [1]}, r"user is \[1\]; give a mapping"),
        ({"user": {3: 1}}, r"user: 3 is no feature's name; names are strings"),
        ({"user": {"\ud800": 1}}, r"user: the feature '\\ud800' is no Unicode text"),
        ({"items": "ab"}, r"items is 'ab'; give a mapping"),
        ({"items": [1, 2]}, r"items is \[1, 2\]; give a mapping"),
        ({"items": iter([])}, r"items is <list_iterator.*; give a mapping"),
        ({"items": [{"a": 1}, {2: 1}]}, r"items: row 1 has the features \['2'\], row 0 \['a'\]"),
        ({"items": {"a": [1], "b": [1, 2]}}, r"items: feature 'b' has 2 rows, but 'a' has 1"),
        ({"version": 1.5}, r"version is 1.5, which is float; give a string"),
        ({"version": True}, r"version is True, which is bool; give a string"),
        ({"model": None}, r"model is None, which is NoneType; give a string"),
        ({"request_id": b"r"}, r"request_id is b'r', which is bytes; give a string"),
        ({"unit": 7}, r"unit is 7, which is int; give a string"),
        ({"unit": "\ud800"}, r"unit '\\ud800' is no Unicode text"),
        ({"debias_strength": "1"}, r"debias_strength is '1'; give a finite number"),
        ({"debias_strength": 10**400}, r"debias_strength is 1000.*; give a finite number"),
    ],
)
def test_other_arguments_are_checked_too(arguments, message):
    with pytest.raises(RequestError, match=message) as failure:
        sent(**arguments)
    assert "\n" not in str(failure.value)


@pytest.mark.parametrize("scenario", [None, 3, "\ud800", ["home"]])
def test_a_scenario_is_text(scenario):
    with pytest.raises(RequestError, match="scenario"):
        make_request(scenario, {}, {})


scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.complex_numbers(),
    st.datetimes(), st.decimals(), st.fractions(), st.uuids(), st.characters(codec=None),
    arrays.from_dtype(np.dtype("i4")), arrays.from_dtype(np.dtype("f2")), arrays.from_dtype(np.dtype("M8[s]")),
)  # fmt: skip
hashable = st.one_of(st.none(), st.integers(), st.text(), st.binary())
values = st.recursive(
    st.one_of(
        scalars,
        st.frozensets(hashable, max_size=3),
        arrays.arrays(arrays.scalar_dtypes(), arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)),
        st.just(range(3)),
        st.builds(iter, st.lists(st.integers(), max_size=2)),
        st.builds(
            pd.Series, st.lists(st.one_of(st.none(), st.integers(), st.text()), max_size=3), dtype=st.just(object)
        ),
        st.just(SELF),
        st.just(len),
        st.just(int),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(hashable, inner, max_size=2),
    ),
    max_leaves=8,
)


@settings(max_examples=600, deadline=None)
@given(user=values, item=values, scenario=st.one_of(st.just("home"), scalars), version=st.one_of(st.just(""), scalars))
@example(user={"x": object()}, item=[], scenario="home", version=1)
def test_any_value_is_sent_or_refused(user, item, scenario, version):
    for arguments in (({"x": user}, {"y": item}), ({"x.y": user}, {"x.y": item}), (user, item), ({}, [{"x": item}])):
        try:
            call = make_call(scenario, *arguments, version=version)
            for part in parts_of(call, 2):
                ranking_pb2.ScoreRequest.FromString(message_of(part).SerializeToString())
        except RequestError as failure:
            assert "\n" not in str(failure) and len(str(failure)) < 2000


plain = st.one_of(
    st.lists(st.one_of(st.none(), st.integers(-(1 << 63), (1 << 63) - 1)), min_size=1),
    st.lists(st.one_of(st.none(), st.floats(allow_nan=False)), min_size=1),
    st.lists(st.one_of(st.none(), st.text()), min_size=1),
)


@given(plain, st.integers(1, 7))
def test_parts_put_together_are_the_whole(rows, most):
    """Read back by the public messages, value by value."""
    found = []
    for part in parts_of(make_call("home", {}, {"x": rows}), most):
        [one] = ranking_pb2.ScoreRequest.FromString(message_of(part).SerializeToString()).items
        known = iter([*one.ints, *one.floats, *one.strings])
        lengths = list(one.lengths) or [1] * len([*one.ints, *one.floats, *one.strings])
        assert len(lengths) <= most
        found += [next(known) if length else None for length in lengths]
    assert found == rows


@given(
    st.lists(st.lists(st.lists(st.integers(0, 9), max_size=2), max_size=3), min_size=1, max_size=9), st.integers(1, 4)
)
def test_parts_cut_behaviours_with_bags_where_their_candidates_end(rows, most):
    rows[0] = [[1, 2], [3]]  # nested at all
    found = []
    for part in parts_of(make_call("home", {}, {"h.tags": rows}), most):
        flat, lengths = ranking_pb2.ScoreRequest.FromString(message_of(part).SerializeToString()).items
        values, counts = iter(flat.ints), iter(lengths.ints)
        found += [[[next(values) for _ in range(next(counts))] for _ in range(n)] for n in lengths.lengths]
        assert not list(values)
    assert found == rows
