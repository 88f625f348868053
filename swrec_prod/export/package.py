"""The package: what a server needs to score, in one folder `REPO/NAME/VERSION/`. This file is the format's definition.

    score.pt         TorchScript: a user, candidates and the index of a scenario -> scores
    schema.yaml      the features, with the heights of their tables
    vocab/           what the encoders were fitted on
    golden.parquet   held-out requests and the logits that they must get
    manifest.json    what it is, how it was measured, and the SHA-256 of every file above
    READY            the SHA-256 of manifest.json; written last

That is format 3; export/earlier_formats.py has the programs of those before, which are still opened.
A version is written once and never changed. TorchScript is code: serve packages of people you trust.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pydantic
import torch

from swrec_prod.config import Quantize
from swrec_prod.encoding.encoders import STATE, Encoders
from swrec_prod.errors import PackageError
from swrec_prod.files import remove_leftovers, temporary
from swrec_prod.strict import Strict, parse

EARLIER = ("sparse.pt", "dense.pt", "dense_one.pt")
FORMAT = 3  # that is written
PROGRAMS = {1: EARLIER, 2: EARLIER, FORMAT: ("score.pt",)}  # of every format that is opened
REQUIRED = ("schema.yaml", f"vocab/{STATE}", "golden.parquet")
LIBRARIES = ("torch", "fbgemm-gpu-cpu", "fbgemm-gpu", "torchrec")

_log = logging.getLogger(__name__)


class Parity(Strict):
    """How far a program is from what it must be on the golden rows: the largest difference of a logit, relative above
    1. Each with the bound that it was held to.

    mixed_eager: from the trained ranker (this is what quantising costs). one_mixed: from the trained scorer on the same
    embeddings, under every scenario (this is what folding costs); before format 3, of dense_one.pt from dense.pt.
    user_once: as requests, whose user is one row, from the same rows each with its user.
    """

    rows: int
    mixed_eager: float
    mixed_eager_bound: float
    one_mixed: float
    one_mixed_bound: float
    user_once: float | None = None
    user_once_bound: float | None = None


class FileEntry(Strict):
    """One file of a package."""

    sha256: str
    bytes: int


class Manifest(Strict):
    """manifest.json. causal: scores are split into interest and scenario (M-scan). history: the model reads behaviours;
    sequence: those of which feature (None: the first one of the schema).

    debias_strength: default c of the ranking score, for every scenario (schema.Scenario.names); {} for a model that is
    not causal. strength_range: the lowest and highest c that a request may ask for, see strength_range(); None: any.
    calibration: of the test rows, by task and scenario, the mean probability over the mean label: 1 is right; {} where
    it is not known. row_0: of the training rows' ids, which share is 0, by feature with a vocabulary; {} where it was
    not counted. trained_through: the last day whose rows changed the weights or chose them; None where it is not known.
    """

    format: Literal[1, 2, 3] = 3
    model: str
    options: dict[str, Any] = pydantic.Field(default_factory=dict)
    tasks: tuple[str, ...]
    causal: bool
    history: bool
    sequence: str | None = None
    debias_strength: dict[str, float] = pydantic.Field(default_factory=dict)
    strength_range: tuple[float, float] | None = None
    calibration: dict[str, dict[str, float]] = pydantic.Field(default_factory=dict)
    row_0: dict[str, float] = pydantic.Field(default_factory=dict)
    trained_through: date | None = None
    quantize: Quantize
    parity: Parity
    metrics: dict[str, Any] = pydantic.Field(default_factory=dict)
    libraries: dict[str, str] = pydantic.Field(default_factory=lambda: installed())
    files: dict[str, FileEntry] = pydantic.Field(default_factory=dict)


def installed() -> dict[str, str]:
    """Versions of the libraries that a program depends on, those that are installed."""
    libraries = {}
    for name in LIBRARIES:
        try:
            libraries[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return libraries


def strength_range(interest_NT: np.ndarray, strengths: Mapping[str, float]) -> tuple[float, float]:
    """The range of c: from the lowest to the highest of y_m of the golden rows, of all default c and of 0, and as much
    again on both sides.

    c is compared with y_m (score = sigmoid(y_s) (y_m - c)): far outside it only says how much y_s counts.
    """
    known = [0.0, *strengths.values(), *interest_NT.ravel().tolist()]
    width = max(known) - min(known)
    return min(known) - width, max(known) + width


def calibration_of(metrics: Mapping[str, Any], tasks: Sequence[str]) -> dict[str, dict[str, float]]:
    """Manifest.calibration, out of metrics.json; scenarios without a value are left out."""
    if not metrics:
        return {}
    by_task = metrics.get("tasks", {tasks[0]: metrics})
    values = {
        task: {name: of["calibration"] for name, of in record.get("scenarios", {}).items() if of.get("calibration")}
        for task, record in by_task.items()
    }
    return {task: of_scenarios for task, of_scenarios in values.items() if of_scenarios}


def destination(to: Path) -> Path:
    """The folder that a package is written to: `to` itself when it ends in a version, else its next version.

    Raises PackageError when the version exists or the name cannot be one.
    """
    path = to if is_version(to.name) else to / str(max(versions(to), default=0) + 1)
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]*", path.parent.name):
        raise PackageError(
            f"{to}: {path.parent.name!r} is no name; "
            "expected REPO/NAME or REPO/NAME/VERSION, NAME of letters, digits, _-."
        )
    if path.exists():
        raise PackageError(
            f"{path}: exists, and a version is never changed; the next free one is {max(versions(path.parent)) + 1}"
        )
    return path


def is_version(name: str) -> bool:
    """Whether `name` is a positive integer without leading zeros."""
    return re.fullmatch(r"[1-9][0-9]{0,17}", name) is not None


def versions(folder: Path) -> list[int]:
    """The versions in REPO/NAME, ascending, finished or not."""
    if not folder.is_dir():
        return []
    return sorted(int(p.name) for p in folder.iterdir() if p.is_dir() and is_version(p.name))


def ready_versions(folder: Path) -> list[int]:
    """The versions in REPO/NAME that are complete, ascending."""
    return [v for v in versions(folder) if (folder / str(v) / "READY").is_file()]


@contextmanager
def staged(path: Path) -> Iterator[Path]:
    """A folder beside `path` that becomes `path` when the block ends well, and vanishes when it does not.

    What killed exports of this version left is removed first. Unlike files.committed it never replaces: a rename
    onto a folder that holds something fails.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path)
    folder = temporary(path, "tmp")
    folder.mkdir()
    try:
        yield folder
        try:
            folder.rename(path)
        except OSError:
            raise PackageError(
                f"{path}: appeared while it was being written; export again for the next version"
            ) from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_files(
    folder: Path,
    program: torch.jit.ScriptModule,
    encoders: Encoders,
    golden: pa.Table,
    manifest: Manifest,
) -> None:
    """Fill `folder`: the program, schema.yaml and vocab/ of the encoders,
    the golden rows, the manifest, and READY last.
    """
    torch.jit.save(program, str(folder / "score.pt"))
    encoders.save(folder)
    pq.write_table(golden, folder / "golden.parquet", compression="zstd")
    entries = {
        name: FileEntry(sha256=_sha256(file), bytes=file.stat().st_size) for name, file in _files(folder).items()
    }
    text = manifest.model_copy(update={"files": entries}).model_dump_json(indent=1)
    (folder / "manifest.json").write_text(text + "\n")
    for file in folder.rglob("*"):
        _to_disk(file)
    (folder / "READY").write_text(_sha256(folder / "manifest.json") + "\n")
    _to_disk(folder / "READY")
    _to_disk(folder)


