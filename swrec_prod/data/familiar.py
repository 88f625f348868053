"""How well training knew the items and users of judged rows: by the counts that vocabularies were made of.

Shapes: N judged rows, V ids of a table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from swrec_prod.data.catalog import Catalog
from swrec_prod.data.unknown_values import has_vocabulary
from swrec_prod.errors import DataError
from swrec_prod.schema import Feature, FeatureSchema

Groups = Mapping[Path, Sequence[int] | None]  # file below the folder -> the row groups to read; None: all
OFTEN = np.iinfo(np.int32).max  # in place of a count where a folder has none


class Familiar(NamedTuple):
    """times: in how many training rows the value of the item's and of the user's feature is, by its name, int64 [N]; 0
    for unknown and missing values. bits: of each row's item (`top_items.novelty`), float64 [N], None where it has no
    counts.
    """

    times: dict[str, np.ndarray]
    bits: np.ndarray | None = None


class TrainingRows:
    """What the training rows of a prepared folder say of items and users. features: those that the model knows."""

    def __init__(self, catalog: Catalog, features: FeatureSchema) -> None:
        self._root = catalog.root
        self._item, users = _who_and_what(features)
        self._names = [feature.name for feature in (*self._item, *users)]
        self._counts = {f.name: _counts(catalog.root / "vocab" / f"{f.table}.parquet") for f in (*self._item, *users)}

    def knew(self, groups: Groups, row_N: np.ndarray) -> Familiar:
        """groups: the files, and of them the row groups, that hold the rows. Raises DataError for a file without the
        column of a feature.
        """
        if not self._names:
            return Familiar({})
        tables = [_ids(self._root / file, self._names, numbers) for file, numbers in groups.items()]
        table = pa.concat_tables(tables)
        rows = table["row"].to_numpy()
        order = np.argsort(rows)
        at = order[np.searchsorted(rows[order], row_N)]
        ids = {name: table[name].to_numpy()[at] for name in self._names}
        times = {name: _times(self._counts[name], id_N) for name, id_N in ids.items()}
        return Familiar(times, self._bits(times))

    def _bits(self, times: dict[str, np.ndarray]) -> np.ndarray | None:
        counts = self._counts[self._item[0].name] if self._item else None
        return None if counts is None else np.log2((counts.sum() + 1) / (times[self._item[0].name] + 1))


def _who_and_what(schema: FeatureSchema) -> tuple[list[Feature], list[Feature]]:
    """The id that stands for the item, the one that behaviours hold if there are any, and the one that stands for the
    user: the first of its side. Each is one or none.
    """
    ids = [feature for feature in schema.of_kind("id") if has_vocabulary(schema, feature)]
    held = [sequence.item for sequence in schema.of_kind("sequence")]
    items = [f for f in ids if f.name in held] or [f for f in ids if f.side == "item"]
    users = [f for f in ids if f.side == "user" and f not in items]
    return items[:1], users[:1]


def _counts(path: Path) -> np.ndarray | None:
    """int64 [V]: in how many training rows the value of each id is; None in a folder without vocabularies."""
    if not path.exists():
        return None
    table = pq.read_table(path, columns=["id", "count"])
    counts = np.zeros(int(np.max(table["id"].to_numpy(), initial=0)) + 1, np.int64)
    counts[table["id"].to_numpy()] = table["count"].to_numpy()
    counts[0] = 0
    return counts


def _times(counts_V: np.ndarray | None, id_N: np.ndarray) -> np.ndarray:
    return np.where(id_N == 0, 0, OFTEN if counts_V is None else counts_V[id_N])


def _ids(path: Path, names: Sequence[str], groups: Sequence[int] | None) -> pa.Table:
    """Row numbers and ids of some row groups of a file. Raises DataError for a file without them."""
    try:
        with pq.ParquetFile(path) as parquet:
            numbers = range(parquet.num_row_groups) if groups is None else groups
            return parquet.read_row_groups(list(numbers), columns=["row", *names])
    except (pa.ArrowInvalid, FileNotFoundError) as failure:
        raise DataError(f"{path}: cannot be read: {' '.join(str(failure).split())}") from None
