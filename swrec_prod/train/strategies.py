"""A model for every scenario, made of ordinary runs:
the strategies Single and Finetune (Zhu et al., WWW 2024, app. A.2).

    RUN_DIR/mix/                                 finetune: the run on the rows of all scenarios
    RUN_DIR/scenarios/<value>/                   the run on the rows of one scenario
    RUN_DIR/predictions.parquet, metrics.json    all test rows, each scored by the model of its own scenario

Notable choices. Each of these folders is a whole RUN_DIR, which can be evaluated and exported alone. What is finished
is not trained again, so that a strategy that was cut off goes on where it stopped. The paper does not say how Finetune
is tuned, nor what is done for a scenario without rows: StrategyConfig has what we do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, get_args

import pyarrow as pa
import pyarrow.compute as pc

from swrec_prod import checkpoint
from swrec_prod.config import RunConfig, SplitName, StrategyConfig
from swrec_prod.data.catalog import Catalog
from swrec_prod.data.counts import scenario_counts
from swrec_prod.data.decode import Piece
from swrec_prod.errors import DataError
from swrec_prod.evaluate.models import Predicted
from swrec_prod.evaluate.prediction_parts import part_files
from swrec_prod.evaluate.predictions import read_predictions
from swrec_prod.evaluate.run import judge_predicted
from swrec_prod.evaluate.scenario_models import grouped
from swrec_prod.ranker import build_ranker, resolve_run
from swrec_prod.run_dir import MIX, RunDir, scenario_folder
from swrec_prod.train.distributed import Ranks, on_main
from swrec_prod.train.folder import check_free, claim
from swrec_prod.train.progress import Log
from swrec_prod.train.session import recorded

Run = Callable[[RunConfig, Path, Ranks], Any]  # an ordinary run: configuration, RUN_DIR
SPENT = ("rows", "seconds", "steps")
BEST = ("best_step", "best_epoch", "best_valid_auc", "best_valid_logloss")


class Plan(NamedTuple):
    """own: the scenarios that get a model of their own. others: those that mix scores, and why."""

    own: list[str]
    others: dict[str, str]


def train_scenarios(config: RunConfig, out: Path, ranks: Ranks, run: Run, *, overwrite: bool = False) -> dict[str, Any]:
    """Train as the strategies single and finetune say, by calling `run` for one folder after the other;
    gives the metrics.

    Raises DataError, before anything is trained, when single is asked for and a scenario has too few rows; and what
    `run` raises.
    """
    catalog, folder = Catalog.open(config.data.path), RunDir(out)

    def check() -> Plan:
        check_free(folder, config, overwrite=overwrite)
        build_ranker(
            resolve_run(catalog.schema, config), tables_on="meta"
        )  # a model that does not fit the data is refused now
        return plan_of(catalog, config, ranks.world_size)

    plan = on_main(ranks, check)
    on_main(ranks, lambda: claim(folder, config, overwrite=overwrite))
    log = Log(out if ranks.is_main else None)
    with recorded(folder, catalog, ranks):
        for value, reason in plan.others.items():
            log.say(f"scenario {value} keeps mix: {reason}")
        for path, its_config in runs_of(config, out, plan).items():
            log.say(f"{config.strategy.name}: {path}")
            if on_main(ranks, partial(_finished, path, catalog)):
                log.say("finished before")
            else:
                on_main(ranks, partial(_say_where_mix_is, path, its_config))
                run(its_config, path, ranks)
        judged = _judge(config, catalog, folder, plan, ranks)
        metrics = on_main(ranks, lambda: _finish(config, folder, plan, judged))
        log.say(f"wrote {folder.metrics_file} and {folder.predictions_file}")
        return metrics


def plan_of(catalog: Catalog, config: RunConfig, world_size: int) -> Plan:
    """Who gets a model, of the scenarios that have rows, or are named in data.scenarios.

    Raises DataError when there are none, or single is asked for and one of them cannot be trained.
    """
    single = config.strategy.name == "single"
    counts = {
        part: scenario_counts(catalog, config.data, part, weighed=part == "train") for part in get_args(SplitName)
    }
    named = config.data.scenarios or [
        name for name in catalog.schema.scenario.names if any(of[name][0] for of in counts.values())
    ]
    if not named:
        raise DataError(f"{catalog.root}: no rows in any part")
    own = {name: {part: of[name] for part, of in counts.items()} for name in named}
    reasons = {name: _lacks(counts, world_size, single, bool(catalog.schema.weight)) for name, counts in own.items()}
    lacking = {name: reason for name, reason in reasons.items() if reason}
    for name, reason in lacking.items() if single else ():
        remedy = "leave it out with data.scenarios, or use finetune, which keeps mix for it"
        raise DataError(f"{catalog.root}: scenario {name!r} cannot have a model of its own: {reason}; {remedy}")
    return Plan([name for name in named if name not in lacking], lacking)


def runs_of(config: RunConfig, out: Path, plan: Plan) -> dict[Path, RunConfig]:
    """The ordinary runs that the strategy is made of, by their folders, in the order in which they are trained."""
    plain = config.model_copy(update={"strategy": StrategyConfig()})
    runs, strategy = {}, config.strategy
    if strategy.name == "finetune":
        runs[out / MIX] = plain
        tuned = {
            "lr_sparse": config.train.lr_sparse * strategy.lr_factor if strategy.scope == "all" else 0.0,
            "lr_dense": config.train.lr_dense * strategy.lr_factor,
            "epochs": strategy.epochs,
            "begin": str((out / MIX).resolve()),
        }
        plain = plain.model_copy(update={"train": config.train.model_copy(update=tuned)})
    for value in plan.own:
        runs[out / scenario_folder(value)] = plain.model_copy(
            update={"data": config.data.model_copy(update={"scenarios": (value,)})}
        )
    return runs


def _lacks(counts: Mapping[str, tuple[int, int]], world_size: int, single: bool, weighed: bool) -> str:
    """Why a scenario cannot be trained and judged, given its rows and positives in every part; "" if it can.

    weighed: the training rows are those of weight above 0.
    """
    names = {"train": "train (of weight above 0)"} if weighed else {}
    if min(rows for rows, _ in counts.values()) < world_size:
        rows_of_parts = ", ".join(f"{rows} {names.get(part, part)}" for part, (rows, _) in counts.items())
        needed = "some" if world_size == 1 else f"one for each of {world_size} ranks"
        return f"{rows_of_parts} rows, and every part needs {needed}"
    # a single run without an AUC goes by the logloss, as any run does
    for part in ("train",) if single else ("train", "valid"):
        rows, positives = counts[part]
        if positives in (0, rows):
            return f"all {rows} {part} rows have the label {positives // rows}"
    return ""


def _finished(path: Path, catalog: Catalog) -> bool:
    """Whether there is nothing to do. Raises CheckpointError when the data have been prepared otherwise since."""
    if not RunDir(path).finished:
        return False
    checkpoint.best(path, catalog)
    return True


def _say_where_mix_is(path: Path, config: RunConfig) -> None:
    """An unfinished run goes on though RUN_DIR was moved: its run.yaml gets the path that train.begin has now."""
    run = RunDir(path)
    if run.run_file.exists():
        written = run.config()
        begun = written.train.model_copy(update={"begin": config.train.begin})
        run.write_config(written.model_copy(update={"train": begun}))


def _judge(config: RunConfig, catalog: Catalog, folder: RunDir, plan: Plan, ranks: Ranks) -> dict[str, Any]:
    """Predictions of all test rows, each scored by its own scenario's model, and their metrics.

    Every rank takes its parts of what the runs have written.
    """
    parts = [
        _predictions(file, values)
        for path, values in grouped(_models(plan)).items()
        for file in part_files(RunDir(folder.path / path).predictions_file)[ranks.rank :: ranks.world_size]
    ]
    pieces = [Piece(file, file.rows) for file in catalog.files_of(config.data, "test")]
    sections = [Predicted(pa.concat_tables(parts).sort_by("row"), pieces, 0.0)] if parts else []
    return judge_predicted(sections, catalog, config.data, "test", predictions=folder.predictions_file, peers=ranks)


def _finish(config: RunConfig, folder: RunDir, plan: Plan, judged: dict[str, Any]) -> dict[str, Any]:
    """metrics.json. judged: the figures of all test rows.

    Beside the figures: rows, seconds, rows_per_second and steps of all runs together; strategy; and in `runs`, for
    every scenario, the folder (below RUN_DIR) of the run that scores it, its best_*, and for those that keep mix the
    reason.
    """
    folders = runs_of(config, folder.path, plan)
    done = {path.relative_to(folder.path).as_posix(): RunDir(path).metrics() for path in folders}
    spent: dict[str, Any] = {name: sum(metrics[name] for metrics in done.values()) for name in SPENT}
    spent["rows_per_second"] = spent["rows"] / max(spent["seconds"], 1e-9)
    runs: dict[str, dict[str, Any]] = {
        value: {"folder": path, **{name: done[path][name] for name in BEST}} for value, path in _models(plan).items()
    }
    for value, reason in plan.others.items():
        runs[value]["reason"] = reason
    metrics = {**judged, **spent, "strategy": config.strategy.name, "runs": runs}
    folder.write_metrics(metrics)
    return metrics


def _models(plan: Plan) -> dict[str, str]:
    """The run that scores each scenario, by its folder below RUN_DIR."""
    return {value: MIX for value in plan.others} | {value: scenario_folder(value) for value in plan.own}


def _predictions(file: Path, scenarios: Sequence[str]) -> pa.Table:
    """What a run says of the test rows of some scenarios. file: of its predictions, or of a part of them."""
    table = read_predictions(file)
    return table.filter(pc.is_in(table["scenario"], pa.array(scenarios, table.schema.field("scenario").type)))
