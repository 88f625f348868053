"""Labels of versions: REPO/NAME/labels.yaml says which version of a model is the stable one, and which the canary.

    stable: 3
    canary: 4
    previous: 2

Of a model with labels exactly the labelled versions are served, and `stable` scores where nobody names a version; so a
version that is exported is not served before somebody gives it a label. Routes, experiments and requests may name a
label instead of a number. `previous` is what was stable before: it stays in memory, and rolling back takes no loading.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import Field

from swrec_prod.errors import ConfigError, PackageError, nearest
from swrec_prod.export.package import is_version, ready_versions
from swrec_prod.files import write_text
from swrec_prod.strict import Strict, load

FILE = "labels.yaml"
LATEST = "latest"
Label = Literal["stable", "canary", "previous"]
Version = Annotated[int, Field(ge=1)]


class Labels(Strict):
    """The file. stable: scores by default. canary: the next one, being tried. previous: what was stable before."""

    stable: Version | None = None
    canary: Version | None = None
    previous: Version | None = None

    @classmethod
    def of(cls, folder: Path) -> Labels:
        """Those of REPO/NAME; none where there is no file. Raises ConfigError."""
        return load(cls, folder / FILE) if (folder / FILE).exists() else cls()

    @property
    def versions(self) -> list[int]:
        """All that have a label, ascending."""
        return sorted({version for version in (self.stable, self.canary, self.previous) if version is not None})

    def served(self, versions: Collection[int]) -> Labels:
        """Those whose versions are served."""
        return Labels(**{name: number for name, number in self.model_dump().items() if number in versions})

    def moved(self, label: Label, version: int | None) -> Labels:
        """With the label at another version, or at none; what was stable is `previous` then."""
        before = {"previous": self.stable} if label == "stable" and self.stable not in (None, version) else {}
        return self.model_copy(update={**before, label: version})

    def rolled_back(self) -> Labels:
        """What was stable before is so again, and the other way round. Raises ConfigError where nothing was before."""
        if self.previous is None:
            raise ConfigError("no version was stable before; say which: swrec models label REPO/NAME stable VERSION")
        return self.model_copy(update={"stable": self.previous, "previous": self.stable})

    def save(self, folder: Path) -> None:
        """Write the file of REPO/NAME, whole or not at all. Raises PackageError for a version that is not complete."""
        check_complete(folder, self.versions)
        write_text(folder / FILE, yaml.safe_dump(self.model_dump(exclude_none=True), sort_keys=False), durable=True)


def check_complete(folder: Path, versions: Collection[int]) -> None:
    """Raises PackageError when REPO/NAME lacks one of the versions, or it is not complete."""
    ready = ready_versions(folder)
    for version in versions:
        if version not in ready:
            known = nearest(str(version), map(str, ready))
            raise PackageError(f"{folder}: {FILE} names version {version}, which is not complete here; {known}")


def resolved(version: str, served: Collection[int], labels: Labels) -> int | None:
    """The number of a version that a request or a route names: by number, by label, `latest`, or not at all ("").

    None where it is not served.
    """
    if not version:
        return labels.stable if labels.stable in served else max(served)
    if version == LATEST:
        return max(served)
    number = getattr(labels, version) if version in Labels.model_fields else int(version) if is_version(version) else 0
    return number if number in served else None
