"""Prepared days: what is written, from which rows it was fitted, that it is written whole or not at all, and twice the same."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from swrec_prod.config import DataConfig, DayRanges
from swrec_prod.data import stored, stream
from swrec_prod.data.catalog import Catalog
from swrec_prod.data.data_file import DataFile
from swrec_prod.data.encode import Encoders
from swrec_prod.data.pack import Ragged
from swrec_prod.data.prepare import prepare
from swrec_prod.data.requests import last_days
from swrec_prod.datasets import DATASETS
from swrec_prod.datasets.movielens import MOVIELENS_1M, MovieLensOptions, rating_log
from swrec_prod.datasets.source import RawFile
from swrec_prod.errors import ConfigError, DataError, SchemaError

START = datetime(2024, 1, 1, 12, tzinfo=UTC)
TOY = {
    "name": "toy",
    "time": "at",
    "user": "who",
    "labels": [{"name": "click", "column": "clicked"}],
    "features": [
        {"name": "item", "kind": "id", "side": "item", "encoder": "vocab"},
        {"name": "price", "kind": "dense", "side": "item", "encoder": "standard"},
        {"name": "seen", "kind": "sequence", "side": "user", "item": "item", "where": "click", "max_length": 3},
    ],
}


def log(**columns: Any) -> pa.Table:
    """Ten rows of two users on six days."""
    default = {
        "row": list(range(10)),
        "at": [START + timedelta(hours=12 * i) for i in range(10)],
        "who": ["u", "v"] * 5,
        "scenario": ["home", "home", "cart", "home", "home"] * 2,
        "clicked": [1, 0, 1, 1, 0] * 2,
        "item": ["a", "b", "c", "a", "d", "e", "a", "b", "f", "g"],
        "price": [float(i) for i in range(10)],
    }
    return pa.table({name: values for name, values in (default | columns).items() if values is not None})


def toy(**changes: Any) -> DataFile:
    schema = TOY | changes.pop("schema", {})
    return DataFile.model_validate({"source": "movielens-1m", "options": {"scenarios": "age"}, "schema": schema, **changes})


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Prepare a table that is given as it is; returns OUT and the manifest."""

    def call(table: pa.Table, data_file: DataFile | None = None, out: str = "out", **options: Any) -> tuple[Path, dict[str, Any]]:
        raw = tmp_path / "raw"
        pq.write_table(table, raw)
        source = dataclasses.replace(
            MOVIELENS_1M, locate=lambda r, cache, options: (RawFile(raw),), read=lambda engine, files, options: engine.memory(table)
        )
        monkeypatch.setitem(DATASETS, "movielens-1m", source)
        return tmp_path / out, prepare(data_file or toy(), raw, tmp_path / out, **options)

    return call


def rows_of(out: Path) -> pa.Table:
    files = json.loads((out / "manifest.json").read_text())["files"]
    return pa.concat_tables([pq.ParquetFile(out / file["path"]).read() for file in files])


def raw_rows(raw: Path, scenarios: str) -> list[dict[str, Any]]:
    """The standard table by stable row id."""
    options = MovieLensOptions.model_validate({"scenarios": scenarios})
    return rating_log(tuple(f.path for f in MOVIELENS_1M.locate(raw, raw, options)), options).to_pylist()


def contents(out: Path) -> dict[str, str]:
    return {str(p.relative_to(out)): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(out.rglob("*")) if p.is_file()}


def test_the_manifest_is_what_the_files_hold(prepared_genre: Path, raw_movielens: Path) -> None:
    manifest = json.loads((prepared_genre / "manifest.json").read_text())
    raw = raw_rows(raw_movielens, "genre")
    assert manifest["rows"] == len(raw) == sum(file["rows"] for file in manifest["files"])
    counted = Counter((str(r["time"].date()), r["scenario"], r["click"]) for r in raw)
    assert sum(len(found) for found in manifest["scenarios"].values()) == len({key[:2] for key in counted})
    for day, found in manifest["scenarios"].items():
        for scenario, entry in found.items():
            positives = counted[day, scenario, 1]
            assert entry == {"rows": positives + counted[day, scenario, 0], "positives": {"click": positives}}
    for file in manifest["files"]:
        path = prepared_genre / file["path"]
        assert (file["bytes"], file["sha256"]) == (path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())
        assert pq.ParquetFile(path).metadata.num_row_groups == file["row_groups"]
        assert set(pq.ParquetFile(path).read(["time"])["time"].cast(pa.date32()).to_pylist()) == {date.fromisoformat(file["day"])}
    assert manifest["fingerprint"] == Encoders.load(prepared_genre).fingerprint()


