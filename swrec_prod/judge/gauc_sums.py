"""Whether the GAUC of two models differs over several days, or only its users do: sums by user, a day at a time.

    difference = sum_g W_g (a_g - b_g) / sum_g W_g

where g is a user on a day, a_g and b_g are the AUCs of both models inside g, and W_g is the weight of its rows: the
difference of the pooled figures. A user's days are one cluster (statistics/spread.py).

Shapes: N rows, G users of one day that have both labels, U users of all days.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from swrec_prod.evaluate.predictions import codes_of, weights_of
from swrec_prod.judge.record import GaucDifference
from swrec_prod.judge.user_sums import summed_by_user
from swrec_prod.metrics.group_sums import Blocks, ByGroup
from swrec_prod.metrics.within_groups import gauc_by_group
from swrec_prod.statistics.spread import mean_and_spread


class GaucSums:
    """Differences of users' AUCs times their weight, and the weights, summed by user."""

    def __init__(self) -> None:
        self._table: pa.Table | None = None

    def add(self, scores: pa.Table, labels: np.ndarray, mine: np.ndarray, theirs: np.ndarray) -> None:
        """The rows of one day more. scores: their users and weights; mine, theirs: the logits of both models, [N]."""
        codes, names = codes_of(scores, "user")
        own, other = (_by_user(codes, labels, logits, weights_of(scores)) for logits in (mine, theirs))
        users = pa.array(names, pa.string()).take(pa.array(own.group_G))
        sums = {"weighted": own.weight_G * (own.value_G - other.value_G), "weight": own.weight_G}
        self._table = summed_by_user(self._table, users, sums)

    def found(self) -> GaucDifference | None:
        """None with fewer than two users that have both labels on a day."""
        if self._table is None or len(self._table) < 2:
            return None
        weight_U = self._table["weight"].to_numpy()
        value, spread = mean_and_spread(self._table["weighted"].to_numpy(), weight_U)
        reach, p = spread.quantile() * spread.error, spread.p(value)
        ends = {"low": value - reach, "high": value + reach}
        marks = {"p": p, "adjusted_p": p, "significant": False}
        return GaucDifference(users=len(weight_U), value=value, error=spread.error, **ends, **marks)


def _by_user(codes: np.ndarray, labels: np.ndarray, logits: np.ndarray, weights: np.ndarray | None) -> ByGroup:
    return gauc_by_group(Blocks.of(labels, logits, codes, weights))
