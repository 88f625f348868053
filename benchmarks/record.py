"""Figures: printed as a table, and appended to build/bench/<target>.jsonl,
one JSON object a figure (DESIGN: benchmark output).
"""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

FOLDER = Path("build/bench")


@dataclass(frozen=True)
class Figure:
    """value against reference_value, both measured in this run unless the reference says otherwise. wanted: `>= 0.85`.

    held: "ratio" or "value", which of the two `wanted` is about.
    """

    name: str
    value: float
    unit: str
    reference: str
    reference_value: float
    wanted: str = ""
    held: str = "ratio"
    context: dict[str, Any] = field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        """value / reference_value."""
        return self.value / self.reference_value if self.reference_value else None

    @property
    def reached(self) -> bool:
        """Whether the figure is what is wanted."""
        if not self.wanted:
            return True
        sign, bound = self.wanted.split()
        figure = self.ratio if self.held == "ratio" else self.value
        assert figure is not None
        return figure >= float(bound) if sign == ">=" else figure <= float(bound)


def report(target: str, figures: list[Figure], context: dict[str, Any]) -> None:
    """Append `figures` to the target's file and print them."""
    everywhere = {
        "cpu": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "versions": _versions(),
        **context,
    }
    FOLDER.mkdir(parents=True, exist_ok=True)
    with open(FOLDER / f"{target}.jsonl", "a") as lines:
        for figure in figures:
            record = asdict(figure) | {"ratio": figure.ratio, "reached": figure.reached}
            lines.write(json.dumps(record | {"context": everywhere | figure.context}) + "\n")
    Console(width=160).print(_table(target, figures))


def _table(target: str, figures: list[Figure]) -> Table:
    table = Table(title=target, title_justify="left")
    for name in ("figure", "value", "reference", "reference value", "ratio", "wanted", ""):
        table.add_column(name, justify="left" if name in ("figure", "reference", "") else "right")
    for f in figures:
        ratio = "" if f.ratio is None else f"{f.ratio:.3f}"
        wanted = f"{'ratio' if f.held == 'ratio' else 'value'} {f.wanted}" if f.wanted else ""
        mark = "" if not f.wanted else "reached" if f.reached else "[bold red]missed[/bold red]"
        table.add_row(
            f.name, f"{_number(f.value)} {f.unit}", f.reference, _number(f.reference_value), ratio, wanted, mark
        )
    return table


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.5g}"


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("torch", "torchrec", "numpy", "pyarrow")}
