"""A team's own Parquet logs: files, days, joins, times;
what is missing or of a wrong type is said with its file or column.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swrec_prod.engine.contract import Engine
from swrec_prod.errors import ConfigError, DataError
from swrec_prod.logs.folders import day_of
from swrec_prod.logs.parquet_log import PARQUET, ParquetOptions
from swrec_prod.prepare.data_file import DataFile

pytestmark = pytest.mark.engine

MAY_1 = 1_714_521_600  # 2024-05-01 00:00 UTC in seconds


def write(path: Path, **columns: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path


def options(**given_options: Any) -> ParquetOptions:
    return ParquetOptions.model_validate(given_options)


def read(raw: Path, on: Engine, **given_options: Any) -> pa.Table:
    chosen = options(**given_options)
    return on.arrow(PARQUET.read(on, PARQUET.locate(raw, Path("/nowhere"), chosen), chosen).order_by("time"))


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Two days of a log and tables of users and items; user 9 and item 30 are in no table."""
    folder = tmp_path / "raw"
    for day in (1, 2):
        seconds = MAY_1 + (day - 1) * 86_400 + np.array([10, 20, 30])
        users, items = pa.array([1, 2, 9], pa.int32()), pa.array(["10", "20", "30"])
        slot = pa.array([day, 2, 3], pa.int16())
        log = {
            "user_id": users,
            "item_id": items,
            "time": seconds * 1000,
            "scenario": slot,
            "click": pa.array([1, 0, 1], pa.int8()),
        }
        write(folder / "log" / f"day=2024-05-0{day}" / "part-0.parquet", **log)
    write(folder / "users.parquet", user_id=[1, 2, 3], city=["Oslo", "Bergen", "Oslo"])
    write(folder / "items" / "a.parquet", item_id=["10"], price=[1.5])
    write(folder / "items" / "b.parquet", item_id=["20"], price=[2.5])
    return folder


JOINS = [{"file": "users.parquet", "by": "user_id"}, {"file": "items/*.parquet", "by": ["item_id"]}]


def test_a_log_in_day_folders_is_joined_with_its_attributes(raw: Path, each_engine: Engine) -> None:
    table = read(raw, each_engine, log="log/**/*.parquet", join=JOINS, time={"unit": "ms"})
    assert sorted(table.column_names) == ["city", "click", "item_id", "price", "scenario", "time", "user_id"]
    seconds = [MAY_1 + day * 86_400 + s for day in (0, 1) for s in (10, 20, 30)]
    assert table["time"].to_pylist() == [s * 1_000_000 for s in seconds] and table["time"].type == pa.int64()
    assert table["user_id"].to_pylist() == [1, 2, 9] * 2
    assert table["city"].to_pylist() == ["Oslo", "Bergen", None] * 2
    assert table["price"].to_pylist() == [1.5, 2.5, None] * 2
    assert table["scenario"].to_pylist() == ["1", "2", "3", "2", "2", "3"]
    assert table["click"].to_pylist() == [1, 0, 1] * 2


def test_files_say_their_days(raw: Path) -> None:
    files = PARQUET.locate(raw, Path("/nowhere"), options(log="log/**/*.parquet", join=JOINS))
    days = {file.path.relative_to(raw).as_posix(): file.day for file in files}
    assert days == {
        "log/day=2024-05-01/part-0.parquet": date(2024, 5, 1),
        "log/day=2024-05-02/part-0.parquet": date(2024, 5, 2),
        "users.parquet": None,
        "items/a.parquet": None,
        "items/b.parquet": None,
    }


def test_one_day_is_read_alone(raw: Path, local_engine: Engine) -> None:
    chosen = options(log="log/**/*.parquet", join=JOINS, time={"unit": "ms"})
    files = PARQUET.locate(raw, Path("/nowhere"), chosen)
    some = tuple(file for file in files if file.day in (None, date(2024, 5, 2)))
    table = local_engine.arrow(PARQUET.read(local_engine, some, chosen))
    assert len(table) == 3 and min(table["time"].to_pylist()) == (MAY_1 + 86_410) * 1_000_000


@given(
    st.dates(date(1970, 1, 1), date(2099, 12, 31)),
    st.sampled_from(["day={:%Y-%m-%d}", "date={:%Y-%m-%d}", "dt={:%Y%m%d}", "ds={:%Y%m%d}"]),
)
def test_a_day_is_read_from_a_folder(day: date, folder: str) -> None:
    assert day_of(Path("log") / folder.format(day) / "part-0.parquet") == day
    assert day_of(Path("log") / f"log-{day:%Y-%m-%d}.parquet") == day_of(Path(f"{day:%Y%m%d}.parquet")) == day


