"""A dated log over its life: days are added, come late, change, vanish or are damaged,
and only what must be is prepared again.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from dated_log import (
    SCHEMA,
    contents,
    data_file,
    day,
    day_files,
    manifest_of,
    prepare_once,
    rows_of_day,
    write_day,
    write_log,
    write_users,
)

from swrec_prod.config import DataConfig, DayRanges
from swrec_prod.data.catalog import Catalog
from swrec_prod.encoding.encoders import Encoders
from swrec_prod.errors import ConfigError, DataError
from swrec_prod.files import temporary
from swrec_prod.prepare.run import prepare
from swrec_prod.staging.staging import only_writer

pytestmark = pytest.mark.engine

WITHOUT_HISTORIES = {"features": [feature for feature in SCHEMA["features"] if feature["kind"] != "sequence"]}


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Four days."""
    return write_log(tmp_path / "raw", 4)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def prepared(raw: Path, out: Path, **changes: Any) -> list[str]:
    """Prepare; what it said."""
    said: list[str] = []
    prepare(data_file(**changes), raw, out, progress=said.append)
    return said


def inodes(out: Path, *days: date) -> dict[str, tuple[int, int]]:
    """Inode and time of change of the files of days."""
    stats = {str(path.relative_to(out)): path.stat() for one in days for path in sorted((out / f"day={one}").iterdir())}
    return {name: (stat.st_ino, stat.st_mtime_ns) for name, stat in stats.items()}


def days_of(*numbers: int) -> list[date]:
    return [day(number) for number in numbers]


def test_adding_a_day_touches_only_that_day(raw: Path, out: Path) -> None:
    prepare_once(data_file(), raw, out)
    before, bytes_before = inodes(out, *days_of(1, 2, 3, 4)), day_files(out)
    write_day(raw, 5)
    said = prepared(raw, out)
    assert inodes(out, *days_of(1, 2, 3, 4)) == before
    assert day_files(out).items() > bytes_before.items() and len(day_files(out)) == 5
    assert said[0] == f"{day(5)}: new" and not any("again" in line for line in said)


@pytest.mark.parametrize("first", [1, 2])
def test_days_one_by_one_are_days_all_at_once(tmp_path: Path, first: int) -> None:
    for number in range(1, 5):
        write_log(tmp_path / "raw", number)
        if number >= first:
            before = inodes(tmp_path / "grown", *days_of(*range(1, number))) if number > first else {}
            prepared(tmp_path / "raw", tmp_path / "grown", fit_until=day(1))
            assert inodes(tmp_path / "grown", *days_of(*range(1, number))).items() >= before.items()
    prepared(tmp_path / "raw", tmp_path / "whole", fit_until=day(1))
    assert contents(tmp_path / "grown") == contents(tmp_path / "whole")


def test_running_again_is_up_to_date(raw: Path, out: Path) -> None:
    prepare_once(data_file(), raw, out)
    before = inodes(out, *days_of(1, 2, 3, 4)), contents(out)
    assert prepared(raw, out) == [f"{out}: up to date (240 rows)"]
    assert (inodes(out, *days_of(1, 2, 3, 4)), contents(out)) == before


def test_frozen_vocabularies_do_not_know_values_of_later_days(raw: Path, out: Path) -> None:
    prepare_once(data_file(), raw, out)
    vocabularies = {name: digest for name, digest in contents(out).items() if name.startswith(("vocab", "schema"))}
    write_day(raw, 5)
    prepared(raw, out)
    assert vocabularies.items() <= contents(out).items()
    assert {file["fitted_until"] for file in manifest_of(out)["files"]} == {str(day(2))}
    assert not {"new3", "new4", "new5"} & set(pq.read_table(out / "vocab" / "item.parquet")["value"].to_pylist())


