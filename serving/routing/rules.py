"""What decides about requests beside the packages themselves, read at one moment: the routes file, and the labels.

Rules can change while packages stay in memory. They travel to every worker by content, so that all of them decide
alike whatever happens to the files meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from swrec_prod.serving.routing.labels import Labels
from swrec_prod.serving.routing.routes import Routes


class Rules(NamedTuple):
    """routes: of the file `source`. labels: by name of the model."""

    routes: Routes = Routes()
    source: str = "routes"
    labels: Mapping[str, Labels] = {}

    @classmethod
    def read(cls, packages: Sequence[Path], routes: Path | None) -> Rules:
        """The labels beside packages REPO/NAME/VERSION, and the routes file. Raises ConfigError naming file and key."""
        labels = {path.parent.name: Labels.of(path.parent) for path in packages}
        return cls(Routes.load(routes) if routes else Routes(), str(routes or "routes"), labels)

    def to_plain(self) -> dict[str, Any]:
        """For JSON."""
        routes = self.routes.model_dump(mode="json", exclude_unset=True)
        return {
            "routes": routes,
            "source": self.source,
            "labels": {name: labels.model_dump() for name, labels in self.labels.items()},
        }

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Rules:
        """What `to_plain` gave."""
        labels = {name: Labels.model_validate(given) for name, given in plain["labels"].items()}
        return cls(Routes.model_validate(plain["routes"]), plain["source"], labels)
