"""Whether a compiled program says what the trained ranker says: measured on golden rows before anything is published.

Shapes: N rows, T tasks.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from swrec_prod.config import Quantize
from swrec_prod.data.batch import make_batch
from swrec_prod.encoding.pack import Column, PackedRequest, pack, pack_halves, take
from swrec_prod.errors import PackageError
from swrec_prod.export.loaded import Programs, by_scenario, request_of, tensors_of
from swrec_prod.export.logits import difference
from swrec_prod.export.package import Parity
from swrec_prod.export.program import ScoreProgram
from swrec_prod.layers.inputs import make_route
from swrec_prod.ranker import Ranker

# How far a program may be from the trained ranker: the largest difference of a logit, relative above 1.
EAGER_BOUND: dict[Quantize, float] = {"none": 1e-5, "fp16": 5e-3, "int8": 5e-2, "int4": 5e-1}
EQUAL_BOUND = 1e-5  # of what differs by rounding alone
SAMPLE = 64  # golden rows that are scored under every scenario: with 1,000 scenarios 64,000 rows, some seconds


class Compared:
    """A ranker, its program before and after compiling, and golden rows. columns, scenario_N: as loaded.encode_rows."""

    def __init__(
        self,
        ranker: Ranker,
        program: ScoreProgram,
        programs: Programs,
        columns: Mapping[str, Column],
        scenario_N: np.ndarray,
    ) -> None:
        self.ranker, self.program, self.programs = ranker.eval(), program, programs
        self.layout, self.columns, self.scenario_N = ranker.sparse.layout, columns, scenario_N
        self.logits = programs.mixed(pack(self.layout, columns, scenario_N))

    def parity(self, quantize: Quantize) -> Parity:
        """Raises PackageError where a difference is above its bound."""
        trained, folding, once = difference(self.logits, self.trained()), self.folding(), self.user_once()
        _hold("score.pt differs from the trained ranker", trained, EAGER_BOUND[quantize], quantize)
        _hold("score.pt differs from its unfolded scorer", folding, EQUAL_BOUND)
        _hold("score.pt says something else of requests than of rows", once, EQUAL_BOUND)
        return Parity(
            rows=len(self.scenario_N),
            mixed_eager=trained,
            mixed_eager_bound=EAGER_BOUND[quantize],
            one_mixed=folding,
            one_mixed_bound=EQUAL_BOUND,
            user_once=once,
            user_once_bound=EQUAL_BOUND,
        )

    def trained(self) -> list[np.ndarray]:
        """The trained ranker's scores, in the order of the rows."""
        order = np.argsort(self.scenario_N, kind="stable")
        packed = pack(self.layout, take(self.columns, order), self.scenario_N[order])
        labels_BT = np.zeros((len(order), len(self.layout.tasks)), np.float32)
        with torch.inference_mode():
            _, scores = self.ranker(make_batch(self.layout, packed, labels_BT=labels_BT, row_B=order))
        return [logits.numpy()[np.argsort(order)] for logits in scores]

    def folding(self) -> float:
        """The largest difference from the trained scorer on the program's own embeddings, of a sample of rows under
        each scenario in turn: every stacked slice is compared.
        """
        rows = np.unique(np.linspace(0, len(self.scenario_N) - 1, SAMPLE).astype(np.int64))
        sample = pack_halves(self.layout, take(self.columns, rows), self.scenario_N[rows], user_rows=len(rows))
        with torch.inference_mode():
            inputs = self.program.inputs(*tensors_of(self.layout, sample))
        worst = [0.0]
        for scenario in range(self.layout.num_scenarios):
            route = make_route(torch.full((len(rows),), scenario), self.layout.num_scenarios)
            with torch.inference_mode():
                expected = self.ranker.scorer(inputs._replace(route=route))
            found = self.programs.request(sample, scenario)
            worst.append(difference(found, [logits.numpy() for logits in expected]))
        return float(np.max(worst))

    def user_once(self) -> float:
        """The largest difference between a request, for the first user of each scenario, and the same rows with that
        user in each of them.
        """
        worst = [0.0]
        for scenario, rows in by_scenario(self.scenario_N):
            some = rows[:SAMPLE]
            request = request_of(self.layout, self.columns, rows[0], some)
            repeated = self._with_user(rows[0], some)
            expected = self.programs.request(repeated, scenario)
            worst.append(difference(self.programs.request(request, scenario), [logits.numpy() for logits in expected]))
        return float(np.max(worst))

    def _with_user(self, user: int, rows: np.ndarray) -> PackedRequest:
        """The rows, each with the user of the row `user`."""
        of_user = {name: self.columns[name] for name in self.layout.user_half.columns}
        columns = take(self.columns, rows) | take(of_user, np.full(len(rows), user))
        return pack_halves(self.layout, columns, self.scenario_N[rows], user_rows=len(rows))


def _hold(what: str, difference: float, bound: float, quantize: Quantize = "none") -> None:
    if not difference <= bound:  # NaN is never within bounds
        hint = "" if quantize == "none" else f"; {quantize} loses too much here, choose a finer --quantize"
        where = f"{what} by {difference:.2g} on golden rows"
        raise PackageError(f"{where}, allowed are {bound:g}; nothing was published{hint}")
