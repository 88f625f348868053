"""Packing: columns of rows against what torchrec says of the tensors made of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from prepared_folder import SCHEMA
from rich_layout import rich_columns, rich_schema

from swrec_prod.data.batch import make_batch
from swrec_prod.encoding.pack import Column, Packed, Ragged, pack, pack_halves, spread
from swrec_prod.encoding.unpack import unpack
from swrec_prod.schema import FeatureSchema
from swrec_prod.schema.layout import Layout

Lists = list[list[int]]
lists = st.lists(st.lists(st.integers(0, 9), max_size=5), max_size=8)


def ragged(rows: Lists) -> Ragged:
    flat = [v for row in rows for v in row]
    return Ragged(np.array(flat, np.int32), np.cumsum([0, *map(len, rows)]).astype(np.int64))


def as_lists(column: Ragged) -> Lists:
    return [column.values[a:b].tolist() for a, b in zip(column.offsets[:-1], column.offsets[1:], strict=True)]


@given(lists, st.data())
def test_taking_rows_of_a_ragged_column_is_taking_lists(rows: Lists, data: st.DataObject) -> None:
    picked = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=12)) if rows else []
    assert as_lists(ragged(rows).take(np.array(picked, np.int64))) == [rows[i] for i in picked]


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 5)), max_size=8))
def test_spread_points_at_every_value_of_every_row(spans: list[tuple[int, int]]) -> None:
    starts, lengths = (np.array([s[i] for s in spans], np.int64) for i in (0, 1))
    index, offsets = spread(starts, lengths)
    assert index.tolist() == [start + i for start, length in spans for i in range(length)]
    assert np.diff(offsets).tolist() == lengths.tolist()


def columns() -> dict[str, Column]:
    """Three rows; person is a strided view, as the reader gives it."""
    records = np.zeros(3, [("person", np.int32), ("other", np.int64)])
    records["person"] = [7, 8, 9]
    return {
        "person": records["person"],
        "movie": np.array([1, 2, 3], np.int32),
        "genres": ragged([[4, 5], [], [6]]),
        "age": np.array([0.5, 1.5, 2.5], np.float32),
        "price": np.array([10.0, 20.0, 30.0]),
        "history.item": ragged([[], [1, 2], [3]]),
        "history.scenario": ragged([[], [0, 1], [2]]),
    }


@pytest.mark.parametrize("history", [False, True])
def test_a_batch_holds_every_column_under_its_name(history: bool) -> None:
    layout = Layout.of(SCHEMA, history=history)
    packed = pack(layout, columns(), np.array([0, 0, 2]))
    batch = make_batch(layout, packed, labels_BT=np.zeros((3, 2), np.float32), row_B=np.arange(3))
    pooled = {name: [t.tolist() for t in jagged.to_dense()] for name, jagged in batch.ids.to_dict().items()}
    expected = {"person": [[7], [8], [9]], "movie": [[1], [2], [3]], "genres": [[4, 5], [], [6]]}
    if history:
        movie = expected.pop("movie")
        runs = batch.sequence_values.split(batch.sequence_lengths.tolist())
        assert [run.tolist() for run in runs] == [*movie, [], [1, 2], [3]]
        assert batch.behaviour_scenario.tolist() == [0, 1, 2]
    else:
        assert len(batch.sequence_values) == len(batch.sequence_lengths) == len(batch.behaviour_scenario) == 0
    assert pooled == expected
    assert list(batch.ids.keys()) == [f.name for f in layout.pooled]
    assert batch.ids.values().dtype == torch.int64
    assert batch.dense_BF.tolist() == [[0.5, 10.0], [1.5, 20.0], [2.5, 30.0]]
    assert len(batch) == 3


def test_lengths_per_key_are_what_torchrec_would_compute() -> None:
    layout = Layout.of(SCHEMA, history=False)
    batch = make_batch(
        layout,
        pack(layout, columns(), np.zeros(3, np.int64)),
        labels_BT=np.zeros((3, 2), np.float32),
        row_B=np.arange(3),
    )
    ids = batch.ids
    assert ids.length_per_key() == ids.lengths().view(len(ids.keys()), -1).sum(1).tolist() == [3, 3, 3]
    assert ids.offset_per_key() == [0, 3, 6, 9]


def assert_same(found: Packed, expected: Packed) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)


@given(rows=st.integers(0, 9), seed=st.integers(0, 99), history=st.booleans())
def test_unpacking_a_batch_and_packing_it_again_gives_it_back(rows: int, seed: int, history: bool) -> None:
    layout = Layout.of(rich_schema(), history=history)
    packed = pack(layout, *rich_columns(layout, rows, seed))
    assert_same(pack(layout, unpack(layout, packed), packed.scenario_B), packed)


def test_halves_have_every_feature_once_on_its_side() -> None:
    layout = Layout.of(rich_schema(), history=True)
    user, items = layout.user_half, layout.item_half
    assert [f.name for f in user.pooled] == ["person", "city"]
    assert [f.name for f in user.looked_up] == ["liked", "wishes"]
    assert [s.name for s in user.sequences] == ["clicks", "skips"]
    assert [f.name for f in user.dense] == ["age"]
    assert [f.name for f in items.pooled] == ["item", "category"]
    assert [f.name for f in items.looked_up] == ["tags"]
    assert [f.name for f in items.dense] == ["price", "content"]
    assert set(user.columns) | set(items.columns) == set(layout.columns)
    assert not items.sequences
    assert not set(user.columns) & set(items.columns)
    assert layout.target is not None
    assert layout.target.name == "item"
    assert user.target is items.target is None


def test_a_request_has_its_user_once_and_all_candidates() -> None:
    layout = Layout.of(rich_schema(), history=True)
    (columns, _), place = rich_columns(layout, 1, seed=1), np.full(5, 2)
    candidates = rich_columns(layout, 5, seed=2)[0]
    request = pack_halves(layout, columns | {n: candidates[n] for n in layout.item_half.columns}, place, user_rows=1)
    assert_same(request.user, pack(layout.user_half, columns, place[:1]))
    assert_same(request.items, pack(layout.item_half, candidates, place))
    assert (len(request.user.dense_BF), len(request.items.dense_BF)) == (1, 5)


def test_derived_features_are_of_the_half_of_what_they_are_computed_of() -> None:
    derived = [
        {"name": "hour", "function": "hour", "of": "time"},
        {"name": "pair", "function": "cross", "of": ["user_id", "item"]},
    ]
    features = [
        {"name": "item", "kind": "id", "side": "item", "encoder": "vocab"},
        {"name": "user_id", "kind": "id", "side": "user", "encoder": "vocab"},
        {"name": "hour", "kind": "id", "side": "item", "encoder": "vocab"},  # its moment is the request's
        {"name": "pair", "kind": "id", "side": "user", "encoder": {"kind": "hash", "buckets": 9}},
    ]
    schema = FeatureSchema.model_validate(
        {
            "name": "derived", "time": "time", "user": "user_id", "labels": [{"name": "click", "column": "click"}],
            "features": features, "derived": derived,
        }
    )  # fmt: skip
    layout = Layout.of(schema, history=False)
    assert [f.name for f in layout.user_half.pooled] == ["user_id", "hour"]
    assert [f.name for f in layout.item_half.pooled] == ["item", "pair"]
