"""How fast the reader is, against training on the same columns from memory, and whether its memory stays flat.

reader_vs_train            rows/s from prepared Parquet, 10 id features and 2 dense, against SharedBottom's rows/s
reader_vs_train_history    the same with a history of 50 behaviours, against M-scan, since SharedBottom reads none
reader_peak_mb             resident memory after 50 M rows, against that after 10 M rows
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from datetime import date, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.record import Figure
from swrec_prod.data.manifest import MANIFEST, Day, DayFileRecord, FileRecord, Fit, Manifest, Source
from swrec_prod.files import write_json

FOLDER = Path("build/bench/reader")
FIRST_DAY = date(2024, 1, 1)
TABLES = {"person": 100_000, "item": 50_000} | {f"id_{i}": 1000 for i in range(8)}
BEHAVIOURS, SCENARIOS = 50, 10
GROUP_ROWS = 65_536
FLAT_ROWS, FLAT_DAYS = 2_000_000, 25
HISTORY_ROWS = 500_000
BATCH = 4096
EARLY, LATE = 10_000_000, 50_000_000


def reader_vs_train(rounds: int = 3, threads: int = 2) -> list[Figure]:
    """Both figures; the two sides of a ratio are measured in turns, each in a process of its own."""
    figures = []
    for name, folder, history in (
        ("reader_vs_train", write_days(FOLDER / "flat", FLAT_ROWS, 1, history=False), False),
        ("reader_vs_train_history", write_days(FOLDER / "history", HISTORY_ROWS, 3, history=True), True),
    ):
        read, train = [], []
        for _ in range(rounds):
            read.append(measured("read", folder, history, threads)["rows_per_second"])
            train.append(measured("train", folder, history, threads)["rows_per_second"])
        context = {"threads": threads, "ranks": 1, "batch": BATCH, "read": read, "train": train}
        value, reference = statistics.median(read), statistics.median(train)
        model = "M-scan" if history else "SharedBottom"
        figures.append(
            Figure(name, value, "rows/s", f"{model} from memory, {threads} threads", reference, ">= 5", context=context)
        )
    return figures


def reader_peak_mb(_: int = 1, threads: int = 2) -> list[Figure]:
    """Resident memory while 50 M rows are read in windows of 2 M."""
    measurement = measured("memory", write_days(FOLDER / "long", FLAT_ROWS, FLAT_DAYS, history=False), False, threads)
    context = {"threads": threads, "ranks": 1, "rows": LATE} | measurement
    return [
        Figure(
            "reader_peak_mb",
            measurement["late_mb"],
            "MB",
            "after 10 M rows",
            measurement["early_mb"],
            "<= 1.05",
            context=context,
        )
    ]


def write_days(out: Path, rows: int, days: int, *, history: bool) -> Path:
    """A prepared folder of equal days, written once: every day but the first is a hard link to it."""
    if (out / MANIFEST).exists():
        return out
    shutil.rmtree(out, ignore_errors=True)
    first = out / f"day={FIRST_DAY}" / "part-00000.parquet"
    first.parent.mkdir(parents=True)
    pq.write_table(
        rows_table(rows, history),
        first,
        row_group_size=GROUP_ROWS,
        compression="lz4",
        use_dictionary=False,
        write_statistics=False,
    )
    record, until = dict(FileRecord.of(out, first)), FIRST_DAY - timedelta(days=1)
    groups = -(-rows // GROUP_ROWS)
    files, records = [], {}
    for day in (FIRST_DAY + timedelta(days=i) for i in range(days)):
        path = out / f"day={day}" / first.name
        if path != first:
            path.parent.mkdir()
            os.link(first, path)
        of_day = record | {"path": path.relative_to(out).as_posix()}
        files.append(DayFileRecord(**of_day, day=day, rows=rows, row_groups=groups, fitted_until=until))
        records[day] = Day(rows=rows, nulls={}, scenarios={}, raw=[])
    schema_of(history).save(out / "schema.yaml")
    manifest = Manifest(
        dataset="reader",
        source=Source(data_file="drawn at random", raw=[]),
        files=files,
        others=[FileRecord.of(out, out / "schema.yaml")],
        days=records,
        fit=Fit(rule="none", rows=0, until=until),
        fingerprint="none",
        splits=None,
    )
    write_json(out / MANIFEST, manifest.to_json())
    return out


def rows_table(rows: int, history: bool) -> pa.Table:
    """Encoded rows drawn at random."""
    draw = np.random.default_rng(1)
    columns: dict[str, Any] = {"row": np.arange(rows), "scenario": draw.integers(0, SCENARIOS, rows, np.int32)}
    columns |= {"label_click": draw.integers(0, 2, rows, np.int8)}
    columns |= {name: draw.integers(0, height, rows, np.int32) for name, height in TABLES.items()}
    columns |= {name: draw.standard_normal(rows, np.float32) for name in ("age", "price")}
    if history:
        lengths = draw.integers(BEHAVIOURS - 5, BEHAVIOURS + 6, rows)
        offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
        for name, height in (("item", TABLES["item"]), ("scenario", SCENARIOS)):
            values = pa.array(draw.integers(0, height, int(lengths.sum()), np.int32))
            columns[f"history.{name}"] = pa.ListArray.from_arrays(offsets, values)
    return pa.table(columns)


def schema_of(history: bool) -> Any:
    """The schema of `rows_table`."""
    from swrec_prod.schema import Feature, FeatureSchema, Label, Scenario

    features = [
        Feature(name=n, kind="id", side="item" if n == "item" else "user", encoder="vocab", rows=h)
        for n, h in TABLES.items()
    ]
    features += [Feature(name=n, kind="dense", side="context", encoder="standard") for n in ("age", "price")]
    if history:
        rows = TABLES["item"]
        features.append(Feature(name="history", kind="sequence", side="user", item="item", where="click", rows=rows))
    scenario = Scenario(values=tuple(f"s{i}" for i in range(SCENARIOS)))
    labels = (Label(name="click", column="click"),)
    return FeatureSchema(
        name="reader", features=tuple(features), scenario=scenario, labels=labels, time="time", user="person"
    )


def measured(what: str, folder: Path, history: bool, threads: int) -> dict[str, float]:
    """One measurement in a process of its own."""
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "benchmarks.reader",
        what,
        str(folder),
        str(int(history)),
        str(threads),
    ]
    done = subprocess.run(command, text=True, capture_output=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def make_reader(folder: Path, history: bool, window: int) -> Any:
    """A shuffled reader of all days."""
    from swrec_prod.config import DataConfig, DayRanges
    from swrec_prod.data.catalog import Catalog
    from swrec_prod.data.reader import Reader
    from swrec_prod.schema.layout import Layout

    catalog = Catalog.open(folder)
    data = DataConfig(
        path=str(folder),
        shuffle_rows=window,
        days=DayRanges(train="..2030-12-31", valid="2031-01-01", test="2031-01-02"),
    )
    return Reader(catalog, Layout.of(catalog.schema, history=history), "train", data, BATCH, shuffle=True)


def _read(folder: Path, history: bool) -> dict[str, float]:
    """Rows a second of two epochs, every row decoded anew;
    windows of half the rows, as if there were many more of them.
    """
    reader = make_reader(folder, history, FLAT_ROWS // 2 if not history else HISTORY_ROWS)
    started = time.perf_counter()
    rows = sum(len(batch) for epoch in range(2) for batch in reader.epoch(epoch))
    return {"rows_per_second": rows / (time.perf_counter() - started)}


def _train(folder: Path, history: bool, threads: int, steps: int = 60, warm_up: int = 10) -> dict[str, float]:
    """Rows a second of training steps on batches that are in memory."""
    from swrec_prod.config import RunConfig
    from swrec_prod.data.catalog import Catalog
    from swrec_prod.ranker import build_ranker, resolve_run
    from swrec_prod.train.distributed import process_group
    from swrec_prod.train.loop import Fit
    from swrec_prod.train.optim import make_optimizer
    from swrec_prod.train.shard import shard

    config = RunConfig.model_validate(
        {
            "data": {"path": str(folder), "split": "random"},
            "model": {"name": "mscan" if history else "shared_bottom"},
            "train": {"batch_size": BATCH},
        }
    )
    with process_group(threads) as ranks:
        reader = make_reader(folder, history, HISTORY_ROWS if history else FLAT_ROWS // 2)
        batches = list(islice(reader.epoch(0), warm_up + steps))
        model = shard(build_ranker(resolve_run(Catalog.open(folder).schema, config), ranks.device), config.train, ranks)
        fit = Fit(model, make_optimizer(model, config.train), reader, reader, ranks)
        model.train()
        for batch in batches[:warm_up]:
            fit.step(batch)
        started = time.perf_counter()
        for batch in batches[warm_up:]:
            fit.step(batch)
        return {"rows_per_second": sum(map(len, batches[warm_up:])) / (time.perf_counter() - started)}


def _memory(folder: Path) -> dict[str, float]:
    """Megabytes of the largest resident set so far, early and late in an epoch of 50 M rows."""
    reader = make_reader(folder, False, FLAT_ROWS)
    peaks: dict[str, float] = {}
    started = time.perf_counter()
    for batch in reader.epoch(0):
        if "early_mb" not in peaks and batch.position.rows >= EARLY:
            peaks["early_mb"] = _peak_mb()
    assert batch.position.rows >= LATE
    return {**peaks, "late_mb": _peak_mb(), "rows_per_second": LATE / (time.perf_counter() - started)}


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """One measurement, printed as a JSON line: WHAT FOLDER HISTORY THREADS."""
    from swrec_prod.train.distributed import before_torch

    what, folder, history, threads = sys.argv[1:]
    before_torch()
    wants_history = bool(int(history))
    if what == "train":
        measurement = _train(Path(folder), wants_history, int(threads))
    else:
        measurement = _read(Path(folder), wants_history) if what == "read" else _memory(Path(folder))
    print(json.dumps(measurement), flush=True)


if __name__ == "__main__":
    main()
