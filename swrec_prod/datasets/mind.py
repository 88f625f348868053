"""MIND, Microsoft News, 9..15 November 2019 (Wu et al., ACL 2020):
what was shown in each impression, and whether it was clicked.

    MINDlarge_train/behaviors.tsv   impression, user, time "11/11/2019 9:05:58 AM", news clicked before,
                                    news shown "N55689-1 N35729-0"
    MINDlarge_train/news.tsv        news, category, subcategory, title, abstract, url, entities of title and abstract
    MINDlarge_dev/                  the same of the last day;
                                    MINDsmall_train and MINDsmall_dev are the logs of 50,000 users

A row is one news article shown. Scenarios are categories; as in the public multi-scenario benchmark, training and
validation log are one log, and the four categories with most rows are kept: news 26,057,579, lifestyle 11,206,494,
sports 10,237,589, finance 9,226,382. Articles that news.tsv lacks have no category and are left out. The order of an
impression's articles was shuffled by the publishers, so there is no position. Times have no zone and are taken as UTC.

`earlier_clicked` is what the data set itself calls the history: the user's clicks before the log, oldest first, as the
publishers give them. They keep it the same in all of a user's impressions of a log, so that none tells the label of
another; whether that of the validation day holds clicks of the training days is not stated. Behaviours within the log
are a sequence feature of the schema.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from swrec_prod.datasets.raw_files import files_of_layout, require_fields
from swrec_prod.engine.contract import Engine
from swrec_prod.raw.columns import with_attributes
from swrec_prod.raw.moment import civil_micros
from swrec_prod.raw.source import Dataset, RawFiles
from swrec_prod.strict import Strict

if TYPE_CHECKING:
    import ibis.expr.types as ir

PARTS = ("train", "dev")
LAYOUTS = [
    [f"{release}{part}/{name}" for part in PARTS for name in ("behaviors.tsv", "news.tsv")]
    for release in ("MINDlarge_", "MINDsmall_")
]
BEHAVIOURS = ("impression", "user_id", "moment", "earlier", "shown")
NEWS = ("news_id", "category", "subcategory", "title", "abstract", "url", "title_entities", "abstract_entities")
CATEGORIES = ("news", "lifestyle", "sports", "finance")  # by falling number of rows
EARLIER_LENGTH = 50  # so many of the latest clicks before the log
HOW_TO_GET = (
    "accept the terms at msnews.github.io, "
    "then --raw DIR with MINDlarge_train and MINDlarge_dev (or MINDsmall_*) unpacked there"
)


class MindOptions(Strict):
    """categories: the four of the benchmark, or all 18 or so."""

    categories: Literal["four", "all"] = "four"


def locate(raw: Path | None, cache: Path, options: MindOptions) -> RawFiles:
    """Training and validation log with their news, large where it is there, else small.

    Raises DataError naming a missing file.
    """
    return files_of_layout(raw, LAYOUTS, "MIND", HOW_TO_GET)


def read(engine: Engine, files: RawFiles, options: MindOptions) -> ir.Table:
    """The standard table: user_id, request, time, hour, news_id, subcategory, scenario, click, earlier_clicked."""
    import ibis

    folders = list(dict.fromkeys(file.path.parent for file in files))
    rows = ibis.union(*(_part(engine, folder) for folder in folders))
    return rows.filter(rows.scenario.isin(CATEGORIES)) if options.categories == "four" else rows


def _part(engine: Engine, folder: Path) -> ir.Table:
    """The rows of one folder. An impression number is unique in its folder only, so a request is train-1 or dev-1."""
    import ibis

    news = _lines(engine, folder / "news.tsv", NEWS).select("news_id", "subcategory", scenario="category")
    log = _lines(engine, folder / "behaviors.tsv", BEHAVIOURS)
    earlier = log.earlier.strip().re_split(" +")
    log = log.select(
        "user_id",
        request=ibis.literal(folder.name.rpartition("_")[2] + "-") + log.impression,
        clock=log.moment.strip().re_split("[/: ]+"),
        earlier_clicked=earlier[ibis.greatest(earlier.length() - EARLIER_LENGTH, 0) :].fill_null(
            ibis.literal([], "array<string>")
        ),
        shown=log.shown.strip().re_split(" +"),
    )
    hour = log.clock[3].cast("int64") % 12 + log.clock[6].cases(("AM", 0), ("PM", 12))
    log = log.select("user_id", "request", "shown", "earlier_clicked", time=_micros(log.clock, hour), hour=hour).unnest(
        "shown"
    )
    pair = log.shown.re_split("-")
    log = log.mutate(news_id=pair[0], click=pair[1].cast("int8")).drop("shown")
    rows = with_attributes(log, news, ("news_id",), str(folder / "news.tsv"))
    return rows.filter(rows.scenario.notnull())


def _lines(engine: Engine, path: Path, names: tuple[str, ...]) -> ir.Table:
    require_fields(path, "\t", names)
    return engine.text([path], dict.fromkeys(names, "string"), delimiter="\t")


def _micros(clock: ir.ArrayColumn, hour: ir.IntegerColumn) -> ir.IntegerColumn:
    """clock: month, day, year, hour, minute, second, AM or PM. hour: 0..23."""
    month, day, year, minute, second = (clock[i].cast("int64") for i in (0, 1, 2, 4, 5))
    return civil_micros(year, month, day, hour * 3600 + minute * 60 + second)


MIND = Dataset(
    name="mind",
    summary="news shown and clicked; scenarios are categories",
    rows=56_728_044,
    size="634 MB (large) or 84 MB (small)",
    scenarios="4 categories: news, lifestyle, sports, finance; or all",
    licence="Microsoft Research License Terms: research use",
    how_to_get=HOW_TO_GET,
    data_file="mind.yaml",
    options=MindOptions,
    locate=locate,
    read=read,
    outcomes=("click",),
)
