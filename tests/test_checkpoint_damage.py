"""What is damaged is never trained on in silence: any byte of any file, files cut short or gone. And folders that
cannot be written to.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from runs import config_of, evaluated, history_of, predictions

from swrec_prod import checkpoint
from swrec_prod.checkpoint.checksums import CHECKSUMS_FILE, Checksum, from_text, to_text
from swrec_prod.checkpoint.verifying import verify
from swrec_prod.errors import CheckpointError
from swrec_prod.train.run import train

pytestmark = pytest.mark.slow  # trains


@pytest.fixture(scope="module")
def finished(prepared_age: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("finished") / "run"
    train(config_of(prepared_age, epochs=2), run)
    return run


@pytest.fixture
def cut_off(finished: Path, tmp_path: Path) -> Path:
    """The run before its metrics were written: it would go on from its newest checkpoint."""
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    (run / "metrics.json").unlink()
    return run


def newest(run: Path) -> Path:
    found = checkpoint.latest(run / "checkpoints")
    assert found is not None
    return found


def flipped(path: Path, position: int, bit: int) -> bytes:
    content = bytearray(path.read_bytes())
    content[position % len(content)] ^= 1 << bit
    return bytes(content)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_flipped_bit_of_any_file_is_found(finished: Path, data: st.DataObject) -> None:
    path = newest(finished)
    file = data.draw(st.sampled_from(sorted(path.iterdir())), "file")
    before = file.read_bytes()
    position, bit = data.draw(st.integers(0, len(before) - 1), "position"), data.draw(st.integers(0, 7), "bit")
    file.write_bytes(flipped(file, position, bit))
    try:
        with pytest.raises(CheckpointError, match="damaged") as failure:
            verify(path)
    finally:
        file.write_bytes(before)
    assert str(path) in str(failure.value) and "\n" not in str(failure.value)
    assert verify(path)


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "first byte": lambda file: file.write_bytes(flipped(file, 0, 0)),
    "middle byte": lambda file: file.write_bytes(flipped(file, file.stat().st_size // 2, 5)),
    "last byte": lambda file: file.write_bytes(flipped(file, -1, 7)),
    "cut short": lambda file: file.write_bytes(file.read_bytes()[:-1]),
    "empty": lambda file: file.write_bytes(b""),
    "longer": lambda file: file.write_bytes(file.read_bytes() + b"\0"),
    "gone": Path.unlink,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_any_damage_of_any_file_of_the_newest_sends_a_run_to_the_one_before(cut_off: Path, damage: str) -> None:
    whole = sorted((cut_off / "checkpoints").glob("step-*"))[0]
    names = [file.name for file in newest(cut_off).iterdir()]
    assert len(names) >= 4 and CHECKSUMS_FILE in names
    for name in names:
        file = newest(cut_off) / name
        before = file.read_bytes()
        DAMAGES[damage](file)
        said: list[str] = []
        assert checkpoint.find_whole(cut_off / "checkpoints", said.append) == (whole, [newest(cut_off)])
        assert len(said) == 1 and str(newest(cut_off)) in said[0] and f"using {whole.name} instead" in said[0]
        file.write_bytes(before)


def test_a_run_goes_on_from_the_newest_whole_checkpoint_and_says_so(finished: Path, cut_off: Path) -> None:
    damaged = newest(cut_off)
    tensors = next(damaged.glob("*.distcp"))
    tensors.write_bytes(flipped(tensors, tensors.stat().st_size // 2, 3))
    config = checkpoint.config_of(cut_off)
    train(config, cut_off)
    log = (cut_off / "log.txt").read_text()
    assert f"{damaged}: damaged: {tensors.name}: CRC-32" in log and f"instead of {damaged.name}" in log
    assert history_of(cut_off) == history_of(finished)
    np.testing.assert_array_equal(predictions(cut_off)["score_click"], predictions(finished)["score_click"])
    assert (damaged.parent / f"damaged-{damaged.name}").is_dir(), "for whoever wants to know how it came about"


def test_a_run_without_a_whole_checkpoint_is_not_begun_anew_in_silence(cut_off: Path) -> None:
    for path in (cut_off / "checkpoints").glob("step-*"):
        next(path.glob("*.distcp")).unlink()
    with pytest.raises(CheckpointError, match=r"damaged: .*; copy it again.* no checkpoint before it is whole \(1\)"):
        train(checkpoint.config_of(cut_off), cut_off)


def test_weights_that_are_damaged_are_not_scored_with(finished: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "copy"))
    for path in (run / "checkpoints").glob("step-*"):
        tensors = next(path.glob("*.distcp"))
        tensors.write_bytes(flipped(tensors, tensors.stat().st_size // 2, 0))
    with pytest.raises(CheckpointError, match=r"damaged: .*distcp: CRC-32 .*, expected"):
        evaluated(run)


def make_old(path: Path) -> None:
    """What earlier versions wrote."""
    (path / CHECKSUMS_FILE).unlink()
    state = json.loads((path / "state.json").read_text())
    for key in ("checksums", "data", "rows_a_step", "random"):
        state.pop(key, None)
    del state["fit"]["loss_sum"], state["fit"]["losses"]
    (path / "state.json").write_text(json.dumps(state))


@pytest.mark.parametrize("damage", ["cut short", "empty", "gone"])
@pytest.mark.parametrize("pattern", [".metadata", "*.distcp"])
def test_an_old_checkpoint_without_some_bytes_is_passed_over_too(cut_off: Path, damage: str, pattern: str) -> None:
    paths = sorted((cut_off / "checkpoints").glob("step-*"))
    for path in paths:
        make_old(path)
    DAMAGES[damage](next(newest(cut_off).glob(pattern)))
    said: list[str] = []
    assert checkpoint.find_whole(cut_off / "checkpoints", said.append) == (paths[0], paths[1:])
    assert len(said) == 2 and "damaged" in said[0] and "cannot be verified" in said[1]


def test_a_checkpoint_from_before_checksums_is_used_and_that_is_said(
    cut_off: Path, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (cut_off / "checkpoints").glob("step-*"):
        make_old(path)
    train(checkpoint.config_of(cut_off), cut_off)
    assert "saved without checksums, by an earlier version: it cannot be verified" in (cut_off / "log.txt").read_text()
    np.testing.assert_array_equal(predictions(cut_off)["score_click"], predictions(finished)["score_click"])
    capsys.readouterr()
    evaluated(cut_off)
    assert "cannot be verified" in capsys.readouterr().err


@given(
    st.dictionaries(
        st.from_regex(r"[a-z_.][a-z0-9_. ]{0,20}", fullmatch=True),
        st.builds(Checksum, st.integers(0, 2**32 - 1), st.integers(0, 2**50)),
    )
)
def test_checksums_are_read_as_they_were_written(checksums: dict[str, Checksum]) -> None:
    assert from_text(to_text(checksums)) == checksums


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file may have more than 4,096 bytes, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_without_room_is_one_line_and_leaves_the_checkpoint_before(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    from swrec_prod.checkpoint.writing import write
    from swrec_prod.train.distributed import process_group

    with process_group(1):
        import torch

        content = {"model": {"table": torch.zeros(10_000)}}
        before = write(tmp_path, 1, content, {})
        request.getfixturevalue("small_files")
        with pytest.raises(
            CheckpointError, match=r"step-00000002: cannot be written: (File too|the disk took).*; make room"
        ):
            write(tmp_path, 2, content, {})
    assert verify(before) and [path.name for path in tmp_path.iterdir()] == [before.name]


def test_a_folder_without_room_is_refused_before_the_first_step(
    prepared_age: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10))
    with pytest.raises(CheckpointError, match=r"checkpoints: no room: a checkpoint takes .* GB, and 0\.00 GB are free"):
        train(config_of(prepared_age), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_read_only_folder_is_refused_before_the_first_step(
    prepared_age: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # whoever runs tests as root may write anywhere
    with pytest.raises(CheckpointError, match=r"checkpoints: cannot be written: .* is read-only; choose another --out"):
        train(config_of(prepared_age), tmp_path / "run")
    assert not (tmp_path / "run").exists()
