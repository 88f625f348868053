"""What a backfill was asked: the models, the days and the mode. OUT/backfill.yaml holds it, so that the same command
goes on in OUT and another one is refused.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any, Literal

import pydantic
import yaml

from swrec_prod import checkpoint
from swrec_prod.config import RunConfig, day_range
from swrec_prod.data.catalog import Catalog
from swrec_prod.errors import ConfigError
from swrec_prod.evaluate.package_scores import is_package
from swrec_prod.files import file_sha256, write_text
from swrec_prod.judge.record import Mode
from swrec_prod.run_dir import RUN_FILE, RunDir
from swrec_prod.strict import Strict, parse, read_yaml
from swrec_prod.train.folder import difference

REQUEST_FILE = "backfill.yaml"
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
LEAST_WINDOW = 2  # days: the last one chooses the best weights, and there must be others
Kind = Literal["run", "package", "run file"]


class ModelSource(Strict):
    """One model that is judged. path: RUN_DIR, REPO/NAME/VERSION or a run file. data: its prepared folder.

    fingerprint: of its weights, or of the run file; data_fingerprint: of that folder's schema and vocabularies.
    """

    name: str
    kind: Kind
    path: str
    fingerprint: str
    data: str
    data_fingerprint: str


class Request(Strict):
    """One backfill. days: all that are judged, in order. skipped: days that were asked for and are not in the data.

    window: days before each one, of the rolling mode. overrides: `key=value`, of run files. predictions: whether every
    day's predictions are written.
    """

    mode: Mode
    days: tuple[date, ...] = pydantic.Field(min_length=1)
    skipped: tuple[date, ...] = ()
    window: int | None = None
    overrides: tuple[str, ...] = ()
    predictions: bool = False
    models: tuple[ModelSource, ...] = pydantic.Field(min_length=1)

    def plain(self) -> dict[str, Any]:
        """Plain values; models by their names."""
        values = self.model_dump(mode="json")
        return {**values, "models": {model["name"]: model for model in values["models"]}}

    @property
    def fingerprint(self) -> str:
        """Of all that decides what is found: not of where things lie."""
        return _sha256(json.dumps(_what_counts(self.plain()), sort_keys=True))


def requested(
    words: Sequence[str],
    days: str,
    mode: Mode,
    *,
    data: Path | None = None,
    window: int | None = None,
    overrides: Sequence[str] = (),
    predictions: bool = False,
) -> Request:
    """The request of a command line. Raises what `check_window`, `sources_of` and `days_of` raise."""
    check_window(mode, window)
    models = sources_of(words, data, overrides)
    judged, skipped = days_of(days, Catalog.open(models[0].data))
    return Request(
        mode=mode,
        days=judged,
        skipped=skipped,
        window=window,
        overrides=tuple(overrides),
        predictions=predictions,
        models=models,
    )


def check_window(mode: Mode, window: int | None) -> None:
    """Raises ConfigError where the rolling mode has no window, or another mode has one."""
    if mode == "rolling" and (window is None or window < LEAST_WINDOW):
        given = "is not given" if window is None else f"{window} is too short"
        raise ConfigError(f"--window {given}: rolling trains on the window of N days before each day, N >= 2")
    if mode != "rolling" and window is not None:
        raise ConfigError(f"--window {window}: only --mode rolling has a window, not {mode}")


def sources_of(words: Sequence[str], data: Path | None, overrides: Sequence[str] = ()) -> tuple[ModelSource, ...]:
    """The models that RUN.yaml, RUN_DIR or PACKAGE, each maybe as NAME=PATH, stand for; in their order.

    data: the prepared folder of packages, and of runs whose data were moved. overrides: of the run files. Raises
    ConfigError for two models of one name, or a package whose data are not known; CheckpointError and PackageError for
    what is no model.
    """
    given = [_name_and_path(word) for word in words]
    known = {_data_of(path, data, overrides).resolve(): None for _, path in given if not is_package(path)}
    of_packages = data or (next(iter(known)) if len(known) == 1 else None)
    sources = tuple(_source(name, path, of_packages if is_package(path) else data, overrides) for name, path in given)
    names = [source.name for source in sources]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"two models are called {name}; name them, as in new=RUN_DIR")
    return sources


def days_of(text: str, catalog: Catalog) -> tuple[tuple[date, ...], tuple[date, ...]]:
    """The days of a range that have rows, and those between its ends that have none.

    Raises ConfigError when the text is no range of days, or no day of it has rows.
    """
    first, last = day_range(text)
    days = tuple(day for day in catalog.days if first <= day <= last)
    if not days:
        span = f"{catalog.days[0]}..{catalog.days[-1]}" if catalog.days else "none"
        raise ConfigError(f"--days {text}: none of these days is in {catalog.root}; it has {span}")
    begin, end = (days[0] if first == date.min else first), (days[-1] if last == date.max else last)
    asked = (date.fromordinal(n) for n in range(begin.toordinal(), end.toordinal() + 1))
    return days, tuple(day for day in asked if day not in days)


def claim(out: Path, request: Request) -> None:
    """Make OUT this request's own; it goes on where it was cut off. Raises ConfigError where OUT is another one's."""
    path = out / REQUEST_FILE
    if not path.exists():
        if out.exists() and any(not child.name.startswith(".") for child in out.iterdir()):
            raise ConfigError(f"{out}: is not empty and holds no backfill; choose another --out")
        write_text(path, _as_yaml(request))
        return
    before = read_request(out)
    if before.fingerprint != request.fingerprint:
        changed = difference(_what_counts(before.plain()), _what_counts(request.plain()))
        raise ConfigError(f"{out}: holds a backfill with another {changed}; choose another --out")


def read_request(out: Path) -> Request:
    """OUT/backfill.yaml. Raises ConfigError when it is missing or damaged."""
    values = read_yaml(out / REQUEST_FILE)
    if isinstance(values, dict) and isinstance(values.get("models"), dict):
        values = {**values, "models": list(values["models"].values())}
        values.pop("fingerprint", None)
    return parse(Request, values, str(out / REQUEST_FILE))


def _as_yaml(request: Request) -> str:
    plain = {**request.plain(), "fingerprint": request.fingerprint}
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)


def _what_counts(plain: dict[str, Any]) -> dict[str, Any]:
    """A request without the places of things, which may be moved."""
    models = {name: {k: v for k, v in of.items() if k not in ("path", "data")} for name, of in plain["models"].items()}
    return {**plain, "models": models}


def _name_and_path(word: str) -> tuple[str, Path]:
    """The parts of NAME=PATH; a name of the path's own for a PATH alone, also of one that has a = in it."""
    name, equals, path = word.partition("=")
    if not equals or Path(word).exists():
        return _own_name(Path(word)), Path(word)
    if not path or not NAME.fullmatch(name):
        raise ConfigError(f"{word!r}: give PATH, or NAME=PATH with a NAME of letters, digits, _-.")
    return name, Path(path)


