"""What decides about requests beside the packages themselves, read at one moment: the files of routes and of
experiments, and the labels.

Rules can change while packages stay in memory. They travel to every worker by content, so that all of them decide
alike whatever happens to the files meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from swrec_prod.experiments.assign import NO_EXPERIMENTS, Experiments
from swrec_prod.experiments.experiments_file import ExperimentsFile
from swrec_prod.serving.routing.labels import Labels
from swrec_prod.serving.routing.routes import Routes


class Rules(NamedTuple):
    """routes: of the file `source`. experiments: what runs. labels: by name of the model."""

    routes: Routes = Routes()
    source: str = "routes"
    experiments: Experiments = NO_EXPERIMENTS
    labels: Mapping[str, Labels] = {}

    @classmethod
    def read(
        cls,
        packages: Sequence[Path],
        routes: Path | None = None,
        experiments: Path | None = None,
        running: Experiments | None = None,
    ) -> Rules:
        """The labels beside packages REPO/NAME/VERSION, and the files.

        running: the experiments until now, whose units must keep their variants. Raises ConfigError naming file and
        key.
        """
        labels = {path.parent.name: Labels.of(path.parent) for path in packages}
        runs = Experiments.load(experiments, running) if experiments else NO_EXPERIMENTS
        return cls(Routes.load(routes) if routes else Routes(), str(routes or "routes"), runs, labels)

    def to_plain(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "routes": self.routes.model_dump(mode="json", exclude_unset=True),
            "source": self.source,
            "experiments": self.experiments.file.model_dump(mode="json"),
            "experiments_source": self.experiments.source,
            "labels": {name: labels.model_dump() for name, labels in self.labels.items()},
        }

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Rules:
        """What `to_plain` gave."""
        file = ExperimentsFile.model_validate(plain["experiments"])
        experiments = Experiments(file, plain["experiments_source"])
        labels = {name: Labels.model_validate(given) for name, given in plain["labels"].items()}
        return cls(Routes.model_validate(plain["routes"]), plain["source"], experiments, labels)
