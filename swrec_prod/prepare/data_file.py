"""DataFile: what to prepare and how. One YAML file in configs/data for each way of reading a raw source."""

from __future__ import annotations

import hashlib
import json
from datetime import date
from pathlib import Path
from typing import Any, Literal

import pydantic

from swrec_prod import shipped
from swrec_prod.behaviours.seed import Seed
from swrec_prod.data.day_files import is_prediction
from swrec_prod.datasets import DATASETS, Dataset
from swrec_prod.errors import DataError, nearest
from swrec_prod.negatives.options import Negatives
from swrec_prod.schema import FeatureSchema
from swrec_prod.strict import Strict, load, parse


class RandomSplit(Strict):
    """Rows are dealt at random to train, valid and test.

    parts: the share of each; positive, and 1 together. seed: of the draw.
    """

    seed: int = 1
    parts: tuple[float, float, float] = (0.8, 0.1, 0.1)

    @pydantic.field_validator("parts")
    @classmethod
    def _is_whole(cls, parts: tuple[float, float, float]) -> tuple[float, float, float]:
        if min(parts) <= 0 or abs(sum(parts) - 1) > 1e-9:
            raise ValueError(f"parts must be positive and sum to 1, not {list(parts)}")
        return parts


class Split(Strict):
    """The `split` column of benchmark datasets. Behaviours are training rows then: others would tell their labels.

    random: rows are dealt at random.
    """

    random: RandomSplit = RandomSplit()


class Requests(Strict):
    """The held-out rows that are kept raw in requests.parquet, for `swrec score` and for the golden rows of packages.

    per_scenario: how many of each scenario. seed: of the draw that picks them.
    """

    per_scenario: int = pydantic.Field(1000, ge=1)
    seed: int = 1


class DataFile(Strict):
    """source: a name of `swrec datasets`; `parquet` for logs of your own. options: of that source.
    schema: the features, labels and bookkeeping columns.

    Vocabularies and scalers see training rows only: those of `split` train, or days up to and with `fit_until`, or,
    when neither is given, all but the last 20 % of days.

    split: deals rows to train, valid and test in a column of that name; without it runs choose ranges of days.
    fit_until: the last day that vocabularies and scalers are fitted on; not with a split.
    keep: columns of the log that prepared days and predictions carry untouched, for joining and cutting; no model
        reads them.
    deduplicate: of the rows of a day that are equal in these columns only the first is kept.
    utc_offset: days begin at midnight there.
    seed: what users did before the log begins, by sequence: see behaviours/seed.py.
    negatives: rows of label 0 that are drawn for the positive ones, for logs of positives only.
    vocabularies: of days that are added later. freeze: new values are unknown values. extend: before a day is added,
        values of the days before it get ids behind the known ones, `min_count` applied to those days; ids never move.
    requests: how many held-out rows are kept raw.
    """

    source: str
    options: dict[str, Any] = pydantic.Field(default_factory=dict)
    split: Split | None = None
    fit_until: date | None = None
    deduplicate: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    utc_offset: str = pydantic.Field("+00:00", pattern=r"^[+-](0\d|1[0-4]):[0-5]\d$")
    vocabularies: Literal["freeze", "extend"] = "freeze"
    negatives: Negatives | None = None
    requests: Requests = Requests()
    seed: dict[str, Seed] = pydantic.Field(default_factory=dict)
    features: FeatureSchema = pydantic.Field(alias="schema")
    _folder: Path | None = pydantic.PrivateAttr(default=None)

    @pydantic.field_validator("keep")
    @classmethod
    def _are_free(cls, keep: tuple[str, ...]) -> tuple[str, ...]:
        for i, name in enumerate(keep):
            if name in keep[:i]:
                raise ValueError(f"keep names {name!r} twice")
            if is_prediction(name):
                raise ValueError(f"keep: predictions have a column {name!r} of their own; rename the raw one")
        return keep

    @pydantic.model_validator(mode="after")
    def _one_way_to_fit(self) -> DataFile:
        if self.split and self.fit_until:
            raise ValueError("fit_until is for data without a split column; with one, the train rows are fitted")
        if self.split and self.vocabularies == "extend":
            raise ValueError("vocabularies: extend is for logs that grow by days, not for data with a split column")
        if self.source not in DATASETS:
            raise ValueError(f"source {self.source!r} is unknown; {nearest(self.source, DATASETS)}")
        for name in self.deduplicate:
            if name in (derived.name for derived in self.features.derived):
                raise ValueError(f"deduplicate: {name!r} is derived; name the columns of the log that it is made of")
        if self.negatives:
            self.negatives.item_column(self.features)
        for feature in self.features.features:
            columns = [raw for column in feature.raw_columns.values() for raw in self.features.raw_of(column)]
            known_later = [name for name in columns if name in self.dataset.outcomes]
            if known_later:
                wrong = f"feature {feature.name!r} reads column {known_later[0]!r}"
                raise ValueError(f"{wrong}, which {self.source} knows only after the impression; it may be a label")
        for name, seed in self.seed.items():
            seed.check(name, self.features)
        return self

    @classmethod
    def load(cls, name: str | Path) -> DataFile:
        """The data file of a path, of a source (its default file) or of a name in configs/data, `-` or `_` alike.

        Raises DataError naming the nearest one when it is none of these, ConfigError when the file is wrong.
        """
        path = _find(str(name))
        data_file = load(cls, path)
        data_file._folder = path.parent
        return data_file

    @property
    def folder(self) -> Path | None:
        """The folder of the file that it was loaded from."""
        return self._folder

    @property
    def dataset(self) -> Dataset:
        """The source."""
        return DATASETS[self.source]

    @property
    def offset_us(self) -> int:
        """utc_offset in microseconds."""
        hours, minutes = self.utc_offset[1:].split(":")
        return (-1 if self.utc_offset[0] == "-" else 1) * (int(hours) * 60 + int(minutes)) * 60_000_000

    def parsed_options(self) -> Strict:
        """The source's options. Raises ConfigError naming an unknown or missing one."""
        return parse(self.dataset.options, self.options, f"{self.source}: options")

    def identity(self) -> str:
        """sha256 of what the file says; comments, the order of keys and defaults do not count."""
        content = self.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        content["options"] = self.parsed_options().model_dump(mode="json", exclude_defaults=True)
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _find(name: str) -> Path:
    default = DATASETS[name].data_file if name in DATASETS and not Path(name).is_file() else name
    path = shipped.find("data", default)
    if path is None:
        known = dict.fromkeys([*DATASETS, *(file.replace("_", "-") for file in shipped.names("data"))])
        hint = nearest(shipped.stem(name), known)
        raise DataError(f"{name}: neither a known dataset nor a data file; {hint}")
    return path