def _own_name(path: Path) -> str:
    """shared_bottom.yaml -> shared_bottom; runs/mscan, runs/mscan/run.yaml -> mscan; models/mscan/3 -> mscan-3."""
    whole = path.resolve()
    if is_package(path):
        name = f"{whole.parent.name}-{whole.name}"
    elif whole.is_dir():
        name = whole.name
    else:
        name = whole.parent.name if whole.name == RUN_FILE else whole.stem
    return re.sub(r"[^A-Za-z0-9_.-]|^[.-]", "_", name)


def _kind(path: Path) -> Kind:
    return "package" if is_package(path) else "run" if path.is_dir() else "run file"


def _data_of(path: Path, data: Path | None, overrides: Sequence[str]) -> Path:
    """The prepared folder of a run or a run file."""
    if data is not None:
        return data
    return Path((checkpoint.config_of(path) if path.is_dir() else RunConfig.load(path, overrides)).data.path)


def _source(name: str, path: Path, data: Path | None, overrides: Sequence[str]) -> ModelSource:
    kind = _kind(path)
    if kind == "package" and data is None:
        raise ConfigError(f"{path}: a package does not know its data; say where they are with --data FOLDER")
    folder = data or _data_of(path, data, overrides)
    catalog = Catalog.open(folder)
    where = {"path": str(path), "data": str(folder), "data_fingerprint": catalog.fingerprint}
    return ModelSource(name=name, kind=kind, fingerprint=_fingerprint(kind, path, catalog, overrides), **where)


def _fingerprint(kind: Kind, path: Path, catalog: Catalog, overrides: Sequence[str]) -> str:
    if kind == "package":
        return file_sha256(path / "manifest.json")
    if kind == "run file":
        return _sha256(RunConfig.load(path, overrides).model_dump_json(exclude={"data": {"path"}}))
    return _of_run(RunDir(path), catalog)


def _of_run(run: RunDir, catalog: Catalog) -> str:
    """Changes when the run is trained again. Raises CheckpointError when it has not finished."""
    if run.config().strategy.name != "mix":
        return _sha256(json.dumps(run.metrics(), sort_keys=True))
    return file_sha256(checkpoint.best(run.path, catalog) / checkpoint.STATE_FILE)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
