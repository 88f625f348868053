"""What is in the exposure log, without a server."""

from __future__ import annotations

import random
import uuid
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from exposed import COLUMNS, FIRST, SECOND, answer, logged, rows_of
from hypothesis import given, settings
from hypothesis import strategies as st

from swrec_prod.errors import DataError
from swrec_prod.exposures.event_ids import EventIds
from swrec_prod.exposures.features import array_of
from swrec_prod.exposures.schema import BASE, FeatureColumn, feature_columns
from swrec_prod.serving.protocol.call import Column, ScoreCall


def test_an_answer_has_a_row_for_each_of_its_experiments(tmp_path: Path):
    logged(tmp_path, answer(0, (FIRST, SECOND)), answer(1, ()))
    first, second, alone = rows_of(tmp_path)
    assert [first[name] for name in ("experiment", "variant", "bucket", "forced")] == ["strength", "high", 17, False]
    assert [second[name] for name in ("layer", "experiment", "forced", "triggered")] == ["look", "order", True, True]
    assert (alone["experiment"], alone["bucket"], alone["hash_version"]) == (None, None, None)
    assert first["answer_id"] == second["answer_id"] == first["event_id"] != second["event_id"]
    assert {row["request_id"] for row in (first, second)} == {"r-0"} and alone["unit"] == "u1"
    assert first["score"] == second["score"] == [0, 1, 2, 3] and alone["score"] == [1, 2, 3, 4]
    assert first["candidates"] == 2 and first["tasks"] == ["click", "buy"] and first["debias_strength"] == 0.25


def test_features_are_as_the_request_had_them(tmp_path: Path):
    logged(tmp_path, answer(0, (FIRST, SECOND)))
    for row in rows_of(tmp_path):
        assert (row["user.user_id"], row["user.age"], row["user.hour"]) == ("u1", 30, 5.0)
        assert row["user.history.item"] == [1, 2, 3] and row["user.history.scenario"] == ["home", "cart", "home"]
        assert row["items.item_id"] == [4, 5] and row["items.tags"] == [["t1", "t2"], []]
        assert row["items.price"] == [1.5, None]


def test_an_answer_whose_request_was_not_kept_has_scores_alone(tmp_path: Path):
    logged(tmp_path, answer(0, request=None, sample_rate=None), answer(1))
    without, with_it = rows_of(tmp_path)
    assert without["items.item_id"] is None and without["sample_rate"] is None and without["score"]
    assert with_it["items.item_id"] == [4, 5] and with_it["sample_rate"] == 1.0


def test_a_call_of_another_protocol_is_logged_as_one_of_ours(tmp_path: Path):
    column = Column("item_id", np.array([4, 5]), None)
    prices = Column("price", np.array([1.5]), np.array([1, 0], np.int32))
    tags = Column("tags", ["t1", "t2"], np.array([2, 0], np.int32))
    call = ScoreCall("mscan", "1", "home", items=[column, prices, tags])
    logged(tmp_path, answer(0), answer(1, request=call))
    ours, theirs = rows_of(tmp_path)
    for name in ("items.item_id", "items.price", "items.tags"):
        assert ours[name] == theirs[name]
    assert theirs["user.age"] is None


def test_files_lie_by_day_and_hour_with_one_package_each(tmp_path: Path):
    hour = 3_600_000_000
    moments = [hour * 24 * 365 * 50 + hour - 1, hour * 24 * 365 * 50 + hour]
    logged(tmp_path, *(answer(0, ts=ts) for ts in moments), answer(0, model_version="2", ts=moments[0]))
    folders = {str(path.parent.relative_to(tmp_path)) for path in tmp_path.rglob("*.parquet")}
    assert folders == {"dt=2019-12-20/hour=00", "dt=2019-12-20/hour=01"}
    assert len(list(tmp_path.rglob("*-mscan-1.parquet"))) == 2 and len(list(tmp_path.rglob("*-mscan-2.parquet"))) == 1


def test_a_file_says_its_columns(tmp_path: Path):
    logged(tmp_path, answer())
    [path] = tmp_path.rglob("*.parquet")
    schema = pq.read_schema(path)
    assert schema.names[: len(BASE)] == BASE.names and [schema.field(n).type for n in BASE.names] == BASE.types
    assert feature_columns(schema) == list(COLUMNS)
    with pytest.raises(DataError, match="no exposure log: column 'answer_id' is missing"):
        feature_columns(schema.remove(schema.get_field_index("answer_id")))


kinds = st.sampled_from([("int64", False), ("int64", True), ("string", True), ("string", False), ("float64", False)])


@settings(max_examples=60, deadline=None, derandomize=True)
@given(kinds, st.sampled_from(["user", "items"]), st.integers(0, 2**32 - 1))
def test_columns_of_many_requests_equal_a_loop_over_their_values(kind: tuple[str, bool], part: str, seed: int):
    column, draw = FeatureColumn(part, "x", *kind), random.Random(seed)
    wanted, given_ = [], []
    for _ in range(draw.randint(0, 5)):
        rows = [row(column, draw) for _ in range(1 if part == "user" else draw.randint(1, 4))]
        is_absent = draw.random() < 0.2
        wanted.append(None if is_absent else rows[0] if part == "user" else rows)
        given_.append(None if is_absent else sent(column, rows))
    array = array_of(column, given_)
    assert array.to_pylist() == wanted and array.type == column.field.type


def row(column: FeatureColumn, draw: random.Random) -> object:
    one = {"int64": lambda: draw.randint(-9, 9), "string": lambda: f"t{draw.randint(0, 9)}", "float64": draw.random}
    if column.several:
        return [one[column.type]() for _ in range(draw.randint(0, 3))]
    return one[column.type]() if draw.random() < 0.7 else None


def sent(column: FeatureColumn, rows: list) -> Column:
    values = [v for of in rows for v in (of if column.several else [of] if of is not None else [])]
    lengths = np.array([len(of) if column.several else int(of is not None) for of in rows], np.int32)
    as_text = column.type == "string" or not values
    return Column("x", values if as_text else np.array(values, column.type), lengths)


@pytest.mark.parametrize(
    ("values", "lengths"),
    [(np.array([1]), [2, 0]), (np.array([1, 2]), [-1, 3]), (np.array([1, 2]), [2, 0]), (["a", "b"], None)],
)
def test_a_column_that_the_package_does_not_read_may_hold_anything(values: object, lengths: list[int] | None):
    given_ = Column("x", values, None if lengths is None else np.array(lengths, np.int32))
    other = Column("x", np.array([7]), None)
    assert array_of(FeatureColumn("items", "x", "int64", False), [given_, other]).to_pylist() == [None, [7]]


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.lists(st.integers(1, 2**45), min_size=1, max_size=50))
def test_ids_are_uuids_in_order_also_when_the_clock_steps_back(moments: list[int]):
    ids = EventIds()
    found = [ids.next(moment) for moment in moments]
    assert found == sorted(set(found)) and {id_[15] for id_ in found} == {0}
    assert {(uuid.UUID(bytes=id_).version, uuid.UUID(bytes=id_).variant) for id_ in found} == {(7, uuid.RFC_4122)}
    assert int.from_bytes(found[0][:6], "big") == moments[0] // 1000


def test_more_ids_of_a_millisecond_than_fit_go_on_in_the_next():
    ids = EventIds()
    found = [ids.next(5_000) for _ in range(5_000)]
    assert found == sorted(set(found))
