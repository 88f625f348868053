"""What a docstring says of each key, option and column.

Keys and options are explained in the docstring of the record or model that has them, each by its name and a colon, at
the beginning of a line or of a sentence; what follows explains it, up to the next one or a paragraph that begins
otherwise:

    path: what `swrec prepare` wrote. split: `random` reads the split column, `days` reads `days`.

    norm, dropout: of the hidden layers; tower_norm: of the towers.

Columns are lines of an indented block: the name, two spaces, the type, two spaces, the meaning, which may go on in
lines that begin below it. The type may also stand behind the name.

    row             int64       the number of the row in the raw log
    label_<task>    float32     what happened
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterable, Mapping
from typing import NamedTuple


class Column(NamedTuple):
    """A column of a table on disk, or several that one line of a docstring describes. type: "" where none is given."""

    names: tuple[str, ...]
    type: str
    meaning: str


class Explained(NamedTuple):
    """A docstring taken apart. remarks: its paragraphs, or beginnings of them, that explain no key; keys: by name."""

    remarks: tuple[str, ...]
    keys: Mapping[str, str]


def explained(docstring: str | None, names: Iterable[str]) -> Explained:
    r"""The explanations of `names` and what else the docstring says.

    >>> explained("Rows. path: a folder. user, item: columns.\n\nThe rest.", ["path", "user", "item"]).keys["item"]
    'columns.'
    >>> explained("Rows. path: a folder.\n\nThe rest.", ["path"]).remarks
    ('Rows.', 'The rest.')
    """
    heading = _heading(names)
    remarks: list[str] = []
    keys: dict[str, str] = {}
    for paragraph in paragraphs(docstring):
        before, *pieces = heading.split(paragraph)
        if before.strip():
            remarks.append(before.strip())
        for heads, text in zip(pieces[::2], pieces[1::2], strict=True):
            keys |= dict.fromkeys(re.findall(r"\w+", heads), " ".join(text.split()).rstrip(";"))
    return Explained(tuple(remarks), keys)


def _heading(names: Iterable[str]) -> re.Pattern[str]:
    """What begins an explanation: one or several names and a colon."""
    name = f"`?(?:{'|'.join(sorted(map(re.escape, names), key=len, reverse=True)) or '(?!)'})`?"
    return re.compile(rf"(?:^|(?<=[.;:)] )|(?<=[.;:)]\n))({name}(?:,\s{name})*):\s", re.MULTILINE)


def paragraphs(docstring: str | None) -> tuple[str, ...]:
    """What blank lines separate; indented ones are formulas or columns."""
    return tuple(p for p in re.split(r"\n(?:[ \t]*\n)+", inspect.cleandoc(docstring or "")) if p.strip())


def is_block(paragraph: str) -> bool:
    """Whether all lines are indented."""
    return all(line.startswith("    ") for line in paragraph.splitlines())


def columns(paragraph: str) -> tuple[Column, ...]:
    """The columns that an indented paragraph describes; none for a paragraph of another form."""
    return tuple(_columns_of(textwrap.dedent(paragraph)) if is_block(paragraph) else ())


def _columns_of(block: str) -> list[Column]:
    found: list[Column] = []
    for line in block.splitlines():
        cells = re.split(r"\s{2,}", line.strip(), maxsplit=2)
        if not line.startswith(" ") and len(cells) > 1:
            names = [name.split()[0] for name in cells[0].split(", ")]
            found.append(Column(tuple(names), _type_of(cells), cells[-1]))
        elif line.startswith(" ") and found:
            found[-1] = found[-1]._replace(meaning=f"{found[-1].meaning} {line.strip()}")
    return found


def _type_of(cells: list[str]) -> str:
    """The cell between name and meaning, or the words behind the names."""
    behind = (name.partition(" ")[2] for name in cells[0].split(", "))
    return cells[1] if len(cells) == 3 else ", ".join(dict.fromkeys(filter(None, behind)))
