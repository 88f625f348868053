"""The command line as a user types it: the whole way through real processes, and every mistake answered in one line."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from runs import DAYS, arrays, config_of, environment, history_of, metrics_of_run, predictions, process, run_file
from tiny_world import wait_for

from swrec_prod.cli import app, main
from swrec_prod.datasets import DATASETS
from swrec_prod.datasets.movielens import PARQUET
from swrec_prod.train.run import train

FEW = ["user_id", "movie_id", "genres"]
COMMANDS = [command.callback.__name__ for command in app.registered_commands if command.callback]


@dataclass
class Told:
    """What a command said. code: the exit code."""

    code: Any
    out: str
    err: str


def swrec(*words: Any) -> Told:
    """The command in this process: as quick as a function, with the exit code and both streams of the command."""
    code: Any = 0
    argv = ["swrec", *map(str, words)]
    with patch.object(sys, "argv", argv), redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        try:
            main()
        except SystemExit as end:
            code = end.code
    return Told(code, out.getvalue(), err.getvalue())


def refused(told: Told, message: str) -> None:
    """Exit code 2 and one line on stderr, `ErrorClass: ...`, with `message` in it; nothing else."""
    assert (told.code, told.out) == (2, ""), told
    lines = told.err.splitlines()
    assert len(lines) == 1 and lines[0].partition(": ")[0].endswith("Error"), told.err
    assert message in lines[0], told.err


# The whole way


@pytest.fixture(scope="module")
def way(raw_movielens: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """FOLDER with data, run, few (a run on some features) and models/{mscan,small,few}/1;
    the first of each by a real process.
    """
    folder = tmp_path_factory.mktemp("way")
    command("prepare", "movielens_1m_genre", "--raw", raw_movielens, "--out", folder / "data")
    run = run_file(folder, config_of(folder / "data", "mscan", more={"debias": {"c": 0.25}}))
    command("train", run, "train.epochs=1", "--out", folder / "run")
    command("export", folder / "run", "--to", folder / "models" / "mscan")
    data = {"path": str(folder / "data"), "split": "days", "days": DAYS, "features": FEW}
    train(config_of(folder / "data", more={"data": data}, epochs=1), folder / "few")
    for words in (
        ("few", "--to", folder / "models" / "few"),
        ("run", "--to", folder / "models" / "small", "--quantize", "int8"),
    ):
        assert swrec("export", folder / words[0], *words[1:]).code == 0
    return folder


def command(*words: Any) -> str:
    done = process("-m", "swrec_prod.cli", *words)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr and "Warning" not in done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def target(way: Path) -> Iterator[str]:
    """host:port of `swrec serve`."""
    serve = ("serve", "--models", str(way / "models"), "--port", "0", "--port-file", str(way / "port"))
    words = [sys.executable, "-m", "swrec_prod.cli", *serve]
    with subprocess.Popen(words, env=environment(), text=True, stdout=subprocess.DEVNULL) as server:
        yield wait_for(way / "port", server)
        server.terminate()


def test_what_is_served_is_what_was_predicted(way: Path, target: str) -> None:
    expected = way / "run" / "predictions.parquet"
    words = ("score", way / "data", "--target", target, "--model", "mscan", "--expect", expected, "--json")
    told = command(*words, "--out", way / "served.parquet")
    summary = json.loads(told)
    assert summary["max_abs_diff"] <= 1e-5 and summary["rows"] > 100 and 0 < summary["requests"] <= summary["rows"]
    served, offline = arrays(pq.read_table(way / "served.parquet")), predictions(way / "run")
    at = np.searchsorted(offline["row"], served["row"])
    for name in ("prob_click", "score_click", "interest_logit", "scenario_logit"):
        np.testing.assert_allclose(served[name], offline[name][at], atol=1e-5)
    (way / "served.json").write_text(told)
    assert "wrote" in command("report", way / "run", "--served", way / "served.json", "--out", way / "page.html")
    assert "</html>" in (way / "page.html").read_text()


def test_coarse_tables_have_a_bound_of_their_own(way: Path, target: str) -> None:
    words = (
        "score",
        way / "data",
        "--target",
        target,
        "--model",
        "small",
        "--expect",
        way / "run" / "predictions.parquet",
    )
    told = swrec(*words)
    assert (
        told.code == 2
        and told.err.startswith("DataError: served scores differ from ")
        and "allowed are 1e-05" in told.err
    )
    told = swrec(*words, "--tolerance", "0.05", "--json")
    assert told.code == 0 and 1e-5 < json.loads(told.out)["max_abs_diff"] < 0.05


def test_score_sends_as_many_rows_as_asked(way: Path, target: str) -> None:
    words = (
        "score",
        way / "data",
        "--target",
        target,
        "--model",
        "mscan",
        "--rows",
        "7",
        "--json",
        "--out",
        way / "some.parquet",
    )
    summary = json.loads(swrec(*words).out)
    assert 7 <= summary["rows"] == pq.read_metadata(way / "some.parquet").num_rows and summary["requests"] > 1
    refused(swrec(*words[:-1], way / "some.parquet" / "inside.parquet"), "some.parquet")
    assert [path.name for path in way.glob("*some*")] == ["some.parquet"]
    refused(swrec("score", way / "data", "--target", target), "few, mscan, small")
    refused(swrec("score", way / "data", "--target", target, "--model", "mscam"), "did you mean mscan?")


def test_evaluate_prints_what_training_found(way: Path, tmp_path: Path) -> None:
    told = swrec("evaluate", way / "run", "--json", "--predictions", tmp_path / "again.parquet")
    assert told.code == 0 and json.loads(told.out)["overall"]["auc"] == pytest.approx(
        metrics_of_run(way / "run")["overall"]["auc"]
    )
    again = arrays(pq.read_table(tmp_path / "again.parquet"))
    np.testing.assert_allclose(again["score_click"], predictions(way / "run")["score_click"], atol=1e-6)
    told = swrec("evaluate", way / "run", "--split", "valid")
    assert told.code == 0 and "suspense" in told.out and "AUC" in told.out


def test_the_run_file_is_resolved_in_the_run_directory(way: Path) -> None:
    resolved = yaml.safe_load((way / "run" / "run.yaml").read_text())
    assert resolved["train"]["epochs"] == 1 and len(history_of(way / "run")) == 1
    assert resolved["debias"] == {"alpha": 0.1, "form": "joint", "c": 0.25} and resolved["export"]["quantize"] == "none"


def test_export_counts_versions_up_and_publishes_none_twice(way: Path) -> None:
    refused(swrec("export", way / "run", "--to", way / "models" / "mscan" / "1"), "1")
    refused(swrec("export", way / "run", "--to", way / "models" / "mscan", "--quantize", "int9"), "did you mean int8?")
    assert [path.name for path in (way / "models" / "mscan").iterdir()] == ["1"]


def test_a_run_that_has_not_finished_is_not_exported(way: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(way / "few", tmp_path / "few"))
    (run / "metrics.json").unlink()
    refused(
        swrec("export", run, "--to", tmp_path / "m"),
        "few: training has not finished: no metrics.json; run swrec train again",
    )


def test_a_damaged_package_is_not_served(way: Path, tmp_path: Path) -> None:
    shutil.copytree(way / "models" / "mscan", tmp_path / "mscan")
    schema = tmp_path / "mscan" / "1" / "schema.yaml"
    schema.write_text(schema.read_text().replace("dim: 16", "dim: 32", 1) + "\n")
    refused(swrec("serve", "--models", tmp_path, "--port", "0"), "schema.yaml")


def test_a_model_of_some_features_is_asked_with_those(way: Path, target: str) -> None:
    words = (
        "score",
        way / "data",
        "--target",
        target,
        "--model",
        "few",
        "--expect",
        way / "few" / "predictions.parquet",
    )
    refused(swrec(*words), "unknown feature 'gender'")
    told = swrec(*words, *(word for name in FEW for word in ("--feature", name)), "--json")
    assert told.code == 0 and json.loads(told.out)["max_abs_diff"] <= 1e-5
    refused(swrec(*words, "--feature", "film"), "no feature 'film'")


# Help


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_helps_with_an_example(name: str) -> None:
    told = swrec(name, "--help")
    assert told.code == 0 and f"swrec {name}" in told.out.partition("Example")[2]


def test_help_lists_every_command() -> None:
    told = swrec("--help")
    assert told.code == 0 and all(name in told.out for name in COMMANDS)
    assert {name for name in COMMANDS} >= {
        "datasets",
        "prepare",
        "train",
        "evaluate",
        "compare",
        "report",
        "export",
        "serve",
        "score",
        "doctor",
    }


def test_datasets_are_listed_for_people_and_programs() -> None:
    known, listed = json.loads(swrec("datasets", "--json").out), swrec("datasets").out
    assert [entry["name"] for entry in known] == list(DATASETS)
    for entry, dataset in zip(known, DATASETS.values(), strict=True):
        assert set(entry) == {"name", "summary", "rows", "size", "scenarios", "licence", "get", "data_file", "options"}
        assert all(
            str(entry[key]) in listed for key in ("name", "summary", "size", "scenarios", "licence", "get", "data_file")
        )
        assert (Path(__file__).resolve().parents[1] / entry["data_file"]).is_file()
        assert entry["rows"] == (dataset.rows or None) and entry["options"] == list(dataset.options.model_fields)
    assert (
        "1,000,209 rows; download: 6 MB" in listed and "rows and size: yours" in listed and "\n    0 rows" not in listed
    )


# Mistakes


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
        (("train", "{run}", "--out", "{noise}/out"), "NotADirectoryError: {noise}/out: Not a directory"),
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
        (("serve", "--models", "{empty}/out"), "no such folder; expected REPO"),
        (("serve", "--models", "{empty}"), "{empty}"),
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
    pq.write_table(wide_table(), tmp_path / "raw.parquet")
    told = swrec(
        "prepare", "movielens_1m_genre", "--raw", tmp_path / "raw.parquet", "--out", tmp_path / "good", "--json"
    )
    assert told.code == 0 and json.loads(told.out)["rows"] == 40, "the log is right before the change"
    assert sorted(day.name for day in (tmp_path / "good").glob("day=*")) == ["day=2000-11-24", "day=2000-11-25"]
    pq.write_table(change(wide_table()), tmp_path / "raw.parquet")
    refused(
        swrec("prepare", "movielens_1m_genre", "--raw", tmp_path / "raw.parquet", "--out", tmp_path / "out", "--json"),
        message,
    )
    assert {path.name for path in tmp_path.iterdir()} == {"raw.parquet", "good"}


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


def test_a_mistake_ends_a_real_process_with_two_and_one_line(tmp_path: Path) -> None:
    ended = process("-m", "swrec_prod.cli", "train", tmp_path / "none.yaml", "--out", tmp_path / "run")
    assert ended.returncode == 2 and ended.stdout == ""
    assert ended.stderr.startswith("ConfigError: ") and ended.stderr.count("\n") == 1
