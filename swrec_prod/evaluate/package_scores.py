"""Score prepared rows with the programs of a package, offline: what its server would answer, without a server."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from swrec_prod.config import DataConfig, SplitName
from swrec_prod.data.batch import Batch, packed_of
from swrec_prod.data.catalog import Catalog
from swrec_prod.encoding.encoders import Encoders
from swrec_prod.errors import ConfigError, DataError, SchemaError
from swrec_prod.export.loaded import Package
from swrec_prod.export.logits import Logits
from swrec_prod.export.package import PROGRAMS

BATCH_SIZE = 65_536  # rows that are sorted by scenario and scored a scenario at a time: with hundreds of scenarios a
# call of 4,096 / S rows would be mostly overhead


class PackageRanker(nn.Module):
    """A package's programs, called as a Ranker is. There is no loss."""

    def __init__(self, package: Package) -> None:
        super().__init__()
        self.programs = package.programs

    def forward(self, batch: Batch) -> tuple[None, Logits]:
        """The logits of rows of any scenarios."""
        return None, self.programs.mixed(packed_of(batch))


def is_package(path: Path) -> bool:
    """Whether `path` is a package, also one that is not whole."""
    return any((path / name).is_file() for names in PROGRAMS.values() for name in names)


def data_of_package(path: Path, data: Path | None, part: SplitName | None) -> DataConfig:
    """The prepared rows to score, which a package does not know by itself. part: the one that is asked for; None where
    days are.

    Raises ConfigError where the folder is not given, or does not say which rows are of the part.
    """
    if data is None:
        raise ConfigError(f"{path}: a package does not know its data; say where they are with --data FOLDER")
    if part is not None and not Catalog.open(data).has_split:
        raise ConfigError(f"{path}: a package does not know which days of {data} are for {part}; give --days A..B")
    return DataConfig(path=str(data), split="random")


def check_encoders(package: Package, folder: Path) -> None:
    """Raises DataError unless the rows of a prepared folder were encoded as the package encodes its requests."""
    remedy = "score the folder that it was trained on, or prepare with that data file"
    try:
        encoders = Encoders.load(folder).select(tuple(f.name for f in package.encoders.schema.features))
    except SchemaError as failure:
        raise DataError(f"{folder}: not prepared as for {package.path}: {failure}; {remedy}") from None
    here, there = encoders.fingerprint(), package.encoders.fingerprint()
    if here != there:
        prints = f"encoders have fingerprint {here[:12]}, those of {package.path} {there[:12]}"
        raise DataError(f"{folder}: {prints}; {remedy}")
