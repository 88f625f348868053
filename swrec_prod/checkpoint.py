"""Checkpoints: RUN_DIR/checkpoints/step-NNNNNNNN/, written by all ranks at once and readable at any number of ranks.

Each holds the tensors (torch.distributed.checkpoint) and state.json: where the reader was, what was best so far, the
sharding plan (to be read by people: a restore goes by the plan of its own ranks).
A checkpoint is written aside and committed by rename, so a folder named step-* is always whole.
"""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn
from torchrec.optim.keyed import KeyedOptimizer

from swrec_prod.checkpoint_parts import InParts
from swrec_prod.config import RunConfig
from swrec_prod.data.catalog import Catalog
from swrec_prod.data.manifest import MANIFEST, read_manifest
from swrec_prod.errors import CheckpointError, ConfigError, DataError
from swrec_prod.ranker import Ranker, build_ranker, resolve_run, with_debias
from swrec_prod.run_dir import GOES_ON, RunDir

STATE_FILE = "state.json"
WHAT_HELPS = "copy it again, or train again with --overwrite"


def save(folder: Path, step: int, model: nn.Module, optimizer: KeyedOptimizer, state: dict[str, Any]) -> Path:
    """Write a checkpoint of a sharded model; every rank calls this. state: JSON values, kept beside the tensors."""
    final = folder / f"step-{step:08d}"
    aside = folder / f".writing-step-{step:08d}"
    main = dist.get_rank() == 0
    if main:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
    dist.barrier()
    with _quiet():
        content = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
        dcp.save(content, checkpoint_id=aside, planner=InParts())
    if main:
        (aside / STATE_FILE).write_text(json.dumps(state, indent=1))
        shutil.rmtree(final, ignore_errors=True)
        aside.rename(final)
    dist.barrier()
    return final


def restore(path: Path, model: nn.Module, optimizer: KeyedOptimizer) -> dict[str, Any]:
    """Load tensors into a sharded model and its optimiser, at any number of ranks; gives the saved state."""
    state = read_state(path)
    content = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    with _quiet(), _named(path):
        dcp.load(content, checkpoint_id=path)
    model.load_state_dict(content["model"])
    optimizer.load_state_dict(content["optimizer"])
    return state


def restore_weights(path: Path, model: nn.Module) -> None:
    """Load the weights alone into a sharded model, at any number of ranks; every rank calls this."""
    read_state(path)
    content = {"model": model.state_dict()}
    with _quiet(), _named(path):
        dcp.load(content, checkpoint_id=path)
    model.load_state_dict(content["model"])


def load_weights(path: Path, ranker: Ranker) -> None:
    """Load the weights alone into an unsharded ranker, without a process group."""
    read_state(path)
    content = {"model": ranker.state_dict()}
    with _quiet(), _named(path):
        dcp.load(content, checkpoint_id=path, no_dist=True)
    ranker.load_state_dict(content["model"])


def load_run(run_dir: Path, data: Path | None = None) -> tuple[Ranker, RunConfig, Catalog]:
    """The trained ranker of a RUN_DIR with its best weights, unsharded and in eval mode, its configuration and its
    data. data: as in `config_of`.

    Raises CheckpointError when `run_dir` holds no checkpoint, its data have been prepared otherwise since, or its c is
    still to be fitted; ConfigError when it holds a model for every scenario.
    """
    config = config_of(run_dir, data)
    if config.strategy.name != "mix":
        models = ", ".join(RunDir(run_dir).scenario_models()) or "none yet"
        many = f"strategy {config.strategy.name} has a model for every scenario"
        raise ConfigError(f"{run_dir}: {many}; name one in {run_dir}/scenarios: {models}")
    if config.debias and config.debias.to_fit:
        raise CheckpointError(f"{run_dir}: c is not fitted yet; {GOES_ON}")
    catalog = Catalog.open(config.data.path)
    ranker = build_ranker(resolve_run(catalog.schema, config))
    load_weights(best(run_dir, catalog), ranker)
    return ranker.eval(), config, catalog


