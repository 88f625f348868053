"""A backfill on the terminal."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from swrec_prod.evaluate.terminal import terminal_table
from swrec_prod.evaluate.text import Grid
from swrec_prod.judge.record import BackfillRecord, Verdict
from swrec_prod.judge.text import differences_grid, differences_note, pooled_grid, verdict_lines

NARROW = ("model", "rows", "AUC", "macro AUC", "GAUC", "log loss", "calibration")  # fit 80 columns


def print_backfill(record: BackfillRecord, out: Path) -> None:
    """The pooled figures, and the differences where there are several models."""
    console = Console()
    console.print(terminal_table(_narrow(pooled_grid(record))))
    if record.differences:
        console.print(terminal_table(differences_grid(record)))
        console.print(differences_note(record), soft_wrap=True)
    console.print(
        f"wrote {out}/backfill.json, backfill.md and backfill.html; figures of every day: {out}/*/day=*", soft_wrap=True
    )


def print_verdict(verdict: Verdict) -> None:
    """What the gate said, and why."""
    console = Console(highlight=False)
    for line in verdict_lines(verdict):
        console.print(line, soft_wrap=True)


def _narrow(grid: Grid) -> Grid:
    at = [i for i, name in enumerate(grid.header) if name in NARROW]
    return Grid([grid.header[i] for i in at], [[row[i] for i in at] for row in grid.rows], grid.strong)
