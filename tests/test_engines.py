"""Both engines give the same values and the same Arrow schema for one expression, and the same errors for bad files."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable
from datetime import date, datetime, timedelta
from pathlib import Path

import ibis
import ibis.expr.types as ir
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ibis import _

from swrec_prod.engine import engine
from swrec_prod.engine.contract import Engine
from swrec_prod.engine.local import LocalEngine
from swrec_prod.engine.parquet import check_parquet
from swrec_prod.errors import DataError

pytestmark = [
    pytest.mark.filterwarnings(f"ignore:{text}")
    for text in ("PySpark does not yet fully support pandas", "fetch_arrow_table")
]
ROWS = 400
Both = tuple[Engine, Engine]


def log(seed: int) -> pa.Table:
    """Impressions with missing values, equal times and negative numbers."""
    draw = np.random.default_rng(seed)
    some = draw.random(ROWS) < 0.1
    tags = ["a", "b|c", "", "d|e|f", None]
    return pa.table(
        {
            "row": np.arange(ROWS),
            "user": pa.array(draw.integers(0, 20, ROWS), mask=some),
            "item": draw.integers(-50, 50, ROWS),
            "time": draw.integers(0, 40, ROWS) * 1_000_000 - 7_000_000,
            "click": draw.integers(0, 2, ROWS).astype(np.int8),
            "price": pa.array(draw.normal(size=ROWS), mask=draw.random(ROWS) < 0.1),
            "tags": [tags[i] for i in draw.integers(0, len(tags), ROWS)],
        }
    )


def items() -> pa.Table:
    return pa.table(
        {"item": np.arange(-30, 30), "genre": [f"genre {i % 7}: v{i}" if i % 5 else None for i in range(60)]}
    )


def before(rows: ir.Table) -> ir.Table:
    """Clicks of the user strictly before the row. An empty frame counts 0 in one engine and is missing in the other."""
    window = ibis.range_window(preceding=(None, 1), group_by="user", order_by="time")
    return rows.mutate(clicks=(_.click == 1).ifelse(1, 0).sum().over(window).fill_null(0))


def numbered(rows: ir.Table) -> ir.Table:
    return rows.mutate(n=ibis.row_number().over(group_by="user", order_by=[_.time, _.row]))


def history(rows: ir.Table) -> ir.Table:
    return rows.mutate(
        items=_.item.collect().over(
            ibis.rows_window(preceding=3, following=0, group_by="user", order_by=[_.time, _.row])
        )
    )


def unnested(rows: ir.Table) -> ir.Table:
    return rows.mutate(tag=_.tags.re_split("[|]")).unnest("tag", offset="at").select("row", "tag", "at")


def counted(rows: ir.Table) -> ir.Table:
    figures = {
        "n": _.count(),
        "clicks": _.click.sum(),
        "last": _.time.max(),
        "users": _.user.nunique(),
        "priced": _.price.count(),
    }
    return rows.group_by("tags").agg(**figures).mutate(row=_.last)


EXPRESSIONS: dict[str, Callable[[ir.Table], ir.Table]] = {
    "filter": lambda r: r.filter(_.item > 3, _.tags.notnull()),
    "before": before,
    "row_number": numbered,
    "lag": lambda r: r.mutate(previous=_.time.lag().over(group_by="user", order_by=[_.time, _.row])),
    "history": history,
    "unnest": unnested,
    "group": counted,
    "regexp": lambda r: r.mutate(first=_.tags.re_extract(r"^(\w)\|", 1)),
    "union": lambda r: ibis.union(r.filter(_.click == 1), r.filter(_.item < 0)).mutate(row=_.row * 10 + _.click),
    "arithmetic": lambda r: r.mutate(
        day=_.time // 86_400_000_000, rest=_.item % 7, half=_.item / 2, big=_.item.cast("int64") * 10**12
    ),
    "moments": lambda r: r.mutate(at=(_.time // 1_000_000).as_timestamp("s")).mutate(hour=_.at.hour(), day=_.at.date()),
    "md5": lambda r: r.mutate(key=_.row.cast("string").hexdigest("md5")),
    "struct": lambda r: (
        r.group_by("click").agg(l=ibis.struct({"t": _.time, "r": _.row}).collect()).mutate(l=_.l.sort(), row=_.click)
    ),
}


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_both_engines_agree(engines: Both, name: str) -> None:
    one, other = (e.arrow(EXPRESSIONS[name](e.from_arrow(log(1))).order_by("row")) for e in engines)
    if name in ("unnest", "union", "group"):
        one, other = (in_any_order(t) for t in (one, other))
    assert one.num_rows > 0
    assert one.schema == other.schema
    assert one.equals(other)


def in_any_order(table: pa.Table) -> pa.Table:
    return table.sort_by([(name, "ascending") for name in table.column_names])


def test_joins_agree(engines: Both) -> None:
    def joined(e: Engine) -> pa.Table:
        return e.arrow(e.from_arrow(log(3)).left_join(e.from_arrow(items()), "item").drop("item_right").order_by("row"))

    one, other = map(joined, engines)
    assert one.equals(other) and one.schema == other.schema
    assert one.num_rows == ROWS and 0 < one["genre"].null_count < ROWS


def test_clicks_before_a_row_are_those_of_a_loop(each_engine: Engine) -> None:
    rows = log(4)
    clicks = each_engine.arrow(before(each_engine.from_arrow(rows)).order_by("row"))["clicks"].to_pylist()
    listed = rows.to_pylist()
    assert clicks == [
        sum(b["click"] for b in listed if b["user"] == r["user"] and b["time"] < r["time"]) for r in listed
    ]


def test_missing_values_come_last_in_an_order(each_engine: Engine) -> None:
    users = each_engine.arrow(each_engine.from_arrow(log(5)).order_by(_.user.asc(), "row").select("user"))[
        "user"
    ].to_pylist()
    known = [u for u in users if u is not None]
    assert users == sorted(known) + [None] * (ROWS - len(known))
    assert len(known) < ROWS


def kinds() -> pa.Table:
    """A column of each type, as expressions have them."""
    return pa.table(
        {
            "i8": pa.array([1, None], pa.int8()),
            "i32": pa.array([1, None], pa.int32()),
            "i64": pa.array([2**62, None], pa.int64()),
            "f32": pa.array([1.5, None], pa.float32()),
            "f64": pa.array([float("nan"), None], pa.float64()),
            "bool": [True, None],
            "text": ["", None],
            "binary": pa.array([b"\0x", None], pa.binary()),
            "list": pa.array([["x", None], None], pa.list_(pa.field("item", pa.string()))),
            "day": [date(2024, 1, 2), None],
            "zoned": pa.array([1_700_000_000_123_456, None], pa.timestamp("us", "UTC")),
            "unzoned": pa.array([1_700_000_000_123_456, None], pa.timestamp("us")),
            "struct": pa.array([{"a": 1, "b": "x"}, None], pa.struct([("a", pa.int64()), ("b", pa.string())])),
        }
    )


def same(one: pa.Table, other: pa.Table) -> bool:
    """Equal in types and values, NaN included."""
    return one.schema == other.schema and repr(one.to_pylist()) == repr(other.to_pylist())


def test_a_table_comes_back_from_memory_and_from_parquet_as_it_was(each_engine: Engine, tmp_path: Path) -> None:
    pq.write_table(kinds(), tmp_path / "all.parquet")
    for rows in (each_engine.from_arrow(kinds()), each_engine.parquet([tmp_path / "all.parquet"])):
        assert same(each_engine.arrow(rows.order_by(_.i64)), kinds())
    assert each_engine.arrow(each_engine.from_arrow(kinds().slice(0, 0))).equals(kinds().slice(0, 0))


def odd() -> pa.Table:
    """Types that files have and expressions do not."""
    return pa.table(
        {
            "large": pa.array(["x", None], pa.large_string()),
            "dictionary": pa.array(["x", None]).dictionary_encode(),
            "u8": pa.array([200, None], pa.uint8()),
            "u32": pa.array([2**32 - 1, None], pa.uint32()),
            "u64": pa.array([2**62, None], pa.uint64()),
            "nanos": pa.array([1_700_000_000_123_456_789, None], pa.timestamp("ns")),
            "zoned": pa.array([1_700_000_000_123_456_789, None], pa.timestamp("ns", "Europe/Berlin")),
            "millis": pa.array([1_700_000_000_123, None], pa.timestamp("ms")),
            "list": pa.array([[1], None], pa.large_list(pa.int32())),
            "nothing": pa.nulls(2),
        }
    )


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


def test_microseconds_of_a_timestamp(each_engine: Engine) -> None:
    moments = [datetime(1969, 12, 31, 23, 59, 59, 999_999), datetime(2024, 7, 1, 12, 0, 0, 5), None]
    table = pa.table(
        {"plain": pa.array(moments, pa.timestamp("us")), "zoned": pa.array(moments, pa.timestamp("us", "Asia/Tokyo"))}
    )
    rows = each_engine.from_arrow(table)
    micros = each_engine.arrow(
        rows.select(a=each_engine.micros(rows.plain), b=each_engine.micros(rows.zoned)).order_by("a")
    )
    expected = [-1, (moments[1] - datetime(1970, 1, 1)) // timedelta(microseconds=1), None]
    assert micros.to_pydict() == {"a": expected, "b": expected}


# Parquet


def write(folder: Path, **files: pa.Table) -> list[Path]:
    """A file a day, in the way of a log; folders name what the files do not have as a column."""
    paths = []
    for name, table in files.items():
        path = folder / f"day={name}" / "part [0].parquet"
        path.parent.mkdir()
        pq.write_table(table, path)
        paths.append(path)
    return paths


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
    assert list(footers.groups) == [frozenset({"nothing"})] and len(footers.notes) == 8


def test_names_that_spark_passes_over_are_refused(cluster_engine: Engine, tmp_path: Path) -> None:
    pq.write_table(log(1), tmp_path / "_part.parquet")
    with pytest.raises(DataError, match=r"_part.parquet: Spark leaves out"):
        cluster_engine.parquet([tmp_path / "_part.parquet"])


# Materialised tables, functions of groups


def test_what_is_materialised_is_read_once(each_engine: Engine, tmp_path: Path) -> None:
    files = write(tmp_path, one=log(1))
    materialised = each_engine.materialise(each_engine.parquet(files).filter(_.item > 0).mutate(twice=_.item * 2))
    files[0].unlink()
    items = [i for i in log(1)["item"].to_pylist() if i > 0]
    other = each_engine.materialise(materialised.filter(_.item > 3))
    each_engine.release(other)
    assert each_engine.arrow(materialised.order_by("row"))["twice"].to_pylist() == [2 * i for i in items]
    with pytest.raises(Exception, match=other.op().name):  # each engine says in its own way that there is no such table
        each_engine.arrow(other)


SPAN = pa.schema(
    [("user", pa.int64()), ("rows", pa.int64()), ("names", pa.list_(pa.string())), ("last", pa.timestamp("us", "UTC"))]
)


def test_a_function_of_groups(engines: Both) -> None:
    def span(group: pa.Table) -> pa.Table:
        user, moments = group["user"][0].as_py(), group["at"].to_pylist()
        names = sorted({tag for tag in group["tags"].to_pylist() if tag})
        return pa.Table.from_pylist([{"user": user, "rows": len(group), "names": names, "last": max(moments)}], SPAN)

    def spans(e: Engine) -> pa.Table:
        rows = e.from_arrow(log(6)).mutate(at=(_.time // 1_000_000).as_timestamp("s"))
        return e.arrow(e.map_groups(rows, "user", span, SPAN).order_by("user"))

    one, other = map(spans, engines)
    assert one.equals(other) and one.schema == other.schema
    assert sum(one["rows"].to_pylist()) == ROWS and one["user"].null_count == 1


def test_a_full_disk_is_no_fault_of_a_file(tmp_path: Path) -> None:
    files = write(tmp_path, one=log(1))
    with engine("local", tmp_path, 1) as running:
        assert isinstance(running, LocalEngine)
        rows = running.parquet(files)
        with pytest.raises(OSError) as error, running._translated_errors():
            running.con.raw_sql("COPY (SELECT range FROM range(1000000)) TO '/dev/full' (FORMAT csv)")
        assert error.value.errno == errno.ENOSPC
        running.con.raw_sql("SET memory_limit = '20MB'; SET max_temp_directory_size = '1MB'")
        many = rows.cross_join(rows.select(other="row")).cross_join(rows.select(third="row").limit(10))
        with pytest.raises(OSError) as error:
            running.materialise(
                many.mutate(key=(_.row * 7919 + _.other * 31 + _.third).cast("string").hexdigest("md5")).order_by("key")
            )
        assert error.value.errno == errno.ENOSPC and not isinstance(error.value, DataError)


def test_nothing_is_left_in_the_scratch_folder(tmp_path: Path, cluster_engine: Engine) -> None:
    for name in ("local", "cluster"):  # the second lives inside of the running session, and leaves it running
        with engine(name, tmp_path) as running:
            assert running.arrow(running.materialise(running.from_arrow(log(1)))).num_rows == ROWS
        assert list(tmp_path.iterdir()) == []
    assert cluster_engine.arrow(cluster_engine.from_arrow(log(1))).num_rows == ROWS
