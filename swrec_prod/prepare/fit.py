"""Encoders fitted by an engine, which counts values and sums numbers, whatever the size of the log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pyarrow as pa

from swrec_prod.behaviours.windowed import brought_parts, own_fields
from swrec_prod.computed import fitted_values
from swrec_prod.encoding.encoders import Encoders
from swrec_prod.encoding.lookup_table import LookupTable
from swrec_prod.encoding.scaler import Scaler
from swrec_prod.engine.contract import Engine
from swrec_prod.errors import DataError
from swrec_prod.schema import Feature, FeatureSchema

if TYPE_CHECKING:
    import ibis.expr.types as ir


def fit(
    engine: Engine,
    events: ir.Table,
    schema: FeatureSchema,
    lookups: Mapping[str, LookupTable] | None = None,
    *,
    counted: ir.Table | None = None,
) -> Encoders:
    """Vocabularies, boundaries and scalers of `events`, the training rows. schema: with its scenario values. counted:
    the rows whose values vocabularies are made of, where not all are.
    """
    boundaries = {
        owner.name: engine.arrow(fitted_values.boundaries(events, _columns(schema, owner), buckets))[
            "value"
        ].to_pylist()
        for owner in schema.owners
        if owner.encoder and owner.encoder.kind == "quantile" and (buckets := owner.encoder.buckets)
    }
    scalers = {owner.name: _scaler(engine, events, schema, owner) for owner in schema.scaled}
    counts = _counts(engine, events if counted is None else counted, schema)
    return Encoders.of_counts(schema, counts, boundaries, scalers, lookups)


def extend(engine: Engine, events: ir.Table, encoders: Encoders) -> Encoders:
    """`encoders` with ids for the values of `events` that they do not know; known ids and scalers stay as they are."""
    return encoders.extended(_counts(engine, events, encoders.schema))


def _counts(engine: Engine, events: ir.Table, schema: FeatureSchema) -> dict[str, pa.Table]:
    """`value` and `count` by table, for the tables whose encoders look at values."""
    counted = {}
    for owner in schema.owners:
        if owner.encoder and owner.encoder.kind in ("vocab", "hash"):
            counts = fitted_values.counts(events, _sharing(schema, owner))
            counted[owner.name] = engine.arrow(counts.limit(1) if owner.encoder.kind == "hash" else counts)
    return counted


def _scaler(engine: Engine, events: ir.Table, schema: FeatureSchema, owner: Feature) -> Scaler:
    assert owner.encoder is not None
    kind = owner.encoder.kind
    moments = engine.arrow(
        fitted_values.moments(events, _columns(schema, owner), logarithm=kind == "log1p")
    ).to_pylist()[0]
    if moments["unusable"]:
        raise DataError(f"feature {owner.name!r}: {moments['unusable']} values are not finite, or overflow float32")
    mean, std, low, high = (moments[name] for name in ("mean", "std", "min", "max"))
    return Scaler.of(kind, mean, std, low, high, owner.encoder.clip)  # type: ignore[arg-type]


def _columns(schema: FeatureSchema, owner: Feature) -> list[str]:
    """The raw columns whose numbers the owner's boundaries, or scaler, are fitted on."""
    return [feature.source for feature in _sharing(schema, owner)]


def _sharing(schema: FeatureSchema, owner: Feature) -> list[Feature]:
    """The owner of a table or scaler, and what shares it: features, fields of behaviours that are read for themselves,
    and lists of behaviours that the log brings. (Other behaviours are events, and counted there.)
    """
    features = [f for f in schema.features if f.kind != "sequence"]
    sharing = [owner, *(f for f in features if f.shared_with == owner.name)]
    sources = {f.source for f in sharing}
    for part in (*own_fields(schema), *brought_parts(schema)):
        if part.shared_with == owner.name and part.source not in sources:
            sources.add(part.source)
            sharing.append(part)
    return sharing
