"""Douban: three logs of one set of users are one log; what a person wrote beside the rating is never read."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from standard_tables import standard_table

from swrec_prod.engine.contract import Engine
from swrec_prod.errors import DataError
from swrec_prod.prepare.data_file import DataFile

pytestmark = pytest.mark.engine

HEADERS = {  # of the three logs, in their official order
    "book": ("user_id", "book_id", "rating", "labels", "comment", "time", "ID"),
    "music": ("user_id", "music_id", "rating", "labels", "comment", "useful_num", "time", "ID"),
    "movie": ("user_id", "movie_id", "rating", "comment", "time", "labels", "useful_num", "CategoryID", "ID"),
}
RATINGS: dict[str, list[tuple[int, int, int | str, str]]] = {  # (user, item, rating, time)
    "book": [(1, 1, 4, "2012-05-13"), (2, 1, 3, "2012-05-14"), (9, 2, 5, "2012-05-15")],
    "music": [(1, 1, 2, "2013-01-01 08:00:01"), (2, 3, 5, "2013-01-01")],
    "movie": [
        (1, 1, 5, "2010-02-28 23:59:59"),
        (1, 2, 1, "2010-03-01"),
        (2, 2, "", "2010-03-01"),
        (2, 1, 4, "2010-03-02"),
    ],
}
USERS = [
    ("anna", "Beijing, China", "2008-03-21", "hello\tthere", "1"),
    ("bo", "", "2010/11/02", "", "2"),
    ("cy", "Wuhan", "?", "", "3"),
]


def quoted(values: Any) -> str:
    return "\t".join('"' + str(value).replace('"', '""') + '"' for value in values)


def write(folder: Path) -> Path:
    """The official layout: every value quoted, and comments with line ends, tabs and quotes in them."""
    folder.mkdir(exist_ok=True)
    for platform, header in HEADERS.items():
        lines = [quoted(header)]
        for number, (user, item, rating, time) in enumerate(RATINGS[platform]):
            values = {
                "user_id": user,
                f"{platform}_id": item,
                "rating": rating,
                "time": time,
                "ID": number,
                "comment": 'a "good"\n\tone',
            }
            lines.append(quoted(values.get(name, " ") for name in header))
        (folder / f"{platform}reviews_cleaned.txt").write_text("\n".join(lines) + "\n")
    header = ("user_id", "living_place", "join_time", "self_statement", "UID")
    (folder / "users_cleaned.txt").write_text("\n".join(quoted(values) for values in [header, *USERS]) + "\n")
    return folder


def rows(raw: Path) -> dict[tuple[str, str], dict[str, Any]]:
    return {(row["user_id"], row["item_id"]): row for row in standard_table("douban", raw).to_pylist()}


@pytest.mark.parametrize("inside", ["", "douban_dataset(text information)"])
def test_platforms_are_scenarios_and_items_keep_apart(tmp_path: Path, inside: str) -> None:
    write(tmp_path / inside)
    ratings = rows(tmp_path)
    assert Counter(row["scenario"] for row in ratings.values()) == {"book": 3, "music": 2, "movie": 4}
    assert {key for key, row in ratings.items() if row["click"]} == {
        ("1", "book:1"), ("9", "book:2"), ("2", "music:3"), ("1", "movie:1"), ("2", "movie:1"),
    }  # fmt: skip
    assert ratings["2", "movie:2"]["click"] == 0  # no rating: as in the benchmark
    assert sorted(row["row"] for row in ratings.values()) == list(range(9))
    for key, moment in (
        (("1", "book:1"), (2012, 5, 13)),
        (("1", "music:1"), (2013, 1, 1, 8, 0, 1)),
        (("1", "movie:1"), (2010, 2, 28, 23, 59, 59)),
    ):
        assert ratings[key]["time"] == datetime(*moment, tzinfo=UTC).timestamp() * 1e6  # type: ignore[misc]


def test_users_are_joined_and_an_unknown_user_has_missing_values(tmp_path: Path) -> None:
    ratings = rows(write(tmp_path))
    places = {key[0]: (row["living_place"], row["join_month"]) for key, row in ratings.items()}
    assert places == {"1": ("Beijing, China", "2008-03"), "2": (None, "2010-11"), "9": (None, None)}


def test_columns_are_found_by_name(tmp_path: Path) -> None:
    before = standard_table("douban", write(tmp_path))
    path = tmp_path / "bookreviews_cleaned.txt"
    names = ("time", "rating", "book_id", "user_id")
    path.write_text("\n".join([quoted(names), *(quoted((t, r, i, u)) for u, i, r, t in RATINGS["book"])]))
    assert standard_table("douban", tmp_path).equals(before)


def test_nothing_that_was_written_with_the_rating_is_a_column(tmp_path: Path) -> None:
    columns = set(standard_table("douban", write(tmp_path)).column_names)
    assert columns == {"row", "user_id", "item_id", "time", "scenario", "click", "living_place", "join_month"}
    schema = DataFile.load("douban").features
    assert {f.source for f in schema.features if f.kind != "sequence"} <= columns - {"click", "row", "time"}
    assert schema.scenario.values == tuple(HEADERS)


def test_both_engines_agree(tmp_path: Path, engines: tuple[Engine, Engine]) -> None:
    raw = write(tmp_path)
    local, cluster = (standard_table("douban", raw, on) for on in engines)
    assert cluster.equals(local)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (("1", "7", "good", " ", " ", "2012-05-13", "4"), r"row 4: rating 'good' is not a number"),
        (("1", "7", "4", " ", " ", "yesterday", "4"), r"row 4: time 'yesterday' is not a day like 2016-05-01"),
        (("1", "7", "4", " ", " ", "2012-02-30", "4"), r"time cannot be read: .*2012-02-30"),
        (("1", "7", "4", " ", " ", "", "4"), r"row 4: time None is not a value"),
        (("", "7", "4", " ", " ", "2012-05-13", "4"), r"row 4: user_id None is not a value"),
        (("1", "7", "4"), r"bookreviews_cleaned\.txt:\d+: 3 fields, expected 7"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, line: tuple[str, ...], said: str) -> None:
    write(tmp_path)
    with (tmp_path / "bookreviews_cleaned.txt").open("a") as stream:
        stream.write(quoted(line) + "\n")
    with pytest.raises(DataError, match=said):
        standard_table("douban", tmp_path)


def test_a_missing_file_or_column_is_named(tmp_path: Path) -> None:
    write(tmp_path)
    path = tmp_path / "musicreviews_cleaned.txt"
    path.write_text(path.read_text().replace('"rating"', '"ratings"'))
    with pytest.raises(DataError, match=r"musicreviews_cleaned\.txt: column 'rating' is missing; did you mean ratings"):
        standard_table("douban", tmp_path)
    path.unlink()
    with pytest.raises(DataError, match=r"musicreviews_cleaned\.txt is missing"):
        standard_table("douban", tmp_path)
