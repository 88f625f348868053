"""Small logs of known truth, over which intervals are tried: users of unequal taste and activity, and two models.

Shapes: N rows.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from swrec_prod.errors import SingleClassError
from swrec_prod.metrics.probabilities import logloss, sigmoid
from swrec_prod.metrics.ranks import auc
from swrec_prod.metrics.within_groups import gauc

LARGE, TIMES = 1_500_000, 4  # rows of a sample that stands for all users, and how many such samples


class Log(NamedTuple):
    """Drawn rows, each [N]; a, b: the logits of two models."""

    labels: np.ndarray
    a: np.ndarray
    b: np.ndarray
    users: np.ndarray


class World(NamedTuple):
    """How logs come to be. rows: of a user, on average; skewed: whether users' rows are lognormal, one user having up
    to several hundred; base: logit of the click rate; taste: how much users differ in it, and in how a model sees them.
    """

    users: int
    rows: int
    skewed: bool = False
    base: float = -1.0
    taste: float = 0.7

    def draw(self, random: np.random.Generator) -> Log:
        """Fresh users and rows, of both labels from two users at least: fewer have no interval."""
        while True:
            log = self._draw(random, self.users)
            if min(len(np.unique(log.users[log.labels == label])) for label in (0, 1)) >= 2:
                return log

    def truths(self, seed: int = 1) -> dict[str, float]:
        """What each figure of model a is over all users, and its difference to b, from large samples."""
        sample = [figures(self._draw(np.random.default_rng([seed, i]), LARGE // self.rows)) for i in range(TIMES)]
        return {name: float(np.mean([drawn[name] for drawn in sample])) for name in sample[0]}

    def _draw(self, random: np.random.Generator, users: int) -> Log:
        sizes = np.full(users, self.rows)
        if self.skewed:  # mean and spread of log such that the mean is about `rows`
            sizes = np.minimum(1 + random.lognormal(np.log(self.rows) - 0.8, 1.2, users).astype(int), 40 * self.rows)
        user = np.repeat(np.arange(users), sizes)
        taste, seen, other = random.normal(size=(3, users))[:, user] * self.taste
        noise = random.normal(size=(4, len(user)))
        interest = self.base + taste + 0.8 * noise[0]
        labels = (random.random(len(user)) < sigmoid(interest)).astype(float)
        shared = interest + 0.7 * seen + 0.3 * noise[1]
        return Log(labels, shared + 0.5 * noise[2], shared + 0.2 * other + 0.7 * noise[3], user)


def figures(log: Log) -> dict[str, float]:
    """The figures whose intervals are tried; GAUC only where users have several rows."""
    found: dict[str, float] = {}
    for name, of in (
        ("auc", lambda z: auc(log.labels, z)),
        ("gauc", lambda z: gauc(log.labels, z, log.users).value),
        ("logloss", lambda z: logloss(log.labels, z)),
    ):
        try:
            a, b = of(log.a), of(log.b)
        except SingleClassError:
            continue
        found |= {name: a, f"{name}_difference": a - b}
    return found


WORLDS = {
    "one row a user": World(600, 1, taste=0),
    "one row a user, few positives": World(1500, 1, base=-5, taste=0),
    "even users": World(300, 10),
    "skewed users": World(200, 10, skewed=True),
    "few users": World(30, 50),
    "few skewed users": World(50, 10, skewed=True),
    "few positives": World(400, 10, base=-6),
    "skewed users, few positives": World(300, 10, skewed=True, base=-5),
}
