"""Feature: one input of a model."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import pydantic

from swrec_prod.schema.encoder import DENSE_ENCODERS, ID_ENCODERS, Encoder
from swrec_prod.schema.label import Value
from swrec_prod.schema.records import SchemaRecord, as_tuple

Kind = Literal["id", "bag", "sequence", "dense", "vector"]
Side = Literal["user", "item", "context"]
Pooling = Literal["mean", "sum", "max"]

RESERVED = ("row", "day", "time", "user", "scenario", "request", "weight", "split")
PARTS = ("item", "scenario", "time", "age")  # what a behaviour has without being asked; no field is called so
MINUTE, HOUR, DAY = 60.0, 3_600.0, 86_400.0
AGES = (MINUTE, 10 * MINUTE, HOUR, 6 * HOUR, DAY, 2 * DAY, 3 * DAY, 7 * DAY, 14 * DAY, 30 * DAY, 90 * DAY)
ONLY_FOR: dict[str, tuple[Kind, ...]] = {  # keys that say something about some kinds only
    "item": ("sequence",), "where": ("sequence",), "max_length": ("sequence",), "fields": ("sequence",),
    "age": ("sequence",), "columns": ("sequence",), "width": ("vector",), "weights": ("bag",), "pooling": ("bag",),
    "embed": ("dense",), "missing_indicator": ("dense",),
}  # fmt: skip


class SequenceField(SchemaRecord):
    """What is known of a behaviour beside its item: the value that a column had at that event.

    name: of the field; a feature's name alone stands for `{name: FEATURE}`, which reads that feature's column and
        shares its encoder and table.
    shared_with: the feature whose encoder and table it shares, where that is not `name`.
    column: of the log, where that is not the feature's, or `name`; also one known only after the impression.
    kind, encoder, dim: of a field with an encoder of its own: id, bag or dense; its table is `<sequence>.<name>`.
    rows: the height of its own table, filled in by swrec prepare.
    """

    LATER: ClassVar[frozenset[str]] = frozenset({"shared_with", "column", "kind", "encoder", "dim", "rows"})

    name: str = pydantic.Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    shared_with: str | None = None
    column: str | None = None
    kind: Literal["id", "bag", "dense"] | None = None
    encoder: Encoder | None = None
    dim: int = pydantic.Field(16, gt=0, multiple_of=4)
    rows: int | None = pydantic.Field(None, ge=1)

    @pydantic.model_validator(mode="before")
    @classmethod
    def _from_word(cls, data: Any) -> Any:
        return {"name": data} if isinstance(data, str) else data

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> SequenceField:
        if self.name in PARTS:
            raise ValueError(f"a field is not called {self.name}: every behaviour has {', '.join(PARTS)}")
        if (self.kind is None) != (self.encoder is None):
            raise ValueError(f"field {self.name!r} has an encoder of its own with kind and encoder, or neither")
        if self.encoder is not None and self.shared_with is not None:
            raise ValueError(f"field {self.name!r} has an encoder of its own, or one by shared_with, not both")
        if self.encoder is not None:
            _check_encoder(f"field {self.name!r}", self.kind or "id", self.encoder)
        return self


class Feature(SchemaRecord):
    """One feature.

    name: its column in prepared days, and in requests.
    kind: id (one value), bag (several values), dense (a number), vector (a fixed number of floats) or sequence
        (behaviours of a user).
    side: whose it is: user, item or context.
    encoder: how raw values become ids or numbers; a vector may go without, or have `standard`.
    column: of the raw log (or derived), where that is not `name`.
    dim: the embedding width; fused kernels need a multiple of 4.
    shared_with: the feature whose encoder and table it shares.
    embed: of dense: the number becomes a vector of `dim` numbers, a learned line each, instead of standing in x itself.
    missing_indicator: of dense: x has one more number, 1 where the value is missing.
    width: of vector: how many floats each has.
    weights: of bag: a list column of the log with a weight >= 0 for each value.
    pooling: of bag: mean (weighted by `weights`), sum or max over its values.
    item: of sequence: the id feature that says what each behaviour was about; shares its encoder and table.
    where: of sequence: which events are behaviours: a label that is 1, or {COLUMN: VALUE or [VALUES]} of the log or of
        labels, all of them; without it every event.
    max_length: of sequence: how many of the latest behaviours are kept.
    fields: of sequence: what else is known of each behaviour.
    age: of sequence: boundaries in seconds; the time from a behaviour to the row becomes an id with a table of its own.
        `true`: from a minute to 90 days.
    columns: of sequence: list columns in which the log brings the behaviours itself, oldest first: {item: COLUMN, and
        scenario, time or FIELD}. Without it they are computed from the log.
    rows: the table's height, row 0 included; filled in by swrec prepare.
    """

    LATER: ClassVar[frozenset[str]] = frozenset(
        {"embed", "missing_indicator", "width", "weights", "pooling", "fields", "age", "columns"}
    )

    name: str = pydantic.Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    kind: Kind
    side: Side
    encoder: Encoder | None = None
    column: str | None = None
    dim: int = pydantic.Field(16, gt=0, multiple_of=4)
    shared_with: str | None = None
    item: str | None = None
    where: str | dict[str, tuple[Value, ...]] | None = None
    max_length: int | None = pydantic.Field(None, ge=1)
    rows: int | None = pydantic.Field(None, ge=1)
    embed: bool = False
    missing_indicator: bool = False
    width: int | None = pydantic.Field(None, ge=1)
    weights: str | None = None
    pooling: Pooling = "mean"
    fields: tuple[SequenceField, ...] = ()
    age: tuple[float, ...] | None = None
    columns: dict[str, str] | None = None

    @pydantic.field_validator("age", mode="before")
    @classmethod
    def _default_ages(cls, age: Any) -> Any:
        return {True: AGES, False: None}[age] if isinstance(age, bool) else age

    @pydantic.field_validator("where", mode="before")
    @classmethod
    def _from_value(cls, where: Any) -> Any:
        return {key: as_tuple(value) for key, value in where.items()} if isinstance(where, dict) else where

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> Feature:
        if self.name in RESERVED or self.name.startswith("label_"):
            raise ValueError(
                f"the name {self.name!r} is taken by a bookkeeping column ({', '.join(RESERVED)}, label_*)"
            )
        for key, kinds in ONLY_FOR.items():
            if key in self.model_fields_set and self.kind not in kinds and getattr(self, key) is not None:
                raise ValueError(f"feature {self.name!r} is {self.kind}: {key} is for {' and '.join(kinds)} features")
        if self.encoder is not None and self.shared_with is not None:
            raise ValueError(f"feature {self.name!r} has an encoder of its own, or one by shared_with, not both")
        if self.kind == "sequence":
            self._check_sequence()
        elif self.kind == "vector":
            self._check_vector()
        elif self.encoder is None and self.shared_with is None:
            raise ValueError(f"feature {self.name!r} needs an encoder: one of {', '.join(_encoders_of(self.kind))}")
        elif self.encoder is not None:
            _check_encoder(f"feature {self.name!r}", self.kind, self.encoder)
        return self

    def _check_sequence(self) -> None:
        if self.item is None:
            raise ValueError(f"sequence {self.name!r} needs `item`: the id feature that its behaviours hold")
        names = [field.name for field in self.fields]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"sequence {self.name!r}: field {name!r} is given twice")
        if self.age is not None and (not self.age or list(self.age) != sorted(set(self.age))):
            raise ValueError(f"sequence {self.name!r}: age is a list of rising seconds, not {list(self.age)}")
        if self.columns is not None:
            known = (*PARTS[:3], *names)
            for wrong in (part for part in self.columns if part not in known):
                raise ValueError(f"sequence {self.name!r}: columns has {wrong!r}, which is none of {', '.join(known)}")
            for part in ("item", *names, *(("time",) if self.age else ())):
                if part not in self.columns:
                    raise ValueError(f"sequence {self.name!r}: columns says nothing of {part!r}")
            if self.where is not None:
                raise ValueError(f"sequence {self.name!r}: the log brings it (columns), so `where` chooses nothing")

    def _check_vector(self) -> None:
        if self.width is None:
            raise ValueError(f"vector {self.name!r} needs `width`: how many floats each row has")
        if self.shared_with is not None:
            raise ValueError(f"vector {self.name!r} has no table to share; leave shared_with out")
        if self.encoder is not None and self.encoder.kind != "standard":
            raise ValueError(f"vector {self.name!r}: encoder {self.encoder.kind!r}; a vector has standard, or none")

    @property
    def source(self) -> str:
        """The raw column that the feature is read from."""
        return self.column or self.name

    @property
    def table(self) -> str:
        """The name of the embedding table (and vocabulary) that the feature looks up."""
        return self.item or self.shared_with or self.name

    @property
    def raw_columns(self) -> dict[str, str]:
        """The columns that the feature is made of: what requests call each -> what the raw log does. A sequence, which
        is made of events, has none.
        """
        if self.kind == "sequence":
            return {}
        return {self.name: self.source} | ({f"{self.name}.weight": self.weights} if self.weights else {})

    @property
    def is_looked_up(self) -> bool:
        """Whether its values are ids of a table."""
        return self.kind in ("id", "bag")


def _encoders_of(kind: str) -> tuple[str, ...]:
    return DENSE_ENCODERS if kind == "dense" else ID_ENCODERS


def _check_encoder(what: str, kind: str, encoder: Encoder) -> None:
    allowed = _encoders_of(kind)
    if encoder.kind not in allowed:
        raise ValueError(f"{what} is {kind}: encoder {encoder.kind!r} is not one of {', '.join(allowed)}")
