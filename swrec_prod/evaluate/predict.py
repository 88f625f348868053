"""Score rows: a ranker and batches -> arrays, in the order of the batches; all at once, or a window at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import nn

from swrec_prod.data.batch import Batch
from swrec_prod.data.decode import Piece
from swrec_prod.data.reader import Reader

SCORED = ("row", "labels", "logit", "interest", "scenario_logit")


def score_rows(model: nn.Module, batches: Iterable[Batch], device: torch.device | str = "cpu") -> dict[str, np.ndarray]:
    """What the model says of every row. model: a Ranker, sharded or not; it is left in eval mode.

    Returns row int64 [N], labels float32 [N, T], logit, interest, scenario_logit float32 [N, T] ([N, 0] without
    eliminator), and weight float32 [N] where rows have weights.
    """
    model.eval()
    parts: dict[str, list[np.ndarray]] = {name: [] for name in SCORED}
    weights: list[np.ndarray] = []
    with torch.no_grad():
        for batch in batches:
            _, scores = model(batch.to(torch.device(device)))
            columns = (batch.row_B, batch.labels_BT, scores.logit_BT, scores.interest_BT, scores.scenario_BT)
            for part, value in zip(parts.values(), columns, strict=True):
                part.append(value.cpu().numpy())
            if batch.weight_B is not None:
                weights.append(batch.weight_B.cpu().numpy())
    scored = {name: np.concatenate(arrays) for name, arrays in parts.items()}
    return scored | ({"weight": np.concatenate(weights)} if weights else {})


def score_sections(
    model: nn.Module, reader: Reader, device: torch.device | str = "cpu"
) -> Iterator[tuple[list[Piece], dict[str, np.ndarray]]]:
    """What the model says of this rank's rows, as `score_rows`, a window at a time; and where those rows lie.

    reader: in file order. With several ranks all of them go through this together.
    """
    batches = iter(reader.epoch(0))
    for section in reader.sections():
        yield section.pieces, score_rows(model, _until(batches, section.stop), device)


def _until(batches: Iterator[Batch], stop: int) -> Iterator[Batch]:
    """The batches up to that which ends with row `stop` of the epoch; the others stay in `batches`."""
    for batch in batches:
        yield batch
        if batch.position.rows >= stop:
            return