@pytest.mark.parametrize(
    "name",
    [
        "part-0.parquet",
        "2024-05-01_2024-05-07.parquet",  # several days
        "part-99999999.parquet",
        "part-20241301.parquet",
        "9c20240501aa.parquet",
        "year=2024/part.parquet",
    ],
)
def test_a_path_need_not_say_a_day(name: str) -> None:
    assert day_of(Path(name)) is None


def test_a_folder_of_no_date_and_a_file_without_a_day_are_named(raw: Path) -> None:
    with pytest.raises(DataError, match="day=2024-02-30 is no date"):
        day_of(Path("day=2024-02-30/part-0.parquet"))
    write(raw / "log" / "more.parquet", time=[1])
    with pytest.raises(DataError, match=r"log/more\.parquet: its path says no day, but that of part-0\.parquet does"):
        PARQUET.locate(raw, Path("/nowhere"), options(log="log/**/*.parquet"))


@pytest.mark.parametrize(
    ("kind", "unit", "moment"),
    [
        (pa.int64(), "us", MAY_1 * 1_000_000),
        (pa.int64(), "ms", MAY_1 * 1000),
        (pa.int32(), "s", MAY_1),
        (pa.uint32(), "s", MAY_1),
        (pa.timestamp("ms"), "s", MAY_1 * 1000),
        (pa.timestamp("us", "UTC"), "s", MAY_1 * 1_000_000),
    ],
)
def test_moments_of_every_kind(tmp_path: Path, local_engine: Engine, kind: pa.DataType, unit: str, moment: int) -> None:
    path = write(tmp_path / "log.parquet", ts=pa.array([moment], pa.int64()).cast(kind))
    chosen = options(time={"column": "ts", "unit": unit})
    table = local_engine.arrow(PARQUET.read(local_engine, PARQUET.locate(path, tmp_path, chosen), chosen))
    value = table["ts"][0].as_py()
    assert (value if isinstance(value, int) else value.replace(tzinfo=UTC)) in (
        MAY_1 * 1_000_000,
        datetime(2024, 5, 1, tzinfo=UTC),
    )


def test_which_files_are_joined_is_settled_where_they_are_found(tmp_path: Path, local_engine: Engine) -> None:
    for day in (1, 2):  # called like the table of attributes
        write(tmp_path / f"day=2024-05-0{day}" / "users.parquet", time=[MAY_1 + (day - 1) * 86_400], user_id=[day])
    write(tmp_path / "users.parquet", user_id=[1, 2], city=["Oslo", "Rome"])
    for file in ("users.parquet", "*.parquet"):
        table = read(tmp_path, local_engine, join=[{"file": file, "by": "user_id"}], time={"unit": "s"})
        assert table.select(["user_id", "city"]).to_pydict() == {"user_id": [1, 2], "city": ["Oslo", "Rome"]}


def test_a_log_that_is_all_joined_is_told(tmp_path: Path) -> None:
    write(tmp_path / "log.parquet", time=[1], user_id=[1])
    with pytest.raises(
        DataError, match=r"no file matches options\.log .*, but for those that options\.join names: \*\.parquet"
    ):
        PARQUET.locate(tmp_path, tmp_path, options(join=[{"file": "*.parquet", "by": "user_id"}]))


def test_a_file_is_joined_once(raw: Path) -> None:
    twice = [{"file": "users.parquet", "by": "user_id"}, {"file": "user*.parquet", "by": "user_id"}]
    with pytest.raises(
        DataError, match=r"users\.parquet: options\.join finds it by 'users\.parquet' and again by 'user\*\.parquet'"
    ):
        PARQUET.locate(raw, raw, options(log="log/**/*.parquet", join=twice))


@pytest.mark.parametrize(
    "given_options",
    [
        {"log": "log/**/*.parquet", "join": [{"file": "truth/*/*.parquet", "by": "row"}]},
        {"log": "**/*.parquet"},
        {"log": "truth/**/*.parquet"},
    ],
)
def test_the_truth_of_a_simulation_is_refused(raw: Path, given_options: Mapping[str, Any]) -> None:
    write(raw / "truth" / "day=2024-05-01" / "part-0.parquet", row=[1], interest=[0.5])
    assert PARQUET.locate(raw, raw, options(log="truth/**/*.parquet"))  # a folder of this name is nothing by itself
    (raw / "simulation.yaml").write_text("seed: 1\n")
    with pytest.raises(DataError, match=r"truth/day=2024-05-01/part-0\.parquet: is the hidden truth of a simulation"):
        PARQUET.locate(raw, raw, options(**given_options))
    with pytest.raises(DataError, match="is the hidden truth of a simulation"):
        PARQUET.locate(raw / "truth", raw, options())
    assert PARQUET.locate(raw, raw, options(log="log/**/*.parquet", join=JOINS))


