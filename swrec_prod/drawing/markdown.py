"""A page as Markdown, for pipelines and pull requests: the same words and tables, without the pictures."""

from __future__ import annotations

import re
from collections.abc import Iterator

from swrec_prod.drawing.page import SIGNS, Card, Decision, Facts, Links, Page, Section, Table
from swrec_prod.evaluate.text import markdown_table

MARKUP = re.compile(r"([\\*`|<>\[\]])")


def as_markdown(page: Page) -> str:
    """The whole page."""
    blocks = [f"# {plain(page.title)}", plain(page.lead), "\n".join(map(_card, page.cards))]
    for section in page.sections:
        content = [block for block in _section(section) if block]
        blocks += [f"## {plain(section.title)}", *content] if content else []
    return "\n\n".join(filter(None, blocks)) + "\n"


def plain(text: str) -> str:
    """Text in which nothing is markup but subscripts."""
    return re.sub(r"\\<(/?)sub\\>", r"<\1sub>", MARKUP.sub(r"\\\1", text))


def _card(card: Card) -> str:
    return f"- {plain(card.name)}: **{plain(card.value)}**{f' ({plain(card.note)})' if card.note else ''}"


def _section(section: Section) -> Iterator[str]:
    if isinstance(section, Table):
        yield plain(section.note)
        yield markdown_table(section.grid.header, section.grid.rows)
    elif isinstance(section, Facts):
        yield "\n".join(f"- {plain(name)}: {plain(value)}" for name, value in section.facts)
    elif isinstance(section, Links):
        yield "\n".join(f"- [{plain(name)}]({address})" for name, address in section.links)
    elif isinstance(section, Decision):
        yield f"**{SIGNS[section.tone]} {plain(section.word)}** {plain(section.text)}"
        yield "\n".join(f"- {SIGNS[point.tone]} {plain(point.text)}" for point in section.points)
    else:
        yield plain(section.finding)
