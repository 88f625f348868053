"""Curves of c and alpha as tables: for the terminal, Markdown and JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from swrec_prod.debiasing.curves import Curve
from swrec_prod.debiasing.strengths import Strength
from swrec_prod.evaluate.judged import MAX_CURVES
from swrec_prod.evaluate.terminal import terminal_table
from swrec_prod.evaluate.text import NONE, Grid, count, interval, markdown_table, number, several, share, short, signed
from swrec_prod.files import write_json, write_text
from swrec_prod.metrics.ranks import Interval

SAME = "Inside a scenario c changes no order, and it changes no probability, log loss or calibration anywhere."
FIGURES = {"auc": "AUC", "gauc": "GAUC", "ndcg": "NDCG", "liked": "liked", "page_rate": "page rate"}


def debias_json(curves: Sequence[Curve]) -> dict[str, Any]:
    """debias.json."""
    return {"curves": [curve.to_json() for curve in curves]}


def strength_grid(curve: Curve, random: bool = False) -> Grid:
    """One line for each c: figures with half their intervals, then the shares of pages of the busiest scenarios."""
    points = curve.at_random if random else curve.at
    known = [name for name in FIGURES if any(getattr(one, name) is not None for one in points)]
    busiest = [one.name for one in curve.by_scenario[:MAX_CURVES]]
    header = ["c", *(FIGURES[name] for name in known), "moved", *map(short, busiest)]
    return Grid(header, [_line(curve, one, known, busiest) for one in points])


def scenario_grid(curve: Curve) -> Grid:
    """One line for each scenario: what no c changes."""
    header = ["scenario", "rows", "rate", "calibration", "AUC", "σ(y_s)", "mean y_m"]
    return Grid(
        header,
        [
            [
                one.name,
                count(one.rows),
                NONE if one.rate is None else share(one.rate),
                number(one.calibration, 3),
                _text(one.auc),
                number(one.factor, 3),
                signed(one.interest),
            ]
            for one in curve.by_scenario
        ],
    )


def alpha_grid(curves: Sequence[Curve]) -> Grid:
    """One line a run, by alpha: figures at c = 0 and at the run's own c, and how far its scenarios' factors reach."""
    known = any(curve.at[0].liked is not None for curve in curves)
    header = ["run", "alpha", "log loss", "AUC", "GAUC", "factors", "own c", "AUC there"]
    return Grid([*header, *(["liked", "liked there"] if known else [])], [_run(curve, known) for curve in curves])


def debias_markdown(curves: Sequence[Curve]) -> str:
    """debias.md."""
    parts = ["# Curves of c and alpha", SAME]
    if len(curves) > 1:
        parts += ["## Runs by alpha", _markdown(alpha_grid(curves))]
    for curve in curves:
        parts += [f"## {curve.source.name}", lead_of(curve), *_tables(curve)]
    return "\n\n".join(parts) + "\n"


def print_debias(curves: Sequence[Curve]) -> None:
    """All tables on the terminal."""
    wide = Console(width=500)
    for text, grid in _printed(curves):
        table = terminal_table(grid)
        console = Console(width=max(Console().width, wide.measure(table).maximum), highlight=False)
        console.print(text, markup=False, soft_wrap=True)
        console.print(table)
    print(SAME)


def write_debias(curves: Sequence[Curve], out: Path) -> None:
    """debias.json and debias.md in the folder `out`."""
    write_json(out / "debias.json", debias_json(curves))
    write_text(out / "debias.md", debias_markdown(curves))


def lead_of(curve: Curve) -> str:
    """Which rows were judged, in a sentence."""
    name, rows = curve.source.name, f"{several(curve.rows, 'row')} of {several(curve.users, 'user')}"
    own = "" if curve.source.c is None else f", its own c is {curve.own if curve.own != 'own' else 'one a scenario'}"
    widest = max(one.spread for one in curve.by_scenario)
    inside = "" if widest < 1e-3 else f"; y_s varies by {widest:.2f} inside a scenario, where c therefore reorders too"
    return f"{name}: {rows} in {several(len(curve.by_scenario), 'scenario')}{own}{inside}"


def _printed(curves: Sequence[Curve]) -> Iterator[tuple[str, Grid]]:
    if len(curves) > 1:
        yield "Runs by alpha", alpha_grid(curves)
    for curve in curves:
        yield lead_of(curve), strength_grid(curve)
        if curve.at_random:
            yield "The rows that chance chose:", strength_grid(curve, random=True)
        yield "Each scenario, whatever c:", scenario_grid(curve)


def _tables(curve: Curve) -> Iterator[str]:
    yield _markdown(strength_grid(curve))
    if curve.at_random:
        yield "The rows that chance chose:"
        yield _markdown(strength_grid(curve, random=True))
    yield "Each scenario, whatever c:"
    yield _markdown(scenario_grid(curve))


def _line(curve: Curve, one: Strength, known: Sequence[str], busiest: Sequence[str]) -> list[str]:
    shares = dict(zip(curve.scenarios, one.shares, strict=True))
    mine = one.name == curve.own != "own" and curve.source.c is not None
    name = one.name.replace("-", "−") + (" (own)" if mine else "")
    return [name, *(_text(getattr(one, f)) for f in known), share(one.moved), *(share(shares[s]) for s in busiest)]


def _run(curve: Curve, known: bool) -> list[str]:
    zero, own = curve.point("0"), curve.point(curve.own)
    factors = np.array([one.factor for one in curve.by_scenario])
    reach = f"{factors.min():.2f} to {factors.max():.2f}"
    cells = [curve.source.name, number(curve.source.alpha, 2), number(curve.logloss), _text(zero.auc), _text(zero.gauc)]
    cells += [reach, curve.own, _text(own.auc)]
    return cells + ([_text(zero.liked), _text(own.liked)] if known else [])


def _text(one: Interval | None) -> str:
    return NONE if one is None else interval(one)


def _markdown(grid: Grid) -> str:
    return markdown_table(grid.header, grid.rows)