def test_a_file_without_the_time_is_named(tmp_path: Path) -> None:
    assert PARQUET.span is not None
    with pytest.raises(DataError, match=r"log\.parquet: column 'time', the time, is missing; did you mean times\?"):
        PARQUET.span(write(tmp_path / "log.parquet", times=[1]), options())


def test_rows_are_kept_by_values_of_the_log_and_of_attributes(raw: Path, local_engine: Engine) -> None:
    some: dict[str, Any] = {"log": "log/**/*.parquet", "join": JOINS, "time": {"unit": "ms"}}
    assert read(raw, local_engine, keep={"scenario": [1, 3]}, **some)["scenario"].to_pylist() == ["1", "3", "3"]
    assert read(raw, local_engine, keep={"city": ["Oslo"], "click": [1]}, **some)["user_id"].to_pylist() == [1, 1]


def test_a_key_that_attributes_hold_twice_fails_with_its_value(raw: Path, each_engine: Engine) -> None:
    write(raw / "users.parquet", user_id=[1, 2, 7, 7], city=["Oslo", "Bergen", "Rome", "Bari"])
    with pytest.raises(DataError, match=r"users\.parquet: user_id 7 is there more than once, expected one row each"):
        read(raw, each_engine, log="log/**/*.parquet", join=JOINS, time={"unit": "ms"})


def test_attributes_of_a_day_are_joined_by_two_columns(tmp_path: Path, local_engine: Engine) -> None:
    write(tmp_path / "log.parquet", time=[1, 2, 3], user_id=[1, 1, 2], week=[1, 2, 2])
    write(tmp_path / "users.parquet", user_id=[1, 1, 2], week=[1, 2, 1], level=["a", "b", "c"])
    table = read(tmp_path, local_engine, log="log.parquet", join=[{"file": "users.parquet", "by": ["user_id", "week"]}])
    assert table["level"].to_pylist() == ["a", "b", None]


@pytest.mark.parametrize(
    ("given_options", "said"),
    [
        ({"log": "logs/*.parquet"}, "no file matches options.log 'logs/*.parquet'"),
        ({"join": [{"file": "user.parquet", "by": "user_id"}]}, "no user.parquet here, which options.join names"),
        (
            {"join": [{"file": "users.parquet", "by": "user"}]},
            "the log: column 'user', on which users.parquet is joined, is missing; did",
        ),
        (
            {"join": [{"file": "users.parquet", "by": "item_id"}]},
            "users.parquet: column 'item_id', on which users.parquet is joined, is",
        ),
        (
            {"join": [{"file": "twice.parquet", "by": "user_id"}]},
            "twice.parquet: column 'click' is in the log too; rename one of them",
        ),
        (
            {"join": [{"file": "words.parquet", "by": "user_id"}]},
            "join column 'user_id' is int32 in the log and string in words.parquet",
        ),
        ({"time": {"column": "tim"}}, "column 'tim', the time, is missing; did you mean time?"),
        ({"time": {"column": "item_id"}}, "column 'item_id' is string, expected timestamps, or whole numbers"),
        ({"keep": {"slot": [1]}}, "column 'slot', which options.keep names, is missing; known: user_id"),
        ({"keep": {"click": ["yes"]}}, "column 'click' is int8, but options.keep has ['yes']"),
    ],
)
def test_what_is_wrong_is_named(raw: Path, local_engine: Engine, given_options: Mapping[str, Any], said: str) -> None:
    write(raw / "twice.parquet", user_id=[1], click=[1])
    write(raw / "words.parquet", user_id=["1"], level=[1])
    with pytest.raises(DataError, match=re.escape(said)):
        read(raw, local_engine, **({"log": "log/**/*.parquet"} | dict(given_options)))


def test_a_folder_is_needed(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="give their folder with --raw"):
        PARQUET.locate(None, tmp_path, options())
    with pytest.raises(DataError, match="absent: no such folder"):
        PARQUET.locate(tmp_path / "absent", tmp_path, options())


def test_misspelt_options_are_named() -> None:
    data = DataFile.load("parquet_logs")
    with pytest.raises(ConfigError, match=r"join\.0\.files: unknown key; did you mean file"):
        data.model_copy(update={"options": {"join": [{"file": "x", "by": "y", "files": "z"}]}}).parsed_options()
    with pytest.raises(ConfigError, match=r"\*\* is for `log` only"):
        data.model_copy(update={"options": {"join": [{"file": "**/x", "by": "y"}]}}).parsed_options()


@pytest.mark.parametrize("name", ["parquet_logs", "industrial"])
def test_example_data_files_name_options_that_exist(name: str) -> None:
    data = DataFile.load(name)
    chosen = data.parsed_options()
    assert isinstance(chosen, ParquetOptions)
    assert chosen.time.column == data.features.time and chosen.scenario == data.features.scenario.column
