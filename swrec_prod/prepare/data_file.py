"""DataFile: what to prepare and how. One YAML file in configs/data for each way of reading a raw source."""

from __future__ import annotations

import hashlib
import json
from datetime import date
from pathlib import Path
from typing import Any, Literal, NoReturn

import pydantic

from swrec_prod import shipped
from swrec_prod.behaviours.seed import Seed
from swrec_prod.data.day_files import check_keep
from swrec_prod.datasets import DATASETS, Dataset
from swrec_prod.errors import DataError, nearest
from swrec_prod.logs.duplicates import Deduplicate
from swrec_prod.logs.random_split import Split
from swrec_prod.negatives.options import Negatives
from swrec_prod.raw.source import PlacedOptions
from swrec_prod.schema import FeatureSchema
from swrec_prod.strict import Strict, load, parse
from swrec_prod.zones import Clock, clock_of


class Requests(Strict):
    """The held-out rows that are kept raw in requests.parquet, for `swrec score` and for the golden rows of packages.

    per_scenario: how many of each scenario. seed: of the draw that picks them.
    """

    per_scenario: int = pydantic.Field(1000, ge=1)
    seed: int = 1


class DataFile(Strict):
    """What to prepare and how.

    Vocabularies and scalers see training rows only: those of `split` train, or days up to and with `fit_until`, or,
    when neither is given, all but the last 20 % of days.

    source: a name of `swrec datasets`; `parquet` for logs of your own.
    options: of that source.
    split: deals rows to train, valid and test in a column of that name; without it runs choose ranges of days.
    fit_until: the last day that vocabularies and scalers are fitted on; or a share of rows, 0.8: the last day up to
        which there are no more rows than that, in order of time. Not with a split.
    deduplicate: columns; of the rows of a day that are equal in all of them only the first is kept.
        `{columns: [...], within: log}` looks at all days.
    utc_offset: where days begin at midnight: an offset such as +08:00, or an IANA zone such as Asia/Shanghai.
    row: the column that numbers the rows of the log, whole numbers, each once; predictions have it as `row`. Left out,
        it is a column `row`, where that is such a number; or rows are numbered day by day.
    outcomes: columns that are known only after the impression: labels, and fields of behaviours, but no features.
    keep: columns of the log that prepared days and predictions carry untouched, for joining and cutting; no model
        reads them.
    seed: what users did before the log begins, by sequence: see behaviours/seed.py.
    negatives: rows of label 0 that are drawn for the positive ones, for logs of positives only.
    vocabularies: of days that are added later. freeze: new values are unknown values. extend: before a day is added,
        values of the days before it get ids behind the known ones, `min_count` applied to those days; ids never move.
    requests: how many held-out rows are kept raw.
    schema: the features, labels and bookkeeping columns.
    """

    source: str
    options: dict[str, Any] = pydantic.Field(default_factory=dict)
    split: Split | None = None
    fit_until: date | float | None = None
    deduplicate: Deduplicate = Deduplicate()
    utc_offset: str = "+00:00"
    row: str | None = None
    outcomes: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    vocabularies: Literal["freeze", "extend"] = "freeze"
    negatives: Negatives | None = None
    requests: Requests = Requests()
    seed: dict[str, Seed] = pydantic.Field(default_factory=dict)
    features: FeatureSchema = pydantic.Field(alias="schema")
    _folder: Path | None = pydantic.PrivateAttr(default=None)

    @pydantic.field_validator("keep")
    @classmethod
    def _are_free(cls, keep: tuple[str, ...]) -> tuple[str, ...]:
        check_keep(keep)
        return keep

    @pydantic.field_validator("fit_until", mode="before")
    @classmethod
    def _share_or_date(cls, until: Any) -> Any:
        if isinstance(until, (int, float)) and not 0 < until < 1:
            raise ValueError(f"a share of rows lies between 0 and 1, not {until}; or give a date, 2024-05-01")
        return until

    @pydantic.field_validator("utc_offset")
    @classmethod
    def _is_place(cls, place: str) -> str:
        clock_of(place)
        return place

    @pydantic.model_validator(mode="after")
    def _one_way_to_fit(self) -> DataFile:
        if self.split and self.fit_until:
            raise ValueError("fit_until is for data without a split column; with one, the train rows are fitted")
        if self.split and self.vocabularies == "extend":
            raise ValueError("vocabularies: extend is for logs that grow by days, not for data with a split column")
        if self.source not in DATASETS:
            raise ValueError(f"source {self.source!r} is unknown; {nearest(self.source, DATASETS)}")
        for name in self.deduplicate.columns:
            if name in (derived.name for derived in self.features.derived):
                raise ValueError(f"deduplicate: {name!r} is derived; name the columns of the log that it is made of")
        if self.negatives:
            self.negatives.item_column(self.features)
        for name, seed in self.seed.items():
            seed.check(name, self.features)
        self._check_outcomes()
        if not self.features.has_time:
            self._check_without_time()
        return self

    def _check_without_time(self) -> None:
        """Without moments there are no days to hold out, and nothing is before another."""
        if not self.split:
            remedy = "name it, or deal rows at random by split: {random: {}}"
            raise ValueError(f"schema.time names no column of moments; {remedy}")
        for feature in self.features.of_kind("sequence"):
            if feature.columns is None or feature.age:
                what = "ages" if feature.columns else "behaviours before a row"
                self._refuse_without_time(f"sequence {feature.name!r}: {what}")
        for derived in self.features.derived:
            if self.features.time in derived.reads(self.features.time):
                self._refuse_without_time(f"derived column {derived.name!r}: {derived.function} of one column")

    @staticmethod
    def _refuse_without_time(what: str) -> NoReturn:
        raise ValueError(f"{what} needs schema.time, which names no column of moments; name it, or leave this out")

    def _check_outcomes(self) -> None:
        """Features and derived columns read nothing that is known only after the impression."""
        reads = [(f"feature {f.name!r}", tuple(f.raw_columns.values())) for f in self.features.features]
        reads += [(f"derived column {derived.name!r}", derived.of) for derived in self.features.derived]
        for what, columns in reads:
            for column in (raw for read in columns for raw in self.features.raw_of(read)):
                wrong = f"{what} reads column {column!r}"
                if column in self.dataset.outcomes:
                    raise ValueError(f"{wrong}, which {self.source} knows only after the impression; it may be a label")
                if column in self.outcomes:
                    raise ValueError(f"{wrong}, known only after the impression (`outcomes`); leave one out")

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
    def clock(self) -> Clock:
        """The clock of utc_offset."""
        return clock_of(self.utc_offset)

    def parsed_options(self) -> Strict:
        """The source's options. Raises ConfigError naming an unknown or missing one."""
        no_time = {"time": None} if not self.features.has_time and "time" in self.dataset.options.model_fields else {}
        options = parse(self.dataset.options, no_time | self.options, f"{self.source}: options")
        return options.at(self.clock) if isinstance(options, PlacedOptions) else options

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
