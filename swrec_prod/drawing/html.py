"""One self-contained HTML page: text, pictures and the plotting library inside, nothing fetched when it is opened.

The markup lies in templates/; what is text in a page's records is escaped there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache

import plotly.graph_objects as go
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from plotly.offline import get_plotlyjs

from swrec_prod.drawing.page import SIGNS, Decision, Facts, Links, Page, Section, Table
from swrec_prod.drawing.style import FAINT, FONT, GAIN, INK, LOSS, ON_A_PHONE, Picture

LOOK = {"ink": INK, "faint": FAINT, "gain": GAIN, "loss": LOSS, "font": FONT, "on_a_phone": ON_A_PHONE, "signs": SIGNS}


TEMPLATES: dict[type[Section], str] = {
    Picture: "picture.html",
    Table: "table.html",
    Facts: "facts.html",
    Links: "links.html",
    Decision: "decision.html",
}


def as_html(page: Page) -> str:
    """The whole page, plotting library included."""
    template = _templates().get_template("page.html")
    return template.render(page=page, sections=list(_numbered(page.sections)), plotly=get_plotlyjs(), **LOOK)


def _numbered(sections: Sequence[Section]) -> Iterator[tuple[Section, str, int]]:
    """Each section with its template and how many pictures came before it: a number that only one picture has."""
    pictures = 0
    for section in sections:
        yield section, TEMPLATES[type(section)], pictures
        pictures += isinstance(section, Picture)


@cache
def _templates() -> Environment:
    templates = Environment(
        loader=PackageLoader("swrec_prod.drawing"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {"plot": _plot, "with_subscripts": _with_subscripts}
    return templates


def _plot(figure: go.Figure, number: int) -> Markup:
    """The element and script that draw a figure; number: makes the element's id unique on the page."""
    options = {"displayModeBar": False, "responsive": True}
    drawn = figure.to_html(full_html=False, include_plotlyjs=False, config=options, div_id=f"picture-{number}")
    return Markup(drawn)


def _with_subscripts(text: str) -> Markup:
    """Escaped text in which only subscripts are markup."""
    marked = str(escape(text)).replace("&lt;sub&gt;", "<sub>").replace("&lt;/sub&gt;", "</sub>")
    return Markup(marked)
