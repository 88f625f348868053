"""Encoders fitted by an engine, which counts values and sums numbers, whatever the size of the log."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from swrec_prod.encoding.encoders import Encoders
from swrec_prod.encoding.lookups import Scaler
from swrec_prod.engine.contract import Engine
from swrec_prod.errors import DataError
from swrec_prod.prepare import etl
from swrec_prod.schema import FeatureSchema

if TYPE_CHECKING:
    import ibis.expr.types as ir


def fit(engine: Engine, events: ir.Table, schema: FeatureSchema) -> Encoders:
    """Vocabularies and scalers of `events`, the training rows. schema: with its scenario values."""
    scalers = {}
    for feature in schema.of_kind("dense"):
        moments = engine.arrow(etl.moments(events, feature.source)).to_pylist()[0]
        if moments["infinite"]:
            raise DataError(f"feature {feature.name!r}: {moments['infinite']} values are not finite")
        assert feature.encoder is not None
        values = [moments[name] for name in ("mean", "std", "min", "max")]
        scalers[feature.name] = Scaler.of(feature.encoder.kind, *values)  # type: ignore[arg-type]
    return Encoders.of_counts(schema, _counts(engine, events, schema), scalers)


def extend(engine: Engine, events: ir.Table, encoders: Encoders) -> Encoders:
    """`encoders` with ids for the values of `events` that they do not know; known ids and scalers stay as they are."""
    return encoders.extended(_counts(engine, events, encoders.schema))


def _counts(engine: Engine, events: ir.Table, schema: FeatureSchema) -> dict[str, pa.Table]:
    """`value` and `count` by table, for the tables whose encoders look at values."""
    looked_up, counted = schema.of_kind("id", "bag"), {}
    for owner in looked_up:
        if owner.shared_with is None and owner.encoder and owner.encoder.kind != "bucketize":
            counts = etl.counts(events, [f for f in looked_up if f.table == owner.name])
            counted[owner.name] = engine.arrow(counts.limit(1) if owner.encoder.kind == "hash" else counts)
    return counted
