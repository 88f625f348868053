"""Prepared MovieLens-1M: rows, behaviours and requests are those of the raw log; a damaged folder is repaired."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dated_log import contents, prepared_rows

from swrec_prod.datasets.movielens import MOVIELENS_1M, MovieLensOptions, rating_log
from swrec_prod.encoding.encoders import Encoders
from swrec_prod.encoding.pack import Ragged
from swrec_prod.errors import DataError
from swrec_prod.prepare.data_file import DataFile
from swrec_prod.prepare.run import prepare

pytestmark = pytest.mark.engine


def raw_rows(raw: Path, scenarios: str) -> list[dict[str, Any]]:
    """The standard table by stable row id."""
    options = MovieLensOptions.model_validate({"scenarios": scenarios})
    return rating_log(tuple(f.path for f in MOVIELENS_1M.locate(raw, raw, options)), options).to_pylist()


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
        assert set(pq.ParquetFile(path).read(["time"])["time"].cast(pa.date32()).to_pylist()) == {
            date.fromisoformat(file["day"])
        }
    assert manifest["fingerprint"] == Encoders.load(prepared_genre).fingerprint()


@pytest.mark.parametrize("scenarios", ["age", "genre"])
def test_rows_and_behaviours_are_those_of_the_raw_log(
    scenarios: str, request: pytest.FixtureRequest, raw_movielens: Path
) -> None:
    out: Path = request.getfixturevalue(f"prepared_{scenarios}")
    raw = raw_rows(raw_movielens, scenarios)
    longest = 50 if scenarios == "age" else 20
    movie = [None, *pq.read_table(out / "vocab" / "movie_id.parquet")["value"].to_pylist()]
    names = Encoders.load(out).schema.scenario.values
    prepared = prepared_rows(out).to_pylist()
    assert sorted(row["row"] for row in prepared) == list(range(len(raw)))
    assert [(row["time"], row["row"]) for row in prepared] == sorted((row["time"], row["row"]) for row in prepared)
    split = {row["row"]: row.get("split") for row in prepared}
    by_time = sorted(raw, key=lambda r: (r["time"], r["row"]))
    for row in prepared[::37]:
        source = raw[row["row"]]
        assert (row["user"], row["label_click"], names[row["scenario"]]) == (
            str(source["user_id"]),
            source["click"],
            source["scenario"],
        )
        seen = [r for r in by_time if scenarios == "genre" or split[r["row"]] == "train"]
        earlier = [r for r in seen if r["user_id"] == source["user_id"] and r["click"] and r["time"] < source["time"]][
            -longest:
        ]
        assert [movie[i] for i in row["history.item"]] == [
            r["movie_id"] if r["movie_id"] in movie else None for r in earlier
        ]
        assert [names[i] for i in row["history.scenario"]] == [r["scenario"] for r in earlier]
        assert row["history.time"] == [r["time"] for r in earlier]


def test_the_columns_have_their_types(prepared_age: Path) -> None:
    types = {field.name: str(field.type) for field in prepared_rows(prepared_age).schema}
    ids = dict.fromkeys(["scenario", "user_id", "gender", "occupation", "zip", "movie_id", "main_genre"], "int32")
    lists = {
        "genres": "int32",
        "history.item": "int32",
        "history.scenario": "int32",
        "history.time": "timestamp[us, tz=UTC]",
    }
    expected = {
        "row": "int64",
        "raw:item": "int64",
        "time": "timestamp[us, tz=UTC]",
        "user": "string",
        "label_click": "int8",
        "age": "float",
        **ids,
    }
    expected["split"] = "dictionary<values=string, indices=int8, ordered=0>"
    assert types == expected | {name: f"list<element: {kind} not null>" for name, kind in lists.items()}


def test_the_split_is_8_to_1_to_1_and_fits_train_rows_only(prepared_age: Path) -> None:
    rows, manifest = prepared_rows(prepared_age), json.loads((prepared_age / "manifest.json").read_text())
    assert manifest["splits"] == Counter(rows["split"].to_pylist()) == {"train": 3200, "valid": 400, "test": 400}
    train = rows.filter(pa.array([split == "train" for split in rows["split"].to_pylist()]))
    counts = pq.read_table(prepared_age / "vocab" / "movie_id.parquet")["count"].to_pylist()
    assert sorted(Counter(train["movie_id"].to_pylist()).items()) == list(enumerate(counts, 1))
    assert manifest["fit"] == {"rule": "split: train", "rows": 3200, "until": None}


@pytest.mark.parametrize("scenarios", ["age", "genre"])
def test_requests_encode_to_the_prepared_rows(scenarios: str, request: pytest.FixtureRequest) -> None:
    out: Path = request.getfixturevalue(f"prepared_{scenarios}")
    encoders, asked = Encoders.load(out), pq.read_table(out / "requests.parquet")
    prepared = {row["row"]: row for row in prepared_rows(out).to_pylist()}
    for feature in encoders.schema.features:
        name = f"{feature.name}.item" if feature.kind == "sequence" else feature.name
        column = encoders.encode(feature.name, asked[name].to_pylist())
        rows = (
            [c.tolist() for c in np.split(column.values, column.offsets[1:-1])]
            if isinstance(column, Ragged)
            else column.tolist()
        )
        assert rows == [prepared[row][name] for row in asked["row"].to_pylist()]
    assert encoders.encode_scenario(asked["scenario"].to_pylist()).tolist() == [
        prepared[r]["scenario"] for r in asked["row"].to_pylist()
    ]
    for row in asked.to_pylist():
        same = prepared[row["row"]]
        assert (row["time"], row["user"], row["label_click"]) == (same["time"], same["user"], same["label_click"])
        assert row["day"] == str(row["time"].date()) and row["history.time"] == same["history.time"]


@pytest.mark.parametrize(
    "name", ["day=2000-11-25/part-00000.parquet", "requests.parquet", "schema.yaml", "vocab/movie_id.parquet"]
)
def test_a_damaged_folder_is_repaired_and_only_that(
    raw_movielens: Path, prepared_genre: Path, tmp_path: Path, name: str
) -> None:
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


def test_a_folder_of_another_format_is_prepared_again(
    raw_movielens: Path, prepared_genre: Path, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(prepared_genre, tmp_path / "out"))
    manifest = json.loads((out / "manifest.json").read_text())
    (out / "manifest.json").write_text(json.dumps({**manifest, "format": 1}))
    prepare(DataFile.load("movielens-1m-genre"), raw_movielens, out)
    assert contents(out) == contents(prepared_genre)


def test_twice_the_same_bytes_and_up_to_date(raw_movielens: Path, prepared_genre: Path, tmp_path: Path) -> None:
    said: list[str] = []
    first = prepare(DataFile.load("movielens-1m-genre"), raw_movielens, tmp_path / "again", progress=said.append)
    assert contents(tmp_path / "again") == contents(prepared_genre) and len(said) == 4
    assert (
        prepare(DataFile.load("movielens-1m-genre"), raw_movielens, tmp_path / "again", progress=said.append) == first
    )
    assert said[4:] == [f"{tmp_path / 'again'}: up to date (4,000 rows)"]


def test_a_raw_log_without_ratings_is_an_error(raw_movielens: Path, tmp_path: Path) -> None:
    options = MovieLensOptions(scenarios="age")
    whole = rating_log(tuple(f.path for f in MOVIELENS_1M.locate(raw_movielens, tmp_path, options)), options)
    names = {"movie_id": "item_id", "zip": "zip_code", "main_genre": "genre"}
    log = whole.select(["user_id", "movie_id", "rating", "time", "age", "gender", "occupation", "zip", "main_genre"])
    pq.write_table(
        log.rename_columns([names.get(name, name) for name in log.column_names]).slice(0, 0), tmp_path / "log.parquet"
    )
    for name in ("movielens-1m-age", "movielens-1m-genre"):
        with pytest.raises(DataError, match="the table is empty"):
            prepare(DataFile.load(name), tmp_path / "log.parquet", tmp_path / "out")
    assert not (tmp_path / "out").exists()