def test_extended_vocabularies_put_values_of_earlier_days_behind_the_known_ones(raw: Path, out: Path) -> None:
    prepare_once(data_file(vocabularies="extend"), raw, out)
    known, rows = Encoders.load(out).tables["item"].values.to_pylist(), day_files(out)  # type: ignore[attr-defined]
    assert not {"new3", "new4"} & set(known)
    write_day(raw, 5)
    said = prepared(raw, out, vocabularies="extend")
    assert f"extending vocabularies by {day(3)}..{day(4)}" in said
    grown = Encoders.load(out).tables["item"].values.to_pylist()  # type: ignore[attr-defined]
    assert grown[: len(known)] == known and set(grown[len(known) :]) == {"new3", "new4"}
    assert day_files(out).items() > rows.items()
    fitted = {file["day"]: file["fitted_until"] for file in manifest_of(out)["files"]}
    assert fitted == {str(day(n)): str(day(2 if n < 5 else 4)) for n in range(1, 6)}
    assert Encoders.load(out).schema.feature("item").rows == len(grown) + 1
    last = pq.ParquetFile(out / f"day={day(5)}" / "part-00000.parquet").read()["item"].to_pylist()
    assert max(last) < len(grown) + 1


def test_new_values_must_be_frequent_enough_too(raw: Path, out: Path) -> None:
    features = [
        f | {"encoder": {"kind": "vocab", "min_count": 1000}} if f["name"] == "item" else f for f in SCHEMA["features"]
    ]
    for number in (4, 5):
        write_day(raw, number)
        prepared(raw, out, vocabularies="extend", schema={"features": features})
    assert Encoders.load(out).tables["item"].rows == 1


def test_days_are_judged_that_their_encoders_had_not_seen(raw: Path, out: Path) -> None:
    prepare_once(data_file(vocabularies="extend"), raw, out)
    write_day(raw, 5)
    prepared(raw, out, vocabularies="extend")
    catalog = Catalog.open(out)

    def judged_on(numbers: str) -> DataConfig:
        first, _, last = numbers.partition("..")
        text = f"{day(int(first))}..{day(int(last or first))}"
        return DataConfig(
            path=str(out), split="days", days=DayRanges(train="2024-01-01", valid="2024-01-02", test=text)
        )

    # encoded before they were fitted
    assert [file.day for file in catalog.files_of(judged_on("3..5"), "test")] == days_of(3, 4, 5)
    with pytest.raises(DataError, match=f"fitted on days up to {day(2)}"):
        catalog.files_of(judged_on("2..3"), "test")


def test_a_changed_file_is_named_and_the_days_behind_it_are_done_again(raw: Path, out: Path, tmp_path: Path) -> None:
    prepare_once(data_file(), raw, out)
    before = inodes(out, *days_of(1, 2))
    write_day(raw, 3, rows_of_day(33, 50, time=rows_of_day(3, 50)["time"]))
    said = prepared(raw, out)
    assert said[:2] == [
        f"{day(3)}: part-0.parquet changed since it was prepared",
        f"{day(4)}..{day(4)}: prepared again, as their histories reach back to {day(3)}",
    ]
    assert inodes(out, *days_of(1, 2)) == before
    prepared(raw, tmp_path / "fresh")
    assert contents(out) == contents(tmp_path / "fresh")


def test_without_histories_only_the_changed_day_is_done_again(raw: Path, out: Path, tmp_path: Path) -> None:
    prepared(raw, out, schema=WITHOUT_HISTORIES)
    before = inodes(out, *days_of(1, 2, 4))
    write_day(raw, 3, rows=50)
    prepared(raw, out, schema=WITHOUT_HISTORIES)
    assert inodes(out, *days_of(1, 2, 4)) == before
    prepared(raw, tmp_path / "fresh", schema=WITHOUT_HISTORIES)
    assert contents(out) == contents(tmp_path / "fresh")


def test_a_late_file_and_one_that_is_gone_are_changes_of_their_day(raw: Path, out: Path, tmp_path: Path) -> None:
    prepare_once(data_file(), raw, out)
    late = write_day(raw, 3, rows=20, part=1)
    assert prepared(raw, out)[0] == f"{day(3)}: part-1.parquet came late"
    prepared(raw, tmp_path / "fresh")
    assert contents(out) == contents(tmp_path / "fresh")
    late.unlink()
    assert prepared(raw, out)[0] == f"{day(3)}: part-1.parquet is gone"
    assert manifest_of(out)["rows"] == 240


