"""Negatives: what a data file says about them, and which columns of a log are the item's."""

from __future__ import annotations

from typing import Literal

import pydantic

from swrec_prod.schema import FeatureSchema
from swrec_prod.strict import Strict

RANGES = ("bucketize", "quantile")  # encoders whose ids are ranges of numbers, and name nothing


class Negatives(Strict):
    """Rows of label 0 that are drawn for each positive row (one with a label that is 1), for logs of positives only.

    per_positive: how many items are drawn for each.
    from: which items: those seen up to that moment in the row's scenario, or in all scenarios.
    weighting: uniform: each item as often as any other; popularity: as often as it was seen up to that moment.
    seed: of the draw.
    item: the id feature that names items; left out: the one that sequences hold, or the only one of side item.
    """

    per_positive: int = pydantic.Field(4, ge=1, le=1000)
    pool: Literal["scenario", "all"] = pydantic.Field("scenario", alias="from")
    weighting: Literal["uniform", "popularity"] = "uniform"
    seed: int = pydantic.Field(1, ge=0)
    item: str | None = None

    model_config = pydantic.ConfigDict(populate_by_name=True, serialize_by_alias=True)

    def item_column(self, schema: FeatureSchema) -> str:
        """The raw column that names items. Raises ValueError where that is open, or no id feature."""
        named = [f for f in schema.of_kind("id") if f.side == "item" and not (f.encoder and f.encoder.kind in RANGES)]
        ids = {f.name: f.source for f in named}
        held = {f.item for f in schema.of_kind("sequence") if f.item}
        names = [self.item] if self.item else sorted(held) or list(ids)
        if len(names) == 1 and names[0] in ids:
            return ids[names[0]]
        known = f"id features of side item: {', '.join(ids) or 'none'}"
        if self.item:
            raise ValueError(f"negatives: item {self.item!r} is not an id feature of side item ({known})")
        raise ValueError(f"negatives: say `item: FEATURE`, the one that names items ({known})")


def item_columns(schema: FeatureSchema) -> set[str]:
    """The raw columns that features of side item read; not those that are the row's in any case, such as its time."""
    features = [f for f in schema.features if f.side == "item"]
    columns = {raw for f in features for column in f.raw_columns.values() for raw in schema.raw_of(column)}
    kept = {schema.time, schema.user, schema.scenario.column, schema.request, schema.weight}
    return columns - kept - {label.column for label in schema.labels}
