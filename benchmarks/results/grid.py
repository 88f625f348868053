"""configs/results.yaml: which models docs/results.md compares on which rows, and the runs that this makes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import pydantic

from swrec_prod.config import DebiasConfig, RunConfig
from swrec_prod.data.catalog import Catalog
from swrec_prod.data.manifest import MANIFEST
from swrec_prod.errors import ConfigError
from swrec_prod.run_dir import RunDir
from swrec_prod.strict import Strict, parse

GRID = Path("configs/results.yaml")
RUNS = Path("build/results/runs")
DATA = Path("build/results/data")
ASKED_FILE, ROWS_FILE = "asked.yaml", "rows.sha256"


class Variant(Strict):
    """One line of a protocol's table: a model with options, and what of the protocol's settings it changes."""

    model: dict[str, Any]
    train: dict[str, Any] = pydantic.Field(default_factory=dict)
    debias: DebiasConfig | None = None
    strategy: dict[str, Any] | None = None
    note: str = ""


class Protocol(Strict):
    """Rows, settings and models that are compared. Exactly one of data_file (prepared from --raw) and simulate.

    raw: the file or folder below --raw that data_file is prepared from. published, public_code: AUC by variant, of the
    papers' tables and of a run of the public benchmark's code on such rows.
    """

    title: str
    text: str = ""
    data_file: Path | None = None
    raw: str = ""
    simulate: dict[str, Any] | None = None
    data: dict[str, Any] = pydantic.Field(default_factory=dict)
    train: dict[str, Any] = pydantic.Field(default_factory=dict)
    seeds: int = pydantic.Field(1, ge=1)
    variants: dict[str, Variant]
    published: dict[str, float] = pydantic.Field(default_factory=dict)
    public_code: dict[str, float] = pydantic.Field(default_factory=dict)

    @pydantic.model_validator(mode="after")
    def _one_source(self) -> Protocol:
        if (self.data_file is None) == (self.simulate is None):
            raise ValueError("give data_file or simulate, and not both")
        return self


class Grid(Strict):
    """configs/results.yaml. shared: what its protocols refer to by YAML anchors."""

    shared: dict[str, Any] = pydantic.Field(default_factory=dict)
    protocols: dict[str, Protocol]


class Run(NamedTuple):
    """One training run of the grid. data: `identity` of the prepared rows."""

    protocol: str
    variant: str
    seed: int
    config: RunConfig
    data: str = ""

    @property
    def folder(self) -> Path:
        """Its RUN_DIR."""
        return RUNS / self.protocol / self.variant / f"seed-{self.seed}"

    @property
    def name(self) -> str:
        """protocol/variant/seed."""
        return f"{self.protocol} {self.variant} seed {self.seed}"

    def finished(self) -> bool:
        """Whether its folder holds this very run, finished, on the rows that are prepared now."""
        if not RunDir(self.folder).finished:
            return False
        try:
            same_rows = not self.data or (self.folder / ROWS_FILE).read_text() == self.data
            return same_rows and RunConfig.written(self.folder / ASKED_FILE) == self.config
        except (ConfigError, OSError):
            return False


def runs_of(grid: Grid, protocols: Sequence[str], seeds: int | None = None) -> list[Run]:
    """The runs of the protocols, first seeds first."""
    runs = [run for name in protocols for run in _runs_of_protocol(name, grid.protocols[name])]
    return [run for run in sorted(runs, key=lambda run: run.seed) if seeds is None or run.seed <= seeds]


def prepared_folder(name: str, protocol: Protocol) -> Path:
    """Where a protocol's prepared rows lie; protocols with the same data file share it."""
    return DATA / (protocol.data_file.stem if protocol.data_file else name)


def identity(folder: Path) -> str:
    """A hash of all files of a prepared folder, by which a run knows its rows again; "" where there is none."""
    if not (folder / MANIFEST).is_file():
        return ""
    catalog = Catalog.open(folder)
    return sha256("".join(file.sha256 for file in catalog.records).encode()).hexdigest()


def _runs_of_protocol(name: str, protocol: Protocol) -> Iterator[Run]:
    folder = prepared_folder(name, protocol)
    path, rows = str(folder), identity(folder)
    for variant, changed in protocol.variants.items():
        for seed in range(1, protocol.seeds + 1):
            settings: dict[str, Any] = {
                "data": {"path": path, **protocol.data},
                "model": changed.model,
                "train": {"threads": 1, "unknown_rate": 0, **protocol.train, **changed.train, "seed": seed},
            }
            if "debias" in changed.model_fields_set:
                settings["debias"] = changed.debias
            if changed.strategy:
                settings["strategy"] = changed.strategy
            yield Run(name, variant, seed, parse(RunConfig, settings, f"{GRID}: {name}.{variant}"), rows)
