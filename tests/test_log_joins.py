"""Tables of attributes as they were at each impression's moment: the newest row of a key that is not later."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from swrec_prod.engine.contract import Engine
from swrec_prod.errors import ConfigError, DataError
from swrec_prod.logs.parquet_log import PARQUET, ParquetOptions
from swrec_prod.strict import parse
from swrec_prod.zones import clock_of

pytestmark = pytest.mark.engine

MAY_1 = datetime(2024, 5, 1, tzinfo=UTC)
SECOND = 1_000_000
FIRST = int(MAY_1.timestamp()) * SECOND
AS_OF = {"file": "users.parquet", "by": "user", "as_of": "updated_at"}


def write(path: Path, **columns: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path


def read(raw: Path, on: Engine, **options: Any) -> pa.Table:
    chosen = ParquetOptions.model_validate({"log": "log.parquet", "join": [AS_OF]} | options)
    return on.arrow(PARQUET.read(on, PARQUET.locate(raw, raw, chosen), chosen).order_by(["row"]))


def test_the_newest_row_that_is_not_later(tmp_path: Path, each_engine: Engine) -> None:
    draw, rows = np.random.default_rng(5), 400
    log = pd.DataFrame(
        {"row": np.arange(rows), "user": draw.integers(0, 12, rows), "time": FIRST + draw.integers(0, 50, rows)}
    )
    changes = pd.DataFrame({"user": draw.integers(0, 10, 80), "updated_at": FIRST + draw.integers(-5, 60, 80)})
    changes = changes.drop_duplicates(ignore_index=True)
    # a value that is missing is as new as another
    changes["city"] = pd.Series([f"c{i}" if i % 7 else None for i in range(len(changes))], dtype=object)
    write(tmp_path / "log.parquet", **{name: log[name].to_numpy() for name in log})
    write(tmp_path / "users.parquet", **{name: changes[name].to_list() for name in changes})
    found = read(tmp_path, each_engine)
    wanted = pd.merge_asof(
        log.sort_values("time"), changes.sort_values("updated_at"), left_on="time", right_on="updated_at", by="user"
    ).sort_values("row")
    assert found["city"].to_pylist() == [None if pd.isna(city) else city for city in wanted["city"]]
    assert found.column_names == ["row", "user", "time", "city"] and found["time"].to_pylist() == log["time"].to_list()


@pytest.mark.parametrize(
    ("moments", "kind"),
    [
        ([0, 86_400], pa.int32()),
        ([0, 86_400], pa.timestamp("ms")),
        ([0, 86_400], pa.timestamp("ns", "Asia/Tokyo")),
        ([0, 1], pa.date32()),
    ],
)
def test_moments_of_every_kind(tmp_path: Path, each_engine: Engine, moments: list[int], kind: pa.DataType) -> None:
    first = {"s": 1, "ms": 1000, "ns": 10**9}.get(getattr(kind, "unit", "s"), 1)
    start = int(MAY_1.timestamp())
    days = [start // 86_400 + m for m in moments] if kind == pa.date32() else [(start + m) * first for m in moments]
    stored = pa.array(days, pa.int32() if kind in (pa.int32(), pa.date32()) else pa.int64()).cast(kind)
    write(tmp_path / "users.parquet", user=[1, 1], updated_at=stored, city=["before", "after"])
    at = [MAY_1 + timedelta(seconds=s) for s in (-1, 0, 86_399, 86_400)]
    write(tmp_path / "log.parquet", row=[0, 1, 2, 3], user=[1] * 4, time=at)
    found = read(tmp_path, each_engine, time={"unit": "s"})
    assert found["city"].to_pylist() == [None, "before", "before", "after"]


def test_snapshots_in_folders_of_days(tmp_path: Path, each_engine: Engine) -> None:
    for day, city in ((date(2024, 5, 1), "Oslo"), (date(2024, 5, 3), "Rome")):
        write(tmp_path / "users" / f"date={day}" / "p.parquet", user=[1], city=[city])
    at = [MAY_1 + timedelta(days=days) for days in (-1, 0, 1, 2)]
    write(tmp_path / "log.parquet", row=[0, 1, 2, 3], user=[1] * 4, time=at)
    found = read(tmp_path, each_engine, join=[{"file": "users/*/*.parquet", "by": "user", "as_of": "date"}])
    assert found["city"].to_pylist() == [None, "Oslo", "Oslo", "Rome"]


def test_a_date_begins_where_the_log_is(tmp_path: Path, each_engine: Engine) -> None:
    write(tmp_path / "users" / "date=2024-05-01" / "p.parquet", user=[1], city=["Oslo"])
    write(tmp_path / "items.parquet", user=[1, 1], day=[date(2024, 5, 1), date(2023, 1, 1)], price=[2.0, 1.0])
    at = [MAY_1 + timedelta(hours=hours) for hours in (3, 4, 5)]  # New York is four hours behind
    write(tmp_path / "log.parquet", row=[0, 1, 2], user=[1] * 3, time=at)
    joins = [
        {"file": "users/*/*.parquet", "by": "user", "as_of": "date"},
        {"file": "items.parquet", "by": "user", "as_of": "day"},
    ]
    chosen = ParquetOptions.model_validate({"log": "log.parquet", "join": joins}).at(clock_of("America/New_York"))
    found = each_engine.arrow(PARQUET.read(each_engine, PARQUET.locate(tmp_path, tmp_path, chosen), chosen))
    assert found.sort_by("row").select(["city", "price"]).to_pydict() == {
        "city": [None, "Oslo", "Oslo"],
        "price": [1.0, 2.0, 2.0],
    }
    (tmp_path / "users" / "date=2024-05-01").rename(tmp_path / "users" / "date=May")
    with pytest.raises(DataError, match=r"date=May \(as_of\) is no date, expected date=2024-05-01"):
        PARQUET.locate(tmp_path, tmp_path, chosen)


def test_two_rows_of_one_moment_are_refused(tmp_path: Path, each_engine: Engine) -> None:
    write(tmp_path / "log.parquet", row=[0], user=[1], time=[FIRST])
    write(tmp_path / "users.parquet", user=[1, 1, 7, 7], updated_at=[1, 2, FIRST, FIRST], city=["a", "b", "c", "d"])
    said = rf"users\.parquet: user, updated_at 7 {FIRST} is there more than once, expected one row each"
    with pytest.raises(DataError, match=said):
        read(tmp_path, each_engine)


def test_a_table_of_the_future_only_is_refused(tmp_path: Path, local_engine: Engine) -> None:
    write(tmp_path / "log.parquet", row=[0, 1], user=[1, 2], time=[FIRST, FIRST + 5 * SECOND])
    users = {"user": [1, 2], "city": ["a", "b"]}
    write(tmp_path / "users.parquet", updated_at=[FIRST + 9 * SECOND, FIRST + 6 * SECOND], **users)
    said = (
        r"users\.parquet: column 'updated_at' \(as_of\) begins at 2024-05-01 00:00:06\+00:00, "
        "after the last impression, so that nothing is joined; add the rows"
    )
    with pytest.raises(DataError, match=said) as told:
        read(tmp_path, local_engine)
    assert "\n" not in str(told.value)
    write(tmp_path / "users.parquet", updated_at=[FIRST + 9 * SECOND, FIRST + 5 * SECOND], **users)
    assert read(tmp_path, local_engine)["city"].to_pylist() == [None, "b"]


@pytest.mark.parametrize(
    ("join", "said"),
    [
        ({"as_of": "updated"}, r"users\.parquet: column 'updated', as_of, is missing; did you mean updated_at\?"),
        ({"as_of": "city"}, "column 'city' is string, expected timestamps, or whole numbers and options.time.unit"),
        ({"by": "usr"}, "the log: column 'usr', on which users.parquet is joined, is missing; did you mean user"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, local_engine: Engine, join: dict[str, str], said: str) -> None:
    write(tmp_path / "log.parquet", row=[0], user=[1], time=[FIRST])
    write(tmp_path / "users.parquet", user=[1], updated_at=[1], city=["a"])
    with pytest.raises(DataError, match=said):
        read(tmp_path, local_engine, join=[AS_OF | join])


def test_a_moment_is_no_key() -> None:
    with pytest.raises(ConfigError, match="as_of 'day' is one of `by`; leave it out there"):
        parse(ParquetOptions, {"join": [{"file": "a", "by": ["user", "day"], "as_of": "day"}]}, "options")
