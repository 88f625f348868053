"""The reference pages, made from the source: keys of data and run files, options of models, metrics, columns, commands.

Each function gives the Markdown of one page.
"""

from __future__ import annotations

import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import typer

from reference import python_page
from reference.docstrings import columns, explained, is_block, paragraphs
from reference.markdown import anchor, block, code, default, keys_table, prose, table, without_examples
from reference.records import Key, Place, as_yaml, in_words, places
from swrec_prod.abtest.columns import ExperimentFile
from swrec_prod.cli import app
from swrec_prod.config import RunConfig
from swrec_prod.data import day_files
from swrec_prod.datasets import DATASETS
from swrec_prod.evaluate import predictions
from swrec_prod.metrics import summary
from swrec_prod.models import MODELS, compat, option_types
from swrec_prod.prepare.data_file import DataFile
from swrec_prod.raw import source


def data_file() -> str:
    """Every key of a data file, and the options of every source."""
    head = (
        "A data file says which raw log is prepared and what its columns mean. [From raw logs to batches](../data.md) "
        "has an example and says what becomes of the log; "
        "[shipped data files](../../configs/data) are examples of every source."
    )
    return _page("Keys of a data file", head, _records(DataFile, "data file"), _sources())


def run_file() -> str:
    """Every key of a run file."""
    head = (
        "A run file says what is trained on which rows and how. Any key can be given on the command line too: "
        "`swrec train RUN_FILE train.epochs=1 --out RUN_DIR`. The options of each model are on [their page](models.md)."
    )
    return _page("Keys of a run file", head, _records(RunConfig, "run file"))


def columns_file() -> str:
    """Every key of a columns file."""
    head = (
        "A columns file says what the columns of an experiment's exposures and outcomes mean, and what is judged. "
        "[Experiments](../abtest.md) has an example and says what becomes of it."
    )
    return _page("Keys of a columns file", head, _records(ExperimentFile, "columns file"))


def models() -> str:
    """The options of every model."""
    head = (
        "Keys of `model` in a run file, beside `name`: what each model can be told, and its equations. "
        "[Models](../models.md) says which one to take."
    )
    return _page("Options of the models", head, *(_model(name) for name in MODELS), _compat())


def metrics() -> str:
    """Every metric: what it is, its formula and its weighting."""
    head = (
        "The figures of `metrics.json`, `swrec evaluate` and reports, in the order in which they stand there. "
        "Each is there for all rows (`overall`), for the rows of every scenario (`scenarios`), and as the mean "
        "over the scenarios that have a value, plain (`macro`) and by their rows (`traffic`). Those of requests are "
        "there where rows have them. A figure without a value, AUC with one class for one, is "
        "`null`, and `reasons` says why. [Comparing runs](../comparing.md) says when a difference is more than chance."
    )
    legend = (
        "Row i has the label `y_i` (0 or 1), the predicted probability `p_i` and the weight `w_i`, "
        "1 where the schema names no `weight`."
    )
    return _page("Metrics", head, legend, *map(_metric, summary.METRICS | summary.REQUEST_METRICS))


def columns_page() -> str:
    """Every column of the standard table, of prepared days and of predictions."""
    return _page(
        "Columns",
        "What lies in the tables of each stage, column by column.",
        _columns("The standard table", source.__doc__, "What each source's files become before they are prepared."),
        _columns("Prepared days", day_files.__doc__, "`OUT/day=YYYY-MM-DD/part-NNNNN.parquet`, rows by (time, row)."),
        _columns("Predictions", predictions.__doc__, "`RUN_DIR/predictions.parquet`, and what `--predictions` writes."),
    )


def commands() -> str:
    """Every command with its help, example and options."""
    group: Any = typer.main.get_command(app)
    head = f"{group.help} `swrec COMMAND --help` says the same in a terminal."
    return _page("Commands", head, *(_command(name, command) for name, command in every_command(group)))


