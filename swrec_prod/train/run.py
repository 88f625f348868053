"""One training run: prepared data and a RunConfig in, a RUN_DIR out.

The same under one process, torchrun and TorchX.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, get_args

from torch import nn

from swrec_prod import checkpoint
from swrec_prod.config import RunConfig, SplitName
from swrec_prod.data.batch import Position
from swrec_prod.data.catalog import Catalog
from swrec_prod.data.reader import Reader
from swrec_prod.errors import MetricError
from swrec_prod.evaluate.models import columns_of, predicted, strengths_of
from swrec_prod.evaluate.run import judge_predicted
from swrec_prod.ranker import ResolvedRun, build_ranker, resolve_run, with_debias
from swrec_prod.run_dir import RunDir
from swrec_prod.train.begin import load_begin
from swrec_prod.train.counterfactual import fitted, score_in_every_scenario, spacing
from swrec_prod.train.distributed import Ranks, on_main, process_group
from swrec_prod.train.folder import check_free, claim
from swrec_prod.train.loop import Fit, FitState, judge
from swrec_prod.train.optim import make_optimizer
from swrec_prod.train.progress import RunLog, format_validation
from swrec_prod.train.session import recorded
from swrec_prod.train.shard import shard
from swrec_prod.train.strategies import train_scenarios
from swrec_prod.train.unknown_rate import described, with_unknown_rate


def train(config: RunConfig, out: Path, *, overwrite: bool = False) -> tuple[dict[str, Any], bool]:
    """Train as config.strategy says; gives the metrics (also in out/metrics.json) and whether this is the main rank.

    A run that was cut off goes on from its last checkpoint. Raises ConfigError when `out` holds a finished run or one
    of another configuration, DataError when the prepared data are not as the configuration says, MetricError when
    training diverges. Nothing is written before data, model and `out` have been checked to fit together.
    """
    with process_group(config.train.threads) as ranks:
        config = with_unknown_rate(with_debias(config))  # run.yaml says what was trained, not what was left open
        if config.strategy.name == "mix":
            metrics = train_rows(config, out, ranks, overwrite=overwrite)
        else:
            metrics = train_scenarios(config, out, ranks, train_rows, overwrite=overwrite)
        return metrics, ranks.is_main


def train_rows(config: RunConfig, out: Path, ranks: Ranks, *, overwrite: bool = False) -> dict[str, Any]:
    """One model on the rows of `config.data`: fit, restore the best weights, score the test rows; gives the metrics."""
    catalog, folder = Catalog.open(config.data.path), RunDir(out)
    on_main(ranks, lambda: check_free(folder, config, overwrite=overwrite))
    newest = None if overwrite else checkpoint.latest(folder.checkpoints)
    state = FitState(**checkpoint.read_state(newest, catalog)["fit"]) if newest else FitState()
    run = resolve_run(catalog.schema, config)
    readers = {part: make_reader(catalog, run, part, ranks, state.position) for part in get_args(SplitName)}
    begin = Path(config.train.begin) if config.train.begin and not newest else None
    fit = make_fit(catalog, run, readers, ranks, begin)
    # only now: what is refused leaves nothing behind
    on_main(ranks, lambda: claim(folder, config, overwrite=overwrite))
    log = RunLog(out if ranks.is_main else None, readers["train"].rows, config.train.epochs)
    with recorded(folder, catalog, ranks), closing(log):
        log.say(_opening(config, readers, ranks))
        if dropout := described(config, catalog):
            log.say(dropout)
        if newest:
            checkpoint.restore(newest, fit.model, fit.optimizer)
            log.say(f"resuming from {newest.name}: {state.rows:,} rows trained")
        _fit(config, folder, catalog.fingerprint, fit, state, log)
        config = fit_c(config, catalog, fit, log)
        best = format_validation(state.best)
        log.say(f"best: step {state.best_step}, {best}; scoring {readers['test'].rows:,} test rows")
        judged = judge_test_rows(config, folder, catalog, fit.model, readers["test"], ranks)
        metrics = on_main(ranks, lambda: _finish(config, folder, judged, state))
        log.say(f"wrote {folder.metrics_file} and {folder.predictions_file}")
        return metrics


def make_reader(catalog: Catalog, run: ResolvedRun, part: SplitName, ranks: Ranks, start: Position) -> Reader:
    """This rank's reader of a part: shuffled and from `start` for training, in file order otherwise."""
    training, rates = part == "train", run.config.train.unknown_rate
    return Reader(
        catalog,
        run.layout,
        part,
        run.config.data,
        run.config.train.batch_size,
        shuffle=training,
        rank=ranks.rank,
        world_size=ranks.world_size,
        seed=run.config.train.seed,
        start=start if training else Position(),
        pin=ranks.device.type == "cuda",
        unknown_rate=rates if training and isinstance(rates, dict) else None,
    )


