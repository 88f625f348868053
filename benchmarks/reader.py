"""How fast the reader is, against training on the same columns from memory, and whether its memory stays flat.

reader_vs_train            rows/s from prepared Parquet, 10 id features and 2 dense, against SharedBottom's rows/s
reader_vs_train_history    the same with a history of 50 behaviours, against M-scan, since SharedBottom reads none
reader_rich_vs_train       the same with two sequences of 50 behaviours, each with three fields and its age
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
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.record import Figure
from swrec_prod.data.manifest import MANIFEST, Day, DayFileRecord, FileRecord, Fit, Manifest, Source
from swrec_prod.files import write_json

FOLDER = Path("build/bench/reader")
FIRST_DAY = date(2024, 1, 1)
TABLES = {"person": 100_000, "item": 50_000} | {f"id_{i}": 1000 for i in range(8)}
BEHAVIOURS, SCENARIOS, AGES = 50, 10, 12
FIELDS = {"category": 1000, "brand": 1000, "price": 0}  # of each behaviour; 0: a number
Inputs = Literal["flat", "history", "rich"]
SEQUENCES: dict[Inputs, tuple[str, ...]] = {"flat": (), "history": ("history",), "rich": ("history", "skips")}
GROUP_ROWS = 65_536
FLAT_ROWS, FLAT_DAYS = 2_000_000, 25
ROWS: dict[Inputs, int] = {"flat": FLAT_ROWS, "history": 500_000, "rich": 250_000}
BATCH = 4096
EARLY, LATE = 10_000_000, 50_000_000


def reader_vs_train(rounds: int = 3, threads: int = 2) -> list[Figure]:
    """The three figures; the two sides of a ratio are measured in turns, each in a process of its own."""
    figures = []
    names = {"flat": "reader_vs_train", "history": "reader_vs_train_history", "rich": "reader_rich_vs_train"}
    for inputs in get_args(Inputs):
        name, folder = names[inputs], write_days(FOLDER / inputs, 1 if inputs == "flat" else 3, inputs)
        read, train = [], []
        for _ in range(rounds):
            read.append(measured("read", folder, inputs, threads)["rows_per_second"])
            train.append(measured("train", folder, inputs, threads)["rows_per_second"])
        context = {"threads": threads, "ranks": 1, "batch": BATCH, "read": read, "train": train}
        value, reference = statistics.median(read), statistics.median(train)
        model = "SharedBottom" if inputs == "flat" else "M-scan"
        figures.append(
            Figure(name, value, "rows/s", f"{model} from memory, {threads} threads", reference, ">= 5", context=context)
        )
    return figures


def reader_peak_mb(_: int = 1, threads: int = 2) -> list[Figure]:
    """Resident memory while 50 M rows are read in windows of 2 M."""
    measurement = measured("memory", write_days(FOLDER / "long", FLAT_DAYS, "flat"), "flat", threads)
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


def write_days(out: Path, days: int, inputs: Inputs) -> Path:
    """A prepared folder of equal days, written once: every day but the first is a hard link to it."""
    rows = ROWS[inputs]
    if (out / MANIFEST).exists():
        return out
    shutil.rmtree(out, ignore_errors=True)
    first = out / f"day={FIRST_DAY}" / "part-00000.parquet"
    first.parent.mkdir(parents=True)
    pq.write_table(
        rows_table(rows, inputs),
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
    schema_of(inputs).save(out / "schema.yaml")
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


def rows_table(rows: int, inputs: Inputs) -> pa.Table:
    """Encoded rows drawn at random."""
    draw = np.random.default_rng(1)
    columns: dict[str, Any] = {"row": np.arange(rows), "scenario": draw.integers(0, SCENARIOS, rows, np.int32)}
    columns |= {"label_click": draw.integers(0, 2, rows, np.int8)}
    columns |= {name: draw.integers(0, height, rows, np.int32) for name, height in TABLES.items()}
    columns |= {name: draw.standard_normal(rows, np.float32) for name in ("age", "price")}
    parts = {"item": TABLES["item"], "scenario": SCENARIOS} | (FIELDS | {"age": AGES} if inputs == "rich" else {})
    for sequence in SEQUENCES[inputs]:
        lengths = draw.integers(BEHAVIOURS - 5, BEHAVIOURS + 6, rows)
        offsets, total = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32()), int(lengths.sum())
        for name, height in parts.items():
            values = draw.integers(0, height, total, np.int32) if height else draw.standard_normal(total, np.float32)
            columns[f"{sequence}.{name}"] = pa.ListArray.from_arrays(offsets, pa.array(values))
    return pa.table(columns)


def schema_of(inputs: Inputs) -> Any:
    """The schema of `rows_table`."""
    from swrec_prod.schema import Feature, FeatureSchema, Label, Scenario, SequenceField

    features = [
        Feature(name=n, kind="id", side="item" if n == "item" else "user", encoder="vocab", rows=h)
        for n, h in TABLES.items()
    ]
    features += [Feature(name=n, kind="dense", side="context", encoder="standard") for n in ("age", "price")]
    fields = [
        SequenceField(name=name, kind="id", encoder={"kind": "vocab"}, rows=height)
        if height
        else SequenceField(name=name, shared_with="price")
        for name, height in FIELDS.items()
    ]
    rich = {"fields": tuple(fields), "age": tuple(range(1, AGES - 1))} if inputs == "rich" else {}
    for name in SEQUENCES[inputs]:
        sequence = {"name": name, "kind": "sequence", "side": "user", "item": "item", "rows": TABLES["item"]}
        features.append(Feature(**sequence, **rich))
    scenario = Scenario(values=tuple(f"s{i}" for i in range(SCENARIOS)))
    labels = (Label(name="click", column="click"),)
    return FeatureSchema(
        name="reader", features=tuple(features), scenario=scenario, labels=labels, time="time", user="person"
    )


def measured(what: str, folder: Path, inputs: Inputs, threads: int) -> dict[str, float]:
    """One measurement in a process of its own."""
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "benchmarks.reader",
        what,
        str(folder),
        inputs,
        str(threads),
    ]
    done = subprocess.run(command, text=True, capture_output=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def make_reader(folder: Path, inputs: Inputs, window: int) -> Any:
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
    return Reader(catalog, Layout.of(catalog.schema, history=inputs != "flat"), "train", data, BATCH, shuffle=True)


def _read(folder: Path, inputs: Inputs) -> dict[str, float]:
    """Rows a second of two epochs, every row decoded anew;
    windows of half the rows, as if there were many more of them.
    """
    reader = make_reader(folder, inputs, _window(inputs))
    started = time.perf_counter()
    rows = sum(len(batch) for epoch in range(2) for batch in reader.epoch(epoch))
    return {"rows_per_second": rows / (time.perf_counter() - started)}


def _train(folder: Path, inputs: Inputs, threads: int, steps: int = 60, warm_up: int = 10) -> dict[str, float]:
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
            "model": {"name": "shared_bottom" if inputs == "flat" else "mscan"},
            "train": {"batch_size": BATCH},
        }
    )
    with process_group(threads) as ranks:
        reader = make_reader(folder, inputs, _window(inputs))
        batches = list(islice(reader.epoch(0), warm_up + steps))
        run = resolve_run(Catalog.open(folder).schema, config)
        model = shard(build_ranker(run, ranks.device, tables_on="meta"), config.train, ranks)
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
    reader = make_reader(folder, "flat", FLAT_ROWS)
    peaks: dict[str, float] = {}
    started = time.perf_counter()
    for batch in reader.epoch(0):
        if "early_mb" not in peaks and batch.position.rows >= EARLY:
            peaks["early_mb"] = _peak_mb()
    assert batch.position.rows >= LATE
    return {**peaks, "late_mb": _peak_mb(), "rows_per_second": LATE / (time.perf_counter() - started)}


def _window(inputs: Inputs) -> int:
    """Rows that are shuffled together: half of the flat ones, as if there were many more; a day of the others."""
    return ROWS[inputs] // 2 if inputs == "flat" else ROWS[inputs]


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """One measurement, printed as a JSON line: WHAT FOLDER INPUTS THREADS."""
    from swrec_prod.train.distributed import before_torch

    what, folder, given, threads = sys.argv[1:]
    inputs: Inputs = next(name for name in get_args(Inputs) if name == given)
    before_torch()
    if what == "train":
        measurement = _train(Path(folder), inputs, int(threads))
    else:
        measurement = _read(Path(folder), inputs) if what == "read" else _memory(Path(folder))
    print(json.dumps(measurement), flush=True)


if __name__ == "__main__":
    main()
