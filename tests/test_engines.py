"""Both engines give the same values and the same Arrow schema for one expression, and the same errors for bad files."""

from __future__ import annotations

import errno
from collections.abc import Callable
from datetime import date, datetime, timedelta
from pathlib import Path

import ibis
import ibis.expr.types as ir
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from engine_tables import ROWS, log, same, write
from ibis import _

from swrec_prod.engine import engine
from swrec_prod.engine.contract import Engine
from swrec_prod.engine.local import LocalEngine
from swrec_prod.errors import DataError

pytestmark = pytest.mark.engine
Both = tuple[Engine, Engine]


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
            "list": pa.array([["x", None], None], pa.list_(pa.field("item", pa.string()))),
            "day": [date(2024, 1, 2), None],
            "zoned": pa.array([1_700_000_000_123_456, None], pa.timestamp("us", "UTC")),
            "unzoned": pa.array([1_700_000_000_123_456, None], pa.timestamp("us")),
            "struct": pa.array([{"a": 1, "b": "x"}, None], pa.struct([("a", pa.int64()), ("b", pa.string())])),
        }
    )


def test_a_table_comes_back_from_memory_and_from_parquet_as_it_was(each_engine: Engine, tmp_path: Path) -> None:
    pq.write_table(kinds(), tmp_path / "all.parquet")
    for rows in (each_engine.from_arrow(kinds()), each_engine.parquet([tmp_path / "all.parquet"])):
        assert same(each_engine.arrow(rows.order_by(_.i64)), kinds())
    assert each_engine.arrow(each_engine.from_arrow(kinds().slice(0, 0))).equals(kinds().slice(0, 0))


def test_bytes_in_memory_stay_bytes(each_engine: Engine) -> None:
    table = pa.table({"x": pa.array([b"\xff\0", None], pa.binary())})
    assert each_engine.arrow(each_engine.from_arrow(table).order_by("x")).equals(table)


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
