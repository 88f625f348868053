"""Pages of names: what one calls from Python, and what models are built of. mkdocstrings takes them from the source."""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Iterable
from functools import cache
from importlib import import_module
from types import ModuleType

from swrec_prod import blocks, layers

PARTS = {  # title -> a sentence, and the names
    "Scoring": ("A service's client; it needs NumPy and gRPC only.", ("swrec_prod.serving.client",)),
    "Preparing": (
        "What `swrec prepare` calls. A data file's keys are on [their page](data_file.md).",
        ("swrec_prod.prepare.data_file.DataFile.load", "swrec_prod.prepare.run.prepare"),
    ),
    "Prepared data": ("", ("swrec_prod.data.catalog.Catalog",)),
    "Training and judging": (
        "What `swrec train`, `evaluate` and `compare` call. A run file's keys are on [their page](run_file.md).",
        (
            "swrec_prod.config.RunConfig.load",
            "swrec_prod.train.run.train",
            "swrec_prod.evaluate.run.evaluate",
            "swrec_prod.compare.comparison.compare_runs",
        ),
    ),
    "Predictions": ("Their columns are on [their page](columns.md#predictions).", ("swrec_prod.evaluate.predictions",)),
    "Metrics": (
        "What the [figures](metrics.md) are computed with.",
        (
            "swrec_prod.metrics.ranks",
            "swrec_prod.metrics.probabilities",
            "swrec_prod.metrics.within_groups",
            "swrec_prod.metrics.within_requests",
            "swrec_prod.metrics.top_items",
            "swrec_prod.metrics.improvement",
            "swrec_prod.metrics.pieces",
            "swrec_prod.metrics.auc_of_pieces",
            "swrec_prod.statistics.paired",
            "swrec_prod.statistics.bootstrap",
            "swrec_prod.statistics.multiple",
            "swrec_prod.statistics.power",
            "swrec_prod.statistics.seeds",
        ),
    ),
    "Packages": ("", ("swrec_prod.export.run.export_package", "swrec_prod.export.loaded.Package")),
    "Writing a model": (
        "What a model is given, and what it is; [building blocks](blocks.md) are what it is made of.",
        ("swrec_prod.layers.inputs", "swrec_prod.layers.folding.ScenarioModel"),
    ),
    "Launching": ("TorchX components.", ("swrec_prod.launch.components",)),
    "Errors": ("", ("swrec_prod.errors",)),
}
TITLES = {"Mechanisms of papers": blocks, "Layers": layers}


def from_python() -> str:
    """The page of what one calls."""
    head = "# From Python\n\nWhat the commands call, and what services and models are written with."
    parts = (f"## {title}\n\n{says}\n\n{_names(names)}" for title, (says, names) in PARTS.items())
    return "\n\n".join([head, *parts]) + "\n"


def building_blocks() -> str:
    """The page of all modules of blocks and layers."""
    says = "What [models](models.md) are made of: mechanisms of one paper each, and layers that know no paper."
    head = f"# Building blocks\n\n{says}"
    parts = (f"## {title}\n\n{_names(modules_of(package))}" for title, package in TITLES.items())
    return "\n\n".join([head, *parts]) + "\n"


def modules_of(package: ModuleType) -> list[str]:
    """The modules in a folder of the source, by their dotted names."""
    return [f"{package.__name__}.{inside.name}" for inside in pkgutil.iter_modules(package.__path__)]


def _names(names: Iterable[str]) -> str:
    return "\n\n".join(f"::: {name}" for name in names)


@cache
def classes() -> dict[str, str]:
    """Name -> dotted name of the classes on the page of building blocks."""
    modules = [import_module(name) for package in TITLES.values() for name in modules_of(package)]
    found = ((name, kind) for module in modules for name, kind in inspect.getmembers(module, inspect.isclass))
    return {name: f"{kind.__module__}.{name}" for name, kind in found if kind.__module__.startswith("swrec_prod.")}