def test_a_day_in_between_that_comes_late(raw: Path, out: Path, tmp_path: Path) -> None:
    kept = (raw / "log" / f"day={day(3)}").rename(tmp_path / "kept")
    prepared(raw, out)
    kept.rename(raw / "log" / f"day={day(3)}")
    assert prepared(raw, out)[:2] == [
        f"{day(3)}: new",
        f"{day(4)}..{day(4)}: prepared again, as their histories reach back to {day(3)}",
    ]
    prepared(raw, tmp_path / "fresh")
    assert contents(out) == contents(tmp_path / "fresh")


def test_a_day_that_the_log_no_longer_has_stays(raw: Path, out: Path) -> None:
    prepare_once(data_file(), raw, out)
    before, asked = inodes(out, *days_of(1, 2, 3, 4)), contents(out)["requests.parquet"]
    shutil.rmtree(raw / "log" / f"day={day(1)}")
    assert prepared(raw, out) == [f"{out}: up to date (240 rows)"]
    write_day(raw, 5)
    assert "requests.parquet stays as it is: the raw log no longer has all days" in prepared(raw, out)
    assert inodes(out, *days_of(1, 2, 3, 4)) == before and contents(out)["requests.parquet"] == asked
    assert sorted(manifest_of(out)["days"]) == [str(day(n)) for n in range(1, 6)]


def test_a_vanished_day_behind_a_changed_one_is_an_error(raw: Path, out: Path) -> None:
    prepare_once(data_file(), raw, out)
    before = contents(out)
    shutil.rmtree(raw / "log" / f"day={day(4)}")
    write_day(raw, 3, rows=50)
    with pytest.raises(
        DataError,
        match=f"day {day(3)} is new or changed, and {day(4)} behind it must be prepared again, but the raw log",
    ):
        prepared(raw, out)
    assert contents(out) == before


def test_other_inputs_are_named(raw: Path, out: Path) -> None:
    prepare_once(data_file(), raw, out)
    before = contents(out)
    with pytest.raises(DataError, match=r"was prepared from other inputs; .*\(the data file changed\)$"):
        prepared(raw, out, deduplicate=["user_id"])
    assert contents(out) == before and prepared(raw, out) == [f"{out}: up to date (240 rows)"]


def test_days_keep_the_attributes_that_they_were_prepared_with(raw: Path, out: Path, tmp_path: Path) -> None:
    prepare_once(data_file(), raw, out)
    before = contents(out)
    earlier = manifest_of(out)["source"]["raw"]
    write_users(raw, users=7)
    changed = "users.parquet changed since it was prepared: days that are prepared keep what was joined to them"
    assert prepared(raw, out) == [changed, f"{out}: up to date (240 rows)"]
    write_day(raw, 5)
    assert changed in prepared(raw, out)
    joined = {name: entry["attributes"] for name, entry in manifest_of(out)["days"].items()}
    assert joined == {str(day(n)): earlier for n in range(1, 5)} | {str(day(5)): manifest_of(out)["source"]["raw"]}
    assert earlier != manifest_of(out)["source"]["raw"]
    assert {name: digest for name, digest in contents(out).items() if name in before and name.startswith("day=")} == {
        name: digest for name, digest in before.items() if name.startswith("day=")
    }
    assert prepared(raw, out)[-1].endswith("up to date (300 rows)")


@pytest.mark.parametrize("number", [2, 4])
def test_a_damaged_day_is_done_again_alone(raw: Path, out: Path, number: int) -> None:
    prepare_once(data_file(), raw, out)
    whole = contents(out)
    others = [n for n in range(1, 5) if n != number]
    before, path = inodes(out, *days_of(*others)), out / f"day={day(number)}" / "part-00000.parquet"
    for content in (None, path.read_bytes()[:100]):
        path.unlink() if content is None else path.write_bytes(content)
        said = prepared(raw, out)
        assert said[0].startswith(f"repairing {day(number)}: {path}: ") and not any(
            "again" in line for line in said[1:]
        )
        assert inodes(out, *days_of(*others)) == before and contents(out) == whole


def test_a_damaged_day_that_the_log_no_longer_has_is_an_error(raw: Path, out: Path) -> None:
    prepare_once(data_file(), raw, out)
    shutil.rmtree(raw / "log" / f"day={day(3)}")
    (out / f"day={day(3)}" / "part-00000.parquet").unlink()
    before = contents(out)
    with pytest.raises(
        DataError, match=f"part-00000.parquet: missing, .*, but the raw log no longer has {day(3)}; bring it back"
    ):
        prepared(raw, out)
    assert contents(out) == before