def config_of(run_dir: Path, data: Path | None = None) -> RunConfig:
    """What was trained in a RUN_DIR, nothing left open (`with_debias`), data.path where the data are now.

    data: the folder where they are; left out, they are looked for (RunDir.data_folders), and of several folders the one
    with the run's vocabularies is taken. Raises CheckpointError when it is no run, DataError when its data are gone.
    """
    run = RunDir(run_dir)
    config, info = run.config(), run.info()
    folders = [data] if data is not None else list(run.data_folders())
    prepared = [folder for folder in folders if (folder / MANIFEST).is_file()]
    if not prepared:
        wanted = data or (Path(info.data.path) if info else folders[0])
        remedy = "bring it back, or say where it is with --data FOLDER"
        raise DataError(f"{run_dir}: its prepared data are not in {wanted} (no {MANIFEST}); {remedy}")
    same = (folder for folder in prepared if info and read_manifest(folder).fingerprint == info.data.fingerprint)
    path = next(same, prepared[0])
    return with_debias(config.model_copy(update={"data": config.data.model_copy(update={"path": str(path)})}))


def best(run_dir: Path, catalog: Catalog) -> Path:
    """The checkpoint of a RUN_DIR that validated best.

    Raises CheckpointError when there is none yet, or it was trained on data that were prepared otherwise than
    `catalog`.
    """
    newest = latest(RunDir(run_dir).checkpoints)
    if newest is None:
        raise CheckpointError(f"{run_dir}: no checkpoint yet; {GOES_ON}")
    return newest.with_name(f"step-{read_state(newest, catalog)['fit']['best_step']:08d}")


def read_state(path: Path, catalog: Catalog | None = None) -> dict[str, Any]:
    """The state that was saved beside the tensors.

    Raises CheckpointError when the checkpoint is not there or not whole, or when `catalog` has other vocabularies than
    the data that it was trained on: its rows of the tables would stand for other values.
    """
    try:
        state = json.loads((path / STATE_FILE).read_text())
    except (FileNotFoundError, NotADirectoryError):
        raise CheckpointError(f"{path}: no checkpoint here (expected {STATE_FILE})") from None
    except json.JSONDecodeError as failure:
        raise CheckpointError(f"{path / STATE_FILE}: damaged: {failure}; {WHAT_HELPS}") from None
    trained_on = str(state.get("fingerprint"))
    if catalog is not None and trained_on != catalog.fingerprint:
        prints = f"fingerprint {trained_on[:12]}, now {catalog.fingerprint[:12]}"
        raise CheckpointError(
            f"{path}: trained before {catalog.root} was prepared otherwise ({prints}); "
            "train again, or prepare as before"
        )
    return state


def latest(folder: Path) -> Path | None:
    """The newest whole checkpoint in `folder`, or None."""
    return max(folder.glob("step-*"), default=None)


def keep_only(folder: Path, *paths: Path) -> None:
    """Delete every checkpoint but `paths`, and leftovers of killed writes. Called by one rank."""
    for checkpoint in [*folder.glob("step-*"), *folder.glob(".writing-step-*")]:
        if checkpoint not in paths:
            shutil.rmtree(checkpoint)


class _named:
    """Turns what torch says of a checkpoint that does not fit, or is damaged, into one line."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, failure: BaseException | None, trace: object) -> None:
        if isinstance(failure, (dcp.api.CheckpointException, RuntimeError, KeyError, ValueError)):
            reason = _first_line(failure)
            if any(word in reason for word in ("Size mismatch", "Missing key")):
                raise CheckpointError(f"{self.path}: does not fit this model: {reason}") from failure
            raise CheckpointError(f"{self.path}: damaged: {reason}; {WHAT_HELPS}") from failure


def _first_line(failure: BaseException) -> str:
    """What one rank's failure says; torch gathers those of all ranks."""
    if isinstance(failure, dcp.api.CheckpointException):
        failure = next(iter(failure.failures.values()))[0]
    return next((line for line in str(failure).splitlines() if line.strip()), type(failure).__name__)


def _quiet() -> warnings.catch_warnings:
    """torch warns of its own internals on every save and load:
    deprecated storage, a process group that is not needed.
    """
    return warnings.catch_warnings(action="ignore")
