"""What is served, and what came of it, as the status page has it (page/): status.json."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry

from swrec_prod.serving.watching.metrics import Tally

DEFAULT = "(all others)"
SETS = ("model", "version", "strength")


def status(tally: Tally, registry: CollectorRegistry) -> dict[str, Any]:
    """For JSON: `metrics` are the samples of the metrics endpoint, the rest says what they are about."""
    rules: Mapping[str, Any] = (tally.held or {}).get("rules", {})
    reloads = tally.reloads
    return {
        "now": time.time(),
        "started": tally.started,
        "workers": {"serving": tally.workers, "wanted": tally.wanted},
        "restarts": dict(tally.restarts),
        "packages": list(_packages(tally, rules.get("labels", {}))),
        "routes": list(_routes(rules.get("routes", {}))),
        "experiments": list(_variants(rules.get("experiments", {}))),
        "changing": reloads.changing,
        "changes": list(reloads.last),
        "metrics": [
            {"name": sample.name, "labels": sample.labels, "value": sample.value}
            for metric in registry.collect()
            for sample in metric.samples
        ],
    }


def _packages(tally: Tally, labels: Mapping[str, Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    for package in tally.served:
        of_model = labels.get(package.model, {})
        mine = [label for label, version in of_model.items() if str(version) == package.version]
        yield {"model": package.model, "version": package.version, "labels": mine}


def _routes(routes: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    listed = {**routes.get("scenarios", {}), DEFAULT: routes.get("default", {})}
    for scenario, route in listed.items():
        keys = ", ".join(f"{key}: {value}" for key, value in route.items())
        yield {"scenario": scenario, "route": keys or "as the packages say"}


def _variants(file: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    for name, experiment in file.get("experiments", {}).items():
        for variant, of in experiment["variants"].items():
            sets = ", ".join(f"{key}: {of[key]}" for key in SETS if of.get(key) is not None)
            yield {
                "experiment": name,
                "layer": experiment["layer"],
                "variant": f"{variant}",
                "sets": sets or "nothing",
                "buckets": ", ".join(f"[{start}, {stop})" for start, stop in of["buckets"]),
            }
