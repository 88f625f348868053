"""Douban ratings of books, music and movies by the same users (Zhu et al., CIKM 2019, IJCAI 2020): 1,685,499 ratings.

    bookreviews_cleaned.txt    user_id, book_id, rating, time, ...    book      227,251
    musicreviews_cleaned.txt   user_id, music_id, rating, time, ...   music     179,847
    moviereviews_cleaned.txt   user_id, movie_id, rating, time, ...   movie   1,278,401
    users_cleaned.txt          UID, living_place, join_time, ...

Tab separated, every value in double quotes, columns found by the names in the first line. The platform is the scenario
and a rating above 3 a click, the protocol of the public multi-scenario benchmark; a row without a rating is no click
there, and here. The user's text and labels on an item were written with the rating and are never read. The platforms
number their items alike, so item_id has the platform before it: book:17. A time is a day, or a day and a clock time; it
has no zone and is taken as UTC.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from swrec_prod.datasets.raw_files import files_of_layout
from swrec_prod.engine.contract import Engine
from swrec_prod.errors import DataError
from swrec_prod.raw.delimited import read_delimited
from swrec_prod.raw.source import Dataset, RawFiles
from swrec_prod.strict import Strict

if TYPE_CHECKING:
    import ibis.expr.types as ir

PLATFORMS = ("book", "music", "movie")
USERS = "users_cleaned.txt"
NAMES = (*(f"{platform}reviews_cleaned.txt" for platform in PLATFORMS), USERS)
ARCHIVE = "douban_dataset(text information)"  # the folder inside the download
NUMBER = r"^\d{1,2}(\.\d+)?$"
MOMENT = r"^\d{4}-\d{2}-\d{2}([ T]\d{2}:\d{2}(:\d{2})?)?$"
HOW_TO_GET = (
    "--raw DIR with kaggle.com/datasets/fengzhujoey/douban-datasetratingreviewside-information unpacked (log in)"
)


class DoubanOptions(Strict):
    """There are none."""


def locate(raw: Path | None, cache: Path, options: DoubanOptions) -> RawFiles:
    """The three logs and the users. Raises DataError naming a missing file."""
    return files_of_layout(raw, [NAMES, [f"{ARCHIVE}/{name}" for name in NAMES]], "Douban", HOW_TO_GET)


def read(engine: Engine, files: RawFiles, options: DoubanOptions) -> ir.Table:
    """The standard table of `rating_log`, read here: without its texts the log is small,
    and not every engine reads values with line ends.
    """
    return engine.from_arrow(rating_log(tuple(file.path for file in files)))


def rating_log(files: tuple[Path, ...]) -> pa.Table:
    """The standard table: user_id, item_id, time, scenario, click, living_place, join_month, row. Raises DataError
    naming a bad row.
    """
    logs = {path.name.partition("reviews_")[0]: path for path in files if path.name != USERS}
    log = pa.concat_tables([_platform(path, platform) for platform, path in logs.items()])
    users = _users(next(path for path in files if path.name == USERS))
    at = pc.index_in(log["user_id"], users["UID"].combine_chunks())
    for name in ("living_place", "join_month"):
        log = log.append_column(name, users[name].take(at))
    return log.append_column("row", pa.array(np.arange(log.num_rows)))


def _platform(path: Path, platform: str) -> pa.Table:
    """The ratings of one platform."""
    item = f"{platform}_id"
    raw = read_delimited(path, "\t", quote='"', keep=("user_id", item, "rating", "time"))
    raw = pa.table({name: _text(raw[name]) for name in raw.column_names})
    for name in ("user_id", item, "time"):
        _require(path, name, raw[name], pc.is_valid(raw[name]), "a value")
    _require(path, "rating", raw["rating"], pc.match_substring_regex(raw["rating"], NUMBER).fill_null(True), "a number")
    _require(
        path,
        "time",
        raw["time"],
        pc.match_substring_regex(raw["time"], MOMENT),
        "a day like 2016-05-01, with or without a time",
    )
    rating = raw["rating"].cast(pa.float64()).fill_null(0)
    columns = {
        "user_id": raw["user_id"],
        "item_id": pc.binary_join_element_wise(platform, raw[item], ":"),
        "time": _micros(raw["time"], path),
        "scenario": pa.array([platform]).take(pa.array(np.zeros(raw.num_rows, np.int8))),
        "click": pc.greater(rating, 3).cast(pa.int8()),
    }
    return pa.table(columns)


def _users(path: Path) -> pa.Table:
    """UID, living_place and join_month, 2008-03 for example; a join_time that is no date is a missing value."""
    users = read_delimited(path, "\t", quote='"', keep=("UID", "living_place", "join_time"))
    date = pc.extract_regex(_text(users["join_time"]), r"^(?P<year>\d{4})[-/.](?P<month>\d{2})")
    month = pc.binary_join_element_wise(pc.struct_field(date, "year"), pc.struct_field(date, "month"), "-")
    return pa.table({"UID": _text(users["UID"]), "living_place": _text(users["living_place"]), "join_month": month})


def _text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Without blanks around it; nothing else is a missing value."""
    trimmed = pc.utf8_trim_whitespace(column)
    return pc.if_else(pc.equal(trimmed, ""), pa.scalar(None, pa.string()), trimmed)


def _micros(time: pa.ChunkedArray, path: Path) -> pa.ChunkedArray:
    try:
        return time.cast(pa.timestamp("us")).cast(pa.int64())
    except pa.ArrowInvalid as failure:
        raise DataError(f"{path}: time cannot be read: {' '.join(str(failure).split())}") from None


def _require(path: Path, name: str, values: pa.ChunkedArray, good: pa.ChunkedArray, expected: str) -> None:
    """Raises DataError naming the first row, counted from 1 after the header, that is not `good`."""
    at = pc.index(good, False).as_py()
    if at >= 0:
        raise DataError(f"{path}: row {at + 1}: {name} {values[at].as_py()!r} is not {expected}")


DOUBAN = Dataset(
    name="douban",
    summary="ratings of books, music and movies, > 3 is a click; scenarios are platforms",
    rows=1_685_499,
    size="not stated",
    scenarios="3 platforms: book, music, movie",
    licence="not stated",
    how_to_get=HOW_TO_GET,
    data_file="douban.yaml",
    options=DoubanOptions,
    locate=locate,
    read=read,
    outcomes=("click",),
)
