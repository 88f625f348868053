"""Layout: where each feature of a schema lies in a batch, for training and for serving alike.

    pooled       id features and plain bags, looked up in the EmbeddingBagCollection, in schema order
    looked_up    those that the EmbeddingCollection has: the item that behaviours are compared with, then other features
                 that share a table with behaviours (one table cannot serve both collections), and bags whose pooling
                 the first collection does not have
    sequences    behaviours, looked up in the EmbeddingCollection too; the first one is what models call the history
    numbers      the columns of dense_BF: numbers and vectors that stand in x as they are, then those that are embedded

A model's input x is [pooled ; looked_up ; numbers ; embedded numbers ; summaries of further sequences].

A request has its user once and N candidates. So a layout has two halves, each a layout itself: `user_half`, of which a
request has one row, and `item_half`, of which it has N. What a half has of looked-up features stands behind its pooled
ones, but for bags that are pooled otherwise: programs read all tables alike (export/program.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

from swrec_prod.errors import SchemaError, nearest
from swrec_prod.schema.feature import Feature
from swrec_prod.schema.feature_schema import FeatureSchema


class Number(NamedTuple):
    """A prepared column of numbers: `width` floats a row. feature: whose it is."""

    column: str
    width: int
    feature: Feature


class ArrayColumns(NamedTuple):
    """The prepared columns that each array of encoding.pack.Packed is made of, in their order.

    ids, sequence, scenarios, bag_lengths, numbers, weights: one after the other. counted: columns that say how many
    values each row has in each looked-up feature and sequence.
    """

    ids: tuple[str, ...]
    sequence: tuple[str, ...]
    counted: tuple[str, ...]
    scenarios: tuple[str, ...]
    bag_lengths: tuple[str, ...]
    numbers: tuple[str, ...]
    weights: tuple[str, ...]


@dataclass(frozen=True)
class SequenceLayout:
    """The behaviours of one sequence feature.

    parts: what is embedded of each, side by side (FeatureSchema.parts). compared: for each part the looked-up feature
    that says the same of the candidate, None where nothing does.
    """

    feature: Feature
    parts: tuple[Feature, ...]
    compared: tuple[str | None, ...]

    @property
    def name(self) -> str:
        """The feature's name."""
        return self.feature.name

    @property
    def width(self) -> int:
        """d, the width of an embedded behaviour."""
        return sum(width_of(part) for part in self.parts)

    def of_kind(self, kind: str) -> tuple[Feature, ...]:
        """The parts that are an id, a bag or a number of each behaviour."""
        return tuple(part for part in self.parts if part.kind == kind)

    @property
    def columns(self) -> tuple[str, ...]:
        """The prepared columns with one value a behaviour."""
        lengths = (lengths_column(part) for part in self.of_kind("bag"))
        return (*(p.name for p in self.parts if p.kind != "bag"), f"{self.name}.scenario", *lengths)


