"""One self-contained HTML page: text, pictures and the plotting library inside, nothing fetched when it is opened."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from plotly.offline import get_plotlyjs

from swrec_prod.evaluate.text import Grid
from swrec_prod.pages.style import FAINT, FONT, INK, Picture


class Card(NamedTuple):
    """A headline number. note: a line of small print below it."""

    name: str
    value: str
    note: str = ""


CSS = f"""
:root {{ color-scheme: light; }}
* {{ box-sizing: border-box; }}
body {{ margin: 0; background: #f4f6f8; color: {INK}; font: 15px/1.55 {FONT}; }}
main {{ max-width: 1080px; margin: 0 auto; padding: 36px 20px 60px; }}
h1 {{ font-size: 30px; line-height: 1.2; letter-spacing: -.01em; margin: 0 0 6px; }}
h2 {{ font-size: 19px; margin: 0 0 6px; }}
.lead {{ color: #52606d; margin: 0 0 24px; max-width: 80ch; }}
.cards {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(152px, 1fr)); gap: 12px; margin-bottom: 16px; }}
.card, section {{ background: #fff; border: 1px solid #e1e7ec; border-radius: 10px; }}
.card {{ padding: 14px 16px 12px; }}
.card b {{ display: block; font-size: 25px; font-weight: 650; line-height: 1.3; \
font-variant-numeric: tabular-nums; white-space: nowrap; }}
.card span {{ font-size: 12.5px; color: #52606d; }}
.card small {{ display: block; font-size: 12px; line-height: 1.4; color: #66737f; }}
section {{ padding: 22px 24px 16px; margin-bottom: 16px; break-inside: avoid; }}
.finding {{ margin: 0 0 4px; max-width: 94ch; }}
.how {{ margin: 0 0 8px; max-width: 94ch; font-size: 13px; color: #66737f; }}
.scroll {{ overflow-x: auto; }}
.plot {{ min-width: 600px; }}
table {{ border-collapse: collapse; width: 100%; font-size: 13.5px; font-variant-numeric: tabular-nums; }}
th, td {{ text-align: right; padding: 6px 10px; border-bottom: 1px solid #e9eef2; white-space: nowrap; }}
th {{ font-weight: 600; color: #52606d; border-bottom: 1.5px solid {FAINT}; }}
th:first-child, td:first-child {{ text-align: left; padding-left: 0; }}
tr.strong td {{ font-weight: 650; }}
dl {{ display: grid; grid-template-columns: max-content 1fr; gap: 3px 22px; margin: 8px 0; font-size: 14px; }}
dt {{ color: #66737f; }}
dd {{ margin: 0; overflow-wrap: anywhere; }}
@media print {{ body {{ background: #fff; }} main {{ padding: 0; max-width: none; }} \
.card, section {{ border-color: #ccc; }} }}
@media (max-width: 640px) {{ section {{ padding: 16px 14px 10px; }} h1 {{ font-size: 24px; }} }}
"""


def page(title: str, lead: str, cards: Sequence[Card], sections: Sequence[str]) -> str:
    """The whole page. title, lead: plain text; sections: HTML from the functions below."""
    return "\n".join(
        (
            "<!DOCTYPE html>",
            f'<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<style>{CSS}</style>",
            f"<script>{get_plotlyjs()}</script></head><body><main>",
            f'<h1>{escape(title)}</h1><p class="lead">{escape(lead)}</p>',
            f'<div class="cards">{"".join(map(_card, cards))}</div>',
            *sections,
            "</main></body></html>\n",
        )
    )


def picture_section(picture: Picture, number: int) -> str:
    """A picture with its captions; number: makes the element's id unique on the page."""
    drawn = ""
    if picture.figure is not None:
        options = {"displayModeBar": False, "responsive": True}
        plot = picture.figure.to_html(
            full_html=False, include_plotlyjs=False, config=options, div_id=f"picture-{number}"
        )
        drawn = f'<div class="scroll"><div class="plot">{plot}</div></div>'
    how = f'<p class="how">{_marked(picture.how)}</p>' if picture.how else ""
    return _section(picture.title, f'<p class="finding">{_marked(picture.finding)}</p>{how}{drawn}')


def grid_section(title: str, grid: Grid, note: str = "") -> str:
    """A table of figures."""
    head = "".join(f"<th>{escape(name)}</th>" for name in grid.header)
    opening = ['<tr class="strong">' if i < grid.strong else "<tr>" for i in range(len(grid.rows))]
    body = "".join(
        start + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>"
        for start, row in zip(opening, grid.rows, strict=True)
    )
    how = f'<p class="how">{escape(note)}</p>' if note else ""
    return _section(
        title, f'{how}<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def facts_section(title: str, facts: Sequence[tuple[str, str]]) -> str:
    """Names and values, one pair a line."""
    return _section(
        title, f"<dl>{''.join(f'<dt>{escape(name)}</dt><dd>{escape(value)}</dd>' for name, value in facts)}</dl>"
    )


def _card(card: Card) -> str:
    note = f"<small>{escape(card.note)}</small>" if card.note else ""
    return f'<div class="card"><span>{escape(card.name)}</span><b>{escape(card.value)}</b>{note}</div>'


def _section(title: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{content}</section>"


def _marked(text: str) -> str:
    """Escaped text in which only subscripts are markup."""
    return escape(text).replace("&lt;sub&gt;", "<sub>").replace("&lt;/sub&gt;", "</sub>")
