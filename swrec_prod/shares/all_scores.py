"""What the scores of all ranks' rows add up to, though no rank holds more of them than its own and a range.

Each rank cuts its statistics by score and sends every range to the rank that adds it up (a sample sort: Frazer &
McKellar, JACM 1970). One process does the same in turns, with what it has on the disk.

Shapes: R ranges.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from swrec_prod.metrics.ranks import RankStatistic
from swrec_prod.metrics.score_ranges import Masses, ScoreSums, cut, range_edges, sample
from swrec_prod.peers import Peers
from swrec_prod.shelf import Shelf

ByScenario = Mapping[str, RankStatistic]


class Sums(NamedTuple):
    """The sums of each scenario, and of all of them together."""

    scenarios: dict[str, ScoreSums]
    overall: ScoreSums


def auc_of_all(own: RankStatistic, peers: Peers) -> float:
    """AUC of the rows of all ranks. Raises SingleClassError when all labels are equal."""
    scores = AllScores(peers)
    scores.add({"": own})
    return scores.sums().overall.auc()


class AllScores:
    """Takes this rank's scores piece by piece; `sums` are of the rows of all ranks.

    turns: how many ranges a rank adds up, one after the other. folder: where scores wait for that; None: in memory.
    """

    def __init__(self, peers: Peers, turns: int = 1, folder: Path | None = None) -> None:
        self._peers, self._turns, self._ranges = peers, turns, turns * peers.world_size
        self._folder = folder
        self._samples: list[np.ndarray] = []
        self._pieces: Shelf[ByScenario] = Shelf(folder and folder / "pieces")

    def add(self, piece: ByScenario) -> None:
        """Some more of this rank's rows."""
        self._samples += [sample(scores) for scores in piece.values()]
        self._pieces.put(piece)

    def sums(self) -> Sums:
        """The sums over the rows of all ranks, on each of them. All ranks call this together, once."""
        samples = [scores for rank in self._peers.to_all(self._samples) for scores in rank]
        ranges, own = self._cut(range_edges(samples, self._ranges))
        masses = self._peers.to_all(own)
        names = sorted({name for rank in masses for name in rank})
        none = np.zeros((self._ranges, 2))
        masses_R2 = {name: sum((rank.get(name, none) for rank in masses), none) for name in names}
        mine = [_sums_of_range(number, scores, masses_R2) for number, scores in self._own_ranges(ranges)]
        everyone = [sums for rank in self._peers.to_all(mine) for sums in rank]
        scenarios = {name: ScoreSums.merged([sums.scenarios[name] for sums in everyone]) for name in names}
        return Sums(scenarios, ScoreSums.merged([sums.overall for sums in everyone]))

    def _cut(self, edges: np.ndarray) -> tuple[list[Shelf[ByScenario]], dict[str, np.ndarray]]:
        """This rank's scores by range; and what its positive and negative rows weigh there, [R, 2] a scenario."""
        ranges = [Shelf[ByScenario](self._folder and self._folder / f"range-{r}") for r in range(self._ranges)]
        masses: dict[str, np.ndarray] = {}
        for piece in self._pieces:
            parts = {name: cut(scores, edges) for name, scores in piece.items()}
            for number, shelf in enumerate(ranges):
                shelf.put({name: scores_R[number] for name, scores_R in parts.items()})
            for name, scores_R in parts.items():
                masses[name] = masses.get(name, 0.0) + np.array([Masses.of(scores) for scores in scores_R])
        self._pieces.clear()
        return ranges, masses

    def _own_ranges(self, ranges: list[Shelf[ByScenario]]) -> Iterator[tuple[int, ByScenario]]:
        """The ranges that this rank adds up, with their rows of all ranks."""
        world_size = self._peers.world_size
        for first in range(0, self._ranges, world_size):
            parcels = [_together(shelf) for shelf in ranges[first : first + world_size]]
            yield first + self._peers.rank, _together(self._peers.exchange(parcels))


def _together(pieces: Iterable[ByScenario]) -> ByScenario:
    pieces = list(pieces)
    names = dict.fromkeys(name for piece in pieces for name in piece)
    return {name: RankStatistic.merged([piece[name] for piece in pieces if name in piece]) for name in names}


def _sums_of_range(number: int, scores: ByScenario, masses_R2: Mapping[str, np.ndarray]) -> Sums:
    """The sums of one range, which lies between those before and behind it. masses_R2: of all ranges, by scenario."""
    none = RankStatistic.merged([])

    def of(rows: RankStatistic, masses_R2: np.ndarray) -> ScoreSums:
        return ScoreSums.of(rows, Masses(*masses_R2[:number].sum(0)), Masses(*masses_R2.sum(0)))

    scenarios = {name: of(scores.get(name, none), masses) for name, masses in masses_R2.items()}
    return Sums(scenarios, of(RankStatistic.merged(list(scores.values())), np.sum(list(masses_R2.values()), axis=0)))
