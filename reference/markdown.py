"""Pieces of Markdown: tables, code, text from docstrings."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from reference.records import Key, Record

DOCTEST = re.compile(r"^>>> .*?(?=\n\s*\n|\Z)", re.MULTILINE | re.DOTALL)


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table. Cells are Markdown; what would end a cell is escaped."""
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines) + "\n"


def _cell(text: str) -> str:
    return "".join(part if i % 2 else part.replace("|", "\\|") for i, part in enumerate(re.split(r"(`[^`]*`)", text)))


def code(text: str) -> str:
    """Text in code style; "" stays ""."""
    return f"`{text}`" if text else ""


def escaped(text: str) -> str:
    """Text that stands for itself where HTML is allowed."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def prose(text: str) -> str:
    """A docstring's words as Markdown: what is between backticks is code, all else stands for itself."""
    parts = re.split(r"`([^`]+)`", " ".join(text.split()))
    return "".join(
        code(part) if i % 2 else re.sub(r"([*_\[\]])", r"\\\1", escaped(part)) for i, part in enumerate(parts)
    )


def block(text: str, language: str = "text", title: str = "") -> str:
    """A block of code."""
    head = f'{language} title="{title}"' if title else language
    return f"```` {head}\n{text.rstrip()}\n````\n"


def with_fences(docstring: str) -> str:
    """A docstring whose examples (`>>>`) are blocks of code."""
    return DOCTEST.sub(lambda found: f"\n```pycon\n{found.group()}\n```\n", docstring)


def without_examples(docstring: str) -> str:
    """A docstring without its examples (`>>>`)."""
    return DOCTEST.sub("", docstring)


def keys_table(keys: Iterable[Key], first: str = "key", paths: Mapping[Record, str] | None = None) -> str:
    """Keys or options: what each takes, its default and what it means.

    paths: where on the page the records stand that values consist of.
    """
    rows = (
        [f"**{code(key.name)}**", _value(key, paths or {}), _default(key, paths or {}), prose(key.meaning)]
        for key in keys
    )
    return table([first, "value", "default", "meaning"], rows)


def _default(key: Key, paths: Mapping[Record, str]) -> str:
    """The default; that of a record which has a table of its own is in that table."""
    return "its defaults" if key.default and set(key.records) & set(paths) else default(key.default)


def default(text: str | None) -> str:
    """A default, none or that the key is required."""
    return "*required*" if text is None else code(text) or "–"


def _value(key: Key, paths: Mapping[Record, str]) -> str:
    """What a key takes, with links to the records in it."""
    inside = dict.fromkeys(paths[record] for record in key.records if record in paths)
    return ", see ".join([prose(key.value), *(f"[{code(path)}](#{anchor(path)})" for path in inside)])


def anchor(path: str) -> str:
    """The anchor of a record's path.

    >>> anchor("schema.features[].encoder")
    'schema-features-encoder'
    """
    return re.sub(r"\W+", "-", path).strip("-")
