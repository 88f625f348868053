"""How the rows of a day lie on disk: the columns of OUT/day=YYYY-MM-DD/part-NNNNN.parquet and their types."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from swrec_prod.encoding.pack import Ragged
from swrec_prod.schema import FeatureSchema

MICROSECONDS = pa.timestamp("us", "UTC")
# without nulls inside, lists are read in two thirds of the time
IDS = pa.list_(pa.field("element", pa.int32(), nullable=False))
TIMES = pa.list_(pa.field("element", MICROSECONDS, nullable=False))


def stored_schema(schema: FeatureSchema, has_split: bool) -> pa.Schema:
    """The columns of prepared rows and their types."""
    fields: dict[str, pa.DataType] = {"row": pa.int64(), "time": MICROSECONDS}
    fields |= {"user": pa.string(), "scenario": pa.int32()}
    fields |= {f"label_{task}": pa.int8() for task in schema.tasks}
    fields |= {"request": pa.string()} if schema.request else {}
    fields |= {"weight": pa.float32()} if schema.weight else {}
    # a reader compares codes, not words
    fields |= {"split": pa.dictionary(pa.int8(), pa.string())} if has_split else {}
    kinds = {"id": pa.int32(), "bag": IDS, "dense": pa.float32()}
    fields |= {f.name: kinds[f.kind] for f in schema.features if f.kind != "sequence"}
    for feature in schema.of_kind("sequence"):
        fields |= {f"{feature.name}.item": IDS, f"{feature.name}.scenario": IDS, f"{feature.name}.time": TIMES}
    return pa.schema(fields)


def list_array(column: Ragged) -> pa.ListArray:
    """A Ragged as an Arrow list array."""
    return pa.ListArray.from_arrays(pa.array(column.offsets.astype(np.int32)), pa.array(column.values))