@pytest.mark.parametrize("scenarios", ["age", "genre"])
def test_rows_and_behaviours_are_those_of_the_raw_log(scenarios: str, request: pytest.FixtureRequest, raw_movielens: Path) -> None:
    out: Path = request.getfixturevalue(f"prepared_{scenarios}")
    raw = raw_rows(raw_movielens, scenarios)
    longest = 50 if scenarios == "age" else 20
    movie = [None, *pq.read_table(out / "vocab" / "movie_id.parquet")["value"].to_pylist()]
    names = Encoders.load(out).schema.scenario.values
    prepared = rows_of(out).to_pylist()
    assert sorted(row["row"] for row in prepared) == list(range(len(raw)))
    assert [(row["time"], row["row"]) for row in prepared] == sorted((row["time"], row["row"]) for row in prepared)
    split = {row["row"]: row.get("split") for row in prepared}
    by_time = sorted(raw, key=lambda r: (r["time"], r["row"]))
    for row in prepared[::37]:
        source = raw[row["row"]]
        assert (row["user"], row["label_click"], names[row["scenario"]]) == (str(source["user_id"]), source["click"], source["scenario"])
        seen = [r for r in by_time if scenarios == "genre" or split[r["row"]] == "train"]
        earlier = [r for r in seen if r["user_id"] == source["user_id"] and r["click"] and r["time"] < source["time"]][-longest:]
        assert [movie[i] for i in row["history.item"]] == [r["movie_id"] if r["movie_id"] in movie else None for r in earlier]
        assert [names[i] for i in row["history.scenario"]] == [r["scenario"] for r in earlier]
        assert row["history.time"] == [r["time"] for r in earlier]


def test_the_columns_have_their_types(prepared_age: Path) -> None:
    types = {field.name: str(field.type) for field in rows_of(prepared_age).schema}
    ids = dict.fromkeys(["scenario", "user_id", "gender", "occupation", "zip", "movie_id", "main_genre"], "int32")
    lists = {"genres": "int32", "history.item": "int32", "history.scenario": "int32", "history.time": "timestamp[us, tz=UTC]"}
    expected = {"row": "int64", "time": "timestamp[us, tz=UTC]", "user": "string", "label_click": "int8", "age": "float", **ids}
    expected["split"] = "dictionary<values=string, indices=int8, ordered=0>"
    assert types == expected | {name: f"list<element: {kind} not null>" for name, kind in lists.items()}


def test_the_split_is_8_to_1_to_1_and_fits_train_rows_only(prepared_age: Path) -> None:
    rows, manifest = rows_of(prepared_age), json.loads((prepared_age / "manifest.json").read_text())
    assert manifest["splits"] == Counter(rows["split"].to_pylist()) == {"train": 3200, "valid": 400, "test": 400}
    train = rows.filter(pa.array([split == "train" for split in rows["split"].to_pylist()]))
    counts = pq.read_table(prepared_age / "vocab" / "movie_id.parquet")["count"].to_pylist()
    assert sorted(Counter(train["movie_id"].to_pylist()).items()) == list(enumerate(counts, 1))
    assert manifest["fit"] == {"rule": "split: train", "rows": 3200, "until": None}


def test_rows_that_share_a_number_are_refused(run: Any) -> None:
    with pytest.raises(DataError, match="column 'row' has a number twice"):
        run(log(row=[0, 0, *range(8)]), toy(split={"random": {}}))
    with pytest.raises(DataError, match="raw: column 'row' has 2 values that several rows share; every row of the log needs its own"):
        run(log(row=[*range(8), 1, 0]))


def test_values_that_only_later_days_have_are_unknown(run: Any) -> None:
    out, manifest = run(log(), toy(fit_until=date(2024, 1, 3)))  # rows 0..4
    assert pq.read_table(out / "vocab" / "item.parquet")["value"].to_pylist() == ["a", "b", "c", "d"]
    assert rows_of(out)["item"].to_pylist() == [1, 2, 3, 1, 4, 0, 1, 2, 0, 0]
    assert np.allclose(rows_of(out)["price"].to_numpy(), (np.arange(10) - 2) / np.sqrt(2))
    assert manifest["fit"] == {"rule": "days: ..2024-01-03", "rows": 5, "until": "2024-01-03"}
    assert rows_of(out)["seen.item"].to_pylist()[8:] == [[1, 3], [1, 0, 2]]  # clicked before: a, c by u and a, e, b by v


