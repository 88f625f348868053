"""FeatureSchema: everything that prepare, train, export and serve must agree on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

import pydantic

from swrec_prod.errors import SchemaError, nearest
from swrec_prod.schema.derived import Derived
from swrec_prod.schema.encoder import Encoder
from swrec_prod.schema.feature import Feature, Kind, SequenceField
from swrec_prod.schema.inputs import Input, check_inputs, inputs_of, item_columns, made_of, raw_of
from swrec_prod.schema.label import Label
from swrec_prod.schema.records import SchemaRecord
from swrec_prod.strict import Strict, dump, load

NO_TIME = "_time"  # the column of moments where the log has none: all rows are of one moment then
AGE_DIM = 16  # the width of an age bucket's embedding


class Scenario(Strict):
    """The scenario column.

    column: its name in the log.
    values: in the order of their indices; left out, prepare fills them in by falling row count.
    unseen: a value that is none of them is an `error`, or has an index of its own behind them, `fallback`.
    """

    column: str = "scenario"
    values: tuple[str, ...] = ()
    unseen: Literal["error", "fallback"] = "error"

    @property
    def size(self) -> int:
        """S, the number of scenario indices."""
        return len(self.values) + (self.unseen == "fallback")

    @property
    def names(self) -> tuple[str, ...]:
        """What stands for each of the S indices in predictions and manifests; "(unseen)" for the fallback."""
        return (*self.values, "(unseen)") if self.unseen == "fallback" else self.values

    def index(self, value: str) -> int | None:
        """The index of `value`; the fallback index, or None, when it is unseen."""
        if value in self.values:
            return self.values.index(value)
        return len(self.values) if self.unseen == "fallback" else None


class FeatureSchema(SchemaRecord):
    """Everything that prepare, train, export and serve must agree on. See schema/__init__.py for column names.

    name: of the data, for people.
    features: the inputs of models, in the order of x.
    derived: columns computed from raw ones, which features may read.
    scenario: the scenario column and its values.
    labels: one or several tasks, in the order of logits.
    time: the column of moments; a log without one can only be split at random, and has no behaviours of its own.
    user: the column that names users.
    request: the column that names requests.
    weight: the column of row weights >= 0.
    """

    LATER: ClassVar[frozenset[str]] = frozenset({"derived"})

    name: str
    features: tuple[Feature, ...] = pydantic.Field(min_length=1)
    scenario: Scenario = Scenario()
    labels: tuple[Label, ...] = pydantic.Field(min_length=1)
    time: str = NO_TIME
    user: str
    request: str | None = None
    weight: str | None = None
    derived: tuple[Derived, ...] = ()

    @pydantic.model_validator(mode="after")
    def _references(self) -> FeatureSchema:
        self._check_names()
        self._check_derived()
        label_of = {label.column: label for label in self.labels}
        for feature in self.features:
            for column in feature.raw_columns.values():
                for name in self.made_of(column):
                    if name in label_of:
                        raise ValueError(_leak(feature, column, label_of[name]))
            if feature.kind == "sequence":
                self._check_sequence(feature)
            else:
                self._check_shared(f"feature {feature.name!r}", feature)
        return self

    def _check_names(self) -> None:
        """Names are of one thing each: features, derived columns, and what a sequence or a bag adds to them."""
        names_of = {
            "feature": [f.name for f in self.features],
            "derived": [d.name for d in self.derived],
            "label": list(self.tasks),
        }
        for what, names in names_of.items():
            twice = [name for name, n in Counter(names).items() if n > 1]
            if twice:
                raise ValueError(f"{what} {twice[0]!r} is defined twice")

    def _check_derived(self) -> None:
        """Each is computed of what there is before it, and what requests carry for them has a name of its own."""
        for i, derived in enumerate(self.derived):
            if derived.name in (self.time, self.user):
                raise ValueError(f"derived {derived.name!r} has the name of the time or user column; choose another")
            if f"lookup_{derived.name}" in (feature.name for feature in self.features):
                raise ValueError(f"feature 'lookup_{derived.name}' has the name of the table of {derived.name!r}")
            later = [name for name in derived.of if name in (other.name for other in self.derived[i:])]
            if later:
                wrong = f"derived {derived.name!r} is computed of {later[0]!r}"
                raise ValueError(f"{wrong}, which has to stand before it in derived")
        check_inputs(self.inputs, self.features)

    def _check_sequence(self, feature: Feature) -> None:
        """Its item is an id feature, its fields have encoders, and `where` names a label."""
        assert feature.item is not None
        owners = {f.name: f for f in self.features if f.kind == "id" and f.shared_with is None}
        if feature.item not in owners:
            wrong = f"feature {feature.name!r}: item {feature.item!r} is not an id feature with a table of its own"
            raise ValueError(f"{wrong}; {nearest(feature.item, owners)}")
        if isinstance(feature.where, str) and feature.where not in self.tasks:
            raise ValueError(
                f"sequence {feature.name!r}: where {feature.where!r} is not a label; "
                f"{nearest(feature.where, self.tasks)}"
            )
        for field in feature.fields:
            if field.encoder is None and (field.shared_with or field.name) not in self._encoded:
                known = [name for name, f in self._encoded.items() if f.kind in ("id", "bag", "dense")]
                wrong = f"sequence {feature.name!r}: field {field.name!r} has no kind and encoder of its own, and"
                shared = field.shared_with or field.name
                raise ValueError(f"{wrong} {shared!r} is not a feature whose it could share; {nearest(shared, known)}")

    def _check_shared(self, what: str, feature: Feature) -> None:
        """The table that a feature shares is one of its own kind and width; a number shares the scaler of a number."""
        if feature.shared_with is None:
            return
        if feature.kind == "dense":
            scaled = [f.name for f in self.features if f.kind == "dense" and f.encoder is not None]
            if feature.shared_with not in scaled:
                wrong = f"{what}: shared_with {feature.shared_with!r} is not a dense feature with an encoder of its own"
                raise ValueError(f"{wrong}; {nearest(feature.shared_with, scaled)}")
            return
        owners = {f.name: f for f in self.features if f.is_looked_up and f.shared_with is None}
        if feature.table not in owners:
            wrong = f"{what}: shared_with {feature.table!r} is not an id feature with a table of its own"
            raise ValueError(f"{wrong}; {nearest(feature.table, owners)}")
        if feature.dim != owners[feature.table].dim:
            owner = f"{feature.table!r}, whose dim is {owners[feature.table].dim}"
            raise ValueError(f"{what} has dim {feature.dim}, but shares the table of {owner}; give both the same")

    @pydantic.model_validator(mode="after")
    def _order_of_labels(self) -> FeatureSchema:
        for i, label in enumerate(self.labels):
            if label.after is None or label.after in self.tasks[:i]:
                continue
            if label.after in self.tasks:
                raise ValueError(
                    f"label {label.name!r} is after {label.after!r}, which has to stand before it in labels"
                )
            raise ValueError(
                f"label {label.name!r}: after {label.after!r} is not a label; {nearest(label.after, self.tasks)}"
            )
        return self

    @classmethod
    def load(cls, path: str | Path) -> FeatureSchema:
        """Read a schema file. Raises SchemaError naming the key and what would be right."""
        return load(cls, path, SchemaError)

    def save(self, path: str | Path) -> None:
        """Write the schema as YAML."""
        dump(self, path)

    @property
    def has_time(self) -> bool:
        """Whether the log has moments; else all rows are of one."""
        return self.time != NO_TIME

    @property
    def tasks(self) -> tuple[str, ...]:
        """Label names in order: the T of logits [B, T]."""
        return tuple(label.name for label in self.labels)

    @property
    def after(self) -> tuple[int, ...]:
        """For each of the T tasks the index of the one that it follows, -1 for one that may happen by itself."""
        return tuple(self.tasks.index(label.after) if label.after else -1 for label in self.labels)

    @property
    def chained(self) -> tuple[tuple[Label, Label], ...]:
        """(label, the label that it is after) for every label that follows another."""
        return tuple(
            (label, self.labels[first]) for label, first in zip(self.labels, self.after, strict=True) if first >= 0
        )

    def made_of(self, column: str) -> tuple[str, ...]:
        """`column` and, of a derived one, all that it is computed from, derived or raw, once each."""
        return made_of(column, self.derived, self.time)

    def raw_of(self, column: str) -> tuple[str, ...]:
        """The columns of the raw log that `column` is read from: itself, unless it is derived."""
        return raw_of(column, self.derived, self.time)

    @property
    def inputs(self) -> tuple[Input, ...]:
        """What a request carries of each row beside its behaviours; see schema/inputs.py."""
        return inputs_of(self.features, self.derived, self.time, self.scenario.column)

    @property
    def item_columns(self) -> frozenset[str]:
        """The columns of features, and the sequences, that have a value for each candidate; see schema/inputs.py."""
        return item_columns(self.features, self.derived, self.inputs, self.time)

    def of_kind(self, *kinds: Kind) -> tuple[Feature, ...]:
        """The features of the given kinds, in file order."""
        return tuple(f for f in self.features if f.kind in kinds)

    def feature(self, name: str) -> Feature:
        """The feature called `name`. Raises SchemaError naming the nearest one."""
        for feature in self.features:
            if feature.name == name:
                return feature
        raise SchemaError(f"schema {self.name}: no feature {name!r}; {nearest(name, [f.name for f in self.features])}")

    @property
    def _encoded(self) -> dict[str, Feature]:
        """The features with an encoder, by name: what fields of behaviours may share."""
        return {f.name: f for f in self.features if f.kind in ("id", "bag", "dense")}

    @property
    def parts(self) -> dict[str, tuple[Feature, ...]]:
        """What is embedded of each behaviour, by sequence: its item, its fields and, where it is asked for, its age.

        Each is a feature of its own, called `<sequence>.<part>`: an id, a bag or a number of the table (or scaler) that
        it shares, or of its own.
        """
        return {f.name: tuple(self._parts_of(f)) for f in self.of_kind("sequence")}

    def _parts_of(self, sequence: Feature) -> Iterator[Feature]:
        item = self.feature(sequence.table)
        yield _part(sequence, "item", item, item)
        for field in sequence.fields:
            owner = None if field.encoder else self.feature(field.shared_with or field.name)
            yield _part(sequence, field.name, owner, field)
        if sequence.age is not None:
            encoder = Encoder(kind="bucketize", boundaries=sequence.age)
            age = SequenceField.model_construct(
                name="age", kind="id", encoder=encoder, dim=AGE_DIM, rows=len(sequence.age) + 2
            )
            yield _part(sequence, "age", None, age)

    @property
    def owners(self) -> tuple[Feature, ...]:
        """The features, and fields of behaviours, that have a table of their own."""
        return tuple(f for f in self._with_parts if f.is_looked_up and f.shared_with is None)

    @property
    def scaled(self) -> tuple[Feature, ...]:
        """The features, and fields of behaviours, that have a scaler of their own."""
        return tuple(f for f in self._with_parts if f.kind in ("dense", "vector") and f.encoder is not None)

    @property
    def _with_parts(self) -> tuple[Feature, ...]:
        return (*self.features, *(part for parts in self.parts.values() for part in parts))

    def encoder_of(self, feature: Feature) -> Encoder | None:
        """Its own encoder, or the one that it shares; a sequence and a vector may have none."""
        return feature.encoder or (self.feature(feature.shared_with).encoder if feature.shared_with else None)

    def select(self, names: tuple[str, ...]) -> FeatureSchema:
        """The schema reduced to the features in `names`, and those whose tables or scalers they share."""
        keep = set(names)
        for feature in (self.feature(name) for name in names):
            shared = (part.shared_with for part in self.parts.get(feature.name, ()))
            keep |= {name for name in (feature.shared_with, *shared) if name}
        features = tuple(f for f in self.features if f.name in keep)
        read = [f.source for f in features if f.kind != "sequence"]
        read += [field.column or field.name for f in features for field in f.fields]
        needed = {name for source in read for name in self.made_of(source)}
        derived = tuple(d for d in self.derived if d.name in needed)
        return self.model_copy(update={"features": features, "derived": derived})

    def with_features(self, features: tuple[Feature, ...]) -> FeatureSchema:
        """The schema with these features in the place of its own, which have the same names."""
        return self.model_copy(update={"features": features})

    def with_scenarios(self, values: tuple[str, ...]) -> FeatureSchema:
        """The schema with these scenario values."""
        return self.model_copy(update={"scenario": self.scenario.model_copy(update={"values": values})})


def _leak(feature: Feature, column: str, label: Label) -> str:
    """Why a feature may not read a label's column, on one line."""
    through = "" if column == label.column else f", computed of {label.column!r}"
    wrong = f"feature {feature.name!r} reads column {column!r}{through}, which is the label {label.name!r}"
    return f"{wrong}; a feature is what is known before the impression"


def _part(sequence: Feature, name: str, owner: Feature | None, said: Feature | SequenceField) -> Feature:
    """A part of a sequence's behaviours as a feature (its dotted name keeps it apart from those of the schema)."""
    brought = (sequence.columns or {}).get(name)
    source = brought or said.column or (owner.source if owner else said.name)
    shape = owner or said
    return Feature.model_construct(
        name=f"{sequence.name}.{name}",
        kind=shape.kind or "id",
        side=sequence.side,
        encoder=None if owner else said.encoder,
        column=source,
        dim=shape.dim,
        shared_with=(owner.shared_with or owner.name) if owner else None,
        pooling=getattr(owner, "pooling", "mean"),
        rows=shape.rows,
    )
