"""Every mistake on the command line is answered in one line, and leaves nothing behind."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from commands import Outcome, refused, swrec
from runs import config_of, process, run_file

from swrec_prod.datasets.movielens import PARQUET

pytestmark = pytest.mark.engine


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("train.epoch=1",), "train.epoch: unknown key; did you mean epochs?"),
        (("trian.epochs=1",), "trian: unknown key; did you mean train?"),
        (("train.epochs",), "'train.epochs': an override is key=value, for example train.epochs=1"),
        (("train.epochs=[",), "'train.epochs=[': the value is not valid YAML"),
        (("train.epochs=0",), "train.epochs: input should be greater than or equal to 1, not 0"),
        (("train.epochs=many",), "train.epochs: input should be a valid integer"),
        (("train=3",), "train: "),
        (("model.name=mscam",), "model.name: unknown model 'mscam'; did you mean mscan?"),
        (("model.bottm=[4]",), "model.bottm: unknown option of shared_bottom; did you mean bottom?"),
        (("model.bottom=4",), "model.bottom: input should be a list, not 4"),
        (("data.path=nowhere",), "nowhere: not a prepared folder: no manifest.json; run swrec prepare"),
        (("data.features=[user_id,film]",), "no feature 'film'; "),
        (("data.features=[age]",), "a model needs an id or bag feature"),
        (("data.split=random",), "data.split is random, but the folder has no split column"),
        (
            ("data.days.test=2024-01-01..",),
            "no day in data.days.test 2024-01-01..; available: 2000-11-24..2000-12-05 (12 days)",
        ),
        (("data.days.valid=2000-12-02",), "days.train ..2000-12-02 must end before days.valid 2000-12-02 begins"),
        (("data.days={train: ..2000-12-01, valid: 2000-12-02, eval: 2000-12-03}",), "data.days.eval: unknown key; did"),
        (("data.days.valid=today",), "data.days.valid: 'today' is not a range of days such as"),
    ],
)
def test_a_wrong_run_is_refused_and_leaves_nothing(
    words: tuple[str, ...], message: str, prepared_genre: Path, tmp_path: Path
) -> None:
    file = run_file(tmp_path, config_of(prepared_genre))
    refused(swrec("train", file, *words, "--out", tmp_path / "run"), message)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("train", "{empty}/none.yaml", "--out", "{empty}/out"), "none.yaml: no such file"),
        (("train", "{empty}", "--out", "{empty}/out"), "cannot be read: Is a directory"),
        (("train", "{noise}", "--out", "{empty}/out"), "not valid YAML"),
        (
            ("train", "{run}", "--out", "{noise}/out"),
            "{noise}/out/checkpoints: cannot hold checkpoints: {noise} is a file; choose",
        ),
        (("train", "{run}", "--out", "{noise}"), "{noise}: is a file; choose another --out"),
        (("evaluate", "{empty}"), "not a run directory: no run.yaml; `swrec train RUN.yaml --out"),
        (("evaluate", "{empty}", "--split", "tset"), "--split tset: not one of train, valid, test"),
        (
            ("compare", "{empty}", "--out", "{empty}/out"),
            "not a run directory: no run.yaml; `swrec train RUN.yaml --out",
        ),
        (("compare", "x=", "--out", "{empty}/out"), "'x=': give RUN_DIR, or NAME=RUN_DIR"),
        (("report", "{empty}", "--out", "{empty}/page.html"), "not a run directory"),
        (("export", "{empty}", "--to", "{empty}/out/m"), "not a run directory"),
        pytest.param(("serve", "--models", "{empty}/out"), "no such folder; expected REPO", marks=pytest.mark.process),
        pytest.param(("serve", "--models", "{empty}"), "{empty}", marks=pytest.mark.process),
        (("score", "{empty}"), "requests.parquet: no such file; swrec prepare writes it"),
        (("score", "{data}", "--target", "127.0.0.1:1"), "no server at 127.0.0.1:1"),
        (
            ("score", "{data}", "--expect", "{empty}/p.parquet"),
            "p.parquet: no such file; swrec train and swrec evaluate write predictions",
        ),
        (("score", "{data}", "--expect", "{noise}"), "not a Parquet file"),
        (("prepare", "movielens-2m", "--out", "{empty}/out"), "did you mean movielens-1m?"),
        (("prepare", "movielens-1m", "--raw", "{empty}", "--out", "{empty}/out"), "no MovieLens-1M here; expected"),
        (
            ("prepare", "movielens-1m", "--raw", "{empty}/none", "--out", "{empty}/out"),
            "{empty}/none: no such file or folder",
        ),
        (("prepare", "{noise}", "--out", "{empty}/out"), "not valid YAML"),
    ],
)
def test_a_wrong_path_is_named_and_nothing_is_written(
    words: tuple[str, ...], message: str, prepared_genre: Path, tmp_path: Path
) -> None:
    noise, empty = tmp_path / "noise.bin", tmp_path / "empty"
    noise.write_bytes(bytes([0x80, 0xFF]) * 50)
    empty.mkdir()
    places = {
        "empty": empty,
        "noise": noise,
        "data": prepared_genre,
        "run": run_file(tmp_path, config_of(prepared_genre)),
    }
    refused(swrec(*(word.format(**places) for word in words)), message.format(**places))
    assert not list(empty.iterdir())


@pytest.mark.parametrize(
    ("place", "change", "message"),
    [
        ("features.0", {"encodr": "vocab"}, "schema.features.0.encodr: unknown key; did you mean encoder?"),
        (
            "features.0",
            {"encoder": {"kind": "vocab", "min_cout": 2}},
            "encoder.min_cout: unknown key; did you mean min_c",
        ),
        ("features.0", {"encoder": "vocb"}, "features.0.encoder.kind: input should be 'vocab', 'hash'"),
        ("features.0", {"shared_with": "item"}, "'user_id' has an encoder of its own, or one by shared_with, not both"),
        (
            "features.1",
            {"fields": [{"name": "user_id", "colum": "x"}]},
            "features.1.fields.0.colum: unknown key; did you",
        ),
        ("features.1", {"where": {"tab": {"a": 1}}}, "schema.features.1.where: input should be a valid string"),
        ("scenario", {"values": [0, 1]}, "scenario.values.0: 0 is no text; write it in quotes"),
        ("scenario", {"colum": "tab"}, "schema.scenario.colum: unknown key; did you mean column?"),
        ("labels.0", {"abov": 3}, "schema.labels.0.abov: unknown key; did you mean above?"),
        ("labels.0", {"above": 3, "equals": 5}, "label 'click' has above and equals; give one rule"),
        ("labels.0", {"equals": [4, 5]}, "schema.labels.0.equals: [4, 5] is not one value; for several say in"),
        ("", {"label": []}, "schema.label: unknown key; did you mean labels?"),
        ("", {"derived": ["hour"]}, "schema.derived.0: input should be keys and values, not 'hour'"),
    ],
)
def test_a_mistake_inside_a_data_file_is_told_with_its_place(
    place: str, change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    features = [
        {"name": "user_id", "kind": "id", "side": "user", "encoder": "vocab"},
        {"name": "seen", "kind": "sequence", "side": "user", "item": "user_id"},
    ]
    schema: Any = {"name": "x", "time": "t", "user": "u", "features": features, "scenario": {}}
    schema["labels"] = [{"name": "click", "column": "clicked"}]
    record = schema
    for key in place.split(".") if place else ():
        record = record[int(key) if key.isdigit() else key]
    record |= change
    file = tmp_path / "data.yaml"
    file.write_text(yaml.safe_dump({"source": "parquet", "options": {"log": "*.parquet"}, "schema": schema}))
    refused(swrec("prepare", file, "--raw", tmp_path, "--out", tmp_path / "out"), message)
    assert [path.name for path in tmp_path.iterdir()] == ["data.yaml"]


def wide_table(rows: int = 40) -> pa.Table:
    """A raw log of MovieLens-1M as one Parquet file."""
    draw = np.random.default_rng(0)
    columns: dict[str, Any] = {
        name: draw.integers(1, 6, rows) for name in ("user_id", "item_id", "rating", "age", "occupation")
    }
    columns |= {
        "time": 975_024_000 + 3600 * np.arange(rows),
        "gender": ["M"] * rows,
        "zip_code": ["1"] * rows,
        "genre": ["Drama"] * rows,
    }
    return pa.table({name: columns[name] for name in PARQUET})


def renamed(table: pa.Table) -> pa.Table:
    return table.rename_columns(["user" if name == "user_id" else name for name in table.column_names])


def with_words(table: pa.Table) -> pa.Table:
    return table.set_column(table.column_names.index("rating"), "rating", pa.array(["good"] * len(table)))


def prepare_wide(raw: Path, out: Path) -> Outcome:
    return swrec("prepare", "movielens_1m_genre", "--raw", raw, "--out", out, "--json")


def test_a_raw_log_of_one_file_is_prepared(tmp_path: Path) -> None:
    pq.write_table(wide_table(), tmp_path / "raw.parquet")
    outcome = prepare_wide(tmp_path / "raw.parquet", tmp_path / "out")
    assert outcome.code == 0 and json.loads(outcome.out)["rows"] == 40
    assert sorted(day.name for day in (tmp_path / "out").glob("day=*")) == ["day=2000-11-24", "day=2000-11-25"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (renamed, "raw.parquet: column 'user_id' is missing"),
        (lambda table: table.drop_columns(["zip_code"]), "raw.parquet: column 'zip_code' is missing"),
        (with_words, "raw.parquet: column 'rating'"),
        (lambda table: table.slice(0, 0), "the table is empty"),
    ],
)
def test_a_wrong_raw_log_is_refused_and_leaves_nothing(
    change: Callable[[pa.Table], pa.Table], message: str, tmp_path: Path
) -> None:
    pq.write_table(change(wide_table()), tmp_path / "raw.parquet")
    refused(prepare_wide(tmp_path / "raw.parquet", tmp_path / "out"), message)
    assert [path.name for path in tmp_path.iterdir()] == ["raw.parquet"]


def test_a_label_that_is_no_label_is_refused(raw_movielens: Path, tmp_path: Path) -> None:
    folder = Path(__file__).resolve().parents[1] / "configs" / "data"
    data = yaml.safe_load((folder / "movielens_1m_genre.yaml").read_text())
    data["schema"]["labels"] = [{"name": "click", "column": "rating"}]
    (tmp_path / "data.yaml").write_text(yaml.safe_dump(data))
    words = ("prepare", tmp_path / "data.yaml", "--raw", raw_movielens, "--out", tmp_path / "out", "--json")
    refused(swrec(*words), "label column 'rating' has 3425 values that are neither 0 nor 1")
    assert [path.name for path in tmp_path.iterdir()] == ["data.yaml"]


def test_a_damaged_day_is_found_before_training(prepared_genre: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(prepared_genre, tmp_path / "data"))
    part = data / "day=2000-11-25" / "part-00000.parquet"
    part.write_bytes(part.read_bytes()[:1000])
    refused(swrec("train", run_file(tmp_path, config_of(data)), "--out", tmp_path / "run"), "1000 bytes, expected")
    part.unlink()
    refused(
        swrec("train", run_file(tmp_path, config_of(data)), "--out", tmp_path / "run"),
        "missing, but listed in manifest.json",
    )
    assert not (tmp_path / "run").exists()


def test_a_part_without_rows_is_refused(prepared_age: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(prepared_age, tmp_path / "data"))
    manifest = json.loads((data / "manifest.json").read_text())
    for entry in manifest["files"]:
        table = pq.read_table(data / entry["path"], partitioning=None)
        only = pa.array(["train"] * len(table)).dictionary_encode().cast(table.schema.field("split").type)
        pq.write_table(table.set_column(table.column_names.index("split"), "split", only), data / entry["path"])
        entry["bytes"] = (data / entry["path"]).stat().st_size
    (data / "manifest.json").write_text(json.dumps(manifest))
    refused(swrec("train", run_file(tmp_path, config_of(data)), "--out", tmp_path / "run"), "valid has no rows")
    assert not (tmp_path / "run").exists()


@pytest.mark.process
def test_a_mistake_ends_a_real_process_with_two_and_one_line(tmp_path: Path) -> None:
    ended = process("-m", "swrec_prod.cli", "train", tmp_path / "none.yaml", "--out", tmp_path / "run")
    assert ended.returncode == 2 and ended.stdout == ""
    assert ended.stderr.startswith("ConfigError: ") and ended.stderr.count("\n") == 1
