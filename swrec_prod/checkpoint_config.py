"""The section `checkpoint` of run files."""

from __future__ import annotations

import pydantic

from swrec_prod.strict import Strict


class CheckpointConfig(Strict):
    """When a run is saved, beside every validation, and what of that stays. None of it changes what is trained.

    minutes: of training between two checkpoints, at most (0: the clock saves nothing). steps: so many steps between two
    (0: steps are not counted). days: whether to save when the last row of a day has been trained on in an epoch, unless
    a checkpoint is younger than a tenth of `minutes`. (Days that are shuffled together, `data.shuffle_rows`, are over
    together.) keep: how many of the latest stay. keep_best: how many of those that validated best. background: whether
    training goes on while a checkpoint is written, where there is memory for a copy of the tensors.
    """

    minutes: float = pydantic.Field(10.0, ge=0)
    steps: int = pydantic.Field(0, ge=0)
    days: bool = True
    keep: int = pydantic.Field(2, ge=1)
    keep_best: int = pydantic.Field(1, ge=1)
    background: bool = True