def test_without_a_rule_the_last_fifth_of_days_is_not_fitted(run: Any) -> None:
    _, manifest = run(log())
    assert manifest["fit"] == {"rule": "days: ..2024-01-05 (all but the last 20 % of days)", "rows": 9, "until": "2024-01-05"}


def test_a_day_without_rows_has_no_file_and_is_not_fitted(run: Any) -> None:
    at = [START + timedelta(days=3 * i) for i in range(10)]  # 1, 4, 7 ... January
    out, manifest = run(log(at=at), toy(fit_until=date(2024, 1, 9)))
    assert [file["day"] for file in manifest["files"]] == [str(moment.date()) for moment in at]
    assert manifest["fit"]["until"] == "2024-01-07"  # the last day that has rows: the 8th may judge a model
    data = DataConfig(path=str(out), days=DayRanges(train="..2024-01-07", valid="2024-01-08..2024-01-20", test="2024-01-21.."))
    assert [len(Catalog.open(out).files_of(data, part)) for part in ("train", "valid", "test")] == [3, 4, 3]


def test_with_a_split_only_training_rows_are_behaviours(run: Any) -> None:
    """What a history tells of a valid or test row is its label: nothing may depend on those labels."""
    dealt = {"split": {"random": {"seed": 3, "parts": [0.5, 0.3, 0.2]}}}
    out, _ = run(log(clicked=[1] * 10, who=["u"] * 10), toy(**dealt), out="one")
    rows = rows_of(out).to_pylist()
    train = [row for row in rows if row["split"] == "train"]
    assert len(train) == 5 and any(row["split"] != "train" for row in rows[:-1])
    for row in rows:
        assert row["seen.time"] == [r["time"] for r in train if r["time"] < row["time"]][-3:]
    other = log(clicked=[int(row["split"] == "train") for row in rows], who=["u"] * 10)
    same, _ = run(other, toy(**dealt), out="two")
    assert rows_of(same).drop(["label_click"]).equals(rows_of(out).drop(["label_click"]))


@pytest.mark.parametrize("scenarios", ["age", "genre"])
def test_requests_encode_to_the_prepared_rows(scenarios: str, request: pytest.FixtureRequest) -> None:
    out: Path = request.getfixturevalue(f"prepared_{scenarios}")
    encoders, asked = Encoders.load(out), pq.read_table(out / "requests.parquet")
    prepared = {row["row"]: row for row in rows_of(out).to_pylist()}
    for feature in encoders.schema.features:
        name = f"{feature.name}.item" if feature.kind == "sequence" else feature.name
        column = encoders.encode(feature.name, asked[name].to_pylist())
        rows = [c.tolist() for c in np.split(column.values, column.offsets[1:-1])] if isinstance(column, Ragged) else column.tolist()
        assert rows == [prepared[row][name] for row in asked["row"].to_pylist()]
    assert encoders.encode_scenario(asked["scenario"].to_pylist()).tolist() == [prepared[r]["scenario"] for r in asked["row"].to_pylist()]
    for row in asked.to_pylist():
        same = prepared[row["row"]]
        assert (row["time"], row["user"], row["label_click"]) == (same["time"], same["user"], same["label_click"])
        assert row["day"] == str(row["time"].date()) and row["history.time"] == same["history.time"]


