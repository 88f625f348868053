"""FeatureSchema: which columns a model reads, whose they are and how a raw value becomes a number.

One YAML file serves prepare, train, export and serve. Names used everywhere after it:

    a feature            column `<name>`                in the standard table (raw) and in prepared days (encoded)
    a sequence feature   columns `<name>.item`, `<name>.scenario`, `<name>.time`: one list a row, oldest behaviour first
    a label              column `label_<task>`          {0, 1}
    bookkeeping          `row`, `time`, `user`, `scenario`, and where they exist `request`, `weight`, `split`

Row 0 of every embedding table stands for unknown values and padding.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, Literal

import pydantic

from swrec_prod.errors import SchemaError, nearest
from swrec_prod.strict import Strict, dump, load

Kind = Literal["id", "bag", "sequence", "dense"]
Side = Literal["user", "item", "context"]
EncoderKind = Literal["vocab", "hash", "bucketize", "standard", "minmax", "log1p"]

ID_ENCODERS: tuple[str, ...] = ("vocab", "hash", "bucketize")
DENSE_ENCODERS: tuple[str, ...] = ("standard", "minmax", "log1p")
RESERVED = ("row", "day", "time", "user", "scenario", "request", "weight", "split")


class Encoder(Strict):
    """How a raw value becomes an id (vocab, hash, bucketize) or a number (standard, minmax, log1p).

    vocab: ids 1.. in order of falling count, fitted on training days, values seen fewer than `min_count` times -> 0.
    hash: 1 + hash(value) % `buckets`. bucketize: 1 + how many of `boundaries` are <= value; null -> 0.
    """

    kind: EncoderKind
    min_count: int = pydantic.Field(1, ge=1)
    buckets: int | None = pydantic.Field(None, ge=1)
    boundaries: tuple[float, ...] = ()

    @pydantic.model_validator(mode="before")
    @classmethod
    def _from_word(cls, data: Any) -> Any:
        return {"kind": data} if isinstance(data, str) else data

    @pydantic.model_validator(mode="after")
    def _complete(self) -> Encoder:
        if self.kind == "hash" and self.buckets is None:
            raise ValueError("a hash encoder needs buckets, for example {kind: hash, buckets: 100000}")
        if self.kind == "bucketize" and not self.boundaries:
            raise ValueError(
                "a bucketize encoder needs boundaries, for example {kind: bucketize, boundaries: [10, 60]}"
            )
        if list(self.boundaries) != sorted(set(self.boundaries)):
            raise ValueError(f"boundaries must rise, not {list(self.boundaries)}")
        return self


class Feature(Strict):
    """One feature. `dim` is the embedding width (fused kernels need a multiple of 4); dense features have width 1.

    A sequence holds the user's earlier behaviours: `item` names the id feature whose vocabulary and table it shares,
    `where` the label that makes an event a behaviour (for example click), `max_length` how many of the latest are kept.
    `rows` (the table's height, row 0 included) is filled in by `swrec prepare`.
    """

    name: str = pydantic.Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    kind: Kind
    side: Side
    encoder: Encoder | None = None
    column: str | None = None
    dim: int = pydantic.Field(16, gt=0, multiple_of=4)
    shared_with: str | None = None
    item: str | None = None
    where: str | None = None
    max_length: int | None = pydantic.Field(None, ge=1)
    rows: int | None = pydantic.Field(None, ge=1)

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> Feature:
        if self.name in RESERVED or self.name.startswith("label_"):
            raise ValueError(
                f"the name {self.name!r} is taken by a bookkeeping column ({', '.join(RESERVED)}, label_*)"
            )
        if self.kind == "sequence":
            if self.item is None:
                raise ValueError(f"sequence {self.name!r} needs `item`: the id feature that its behaviours hold")
            return self
        allowed = DENSE_ENCODERS if self.kind == "dense" else ID_ENCODERS
        if self.encoder is None and self.shared_with is None:
            raise ValueError(f"feature {self.name!r} needs an encoder: one of {', '.join(allowed)}")
        if self.encoder is not None and self.encoder.kind not in allowed:
            raise ValueError(
                f"feature {self.name!r} is {self.kind}: "
                f"encoder {self.encoder.kind!r} is not one of {', '.join(allowed)}"
            )
        return self

    @property
    def source(self) -> str:
        """The raw column that the feature is read from."""
        return self.column or self.name

    @property
    def table(self) -> str:
        """The name of the embedding table (and vocabulary) that the feature looks up."""
        return self.item or self.shared_with or self.name


class Scenario(Strict):
    """The scenario column. `values` in index order; left out, prepare fills them in by falling row count.

    An unseen value is an error, or with `unseen: fallback` has an index of its own behind the known values.
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


class Label(Strict):
    """One task: `column` of the raw log holds {0, 1}.

    `after` names a label before it in the list: this outcome can only follow that one, so that it is 0 where that one
    is 0.
    """

    name: str = pydantic.Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    column: str
    after: str | None = None

    @pydantic.model_serializer(mode="wrap")
    def _plain(self, handler: pydantic.SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without `after` where there is none, so that such schemas keep the fingerprint
        that they had before the key existed.
        """
        return {key: value for key, value in handler(self).items() if key != "after" or value is not None}


class FeatureSchema(Strict):
    """Everything that prepare, train, export and serve must agree on. See the module's docstring for column names."""

    name: str
    features: tuple[Feature, ...] = pydantic.Field(min_length=1)
    scenario: Scenario = Scenario()
    labels: tuple[Label, ...] = pydantic.Field(min_length=1)
    time: str
    user: str
    request: str | None = None
    weight: str | None = None

    @pydantic.model_validator(mode="after")
    def _references(self) -> FeatureSchema:
        twice = [name for name, n in Counter(f.name for f in self.features).items() if n > 1]
        if twice:
            raise ValueError(f"feature {twice[0]!r} is defined twice")
        label_of = {label.column: label.name for label in self.labels}
        for feature in self.features:
            if feature.kind != "sequence" and feature.source in label_of:
                wrong = (
                    f"feature {feature.name!r} reads column {feature.source!r}, "
                    f"which is the label {label_of[feature.source]!r}"
                )
                raise ValueError(f"{wrong}; a feature is what is known before the impression")
        ids = {f.name: f for f in self.features if f.kind in ("id", "bag") and f.shared_with is None}
        for feature in self.features:
            if feature.kind != "dense" and feature.table not in ids:
                key = "item" if feature.kind == "sequence" else "shared_with"
                wrong = (
                    f"feature {feature.name!r}: {key} {feature.table!r} is not an id feature with a table of its own"
                )
                raise ValueError(f"{wrong}; {nearest(feature.table, ids)}")
            if feature.shared_with and feature.dim != ids[feature.table].dim:
                owner = f"{feature.table!r}, whose dim is {ids[feature.table].dim}"
                raise ValueError(
                    f"feature {feature.name!r} has dim {feature.dim}, "
                    f"but shares the table of {owner}; give both the same"
                )
            if feature.kind == "sequence" and feature.where and feature.where not in self.tasks:
                raise ValueError(
                    f"sequence {feature.name!r}: where {feature.where!r} is not a label; "
                    f"{nearest(feature.where, self.tasks)}"
                )
        return self

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

    def of_kind(self, *kinds: Kind) -> tuple[Feature, ...]:
        """The features of the given kinds, in file order."""
        return tuple(f for f in self.features if f.kind in kinds)

    def feature(self, name: str) -> Feature:
        """The feature called `name`. Raises SchemaError naming the nearest one."""
        for feature in self.features:
            if feature.name == name:
                return feature
        raise SchemaError(f"schema {self.name}: no feature {name!r}; {nearest(name, [f.name for f in self.features])}")

    def select(self, names: tuple[str, ...]) -> FeatureSchema:
        """The schema reduced to the features in `names`, and the tables that those share."""
        keep = set(names) | {self.feature(n).table for n in names if self.feature(n).kind != "dense"}
        return self.model_copy(update={"features": tuple(f for f in self.features if f.name in keep)})

    def with_scenarios(self, values: tuple[str, ...]) -> FeatureSchema:
        """The schema with these scenario values."""
        return self.model_copy(update={"scenario": self.scenario.model_copy(update={"values": values})})
