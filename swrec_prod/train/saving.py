"""What a run saves, and when: the fit as it stands, after every validation and in between."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from swrec_prod import checkpoint
from swrec_prod.config import RunConfig
from swrec_prod.data.catalog import Catalog
from swrec_prod.train.data_seen import data_seen
from swrec_prod.train.distributed import on_main, random_state
from swrec_prod.train.due import Due
from swrec_prod.train.loop import Fit, FitState


def save(folder: Path, fit: Fit, state: FitState, fingerprint: str) -> Path:
    """A checkpoint of the fit as it stands, whole when this returns; every rank calls it. fingerprint: the data's."""
    return checkpoint.save(folder, state.step, fit.model, fit.optimizer, beside(fit, state, fingerprint))


def beside(fit: Fit, state: FitState, fingerprint: str, **more: Any) -> dict[str, Any]:
    """What lies beside the tensors. more: JSON values."""
    return {"fit": state.to_json(), "fingerprint": fingerprint, "plan": str(fit.model.plan), **more}


def check_room(folder: Path, fit: Fit) -> None:
    """Raises CheckpointError, on every rank, when a checkpoint of this fit cannot be written to `folder`."""
    content = checkpoint.content_of(fit.model, fit.optimizer)
    size = sum(fit.ranks.to_all(checkpoint.size_of(content, shards_only=not fit.ranks.is_main)))
    on_main(fit.ranks, lambda: checkpoint.check_writable(folder, size))


class Saving:
    """The checkpoints of one run; every rank has one and calls the same methods. folder: of the checkpoints.

    Raises CheckpointError, in any method, when the checkpoint before could not be written.
    """

    def __init__(self, config: RunConfig, folder: Path, catalog: Catalog, fit: Fit, rows_a_step: int) -> None:
        self._config, self._fit, self._fingerprint = config.checkpoint, fit, catalog.fingerprint
        self._of_run = {"data": data_seen(catalog, config.data), "rows_a_step": rows_a_step}
        self._saver = checkpoint.Saver(folder, config.checkpoint.keep, background=config.checkpoint.background)
        self._due = Due(config.checkpoint, fit.train, fit.ranks)

    def validated(self, state: FitState) -> None:
        """Save after a validation, where what is drawn (dropout) begins anew."""
        self._save(state)

    def due(self, state: FitState, rows: int) -> bool:
        """Whether to save after a step without validation, the same on all ranks. rows: of the step."""
        return self._due.now(state, rows)

    def now(self, state: FitState) -> None:
        """Save after a step without validation, whether it is time to or not."""
        self._save(state, random=self._fit.ranks.to_all(random_state(self._fit.ranks)))

    def wait(self) -> None:
        """Return once what was saved is whole and on the disk."""
        self._saver.wait()

    @property
    def paused(self) -> float:
        """Seconds for which training has stood still."""
        return self._saver.paused

    def close(self) -> None:
        """After `wait`, or on the way out with another error."""
        self._saver.close()

    def _save(self, state: FitState, **more: Any) -> None:
        fit = self._fit
        kept = beside(fit, state, self._fingerprint, **self._of_run, **more)
        self._saver.save(state.step, fit.model, fit.optimizer, kept, state.best_steps(self._config.keep_best))
        self._due.saved()
