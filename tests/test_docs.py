"""The documentation is true: its example runs, its commands and links exist, its tables say what the code says."""

from __future__ import annotations

import importlib
import inspect
import io
import json
import re
import runpy
import shlex
import tomllib
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import get_args

import duckdb
import pydantic
import pytest
import typer
import yaml
from commands import succeeds
from runs import ROOT, metrics_of_run

from reference.pages import every_command
from swrec_prod.cli import app
from swrec_prod.config import RunConfig
from swrec_prod.data.catalog import Catalog
from swrec_prod.datasets import DATASETS
from swrec_prod.logs.joins import Join
from swrec_prod.logs.moments import Time
from swrec_prod.logs.parquet_log import ParquetOptions
from swrec_prod.models import MODELS
from swrec_prod.prepare.data_file import DataFile
from swrec_prod.schema import Derived, Encoder, EncoderKind, Feature, FeatureSchema, Label, Scenario
from swrec_prod.schema.derived import Function

PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))
DATA = ROOT / "docs" / "data.md"


def blocks(page: Path) -> dict[str, str]:
    """The fenced blocks by what their fence says: `python make_log.py`, `sh`."""
    return dict(re.findall(r"^```(\S.*?)\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL))


def commands(page: Path) -> Iterator[list[str]]:
    """Every `swrec` command line of a page, as words."""
    for line in re.findall(r"^(?: {4})?(swrec [a-z].*)$", page.read_text(), re.MULTILINE):
        yield shlex.split(line, comments=True)


def described(title: str) -> set[str]:
    """The words in code style in the first column of the table that follows `title`."""
    table = DATA.read_text().partition(title)[2].strip().split("\n\n")[0]
    return {name for row in table.splitlines()[2:] for name in re.findall(r"`(\S+?)`", row.split("|")[1])}


def keys(record: type[pydantic.BaseModel]) -> set[str]:
    return {field.alias or name for name, field in record.model_fields.items()}


def run_line(line: str) -> str:
    """What a line of an example prints: `swrec ...`, or `python FILE`, in the current folder."""
    program, *words = shlex.split(line)
    if program == "swrec":
        return succeeds(*words)
    assert program == "python", line
    with redirect_stdout(io.StringIO()) as out:
        runpy.run_path(words[0], run_name="__main__")
    return out.getvalue()


@pytest.mark.engine
def test_the_example_of_own_logs_runs_as_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    texts = blocks(DATA)
    for name in ("python make_log.py", "yaml my_logs.yaml", "yaml my_run.yaml", "python prepare.py"):
        (tmp_path / name.split()[1]).write_text(texts[name])
    assert len(texts["yaml my_logs.yaml"].splitlines()) <= 10
    printed = [run_line(line) for line in (*texts["sh"].splitlines(), "python prepare.py")]
    assert "up to date (10,000 rows)" in printed[-1], "from Python it is the same, so there is nothing left to do"
    catalog = Catalog.open(tmp_path / "prepared")
    assert [str(day) for day in catalog.days] == [f"2024-05-0{i}" for i in range(1, 6)]
    assert sum(file.rows for file in catalog.files) == 10_000
    assert metrics_of_run(tmp_path / "run")["overall"]["rows"] == 2000
    _predictions_are_joined_as_it_is_written()


def _predictions_are_joined_as_it_is_written() -> None:
    """Beside the example's log and run: every test row finds the place in the raw log that it is from."""
    joined = duckdb.sql(blocks(ROOT / "docs" / "predictions.md")["sql join.sql"]).df()
    assert (
        len(joined) == 2000 and joined["row"].is_unique and not joined.duplicated(["filename", "file_row_number"]).any()
    )
    assert set(joined["filename"]) == {"raw/log/day=2024-05-05/part-0.parquet"}
    labels = duckdb.sql("SELECT label_click FROM 'run/predictions.parquet' ORDER BY row").df()
    assert joined["click"].tolist() == labels["label_click"].tolist()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text()
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, part = target.partition("#")
        if not path.startswith("http"):
            assert not path or (page.parent / path).exists(), target
            there = (page.parent / path).read_text() if part and path.endswith(".md") else text
            titles = re.findall(r"^#+ (.*)$", there, re.MULTILINE)
            assert not part or part in {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}, (
                target
            )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_their_options_exist(page: Path) -> None:
    known = dict(every_command(typer.main.get_command(app)))
    for words in commands(page):
        name = next((" ".join(words[1:end]) for end in (2, 3) if " ".join(words[1:end]) in known), None)
        assert name, words
        options = {option for parameter in known[name].params for option in parameter.opts}
        for word in words[2:]:
            assert not word.startswith("--") or word in options, f"{word} in {' '.join(words)}"
            assert not word.startswith("configs/") or (ROOT / word).is_file(), word


def test_torchx_commands_name_a_component_and_its_arguments() -> None:
    entry_points = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["torchx.components"]
    lines = [line for page in PAGES for line in re.findall(r"^ {4}torchx run (.*)$", page.read_text(), re.MULTILINE)]
    assert lines
    for words in map(shlex.split, lines):
        assert words[0] == "-s", "then the scheduler and the component"
        alias, _, name = words[2].partition(".")
        component = getattr(importlib.import_module(entry_points[alias]), name)
        own = words[3 : words.index("--")] if "--" in words else words[3:]  # behind it are those of a command
        arguments = dict(zip(own[::2], own[1::2], strict=True))
        assert {f"--{parameter}" for parameter in inspect.signature(component).parameters} >= arguments.keys()
        assert name != "train" or RunConfig.load(arguments["--run"])


def test_pages_have_commands_to_check() -> None:
    assert {words[1] for page in PAGES for words in commands(page)} >= {
        "datasets",
        "prepare",
        "simulate",
        "train",
        "score",
    }


def test_every_key_of_a_data_file_is_described() -> None:
    assert described("## What a data file says") == keys(DataFile)
    assert described("Options of `parquet`:") == keys(ParquetOptions)
    assert described("Keys of `schema`:") == keys(FeatureSchema)
    assert described("Keys of a feature:") == keys(Feature)
    assert described("Functions of a derived column:") == set(get_args(Function))
    words = set(re.findall(r"\w+", DATA.read_text()))
    assert words >= {key for record in (Join, Time, Scenario, Label, Encoder, Derived) for key in keys(record)} | set(
        get_args(EncoderKind)
    )


def test_defaults_are_those_of_the_code() -> None:
    table = DATA.read_text().partition("## What a data file says")[2].partition("Keys of `schema`:")[0]
    defaults = dict(re.findall(r"^\| `(\w+)` \| `(.*?)` \|", table, re.MULTILINE))
    assert defaults.keys() == {"utc_offset", "vocabularies", "requests", "log", "time", "scenario"}
    for name, text in defaults.items():
        field = DataFile.model_fields.get(name) or ParquetOptions.model_fields[name]
        default = field.default.model_dump() if isinstance(field.default, pydantic.BaseModel) else field.default
        assert yaml.safe_load(text) == default, name


def test_the_table_of_datasets_is_that_of_the_code() -> None:
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in DATA.read_text().partition("## Datasets")[2].splitlines()
    ]
    listed = [row for row in rows if row[0].startswith("`") and len(row) > 1]
    wanted = [
        [f"`{d.name}`", d.scenarios, f"{d.rows:,}" if d.rows else "yours", d.size, d.licence, d.how_to_get]
        for d in DATASETS.values()
    ]
    assert listed == wanted


def test_the_tutorial_is_committed_as_it_was_written() -> None:
    cells = json.loads((ROOT / "docs" / "tutorial.ipynb").read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert code and [cell for cell in code if cell["outputs"] or cell["execution_count"]] == []


def test_every_model_is_in_the_table_of_models() -> None:
    rows = re.findall(r"^\| `(\w+)` \|.*\| (.*?) \|$", (ROOT / "docs" / "models.md").read_text(), re.MULTILINE)
    reads = {False: "no", True: "yes", "optional": "if there are any"}
    assert dict(rows) == {name: reads[model.reads_history] for name, model in MODELS.items()}
    assert len(rows) == len(MODELS) == 18
