"""What a replay found, for the terminal."""

from __future__ import annotations

from rich.console import Console

from swrec_prod.evaluate.terminal import terminal_table
from swrec_prod.evaluate.text import Grid, change, count, number, share
from swrec_prod.replay.differences import OVERALL, Difference, Replayed

HEADER = ("scenario", "answers", "candidates", "mean", "mean size", "p99", "largest", "other first")


def print_replayed(found: Replayed) -> None:
    """A table a task, all scenarios first, and then what could not be answered."""
    console = Console(highlight=False)
    for task, by_scenario in found.differences.items():
        console.print(f"{task}: probability of {found.package} less that of the log")
        rows = [_row("all" if name == OVERALL else name, of) for name, of in by_scenario.items()]
        console.print(terminal_table(Grid(HEADER, rows, strong=1)))
    for reason, times in found.refused.most_common():
        console.print(f"{count(times)} not answered: {reason}")


def _row(name: str, of: Difference) -> list[str]:
    figures = of.figures()
    sizes = (number(figures[key], 6) for key in ("mean_size", "p99_size", "largest"))
    counts = (count(figures[key]) for key in ("answers", "candidates"))
    return [name, *counts, change(figures["mean"], 6), *sizes, share(figures["other_first"])]