def test_requests_are_held_out_and_whole(run: Any) -> None:
    at = [START + timedelta(hours=i // 4) for i in range(400)]  # requests of four rows
    many = log(
        row=list(range(400)), at=at, who=[str(i // 4 % 7) for i in range(400)], clicked=[0, 1] * 200, price=[1.0] * 400,
        scenario=["home"] * 300 + ["cart"] * 80 + ["home"] * 20, item=["a"] * 400,
    )  # fmt: skip
    out, _ = run(many, toy(requests={"per_scenario": 6}))
    asked = pq.read_table(out / "requests.parquet")
    assert Counter(asked["scenario"].to_pylist()) == {"cart": 8, "home": 8}  # two whole requests each
    assert min(asked["row"].to_pylist()) >= 360
    groups = Counter(row // 4 for row in asked["row"].to_pylist())
    assert set(groups.values()) == {4}
    assert [row // 4 for row in asked["row"].to_pylist()] == [group for group in groups for _ in range(4)]  # side by side


def test_requests_are_of_every_scenario_and_none_is_cut(run: Any) -> None:
    """A scenario that is rare, or was seen before the others only, has its requests too; one of three rows is never cut to two."""
    at = [START + timedelta(days=i // 300, minutes=i // 3) for i in range(600)]
    scenario = ["home"] * 303 + ["cart"] * 3 + ["home"] * 294
    many = {name: (log()[name].to_pylist() * 60) for name in ("clicked", "item", "price")}
    for keys in ({}, {"schema": {"request": "session"}}):
        table = log(row=list(range(600)), at=at, who=["u"] * 600, scenario=scenario, session=[i // 3 for i in range(600)], **many)
        out, _ = run(table, toy(requests={"per_scenario": 40}, **keys), out=f"out-{len(keys)}")
        rows = pq.read_table(out / "requests.parquet")
        assert [row for row, of in zip(rows["row"].to_pylist(), rows["scenario"].to_pylist(), strict=True) if of == "cart"] == [
            303,
            304,
            305,
        ]
        assert set(Counter(row // 3 for row in rows["row"].to_pylist()).values()) == {3} and min(rows["row"].to_pylist()) >= 300


def test_candidates_are_read_from_the_last_days_that_have_enough_of_each_scenario() -> None:
    days = {"1": {"a": 9, "b": 1}, "2": {"a": 5}, "3": {"a": 5, "b": 2}, "4": {"a": 5}}
    assert last_days(days, {"a": 5}, False) == ["4"] and last_days(days, {"a": 5}, True) == ["3", "4"]
    assert last_days(days, {"a": 6, "b": 2}, False) == ["3", "4"] and last_days(days, {"a": 1, "b": 3}, False) == list(days)
    assert last_days(days, {"a": 5, "c": 8}, False) == ["4"]  # c is of days that were fitted
    assert last_days({}, {"a": 5}, True) == []


def test_requests_are_rows_that_were_not_fitted(run: Any) -> None:
    many = {name: log()[name].to_pylist() * 10 for name in ("who", "scenario", "clicked", "item", "price")}
    table = log(**many, row=list(range(100)), at=[START + timedelta(hours=i) for i in range(100)])
    for until, first in ((date(2024, 1, 2), 90), (date(2024, 1, 4), 90), (None, 90), (date(2024, 1, 5), 100)):
        out, manifest = run(table, toy(fit_until=until), out=f"until-{until}")
        asked = pq.read_table(out / "requests.parquet")["row"].to_pylist()
        assert sorted(asked) == list(range(first, 100)) and not set(asked) & set(range(manifest["fit"]["rows"]))
    late = log(**many, row=list(range(100)), at=[START] * 95 + [START + timedelta(days=1)] * 5)
    out, _ = run(late, toy(fit_until=date(2024, 1, 1)), out="late")
    assert sorted(pq.read_table(out / "requests.parquet")["row"].to_pylist()) == list(range(95, 100))


@pytest.mark.parametrize("name", ["day=2000-11-25/part-00000.parquet", "requests.parquet", "schema.yaml", "vocab/movie_id.parquet"])
def test_a_damaged_folder_is_repaired_and_only_that(raw_movielens: Path, prepared_genre: Path, tmp_path: Path, name: str) -> None:
    out = Path(shutil.copytree(prepared_genre, tmp_path / "out"))
    said: list[str] = []
    content = (out / name).read_bytes()
    for damage in (None, content[:50], content[:60] + bytes([content[60] ^ 1]) + content[61:]):
        (out / name).unlink() if damage is None else (out / name).write_bytes(damage)
        prepare(DataFile.load("movielens-1m-genre"), raw_movielens, out, progress=said.append)
        assert contents(out) == contents(prepared_genre)
    assert sum(line.startswith("repairing ") and f": {out / name}: " in line for line in said) == 3
    (out / name).unlink()
    with pytest.raises(DataError, match="was prepared from other inputs"):
        prepare(DataFile.load("movielens-1m-age"), raw_movielens, out)


def test_a_folder_of_another_format_is_prepared_again(raw_movielens: Path, prepared_genre: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(prepared_genre, tmp_path / "out"))
    manifest = json.loads((out / "manifest.json").read_text())
    (out / "manifest.json").write_text(json.dumps({**manifest, "format": 1}))
    prepare(DataFile.load("movielens-1m-genre"), raw_movielens, out)
    assert contents(out) == contents(prepared_genre)


def test_twice_the_same_bytes_and_up_to_date(raw_movielens: Path, prepared_genre: Path, tmp_path: Path) -> None:
    said: list[str] = []
    first = prepare(DataFile.load("movielens-1m-genre"), raw_movielens, tmp_path / "again", progress=said.append)
    assert contents(tmp_path / "again") == contents(prepared_genre) and len(said) == 4
    assert prepare(DataFile.load("movielens-1m-genre"), raw_movielens, tmp_path / "again", progress=said.append) == first
    assert said[4:] == [f"{tmp_path / 'again'}: up to date (4,000 rows)"]


def test_another_dataset_is_replaced_only_when_asked(run: Any, tmp_path: Path) -> None:
    out, _ = run(log())
    changed = log(price=[1.0] * 10)
    with pytest.raises(DataError, match="was prepared from other inputs; choose another folder, or overwrite it"):
        run(changed)
    run(changed, overwrite=True)
    assert rows_of(out)["price"].to_pylist() == [0.0] * 10
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "raw"]


def test_a_folder_of_other_things_is_never_touched(run: Any, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    run(log(), out="out")  # empty: fine
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(DataError, match="mine: exists and is no prepared dataset"):
        run(log(), out="mine", overwrite=True)
    for content in ("{", "[1]", "\x00"):
        (tmp_path / "mine" / "manifest.json").write_text(content)
        with pytest.raises(DataError, match=r"mine/manifest\.json: damaged; remove .*mine"):
            run(log(), out="mine", overwrite=True)
    (tmp_path / "mine" / "manifest.json").write_text('{"format": 1, "files": {"dense.pt": {}}}')  # of an exported package, say
    with pytest.raises(DataError, match="mine: exists and is no prepared dataset"):
        run(log(), out="mine", overwrite=True)
    with pytest.raises(DataError, match="is a file"):
        run(log(), out="mine/thesis.txt")


def test_a_run_that_fails_or_is_killed_leaves_nothing(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    killed = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True, check=True)
    leftover, running = (tmp_path / f".out.tmp-{platform.node()}-{pid}" for pid in (int(killed.stdout), os.getppid()))
    for folder in (leftover, running):
        (folder / "day=2024-01-01").mkdir(parents=True)
    monkeypatch.setattr(stream, "day_slices", lambda days: (_ for _ in ()).throw(OSError(errno.ENOSPC, "no space")))
    with pytest.raises(DataError, match="the disk is full; make room and run swrec prepare again, it goes on where it stopped"):
        run(log())
    assert sorted(path.name for path in tmp_path.iterdir()) == [".out.partial", running.name, "raw"]
    monkeypatch.undo()
    out, _ = run(log())
    assert len(rows_of(out)) == 10 and not (tmp_path / ".out.partial").exists()


def test_a_large_day_has_several_row_groups(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, _ = run(log(at=[START] * 10), out="whole")
    monkeypatch.setattr(stored, "GROUP_ROWS", 4)
    parts, manifest = run(log(at=[START] * 10), out="parts")
    assert manifest["files"][0]["row_groups"] == 3 and rows_of(parts).equals(rows_of(whole))


def test_weights_requests_and_unseen_scenarios_are_kept(run: Any) -> None:
    changes = {"weight": "w", "request": "session", "scenario": {"values": ["home"], "unseen": "fallback"}}
    out, manifest = run(log(w=[0.5] * 10, session=[f"s{i // 2}" for i in range(10)]), toy(schema=changes))
    rows = rows_of(out)
    assert rows["weight"].to_pylist() == [0.5] * 10 and rows["request"].to_pylist()[:3] == ["s0", "s0", "s1"]
    assert rows["scenario"].to_pylist()[:3] == [0, 0, 1]
    assert manifest["scenarios"]["2024-01-02"]["(unseen)"] == {"rows": 1, "positives": {"click": 1}}


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"clicked": [2] + [0] * 9}, "label column 'clicked' has 1 values that are neither 0 nor 1"),
        ({"clicked": [None] * 2 + [0] * 8}, "label column 'clicked' has 2 values that are neither 0 nor 1"),
        ({"clicked": ["yes"] * 10}, "label column 'clicked' is string, expected 0 and 1"),
        ({"price": None, "prices": [1.0] * 10}, r"column 'price' \(feature price\) is missing; did you mean prices"),
        ({"price": ["cheap"] * 10}, r"column 'price' is string, expected numbers \(feature 'price'\)"),
        ({"who": [None] + ["u"] * 9}, r"column 'who' \(user\) has 1 missing values"),
        ({"scenario": [1] * 10}, "column 'scenario' is int64, expected string"),
        ({"at": list(range(10))}, "column 'at' has times on 1970-01-01, before 1990-01-01; is its unit right"),
        ({"at": ["noon"] * 10}, "column 'at' is string, expected timestamp, or int64 microseconds since 1970"),
    ],
)
def test_a_table_that_is_not_what_the_schema_says_is_refused(run: Any, tmp_path: Path, columns: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=said):
        run(log(**columns))
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


@pytest.mark.parametrize("column", ["row", "at"])
def test_a_row_without_number_or_time_is_refused_under_a_split_too(run: Any, column: str) -> None:
    values = [*log()[column].to_pylist()[:9], None]
    with pytest.raises(DataError, match=rf"column '{column}' \(\w+\) has 1 missing values; every row needs one"):
        run(log(**{"row": None, column: values}), toy(split={"random": {}}))


def test_a_scenario_that_the_schema_lacks_is_named_before_fitting(run: Any) -> None:
    said: list[str] = []
    known = {"schema": {"scenario": {"column": "scenario", "values": ["home"]}}}
    with pytest.raises(DataError, match=r"raw: column 'scenario' .* is 'cart' in 2 rows; known: home; add it"):
        run(log(), toy(**known), progress=said.append)
    assert not any("fitting" in line for line in said)
    known["schema"]["scenario"]["unseen"] = "fallback"
    out, _ = run(log(), toy(**known))
    assert Counter(rows_of(out)["scenario"].to_pylist()) == {0: 8, 1: 2}


def test_it_is_said_when_no_rows_are_left_to_judge_on(run: Any) -> None:
    said: list[str] = []
    out, _ = run(log(), toy(fit_until=date(2024, 2, 1)), progress=said.append)
    assert "days: ..2024-02-01: no rows are left to judge a model on, until later days are added" in said
    assert pq.read_metadata(out / "requests.parquet").num_rows == 0


def test_nothing_to_prepare_or_to_fit_is_an_error(run: Any) -> None:
    with pytest.raises(DataError, match="the table is empty"):
        run(log().slice(0, 0))
    with pytest.raises(DataError, match=r"no row to fit vocabularies on \(days: \.\.2023-12-31; days are 2024-01-01\.\.2024-01-06\)"):
        run(log(), toy(fit_until=date(2023, 12, 31)))
    with pytest.raises(SchemaError, match="item 'tags' is a bag"):
        tags = {"name": "tags", "kind": "bag", "side": "item", "encoder": "vocab"}
        features = [tags, {"name": "seen", "kind": "sequence", "side": "user", "item": "tags"}]
        run(log(tags=[["x"]] * 10), toy(schema={"features": features}))


def test_a_raw_log_without_ratings_is_an_error(raw_movielens: Path, tmp_path: Path) -> None:
    options = MovieLensOptions(scenarios="age")
    whole = rating_log(tuple(f.path for f in MOVIELENS_1M.locate(raw_movielens, tmp_path, options)), options)
    names = {"movie_id": "item_id", "zip": "zip_code", "main_genre": "genre"}
    log = whole.select(["user_id", "movie_id", "rating", "time", "age", "gender", "occupation", "zip", "main_genre"])
    pq.write_table(log.rename_columns([names.get(name, name) for name in log.column_names]).slice(0, 0), tmp_path / "log.parquet")
    for name in ("movielens-1m-age", "movielens-1m-genre"):
        with pytest.raises(DataError, match="the table is empty"):
            prepare(DataFile.load(name), tmp_path / "log.parquet", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_data_files_are_strict_and_found_by_name(tmp_path: Path) -> None:
    assert DataFile.load("movielens-1m") == DataFile.load("movielens_1m_age") == DataFile.load("movielens-1m-age")
    with pytest.raises(DataError, match="movielens-2m: neither a known dataset nor a data file; did you mean movielens-1m"):
        DataFile.load("movielens-2m")
    path = tmp_path / "mine.yaml"
    path.write_text("source: movielens-1m\nsplits: null\nschema: {name: x}\n")
    with pytest.raises(ConfigError, match=r"mine\.yaml: "):
        DataFile.load(path)
    with pytest.raises(ConfigError, match=r"options: scenarios: .*'age' or 'genre'.*not 'gender'"):
        toy(options={"scenarios": "gender"}).parsed_options()
    with pytest.raises(ValueError, match="fit_until is for data without a split column"):
        toy(split={"random": {}}, fit_until="2024-01-01")
