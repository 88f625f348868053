"""Checkpoints written: by all ranks at once, beside their place, to the disk, checked, and committed by a rename."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn
from torchrec.optim.keyed import KeyedOptimizer

from swrec_prod.checkpoint.checksums import CHECKSUMS_FILE, Checksum, checksum_of, to_text
from swrec_prod.checkpoint.parts import InParts
from swrec_prod.checkpoint.state import CHECKED, STATE_FILE
from swrec_prod.errors import CheckpointError
from swrec_prod.files import to_disk

T = TypeVar("T")

METADATA = ".metadata"
TORCH_WRITER = ("inline_container", "PytorchStreamWriter")  # in what torch says of a file that it could not write
REMEDY = "make room or mend that, and run swrec train again: it goes on from the checkpoint before"


def save(folder: Path, step: int, model: nn.Module, optimizer: KeyedOptimizer, state: dict[str, Any]) -> Path:
    """Write a checkpoint of a sharded model; every rank calls this, and waits until it is whole and on the disk.

    state: JSON values, kept beside the tensors. Raises CheckpointError, on every rank, when it cannot be written.
    """
    return write(folder, step, content_of(model, optimizer), state)


def content_of(model: nn.Module, optimizer: KeyedOptimizer) -> dict[str, Any]:
    """The tensors of a checkpoint, as they are in memory."""
    return {"model": model.state_dict(), "optimizer": optimizer.state_dict()}


def write(
    folder: Path, step: int, content: dict[str, Any], state: dict[str, Any], group: dist.ProcessGroup | None = None
) -> Path:
    """As `save`, of tensors that nobody changes meanwhile. group: all ranks, for this alone (None: the default one)."""
    final, aside = folder / f"step-{step:08d}", folder / f".writing-step-{step:08d}"
    main = dist.get_rank() == 0
    try:
        with _failures(final):
            _together(lambda: _made_anew(aside) if main else None, group)
            dcp.save(content, checkpoint_id=aside, process_group=group, planner=InParts())
            checksums = _together(lambda: _own_checksums(aside), group)
            _together(lambda: _commit(aside, final, state, checksums) if main else None, group)
    except CheckpointError:
        if main:
            shutil.rmtree(aside, ignore_errors=True)
        raise
    return final


def check_writable(folder: Path, size: int) -> None:
    """Whether a checkpoint of `size` bytes can be written to `folder`, as far as that can be known before it is.

    Raises CheckpointError for a read-only place, or a disk with less room than that.
    """
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise CheckpointError(f"{folder}: cannot hold checkpoints: {there} is a file; choose another --out")
    if not os.access(there, os.W_OK | os.X_OK):
        raise CheckpointError(f"{folder}: cannot be written: {there} is read-only; choose another --out")
    free = shutil.disk_usage(there).free
    if free < size:
        needed = f"a checkpoint takes {size / 1e9:.2f} GB, and {free / 1e9:.2f} GB are free"
        raise CheckpointError(f"{folder}: no room: {needed}; make room, or choose another --out")


def _made_anew(aside: Path) -> None:
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)


def _own_checksums(aside: Path) -> dict[str, Checksum]:
    """Of the files that this rank has written, read again: what a page cache or a disk made of them counts."""
    rank = dist.get_rank()
    files = [*aside.glob(f"__{rank}_*"), *([aside / METADATA] if rank == 0 else [])]
    return {path.name: checksum_of(path) for path in files}


def _commit(aside: Path, final: Path, state: dict[str, Any], checksums: list[dict[str, Checksum]]) -> None:
    """The last files of a checkpoint, everything to the disk, and its name."""
    (aside / STATE_FILE).write_text(json.dumps({**state, CHECKED: "crc32"}, indent=1))
    known = {STATE_FILE: checksum_of(aside / STATE_FILE)}
    for of_rank in checksums:
        known |= of_rank
    (aside / CHECKSUMS_FILE).write_text(to_text(known))
    for path in (aside / STATE_FILE, aside / CHECKSUMS_FILE, aside):  # torch has brought its own files there
        to_disk(path)
    shutil.rmtree(final, ignore_errors=True)
    aside.rename(final)
    to_disk(final.parent)


def _together(action: Callable[[], T], group: dist.ProcessGroup | None) -> list[T]:
    """What every rank's action gave, on all ranks; the first error of any likewise, so that none is left waiting."""
    value: T | None = None
    failure: Exception | None = None
    try:
        value = action()
    except Exception as error:  # handed on below, on every rank
        failure = error
    everyone: list[Any] = [(value, failure)] * dist.get_world_size()
    if len(everyone) > 1:
        dist.all_gather_object(everyone, (value, failure), group=group)
    for _, failed in everyone:
        if failed is not None:
            raise failed
    return [value for value, _ in everyone]


@contextlib.contextmanager
def _failures(final: Path) -> Iterator[None]:
    """Turns what the system or torch says of a write into one line with the path."""
    try:
        yield
    except (OSError, RuntimeError, dcp.api.CheckpointException) as failure:
        reason = _reason(failure)
        if any(word in reason for word in TORCH_WRITER):  # it hides what the system said
            free = shutil.disk_usage(final.parent).free / 1e9
            reason = f"the disk took a part of a file only, {free:.2f} GB are free on it"
        raise CheckpointError(f"{final}: cannot be written: {reason}; {REMEDY}") from failure


def _reason(failure: BaseException | None) -> str:
    """The system's words, wherever among its causes an error has them; else torch's first line."""
    if isinstance(failure, dcp.api.CheckpointException):
        failure = next(iter(failure.failures.values()))[0]
    at = failure
    while at is not None:
        if isinstance(at, OSError) and at.strerror:
            return at.strerror
        at = at.__cause__ or at.__context__
    return next((line for line in str(failure).splitlines() if line.strip()), type(failure).__name__)
