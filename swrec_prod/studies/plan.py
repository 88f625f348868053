"""What a study trains: axes of keys and their values, a variant for each combination, and what is compared with what.

Keys are those of run files (`model.num_experts`), `rows.*` of what becomes of prepared rows (RowsChange) and
`simulate.*` of a log that is simulated for the study (Simulation). Nothing is read or written here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

import yaml

from swrec_prod.config import RunConfig
from swrec_prod.errors import ConfigError, nearest
from swrec_prod.models import MODELS
from swrec_prod.simulation.world import Simulation
from swrec_prod.strict import parse
from swrec_prod.studies.named import STUDIES, Study
from swrec_prod.studies.rows import RowsChange

RUN = "simulated_shared_bottom"  # the shipped run file of studies that name none
SIMULATED: Mapping[str, Any] = {"days": 10, "rows_per_day": 20_000, "scenarios": 10, "seed": 1, "history_length": 20}
QUICK_ROWS, QUICK_BATCH = 20_000, 256
Keys = tuple[tuple[str, Any], ...]


class StudyVariant(NamedTuple):
    """One line of a study. group: what it is compared within; name: its values of what is compared. overrides: of the
    run file, `key=value`. simulation: of the log that it reads; None: that of the run file.
    """

    group: str
    name: str
    overrides: tuple[str, ...]
    rows: RowsChange
    simulation: Simulation | None

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        plain = {"group": self.group, "name": self.name, "overrides": list(self.overrides)}
        simulation = self.simulation.model_dump(mode="json") if self.simulation else None
        return {**plain, "rows": self.rows.model_dump(mode="json", exclude_defaults=True), "simulation": simulation}

    @property
    def label(self) -> str:
        """For people."""
        return ", ".join(filter(None, (self.group, self.name)))

    @property
    def folder(self) -> str:
        """The path of its runs below DIR/runs."""
        return "/".join(as_folder(part) for part in (self.group, self.name) if part)


class StudyPlan(NamedTuple):
    """What a study trains. run: path or name of the run file; seeds: of every variant."""

    name: str
    study: Study
    run: str
    variants: tuple[StudyVariant, ...]
    seeds: tuple[int, ...]

    @property
    def groups(self) -> dict[str, list[StudyVariant]]:
        """The variants that are compared with each other, the baseline first."""
        groups: dict[str, list[StudyVariant]] = {}
        for variant in self.variants:
            groups.setdefault(variant.group, []).append(variant)
        return groups

    @property
    def folders(self) -> dict[str, str]:
        """The name of a folder for each group."""
        return {group: as_folder(group) for group in self.groups}

    def to_text(self) -> str:
        """For `--plan`."""
        runs = f"{len(self.variants)} variants of {self.run}, seeds {', '.join(map(str, self.seeds))}"
        groups = (f"{group or 'all'}: {', '.join(v.name for v in of)}" for group, of in self.groups.items())
        return "\n".join([self.study.question, f"{runs}: {len(self.variants) * len(self.seeds)} runs", *groups])

    def to_json(self) -> dict[str, Any]:
        """For `--plan --json`."""
        return {
            "study": self.name,
            "run": self.run,
            "seeds": list(self.seeds),
            "runs": len(self.variants) * len(self.seeds),
            "variants": [variant.to_json() for variant in self.variants],
        }


def plan_study(
    name: str,
    run: str | None = None,
    words: Sequence[str] = (),
    *,
    seeds: Sequence[int] = (),
    along: str | None = None,
    rows: int | None = None,
    quick: bool = False,
) -> StudyPlan:
    """The plan of the study `name`.

    run: a run file, by path or name; left out, a log is simulated. words: `key=value` or `key=value,value,...`, which
    replace the study's own values of a key. along: the key whose values are compared; those of others make groups.
    rows: of every part, at most about. quick: one seed, one epoch and few rows.

    Raises ConfigError for an unknown study, key or model, or a word that is none.
    """
    if name not in STUDIES:
        raise ConfigError(f"{name}: no such study; {nearest(name, STUDIES)}")
    study = STUDIES[name]
    axes = {**study.axes, **_axes(words)}
    if not axes:
        raise ConfigError(f"{name}: nothing varies; give keys with several values, such as model.num_experts=2,4,8")
    simulated = run is None or any(key.startswith("simulate.") for key in axes)
    if quick:
        axes = {**axes, "train.epochs": [1], "train.batch_size": [QUICK_BATCH]}
    if rows or quick:
        axes = {**axes, "rows.limit": [rows or QUICK_ROWS]}
    along = _along(study, along, axes)
    variants = [_variant(dict(values), axes, along, run or RUN, simulated) for values in _product(axes)]
    return StudyPlan(name, study, run or RUN, tuple(variants), tuple(seeds) or ((1,) if quick else study.seeds))


def as_folder(name: str) -> str:
    """A group's or variant's name as that of a folder."""
    return re.sub(r"[^\w.+-]+", "_", name)


def _axes(words: Sequence[str]) -> dict[str, list[Any]]:
    """`key=a,b` as values by key. A comma inside brackets is none between values."""
    axes = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or "." not in key or not text:
            raise ConfigError(f"{word!r}: give key=value or key=value,value, for example model.num_experts=2,4,8")
        parts = re.split(r",(?![^\[{]*[\]}])", text)
        if len(set(parts)) < len(parts):
            raise ConfigError(f"{word!r}: a value is there twice; give each once")
        axes[key] = [_value(word, part) for part in parts]
    return axes


def _value(word: str, text: str) -> Any:
    """As in run files: YAML, and 1e-3 is a number."""
    if re.fullmatch(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+", text):
        return float(text)
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError(f"{word!r}: {text!r} is not valid YAML") from None


def _along(study: Study, asked: str | None, axes: Mapping[str, Sequence[Any]]) -> str | None:
    """The key that is compared; None: all variants are compared with the first."""
    varied = [key for key, values in axes.items() if len(values) > 1]
    if asked is not None and asked not in varied:
        raise ConfigError(f"--along {asked}: has no several values in this study; {nearest(asked, varied)}")
    along = asked or study.along
    return along if along in varied else None


def _product(axes: Mapping[str, Sequence[Any]]) -> list[Keys]:
    """Every combination, the last key's values changing first."""
    return [tuple(zip(axes, values, strict=True)) for values in product(*axes.values())]


