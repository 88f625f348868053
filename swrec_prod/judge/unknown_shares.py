"""Which share of a day's values is unknown to the encoders, by feature and by scenario, from the manifest's counts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import NamedTuple

from swrec_prod.config import DataConfig
from swrec_prod.data.catalog import Catalog
from swrec_prod.data.unknown_values import Share, Span, has_vocabulary, shares


class Unknown(NamedTuple):
    """Shares of unknown values. overall, by_scenario: over the values of all features with a vocabulary; None and {}
    where they were not counted. by_feature: over all rows, of the features that have any.
    """

    overall: float | None
    by_scenario: dict[str, float]
    by_feature: dict[str, float]


def unknown_of_days(catalog: Catalog, data: DataConfig, days: Sequence[date]) -> Unknown:
    """Of the features that `data` names, in the rows of its scenarios, from the first to the last of `days`."""
    schema = catalog.schema if data.features is None else catalog.schema.select(data.features)
    span = Span(days[0], days[-1], scenarios=data.scenarios)
    names = {feature.name for feature in schema.of_kind("id", "bag") if has_vocabulary(schema, feature)}

    def counted(span: Span) -> Mapping[str, Share]:
        found = shares(catalog.manifest, schema, span)
        return {name: share for name, share in found.items() if name in names and share.values}

    whole = counted(span)
    scenarios = schema.scenario.names if span.scenarios is None else span.scenarios
    each = {name: _ratio(counted(span._replace(scenarios=(name,))).values()) for name in scenarios}
    return Unknown(
        _ratio(whole.values()),
        {name: ratio for name, ratio in each.items() if ratio is not None},
        {name: share.ratio for name, share in whole.items() if share.unknown},
    )


def _ratio(found: Iterable[Share]) -> float | None:
    shares_of = list(found)
    values = sum(share.values for share in shares_of)
    return sum(share.unknown for share in shares_of) / values if values else None
