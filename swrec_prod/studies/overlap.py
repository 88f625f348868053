"""How many users and items scenarios share, measured on training rows.

Shapes: S scenarios, K users or items.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import csr_array

from swrec_prod.data.day_files import item_feature
from swrec_prod.studies.folder import PreparedRows


class Overlap(NamedTuple):
    """shared_SS: users (or items) that two scenarios have in common; a scenario's own number on the diagonal.
    elsewhere_S: how many of a scenario's are in at least one other one.
    """

    scenarios: tuple[str, ...]
    shared_SS: np.ndarray
    elsewhere_S: np.ndarray

    @classmethod
    def of(cls, scenarios: tuple[str, ...], scenario_N: np.ndarray, key_N: np.ndarray) -> Overlap:
        """key_N: which user (or item) each row is about, from 0."""
        size = (len(scenarios), int(key_N.max()) + 1 if len(key_N) else 1)
        seen_SK = csr_array((np.ones(len(key_N), np.int64), (scenario_N, key_N)), shape=size)
        seen_SK.sum_duplicates()
        seen_SK.data[:] = 1
        in_several_K = (seen_SK.sum(0) > 1).astype(np.int64)
        return cls(scenarios, (seen_SK @ seen_SK.T).toarray(), seen_SK @ in_several_K)

    @property
    def jaccard_SS(self) -> np.ndarray:
        """Shared over those in either, of every two scenarios; 0 where neither has any."""
        own_S = self.shared_SS.diagonal()
        return self.shared_SS / np.maximum(own_S[:, None] + own_S[None, :] - self.shared_SS, 1)

    def to_json(self) -> dict[str, Any]:
        """For study.json."""
        return {
            "scenarios": list(self.scenarios),
            "count": self.shared_SS.diagonal().tolist(),
            "elsewhere": self.elsewhere_S.tolist(),
            "jaccard": self.jaccard_SS.round(6).tolist(),
        }


def measured(rows: PreparedRows) -> dict[str, Overlap]:
    """Of "users", and of "items" where the data name one."""
    columns = {"users": "user"}
    if item := item_feature(rows.schema):
        columns["items"] = item.name
    table = rows.training(["scenario", *columns.values()])
    scenario_N, names = table["scenario"].to_numpy(), rows.schema.scenario.names
    return {what: Overlap.of(names, scenario_N, _codes(table[column])) for what, column in columns.items()}


def _codes(column: pa.ChunkedArray) -> np.ndarray:
    return pc.dictionary_encode(column).combine_chunks().indices.to_numpy(zero_copy_only=False)
