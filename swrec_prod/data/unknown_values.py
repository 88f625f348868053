"""Which share of a feature's values is unknown, by the counts of a manifest.

Row 0 of a table stands for unknown values. Where training has next to none of them, it keeps the numbers that it was
drawn with, and a model says something arbitrary of every row that reads it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import date
from typing import NamedTuple

from swrec_prod.config import DataConfig, SplitName, day_range
from swrec_prod.data.manifest import ALL, Manifest, PartValues, Values
from swrec_prod.schema import Feature, FeatureSchema

MANY, FEW = 0.05, 0.01  # shares of unknown values: so many are a matter for judged rows, so few train no row 0


class Share(NamedTuple):
    """unknown of values are unknown. missing: rows of an id feature without a value, none of `values`."""

    values: int
    unknown: int
    missing: int = 0

    @property
    def ratio(self) -> float:
        """The share of unknown values; 0 where there are no values."""
        return self.unknown / max(self.values, 1)

    @property
    def row_0(self) -> float:
        """The share of ids that are 0, for unknown and missing values."""
        return (self.unknown + self.missing) / max(self.values + self.missing, 1)


class Span(NamedTuple):
    """Rows of the days first..last, of some parts where rows are dealt, and of some scenarios (None: of all)."""

    first: date = date.min
    last: date = date.max
    parts: tuple[str, ...] = (ALL,)
    scenarios: Collection[str] | None = None

    @classmethod
    def of(cls, data: DataConfig, *parts: SplitName) -> Span:
        """The rows of neighbouring parts of `data`."""
        if data.split == "random" or data.days is None:
            return cls(parts=parts, scenarios=data.scenarios)
        ranges = [day_range(getattr(data.days, part)) for part in parts]
        return cls(ranges[0][0], ranges[-1][1], (ALL,), data.scenarios)


def shares(manifest: Manifest | None, schema: FeatureSchema, span: Span) -> dict[str, Share]:
    """The share of unknown values of every id and bag feature; {} where days were prepared before it was counted."""
    counted = list(_counted(manifest, span)) if manifest else []
    if not counted:
        return {}
    return {feature.name: _share(counted, feature, span) for feature in schema.of_kind("id", "bag")}


def has_vocabulary(schema: FeatureSchema, feature: Feature) -> bool:
    """Whether values of an id or bag feature may be unknown; a hash or a range takes every value."""
    encoder = schema.encoder_of(feature)
    return encoder is not None and encoder.kind == "vocab"


def untrained(training: Share, held_out: Share) -> bool:
    """Whether row 0 is read by many values that are judged, and by next to none that train it."""
    return held_out.ratio >= MANY and training.ratio < FEW


def _counted(manifest: Manifest, span: Span) -> Iterator[PartValues]:
    """The counts of every day and part of the span."""
    for day, record in manifest.days.items():
        if span.first <= day <= span.last and record.values is not None:
            yield from (record.values[part] for part in span.parts if part in record.values)


def _share(counted: list[PartValues], feature: Feature, span: Span) -> Share:
    values = unknown = missing = 0
    for part in counted:
        for scenario in part.rows if span.scenarios is None else span.scenarios:
            found = _values(part, feature.name, scenario)
            values, unknown, missing = values + found.values, unknown + found.unknown, missing + found.missing
    return Share(values, unknown, missing if feature.kind == "id" else 0)


def _values(part: PartValues, feature: str, scenario: str) -> Values:
    """An id feature that is left out has one known value in every row; a bag is never left out."""
    if feature not in part.features:
        return Values(values=part.rows.get(scenario, 0), unknown=0, missing=0)
    return part.features[feature].get(scenario) or Values(values=0, unknown=0, missing=0)
