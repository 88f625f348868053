"""train.on_divergence: what becomes of a run whose loss is no number any more, or explodes."""

from __future__ import annotations

import re
import shutil

from swrec_prod import checkpoint
from swrec_prod.config import RunConfig
from swrec_prod.errors import DivergedError, MetricError
from swrec_prod.run_dir import RunDir
from swrec_prod.train.distributed import on_main
from swrec_prod.train.loop import Fit, FitState
from swrec_prod.train.optim import set_rates

SLOWER = 0.5  # of the rates, at every rewind
TIMES = 3


def rewind(config: RunConfig, folder: RunDir, fit: Fit, state: FitState, failure: DivergedError, healthy: int) -> str:
    """Make fit and state what the last checkpoint before `healthy` says, with lower rates; gives a line about it.

    Every rank calls this; no save may be running. Raises MetricError where the configuration does not say so, where
    there is no such checkpoint, and after TIMES. healthy: the last step at which no rank had diverged.
    """
    rates = f"train.lr_dense ({config.train.lr_dense:g}) or train.lr_sparse ({config.train.lr_sparse:g})"
    if config.train.on_divergence == "end":
        raise MetricError(f"{failure}; lower {rates}, or set train.on_divergence: rewind")
    rate = state.rate * SLOWER
    paths = sorted(folder.checkpoints.glob("step-*"))
    before = [path for path in paths if _step(path.name) < max(healthy, 1)]
    if not before or rate < SLOWER**TIMES:
        why = f"rewound {TIMES} times already" if before else "no checkpoint before that to rewind to"
        raise MetricError(f"{failure}; {why}; lower {rates}")
    on_main(fit.ranks, lambda: [shutil.rmtree(path) for path in paths if path > before[-1]] and None)
    saved = checkpoint.restore(before[-1], fit.model, fit.optimizer)
    vars(state).update(vars(FitState(**{**saved["fit"], "rate": rate})))
    set_rates(fit.optimizer, config.train, rate)
    random = saved.get("random") or []
    if len(random) == fit.ranks.world_size:
        fit.random = random[fit.ranks.rank]
    on_main(fit.ranks, lambda: folder.write_history(state.history))
    return f"{failure}; back to {before[-1].name}, with rates of {rate:g} times those of the run file"


def _step(name: str) -> int:
    return int(re.sub(r"\D", "", name))