def every_command(group: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    """The words of each command and the command, also of those in groups: `abtest plan` of the group `abtest`."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from every_command(command, f"{before}{name} ")
        else:
            yield f"{before}{name}", command


def _page(title: str, *parts: str) -> str:
    return "\n\n".join([f"# {title}", *(part.strip() for part in parts if part.strip())]) + "\n"


def _records(record: Any, title: str) -> str:
    every = places(record)
    headings = [f"## The {title}", *(f"## {code(place.path)} {{ #{anchor(place.path)} }}" for place in every[1:])]
    return _tables(every, headings)


def _tables(every: Sequence[Place], headings: Sequence[str]) -> str:
    """Records, each with its heading, what is said of it, and its keys with links to the records that they hold."""
    paths = {place.record: place.path for place in every}
    parts = []
    for place, heading in zip(every, headings, strict=True):
        table_of_keys = keys_table(place.keys, paths=paths) if place.keys else ""
        parts += [heading, *map(prose, place.remarks), table_of_keys]
    return "\n\n".join(filter(None, parts))


def _sources() -> str:
    parts = ["## Options of each source", "`options` of a data file, by its `source`."]
    return "\n\n".join([*parts, *map(_source, DATASETS)])


def _source(name: str) -> str:
    dataset = DATASETS[name]
    every = places(dataset.options, f"{name}.options")
    inner = [f"#### {code(place.path)} {{ #{anchor(place.path)} }}" for place in every[1:]]
    head = f"### {code(name)} {{ #source-{name} }}\n\n{prose(dataset.summary[0].upper() + dataset.summary[1:])}."
    parts = [_tables(every, [head, *inner])]
    if dataset.outcomes:
        known_after = ", ".join(map(code, dataset.outcomes))
        parts.append(
            f"Known only after the impression, so that labels may read them and features may not: {known_after}."
        )
    return "\n\n".join(parts)


def options_of(name: str) -> tuple[Key, ...]:
    """The options of a model: the keyword-only arguments of its constructor."""
    model = MODELS[name]
    defaults = inspect.signature(model.__init__).parameters
    said = explained(model.__doc__, option_types(model)).keys
    return tuple(
        Key(option, in_words(kind), as_yaml(defaults[option].default), said.get(option, ""))
        for option, kind in option_types(model).items()
    )


def _model(name: str) -> str:
    title, *equations = paragraphs(sys.modules[MODELS[name].__module__].__doc__)
    remarks = map(prose, explained(MODELS[name].__doc__, option_types(MODELS[name])).remarks)
    parts = [prose(title), *map(_paragraph, equations), keys_table(options_of(name), "option"), *remarks]
    return with_links("\n\n".join([f"## {code(name)} {{ #{name} }}", *parts]))


def with_links(text: str) -> str:
    """Names of building blocks in prose and tables as links to them."""
    known = python_page.classes()
    names = re.compile(rf"(?<=see )({'|'.join(known)})\b")
    return names.sub(lambda found: f"[{code(found[1])}][{known[found[1]]}]", text)


def _paragraph(text: str) -> str:
    return block(textwrap.dedent(text)) if is_block(text) else prose(text)


def _compat() -> str:
    forms = ([code(name), code(as_yaml(form))] for name, form in compat.COMPAT.items())
    says = map(_paragraph, paragraphs(compat.__doc__))
    return "\n\n".join(["## `compat: benchmark` { #compat }", *says, table(["model", "stands for"], forms)])


def metric_function(name: str) -> Callable[..., Any]:
    """The function behind a line of METRICS, which has its name."""
    return summary.METRICS[name].formula


def _metric(name: str) -> str:
    function = metric_function(name)
    said = explained(without_examples(inspect.getdoc(function) or ""), inspect.signature(function).parameters)
    inputs = [f"- {code(key)}: {prose(text)}" for key, text in said.keys.items()]
    return "\n\n".join([f"## {code(name)} {{ #{name} }}", *map(prose, said.remarks), "\n".join(inputs)])


def _columns(title: str, docstring: str | None, where: str) -> str:
    """A module's docstring without its first line, with a table for each block of columns."""
    rest = (text for text in paragraphs(docstring)[1:] if not text.startswith("Shapes:"))
    return "\n\n".join([f"## {title}", where, *(_column_table(text) or prose(text) for text in rest)])


def _column_table(paragraph: str) -> str:
    rows = [[", ".join(map(code, c.names)), prose(c.type), prose(c.meaning)] for c in columns(paragraph)]
    return table(["column", "type", "meaning"], rows) if rows else ""


def _command(name: str, command: Any) -> str:
    text = inspect.cleandoc(command.help or "").replace("\b", "")
    example = re.search(r"^Example: `(.*)`$", text, re.MULTILINE)
    words = "\n\n".join(prose(p) for p in text.partition("Example:")[0].split("\n\n") if p.strip())
    rows = [_parameter(parameter) for parameter in command.params if parameter.name != "help"]
    heading = f"## {code('swrec ' + name)} {{ #{name.replace(' ', '-')} }}"
    parts = [heading, words, block(example.group(1), "sh") if example else ""]
    return "\n\n".join(filter(None, [*parts, table(["argument", "default", "meaning"], rows) if rows else ""]))


def _parameter(parameter: Any) -> list[str]:
    is_option = parameter.param_type_name == "option"
    name = " ".join(parameter.opts) if is_option else parameter.metavar or parameter.name.upper()
    flag = is_option and parameter.is_flag
    shown = "off" if flag else default(None if parameter.required else as_yaml(parameter.default))
    return [f"**{code(name)}**", shown, prose(parameter.help or "")]
