"""Layout: where each feature of a schema lies in a batch, for training and for serving alike.

    pooled    id and bag features, looked up in the EmbeddingBagCollection, in schema order
    target    the item that the behaviours are compared with, looked up in the EmbeddingCollection together with
    history   the behaviours (one table cannot serve both collections, so the target leaves `pooled`)
    dense     numbers, one column each

The model's input x is [pooled ; target ; dense], in that order.
"""

from __future__ import annotations

from dataclasses import dataclass

from swrec_prod.errors import SchemaError
from swrec_prod.schema import Feature, FeatureSchema


@dataclass(frozen=True)
class Layout:
    """The order of features in a batch. tasks: label names; num_scenarios: S; after: FeatureSchema.after."""

    pooled: tuple[Feature, ...]
    target: Feature | None
    history: Feature | None
    dense: tuple[Feature, ...]
    tasks: tuple[str, ...]
    num_scenarios: int
    after: tuple[int, ...]

    @classmethod
    def of(cls, schema: FeatureSchema, *, history: bool) -> Layout:
        """The layout of `schema` for a model that reads behaviours (`history`) or not.

        Raises SchemaError when behaviours are asked for and the schema has none.
        """
        sequences = schema.of_kind("sequence")
        if history and not sequences:
            raise SchemaError(f"schema {schema.name}: the model reads behaviours, but no feature has kind: sequence")
        sequence = sequences[0] if history else None
        target = schema.feature(sequence.table) if sequence else None
        pooled = tuple(f for f in schema.of_kind("id", "bag") if f is not target)
        return cls(pooled, target, sequence, schema.of_kind("dense"), schema.tasks, schema.scenario.size, schema.after)

    @property
    def columns(self) -> tuple[str, ...]:
        """The feature columns of a prepared day that the batch is made of (column projection)."""
        names = [f.name for f in (*self.pooled, *((self.target,) if self.target else ()), *self.dense)]
        if self.history:
            names += [f"{self.history.name}.item", f"{self.history.name}.scenario"]
        return tuple(names)

    @property
    def width(self) -> int:
        """D, the width of x."""
        return sum(f.dim for f in self.pooled) + (self.target.dim if self.target else 0) + len(self.dense)
