"""Parquet files on both engines: odd types, columns that come and go, and the errors for bad files."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from engine_tables import log, odd, same, write

from swrec_prod.engine.contract import Engine
from swrec_prod.engine.parquet import check_parquet
from swrec_prod.errors import DataError

pytestmark = pytest.mark.engine


def test_odd_types_become_normal_ones(each_engine: Engine, tmp_path: Path) -> None:
    pq.write_table(odd(), tmp_path / "odd.parquet")
    expected = pa.table(
        {
            "large": ["x", None],
            "dictionary": ["x", None],
            "u8": pa.array([200, None], pa.int16()),
            "u32": pa.array([2**32 - 1, None]),
            "u64": pa.array([2**62, None]),
            "nanos": pa.array([1_700_000_000_123_456, None], pa.timestamp("us")),
            "zoned": pa.array([1_700_000_000_123_456, None], pa.timestamp("us", "UTC")),
            "millis": pa.array([1_700_000_000_123_000, None], pa.timestamp("us")),
            "list": pa.array([[1], None], pa.list_(pa.field("item", pa.int32()))),
            "nothing": pa.nulls(2, pa.string()),
        }
    )
    for rows in (each_engine.from_arrow(odd()), each_engine.parquet([tmp_path / "odd.parquet"])):
        assert same(each_engine.arrow(rows.order_by("u8")), expected)


def test_timestamps_of_old_writers(each_engine: Engine, tmp_path: Path) -> None:
    moment = pa.table({"at": pa.array([1_700_000_000_123_456_000], pa.timestamp("ns"))})
    pq.write_table(moment, tmp_path / "int96.parquet", use_deprecated_int96_timestamps=True)
    rows = each_engine.parquet([tmp_path / "int96.parquet"])
    assert each_engine.arrow(rows.select(t=each_engine.micros(rows["at"])))["t"].to_pylist() == [1_700_000_000_123_456]


def test_a_column_may_come_and_go_and_is_noted(each_engine: Engine, tmp_path: Path) -> None:
    new = pa.table({"a": [2], "b": ["x"], "c": [1.5]})
    files = write(
        tmp_path, one=pa.table({"a": [1]}), two=new, three=pa.table({"c": pa.array([None], pa.null()), "a": [3]})
    )
    each_engine.notes.clear()
    table = each_engine.arrow(each_engine.parquet(files).order_by("a"))
    assert table.equals(pa.table({"a": [1, 2, 3], "b": [None, "x", None], "c": [None, 1.5, None]}))
    assert each_engine.notes == [
        f"column 'b' is in 1 of 3 files (in {files[1]}, not in {files[0]}): its values are missing elsewhere",
        f"column 'c' is in 2 of 3 files (in {files[1]}, not in {files[0]}): its values are missing elsewhere",
    ]


def test_a_changed_type_is_named(each_engine: Engine, tmp_path: Path) -> None:
    files = write(tmp_path, one=pa.table({"a": [1], "tab": [1]}), two=pa.table({"a": [2], "tab": ["1"]}))
    message = f"{files[1]}: column 'tab' is string, expected int64 (as in {files[0]}). Did the producer change?"
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        each_engine.parquet(files)


def test_numbers_of_several_widths_are_widened(each_engine: Engine, tmp_path: Path) -> None:
    narrow = pa.table({"n": pa.array([1, None], pa.int32()), "x": pa.array([3, 2**40]), "tags": [[1], []]})
    wide = pa.table({"n": pa.array([2**40]), "x": [None], "tags": pa.array([[2**40, None]], pa.list_(pa.int64()))})
    narrow = narrow.set_column(2, "tags", narrow["tags"].cast(pa.list_(pa.int32())))
    wide = wide.set_column(1, "x", pa.array([None], pa.float64()))
    files = write(tmp_path, one=narrow, two=wide)
    for order in (files, files[::-1]):
        table = each_engine.arrow(each_engine.parquet(order).order_by("n"))
        assert table["n"].to_pylist() == [1, 2**40, None] and table["n"].type == pa.int64()
        assert table["x"].to_pylist() == [3.0, None, 2.0**40], "whole numbers beside floating ones"
        assert table["tags"].to_pylist() == [[1], [2**40, None], []]


def test_bytes_are_text_where_they_are_utf8(each_engine: Engine, tmp_path: Path) -> None:
    content = {"text": pa.array([b"caf\xc3\xa9", None], pa.binary()), "tags": [[b"a", None], []]}
    rows = each_engine.parquet(write(tmp_path, one=pa.table(content)))
    assert rows["text"].type().is_string()
    table = each_engine.arrow(rows.order_by("text"))
    assert table.to_pydict() == {"text": ["café", None], "tags": [["a", None], []]}


@pytest.mark.parametrize("is_list", [False, True])
@pytest.mark.parametrize("said", [pa.binary(), pa.string()])
def test_text_that_is_no_utf8_is_named_with_its_column(
    each_engine: Engine, tmp_path: Path, said: pa.DataType, is_list: bool
) -> None:
    raw = pa.array([b"ok", b"caf\xe9"])
    values = pa.Array.from_buffers(said, 2, raw.buffers())  # a writer that says text, of whatever bytes
    values = pa.ListArray.from_arrays([0, 1, 2], values) if is_list else values
    files = write(tmp_path, one=pa.table({"row": [1, 2], "city": values}))
    with pytest.raises(
        DataError, match=re.escape(f"{files[0]}: column 'city' has the value b'caf\\xe9', which is no UTF-8")
    ):
        each_engine.arrow(each_engine.parquet(files))


@pytest.mark.parametrize("keep", [0, 3, 200])
def test_a_truncated_file_is_named(each_engine: Engine, tmp_path: Path, keep: int) -> None:
    files = write(tmp_path, one=log(1), two=log(2))
    files[1].write_bytes(files[1].read_bytes()[:keep])
    with pytest.raises(DataError, match=f"^{re.escape(str(files[1]))}: damaged"):
        each_engine.parquet(files)


def test_a_missing_file_is_named(each_engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone.parquet: no such file"):
        each_engine.parquet([tmp_path / "gone.parquet"])


def test_damage_inside_a_file_is_named(each_engine: Engine, tmp_path: Path) -> None:
    files = write(tmp_path, one=log(1), two=log(2))
    whole = files[1].read_bytes()
    files[1].write_bytes(whole[:4] + b"\xff" * 400 + whole[404:])
    with pytest.raises(DataError, match=re.escape(str(files[1]))) as error:
        each_engine.arrow(each_engine.parquet(files))
    assert "\n" not in str(error.value)


def test_a_file_that_vanishes_is_named(each_engine: Engine, tmp_path: Path) -> None:
    files = write(tmp_path, one=log(1), two=log(2))
    rows = each_engine.parquet(files)
    files[1].unlink()
    with pytest.raises(DataError, match=re.escape(str(files[1].parent))):
        each_engine.arrow(rows)


@pytest.mark.parametrize("second", [["row", "Item"], ["row", "item", "ITEM"]])
def test_names_that_differ_in_capital_letters_only_are_refused(
    each_engine: Engine, tmp_path: Path, second: list[str]
) -> None:
    columns = log(1).select(["row", "item", "user"][: len(second)])
    one, two = write(tmp_path, one=log(1), two=columns.rename_columns(second))
    with pytest.raises(
        DataError, match=f"^{re.escape(str(two))}: column '{second[-1]}' and column 'item' .*in {re.escape(str(one))}"
    ):
        each_engine.parquet([one, two])
    with pytest.raises(DataError, match=r"column 'row' is there 2 times; rename all but one"):
        each_engine.parquet(write(tmp_path, twice=columns.rename_columns(["row"] * len(second)).select([0, 1])))


def test_a_number_that_no_int64_holds_is_told(local_engine: Engine, tmp_path: Path) -> None:
    files = write(tmp_path, one=pa.table({"hash": pa.array([1, 2**63], pa.uint64()), "row": [1, 2]}))
    rows = local_engine.parquet(files)
    assert local_engine.arrow(rows.select("row")).num_rows == 2
    with pytest.raises(
        DataError,
        match=r"column 'hash' has the value 9223372036854775808, expected less than 2\^63; write it as a string",
    ):
        local_engine.arrow(rows)


def test_footers_name_the_types_as_they_are_read(tmp_path: Path) -> None:
    footers = check_parquet(write(tmp_path, one=odd(), two=odd().select(["u8", "nothing"])))
    assert footers.stored.field("u8").type == pa.int16() and footers.stored.field("nanos").type == pa.timestamp("ns")
    assert list(footers.groups) == [frozenset({("nothing", pa.null())})] and len(footers.notes) == 8


def test_names_that_spark_passes_over_are_refused(cluster_engine: Engine, tmp_path: Path) -> None:
    pq.write_table(log(1), tmp_path / "_part.parquet")
    with pytest.raises(DataError, match=r"_part.parquet: Spark leaves out"):
        cluster_engine.parquet([tmp_path / "_part.parquet"])