def test_several_damaged_days_have_the_histories_of_the_days_between_them(raw: Path, out: Path) -> None:
    prepare_once(data_file(), raw, out)
    whole = contents(out)
    for number in (1, 3):
        (out / f"day={day(number)}" / "part-00000.parquet").unlink()
    prepared(raw, out)
    assert contents(out) == whole


def test_damaged_vocabularies_of_days_that_are_gone_are_an_error(raw: Path, out: Path) -> None:
    prepare_once(data_file(), raw, out)
    shutil.rmtree(raw / "log" / f"day={day(3)}")
    (out / "vocab" / "item.parquet").unlink()
    before = contents(out)
    with pytest.raises(
        DataError, match=f"item.parquet: missing, .*, but the raw log no longer has {day(3)}; bring it back"
    ):
        prepared(raw, out)
    assert contents(out) == before


def test_a_day_without_rows_is_a_day(raw: Path, out: Path) -> None:
    write_day(raw, 3, rows_of_day(3).slice(0, 0))
    prepared(raw, out)
    assert manifest_of(out)["days"][str(day(3))]["rows"] == 0 and not (out / f"day={day(3)}").exists()
    assert prepared(raw, out) == [f"{out}: up to date (180 rows)"]
    assert Catalog.open(out).days == days_of(1, 2, 4)


@pytest.mark.process
def test_only_one_prepare_writes_to_a_folder(raw: Path, out: Path, tmp_path: Path) -> None:
    hold = "import sys, time; from pathlib import Path; from swrec_prod.staging.staging import only_writer\n"
    hold += "with only_writer(Path(sys.argv[1])): print('locked', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", hold, str(out)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "locked\n"
        began = time.monotonic()
        with pytest.raises(DataError, match=f"{out}: another swrec prepare is writing it"):
            prepared(raw, out)
        assert (
            time.monotonic() - began < 30
            and other.poll() is None
            and sorted(os.listdir(tmp_path)) == [".out.lock", "raw"]
        )
        other.kill()
    prepared(raw, out)  # what was killed holds nothing
    assert sorted(os.listdir(tmp_path)) == ["out", "raw"]


def test_a_lock_that_its_holder_removed_before_it_was_taken_is_none(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flock, path = fcntl.flock, out.parent / f".{out.name}.lock"

    def late(file: Any, how: int) -> None:
        monkeypatch.undo()
        path.unlink()
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with only_writer(out):
        with pytest.raises(DataError, match="another swrec prepare is writing it"), only_writer(out):
            pass
        assert path.exists()


def test_an_unknown_engine_is_refused_before_anything_is_read(out: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"engine 'spark' is unknown; .*local.*cluster"):
        prepare(data_file(), tmp_path / "absent", out, engine="spark")


def test_a_folder_below_the_raw_log_is_no_part_of_it(raw: Path) -> None:
    options = {"options": {"log": "**/*.parquet", "join": [{"file": "users.parquet", "by": "user_id"}]}}
    (raw / ".hidden").mkdir()
    shutil.copy(raw / "log" / f"day={day(1)}" / "part-0.parquet", raw / ".hidden" / f"{day(1)}.parquet")
    prepared(raw, raw / "out", **options)
    assert prepared(raw, raw / "out", **options) == [f"{raw / 'out'}: up to date (240 rows)"]


@pytest.mark.process
def test_what_runs_on_another_machine_left_is_not_swept(raw: Path, out: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    mine, other = temporary(out, "old").name.removesuffix(str(os.getpid())), f".{out.name}.old-another-machine-"
    for prefix in (mine, other):
        (out.parent / f"{prefix}{ended.pid}").mkdir()
    prepared(raw, out)
    assert sorted(os.listdir(out.parent)) == [f"{other}{ended.pid}", "out", "raw"]


def test_the_order_of_keys_and_defaults_are_no_other_inputs() -> None:
    reordered = {"join": [{"by": "user_id", "file": "users.parquet"}], "keep": {}, "log": "log/**/*.parquet"}
    assert (
        data_file(options=reordered).identity()
        == data_file(vocabularies="freeze").identity()
        != data_file(fit_until=day(1)).identity()
    )