def _variant(
    values: Mapping[str, Any], axes: Mapping[str, Sequence[Any]], along: str | None, run: str, simulated: bool
) -> StudyVariant:
    varied = {key: value for key, value in values.items() if len(axes[key]) > 1}
    compared = {key: value for key, value in varied.items() if along in (None, key)}
    others = {key: value for key, value in varied.items() if key not in compared}
    of = {section: _section(values, section) for section in ("rows", "simulate")}
    options = {f"--{key.replace('_', '-')}": value for key, value in {**SIMULATED, **of["simulate"]}.items()}
    return StudyVariant(
        _named(others),
        _named(compared) or "as it is",
        tuple(_overrides(values, run)),
        parse(RowsChange, of["rows"], "rows"),
        parse(Simulation, options, "simulate") if simulated else None,
    )


def _section(values: Mapping[str, Any], section: str) -> dict[str, Any]:
    return {key.partition(".")[2]: value for key, value in values.items() if key.partition(".")[0] == section}


def _overrides(values: Mapping[str, Any], run: str) -> list[str]:
    """Of the run file. Another model than its own has none of its options."""
    words, name = [], values.get("model.name")
    if name is not None:
        if name not in MODELS:
            raise ConfigError(f"model.name: unknown model {name!r}; {nearest(str(name), MODELS)}")
        if RunConfig.load(run).model.name != name:
            words.append(f"model={{name: {name}}}")
    for key, value in values.items():
        if key != "model.name" and key.partition(".")[0] not in ("rows", "simulate"):
            words.append(f"{key}={yaml.safe_dump(value, default_flow_style=True).strip().removesuffix('...').strip()}")
    return words


def _named(values: Mapping[str, Any]) -> str:
    """Values with their keys' last words; a model by its name alone."""
    return ", ".join(
        str(value) if key in ("model.name", "rows.split") else f"{key.rpartition('.')[2]} {_short(value)}"
        for key, value in values.items()
    )


def _short(value: Any) -> str:
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
