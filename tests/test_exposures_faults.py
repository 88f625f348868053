"""The exposure log when something breaks: what is lost, and what is not."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest
from exposed import FIRST, PACKAGES, SECOND, answer, logged, rows_of
from runs import until

from swrec_prod.errors import ConfigError, DataError
from swrec_prod.exposures import converter, write_ahead
from swrec_prod.exposures.bounds import Bounds, usable
from swrec_prod.exposures.converter import convert_finished, remove_unbegun
from swrec_prod.exposures.log import Log
from swrec_prod.exposures.write_ahead import Segment, Taken


def test_a_segment_that_is_cut_short_anywhere_loses_its_last_batch_alone(tmp_path: Path):
    of = Log(tmp_path, PACKAGES)
    for number in range(2):
        of._write([answer(number)])
    of._segment.sync()
    [path] = (tmp_path / "wal").glob("*.arrow")
    data, one = path.read_bytes(), path.stat().st_size
    of.close()
    path.unlink()
    found = set()
    for cut in range(0, one, 97):
        copy = tmp_path / "copy.arrow"
        copy.write_bytes(data[: one - cut])
        taken = Taken.of(copy)
        try:
            found.add(taken.table().num_rows)
        except DataError:
            found.add(-1)  # not even its schema
        taken.remove()
    assert found == {2, 1, 0, -1} or found == {1, 0, -1}


def test_the_segment_that_a_log_writes_is_nobody_elses(tmp_path: Path):
    of = Log(tmp_path, PACKAGES)
    of._write([answer()])
    assert convert_finished(tmp_path) == 0
    of.close()
    assert convert_finished(tmp_path) == 1 and convert_finished(tmp_path) == 0
    assert not list((tmp_path / "wal").iterdir())


def test_a_segment_that_is_converted_again_is_in_the_log_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    of = Log(tmp_path, PACKAGES)
    of.add(answer())
    of.close()
    with monkeypatch.context() as patch:
        patch.setattr(Taken, "remove", Taken.give_back)  # as if it were killed before
        assert convert_finished(tmp_path) == 1
    assert convert_finished(tmp_path) == 1 and len(rows_of(tmp_path)) == 1


def test_what_is_no_segment_is_set_aside_and_the_others_are_converted(tmp_path: Path, capsys: pytest.CaptureFixture):
    (usable(tmp_path) / "0.arrow").write_bytes(b"something else")
    logged(tmp_path, answer())
    assert len(rows_of(tmp_path)) == 1 and (tmp_path / "wal" / "0.damaged").exists()
    assert "no segment of exposures" in capsys.readouterr().err


def test_segments_that_were_never_begun_are_removed(tmp_path: Path):
    left = usable(tmp_path) / "0.new"
    left.touch()
    remove_unbegun(tmp_path)
    assert not left.exists()


def test_a_segment_stays_where_the_disk_is_full_and_is_converted_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    of = Log(tmp_path, PACKAGES)
    of.add(answer())
    of.close()

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(converter, "convert", full)
        with pytest.raises(OSError, match="No space left"):
            convert_finished(tmp_path)
    assert convert_finished(tmp_path) == 1


def test_half_a_batch_is_taken_back_and_what_comes_later_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    of = Log(tmp_path, PACKAGES)
    of._write([answer(0)])
    write, calls = os.write, iter((100, -1))

    def full(file: int, data: memoryview) -> int:
        if (most := next(calls)) < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(file, data[:most])

    with monkeypatch.context() as patch:
        patch.setattr(write_ahead.os, "write", full)
        with pytest.raises(OSError, match="No space left"):
            of._write([answer(1)])
    of._write([answer(2)])
    of.close()
    convert_finished(tmp_path)
    assert [row["request_id"] for row in rows_of(tmp_path)] == ["r-0", "r-2"]


def test_a_disk_that_takes_nothing_drops_and_counts_and_never_raises(tmp_path: Path, monkeypatch, caplog):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Segment, "append", full)
    of = logged(tmp_path, *(answer(number) for number in range(5)))
    assert (of.logged, of.dropped, of.queued) == (0, 5, 0)
    assert [r.getMessage() for r in caplog.records if "exposures are dropped, 5 so far" in r.getMessage()]


def test_a_disk_that_is_slow_fills_the_buffer_and_what_is_more_is_dropped(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(Segment, "append", lambda *_: time.sleep(0.3))
    size = answer().bytes
    of = Log(tmp_path, PACKAGES, Bounds(buffer_mb=10 * size / (1 << 20)))
    for number in range(15):
        of.add(answer(number))
    assert of.dropped == 5
    until(lambda: of.logged == 10, "the buffer is written")
    of.add(answer())
    of.close()
    assert (of.logged, of.dropped) == (11, 5)


def test_segments_that_wait_for_too_long_stop_the_log_until_they_are_converted(tmp_path: Path):
    few = Bounds(waiting_mb=0.0001)
    of = Log(tmp_path, PACKAGES, few)
    of.add(answer())
    of.close()
    of = Log(tmp_path, PACKAGES, few)
    of.add(answer())
    of.close()
    assert of.dropped == 1
    convert_finished(tmp_path)
    assert logged(tmp_path, answer(), bounds=few).logged == 1


@pytest.mark.parametrize("bounds", [Bounds(segment_mb=0.001), Bounds(segment_seconds=0.01)])
def test_a_segment_ends_by_size_and_by_time(tmp_path: Path, bounds: Bounds):
    of = Log(tmp_path, PACKAGES, bounds)
    for number in range(2):
        of.add(answer(number))
        until(lambda n=number: of.logged > n, "it is written")
        until(lambda: of._segment is None, "the segment is full or old")
    of.close()
    assert len(list((tmp_path / "wal").glob("*.arrow"))) == 2


def test_a_folder_that_cannot_be_written_to_is_refused(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"exposures .*file: cannot be written to: Not a directory; give a folder"):
        usable(tmp_path / "file")


@pytest.mark.parametrize(
    ("text", "message"),
    [("bufer_mb=1", "'bufer_mb' is unknown; .*buffer_mb"), ("buffer_mb", "expected NAME=NUMBER"), ("a=b", "expected")],
)
def test_bounds_that_are_none_are_refused(text: str, message: str):
    with pytest.raises(ConfigError, match=message):
        Bounds.parsed([text])
    assert Bounds.parsed(["waiting_mb=2"]) == Bounds(waiting_mb=2.0)


def forever(folder: Path, told: multiprocessing.Queue) -> None:
    """Log answers until killed; tell of each 20."""
    of, number = Log(folder, PACKAGES), 0
    while True:
        for _ in range(20):
            of.add(answer(number, (FIRST, SECOND)))
            number += 1
        told.put((number, time.time()))
        time.sleep(0.01)


@pytest.mark.process
def test_a_process_that_is_killed_loses_a_second_at_most_and_repeats_nothing(tmp_path: Path):
    context = multiprocessing.get_context("spawn")
    told = context.Queue()
    process = context.Process(target=forever, args=(tmp_path, told))
    process.start()
    told.get(timeout=60)
    time.sleep(1.5)
    os.kill(process.pid, signal.SIGKILL)
    killed = time.time()
    process.join()
    numbers = [told.get(timeout=1) for _ in range(told.qsize())]
    before = max(number for number, moment in numbers if moment < killed - 1.0)
    convert_finished(tmp_path)
    rows = rows_of(tmp_path)
    assert len({row["event_id"] for row in rows}) == len(rows) == 2 * len({row["answer_id"] for row in rows})
    found = [int(row["request_id"][2:]) for row in rows[::2]]
    assert found == list(range(len(found))) and len(found) >= before
