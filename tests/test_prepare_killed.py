"""A prepare that is killed goes on where it stopped, and ends with the same bytes as one that was not."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from dated_log import (
    contents,
    damage_a_page,
    data_file,
    day,
    manifest_of,
    prepare_once,
    write_day,
    write_log,
    write_users,
)

from swrec_prod.prepare.run import prepare

pytestmark = pytest.mark.engine


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Three days."""
    return write_log(tmp_path / "raw", 3)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.mark.process
@pytest.mark.parametrize("extend", [False, True])
def test_a_killed_prepare_goes_on_where_it_stopped(raw: Path, out: Path, tmp_path: Path, extend: bool) -> None:
    changes = {"vocabularies": "extend"} if extend else {}
    raw = write_log(tmp_path / "raw", 12, rows=200)
    file = data_file(**changes)
    prepare(file, raw, tmp_path / "whole")
    config = tmp_path / "data.yaml"
    config.write_text(yaml.safe_dump(file.model_dump(mode="json", by_alias=True, exclude_defaults=True)))
    program = (
        "import sys, time\nfrom swrec_prod.prepare import write_local\nfrom swrec_prod.staging.staging import Staging\n"
        "from swrec_prod.cli import main\n"
        "write_local.CHUNK_ROWS = 200\nsave = Staging.save\n"
        "def slow(work):\n    save(work)\n    time.sleep(0.1 if len(work.days) < 5 else 60)\n"
        "Staging.save = slow\nmain()\n"
    )
    command = [sys.executable, "-c", program, "prepare", str(config), "--raw", str(raw), "--out", str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        journal, end = tmp_path / ".out.partial" / "journal.json", time.monotonic() + 60
        while not (journal.exists() and len(re.findall('"nulls"', journal.read_text())) >= 5):
            assert process.poll() is None and time.monotonic() < end, process.stdout.read() if process.stdout else ""
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    assert not out.exists()
    finished = {
        path: path.stat().st_mtime_ns for path in (tmp_path / ".out.partial").glob(f"day={day(1).year}-05-0[1-5]/*")
    }
    said: list[str] = []
    prepare(file, raw, out, progress=said.append)
    assert any("going on" in line for line in said)
    assert len(finished) == 5 and all(
        (out / path.relative_to(tmp_path / ".out.partial")).stat().st_mtime_ns == at for path, at in finished.items()
    )
    assert contents(out) == contents(tmp_path / "whole") and sorted(os.listdir(tmp_path)) == [
        "data.yaml",
        "out",
        "raw",
        "whole",
    ]


REQUESTS = "swrec_prod.prepare.run.held_out_requests"  # the last step but one


def kill(monkeypatch: pytest.MonkeyPatch, step: str, call: Callable[[], Any]) -> None:
    """End `call` as a kill does, where it calls the function with this dotted name."""

    def killed(*args: Any, **more: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(step, killed)
        call()


@pytest.mark.parametrize("added", [False, True])
def test_a_killed_prepare_whose_attributes_changed_begins_again(
    raw: Path, out: Path, tmp_path: Path, added: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if added:
        prepare_once(data_file(), raw, out)
        write_day(raw, 4)
    kill(monkeypatch, REQUESTS, lambda: prepare(data_file(), raw, out))
    write_users(raw, users=3)
    if added:
        shutil.copytree(out, tmp_path / "unbroken")
    said: list[str] = []
    prepare(data_file(), raw, out, progress=said.append)
    prepare(data_file(), raw, tmp_path / "unbroken")
    assert f"{out}: a prepare that was cut off begins again: users.parquet changed since it was prepared" in said
    assert contents(out) == contents(tmp_path / "unbroken")


@pytest.mark.parametrize("moment", ["vocabularies", "requests"])
def test_killed_while_it_extends_vocabularies(
    raw: Path, out: Path, tmp_path: Path, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = data_file(vocabularies="extend")
    prepare_once(file, raw, out)
    shutil.copytree(out, tmp_path / "unbroken")
    write_day(raw, 4)
    prepare(file, raw, tmp_path / "unbroken")
    step = "swrec_prod.encoding.encoders.pq.write_table" if moment == "vocabularies" else REQUESTS
    kill(monkeypatch, step, lambda: prepare(file, raw, out))
    prepare(file, raw, out)
    assert contents(out) == contents(tmp_path / "unbroken")


def test_a_prepared_day_that_is_damaged_while_work_on_it_is_cut_off_is_done_again(
    raw: Path, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare_once(data_file(), raw, out)
    shutil.copytree(out, tmp_path / "unbroken")
    write_day(raw, 4)
    prepare(data_file(), raw, tmp_path / "unbroken")
    kill(monkeypatch, REQUESTS, lambda: prepare(data_file(), raw, out))
    damage_a_page(out / f"day={day(2)}" / "part-00000.parquet")  # the unfinished work has a hard link to it
    prepare(data_file(), raw, out)
    assert contents(out) == contents(tmp_path / "unbroken")


def test_killed_between_its_last_two_steps(
    raw: Path, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare_once(data_file(), raw, tmp_path / "whole")
    prepare_once(data_file(), raw, out)
    write_day(raw, 4)
    rename = os.rename

    def killed(source: Path, target: Path) -> None:
        if target == out:
            raise KeyboardInterrupt
        rename(source, target)

    monkeypatch.setattr(os, "rename", killed)
    with pytest.raises(KeyboardInterrupt):
        prepare(data_file(), raw, out)
    monkeypatch.undo()
    (raw / "log" / f"day={day(1)}" / "part-0.parquet").unlink()  # what is prepared is all that is left of this day
    prepare(data_file(), raw, out)
    assert sorted(manifest_of(out)["days"]) == [str(day(number)) for number in (1, 2, 3, 4)]
