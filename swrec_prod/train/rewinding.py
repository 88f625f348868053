"""train.on_divergence: what becomes of a run whose loss is no number any more, or explodes."""

from __future__ import annotations

from swrec_prod import checkpoint
from swrec_prod.config import RunConfig
from swrec_prod.errors import DivergedError, MetricError
from swrec_prod.run_dir import RunDir
from swrec_prod.train.distributed import on_main
from swrec_prod.train.loop import Fit, FitState
from swrec_prod.train.optim import set_rates

SLOWER = 0.5  # of the rates, at every rewind
TIMES = 3


def rewind(config: RunConfig, folder: RunDir, fit: Fit, state: FitState, failure: DivergedError) -> str:
    """Make fit and state what the last checkpoint says, with lower rates; gives a line about it.

    Every rank calls this; no save may be running. Raises MetricError where the configuration does not say so, where
    there is no checkpoint, and after TIMES.
    """
    rates = f"train.lr_dense ({config.train.lr_dense:g}) or train.lr_sparse ({config.train.lr_sparse:g})"
    if config.train.on_divergence == "end":
        raise MetricError(f"{failure}; lower {rates}, or set train.on_divergence: rewind")
    rate, path = state.rate * SLOWER, checkpoint.latest(folder.checkpoints)
    if path is None or rate < SLOWER**TIMES:
        why = f"rewound {TIMES} times already" if path else "no checkpoint to rewind to"
        raise MetricError(f"{failure}; {why}; lower {rates}")
    saved = checkpoint.restore(path, fit.model, fit.optimizer)
    vars(state).update(vars(FitState(**{**saved["fit"], "rate": rate})))
    set_rates(fit.optimizer, config.train, rate)
    random = saved.get("random") or []
    fit.random = random[fit.ranks.rank] if len(random) == fit.ranks.world_size else None
    on_main(fit.ranks, lambda: folder.write_history(state.history))
    return f"{failure}; back to {path.name}, with rates of {rate:g} times those of the run file"
