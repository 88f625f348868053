"""A backfill on the terminal."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from swrec_prod.evaluate.terminal import terminal_table
from swrec_prod.judge.record import BackfillRecord
from swrec_prod.judge.text import differences_grid, differences_note, pooled_grid


def print_backfill(record: BackfillRecord, out: Path) -> None:
    """The pooled figures, and the differences where there are several models."""
    console = Console()
    console.print(terminal_table(pooled_grid(record)))
    if record.differences:
        console.print(terminal_table(differences_grid(record)))
        console.print(differences_note(record), soft_wrap=True)
    console.print(f"wrote {out}/backfill.json and backfill.md; the figures of every day are in {out}/MODEL/day=*/")
