"""What paths say of a log's rows: columns and days in names of folders; what Spark leaves there is no data."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import quote

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swrec_prod.engine.contract import Engine
from swrec_prod.errors import DataError
from swrec_prod.logs.folders import columns_of, day_of
from swrec_prod.logs.parquet_log import PARQUET, ParquetOptions
from swrec_prod.prepare.data_file import DataFile
from swrec_prod.prepare.run import prepare
from tests.dated_log import manifest_of, prepared_rows

pytestmark = pytest.mark.engine

MAY_1 = 1_714_521_600_000_000  # 2024-05-01 00:00 UTC
NULL = "__HIVE_DEFAULT_PARTITION__"


def write(path: Path, rows: int = 1, **columns: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    default = {"time": [MAY_1 + i for i in range(rows)], "user": list(range(rows)), "click": [1] * rows}
    pq.write_table(pa.table(default | columns), path)
    return path


def read(raw: Path, on: Engine, **options: Any) -> list[dict[str, Any]]:
    chosen = ParquetOptions.model_validate(options)
    table = PARQUET.read(on, PARQUET.locate(raw, raw, chosen), chosen)
    return on.arrow(table.order_by(list(table.columns))).to_pylist()


def test_columns_that_only_folders_have(tmp_path: Path, each_engine: Engine) -> None:
    for value in ("04", "a%2Fb %2B c", "São=1", NULL):
        write(tmp_path / f"scenario={value}" / "hour=07" / "part 1.parquet", rows=2)
    rows = read(tmp_path, each_engine)
    assert sorted((row["scenario"] or "", row["hour"], row["user"]) for row in rows) == [
        (value, "07", user) for value in ("", "04", "São=1", "a/b + c") for user in (0, 1)
    ]


def test_the_columns_are_those_that_duckdb_finds(tmp_path: Path, each_engine: Engine) -> None:
    for i in range(30):
        write(tmp_path / f"scenario={i % 7}" / f"city={'Rome' if i % 3 else NULL}" / f"{i}.parquet", user=[i])
    wanted = duckdb.sql(
        f"SELECT user, scenario, city FROM read_parquet('{tmp_path}/**/*.parquet', hive_types_autocast=false)"
    ).fetchall()
    found = [(row["user"], row["scenario"], row["city"]) for row in read(tmp_path, each_engine)]
    assert sorted(found) == sorted(wanted)


def test_a_column_without_a_type_in_some_files_goes_along(tmp_path: Path, each_engine: Engine) -> None:
    write(tmp_path / "scenario=a" / "p.parquet", price=[1.5])
    write(tmp_path / "scenario=b" / "p.parquet", price=pa.nulls(1))
    write(tmp_path / "scenario=c" / "p.parquet")
    found = [(row["scenario"], row["price"]) for row in read(tmp_path, each_engine)]
    assert sorted(found) == [("a", 1.5), ("b", None), ("c", None)]


def test_a_column_of_the_files_is_theirs(tmp_path: Path, each_engine: Engine) -> None:
    write(tmp_path / "scenario=04" / "p.parquet", scenario=[4])
    assert [row["scenario"] for row in read(tmp_path, each_engine)] == ["4"]


@given(st.dictionaries(st.text("abc", min_size=1), st.text(min_size=1, max_size=8), max_size=4))
def test_escapes_are_decoded(columns: dict[str, str]) -> None:
    assert columns_of([f"{key}={quote(value, safe='')}" for key, value in columns.items()]) == columns


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_a_day_in_three_folders(tmp_path: Path, order: tuple[int, ...]) -> None:
    parts = ["year=2024", "month=5", "day=01"]
    path = write(tmp_path.joinpath(*(parts[i] for i in order), "scenario=1", "p.parquet"))
    (file,) = PARQUET.locate(tmp_path, tmp_path, ParquetOptions())
    assert (file.path, file.day, file.columns) == (path, date(2024, 5, 1), (("scenario", "1"),))


def test_a_part_of_a_date_is_an_ordinary_column() -> None:
    assert day_of(Path("year=2024/week=18/p.parquet")) is None
    assert columns_of(["year=2024", "week=18"]) == {"year": "2024", "week": "18"}
    assert columns_of(["day=2024-05-01", "hour=13"]) == {"hour": "13"}
    with pytest.raises(DataError, match="year=2024/month=02/day=30 is no date"):
        day_of(Path("year=2024/month=02/day=30/p.parquet"))


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        ("scenario=1/a.parquet", "z.parquet", "its folders name no column, those of .*a.parquet the columns scenario"),
        ("x=1/a.parquet", "y=2/b.parquet", "its folders name the columns y, those of .*a.parquet the columns x"),
        ("x=1/x=2/a.parquet", "x=1/x=3/a.parquet", "x=1/x=2: column 'x' is in the path twice"),
    ],
)
def test_folders_of_different_columns_are_named(tmp_path: Path, one: str, other: str, said: str) -> None:
    write(tmp_path / one)
    write(tmp_path / other)
    with pytest.raises(DataError, match=said) as told:
        PARQUET.locate(tmp_path, tmp_path, ParquetOptions())
    assert "\n" not in str(told.value)


def test_a_column_of_some_files_only_is_named(tmp_path: Path, each_engine: Engine) -> None:
    write(tmp_path / "slot=1" / "a.parquet")
    write(tmp_path / "slot=2" / "b.parquet", slot=["2"])
    with pytest.raises(DataError, match=r"b\.parquet: column 'slot' is in the file, but for .*a\.parquet it is in the"):
        read(tmp_path, each_engine)
    (tmp_path / "slot=2" / "b.parquet").unlink()
    write(tmp_path / "slot=1" / "a.parquet", Slot=["1"])
    with pytest.raises(DataError, match=r"a\.parquet: column 'Slot' and column 'slot' \(in a folder's name\) differ"):
        read(tmp_path, each_engine)


LEFTOVERS = [
    "_SUCCESS",
    "_committed_17",
    "_started_17",
    ".p.parquet.crc",
    "p.parquet.crc",
    "._tmp.parquet",
    "_temporary/0/task/p.parquet",
    ".hidden/p.parquet",
    "_metadata",
]


def test_what_spark_leaves_is_no_data(tmp_path: Path, local_engine: Engine) -> None:
    log, users = write(tmp_path / "log" / "p.parquet"), write(tmp_path / "users" / "p.parquet")
    for folder in (log.parent, users.parent):
        for name in LEFTOVERS:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(b"no data")
    chosen = ParquetOptions.model_validate({"log": "log/**/*", "join": [{"file": "users/*", "by": "user"}]})
    assert [file.path for file in PARQUET.locate(tmp_path, tmp_path, chosen)] == [log, users]
    spelt = write(tmp_path / "_mine" / "_p.parquet")
    for pattern, found in (("_mine/*.parquet", []), ("_mine/_p.parquet", [spelt]), ("log/**/*", [log])):
        chosen = ParquetOptions.model_validate({"log": pattern})
        if found:
            assert [file.path for file in PARQUET.locate(tmp_path, tmp_path, chosen)] == found
        else:
            with pytest.raises(DataError, match="no file matches"):
                PARQUET.locate(tmp_path, tmp_path, chosen)


def data_file() -> DataFile:
    schema = {
        "name": "folders",
        "time": "time",
        "user": "user",
        "scenario": {"column": "scenario"},
        "labels": [{"name": "click", "column": "click"}],
        "features": [{"name": "city", "kind": "id", "side": "user", "encoder": "vocab"}],
    }
    return DataFile.model_validate({"source": "parquet", "schema": schema})


def test_a_log_of_folders_is_prepared_and_grows(tmp_path: Path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    for day in (1, 2):
        for scenario in ("04", "05"):
            folder = raw / "year=2024" / "month=05" / f"day=0{day}" / f"scenario={scenario}" / "city=Rome"
            write(folder / "p.parquet", time=[MAY_1 + (day - 1) * 86_400_000_000], click=[int(scenario == "04")])
    prepare(data_file(), raw, out)
    assert {day: list(of) for day, of in manifest_of(out)["scenarios"].items()} == {
        f"2024-05-0{day}": ["04", "05"] for day in (1, 2)
    }
    assert prepared_rows(out)["city"].to_pylist() == [1] * 4
    said: list[str] = []
    (raw / "year=2024" / "month=05" / "day=02" / "scenario=05").rename(raw / "gone")
    (raw / "gone" / "city=Rome" / "p.parquet").unlink()
    prepare(data_file(), raw, out, progress=said.append)
    assert any(line.startswith("2024-05-02: scenario=05/city=Rome/p.parquet is gone") for line in said)
    # the value is of the rows, even where all files of a day share the folder
    folder = raw / "year=2024" / "month=05" / "day=02" / "scenario=04"
    folder.rename(folder.with_name("scenario=05"))
    prepare(data_file(), raw, out, progress=said.append)
    assert list(manifest_of(out)["scenarios"]["2024-05-02"]) == ["05"]
