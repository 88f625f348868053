"""How the rows of a day lie on disk: the columns of OUT/day=YYYY-MM-DD/part-NNNNN.parquet and their types.

    row                        int64            the row's number for ever: the source's, or its day and place
    time                       timestamp, UTC   when the impression was
    user                       string           whose it was
    scenario                   int32            index of the scenario in schema.yaml
    label_<task>               int8             0 or 1
    request                    string           where the schema names one
    weight                     float32          where the schema names one
    split                      dictionary       train, valid or test, where the data file has a `split`
    <id>                       int32            an id feature, by its name: the row of its table, 0 for an unknown value
    <bag>                      list of int32    a bag: a row of its table for each value
    <bag>.weight               list of float32  the weight of each value, where the feature has `weights`
    <dense>                    float32          a dense feature: the encoded number
    <dense>.missing            float32          1 where the number is missing, for a `missing_indicator`
    <vector>                   list of float32  a vector, all of one width
    <sequence>.item            list of int32    the user's behaviours, oldest first: the item of each
    <sequence>.scenario        list of int32    the scenario of each; S, one more than there are, where it is not known
    <sequence>.time            list of times    when each was, 1970-01-01 where it is not known; left out beside ages
    <sequence>.age             list of int32    how long before the row each was, in the buckets of `age`: 1 + how many
                                                boundaries lie in between, 0 where it is not known
    <sequence>.<field>         list             what else is known of each; of a field that is a bag, the values of all
                                                behaviours one after the other
    <sequence>.<field>.length  list of int32    how many of those each behaviour has
    raw:item                   as in the log    the item that the row is about, for predictions
    keep:<column>              as in the log    a column that the data file keeps, for predictions

Row 0 of a table stands for unknown and missing values; a missing number is what its encoder makes of it.

Days that are added later make behaviours of these rows. What a row is as one stands in columns of their own where no
feature reads the same:

    <sequence>@<field>         as the field     the row's own value of the field
    @<sequence>                bool             whether it is a behaviour, where columns say so (`where: {COLUMN: ...}`)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from swrec_prod.encoding.pack import Column, Ragged
from swrec_prod.schema import Feature, FeatureSchema

MICROSECONDS = pa.timestamp("us", "UTC")
# without nulls inside, lists are read in two thirds of the time
NUMBER = pa.field("element", pa.float32(), nullable=False)
IDS, NUMBERS = pa.list_(pa.field("element", pa.int32(), nullable=False)), pa.list_(NUMBER)
TIMES = pa.list_(pa.field("element", MICROSECONDS, nullable=False))
# As they are in the raw log, for those who read predictions; a feature's name has no colon.
ITEM, KEEP = "raw:item", "keep:"
# The columns of predictions that are not of a task: who was shown what, where and when.
ROW_COLUMNS = ("row", "day", "scenario", "user", "time", "request", "item", "weight")
TASK_COLUMNS = ("label_", "prob_", "score_", "logit_", "interest_logit", "scenario_logit")
KINDS = {"id": pa.int32(), "bag": IDS, "dense": pa.float32()}


def check_keep(keep: Sequence[str]) -> None:
    """Raises ValueError when a column cannot be kept by its name."""
    for i, name in enumerate(keep):
        if name in keep[:i]:
            raise ValueError(f"keep names {name!r} twice")
        if name.lower() in ROW_COLUMNS or name.lower().startswith(TASK_COLUMNS):
            raise ValueError(f"keep: predictions have a column {name!r} of their own; rename the raw one")


def item_feature(schema: FeatureSchema) -> Feature | None:
    """The feature that says which item a row is about: the first `id` of side `item` that is not a bucket of numbers;
    None where there is no such feature.
    """
    ids = (f for f in schema.of_kind("id") if f.side == "item")
    return next((f for f in ids if f.encoder is None or f.encoder.kind not in ("bucketize", "quantile")), None)


def carried_columns(schema: FeatureSchema, keep: Sequence[str]) -> dict[str, str]:
    """What prepared rows carry untouched, by its name there: the raw column. A derived item is not in the raw log."""
    item = item_feature(schema)
    raw = item is not None and item.source not in {derived.name for derived in schema.derived}
    return ({ITEM: item.source} if item and raw else {}) | {f"{KEEP}{column}": column for column in keep}


def stored_schema(schema: FeatureSchema, has_split: bool, carried: Mapping[str, pa.DataType]) -> pa.Schema:
    """The columns of prepared rows and their types. carried: those of `carried_columns`."""
    fields: dict[str, pa.DataType] = {"row": pa.int64(), "time": MICROSECONDS}
    fields |= {"user": pa.string(), "scenario": pa.int32()}
    fields |= {f"label_{task}": pa.int8() for task in schema.tasks}
    fields |= {"request": pa.string()} if schema.request else {}
    fields |= {"weight": pa.float32()} if schema.weight else {}
    # a reader compares codes, not words
    fields |= {"split": pa.dictionary(pa.int8(), pa.string())} if has_split else {}
    for feature in schema.of_kind("id", "bag", "dense", "vector"):
        fields |= stored_columns(feature)
    for feature in schema.of_kind("sequence"):
        fields |= _lists(schema, feature) | _own(schema, feature)
    return pa.schema(fields | dict(carried))


def stored_columns(feature: Feature) -> dict[str, pa.DataType]:
    """The columns of one feature that is no sequence, and their types."""
    if feature.kind == "vector":
        assert feature.width is not None  # the schema gives every vector one
        return {feature.name: pa.list_(NUMBER, feature.width)}
    columns = {feature.name: KINDS[feature.kind]}
    columns |= {f"{feature.name}.weight": NUMBERS} if feature.weights else {}
    return columns | ({f"{feature.name}.missing": pa.float32()} if feature.missing_indicator else {})


def array_of(column: Column) -> pa.Array:
    """A column as an Arrow array: lists for a Ragged, lists of one length for [N, width]."""
    if isinstance(column, Ragged):
        return list_array(column)
    if column.ndim == 2:
        return pa.FixedSizeListArray.from_arrays(pa.array(column.reshape(-1)), column.shape[1])
    return pa.array(column)


def _lists(schema: FeatureSchema, feature: Feature) -> dict[str, pa.DataType]:
    """The lists of one sequence."""
    name = feature.name
    lists = {f"{name}.item": IDS, f"{name}.scenario": IDS}
    lists |= {f"{name}.age": IDS} if feature.age else {f"{name}.time": TIMES}
    for part in fields_of(schema, feature):
        lists[part.name] = NUMBERS if part.kind == "dense" else IDS
        lists |= {f"{part.name}.length": IDS} if part.kind == "bag" else {}
    return lists


def _own(schema: FeatureSchema, feature: Feature) -> dict[str, pa.DataType]:
    """What a row is as a behaviour, where no other column says it."""
    if feature.columns is not None:
        return {}
    own = {own_column(schema, part): KINDS[part.kind] for part in fields_of(schema, feature)}
    happened = {f"@{feature.name}": pa.bool_()} if isinstance(feature.where, dict) else {}
    return {name: kind for name, kind in own.items() if "@" in name} | happened


def fields_of(schema: FeatureSchema, feature: Feature) -> tuple[Feature, ...]:
    """The parts of a sequence that are its fields."""
    return schema.parts[feature.name][1 : 1 + len(feature.fields)]


def own_columns(schema: FeatureSchema, feature: Feature) -> dict[str, str]:
    """The columns that say what a row is as a behaviour, by part."""
    assert feature.item is not None
    fields = zip(feature.fields, fields_of(schema, feature), strict=True)
    return {"item": feature.item} | {field.name: own_column(schema, part) for field, part in fields}


def own_column(schema: FeatureSchema, part: Feature) -> str:
    """The column with a row's own value of a field of behaviours: that of a feature which reads the same column into
    the same table, or one of its own.
    """
    for f in schema.of_kind("id", "bag", "dense"):
        if (f.kind, f.source, f.table) == (part.kind, part.source, part.table):
            return f.name
    return "@".join(part.name.split("."))


def happened_column(feature: Feature) -> str | None:
    """The column that is 1 (or true) in rows that are behaviours; None where all are."""
    if isinstance(feature.where, dict):
        return f"@{feature.name}"
    return f"label_{feature.where}" if feature.where else None


def list_array(column: Ragged) -> pa.ListArray:
    """A Ragged as an Arrow list array."""
    return pa.ListArray.from_arrays(pa.array(column.offsets.astype(np.int32)), pa.array(column.values))
