"""Reference pages: all that a user can write is explained where it is defined, and docstrings are read right."""

from __future__ import annotations

import doctest

import numpy as np
import pyarrow as pa
import pytest
import typer

from reference import docstrings, markdown, pages, records
from reference.docstrings import Column, columns, explained, paragraphs
from swrec_prod.abtest.columns import ExperimentFile
from swrec_prod.cli import app
from swrec_prod.config import RunConfig
from swrec_prod.data import day_files
from swrec_prod.datasets import DATASETS
from swrec_prod.evaluate import predictions
from swrec_prod.metrics.summary import METRICS
from swrec_prod.models import MODELS
from swrec_prod.prepare.data_file import DataFile
from swrec_prod.raw import source
from swrec_prod.schema import FeatureSchema

FILES = {"data file": DataFile, "run file": RunConfig, "columns file": ExperimentFile}
RECORDS = FILES | {f"source {d.name}": d.options for d in DATASETS.values()}
EXPLAIN = "write `{0}: what it is.` into the docstring of {1}, at the beginning of a line or sentence"
CARRIED = {"raw:item": pa.string(), "keep:column": pa.int64()}
EVERY_KIND = """
name: all
time: time
user: user
request: request
weight: weight
labels: [{name: task, column: click}]
features:
  - {name: id, kind: id, side: item, encoder: vocab}
  - {name: bag, kind: bag, side: item, encoder: vocab, weights: weights}
  - {name: dense, kind: dense, side: item, encoder: standard, missing_indicator: true}
  - {name: vector, kind: vector, side: item, width: 2}
  - {name: sequence, kind: sequence, side: user, item: id, age: true,
     fields: [{name: field, kind: bag, encoder: vocab}]}
"""


@pytest.mark.parametrize("record", RECORDS.values(), ids=RECORDS)
def test_every_key_of_a_file_is_explained(record: records.Record) -> None:
    unexplained = [
        f"{place.path or 'top level'}.{key.name}: {EXPLAIN.format(key.name, place.record.__qualname__)}"
        for place in records.places(record)
        for key in place.keys
        if not key.meaning
    ]
    assert not unexplained, "\n".join(unexplained)


@pytest.mark.parametrize("name", MODELS)
def test_every_option_of_a_model_is_explained(name: str) -> None:
    unexplained = [key.name for key in pages.options_of(name) if not key.meaning]
    assert not unexplained, "\n".join(EXPLAIN.format(option, MODELS[name].__name__) for option in unexplained)


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_is_explained(name: str) -> None:
    function = pages.metric_function(name)
    assert function.__name__ == name
    assert explained(function.__doc__, ["labels"]).remarks, f"say in the docstring of {name} what it is"


def test_every_command_and_option_has_help_and_each_command_an_example() -> None:
    for name, command in pages.every_command(typer.main.get_command(app)):
        assert f"Example: `swrec {name}" in (command.help or ""), name
        assert [option.name for option in command.params if option.name != "help" and not option.help] == [], name


def names_of(docstring: str | None) -> set[str]:
    described = (column for text in paragraphs(docstring) for column in columns(text))
    return {name.replace("<", "").replace(">", "") for column in described for name in column.names}


def test_every_column_of_prepared_days_is_explained(tmp_path) -> None:
    (tmp_path / "schema.yaml").write_text(EVERY_KIND)
    stored = day_files.stored_schema(FeatureSchema.load(tmp_path / "schema.yaml"), has_split=True, carried=CARRIED)
    assert set(stored.names) <= names_of(day_files.__doc__)


def test_every_column_of_predictions_is_explained() -> None:
    two = np.zeros((1, 2))
    table = predictions.predictions_table(
        row=np.zeros(1, np.int64), day=["2024-05-01"], user=["u"], scenario=["home"], labels_NT=two, logit_NT=two,
        tasks=["task", "then"], after=(-1, 0), interest_NT=two, scenario_NT=two,
    )  # fmt: skip
    endings = {name.removesuffix("_task").removesuffix("_then") for name in table.column_names}
    told = {name.removesuffix("_task") for name in names_of(predictions.__doc__)}
    assert endings - told == {"logit_then_given"} and "logit_task_given_first" in told


def test_the_standard_table_is_explained() -> None:
    assert names_of(source.__doc__) >= {"feature", "label", "scenario", "user", "time", "request", "weight", "row"}


def test_an_explanation_ends_where_the_next_begins() -> None:
    text = """What it is. path: a folder;
    split, days: one of two. A sentence
    more. `rows`: how many.

    A remark: not a key.
    seed: of the draw. note: is no key.
    """
    found = explained(text, ["path", "split", "days", "rows", "seed"])
    assert found.remarks == ("What it is.", "A remark: not a key.")
    assert found.keys == {
        "path": "a folder",
        "split": "one of two. A sentence more.",
        "days": "one of two. A sentence more.",
        "rows": "how many.",
        "seed": "of the draw. note: is no key.",
    }


def test_columns_are_lines_of_a_block() -> None:
    text = """Rows.

        row, day string    where
        label_<task>       int8    what
                                   happened

    No column    here.
    """
    first, block, last = paragraphs(text)
    assert columns(first) == columns(last) == ()
    assert columns(block) == (
        Column(("row", "day"), "string", "where"),
        Column(("label_<task>",), "int8", "what happened"),
    )


def test_text_of_docstrings_stands_for_itself() -> None:
    assert markdown.prose("a <b> *c* of `x | <y>` and [z]") == r"a &lt;b&gt; \*c\* of `x | <y>` and \[z\]"
    assert markdown.table(["a"], [["x | `y | z`"]]).splitlines()[-1] == r"| x \| `y | z` |"


@pytest.mark.parametrize("module", [docstrings, markdown, records])
def test_examples(module) -> None:
    assert doctest.testmod(module).failed == 0
