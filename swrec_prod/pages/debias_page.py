"""Curves of c and alpha as a page with pictures: debias.html, beside debias.json and debias.md."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from swrec_prod.debiasing.curves import Curve
from swrec_prod.debiasing.curves_text import SAME, alpha_grid, lead_of, scenario_grid, strength_grid
from swrec_prod.drawing.html import as_html
from swrec_prod.drawing.page import Card, Page, Section, Table
from swrec_prod.evaluate.text import interval, several
from swrec_prod.files import write_text
from swrec_prod.pages import debias_pictures as pictures

PAGE = "debias.html"


def write_debias_page(curves: Sequence[Curve], out: Path) -> None:
    """Write debias.html into the folder `out`, whole or not at all."""
    write_text(out / PAGE, as_html(debias_page(curves)))


def debias_page(curves: Sequence[Curve]) -> Page:
    """Runs by alpha where there are several, and of each table its curves of c."""
    runs = [curve for curve in curves if curve.source.alpha is not None]
    sections: list[Section] = []
    if len(runs) > 1:
        sections += [pictures.figures_by_alpha(runs), pictures.scenarios_by_alpha(runs)]
    if len(curves) > 1:
        sections.append(Table("Runs by alpha", alpha_grid(curves)))
    for curve in curves:
        sections += _sections(curve)
    lead = f"{several(len(curves), 'table')} of scored rows, replayed at other strengths c. {SAME}"
    return Page("Curves of c and alpha", lead, list(_cards(curves)), sections)


def _sections(curve: Curve) -> Iterator[Section]:
    name = curve.source.name
    yield pictures.figures_by_c(curve, f"{name}: figures by c")
    yield pictures.shares_by_c(curve, f"{name}: who is shown")
    yield Table(f"{name}: every c", strength_grid(curve), lead_of(curve))
    if curve.at_random:
        title = f"{name}: the rows that chance chose"
        yield pictures.figures_by_c(curve, title, random=True)
        yield Table(f"{title}, every c", strength_grid(curve, random=True))
    yield Table(f"{name}: each scenario, whatever c", scenario_grid(curve))


def _cards(curves: Sequence[Curve]) -> Iterator[Card]:
    """Of the first table with labels."""
    judged = next((curve for curve in curves if curve.point("0").auc is not None), None)
    if judged is None:
        return
    zero, own = judged.point("0"), judged.point(judged.own)
    for title, point in {"AUC at c = 0": zero, "AUC at its own c": own}.items():
        if point.auc is not None and (point is zero or own.name != "0"):
            yield Card(title, f"{point.auc.value:.4f}", f"{judged.source.name}, {interval(point.auc)}")
    if own.liked is not None:
        yield Card("True interest in order", f"{own.liked.value:.4f}", f"{judged.source.name}, at its own c")
