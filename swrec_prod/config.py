"""RunConfig: one YAML file that says what is trained on which rows and how.

Unknown keys fail and name the nearest one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any, Literal

import pydantic
import yaml

from swrec_prod import shipped
from swrec_prod.checkpoint_config import CheckpointConfig
from swrec_prod.errors import ConfigError, nearest
from swrec_prod.strict import Strict, parse, read_yaml

SplitName = Literal["train", "valid", "test"]
Quantize = Literal["none", "fp16", "int8", "int4"]


class DayRanges(Strict):
    """Inclusive ranges of days, for example `2000-04-25..2000-11-30`; an open side (`2000-12-01..`) is allowed.

    train: days whose rows change weights. valid: later days, which choose the best weights and say when to stop.
    test: days later still, whose rows are scored once training has ended.
    """

    train: str
    valid: str
    test: str

    @pydantic.field_validator("train", "valid", "test", mode="before")
    @classmethod
    def _is_range(cls, value: Any) -> Any:
        text = str(value) if isinstance(value, date) else value  # YAML reads a lone 2000-12-01 as a date
        if isinstance(text, str):
            day_range(text)
        return text


class DataConfig(Strict):
    """Which prepared rows.

    path: what `swrec prepare` wrote. split: `random` reads the split column, `days` reads `days`.

    days: train ends before valid begins, and valid before test, so that every part is judged by the days before it.
    features: the features to use (default: all in the schema). scenarios: rows of these (or of this one) alone, in all
    parts (default: of all). shuffle_rows: how many rows are shuffled together; data smaller than this are read once and
    shuffled as a whole. history: the sequence that a model reads as its behaviours (default: the first one of the
    schema). further_sequences: what becomes of the others for such a model: their behaviours, weighted by how well they
    fit the candidate (attention), or their mean, join x, or nothing does.
    """

    path: str
    split: Literal["random", "days"] = "days"
    days: DayRanges | None = None
    features: tuple[str, ...] | None = None
    scenarios: tuple[str, ...] | None = pydantic.Field(None, min_length=1)
    shuffle_rows: int = pydantic.Field(2_000_000, ge=1)
    history: str | None = None
    further_sequences: Literal["attention", "mean", "none"] = "attention"

    @pydantic.field_validator("scenarios", mode="before")
    @classmethod
    def _are_names(cls, value: Any) -> Any:
        # YAML reads a scenario 1 as a number
        names = [value] if isinstance(value, str) or type(value) is int else value
        return (
            tuple(str(name) if type(name) is int else name for name in names)
            if isinstance(names, (list, tuple))
            else names
        )

    @pydantic.model_validator(mode="after")
    def _days_given(self) -> DataConfig:
        if self.split == "days" and self.days is None:
            raise ValueError("split: days needs days: {train: A..B, valid: A..B, test: A..B}")
        return self

    @pydantic.model_validator(mode="after")
    def _days_in_order(self) -> DataConfig:
        for earlier, later in (("train", "valid"), ("valid", "test")) if self.days else ():
            before, after = getattr(self.days, earlier), getattr(self.days, later)
            if day_range(before)[1] >= day_range(after)[0]:
                raise ValueError(f"days.{earlier} {before} must end before days.{later} {after} begins")
        return self


class ModelConfig(pydantic.BaseModel):
    """name: the model; every other key is an option of that model's constructor. compat: `benchmark` sets the options
    that are not given to the form in which the public benchmark has the model.
    """

    model_config = pydantic.ConfigDict(extra="allow", frozen=True)
    name: str

    @property
    def options(self) -> dict[str, Any]:
        """The options of the model's constructor."""
        return dict(self.model_extra or {})


