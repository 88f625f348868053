"""One training run: prepared data and a RunConfig in, a RUN_DIR out. The same under one process, torchrun and TorchX."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch.distributed as dist

from swrec_prod import checkpoint
from swrec_prod.config import RunConfig, SplitName
from swrec_prod.data.batch import Position
from swrec_prod.data.catalog import Catalog
from swrec_prod.data.reader import Reader
from swrec_prod.errors import MetricError
from swrec_prod.evaluate.predict import score_rows
from swrec_prod.evaluate.predictions import write_predictions
from swrec_prod.evaluate.run import judge_rows
from swrec_prod.ranker import build_ranker, debias_of, layout_of
from swrec_prod.train.distributed import Ranks, gather_rows, process_group
from swrec_prod.train.folder import RunFolder
from swrec_prod.train.loop import Fit, FitState, judge
from swrec_prod.train.optim import make_optimizer
from swrec_prod.train.progress import RunLog, told
from swrec_prod.train.shard import shard


def train(config: RunConfig, out: Path, *, overwrite: bool = False) -> tuple[dict[str, Any], bool]:
    """Fit, restore the best weights, score the test rows; gives the metrics (also in out/metrics.json) and whether this is the main rank.

    A run that was cut off goes on from its last checkpoint. Raises ConfigError when `out` holds a finished run or one of
    another configuration, DataError when the prepared data are not as the configuration says, MetricError when training
    diverges. Nothing is written before data, model and `out` have been found to fit together.
    """
    catalog = Catalog.open(config.data.path)
    config = config.model_copy(update={"debias": debias_of(config)})  # run.yaml says what was trained, not what was left open
    folder = RunFolder(out)
    with process_group(config.train.threads) as ranks:
        _on_main(ranks, lambda: folder.check(config, overwrite=overwrite))
        newest = None if overwrite else checkpoint.latest(folder.checkpoints)
        state = FitState(**checkpoint.read_state(newest, catalog)["fit"]) if newest else FitState()
        readers = {part: make_reader(catalog, config, part, ranks, state.position) for part in get_args(SplitName)}
        fit = make_fit(catalog, config, readers, ranks)
        _on_main(ranks, lambda: folder.claim(config, overwrite=overwrite))  # only now: what is refused leaves nothing behind
        log = RunLog(out if ranks.is_main else None, readers["train"].rows, config.train.epochs)
        try:
            log.say(_opening(config, readers, ranks))
            if newest:
                checkpoint.restore(newest, fit.model, fit.optimizer)
                log.say(f"resuming from {newest.name}: {state.rows:,} rows trained")
            _fit(config, folder, catalog.fingerprint, fit, state, log)
            log.say(f"best: step {state.best_step}, {told(state.best)}; scoring {readers['test'].rows:,} test rows")
            scored = gather_rows(score_rows(fit.model, readers["test"].epoch(0), ranks.device), ranks)
            metrics = _on_main(ranks, lambda: _finish(config, folder, catalog, scored, state))
            log.say(f"wrote {out / 'metrics.json'} and {out / 'predictions.parquet'}")
            return metrics, ranks.is_main
        finally:
            log.close()


def make_reader(catalog: Catalog, config: RunConfig, part: SplitName, ranks: Ranks, start: Position) -> Reader:
    """This rank's reader of a part: shuffled and from `start` for training, in file order otherwise."""
    training = part == "train"
    return Reader(
        catalog,
        layout_of(catalog.schema, config),
        part,
        config.data,
        config.train.batch_size,
        shuffle=training,
        rank=ranks.rank,
        world_size=ranks.world_size,
        seed=config.train.seed,
        start=start if training else Position(),
        pin=ranks.device.type == "cuda",
    )


def make_fit(catalog: Catalog, config: RunConfig, readers: Mapping[str, Reader], ranks: Ranks) -> Fit:
    """A fresh sharded model with its optimiser and readers."""
    model = shard(build_ranker(catalog.schema, config, ranks.device), config.train, ranks)
    return Fit(model, make_optimizer(model, config.train), readers["train"], readers["valid"], ranks)


def save(folder: Path, fit: Fit, state: FitState, fingerprint: str) -> Path:
    """A checkpoint of the fit as it stands; every rank calls this. fingerprint: the prepared data's."""
    kept = {"fit": state.to_json(), "fingerprint": fingerprint, "plan": str(fit.model.plan)}
    return checkpoint.save(folder, state.step, fit.model, fit.optimizer, kept)


def _fit(config: RunConfig, folder: RunFolder, fingerprint: str, fit: Fit, state: FitState, log: RunLog) -> None:
    """Epochs until the budget or the patience is spent; leaves the best weights in the model."""
    patience = config.train.patience
    while state.epoch < config.train.epochs and state.misses < patience:
        for _ in fit.epoch(state, config.train.evals_per_epoch, log.step):
            better = judge(state, _validate(fit, config, state), log.mean_loss())
            saved = save(folder.checkpoints, fit, state, fingerprint)
            if fit.ranks.is_main:
                checkpoint.keep_only(folder.checkpoints, saved, folder.of_step(state.best_step))
                folder.write_history(state.history)
            log.validated(state.history[-1], better)
            if state.misses >= patience:
                log.say(f"no better validation for {patience} time(s) in a row: stopping early")
                break
    checkpoint.restore(folder.of_step(state.best_step), fit.model, fit.optimizer)


def _validate(fit: Fit, config: RunConfig, state: FitState) -> dict[str, float]:
    """The validation's figures. Raises MetricError when the scores are no numbers any more."""
    try:
        return fit.validate()
    except MetricError as failure:
        rates = f"train.lr_dense ({config.train.lr_dense:g}) or train.lr_sparse ({config.train.lr_sparse:g})"
        raise MetricError(f"training diverged before step {state.step}: {failure}; lower {rates}") from None


def _finish(config: RunConfig, folder: RunFolder, catalog: Catalog, scored: dict[str, np.ndarray], state: FitState) -> dict[str, Any]:
    """Predictions and metrics.json of the test rows.

    Beside the figures: rows, seconds and rows_per_second of training (all ranks); steps; best_step, best_epoch,
    best_valid_auc (null where the validation rows have one class only) and best_valid_logloss.
    """
    table, judged = judge_rows(catalog, config, "test", scored)
    write_predictions(table, folder.path / "predictions.parquet")
    speed = {"rows": state.rows, "seconds": state.seconds, "rows_per_second": state.rows / max(state.seconds, 1e-9)}
    valid = {f"best_{name}": state.best.get(name) for name in ("valid_auc", "valid_logloss")}
    metrics = {**judged, **speed, "best_step": state.best_step, "best_epoch": state.best_epoch, **valid, "steps": state.step}
    folder.write_metrics(metrics)
    return metrics


def _opening(config: RunConfig, readers: Mapping[str, Reader], ranks: Ranks) -> str:
    rows = ", ".join(f"{part} {reader.rows:,}" for part, reader in readers.items())
    where = f"{ranks.world_size} rank(s) on {ranks.device.type}"
    return f"{config.model.name} on {config.data.path}: {rows} rows; {where}, batch {config.train.batch_size} a rank"


def _on_main(ranks: Ranks, action: Callable[[], Any]) -> Any:
    """What `action` gives on the main rank, on every rank; its error likewise, so that no rank is left waiting."""
    box: list[Any] = [None, None]
    if ranks.is_main:
        try:
            box[0] = action()
        except Exception as failure:  # handed on below, on every rank
            box[1] = failure
    dist.broadcast_object_list(box)
    if box[1] is not None:
        raise box[1]
    return box[0]
