"""`swrec debias`: curves of c for each table of predictions, and of alpha over the runs that were trained with several.

A run's alpha, c and scenarios are those of its run.yaml; a table alone has neither, and its curve begins at c = 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from swrec_prod.debiasing.causal_rows import CausalRows, read_causal, with_truth
from swrec_prod.debiasing.strengths import ScenarioFigures, Strength, by_scenario, strengths
from swrec_prod.errors import ConfigError
from swrec_prod.metrics.probabilities import logloss
from swrec_prod.run_dir import PREDICTIONS_FILE, RUN_FILE, RunDir


class Source(NamedTuple):
    """What was given. alpha: weight of the scenario loss; c: the run's own, one or by scenario; None of a table."""

    name: str
    file: Path
    alpha: float | None = None
    c: float | dict[str, float] | None = None


class Asked(NamedTuple):
    """How tables are judged. grid: values of c; k: places of a page; page_by: whose rows make a page; random: the
    column that says which rows chance chose; truth: a folder of `swrec simulate`.
    """

    grid: tuple[float, ...]
    k: int = 10
    page_by: str = "user"
    random: str | None = None
    truth: Path | None = None


@dataclass(frozen=True)
class Curve:
    """The figures of one source. at: of every c on all rows; at_random: on the rows that chance chose, empty where no
    column says; scenarios: their names in the order of page shares.
    """

    source: Source
    rows: int
    users: int
    logloss: float | None
    own: str
    scenarios: tuple[str, ...]
    at: list[Strength]
    at_random: list[Strength]
    by_scenario: list[ScenarioFigures]

    def point(self, name: str) -> Strength:
        """The figures of one c."""
        return next(one for one in self.at if one.name == name)

    def to_json(self) -> dict[str, Any]:
        """One of `curves` in debias.json; docs/debiasing.md says what its keys mean."""
        return {
            "name": self.source.name,
            "alpha": self.source.alpha,
            "c": self.source.c,
            "rows": self.rows,
            "users": self.users,
            "logloss": self.logloss,
            "at": [self._record(one) for one in self.at],
            "at_random": [self._record(one) for one in self.at_random],
            "scenarios": [_plain(one._asdict()) for one in self.by_scenario],
        }

    def _record(self, one: Strength) -> dict[str, Any]:
        return _plain(one._asdict()) | {"shares": dict(zip(self.scenarios, one.shares, strict=True))}


def curves(words: Sequence[str], asked: Asked) -> list[Curve]:
    """words: RUN_DIR, predictions.parquet, or NAME= before either; the runs by rising alpha.

    Raises ConfigError for a name that is given twice, DataError for a table that cannot be used.
    """
    sources = [_source(word) for word in words]
    names = [source.name for source in sources]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"{name!r} is the name of two tables; give NAME=RUN_DIR")
    found = [_curve(source, asked) for source in sources]
    return sorted(found, key=lambda curve: -1.0 if curve.source.alpha is None else curve.source.alpha)


def _source(word: str) -> Source:
    name, equals, rest = word.partition("=")
    path = Path(rest) if equals and not Path(word).exists() else Path(word)
    given = name if equals and not Path(word).exists() else ""
    if not (path / RUN_FILE).is_file():
        return Source(given or path.stem, path)
    debias = RunDir(path).config().debias
    file = path / PREDICTIONS_FILE
    if debias is None:
        return Source(given or path.name, file)
    return Source(given or path.name, file, debias.alpha, None if isinstance(debias.c, str) else debias.c)


def _curve(source: Source, asked: Asked) -> Curve:
    rows = read_causal(source.file, asked.page_by, asked.random)
    rows = rows if asked.truth is None else with_truth(rows, asked.truth)
    grid, own = sorted({*asked.grid, *([source.c] if isinstance(source.c, float) else [])}), _own(source, rows)
    random = [] if rows.random_N is None else strengths(rows.take(rows.random_N), grid, own, asked.k)
    return Curve(
        source,
        len(rows),
        len(np.unique(rows.user_N)),
        None if rows.label_N is None else logloss(rows.label_N, rows.scores(0.0)),
        "own" if own is not None else f"{source.c or 0.0:g}",
        rows.scenarios,
        strengths(rows, grid, own, asked.k),
        random,
        by_scenario(rows),
    )


def _own(source: Source, rows: CausalRows) -> np.ndarray | None:
    """The run's c of each scenario, [S], where it differs; a scenario that it does not name has 0."""
    if not isinstance(source.c, dict):
        return None
    return np.array([source.c.get(name, 0.0) for name in rows.scenarios])


def _plain(record: dict[str, Any]) -> dict[str, Any]:
    """The record with its intervals as objects."""
    return {name: one._asdict() if hasattr(one, "_asdict") else one for name, one in record.items()}
