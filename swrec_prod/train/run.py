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
from swrec_prod.errors import ConfigError, DivergedError, MetricError
from swrec_prod.evaluate.models import columns_of, predicted, strengths_of
from swrec_prod.evaluate.run import judge_predicted
from swrec_prod.group.leaving import Leaving, listening
from swrec_prod.ranker import ResolvedRun, build_ranker, resolve_run, with_debias
from swrec_prod.run_dir import RunDir
from swrec_prod.train.begin import load_begin
from swrec_prod.train.counterfactual import fitted, score_in_every_scenario, spacing
from swrec_prod.train.distributed import Ranks, on_main, process_group
from swrec_prod.train.folder import check_free, claim, finished_before, only_here
from swrec_prod.train.loop import Fit, FitState, judge
from swrec_prod.train.optim import make_optimizer, set_rates
from swrec_prod.train.progress import RunLog, format_validation
from swrec_prod.train.resume import Beginning, beginning
from swrec_prod.train.rewinding import rewind
from swrec_prod.train.saving import Saving, check_room
from swrec_prod.train.session import recorded
from swrec_prod.train.shard import shard
from swrec_prod.train.steering import Steering
from swrec_prod.train.strategies import train_scenarios
from swrec_prod.train.unknown_rate import described, with_unknown_rate


def train(
    config: RunConfig, out: Path, *, overwrite: bool = False, verify: bool = False
) -> tuple[dict[str, Any], bool]:
    """Train as config.strategy says; gives the metrics (also in out/metrics.json) and whether this is the main rank.

    verify: compare the contents of all prepared files with the manifest, not of schema and vocabularies alone.
    A run that was cut off goes on from its newest whole checkpoint; a finished one is left as it is.
    Raises ConfigError when `out` holds a run of another configuration (`folder.MAY_CHANGE` apart), CheckpointError when
    its checkpoints are damaged or none can be written, DataError when the prepared data are not as the configuration
    says or not what they were, MetricError when training diverges. Nothing is written before data, model and `out` have
    been checked to fit together.
    """
    with process_group(config.train.threads, 60 * config.train.hang_minutes) as ranks, only_here(out, ranks):
        config = with_unknown_rate(with_debias(config))  # run.yaml says what was trained, not what was left open
        folder = RunDir(out)
        if not overwrite and on_main(ranks, lambda: finished_before(folder, config)):
            if ranks.is_main:
                print(f"{out}: finished before, nothing is left to do; --overwrite trains it anew")
            return folder.metrics(), ranks.is_main
        on_main(ranks, lambda: Catalog.open(config.data.path).verify(days=verify))
        if config.strategy.name == "mix":
            metrics = train_rows(config, out, ranks, overwrite=overwrite)
        else:
            metrics = train_scenarios(config, out, ranks, train_rows, overwrite=overwrite)
        return metrics, ranks.is_main


def train_rows(config: RunConfig, out: Path, ranks: Ranks, *, overwrite: bool = False) -> dict[str, Any]:
    """One model on the rows of `config.data`: fit, restore the best weights, score the test rows; gives the metrics."""
    catalog, folder = Catalog.open(config.data.path), RunDir(out)
    on_main(ranks, lambda: check_free(folder, config, overwrite=overwrite))
    found: list[str] = []
    start = Beginning.anew(config, ranks) if overwrite else beginning(folder, config, catalog, ranks, found.append)
    run, state = resolve_run(catalog.schema, config), start.state
    readers = {part: make_reader(catalog, run, part, ranks, start) for part in get_args(SplitName)}
    begin = Path(config.train.begin) if config.train.begin and not start.path else None
    fit = make_fit(catalog, run, readers, ranks, begin)
    _check_norms(fit, config)
    fit.random = start.random
    check_room(folder.checkpoints, fit)
    # only now: what is refused leaves nothing behind
    on_main(ranks, lambda: claim(folder, config, overwrite=overwrite))
    log = RunLog(out if ranks.is_main else None, readers["train"].rows, config.train.epochs)
    with (
        listening(config.train.grace_seconds) as leaving,
        recorded(folder, catalog, ranks, start),
        closing(log),
    ):
        for line in (_opening(config, readers, ranks), described(config, catalog), *found):
            if line:
                log.say(line)
        if start.path:
            checkpoint.restore(start.path, fit.model, fit.optimizer, verified=True)
            on_main(ranks, lambda: _as_then(folder, start))
            log.say(f"resuming from {start.path.name}: {state.rows:,} rows trained")
        with closing(Saving(config, folder.checkpoints, catalog, fit, start.rows_a_step)) as saving:
            _fit(config, folder, fit, state, saving, log, leaving)
        config = fit_c(config, catalog, fit, log)
        best = format_validation(state.best)
        log.say(f"best: step {state.best_step}, {best}; scoring {readers['test'].rows:,} test rows")
        judged = judge_test_rows(config, folder, catalog, fit.model, readers["test"], ranks)
        metrics = on_main(ranks, lambda: _finish(config, folder, judged, state))
        log.say(f"wrote {folder.metrics_file} and {folder.predictions_file}")
        return metrics