class DebiasConfig(Strict):
    """The scenario bias eliminator. alpha: weight of the scenario loss.

    form: `joint`, M-scan's: the model gives y_m, and is trained through the logit y_m sigmoid(y_s) (eq. 8). `apart`:
    the model gives the logit, as it would without eliminator, y_s is trained beside it (alpha > 0), and y_m is the
    logit over sigmoid(y_s). At a low click rate sigmoid(y_s) is small, and so is what joint's y_m learns from a row. c:
    default counterfactual reference of the ranking score (M-scan, eq. 12): one number, or one for every scenario. Or
    what to fit once the model is trained, on validation rows that are scored in every scenario: `fit`, one number;
    `fit_each`, one for every scenario. The run's own run.yaml then has the numbers. Data with several labels, and
    strategies with a model for every scenario, take numbers only.
    """

    alpha: float = pydantic.Field(0.1, ge=0)
    form: Literal["joint", "apart"] = "joint"
    c: float | dict[str, float] | Literal["fit", "fit_each"] = 0.0

    @pydantic.field_validator("c", mode="before")
    @classmethod
    def _is_c(cls, value: Any) -> Any:
        if value in ("fit", "fit_each"):
            return value
        for c in value.values() if isinstance(value, dict) else [value]:
            if isinstance(c, bool) or not isinstance(c, (int, float)) or not math.isfinite(c):
                raise ValueError(f"expected a finite number, one for every scenario, fit or fit_each, not {c!r}")
        # YAML reads a scenario 1 as a number
        return {str(name): c for name, c in value.items()} if isinstance(value, dict) else value

    @pydantic.model_validator(mode="after")
    def _learns(self) -> DebiasConfig:
        if self.form == "apart" and self.alpha == 0:
            raise ValueError("alpha: 0 never trains y_s where form is apart; give a weight above 0")
        return self

    @property
    def to_fit(self) -> bool:
        """Whether c is still to be fitted."""
        return isinstance(self.c, str)

    def strengths(self, scenarios: Sequence[str]) -> dict[str, float]:
        """c of every scenario; 0 where it is still to be fitted. Raises ConfigError when c is given by scenario and
        lacks one, or names another.
        """
        if isinstance(self.c, str):
            return dict.fromkeys(scenarios, 0.0)
        if not isinstance(self.c, dict):
            return dict.fromkeys(scenarios, self.c)
        for name in self.c:
            if name not in scenarios:
                raise ConfigError(f"debias.c: scenario {name!r} is not in the data; {nearest(name, scenarios)}")
        for name in scenarios:
            if name not in self.c:
                raise ConfigError(
                    f"debias.c: no number for scenario {name!r}; give one for every scenario, or one for all"
                )
        return self.c


class TrainConfig(Strict):
    """How the model is fitted.

    seed: of first weights, the order of rows and dropout. epochs: passes over the training rows, at most. batch_size:
    rows a rank and step. lr_sparse: rate of the fused row-wise Adagrad of the tables (0: they stay as they are).
    lr_dense: rate of Adam, for all other weights; weight_decay: Adam's L2 penalty on those. patience: validations
    without a better AUC before training stops. threads: OpenMP threads a rank (0: OMP_NUM_THREADS, else cores / local
    ranks). evals_per_epoch: validations, evenly spread. replicate_kib: tables up to this size (KiB) are kept whole on
    every rank instead of being placed on one. embedding_std: standard deviation of the tables' first values.
    embedding_dropout: share of what the tables say of a row that is left out in a training step (not of its
    behaviours). unknown_rate: share of the known ids of a feature that become unknown in a training step, so that row 0
    learns what unknown values are like (a row's ids of one side together); by feature, or one number for all features
    with a vocabulary. `auto`: where the validation and test rows have many unknown values and the training rows next to
    none; the run's own run.yaml then has the numbers. begin: a RUN_DIR whose best weights training begins with
    (default: weights drawn by the seed); it has the same `model`, features and form of eliminator. They are validated
    first, and kept where nothing later is better. on_divergence: `end`, or `rewind` to the last checkpoint before the
    loss was no number or exploded, with half the rates, three times at most. grace_seconds: time to save in when told
    to leave (SIGTERM, SIGHUP). hang_minutes: after so long without a sign of life, a rank is named and the run ends.
    """

    seed: int = pydantic.Field(1, ge=0)
    epochs: int = pydantic.Field(3, ge=1)
    batch_size: int = pydantic.Field(4096, ge=1)
    lr_sparse: float = pydantic.Field(0.05, ge=0)
    lr_dense: float = pydantic.Field(1e-3, gt=0)
    weight_decay: float = pydantic.Field(0.0, ge=0)
    embedding_dropout: float = pydantic.Field(0.0, ge=0, lt=1)
    unknown_rate: float | dict[str, float] | Literal["auto"] = "auto"
    embedding_std: float = pydantic.Field(0.01, gt=0)
    patience: int = pydantic.Field(1, ge=1)
    threads: int = pydantic.Field(0, ge=0)
    evals_per_epoch: int = pydantic.Field(1, ge=1)
    replicate_kib: int = pydantic.Field(64, ge=0)
    begin: str | None = None
    on_divergence: Literal["end", "rewind"] = "end"
    grace_seconds: float = pydantic.Field(25.0, gt=0)
    hang_minutes: float = pydantic.Field(5.0, gt=0)

    @pydantic.field_validator("unknown_rate", mode="before")
    @classmethod
    def _is_rate(cls, value: Any) -> Any:
        if value == "auto":
            return value
        for rate in value.values() if isinstance(value, dict) else [value]:
            if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0 <= rate < 1:
                raise ValueError(f"expected a share in [0, 1), one by feature, or auto, not {rate!r}")
        return value


