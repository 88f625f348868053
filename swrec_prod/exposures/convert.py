"""A segment of the write-ahead log -> Parquet files DIR/dt=.../hour=.../SEGMENT-MODEL-VERSION.parquet.

Names follow from the segment alone. So one that was converted by a process which was killed before it could remove the
segment is converted again to the same files, and no exposure is in the log twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from swrec_prod.exposures.answer import SCORES
from swrec_prod.exposures.features import feature_arrays
from swrec_prod.exposures.log import Described, packages_of
from swrec_prod.exposures.schema import BASE, HASH_VERSION
from swrec_prod.files import replaced

AT_ONCE = 1024  # answers whose requests are read at once
ROW_GROUP = 8192
NAMES = [field.name for field in BASE if pa.types.is_dictionary(field.type)]  # a dictionary costs more than zstd saves
HOUR = 3_600_000_000  # microseconds


def convert(segment: pa.Table, name: str, folder: Path) -> int:
    """Write the files of a segment under `folder`; returns how many rows. Raises OSError."""
    rows = 0
    packages = packages_of(segment.schema.metadata)
    for (model, version), answers in _by_package(segment):
        described = packages.get(f"{model}/{version}", Described((), ()))
        for hour, within in _by_hour(answers):
            table = exposures_of(within, described)
            rows += table.num_rows
            _write(table, folder / _hour_folder(hour) / f"{name}-{model}-{version}.parquet")
    return rows


def exposures_of(answers: pa.Table, package: Described) -> pa.Table:
    """The rows of answers of one package: one for each experiment, or one."""
    parts = [_features(answers.slice(start, AT_ONCE), package) for start in range(0, answers.num_rows, AT_ONCE)]
    features = pa.concat_tables(parts, promote_options="permissive")
    at, nth = _exposed(answers["variants"].combine_chunks())
    columns = _base(answers, package) | _variants(answers["variants"].combine_chunks(), at, nth)
    columns["event_id"] = _event_ids(answers["answer_id"].combine_chunks(), at, nth)
    repeated = pa.array(at)
    base = [
        _cast(columns[field.name] if field.name in columns else answers[field.name], field.type, repeated, len(at))
        for field in BASE
    ]
    more = features if len(at) == len(features) else features.take(repeated)
    return pa.table([*base, *more.columns], schema=pa.schema([*BASE, *more.schema]))


def _by_package(segment: pa.Table) -> Iterator[tuple[tuple[str, str], pa.Table]]:
    keys = segment.select(["model", "model_version"]).group_by(["model", "model_version"]).aggregate([]).to_pylist()
    for model, version in sorted((key["model"], key["model_version"]) for key in keys):
        chosen = pc.and_(pc.equal(segment["model"], model), pc.equal(segment["model_version"], version))
        yield (model, version), segment.filter(chosen)


def _by_hour(answers: pa.Table) -> Iterator[tuple[int, pa.Table]]:
    """By hours since 1970."""
    hours = answers["ts"].to_numpy() // HOUR
    for hour in np.unique(hours).tolist():
        yield hour, answers if (hours == hour).all() else answers.filter(pa.array(hours == hour))


def _hour_folder(hour: int) -> str:
    return datetime.fromtimestamp(hour * 3600, UTC).strftime("dt=%Y-%m-%d/hour=%H")


def _features(answers: pa.Table, package: Described) -> pa.Table:
    return pa.table(feature_arrays(answers["request"].combine_chunks(), package.columns))


def _exposed(variants: pa.ListArray) -> tuple[np.ndarray, np.ndarray]:
    """Of every row its answer, and the how manieth row of that it is."""
    times = np.maximum(variants.value_lengths().to_numpy(), 1)
    at = np.repeat(np.arange(len(times)), times)
    return at, np.arange(len(at)) - np.repeat(np.cumsum(times) - times, times)


def _base(answers: pa.Table, package: Described) -> dict[str, pa.ChunkedArray | pa.Array]:
    """What BASE has in another form than a segment, an entry an answer."""
    scores = {name: _floats(answers[name].combine_chunks()) for name in SCORES}
    tasks = pa.array([list(package.tasks)] * len(answers), pa.list_(pa.string()))
    each = np.diff(scores["score"].offsets.to_numpy()) // max(1, len(package.tasks))
    return {**scores, "tasks": tasks, "candidates": pa.array(each.astype(np.uint16))}


def _floats(data: pa.BinaryArray) -> pa.ListArray:
    """Bytes of float32 as lists of them, over the same memory."""
    offsets = np.frombuffer(data.buffers()[1], np.int32)[data.offset : data.offset + len(data) + 1]
    values = pa.Array.from_buffers(pa.float32(), int(offsets[-1]) // 4, [None, data.buffers()[2]])
    return pa.ListArray.from_arrays(pa.array(offsets // 4), values)


def _variants(variants: pa.ListArray, at: np.ndarray, nth: np.ndarray) -> dict[str, pa.Array]:
    """Columns of the assignments, an entry a row; null where an answer has none."""
    lengths = variants.value_lengths().to_numpy()
    starts = np.cumsum(lengths) - lengths
    assigned = variants.flatten().take(pa.array(starts[at] + nth, mask=lengths[at] == 0))
    names = [field.name for field in variants.type.value_type]
    columns = dict(zip(names, assigned.flatten(), strict=True))
    versions = pa.array(np.full(len(at), HASH_VERSION, np.uint8), mask=lengths[at] == 0)
    return {**columns, "hash_version": versions}


def _event_ids(answer_ids: pa.Array, at: np.ndarray, nth: np.ndarray) -> pa.Array:
    """Those of an answer count on from its own."""
    start = answer_ids.offset * 16
    ids = np.frombuffer(answer_ids.buffers()[1], np.uint8)[start : start + 16 * len(answer_ids)].reshape(-1, 16)[at]
    ids[:, 15] = nth
    return pa.Array.from_buffers(pa.binary(16), len(at), [None, pa.py_buffer(ids.tobytes())])


def _cast(column: pa.ChunkedArray | pa.Array, kind: pa.DataType, at: pa.Array, rows: int) -> pa.Array:
    """The column as the log has it, an entry a row."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    array = array if len(array) == rows else array.take(at)
    if pa.types.is_dictionary(kind):
        return array.dictionary_encode()
    return array.cast(pa.timestamp("us")).cast(kind) if pa.types.is_timestamp(kind) else array.cast(kind)


def _write(table: pa.Table, path: Path) -> None:
    with replaced(path, durable=True) as aside:
        pq.write_table(
            table,
            aside,
            compression="zstd",
            row_group_size=ROW_GROUP,
            use_dictionary=NAMES,
        )
