"""LookupTable: key -> value, for derived columns; `vocab/lookup_<name>.parquet` beside the vocabularies."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from swrec_prod.encoding.lookups import Vocabulary
from swrec_prod.encoding.raw_values import Values, flat, is_string
from swrec_prod.errors import DataError, nearest
from swrec_prod.files import replaced
from swrec_prod.schema import Derived, FeatureSchema


@dataclass(frozen=True)
class LookupTable:
    """keys: string or int64 [K], each once; values: [K]."""

    keys: pa.Array
    values: pa.Array

    @classmethod
    def of(cls, derived: Derived, table: pa.Table, where: str) -> LookupTable:
        """The columns `key` and `value` of a table. where: its file, for messages.

        Raises DataError for a column that is missing (naming the nearest), and for keys that are missing, twice, or
        neither strings nor integers.
        """
        assert derived.key is not None and derived.value is not None
        for name in (derived.key, derived.value):
            if name not in table.column_names:
                known = nearest(name, table.column_names)
                raise DataError(f"{where}: column {name!r} (derived {derived.name!r}) is missing; {known}")
        keys = _plain(flat(table[derived.key]))
        if not (is_string(keys.type) or pa.types.is_int64(keys.type)):
            raise DataError(f"{where}: key column {derived.key!r} is {keys.type}, expected string or integer")
        if keys.null_count:
            raise DataError(
                f"{where}: key column {derived.key!r} has {keys.null_count:,} missing values; leave them out"
            )
        counts = keys.value_counts()
        twice = counts.filter(pc.greater(counts.field("counts"), 1))
        if len(twice):
            key, rows = twice[0]["values"].as_py(), twice[0]["counts"].as_py()
            raise DataError(f"{where}: key column {derived.key!r} has {key!r} in {rows} rows; keep one row a key")
        return cls(keys, _plain(flat(table[derived.value])))

    def __call__(self, values: Values, feature: str) -> pa.Array:
        """The value of each of N keys; missing for keys that the table does not have.

        Raises DataError for keys of another type.
        """
        at = self._positions(values, feature).astype(np.int64) - 1
        return self.values.take(pa.array(at, mask=at < 0))

    @cached_property
    def _positions(self) -> Vocabulary:
        return Vocabulary(self.keys, pa.array(np.zeros(len(self.keys), np.int64)))

    def save(self, folder: Path, derived: Derived) -> Path:
        """Write the table of a derived column below `folder`, columns named as in its file, and return the file."""
        path = lookup_path(folder, derived.name)
        with replaced(path) as aside:
            pq.write_table(pa.table([self.keys, self.values], [derived.key, derived.value]), aside, compression="zstd")
        return path


def load_lookups(folder: Path, schema: FeatureSchema) -> dict[str, LookupTable]:
    """What `LookupTable.save` wrote, by name. Raises DataError naming a file that is missing or damaged."""
    return {d.name: _load(lookup_path(folder, d.name), d) for d in schema.derived if d.function == "lookup"}


def lookup_path(folder: Path, name: str) -> Path:
    """Where the table of the derived column `name` lies in a folder of encoders."""
    return folder / "vocab" / f"lookup_{name}.parquet"


def _load(path: Path, derived: Derived) -> LookupTable:
    if not path.is_file():
        raise DataError(f"{path}: no such file; derived {derived.name!r} needs its table")
    try:
        return LookupTable.of(derived, pq.read_table(path), str(path))
    except pa.ArrowInvalid as failure:
        raise DataError(f"{path}: damaged ({' '.join(str(failure).split())})") from None


def _plain(array: pa.Array) -> pa.Array:
    """Whole numbers as int64, others as float64, text as string; anything else as it is."""
    kinds = (
        (pa.types.is_integer, pa.int64()),
        (pa.types.is_floating, pa.float64()),
        (is_string, pa.string()),
    )
    wanted = next((kind for fits, kind in kinds if fits(array.type)), array.type)
    return array.cast(wanted)
