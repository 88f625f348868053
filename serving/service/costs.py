"""What scoring a request is expected to cost, kept current by what forwards took."""

from __future__ import annotations

from swrec_prod.serving.scoring.predictor import Predictor

WEIGHT = 0.1  # of the newest forward
STEP = 2.0  # a forward counts as at most so many times, or the so many-th part of, what was expected


class Costs:
    """Corrects `Predictor.milliseconds`, which a package measured as it was loaded, by a factor for each class of size.

    A class of size has up to twice as many candidates as the one below it. One of which nothing was measured yet has
    the factor of the package's last forward; before any, that of `like`.
    """

    def __init__(self, like: Costs | None = None) -> None:
        self._factors: dict[tuple[Predictor, int], float] = {}
        self._like = like

    def milliseconds(self, predictor: Predictor, rows: int) -> float:
        """Of scoring so many candidates."""
        return predictor.milliseconds(rows) * self._factor(predictor, rows)

    def learn(self, predictor: Predictor, rows: int, milliseconds: float) -> None:
        """Scoring so many candidates took that long. One that was held up does not spoil the estimate."""
        factor = self._factor(predictor, rows)
        seen = milliseconds / max(predictor.milliseconds(rows), 1e-6)
        seen = min(max(seen, factor / STEP), factor * STEP)
        self._factors[predictor, rows.bit_length()] = self._factors[predictor, -1] = factor + WEIGHT * (seen - factor)

    def _factor(self, predictor: Predictor, rows: int) -> float:
        factors = self._factors
        known = factors.get((predictor, rows.bit_length())) or factors.get((predictor, -1))
        if known is not None:
            return known
        return 1.0 if self._like is None else self._like._factor(predictor, rows)
