"""How raw numbers become numbers of about one size."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np

from swrec_prod.encoding.raw_values import Values, check_fits_float32, floats
from swrec_prod.errors import DataError

ScalerKind = Literal["standard", "minmax", "log1p"]


@dataclass(frozen=True)
class Scaler:
    """(value - shift) / scale, for log1p of log(1 + value); a missing value counts as `missing` in value's place.

    standard: mean and standard deviation; minmax: minimum and range, later values outside are held at 0 and 1; log1p:
    mean and standard deviation of the logarithms (in folders of before November 2026 shift 0 and scale 1: the logarithm
    itself). Missing values count as the mean. A constant column becomes 0.

    low, high: values outside are held there first (`clip`); None: nowhere.
    """

    kind: ScalerKind
    shift: float = 0.0
    scale: float = 1.0
    missing: float = 0.0
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(
        cls,
        kind: ScalerKind,
        mean: float | None,
        std: float | None,
        low: float | None,
        high: float | None,
        clip: bool = False,
    ) -> Scaler:
        """From the moments of the known numbers; None: there are none, and the scaler changes nothing.

        mean, std: of log1p those of the logarithms. low, high: of the numbers. Mean and deviation are rounded to nine
        digits: the rest depends on the order in which an engine adds.
        """
        if mean is None or std is None or low is None or high is None:
            return cls(kind)
        mean, std = float(f"{mean:.9g}"), float(f"{std:.9g}")
        held = (low, high) if clip else (None, None)
        # The deviation of a constant may come out as a tiny number, and that of tiny numbers as 0.
        if low == high or (kind != "minmax" and std == 0):
            constant = float(np.log1p(low)) if kind == "log1p" else low
            return cls(kind, constant, 1.0, constant, *held)
        return cls(kind, low, high - low, mean) if kind == "minmax" else cls(kind, mean, std, mean, *held)

    def __call__(self, values: Values, feature: str) -> np.ndarray:
        """float32 [N]. Raises DataError for a value that is no number, not finite, or larger than any float32."""
        numbers = floats(values, feature)
        check_fits_float32(numbers, feature)
        if self.kind == "log1p" and (negative := numbers < 0).any():
            raise DataError(f"feature {feature!r}: value {numbers[negative][0]} is negative, log1p takes 0 and above")
        held = numbers if self.low is None else np.clip(numbers, self.low, self.high)
        terms = np.log1p(held) if self.kind == "log1p" else held
        scaled = (np.where(np.isnan(terms), self.missing, terms) - self.shift) / self.scale
        with np.errstate(over="ignore"):
            result = (np.clip(scaled, 0.0, 1.0) if self.kind == "minmax" else scaled).astype(np.float32)
        if np.isinf(result).any():
            wrong = (
                f"value {numbers[np.isinf(result)][0]} overflows float32 when {self.shift:g} is taken away and it is"
            )
            raise DataError(f"feature {feature!r}: {wrong} divided by {self.scale:g}; clip: true holds it in range")
        return result

    def state(self) -> dict[str, object]:
        """What `Scaler(**state)` is made of again; what is not said has its default."""
        return {name: value for name, value in asdict(self).items() if value is not None}
