"""What the scores of all ranks' rows add up to, though no rank holds more of them than its own and a range.

Each rank cuts its statistics by score and sends every range to the rank that adds it up (a sample sort: Frazer &
McKellar, JACM 1970). One process does the same in turns, over pieces that may lie on the disk.

Shapes: R ranges.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from swrec_prod.evaluate.peers import Peers
from swrec_prod.metrics.ranks import RankStatistic
from swrec_prod.metrics.score_ranges import Masses, ScoreSums, cut, range_edges, sample

ByScenario = Mapping[str, RankStatistic]


class Sums(NamedTuple):
    """The sums of each scenario, and of all of them together."""

    scenarios: dict[str, ScoreSums]
    overall: ScoreSums


def auc_of_all(own: RankStatistic, peers: Peers) -> float:
    """AUC of the rows of all ranks. Raises SingleClassError when all labels are equal."""
    return score_sums([{"": own}], peers).overall.auc()


def score_sums(pieces: Sequence[ByScenario], peers: Peers, turns: int = 1) -> Sums:
    """The sums over the rows of all ranks, on each of them.

    pieces: this rank's rows, in any number of pieces, one at least. turns: how many ranges a rank adds up, one after
    the other, so that it holds one of them at a time.
    """
    ranges = turns * peers.world_size
    samples = peers.to_all([sample(scores) for piece in pieces for scores in piece.values()])
    edges = range_edges([scores for everyone in samples for scores in everyone], ranges)
    parts = [{name: cut(scores, edges) for name, scores in piece.items()} for piece in pieces]
    masses = peers.to_all(_masses(parts, ranges))
    names = sorted({name for rank in masses for name in rank})
    masses_R2 = {name: sum((rank[name] for rank in masses if name in rank), np.zeros((ranges, 2))) for name in names}
    own = [_sums(number, scores, masses_R2) for number, scores in _own_ranges(parts, peers, turns)]
    everyone = [sums for rank in peers.to_all(own) for sums in rank]
    scenarios = {name: ScoreSums.merged([sums.scenarios[name] for sums in everyone]) for name in names}
    return Sums(scenarios, ScoreSums.merged([sums.overall for sums in everyone]))


Parts = Sequence[Mapping[str, list[RankStatistic]]]  # of every piece and scenario, its part in each range


def _own_ranges(parts: Parts, peers: Peers, turns: int) -> Iterator[tuple[int, ByScenario]]:
    """The ranges that this rank adds up, with their rows of all ranks."""
    for turn in range(turns):
        first = turn * peers.world_size
        parcels = [_together([_in_range(part, first + rank) for part in parts]) for rank in range(peers.world_size)]
        yield first + peers.rank, _together(peers.exchange(parcels))


def _in_range(part: Mapping[str, list[RankStatistic]], number: int) -> ByScenario:
    return {name: scores_R[number] for name, scores_R in part.items()}


def _together(pieces: Sequence[ByScenario]) -> ByScenario:
    names = dict.fromkeys(name for piece in pieces for name in piece)
    return {name: RankStatistic.merged([piece[name] for piece in pieces if name in piece]) for name in names}


def _masses(parts: Parts, ranges: int) -> dict[str, np.ndarray]:
    """What positive and negative rows of each scenario weigh in each range: float64 [R, 2]."""
    masses: dict[str, np.ndarray] = {}
    for part in parts:
        for name, scores_R in part.items():
            masses_R2 = np.array([Masses.of(scores) for scores in scores_R])
            masses[name] = masses.get(name, np.zeros((ranges, 2))) + masses_R2
    return masses


def _sums(number: int, scores: ByScenario, masses_R2: Mapping[str, np.ndarray]) -> Sums:
    """The sums of one range, which lies between those before and behind it. masses_R2: of all ranges, by scenario."""
    none = RankStatistic.merged([])

    def of(rows: RankStatistic, masses_R2: np.ndarray) -> ScoreSums:
        return ScoreSums.of(rows, Masses(*masses_R2[:number].sum(0)), Masses(*masses_R2.sum(0)))

    scenarios = {name: of(scores.get(name, none), masses) for name, masses in masses_R2.items()}
    return Sums(scenarios, of(RankStatistic.merged(list(scores.values())), sum(masses_R2.values())))
