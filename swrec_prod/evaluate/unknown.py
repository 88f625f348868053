"""Unknown values in judged rows: which share of each feature's values they are, and how well such rows are ranked.

Shapes: N judged rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from swrec_prod.config import DataConfig, SplitName
from swrec_prod.data.catalog import Catalog
from swrec_prod.data.manifest import Manifest
from swrec_prod.data.unknown_values import Span, shares
from swrec_prod.evaluate.text import NONE, Grid, number, share
from swrec_prod.schema import FeatureSchema


def known_features(catalog: Catalog, data: DataConfig) -> FeatureSchema:
    """The schema of the features that a run of these data knows."""
    return catalog.schema if data.features is None else catalog.schema.select(data.features)


def unknown_values(catalog: Catalog, data: DataConfig, part: SplitName) -> dict[str, Any]:
    """By feature with any unknown value in the rows of a part, its share `overall` and of each of `scenarios`; left out
    of folders that were prepared before it was counted.
    """
    return _values(catalog.manifest, known_features(catalog, data), Span.of(data, part))


def unknown_grid(metrics: Mapping[str, Any]) -> Grid | None:
    """The shares as a table, features by scenarios; None where there are none."""
    values = metrics.get("unknown", {}).get("values", {})
    if not values:
        return None
    scenarios = list(dict.fromkeys(value for of in values.values() for value in of["scenarios"]))
    rows = [
        [name, share(of["overall"]), *(share(of["scenarios"][v]) if v in of["scenarios"] else NONE for v in scenarios)]
        for name, of in values.items()
    ]
    return Grid(("feature", "all rows", *scenarios), rows)


def unknown_note(metrics: Mapping[str, Any], *, with_values: bool = True) -> str:
    """What there is to say of unknown values, a line a thing; "" where there are none. with_values: the shares, too."""
    unknown = metrics.get("unknown", {"values": {}, "rows": {}})
    values = (
        ", ".join(f"{name} {share(of['overall'])}" for name, of in unknown["values"].items()) if with_values else ""
    )
    lines = [f"Unknown values: {values}."] if values else []
    rows = unknown["rows"].items()
    return "\n".join([*lines, *(_of_rows(f"with an unknown {name}", of["unknown"], of["known"]) for name, of in rows)])


def cold_note(metrics: Mapping[str, Any]) -> str:
    """How well rows are ranked whose item or user few training rows have, or "" where only unknown do."""
    few, unknown = (
        f"in fewer than {metrics.get('cold_below')} training rows",
        metrics.get("unknown", {}).get("rows", {}),
    )
    cold = [of for of in metrics.get("cold", {}).items() if of[1]["cold"] != unknown.get(of[0], {}).get("unknown")]
    return "\n".join(_of_rows(f"whose {name} is {few}", of["cold"], of["warm"]) for name, of in cold)


def cold_grid(metrics: Mapping[str, Any]) -> Grid | None:
    """AUC of cold rows and of the others by scenario, a line for each with cold rows; None where none is known."""
    rows = [
        [name, scenario, share(_part_of(of)), number(_auc(of, "cold")), number(_auc(of, "warm"))]
        for name, halves in metrics.get("cold", {}).items()
        for scenario, of in halves.get("scenarios", {}).items()
        if "cold" in of
    ]
    return Grid(("feature", "scenario", "cold rows", "AUC cold", "AUC others"), rows) if rows else None


def _part_of(halves: Mapping[str, Any]) -> float:
    """The share of a scenario's rows that are cold."""
    return float(halves["cold"]["rows"] / sum(of["rows"] for of in halves.values()))


def _auc(halves: Mapping[str, Any], half: str) -> float | None:
    return halves[half]["auc"] if half in halves else None


def _of_rows(which: str, some: Mapping[str, Any], rest: Mapping[str, Any]) -> str:
    part = share(some["rows"] / (some["rows"] + rest["rows"]))
    return f"AUC {number(some['auc'])} on the {part} of rows {which}, {number(rest['auc'])} on the others."


def _values(manifest: Manifest | None, schema: FeatureSchema, span: Span) -> dict[str, Any]:
    """The shares of unknown values in rows of a span, of the features that have any."""
    overall = {name: found for name, found in shares(manifest, schema, span).items() if found.unknown}
    scenarios = schema.scenario.names if span.scenarios is None else span.scenarios
    each = {value: shares(manifest, schema, span._replace(scenarios=(value,))) for value in scenarios}
    return {
        name: {
            "overall": found.ratio,
            "scenarios": {value: of[name].ratio for value, of in each.items() if of[name].values},
        }
        for name, found in overall.items()
    }
