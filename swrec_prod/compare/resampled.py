"""Log loss and GAUC of compared variants under a bootstrap of the test rows' clusters.

AUC needs none: its errors are known in closed form (statistics/paired.py).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from swrec_prod.compare.runs import Scores, TestRows
from swrec_prod.errors import MetricError
from swrec_prod.statistics.bootstrap import bootstrap
from swrec_prod.statistics.draws import Draws

RESAMPLED = ("logloss", "gauc")


def resampled(rows: TestRows, scores: Sequence[Scores], resamples: int) -> dict[str, dict[str, Draws]]:
    """The mean over seeds of each figure of RESAMPLED, by figure and variant, on the same resamples.

    GAUC is within users, whatever the clusters are. A figure that two clusters at least do not have is left out.
    """
    logit_VN = np.concatenate([variant.logit_RN for variant in scores])
    ends = np.cumsum([len(variant.logit_RN) for variant in scores])[:-1]
    found = {}
    for figure in RESAMPLED:
        try:
            drawn = bootstrap(
                [figure], rows.labels_N, logit_VN, rows.cluster_N, groups=rows.user_N, resamples=resamples
            )
        except MetricError:
            continue
        seeds = [drawn[figure][first:last] for first, last in zip((0, *ends), (*ends, None), strict=True)]
        found[figure] = {variant.variant: Draws.mean(own) for variant, own in zip(scores, seeds, strict=True)}
    return found