class StrategyConfig(Strict):
    """Which rows train which model (M-scan, app. A.2). name: `mix`, one model on the rows of all scenarios; `single`, a
    model for every scenario on its rows alone; `finetune`, mix first, and then for every scenario a model that goes on
    from mix's best weights on the rows of that scenario.

    The other keys are finetune's. scope: whether the tables move too, or what lies above them only. lr_factor: what
    both rates are multiplied by. epochs: of each scenario, at most. Where a scenario's validation never gets better,
    its model is mix.
    """

    name: Literal["mix", "single", "finetune"] = "mix"
    scope: Literal["all", "dense_only"] = "all"
    lr_factor: float = pydantic.Field(0.1, gt=0)
    epochs: int = pydantic.Field(3, ge=1)

    @pydantic.model_validator(mode="after")
    def _for_finetune(self) -> StrategyConfig:
        for key in ("scope", "lr_factor", "epochs") if self.name != "finetune" else ():
            if getattr(self, key) != type(self).model_fields[key].default:
                raise ValueError(f"{key} is an option of finetune, not of {self.name}")
        return self

    @pydantic.model_serializer(mode="wrap")
    def _what_counts(self, dump: pydantic.SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {**dump(self), "name": self.name} if self.name == "finetune" else {"name": self.name}


class ExportConfig(Strict):
    """quantize: how table rows are stored in a package."""

    quantize: Quantize = "none"


class RunConfig(Strict):
    """One training run.

    data: its rows. model: what is trained. debias: the scenario bias eliminator; left out, the model's own default.
    train: how. checkpoint: when it is saved. strategy: which rows train which model. export: how the package is made.
    """

    data: DataConfig
    model: ModelConfig
    debias: DebiasConfig | None = None
    train: TrainConfig = TrainConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    strategy: StrategyConfig = StrategyConfig()
    export: ExportConfig = ExportConfig()

    @pydantic.model_validator(mode="after")
    def _fitted_by_one_model(self) -> RunConfig:
        if self.debias and self.debias.to_fit and self.strategy.name != "mix":
            name = self.strategy.name
            raise ValueError(
                f"debias.c: {self.debias.c} asks one model about every scenario, "
                f"and {name} has a model for each; give numbers"
            )
        return self

    @property
    def trained_through(self) -> date | None:
        """The last day whose rows change or choose the weights; None where rows of all days do (a random split)."""
        return day_range(self.data.days.valid)[1] if self.data.split == "days" and self.data.days else None

    @classmethod
    def load(cls, path: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
        """Read a run file, given by its path or by its name in configs/run, and apply `key=value` overrides.

        Raises ConfigError for a name that is neither (naming the nearest one), for a wrong file or override.
        """
        file = shipped.find("run", path)
        if file is None:
            hint = nearest(shipped.stem(path), shipped.names("run"))
            raise ConfigError(f"{path}: no such file, and no run file of that name is shipped; {hint}")
        data = read_yaml(file)
        if not isinstance(data, dict):
            raise ConfigError(f"{path}: expected a mapping with data, model, train, not {type(data).__name__}")
        for override in overrides:
            _apply(data, override)
        return parse(cls, data, str(path))

    @classmethod
    def written(cls, path: str | Path) -> RunConfig:
        """What `save` wrote, maybe before there was an unknown_rate: then there was no id dropout. Raises as `load`."""
        config = cls.load(path)
        if "unknown_rate" in config.train.model_fields_set:
            return config
        return config.model_copy(update={"train": config.train.model_copy(update={"unknown_rate": 0.0})})

    def save(self, path: str | Path) -> None:
        """Write the resolved configuration, defaults included."""
        Path(path).write_text(yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True))


def day_range(text: str) -> tuple[date, date]:
    """First and last day of `A..B`, `A..`, `..B` or `A`. Raises ValueError (ConfigError) when it is none of them."""
    first, dots, last = str(text).partition("..")
    try:
        start = date.fromisoformat(first) if first else date.min
        stop = date.fromisoformat(last) if last else (date.max if dots else start)
    except ValueError:
        raise ConfigError(f"{text!r} is not a range of days such as 2000-05-01..2000-05-31") from None
    if start > stop:
        raise ConfigError(f"{text!r} ends before it starts")
    return start, stop


def _apply(data: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"{override!r}: an override is key=value, for example train.epochs=1")
    *path, last = key.split(".")
    at = data
    for name in path:
        if at.get(name) is None:
            at[name] = {}
        at = at[name]
        if not isinstance(at, dict):
            raise ConfigError(f"{override!r}: {name} is a value, not a section")
    try:
        at[last] = _value(text)
    except yaml.YAMLError:
        raise ConfigError(f"{override!r}: the value is not valid YAML") from None


def _value(text: str) -> Any:
    """YAML, and 1e-3 as the number that everybody means (YAML 1.1 reads it as text)."""
    if re.fullmatch(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+", text):
        return float(text)
    return yaml.safe_load(text)
