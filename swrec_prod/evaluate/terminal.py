"""Figures as tables for the terminal. Training prints them, so that nothing here imports the plotting library."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from swrec_prod.evaluate.text import NONE, Grid, count, number, share
from swrec_prod.evaluate.unknown import cold_note, unknown_note

COLUMNS = ("scenario", "rows", "rate", "AUC", "GAUC", "NDCG", "log loss", "NE", "calibration", "ECE")
DIGITS = {"auc": 4, "gauc": 4, "ndcg": 4, "logloss": 4, "ne": 3, "calibration": 3, "ece": 4}
LONG = ("NDCG", "NE", "ECE")  # not in the terminal's table
NAMES = {"recall": "recall", "hit_rate": "hit rate", "mrr": "MRR"}
SHORT = {"calibration": "calib.", "mean of scenarios": "mean"}  # in the terminal


def metrics_grid(metrics: Mapping[str, Any]) -> Grid:
    """metrics.json as a table: all rows, the mean of the scenarios, and one row a scenario, busiest first."""
    scenarios = sorted(metrics.get("scenarios", {}).items(), key=lambda item: -item[1]["rows"])
    rows = [_row("all rows", metrics["overall"])] if "overall" in metrics else []
    rows += [["mean of scenarios", "", "", *_row("", metrics["macro"])[3:]]] if "macro" in metrics else []
    return Grid(COLUMNS, [*rows, *(_row(name, record) for name, record in scenarios)], strong=len(rows))


def metrics_table(metrics: Mapping[str, Any]) -> Table:
    """metrics.json for the terminal; fits 80 columns behind "[default0]:"."""
    grid = metrics_grid(metrics)
    shown = [i for i, name in enumerate(grid.header) if name not in LONG]
    header, *rows = ([SHORT.get(row[i], row[i]) for i in shown] for row in (grid.header, *grid.rows))
    return terminal_table(Grid(header, rows, grid.strong))


def print_metrics(metrics: Mapping[str, Any]) -> None:
    """metrics.json on the terminal."""
    console = Console()
    console.print(metrics_table(metrics))
    for note in (judged_note(metrics), requests_note(metrics), unknown_note(metrics), cold_note(metrics)):
        if note:
            console.print(note, soft_wrap=True)


def judged_note(metrics: Mapping[str, Any]) -> str:
    """How the rows were judged, and how many of them GAUC and NDCG leave out; "" of older files, which do not say."""
    if not {"group_by", "overall"} <= metrics.keys():
        return ""
    overall, by = metrics["overall"], metrics["group_by"]
    figure = f"NDCG@{metrics['ndcg_k']} {number(overall['ndcg'])}"
    left = f"GAUC and {figure} are of the {count(overall['grouped_rows'])} of {count(overall['rows'])} rows"
    weighted = " Each row counts by its weight." if metrics["weighted"] else ""
    return f"{left} whose {by} has both classes.{weighted}"


def requests_note(metrics: Mapping[str, Any]) -> str:
    """How the rows of one page are ordered, and which items its first places go to; "" where neither is known."""
    overall = metrics.get("overall", {})
    first_places = _first_places(overall)
    if "sgauc" not in overall:
        by = metrics.get("group_by")
        return f"With {metrics['ndcg_k']} places for each {by}: {', '.join(first_places)}." if first_places else ""
    named = {key: name for key, name in NAMES.items() if key in overall}
    figures = (f"{name}@{metrics['ndcg_k']} {number(overall[key])}" for key, name in named.items())
    sgauc = f"S-GAUC {number(overall['sgauc'])}"
    return f"Inside a {metrics['request_by']}: {', '.join((sgauc, *figures, *first_places))}."


def _first_places(overall: Mapping[str, Any]) -> list[str]:
    """Which items they go to, where that is known."""
    coverage, novelty = overall.get("coverage"), overall.get("novelty")
    items = [] if coverage is None else [f"{share(coverage)} of the items in first places"]
    return items if novelty is None else [*items, f"of {number(novelty, 1)} bits"]


def terminal_table(grid: Grid) -> Table:
    """A table for the terminal, a line under its strong rows."""
    table = Table(header_style="bold", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for i, name in enumerate(grid.header):
        table.add_column(name, justify="right" if i else "left", no_wrap=i > 0)
    for n, row in enumerate(grid.rows):
        table.add_row(*row, style="bold" if n < grid.strong else None, end_section=n == grid.strong - 1)
    return table


def _row(name: str, record: Mapping[str, Any]) -> list[str]:
    rate = share(record["positives"] / record["rows"]) if record["rows"] else NONE
    figures = (number(record.get(key), digits) for key, digits in DIGITS.items())
    return [name, count(record["rows"]), rate, *figures]
