"""A run as one page to look at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from swrec_prod.drawing.html import as_html
from swrec_prod.drawing.markdown import as_markdown
from swrec_prod.drawing.page import Card, Facts, Page, Section, Table
from swrec_prod.drawing.style import Picture, absent
from swrec_prod.errors import CheckpointError, ConfigError, MetricError
from swrec_prod.evaluate.judged import Judged
from swrec_prod.evaluate.judging import metrics_of
from swrec_prod.evaluate.predictions import read_predictions
from swrec_prod.evaluate.terminal import judged_note, metrics_grid
from swrec_prod.evaluate.text import NONE, count, number, several
from swrec_prod.evaluate.unknown import cold_grid, cold_note, unknown_grid, unknown_note
from swrec_prod.files import write_json, write_text
from swrec_prod.metrics.ranks import auc_interval
from swrec_prod.pages import pictures
from swrec_prod.pages.causal import blending, scenario_influence
from swrec_prod.pages.run_days import day_maps
from swrec_prod.run_dir import RunDir
from swrec_prod.strict import read_yaml


class RunFiles(NamedTuple):
    """What a report reads from a run directory; {} , [] or None where a file is not there."""

    config: dict[str, Any]
    metrics: dict[str, Any]
    history: list[dict[str, Any]]
    predictions: pa.Table | None


def write_report(
    run_dir: Path, out: Path, served: Mapping[str, Any] | None = None, more: Sequence[Section] = ()
) -> None:
    """Write one self-contained HTML page about a run to `out`, and the same as .md and .json beside it.

    run_dir: holds run.yaml, metrics.json, history.jsonl, predictions.parquet; what is missing leaves its picture out,
    and a line says why. served: figures of a served-against-offline check: rows, max_abs_diff, requests, p50_ms,
    p99_ms. more: sections that come before those of the run. Raises CheckpointError when run_dir is no run directory,
    DataError when one of its files is damaged, ConfigError for an `out` that is no HTML file.
    """
    if out.suffix not in (".html", ".htm"):
        raise ConfigError(f"--out {out}: the page is an HTML file; for example {out.with_suffix('.html')}")
    run = read_run(run_dir)
    page = run_page(run, Path(run_dir).name, served, more)
    write_json(out.with_suffix(".json"), report_json(run, page, served))
    write_text(out.with_suffix(".md"), as_markdown(page))
    write_text(out, as_html(page))


def report_json(run: RunFiles, page: Page, served: Mapping[str, Any] | None) -> dict[str, Any]:
    """metrics.json and run.yaml, and the figures that pictures show beside them."""
    shown = [section.data for section in page.sections if isinstance(section, Picture) and section.data]
    drawn = {key: value for data in shown for key, value in data.items()}
    summary = {"title": page.title, "summary": page.lead}
    return {**summary, "metrics": run.metrics, "config": run.config, "served": served, **drawn}


def run_page(run: RunFiles, name: str, served: Mapping[str, Any] | None = None, more: Sequence[Section] = ()) -> Page:
    """The page. name: of the data, where the configuration is unknown; served, more: as in `write_report`."""
    judged, why_not = _judged(run.predictions)
    given = (run.config.get("debias") or {}).get("c", 0.0)
    # one for each scenario, or one for each model of a strategy
    c = float(given) if isinstance(given, (int, float)) else None
    sections: list[Section] = [
        *more,
        pictures.learning_curve(run.history),
        *(_judged_pictures(judged, run.predictions, c) if judged else [absent("Pictures of the predictions", why_not)]),
    ]
    if run.metrics.get("overall"):
        notes = " ".join(note for note in (judged_note(run.metrics), _reasons(run.metrics)) if note)
        sections.append(Table("Figures by scenario", metrics_grid(run.metrics), notes))
    if grid := unknown_grid(run.metrics):
        sections.append(Table("Unknown values", grid, unknown_note(run.metrics, with_values=False)))
    if grid := cold_grid(run.metrics):
        sections.append(Table("Cold rows by scenario", grid, cold_note(run.metrics)))
    sections.append(Facts("What was trained", _facts(run.config)))
    model = run.config.get("model", {}).get("name", "model")
    data = Path(str(run.config.get("data", {}).get("path", name))).name
    cards = [
        *_quality_cards(run.metrics, judged),
        *_speed_cards(run.metrics),
        *([_served_card(served)] if served else []),
    ]
    return Page(f"{model} on {data}", _lead(run), cards, sections)


def read_run(run_dir: Path) -> RunFiles:
    """The files of a run directory. Raises CheckpointError when there is none, DataError for a damaged file."""
    run_dir = Path(run_dir)
    if not run_dir.is_dir():
        raise CheckpointError(f"{run_dir}: no such run directory; `swrec train RUN.yaml --out {run_dir}` makes one")
    run = RunDir(run_dir)
    known = (run.run_file, run.metrics_file, run.history_file, run.predictions_file)
    if not any(path.exists() for path in known):
        raise CheckpointError(f"{run_dir}: not a run directory: it holds none of {', '.join(p.name for p in known)}")
    predictions = read_predictions(run.predictions_file) if run.predictions_file.exists() else None
    metrics = run.metrics() if run.finished else {}
    if predictions is not None and "overall" not in metrics:
        metrics = {**metrics, **metrics_of(predictions)}
    config = read_yaml(run.run_file, CheckpointError) if run.run_file.is_file() else {}
    return RunFiles(config, metrics, run.history(), predictions)


def _judged(predictions: pa.Table | None) -> tuple[Judged | None, str]:
    """The predictions as pictures need them, or why there are none."""
    if predictions is None:
        return None, "Left out: the run has no predictions.parquet; `swrec evaluate RUN_DIR` writes it."
    if not predictions.num_rows:
        return None, "Left out: predictions.parquet has no rows."
    try:
        return Judged.of(predictions), ""
    except MetricError as failure:
        return None, f"Left out: predictions.parquet: {failure}."


def _judged_pictures(judged: Judged, predictions: pa.Table, c: float | None) -> list[Picture]:
    causal = [scenario_influence(judged), blending(judged, c)]
    return [
        pictures.ranking_by_scenario(judged),
        *day_maps(judged, predictions),
        pictures.calibration_curves(judged),
        *(causal if judged.split else causal[:1]),  # one line is enough to say that there is no split
        pictures.prediction_hills(judged),
    ]


def _lead(run: RunFiles) -> str:
    overall = run.metrics.get("overall")
    if not overall:
        return "This run has not been evaluated yet."
    scenarios = sum(record["rows"] > 0 for record in run.metrics.get("scenarios", {}).values())
    days = _days(run.predictions)
    return (
        f"Judged on {several(overall['rows'], 'row')}{days} in {several(scenarios, 'scenario')}, "
        f"{count(overall['positives'])} positive."
    )


def _days(predictions: pa.Table | None) -> str:
    days = predictions["day"].unique().to_pylist() if predictions is not None else []
    if not days:
        return ""
    return f" of {days[0]}" if len(days) == 1 else f" of {min(days)} to {max(days)}"


def _quality_cards(metrics: Mapping[str, Any], judged: Judged | None) -> Iterator[Card]:
    overall = metrics.get("overall", {})
    if overall.get("auc") is not None:
        yield Card("AUC, all rows", f"{overall['auc']:.4f}", _auc_note(judged))
    if overall.get("gauc") is not None:
        yield Card("GAUC", f"{overall['gauc']:.4f}", f"candidates of one {metrics.get('group_by', 'user')} compared")
    if overall.get("logloss") is not None:
        yield Card("Log loss", f"{overall['logloss']:.4f}", f"normalised entropy {number(overall.get('ne'), 3)}")
    if overall.get("calibration") is not None:
        yield Card("Calibration", f"{overall['calibration']:.3f}", "predicted over observed; 1 is right")
    for task, record in list(metrics.get("tasks", {}).items())[1:]:
        positives = count(record["overall"]["positives"])
        yield Card(f"AUC of {task}", number(record["overall"].get("auc"), 4), f"{positives} positive rows")
        for given in (name for name in record if name.startswith("given_")):
            alone, first = record[given]["overall"], given.removeprefix("given_")
            yield Card(
                f"AUC of {task} given {first}",
                number(alone.get("auc"), 4),
                f"on {several(alone['rows'], 'row')} with {first}",
            )


def _auc_note(judged: Judged | None) -> str:
    try:
        interval = auc_interval(judged.labels, judged.logits, weights=judged.weights) if judged else None
    except MetricError:
        interval = None
    return (
        f"95\u202f% interval {interval.low:.4f} to {interval.high:.4f}"
        if interval
        else "share of pairs in the right order"
    )


def _speed_cards(metrics: Mapping[str, Any]) -> Iterator[Card]:
    if metrics.get("rows_per_second"):
        known = {"rows", "seconds"} <= metrics.keys()
        note = f"{count(metrics['rows'])} rows in {_duration(metrics['seconds'])}" if known else ""
        yield Card("Training speed", f"{count(metrics['rows_per_second'])}/s", note)


def _served_card(served: Mapping[str, Any]) -> Card:
    notes = [f"largest difference, {several(served['rows'], 'row')}" if "rows" in served else "largest difference"]
    if "p50_ms" in served and "p99_ms" in served:
        notes.append(f"latency p50 {served['p50_ms']:.1f} ms, p99 {served['p99_ms']:.1f} ms")
    if "requests" in served:
        notes.append(several(served["requests"], "request"))
    difference = served.get("max_abs_diff")
    return Card("Served vs. offline", NONE if difference is None else f"{difference:.1e}", "; ".join(notes))


def _reasons(metrics: Mapping[str, Any]) -> str:
    """Why some figures are missing, one example."""
    for name, record in metrics.get("scenarios", {}).items():
        for reason in record.get("reasons", {}).values():
            return f"– marks a figure that does not exist, for example in {name}: {reason}."
    return ""


def _facts(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """run.yaml flattened: one line a section, options that are null left out."""
    facts = []
    for section, values in config.items():
        given = values.items() if isinstance(values, dict) else [("", values)]
        text = ", ".join(f"{name} {_plain(value)}".strip() for name, value in given if value is not None)
        facts.append((section, text or "none"))
    return facts or [("run.yaml", "missing, so the configuration is unknown")]


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return "(" + ", ".join(f"{k} {_plain(v)}" for k, v in value.items()) + ")"
    return "[" + ", ".join(map(_plain, value)) + "]" if isinstance(value, list) else f"{value}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    return f"{seconds:.1f} s" if seconds < 100 else f"{minutes:.0f} min {rest:.0f} s"
