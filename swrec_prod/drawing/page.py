"""What a page says, as records: html.py and markdown.py write them down."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from swrec_prod.drawing.style import Picture
from swrec_prod.evaluate.text import Grid

FOLDED = 40  # longer tables are folded
Tone = Literal["good", "bad", "unclear"]
SIGNS: dict[Tone, str] = {"good": "✓", "bad": "✗", "unclear": "!"}  # beside the colours, which not everyone tells apart


class Card(NamedTuple):
    """A headline number. note: a line of small print below it."""

    name: str
    value: str
    note: str = ""


class Table(NamedTuple):
    """A table of figures. note: how to read it."""

    title: str
    grid: Grid
    note: str = ""

    @property
    def folded(self) -> bool:
        """Whether it is so long that a reader opens it first."""
        return len(self.grid.rows) > FOLDED


class Facts(NamedTuple):
    """Names and values, one pair a line."""

    title: str
    facts: Sequence[tuple[str, str]]


class Links(NamedTuple):
    """Other pages. links: (name, address relative to this page)."""

    title: str
    links: Sequence[tuple[str, str]]


class Point(NamedTuple):
    """One ground of a decision."""

    tone: Tone
    text: str


class Decision(NamedTuple):
    """What is to be done, in one word, and why."""

    title: str
    word: str
    tone: Tone
    text: str
    points: Sequence[Point] = ()


Section = Picture | Table | Facts | Decision | Links


class Page(NamedTuple):
    """What a page says, in the order in which it says it; every string is plain text."""

    title: str
    lead: str
    cards: Sequence[Card]
    sections: Sequence[Section]
