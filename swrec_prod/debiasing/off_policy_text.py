"""Estimates of another policy's value as tables: for the terminal, and Markdown."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from swrec_prod.debiasing.off_policy_log import JudgedLog, warnings_of
from swrec_prod.evaluate.terminal import terminal_table
from swrec_prod.evaluate.text import NONE, Grid, count, markdown_table
from swrec_prod.files import write_json, write_text
from swrec_prod.metrics.ranks import Interval
from swrec_prod.statistics.off_policy import OffPolicy

TITLES = {"ips": "IPS", "clipped_ips": "clipped IPS", "snips": "SNIPS", "dr": "DR", "sndr": "self-normalised DR"}
NOTE = (
    "Mean reward a row, with 95 % intervals. Logged is what the policy of the log earned, all others what the target "
    "would have. Effective rows and rewards say how many rows of the target's own would be as good."
)


def estimates_grid(judged: JudgedLog) -> Grid:
    """One line for all rows and one for each part that has an estimate."""
    names = [name for name in TITLES if name in judged.overall.estimates]
    header = ["rows of", "rows", "logged", *(TITLES[name] for name in names), "effective rows", "rewards", "largest w"]
    parts = {"all": judged.overall} | {name: one for name, one in judged.parts.items() if not isinstance(one, str)}
    return Grid(header, [_line(name, one, names) for name, one in parts.items()], strong=1 if judged.parts else 0)


def off_policy_markdown(judged: JudgedLog) -> str:
    """off_policy.md."""
    grid = estimates_grid(judged)
    warnings = [f"- {line}" for line in _warnings(judged)]
    parts = ["# Value of another policy", NOTE, markdown_table(grid.header, grid.rows), "\n".join(warnings)]
    return "\n\n".join(part for part in parts if part) + "\n"


def print_off_policy(judged: JudgedLog) -> None:
    """The table and what to know of it, on the terminal."""
    table = terminal_table(estimates_grid(judged))
    console = Console(width=max(Console().width, Console(width=500).measure(table).maximum), highlight=False)
    console.print(table)
    for line in (NOTE, *_warnings(judged)):
        console.print(line, soft_wrap=True, markup=False)


def write_off_policy(judged: JudgedLog, out: Path) -> None:
    """off_policy.json and off_policy.md in the folder `out`."""
    write_json(out / "off_policy.json", judged.to_json())
    write_text(out / "off_policy.md", off_policy_markdown(judged))


def rate_text(one: Interval) -> str:
    """A mean reward and its interval, with four significant digits of its upper end: 0.0046 (0.0011 to 0.0080)."""
    digits = 4 if one.high < 0.1 else 3
    return f"{one.value:.{digits}f} ({one.low:.{digits}f} to {one.high:.{digits}f})"


def _line(name: str, one: OffPolicy, names: list[str]) -> list[str]:
    weights = one.weights
    estimates = [rate_text(one.estimates[n]) if n in one.estimates else NONE for n in names]
    sizes = [count(weights.effective_rows), count(weights.effective_rewards), f"{weights.largest:,.1f}"]
    return [name, count(weights.rows), rate_text(one.logged), *estimates, *sizes]


def _warnings(judged: JudgedLog) -> Iterator[str]:
    for name, one in {"all rows": judged.overall, **judged.parts}.items():
        lines = [f"no estimate: {one}"] if isinstance(one, str) else warnings_of(one)
        yield from (f"{name}: {line}" for line in lines)
