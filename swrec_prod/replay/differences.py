"""How far another package's answers are from those of a log.

Shapes: N candidates of a request, T tasks.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from swrec_prod.errors import DataError, RequestError
from swrec_prod.replay.logged_answers import LoggedAnswer, logged_answers
from swrec_prod.serving.scoring.predictor import Predictor

OVERALL = ""  # in place of a scenario's name
EVERY = 1000  # answers between two words about progress


@dataclass
class Difference:
    """Of one task in one scenario. probability: of every candidate, the package's less the log's; first: answers whose
    best candidate is another one.
    """

    answers: int = 0
    first: int = 0
    probability: list[np.ndarray] = field(default_factory=list)

    def add(self, difference: np.ndarray, is_other_first: bool) -> None:
        """One answer more. difference: [N], of its probabilities."""
        self.answers += 1
        self.first += is_other_first
        self.probability.append(difference)

    def figures(self) -> dict[str, float]:
        """For people and programs."""
        difference = np.concatenate(self.probability)
        size = np.abs(difference)
        return {
            "answers": self.answers,
            "candidates": len(difference),
            "mean": float(difference.mean()),
            "mean_size": float(size.mean()),
            "p99_size": float(np.quantile(size, 0.99)),
            "largest": float(size.max()),
            "other_first": self.first / self.answers,
        }


@dataclass
class Replayed:
    """package: NAME/VERSION; differences: by task, then by scenario, OVERALL for all of them; refused: answers that
    the package could not give, by the reason.
    """

    package: str
    differences: dict[str, dict[str, Difference]]
    refused: Counter[str]

    def to_json(self) -> dict[str, Any]:
        """See docs/exposures.md."""
        tasks = {
            task: {"overall" if name == OVERALL else name: found.figures() for name, found in by_scenario.items()}
            for task, by_scenario in self.differences.items()
        }
        return {"package": self.package, "tasks": tasks, "refused": dict(self.refused)}

    @property
    def largest(self) -> float:
        """The largest difference of a probability."""
        return max(by_scenario[OVERALL].figures()["largest"] for by_scenario in self.differences.values())


def replay(
    folder: Path,
    package: Path,
    model: str = "",
    limit: int = 0,
    own_strength: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Replayed:
    """Answer the requests of a log by the package in this folder, REPO/NAME/VERSION.

    model: only requests that this one had answered; limit: so many answers, 0 for all; own_strength: with the package's
    c in place of that of the log. Raises DataError for a log without requests, or none that the package can answer,
    PackageError for the package.
    """
    predictor = Predictor.load(package)
    replayed = Replayed(
        f"{predictor.name}/{predictor.version}", defaultdict(lambda: defaultdict(Difference)), Counter()
    )
    answers: Iterable[LoggedAnswer] = logged_answers(folder, model)
    for number, logged in enumerate(itertools.islice(answers, limit or None), 1):
        _add(replayed, predictor, logged, own_strength)
        if number % EVERY == 0:
            say(f"{number:,} answers")
    if not replayed.differences:
        reason = next(iter(replayed.refused), "no answers")
        raise DataError(f"{replayed.package} could answer none of the log's requests: {reason}")
    return replayed


def _add(replayed: Replayed, predictor: Predictor, logged: LoggedAnswer, own_strength: bool) -> None:
    try:
        scenario, _ = predictor.scenario(logged.call.scenario)
        strength = predictor.strength(logged.call, scenario) if own_strength else logged.strength
        scored = predictor.score(logged.call, scenario, strength)
    except (RequestError, DataError) as failure:
        replayed.refused[str(failure)] += 1
        return
    for task, name in enumerate(predictor.tasks):
        if name in logged.tasks:
            of_log = logged.tasks.index(name)
            difference = scored.probability[:, task] - logged.probability[:, of_log]
            is_other = bool(np.argmax(scored.score[:, task]) != np.argmax(logged.score[:, of_log]))
            for place in (OVERALL, logged.call.scenario):
                replayed.differences[name][place].add(difference, is_other)