def verify_package(path: Path) -> Manifest:
    """The manifest of a complete and undamaged package; every file is read and compared with its checksum.

    Raises PackageError naming the file and what is wrong. Other library versions than at export are logged.
    """
    manifest = _read_manifest(path)
    files = _files(path)
    for name in (*PROGRAMS[manifest.format], *REQUIRED, *manifest.files):
        if name not in files:
            raise PackageError(f"{path / name}: missing; export or copy the package again")
    for name, file in files.items():
        if name in ("manifest.json", "READY"):
            continue
        if name not in manifest.files:
            raise PackageError(f"{file}: not listed in manifest.json; a package holds nothing but what was exported")
        _same(file, manifest.files[name].sha256, "manifest.json")
    _check_strengths(path / "manifest.json", manifest)
    _compare_libraries(path, manifest)
    return manifest


def _check_strengths(file: Path, manifest: Manifest) -> None:
    """c is a number, inside the range that requests may ask for."""
    low, high = manifest.strength_range or (-math.inf, math.inf)
    if manifest.strength_range is not None and not -math.inf < low <= high < math.inf:
        raise PackageError(f"{file}: strength_range is {low:g} to {high:g}; expected finite numbers, the lower first")
    for name, strength in manifest.debias_strength.items():
        if not (low <= strength <= high and math.isfinite(strength)):
            bounds = f"a finite number from {low:.4g} to {high:.4g}"
            raise PackageError(f"{file}: debias_strength.{name} is {strength:g}; expected {bounds}; export again")


def _read_manifest(path: Path) -> Manifest:
    if not path.is_dir():
        raise PackageError(f"{path}: no such package")
    for name in ("READY", "manifest.json"):
        if not (path / name).is_file():
            raise PackageError(f"{path / name}: missing; the export or copy did not finish")
    file = path / "manifest.json"
    _same(file, (path / "READY").read_text(errors="replace").strip(), "READY")
    try:
        data = json.loads(file.read_text())
    except ValueError as failure:
        raise PackageError(f"{file}: not valid JSON: {failure}") from None
    number = data.get("format") if isinstance(data, dict) else None
    if number not in PROGRAMS:
        raise PackageError(
            f"{file}: format version {number!r}; this program reads {min(PROGRAMS)} to {FORMAT}. "
            "Export again, or update the server"
        )
    return parse(Manifest, data, str(file), PackageError)


def _files(path: Path) -> dict[str, Path]:
    """Every file of the package by its name relative to `path`. Raises PackageError for links that lead out of it."""
    inside = path.resolve()
    files = {}
    for file in sorted(path.rglob("*")):
        if not file.resolve().is_relative_to(inside):
            raise PackageError(f"{file}: a link that leads out of the package, to {file.resolve()}")
        if not file.is_dir():
            files[file.relative_to(path).as_posix()] = file
    return files


def _same(file: Path, expected: str, source: str) -> None:
    actual = _sha256(file)
    if actual != expected:
        raise PackageError(
            f"{file}: checksum {actual[:12]}, but {source} says {expected[:12]}; "
            "the file is damaged, copy or export again"
        )


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _to_disk(path: Path) -> None:
    """Wait until the file or folder is on the disk,
    so that READY never survives a power cut that its package did not.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _compare_libraries(path: Path, manifest: Manifest) -> None:
    here = installed()
    for name, version in manifest.libraries.items():
        if name in here and here[name].partition("+")[0] != version.partition("+")[0]:
            _log.warning(
                "%s: exported with %s %s, loaded with %s; the golden rows decide", path, name, version, here[name]
            )
