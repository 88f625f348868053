"""The sum of pieces of all ranks, or of more than fit into memory: their scores by range, all else as it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from swrec_prod.metrics.pieces import Piece, TaskTally
from swrec_prod.metrics.ranks import RankStatistic
from swrec_prod.peers import Peers
from swrec_prod.shares.all_scores import AllScores

NO_SCORES = RankStatistic.merged([])


class AllPieces:
    """Takes this rank's pieces one by one. turns, folder: see `AllScores`."""

    def __init__(self, peers: Peers, turns: int = 1, folder: Path | None = None) -> None:
        self._peers, self._turns, self._folder = peers, turns, folder
        self._rest: list[Piece] = []
        self._scores: dict[tuple[str, ...], AllScores] = {}

    def add(self, piece: Piece) -> None:
        """One more; no group has rows in two pieces."""
        self._rest.append(self._without_scores(piece))

    def whole(self) -> Piece | None:
        """The sum of the pieces of all ranks, on each of them, with what scores add up to in their place; None where
        there are none. All ranks call this together, once.
        """
        own = Piece.merged(self._rest) if self._rest else None
        everyone = [piece for piece in self._peers.to_all(own) if piece is not None]
        return self._with_sums(Piece.merged(everyone)) if everyone else None

    def _without_scores(self, piece: Piece, at: tuple[str, ...] = ()) -> Piece:
        tasks = {name: self._shelve((*at, name), task) for name, task in piece.tasks.items()}
        return Piece(tasks, {name: self._without_scores(part, (*at, name)) for name, part in piece.apart.items()})

    def _shelve(self, at: tuple[str, ...], task: TaskTally) -> TaskTally:
        """The tallies of a task without their scores, which are put away."""
        self._of(at).add({value: tally.scores for value, tally in task.scenarios.items()})
        scenarios = {value: replace(tally, scores=NO_SCORES, squares=None) for value, tally in task.scenarios.items()}
        given = {first: self._shelve((*at, first), own) for first, own in task.given.items()}
        return replace(task, scenarios=scenarios, given=given)

    def _with_sums(self, piece: Piece, at: tuple[str, ...] = ()) -> Piece:
        tasks = {name: self._summed((*at, name), task) for name, task in piece.tasks.items()}
        return Piece(tasks, {name: self._with_sums(part, (*at, name)) for name, part in piece.apart.items()})

    def _summed(self, at: tuple[str, ...], task: TaskTally) -> TaskTally:
        sums = self._of(at).sums()
        scenarios = {
            value: replace(task.scenarios[value], summed=sums.scenarios[value]) for value in sorted(task.scenarios)
        }
        given = {first: self._summed((*at, first), own) for first, own in task.given.items()}
        return replace(task, scenarios=scenarios, given=given, summed=sums.overall)

    def _of(self, at: tuple[str, ...]) -> AllScores:
        """The scores of one task's rows. at: names of the part, the task and the one that it follows."""
        if at not in self._scores:
            folder = self._folder and self._folder / str(len(self._scores))
            self._scores[at] = AllScores(self._peers, self._turns, folder)
        return self._scores[at]
