"""Bad input and bad luck: every fault is one line that names file and column, or is counted;
never half a dataset that looks whole.
"""

from __future__ import annotations

import errno
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from dated_log import (
    MIDNIGHT,
    contents,
    damage_a_page,
    data_file,
    day,
    manifest_of,
    prepare_once,
    prepared_rows,
    rows_of_day,
    write_day,
    write_log,
)

from swrec_prod.engine.local import LocalEngine
from swrec_prod.errors import DataError
from swrec_prod.prepare.run import prepare

pytestmark = pytest.mark.engine


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Three days."""
    return write_log(tmp_path / "raw", 3)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def refused(raw: Path, out: Path, *said: str, **changes: Any) -> str:
    """Preparing is a DataError of one line that has all of `said`, and leaves OUT as it was."""
    before = contents(out) if out.exists() else None
    with pytest.raises(DataError) as told:
        prepare(data_file(**changes), raw, out)
    message = str(told.value)
    assert "\n" not in message and all(part in message for part in said), message
    assert (contents(out) if out.exists() else None) == before
    return message


def values(column: str, **at: Any) -> list[Any]:
    """The values of a column of day 3, those at the positions `i<number>` replaced."""
    found = rows_of_day(3)[column].to_pylist()
    for position, value in at.items():
        found[int(position[1:])] = value
    return found


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    "fault", [truncate, damage_a_page, lambda p: p.write_bytes(b""), lambda p: p.write_text("user_id,time\n1,2\n")],
    ids=["truncated", "page", "empty", "csv"],
)  # fmt: skip
@pytest.mark.parametrize("added", [False, True])
def test_a_damaged_file_is_named(raw: Path, out: Path, fault: Callable[[Path], None], added: bool) -> None:
    path = raw / "log" / f"day={day(3)}" / "part-0.parquet"
    if added:
        kept = path.parent.rename(raw.parent / "kept")
        prepare_once(data_file(), raw, out)
        kept.rename(path.parent)
    fault(path)
    refused(raw, out, str(path))


def test_a_mended_file_is_prepared_and_the_rest_goes_on(raw: Path, out: Path, tmp_path: Path) -> None:
    prepare_once(data_file(), raw, tmp_path / "whole")
    path = raw / "log" / f"day={day(3)}" / "part-0.parquet"
    content = path.read_bytes()
    truncate(path)
    refused(raw, out, str(path))
    path.write_bytes(content)
    prepare(data_file(), raw, out)
    assert contents(out) == contents(tmp_path / "whole")


@pytest.mark.parametrize("moment", ["fitting", "writing", "finished"])
@pytest.mark.parametrize("vanishes", [True, False])
def test_a_file_that_vanishes_or_changes_mid_run_is_named(
    raw: Path, out: Path, moment: str, vanishes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = raw / "log" / f"day={day(2)}" / "part-0.parquet"
    at = {"fitting": "training_rows.fit", "writing": "write_local.latest_before", "finished": "run.held_out_requests"}
    step = at[moment]
    original = resolve_name(f"swrec_prod.prepare.{step}")

    def disturbed(*args: Any, **more: Any) -> Any:
        if vanishes:
            path.unlink(missing_ok=True)
        else:
            write_day(raw, 2, rows=50)
        return original(*args, **more)

    monkeypatch.setattr(f"swrec_prod.prepare.{step}", disturbed)
    refused(raw, out, str(path))
    assert not out.exists()
    monkeypatch.undo()
    write_day(raw, 2)
    prepare(data_file(), raw, out)
    assert manifest_of(out)["rows"] == 180


@pytest.mark.parametrize("added", [False, True])
@pytest.mark.parametrize(
    ("column", "number"),
    [("item", 5), ("author", "x"), ("price", "cheap"), ("clicked", "yes"), ("near", "a"), ("session", 3)],
)
def test_a_column_of_another_type_on_a_later_day_is_named(
    raw: Path, out: Path, added: bool, column: str, number: Any
) -> None:
    if added:
        prepare_once(data_file(), raw, out)
        path = write_day(raw, 4, **{column: [number] * 60})
    else:
        path = write_day(raw, 3, **{column: [number] * 60})
    refused(raw, out, str(path), f"column {column!r}", "expected")


def test_a_new_column_on_a_later_day_changes_nothing(raw: Path, out: Path, tmp_path: Path) -> None:
    prepare_once(data_file(), raw, tmp_path / "without")
    write_day(raw, 3, weather=["rain"] * 60)
    prepare(data_file(), raw, out)
    assert prepared_rows(out).equals(prepared_rows(tmp_path / "without"))


@pytest.mark.parametrize("column", ["scenario", "clicked", "w"])
def test_a_day_without_a_column_that_every_row_needs_is_refused(raw: Path, out: Path, column: str) -> None:
    prepare_once(data_file(), raw, out)
    path = write_day(raw, 4, rows_of_day(4).drop([column]))
    refused(raw, out, str(path), f"column {column!r}", "60")


def test_a_feature_that_an_added_day_lacks_is_missing_there_as_if_all_were_prepared_at_once(
    raw: Path, out: Path, tmp_path: Path
) -> None:
    prepare_once(data_file(), raw, out)
    write_day(raw, 4, rows_of_day(4).drop(["item", "session"]))
    prepare(data_file(), raw, out)
    assert manifest_of(out)["days"][str(day(4))]["nulls"]["item"] == 60
    prepare(data_file(fit_until=manifest_of(out)["fit"]["until"]), raw, tmp_path / "at-once")
    assert prepared_rows(out).equals(prepared_rows(tmp_path / "at-once"))


def test_a_column_that_one_of_the_days_lacks_is_missing_there_and_said(raw: Path, out: Path) -> None:
    write_day(raw, 3, rows_of_day(3).drop(["price"]))
    said: list[str] = []
    prepare(data_file(), raw, out, progress=said.append)
    assert manifest_of(out)["days"][str(day(3))]["nulls"]["price"] == 60
    assert sum(f"column 'price' is in 2 of 3 files" in line and f"day={day(3)}" in line for line in said) == 1  # noqa: F541


def test_missing_values_are_row_0_and_counted(raw: Path, out: Path) -> None:
    prepare(data_file(), raw, out)
    rows, users = pa.concat_tables([rows_of_day(number) for number in (1, 2, 3)]), 8
    gone = {name: rows[name].null_count for name in ("item", "near", "author", "price", "visits")}
    away = sum(user >= users for user in rows["user_id"].to_pylist())
    expected = {"item": gone["item"], "near": gone["near"], "author": gone["author"], "city": away}
    assert manifest_of(out)["nulls"] == expected | {
        "cost": gone["price"],
        "price": gone["price"],
        "age": away,
        "visits": 0,
    }
    prepared = prepared_rows(out)
    assert sum(bucket == 0 for bucket in prepared["cost"].to_pylist()) == gone["price"] > 0
    assert sum(hashed == 0 for hashed in prepared["author"].to_pylist()) == gone["author"] > 0


def test_nan_is_a_missing_value(raw: Path, out: Path) -> None:
    before = rows_of_day(3)["price"].null_count
    write_day(raw, 3, price=pa.array([float("nan") if v is None else v for v in rows_of_day(3)["price"].to_pylist()]))
    prepare(data_file(), raw, out)
    assert manifest_of(out)["days"][str(day(3))]["nulls"]["price"] == before > 0


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("user_id", None, "(user) has 1 missing values"),
        ("time", None, "(time) has 1 missing values"),
        ("scenario", None, "(scenario) has 1 missing values"),
        ("clicked", None, "has 1 values that are neither 0 nor 1"),
        ("clicked", 2, "has 1 values that are neither 0 nor 1"),
        ("w", None, "has 1 values that are no number >= 0"),
        ("w", -1.0, "has 1 values that are no number >= 0"),
        ("w", float("nan"), "has 1 values that are no number >= 0"),
        ("w", float("inf"), "has 1 values that are no number >= 0"),
        ("price", float("inf"), "has 1 values that are infinite"),
        ("visits", -5, "or below 0 where log1p is taken (the first at 2024-05-03 "),
    ],
)
def test_a_value_that_cannot_be_used_is_named_with_its_file(
    raw: Path, out: Path, column: str, value: Any, said: str
) -> None:
    path = write_day(raw, 3, **{column: pa.array(values(column, i7=value), rows_of_day(3).schema.field(column).type)})
    refused(raw, out, "parquet" if column == "time" else str(path), f"column {column!r}", said)


def test_a_row_without_a_time_on_an_added_day_is_named_with_its_file(raw: Path, out: Path) -> None:
    prepare_once(data_file(), raw, out)
    path = write_day(raw, 4, time=[None, *rows_of_day(4)["time"].to_pylist()[1:]])
    refused(raw, out, str(path), "column 'time' (time) has 1 missing values")


def test_times_in_the_future_are_named(raw: Path, out: Path) -> None:
    soon = datetime.now(UTC) + timedelta(days=3)
    path = raw / "log" / f"day={soon.date()}" / "part-0.parquet"
    path.parent.mkdir()
    pq.write_table(rows_of_day(3).set_column(1, "time", pa.array([soon] * 60)), path)
    refused(raw, out, str(path), "column 'time'", "in the future; is its unit right?")


@pytest.mark.parametrize("unit", ["us", "s"])
def test_times_in_a_wrong_unit_are_named(raw: Path, out: Path, unit: str) -> None:
    options = {
        "log": "log/**/*.parquet",
        "join": [{"file": "users.parquet", "by": "user_id"}],
        "time": {"column": "time", "unit": unit},
    }
    for number in (1, 2, 3):
        write_day(
            raw, number, time=[int(moment.timestamp() * 1000) for moment in rows_of_day(number)["time"].to_pylist()]
        )
    refused(raw, out, str(raw / "log"), "column 'time'", "is the unit or the offset wrong?", options=options)


def test_times_out_of_order_are_fine(raw: Path, out: Path, tmp_path: Path) -> None:
    prepare_once(data_file(), raw, tmp_path / "ordered")
    for number in (1, 2, 3):
        write_day(raw, number, rows_of_day(number).take(pa.array(np.random.default_rng(number).permutation(60))))
    prepare(data_file(), raw, out)
    assert prepared_rows(out).equals(prepared_rows(tmp_path / "ordered"))


def test_a_row_of_another_day_is_named(raw: Path, out: Path) -> None:
    prepare_once(data_file(), raw, out)
    path = write_day(raw, 4, time=values("time", i0=MIDNIGHT, i1=MIDNIGHT)[:2] + rows_of_day(4)["time"].to_pylist()[2:])
    refused(raw, out, str(path), f"column 'time' has rows of {day(1)}, but the file is of {day(4)} (utc_offset +00:00)")
    # also where the other day is prepared at the same time
    write_day(raw, 1, time=values("time", i0=MIDNIGHT + timedelta(days=1)))
    write_day(raw, 4)
    refused(raw, out, f"column 'time' has rows of {day(2)}, but the file is of {day(1)}")


@pytest.mark.parametrize("when", ["a day", "the requests", "the engine"])
def test_a_full_disk_is_told_and_work_goes_on_afterwards(
    raw: Path, out: Path, tmp_path: Path, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare_once(data_file(), raw, tmp_path / "whole")

    def full(*args: Any, **more: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    if when == "the engine":
        message = "Out of Range Error: IO Error: Could not write file: No space left on device"
        monkeypatch.setattr(LocalEngine, "materialise", full)
        monkeypatch.setattr(LocalEngine, "arrow", lambda *args: (_ for _ in ()).throw(OSError(errno.ENOSPC, message)))
    elif when == "a day":
        monkeypatch.setattr(pq.ParquetWriter, "write_table", full)
    else:
        monkeypatch.setattr("swrec_prod.prepare.run.held_out_requests", full)
    refused(raw, out, "the disk is full; make room and run swrec prepare again")
    assert not out.exists()
    monkeypatch.undo()
    prepare(data_file(), raw, out)
    assert contents(out) == contents(tmp_path / "whole")


@pytest.mark.parametrize("column", ["item", "near", "author", "price", "visits", "session"])
@pytest.mark.parametrize("added", [False, True])
def test_a_column_without_a_value_on_one_day_is_missing_there(
    raw: Path, out: Path, tmp_path: Path, column: str, added: bool
) -> None:
    if added:
        prepare_once(data_file(), raw, out)
    number = 4 if added else 3
    write_day(raw, number, **{column: pa.nulls(60)})  # no type, as pandas writes it
    prepare(data_file(), raw, out)
    write_day(raw, number, **{column: pa.nulls(60, rows_of_day(number).schema.field(column).type)})
    prepare(data_file(fit_until=day(2)), raw, tmp_path / "typed")
    assert prepared_rows(out).equals(prepared_rows(tmp_path / "typed"))


@pytest.mark.parametrize("column", ["item", "near", "author", "price", "visits", "session"])
def test_a_column_without_a_value_on_any_day_is_missing(raw: Path, out: Path, column: str) -> None:
    for number in (1, 2, 3):
        write_day(raw, number, **{column: pa.nulls(60)})
    prepare(data_file(), raw, out)
    if column in manifest_of(out)["nulls"]:
        assert manifest_of(out)["nulls"][column] == 180


@pytest.mark.process
def test_the_command_exits_with_2_and_one_line(raw: Path, out: Path, tmp_path: Path) -> None:
    config = tmp_path / "data.yaml"
    config.write_text(yaml.safe_dump(data_file().model_dump(mode="json", by_alias=True, exclude_defaults=True)))
    path = raw / "log" / f"day={day(2)}" / "part-0.parquet"
    truncate(path)
    command = [sys.executable, "-m", "swrec_prod.cli", "prepare", str(config), "--raw", str(raw), "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and str(path) in done.stderr and "Traceback" not in done.stderr and not out.exists()
