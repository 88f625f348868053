"""The command line's help: every command has an example, and what can be listed is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from commands import swrec

from reference.pages import every_command
from swrec_prod.cli import app
from swrec_prod.datasets import DATASETS

COMMANDS = [name for name, _ in every_command(typer.main.get_command(app))]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_helps_with_an_example(name: str) -> None:
    outcome = swrec(*name.split(), "--help")
    assert outcome.code == 0 and f"swrec {name}" in outcome.out.partition("Example")[2]


def test_help_lists_every_command() -> None:
    outcome = swrec("--help")
    assert outcome.code == 0 and all(name.split()[0] in outcome.out for name in COMMANDS)
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