@dataclass(frozen=True)
class Layout:
    """The order of features in a batch. tasks: label names; num_scenarios: S; after: FeatureSchema.after; of_item: the
    columns that have a value for each candidate (FeatureSchema.item_columns).
    """

    pooled: tuple[Feature, ...]
    looked_up: tuple[Feature, ...]
    sequences: tuple[SequenceLayout, ...]
    dense: tuple[Feature, ...]
    tasks: tuple[str, ...]
    num_scenarios: int
    after: tuple[int, ...]
    of_item: frozenset[str]

    @classmethod
    def of(cls, schema: FeatureSchema, *, history: bool, first: str | None = None) -> Layout:
        """The layout of `schema` for a model that reads behaviours (`history`) or not.

        first: the sequence that the model reads as its history (default: the first one of the schema).

        Raises SchemaError when behaviours are asked for and the schema has none, or none called `first`.
        """
        features = _in_turn(schema, first) if history else ()
        parts = schema.parts
        target = schema.feature(features[0].table) if features else None
        shared = {part.table for f in features for part in parts[f.name] if part.kind in ("id", "bag")}
        singles = schema.of_kind("id", "bag")
        others = [f for f in singles if f is not target and (f.table in shared or is_special(f))]
        looked_up = (*((target,) if target else ()), *others)
        names = {f.name for f in looked_up}
        sequences = tuple(_sequence(f, parts[f.name], names) for f in features)
        pooled = tuple(f for f in singles if f.name not in names)
        dense, tasks = schema.of_kind("dense", "vector"), schema.tasks
        return cls(pooled, looked_up, sequences, dense, tasks, schema.scenario.size, schema.after, schema.item_columns)

    @property
    def history(self) -> SequenceLayout | None:
        """The sequence that models call the history; None for a model that reads no behaviours."""
        return self.sequences[0] if self.sequences else None

    @property
    def target(self) -> Feature | None:
        """The item that the history is compared with; None in a half, which has one of both at most."""
        return next((f for f in self.looked_up if self.sequences and f.name == self.sequences[0].compared[0]), None)

    @cached_property
    def user_half(self) -> Layout:
        """What a request has of its user and context: their features, those derived of nothing else, and sequences."""
        return self._half(of_item=False)

    @cached_property
    def item_half(self) -> Layout:
        """What a request has of each candidate."""
        return self._half(of_item=True)

    def _half(self, *, of_item: bool) -> Layout:
        pooled, looked_up, dense = (
            tuple(f for f in features if (f.name in self.of_item) == of_item)
            for features in (self.pooled, self.looked_up, self.dense)
        )
        special = tuple(f for f in looked_up if is_special(f))
        return replace(
            self,
            pooled=(*pooled, *(f for f in looked_up if f not in special)),
            looked_up=special,
            sequences=tuple(s for s in self.sequences if (s.name in self.of_item) == of_item),
            dense=dense,
        )

    @cached_property
    def numbers(self) -> tuple[Number, ...]:
        """The columns of dense_BF in their order: those that stand in x as they are, then those of `embedded`."""
        plain = [number for f in self.dense for number in _plain_numbers(f)]
        return (*plain, *(Number(f.name, 1, f) for f in self.embedded))

    @cached_property
    def embedded(self) -> tuple[Feature, ...]:
        """The numbers that become vectors."""
        return tuple(f for f in self.dense if f.embed)

    @property
    def tables(self) -> dict[str, Feature]:
        """Of the EmbeddingCollection: a feature of each table, which knows its height and width."""
        parts = [part for sequence in self.sequences for part in sequence.parts if part.kind in ("id", "bag")]
        tables: dict[str, Feature] = {}
        for feature in (*self.looked_up, *parts):
            tables.setdefault(feature.table, feature)
        return tables

    @cached_property
    def array_columns(self) -> ArrayColumns:
        """What arrays of packed rows are made of; decided once, since a request is packed in microseconds."""
        parts = [part for sequence in self.sequences for part in sequence.parts]
        looked_up = tuple(f.name for f in self.looked_up)
        return ArrayColumns(
            ids=tuple(f.name for f in self.pooled),
            sequence=(*looked_up, *(part.name for part in parts if part.kind in ("id", "bag"))),
            counted=(*looked_up, *(sequence.parts[0].name for sequence in self.sequences)),
            scenarios=tuple(f"{sequence.name}.scenario" for sequence in self.sequences),
            bag_lengths=tuple(lengths_column(part) for part in parts if part.kind == "bag"),
            numbers=tuple(part.name for part in parts if part.kind == "dense"),
            weights=tuple(weights_column(f) for f in self.looked_up if f.weights),
        )

    @property
    def columns(self) -> tuple[str, ...]:
        """The feature columns of a prepared day that the batch is made of (column projection)."""
        looked_up = [*self.pooled, *self.looked_up]
        names = [f.name for f in looked_up] + [weights_column(f) for f in looked_up if f.weights]
        names += [number.column for number in self.numbers]
        for sequence in self.sequences:
            names += [*sequence.columns, *(part.name for part in sequence.of_kind("bag"))]
        return tuple(names)

    @cached_property
    def arrays(self) -> tuple[str, ...]:
        """The arrays of encoding.pack.Packed that say something about this layout, in their order: what programs of
        packages take. dense_BF is always there, as it also says how many rows there are.
        """
        parts = {part.kind for sequence in self.sequences for part in sequence.parts}
        looked_up, behaviours = bool(self.looked_up or self.sequences), bool(self.sequences)
        says = {
            "ids_values": bool(self.pooled),
            "ids_lengths": any(f.kind == "bag" for f in self.pooled),
            "sequence_values": looked_up,
            "sequence_lengths": looked_up,
            "behaviour_scenario": behaviours,
            "bag_lengths": "bag" in parts,
            "behaviour_numbers": "dense" in parts,
            "weights": any(f.weights for f in self.looked_up),
        }
        return (*(name for name, wanted in says.items() if wanted), "dense_BF")

    @property
    def width(self) -> int:
        """The width of x without summaries of further sequences."""
        looked_up = sum(f.dim for f in (*self.pooled, *self.looked_up, *self.embedded))
        return looked_up + sum(number.width for number in self.numbers) - len(self.embedded)


def width_of(feature: Feature) -> int:
    """How many numbers a feature, or a part of a behaviour, adds to the side-by-side of embeddings."""
    return feature.dim if feature.kind in ("id", "bag") else feature.width or 1


def weights_column(feature: Feature) -> str:
    """The prepared column of a bag's weights."""
    return f"{feature.name}.weight"


def missing_column(feature: Feature) -> str:
    """The prepared column that says where a number is missing."""
    return f"{feature.name}.missing"


def lengths_column(part: Feature) -> str:
    """The prepared column that says how many values each behaviour has in a bag."""
    return f"{part.name}.length"


def is_special(feature: Feature) -> bool:
    """Whether a bag is pooled in a way that the EmbeddingBagCollection, here and in packages, does not have."""
    return feature.kind == "bag" and (feature.weights is not None or feature.pooling != "mean")


def _plain_numbers(feature: Feature) -> Iterator[Number]:
    if not feature.embed:
        yield Number(feature.name, width_of(feature), feature)
    if feature.missing_indicator:
        yield Number(missing_column(feature), 1, feature)


def _in_turn(schema: FeatureSchema, first: str | None) -> tuple[Feature, ...]:
    """The sequences, the history first."""
    sequences = schema.of_kind("sequence")
    if not sequences:
        raise SchemaError(f"schema {schema.name}: the model reads behaviours, but no feature has kind: sequence")
    names = [f.name for f in sequences]
    if first is not None and first not in names:
        raise SchemaError(f"schema {schema.name}: no sequence {first!r} to read; {nearest(first, names)}")
    return tuple(sorted(sequences, key=lambda f: f.name != (first or names[0])))


def _sequence(feature: Feature, parts: tuple[Feature, ...], looked_up: set[str]) -> SequenceLayout:
    compared = (part.shared_with if part.shared_with in looked_up else None for part in parts)
    return SequenceLayout(feature, parts, tuple(compared))
