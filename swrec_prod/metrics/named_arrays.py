"""Arrays in one flat mapping: what nests is told apart by names such as `tasks/0/scenarios/2/counts`. numpy only.

`numpy.savez` writes such a mapping, and ranks send it. Words that users choose, such as scenarios, are no part of the
names: they stand in an array `names` beside what they name.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from swrec_prod.errors import MetricError

Arrays = dict[str, np.ndarray]


def under(prefix: str, arrays: Mapping[str, np.ndarray]) -> Arrays:
    """The arrays with a prefix before their names."""
    return {f"{prefix}/{name}": array for name, array in arrays.items()}


def inner(prefix: str, arrays: Mapping[str, np.ndarray]) -> Arrays:
    """The arrays that `under` has put there; {} where it has put none."""
    return {name[len(prefix) + 1 :]: array for name, array in arrays.items() if name.startswith(f"{prefix}/")}


def packed(parts: Mapping[str, Mapping[str, np.ndarray]]) -> Arrays:
    """The arrays of every part, whatever the parts are called."""
    arrays = {"names": np.array(list(parts), np.str_)}
    for number, part in enumerate(parts.values()):
        arrays |= under(str(number), part)
    return arrays


def unpacked(arrays: Mapping[str, np.ndarray]) -> dict[str, Arrays]:
    """What `packed` was given."""
    parts: dict[str, Arrays] = {str(number): {} for number in range(len(array_of(arrays, "names")))}
    for name, array in arrays.items():
        number, _, rest = name.partition("/")
        if number in parts:
            parts[number][rest] = array
    return dict(zip(arrays["names"].tolist(), parts.values(), strict=True))


def array_of(arrays: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """Raises MetricError where there is none of that name."""
    if name not in arrays:
        raise MetricError(f"judged rows lack the array {name!r}; there are {', '.join(list(arrays)[:5]) or 'none'}")
    return arrays[name]
