"""Histories from before the log: they come before all behaviours of the log, whenever its days are prepared."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dated_log import MIDNIGHT, contents, data_file, day, day_files, manifest_of, prepared_rows, write_day, write_log
from rich_behaviours import HOUR, Reference, Row, bags, behaviours_of, bucket, raw_rows, rich_schema
from test_behaviour_fields import assert_encoded_alike

from swrec_prod.encoding.encoders import Encoders
from swrec_prod.engine.contract import Engine
from swrec_prod.errors import ConfigError, DataError
from swrec_prod.prepare.data_file import DataFile
from swrec_prod.prepare.run import prepare
from swrec_prod.strict import parse

pytestmark = pytest.mark.engine

SEED: dict[str, Any] = {
    "seen": {"file": "before/*.parquet", "by": "who", "columns": {"item": "watched"}},
    "clicks": {
        "file": "before/seed.parquet",
        "by": "who",
        "columns": {"item": "watched", "time": "at", "scenario": "place", "sitting": "sat"},
        "items": {"file": "things.parquet", "by": "thing", "columns": {"kin": "kin", "paid": "cost"}, "split": "|"},
    },
}
BEFORE = [  # of each user watched, at (hours before the log), place, sat; the last one is not in the log
    (
        3,
        ["a", "b", "zz", "c", "d"],
        [9, 8, None, 2, 1],
        ["home", None, "moon", "cart", "home"],
        ["s0", None, "s1", "s2", "x"],
    ),
    (5, ["f"], [4], ["search"], ["s3"]),
    (7, None, None, None, None),
    (99, ["a"], [1], ["home"], ["s0"]),
]
THINGS = [("a", "a|b", 3.5), ("b", None, 1.0), ("c", "c", None)]


def write_seed(raw: Path, rows: list[tuple[Any, ...]] = BEFORE) -> Path:
    who, watched, at, place, sat = map(list, zip(*rows, strict=True))
    moments = [hours and [h and MIDNIGHT - timedelta(hours=h) for h in hours] for hours in at]
    texts = pa.list_(pa.string())
    table = {
        "who": who,
        "watched": pa.array(watched, texts),
        "at": pa.array(moments, pa.list_(pa.timestamp("ms", "UTC"))),
    }
    path = raw / "before" / "seed.parquet"
    path.parent.mkdir(exist_ok=True, parents=True)
    pq.write_table(
        pa.table(table | {"place": pa.array(place, texts), "sat": pa.array(sat, pa.large_list(pa.string()))}), path
    )
    thing, kin, cost = map(list, zip(*THINGS, strict=True))
    pq.write_table(pa.table({"thing": thing, "kin": kin, "cost": cost}), raw / "things.parquet")
    return path


def seeded(**changes: Any) -> DataFile:
    return data_file(schema=rich_schema(), seed=SEED, **changes)


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_log(tmp_path_factory.mktemp("seeded") / "raw", 4)
    write_seed(folder)
    return folder


@pytest.fixture(scope="module")
def out(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared") / "out"
    prepare(seeded(), raw, folder)
    return folder


def expected(reference: Reference, row: Row, rows: list[Row], name: str) -> dict[str, list[Any]]:
    """The lists of a row: those of a loop over the log, and before them the seed, as far as there is room."""
    mine = behaviours_of(name, row, rows)
    lists = reference.lists(name, row, mine)
    longest = {"seen": 4, "clicks": 3}[name]
    _, watched, hours, place, sat = next((b for b in BEFORE if b[0] == row["user_id"]), (0, None, None, None, None))
    room = longest - len(mine)
    begin = max(len(watched or ()) - room, 0)
    watched, hours, place, sat = ((part or [])[begin:] for part in (watched, hours, place, sat))
    parts: dict[str, list[Any]] = {"item": [reference.item.get(item, 0) for item in watched]}
    unknown = len(watched) * [0]
    if name == "seen":
        nothing = {"near": [], "near.length": unknown, "age": unknown, "author": unknown, "price": unknown}
        parts |= {"scenario": [3] * len(watched), **nothing}
    else:
        moments = [h and MIDNIGHT - timedelta(hours=h) for h in hours]
        parts["scenario"] = [reference.scenario.get(where, 4) - 1 for where in place]
        parts["age"] = [bucket((HOUR, 5 * HOUR), row["time"], at) if at else 0 for at in moments]
        parts["sitting"] = [reference.sitting.get(word, 0) for word in sat]
        things = {thing: (kin, cost) for thing, kin, cost in THINGS}
        known = [things.get(item, (None, None)) for item in watched]
        parts |= bags("kin", [kin.split("|") if kin else None for kin, _ in known], reference.kin)
        parts["paid"] = [reference.minmax(cost) for _, cost in known]
    return {part: parts[part] + lists[part] for part in parts}


@pytest.mark.parametrize("name", ["seen", "clicks"])
def test_what_users_did_before_the_log_comes_first(raw: Path, out: Path, name: str) -> None:
    rows, prepared = raw_rows(raw), prepared_rows(out).to_pylist()
    reference = Reference(rows)
    for row, mine in zip(prepared, rows, strict=True):
        for part, values in expected(reference, mine, rows, name).items():
            given = row[f"{name}.{part}"]
            equal = np.allclose(given, values, atol=1e-6) if part in ("price", "paid") else given == values
            assert equal and len(given) == len(values), (part, given, values)


def test_clients_send_seeds_too(tmp_path: Path) -> None:
    raw = write_log(tmp_path / "raw", 2, rows=15)  # so few that there is room for seeds
    write_seed(raw)
    prepare(seeded(fit_until=day(1)), raw, tmp_path / "out")
    sent = pq.read_table(tmp_path / "out" / "requests.parquet")
    assert any(None in scenarios for scenarios in sent["seen.scenario"].to_pylist())
    assert_encoded_alike(Encoders.load(tmp_path / "out"), sent, prepared_rows(tmp_path / "out"))


def test_days_that_are_added_or_late_have_the_seed_as_well(raw: Path, out: Path, tmp_path: Path) -> None:
    write_log(tmp_path / "raw", 2)
    write_seed(tmp_path / "raw")
    for number in (4, 3):
        write_day(tmp_path / "raw", number)
        prepare(seeded(), tmp_path / "raw", tmp_path / "out")
    assert day_files(tmp_path / "out") == day_files(out)
    names = [file["name"] for file in manifest_of(tmp_path / "out")["source"]["raw"]]
    assert names == ["users.parquet", "before/seed.parquet", "things.parquet"]


def test_both_engines_write_the_same_bytes(cluster_engine: Engine, raw: Path, out: Path, tmp_path: Path) -> None:
    prepare(seeded(), raw, tmp_path / "out", engine="cluster")
    assert contents(tmp_path / "out") == contents(out)


def test_who_was_in_the_log_before_the_end_of_his_seed_has_none(tmp_path: Path) -> None:
    raw = write_log(tmp_path / "raw", 1)
    first = min(row["time"] for row in raw_rows(raw) if row["user_id"] == 3)
    milliseconds = [int(at.timestamp() * 1000) for at in (first, MIDNIGHT - timedelta(hours=1))]
    pq.write_table(pa.table({"who": [3, 5], "watched": [["a"], ["a"]], "last": milliseconds}), raw / "seed.parquet")
    seed = {
        "seen": {"file": "seed.parquet", "by": "who", "columns": {"item": "watched"}, "until": "last", "unit": "ms"}
    }
    prepare(data_file(seed=seed), raw, tmp_path / "out")
    rows = prepared_rows(tmp_path / "out").to_pylist()
    unknown = {row["user"]: [at for at in row["seen.time"] if at.year == 1970] for row in reversed(rows)}
    assert not unknown["3"] and len(unknown["5"]) == 1


def test_a_seed_that_changed_is_told_of_like_attributes(raw: Path, tmp_path: Path) -> None:
    write_log(tmp_path / "raw", 2)
    write_seed(tmp_path / "raw")
    prepare(seeded(), tmp_path / "raw", tmp_path / "out")
    write_seed(tmp_path / "raw", BEFORE[:1])
    lines: list[str] = []
    prepare(seeded(), tmp_path / "raw", tmp_path / "out", progress=lines.append)
    assert "seed.parquet changed since it was prepared: days that are prepared keep" in lines[0]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([*BEFORE, BEFORE[1]], "seed.parquet: who 5 is there more than once, expected one row"),
        ([(None, ["a"], [1], ["home"], ["s"])], "column 'who' has 1 missing values"),
        (
            [(3, ["a", "b"], [1], ["home", None], ["s", "t"])],
            "who 3: sequence 'clicks': column 'watched' has 2 behaviours and column 'at' 1",
        ),
        (
            [(3, ["a"], [-30], ["home"], ["s"])],
            "column 'at' has a behaviour on 2024-05-02, but the log begins on 2024-05-01",
        ),
    ],
)
def test_a_seed_that_cannot_be_is_refused(tmp_path: Path, rows: list[tuple[Any, ...]], message: str) -> None:
    write_seed(write_log(tmp_path / "raw", 2), rows)
    with pytest.raises(DataError) as failure:
        prepare(seeded(), tmp_path / "raw", tmp_path / "out")
    assert message in str(failure.value) and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("seed", "message"),
    [
        ({"sean": {"file": "x", "columns": {"item": "y"}}}, "seed 'sean' is not a sequence; did you mean seen"),
        ({"seen": {"file": "x", "columns": {"time": "y"}}}, "columns says nothing of 'item'"),
        ({"seen": {"file": "x", "columns": {"item": "y", "autor": "z"}}}, "columns has 'autor'; did you mean author"),
    ],
)
def test_a_seed_of_nothing_known_is_refused(seed: dict[str, Any], message: str) -> None:
    plain = seeded().model_dump(by_alias=True, exclude_unset=True) | {"seed": seed}
    with pytest.raises(ConfigError) as failure:
        parse(DataFile, plain, "data.yaml")
    assert message in str(failure.value)


def test_a_seed_that_is_not_there_or_read_as_log_is_refused(raw: Path, tmp_path: Path) -> None:
    missing = data_file(seed={"seen": {"file": "nothing.parquet", "columns": {"item": "watched"}}})
    with pytest.raises(DataError, match=r"no nothing.parquet here, which seed 'seen' names"):
        prepare(missing, raw, tmp_path / "out")
    options = {"log": "log/**/*.parquet"}
    logged = data_file(options=options, seed={"seen": {"file": "log/day=2024-05-01/*", "columns": {"item": "item"}}})
    with pytest.raises(DataError, match=r"part-0.parquet: is named by seed, and is a file of the log too"):
        prepare(logged, raw, tmp_path / "out")
