"""From a raw log to prepared days: the folder that train, evaluate and export read.

    OUT/day=YYYY-MM-DD/part-00000.parquet   encoded rows, by (time, row)
    OUT/schema.yaml, OUT/vocab/             the encoders (encode.py)
    OUT/requests.parquet                    held-out rows, raw (requests.py)
    OUT/manifest.json                       what there is, with checksums

Written beside its place and committed by a rename: a killed run leaves nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from swrec_prod.data.catalog import FORMAT, MANIFEST, Catalog
from swrec_prod.data.check import check_columns, label_values, weight_values
from swrec_prod.data.commit import committed, file_record, file_sha256
from swrec_prod.data.data_file import DataFile, RandomSplit
from swrec_prod.data.days import Sequence, list_array, write_days
from swrec_prod.data.encode import Encoders
from swrec_prod.data.etl import behaviours, codes, days_of, in_order
from swrec_prod.data.pack import Ragged
from swrec_prod.data.requests import pick_rows, request_table
from swrec_prod.engine import engine
from swrec_prod.errors import DataError, SwrecError
from swrec_prod.schema import FeatureSchema

SPLITS = ("train", "valid", "test")
Progress = Callable[[str], None]


def prepare(
    data_file: DataFile,
    raw: Path | None,
    out: Path,
    *,
    cache: Path | None = None,
    overwrite: bool = False,
    progress: Progress = lambda line: None,
) -> dict[str, Any]:
    """Prepare a raw log into the folder `out` and return its manifest. The same inputs give the same bytes.

    raw: folder or file of the raw log; None fetches it into `cache` (default ~/.cache/swrec). An `out` prepared from the
    same inputs is left alone where it is whole, and prepared again where it is not; one from other inputs is a DataError
    unless `overwrite`, and a folder of other things always.
    progress: takes one line a stage.
    """
    options = data_file.parsed_options()
    located = data_file.dataset.locate(raw, cache or Path.home() / ".cache" / "swrec", options)
    files = tuple(file.path for file in located)
    source = {"data_file": data_file.identity(), "raw": [_identity(file) for file in files]}
    existing = _existing(out)
    same = existing is not None and existing["source"] == source
    if existing is not None and same and _is_whole(out, progress):
        progress(f"{out}: up to date ({existing['rows']:,} rows)")
        return existing
    if existing is None and out.exists() and any(out.iterdir()):
        raise DataError(f"{out}: exists and is no prepared dataset; choose another folder")
    if existing is not None and not same and not overwrite:
        raise DataError(f"{out}: was prepared from other inputs; choose another folder, or overwrite it")
    progress(f"reading {data_file.source} from {files[0].parent}")
    with committed(out) as folder:
        with engine("local", folder) as running:
            table = running.arrow(data_file.dataset.read(running, located, options))
        manifest = {"format": FORMAT, "dataset": data_file.source, **_prepare(data_file, table, folder, progress), "source": source}
        (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
    progress(f"{out}: {manifest['rows']:,} rows in {len(manifest['files'])} days")
    return manifest


def _prepare(data_file: DataFile, table: pa.Table, folder: Path, progress: Progress) -> dict[str, Any]:
    """Everything but the manifest file, of which it returns the content."""
    schema = data_file.features
    check_columns(schema, table, data_file.source)
    events = in_order(table, schema.time)
    days = days_of(events[schema.time])
    split = _deal(events["row"].to_numpy(), data_file.split.random) if data_file.split else None
    fitted, fit = _fit_rows(data_file, split, days)
    progress(f"fitting encoders on {int(fitted.sum()):,} of {len(days):,} rows")
    encoders = Encoders.fit(schema, events, fitted)
    schema = encoders.schema
    progress("encoding")
    rows = _encoded(encoders, events, split)
    sequences = _sequences(schema, events, rows, split)
    progress(f"writing {len(np.unique(days)):,} days")
    records = write_days(folder, rows, days, sequences)
    picked = _request_rows(data_file, events, rows, split == 2 if split is not None else _latest(~fitted))
    pq.write_table(request_table(schema, events, rows, days, sequences, picked), folder / "requests.parquet", compression="zstd")
    return {
        "fingerprint": encoders.fingerprint(),
        "rows": len(days),
        "files": records,
        "others": [file_record(folder, folder / "requests.parquet"), *(file_record(folder, path) for path in encoders.save(folder))],
        "splits": None if split is None else {name: int((split == i).sum()) for i, name in enumerate(SPLITS)},
        "scenarios": _traffic(schema, rows, days),
        "nulls": {f.name: events[f.source].null_count for f in schema.features if f.kind != "sequence"},
        "fit": fit,
    }


def _deal(row: np.ndarray, split: RandomSplit) -> np.ndarray:
    """0 (train), 1 (valid) or 2 (test) for each row: the same for a row however the rows are ordered."""
    ends = np.round(np.cumsum(split.parts) * len(row)).astype(np.int64)
    dealt = np.searchsorted(ends[:2], np.arange(len(row)), side="right").astype(np.int8)
    by_row = np.empty(len(row), np.int8)
    by_row[np.argsort(row)] = dealt[np.random.default_rng(split.seed).permutation(len(row))]
    return by_row


def _fit_rows(data_file: DataFile, split: np.ndarray | None, days: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
    """bool [N]: the training rows, and how they were chosen, for the manifest. Raises DataError when there are none."""
    if split is not None:
        fitted, rule = split == 0, "split: train"
    else:
        last = np.datetime64(data_file.fit_until) if data_file.fit_until else _four_fifths(np.unique(days))
        fitted, rule = days <= last, f"days: ..{last}" + ("" if data_file.fit_until else " (all but the last 20 % of days)")
    if not fitted.any():
        raise DataError(f"{data_file.source}: no row to fit vocabularies on ({rule}; days are {days[0]}..{days[-1]})")
    until = None if split is not None else str(days[fitted][-1])
    return fitted, {"rule": rule, "rows": int(fitted.sum()), "until": until}


def _four_fifths(days: np.ndarray) -> np.datetime64:
    """The day with a fifth of `days`, and at least one, behind it; a single day is used."""
    held_out = max(round(len(days) / 5), 1)
    return days[max(len(days) - held_out, 1) - 1]


def _encoded(encoders: Encoders, events: pa.Table, split: np.ndarray | None) -> pa.Table:
    """The prepared columns of all rows, sequences left out."""
    schema = encoders.schema
    columns: dict[str, Any] = {"row": events["row"], "time": events[schema.time], "user": events[schema.user].cast(pa.string())}
    columns["scenario"] = encoders.encode_scenario(events[schema.scenario.column]).astype(np.int32)
    columns |= {f"label_{label.name}": label_values(events[label.column], label.column) for label in schema.labels}
    if schema.request:
        columns["request"] = events[schema.request].cast(pa.string())
    if schema.weight:
        columns["weight"] = weight_values(events[schema.weight], schema.weight)
    if split is not None:
        columns["split"] = pa.DictionaryArray.from_arrays(split, pa.array(SPLITS))
    for feature in schema.features:
        if feature.kind != "sequence":
            column = encoders.encode(feature.name, events[feature.source])
            columns[feature.name] = list_array(column) if isinstance(column, Ragged) else column
    return pa.table(columns)


def _sequences(schema: FeatureSchema, events: pa.Table, rows: pa.Table, split: np.ndarray | None) -> list[Sequence]:
    """The behaviours of every row, for each sequence feature. Encoded ids are gathered, never raw values.

    With a random split only training rows are behaviours: a training row may be later than a test row of its user, and
    a history with that row would tell its label.
    """
    time = rows["time"].cast(pa.int64()).to_numpy()
    users = codes(events[schema.user])
    result = []
    for feature in schema.of_kind("sequence"):
        happened = rows[f"label_{feature.where}"].to_numpy() == 1 if feature.where else np.ones(len(time), bool)
        happened = happened if split is None else happened & (split == 0)
        windows = behaviours(users, time, happened, feature.max_length)
        result.append(Sequence(feature.name, windows, rows[feature.table].to_numpy(), rows["scenario"].to_numpy(), time))
    return result


def _latest(unseen: np.ndarray) -> np.ndarray:
    """bool [N]: the latest rows of `unseen`, at most a tenth of all rows."""
    held_out = np.zeros_like(unseen)
    held_out[np.flatnonzero(unseen)[-max(len(unseen) // 10, 1) :]] = True
    return held_out


def _request_rows(data_file: DataFile, events: pa.Table, rows: pa.Table, held_out: np.ndarray) -> np.ndarray:
    """Positions of the rows of requests.parquet, of rows that the encoders have not seen; none where they have seen all.

    held_out: bool [N], rows to take them from: those of split test, or the latest ones. Rows of one scenario with the
    same request id, or without such a column the same user and time, are one request.
    """
    schema = data_file.features
    time = rows["time"].cast(pa.int64()).to_numpy()
    asked = [codes(events[schema.request])] if schema.request else [codes(events[schema.user]), time]
    scenario = rows["scenario"].to_numpy()
    parts = np.stack([scenario, *asked], axis=1)
    group = np.zeros(len(rows), np.int64)
    group[held_out] = np.unique(parts[held_out], axis=0, return_inverse=True)[1]
    return pick_rows(np.flatnonzero(held_out), group, scenario, data_file.requests.per_scenario, data_file.requests.seed)


def _traffic(schema: FeatureSchema, rows: pa.Table, days: np.ndarray) -> dict[str, dict[str, Any]]:
    """{day: {scenario: {"rows", "positives": {task}}}}, scenarios without rows left out."""
    names = [*schema.scenario.values, "(unseen)"]
    known, day = np.unique(days, return_inverse=True)
    cell = day * len(names) + rows["scenario"].to_numpy()
    counts = np.bincount(cell, minlength=len(known) * len(names))
    positives = {task: np.bincount(cell, rows[f"label_{task}"].to_numpy(), len(counts)) for task in schema.tasks}
    traffic: dict[str, dict[str, Any]] = {str(name): {} for name in known}
    for at in np.flatnonzero(counts):
        entry = {"rows": int(counts[at]), "positives": {task: int(sums[at]) for task, sums in positives.items()}}
        traffic[str(known[at // len(names)])][names[at % len(names)]] = entry
    return traffic


def _identity(file: Path) -> dict[str, Any]:
    return {"name": file.name, "bytes": file.stat().st_size, "sha256": file_sha256(file)}


def _existing(out: Path) -> dict[str, Any] | None:
    """The manifest of the prepared dataset that lies in `out`, if any."""
    path = out / MANIFEST
    if out.exists() and not out.is_dir():
        raise DataError(f"{out}: is a file, expected a folder to write to")
    try:
        manifest = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError:
        manifest = None
    if not isinstance(manifest, dict):
        raise DataError(f"{path}: damaged; remove {out} and prepare it again")
    return manifest if {"dataset", "fingerprint", "source"} <= manifest.keys() else None


def _is_whole(out: Path, progress: Progress) -> bool:
    """Whether every file that the manifest names is there and unchanged; what is wrong goes to `progress`."""
    try:
        Catalog.open(out).verify()
    except SwrecError as failure:
        progress(f"repairing {out}: {failure}")
        return False
    return True