def make_fit(
    catalog: Catalog, run: ResolvedRun, readers: Mapping[str, Reader], ranks: Ranks, begin: Path | None = None
) -> Fit:
    """A fresh sharded model with its optimiser and readers.

    begin: the RUN_DIR whose best weights it has, instead of drawn ones.
    """
    options = run.config.train
    model = shard(build_ranker(run, ranks.device, tables_on="meta"), options, ranks)
    if begin:
        load_begin(begin, run.config, catalog, model)
    return Fit(model, make_optimizer(model, options), readers["train"], readers["valid"], ranks)


def save(folder: Path, fit: Fit, state: FitState, fingerprint: str) -> Path:
    """A checkpoint of the fit as it stands; every rank calls this. fingerprint: the prepared data's."""
    beside = {"fit": state.to_json(), "fingerprint": fingerprint, "plan": str(fit.model.plan)}
    return checkpoint.save(folder, state.step, fit.model, fit.optimizer, beside)


def _fit(config: RunConfig, folder: RunDir, fingerprint: str, fit: Fit, state: FitState, log: RunLog) -> None:
    """Epochs until the budget or the patience is spent; leaves the best weights in the model."""
    patience = config.train.patience
    if config.train.begin and not state.history:
        _judge(config, folder, fingerprint, fit, state, log)
    while state.epoch < config.train.epochs and state.misses < patience:
        for _ in fit.epoch(state, config.train.evals_per_epoch, log.step):
            _judge(config, folder, fingerprint, fit, state, log)
            if state.misses >= patience:
                log.say(f"no better validation for {patience} time(s) in a row: stopping early")
                break
    checkpoint.restore(folder.step(state.best_step), fit.model, fit.optimizer)


def _judge(config: RunConfig, folder: RunDir, fingerprint: str, fit: Fit, state: FitState, log: RunLog) -> None:
    """Validate the weights as they are, and keep them and the best."""
    better = judge(state, _validate(fit, config, state), log.mean_loss())
    saved = save(folder.checkpoints, fit, state, fingerprint)
    if fit.ranks.is_main:
        checkpoint.keep_only(folder.checkpoints, saved, folder.step(state.best_step))
        folder.write_history(state.history)
    log.validated(state.history[-1], better)


def _validate(fit: Fit, config: RunConfig, state: FitState) -> dict[str, float]:
    """The validation's figures. Raises MetricError when the scores are no numbers any more."""
    try:
        return fit.validate()
    except MetricError as failure:
        rates = f"train.lr_dense ({config.train.lr_dense:g}) or train.lr_sparse ({config.train.lr_sparse:g})"
        raise MetricError(f"training diverged before step {state.step}: {failure}; lower {rates}") from None


def fit_c(config: RunConfig, catalog: Catalog, fit: Fit, log: RunLog) -> RunConfig:
    """The configuration with the numbers that debias.c asks for, from validation rows; as it is where c is given."""
    if not (config.debias and config.debias.to_fit):
        return config
    names = catalog.schema.scenario.names
    every = spacing(len(fit.valid), config.train.batch_size, len(names))
    sums = score_in_every_scenario(fit.model, fit.valid.epoch(0), len(names), every, fit.ranks.device)
    debias, taken = fitted(config.debias, sums.over_ranks(fit.ranks), names)
    log.say(
        f"c fitted on {len(names)} scenarios: {debias.c}; "
        f"it takes out {taken:.0%} of the variance between their mean logits"
    )
    return config.model_copy(update={"debias": debias})


def judge_test_rows(
    config: RunConfig, folder: RunDir, catalog: Catalog, model: nn.Module, reader: Reader, ranks: Ranks
) -> dict[str, Any]:
    """Score this rank's test rows and write their predictions; gives the metrics of all ranks' rows, on every rank."""
    columns, strengths = columns_of(catalog, config.data, "test"), strengths_of(catalog, config)
    sections = predicted(catalog, model, reader, strengths, columns, ranks.device)
    return judge_predicted(sections, catalog, config.data, "test", predictions=folder.predictions_file, peers=ranks)


def _finish(config: RunConfig, folder: RunDir, judged: dict[str, Any], state: FitState) -> dict[str, Any]:
    """The resolved run.yaml and metrics.json. judged: the figures of the test rows.

    Beside the figures: rows, seconds and rows_per_second of training (all ranks); steps; best_step, best_epoch,
    best_valid_auc (null where the validation rows have one class only) and best_valid_logloss.
    """
    speed = {"rows": state.rows, "seconds": state.seconds, "rows_per_second": state.rows / max(state.seconds, 1e-9)}
    valid = {f"best_{name}": state.best.get(name) for name in ("valid_auc", "valid_logloss")}
    best = {"best_step": state.best_step, "best_epoch": state.best_epoch}
    metrics = {**judged, **speed, **best, **valid, "steps": state.step}
    folder.write_config(config)  # with the c that was fitted
    folder.write_metrics(metrics)
    return metrics


def _opening(config: RunConfig, readers: Mapping[str, Reader], ranks: Ranks) -> str:
    rows = ", ".join(f"{part} {reader.rows:,}" for part, reader in readers.items())
    where = f"{ranks.world_size} rank(s) on {ranks.device.type}"
    return f"{config.model.name} on {config.data.path}: {rows} rows; {where}, batch {config.train.batch_size} a rank"