def _check_norms(fit: Fit, config: RunConfig) -> None:
    """Raises ConfigError for a batch norm over batches of one row."""
    normed = any(isinstance(module, nn.BatchNorm1d) for module in fit.model.modules())
    if normed and config.train.batch_size * fit.ranks.world_size == 1:
        raise ConfigError("train.batch_size: 1 with a batch norm, which needs 2 rows or more; use norm: layer, or none")


def _as_then(folder: RunDir, start: Beginning) -> None:
    """Make the folder what it was when the checkpoint was saved that a run goes on from."""
    for path in start.damaged:
        checkpoint.set_aside(path)
    folder.write_history(start.state.history)


def make_reader(
    catalog: Catalog, run: ResolvedRun, part: SplitName, ranks: Ranks, start: Beginning | None = None
) -> Reader:
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
        start=start.state.position if training and start else Position(),
        pin=ranks.device.type == "cuda",
        unknown_rate=rates if training and isinstance(rates, dict) else None,
        rows_a_step=start.rows_a_step if training and start else 0,
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


def _fit(
    config: RunConfig, folder: RunDir, fit: Fit, state: FitState, saving: Saving, log: RunLog, leaving: Leaving
) -> None:
    """Epochs until the budget or the patience is spent; leaves the best weights in the model."""
    if config.train.begin and not state.history:
        _judge(config, folder, fit, state, saving, log)
    set_rates(fit.optimizer, config.train, state.rate)
    leaving.saves = True
    while state.epoch < config.train.epochs and state.misses < config.train.patience:
        steering = Steering(fit, leaving, saving)
        try:
            _epochs(config, folder, fit, state, saving, log, steering)
        except DivergedError as failure:
            saving.wait()
            log.say(rewind(config, folder, fit, state, failure))
    leaving.saves = False
    saving.wait()
    checkpoint.restore(folder.step(state.best_step), fit.model, fit.optimizer)


def _epochs(
    config: RunConfig, folder: RunDir, fit: Fit, state: FitState, saving: Saving, log: RunLog, steering: Steering
) -> None:
    """Epochs until the budget or the patience is spent, or all ranks leave, or they have diverged."""

    def report(state: FitState, rows: int, loss: float) -> None:
        steering.read(loss)
        log.step(state, rows, loss)

    patience = config.train.patience
    while state.epoch < config.train.epochs and state.misses < patience:
        for _ in fit.epoch(state, config.train.evals_per_epoch, report, steering.between):
            stop = steering.leaves(state)
            _judge(config, folder, fit, state, saving, log)
            if stop:
                steering.leave(state)
            if state.misses >= patience:
                log.say(f"no better validation for {patience} time(s) in a row: stopping early")
                break


def _judge(config: RunConfig, folder: RunDir, fit: Fit, state: FitState, saving: Saving, log: RunLog) -> None:
    """Validate the weights as they are, and save them."""
    better = judge(state, _validate(fit, state), state.mean_loss)
    saving.validated(state)
    if fit.ranks.is_main:
        folder.write_history(state.history)
    log.validated(state.history[-1], better)


def _validate(fit: Fit, state: FitState) -> dict[str, float]:
    """The validation's figures. Raises DivergedError when the scores are no numbers any more."""
    try:
        return fit.validate()
    except MetricError as failure:
        raise DivergedError(f"training diverged before step {state.step}: {failure}") from None


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
