"""The rows that a study's variants read: those of the run file, or of a log that is simulated; changed where asked.

DIR/data/simulated-HASH/log, prepared     a simulated log and its prepared days
DIR/data/CHANGE-HASH/                     rows that were changed (rows.py)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import sha256
from pathlib import Path

from swrec_prod.config import DataConfig, RunConfig
from swrec_prod.data.catalog import Catalog
from swrec_prod.errors import ConfigError
from swrec_prod.prepare.data_file import DataFile
from swrec_prod.prepare.run import prepare
from swrec_prod.simulation.simulate import PARAMETERS, simulate
from swrec_prod.simulation.world import Simulation
from swrec_prod.studies.folder import PreparedRows
from swrec_prod.studies.plan import StudyPlan, StudyVariant
from swrec_prod.studies.rows import changed_rows
from swrec_prod.train.unknown_rate import with_unknown_rate

HELD_OUT = 2  # days of a simulated log: one to validate on, one to test on
Say = Callable[[str], None]


@dataclass
class StudyData:
    """Makes what variants read, each thing once. out: DIR of the study."""

    plan: StudyPlan
    out: Path
    say: Say
    opened: dict[str, PreparedRows] = field(default_factory=dict)

    def config(self, variant: StudyVariant, seed: int) -> RunConfig:
        """The run of a variant: its rows exist now, and nothing that other rows would decide otherwise is left open."""
        config = self._on_given_rows(variant, seed)
        if config.train.unknown_rate == "auto":
            config = with_unknown_rate(config)
        return _on(config, self.rows(variant))

    def rows(self, variant: StudyVariant) -> PreparedRows:
        """The rows that a variant reads, changed."""
        given = self._on_given_rows(variant, 1).data
        key = f"{given.model_dump_json()} {variant.rows.model_dump_json()}"
        if key not in self.opened:
            self.opened[key] = changed_rows(PreparedRows(Catalog.open(given.path), given), variant.rows, self._data)
        return self.opened[key]

    def unchanged(self, variant: StudyVariant) -> PreparedRows:
        """The rows that a variant would read if they were not changed."""
        given = self._on_given_rows(variant, 1).data
        return PreparedRows(Catalog.open(given.path), given)

    def _on_given_rows(self, variant: StudyVariant, seed: int) -> RunConfig:
        words = [*variant.overrides, f"train.seed={seed}"]
        if variant.simulation:
            prepared = self._simulated(variant.simulation)
            words += [f"data.path={prepared}", "data.split=days", f"data.days={days_of(variant.simulation)}"]
        return RunConfig.load(self.plan.run, words)

    def _simulated(self, options: Simulation) -> Path:
        """The prepared folder of a simulated log. Raises ConfigError where it has too few days."""
        days_of(options)
        folder = self._data / f"simulated-{sha256(options.model_dump_json().encode()).hexdigest()[:12]}"
        log, prepared = folder / "log", folder / "prepared"
        if not prepared.is_dir():
            self.say(f"simulating {options.days} days of {options.rows_per_day:,} rows, {options.scenarios} scenarios")
            simulate(options, log, overwrite=(log / PARAMETERS).is_file())
            fitted = {"fit_until": options.start + timedelta(options.days - HELD_OUT - 1)}
            prepare(DataFile.load(str(log / "data.yaml")).model_copy(update=fitted), log, prepared)
        return prepared

    @property
    def _data(self) -> Path:
        return self.out / "data"


def days_of(options: Simulation) -> str:
    """data.days of a simulated log, as YAML. Raises ConfigError where it has too few."""
    if options.days <= HELD_OUT:
        raise ConfigError(f"simulate.days: {options.days}; a study needs {HELD_OUT + 1}: to train, validate and test")
    train, valid, test = (options.start + timedelta(options.days - n) for n in (3, 2, 1))
    return f"{{train: ..{train}, valid: {valid}, test: {test}}}"


def _on(config: RunConfig, rows: PreparedRows) -> RunConfig:
    """The run on these rows."""
    data: DataConfig = config.data.model_copy(update={"path": str(rows.catalog.root)})
    return config.model_copy(update={"data": data})
