"""Amazon reviews 1996-2014, 5-core (McAuley et al., SIGIR 2015):
823,534 ratings in three categories, which are the scenarios.

    reviews_Clothing_Shoes_and_Jewelry_5.json.gz   clothing   278,677
    reviews_Beauty_5.json.gz                       beauty     198,502
    reviews_Health_and_Personal_Care_5.json.gz     health     346,355

One JSON object a line, unpacked or not. A rating above 3 counts as a click, the protocol of the public multi-scenario
benchmark. The review itself, its summary and its helpfulness were written with the rating or after it, and are never
read. Times are whole days: unixReviewTime is midnight UTC of the day.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from swrec_prod.datasets.raw_files import files_of_layout, require_keys
from swrec_prod.engine.contract import Engine
from swrec_prod.raw.moment import SECOND
from swrec_prod.raw.source import Dataset, RawFiles
from swrec_prod.strict import Strict

if TYPE_CHECKING:
    import ibis.expr.types as ir

FILES = {  # scenario -> file
    "clothing": "reviews_Clothing_Shoes_and_Jewelry_5.json",
    "beauty": "reviews_Beauty_5.json",
    "health": "reviews_Health_and_Personal_Care_5.json",
}
COLUMNS = {"reviewerID": "string", "asin": "string", "overall": "float64", "unixReviewTime": "int64"}
HOW_TO_GET = "--raw DIR with the three 5-core files of jmcauley.ucsd.edu/data/amazon (2014), .json.gz or .json"


class AmazonOptions(Strict):
    """There are none."""


def locate(raw: Path | None, cache: Path, options: AmazonOptions) -> RawFiles:
    """The three files. Raises DataError naming a missing one."""
    layouts = [[name + packed for name in FILES.values()] for packed in (".gz", "")]
    return files_of_layout(raw, layouts, "Amazon 5-core", HOW_TO_GET)


def read(engine: Engine, files: RawFiles, options: AmazonOptions) -> ir.Table:
    """The standard table: user_id, item_id, time, scenario, click."""
    import ibis

    return ibis.union(*(_category(engine, file.path) for file in files))


def _category(engine: Engine, path: Path) -> ir.Table:
    """The reviews of one file."""
    import ibis

    require_keys(path, tuple(COLUMNS))
    reviews = engine.json_lines([path], COLUMNS)
    return reviews.select(
        user_id=reviews.reviewerID,
        item_id=reviews.asin,
        time=reviews.unixReviewTime * SECOND,
        scenario=ibis.literal(next(name for name, file in FILES.items() if path.name.startswith(file))),
        click=(reviews.overall > 3).cast("int8"),
    )


AMAZON = Dataset(
    name="amazon",
    summary="product reviews, a rating > 3 is a click; scenarios are categories",
    rows=823_534,
    size="not stated",
    scenarios="3 categories: clothing, beauty, health",
    licence="not stated; the page asks to cite its papers",
    how_to_get=HOW_TO_GET,
    data_file="amazon.yaml",
    options=AmazonOptions,
    locate=locate,
    read=read,
    outcomes=("click",),
)
