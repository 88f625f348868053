"""MIND: impressions become one row an article shown, with the clicks before the log as a list."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from standard_tables import standard_table

from swrec_prod.engine.contract import Engine
from swrec_prod.errors import DataError
from swrec_prod.prepare.data_file import DataFile

pytestmark = pytest.mark.engine

NEWS = {  # id -> category, subcategory; N9 is shown, but is no news that news.tsv has
    "N1": ("news", "newsus"), "N2": ("lifestyle", "voices"),
    "N3": ("sports", "football_nfl"), "N4": ("finance", "markets"), "N5": ("autos", "suv"),
}  # fmt: skip
LONG = " ".join(f"N{i}" for i in range(1000, 1070))
TRAIN = [
    ("1", "U1", "11/11/2019 9:05:58 AM", "N7 N8", "N1-1 N3-0 N5-1"),
    ("2", "U2", "11/12/2019 12:00:01 AM", "", "N2-0"),
    ("3", "U1", "11/13/2019 12:30:00 PM", LONG, "N4-1 N9-0 "),
]
DEV = [("1", "U3", "11/15/2019 11:59:59 PM", "N7", "N1-0 N2-1")]


def write(folder: Path, release: str = "large") -> Path:
    for part, log in (("train", TRAIN), ("dev", DEV)):
        place = folder / f"MIND{release}_{part}"
        place.mkdir()
        (place / "behaviors.tsv").write_text("".join("\t".join(line) + "\n" for line in log))
        lines = [f'{n}\t{c}\t{s}\tThe "best" of\t\thttps://x\t[{{"Label": "A"}}]\t[]\n' for n, (c, s) in NEWS.items()]
        (place / "news.tsv").write_text("".join(lines))
    return folder


def rows(raw: Path, **options: Any) -> dict[tuple[str, str], dict[str, Any]]:
    return {(row["request"], row["news_id"]): row for row in standard_table("mind", raw, **options).to_pylist()}


@pytest.mark.parametrize("release", ["large", "small"])
def test_an_article_shown_is_a_row_and_its_category_the_scenario(tmp_path: Path, release: str) -> None:
    shown = rows(write(tmp_path, release))
    assert {key: (row["scenario"], row["click"]) for key, row in shown.items()} == {
        ("train-1", "N1"): ("news", 1),
        ("train-1", "N3"): ("sports", 0),
        ("train-2", "N2"): ("lifestyle", 0),
        ("train-3", "N4"): ("finance", 1),
        ("dev-1", "N1"): ("news", 0),
        ("dev-1", "N2"): ("lifestyle", 1),
    }
    assert shown["train-1", "N3"]["subcategory"] == "football_nfl" and shown["dev-1", "N1"]["user_id"] == "U3"
    assert set(rows(tmp_path, categories="all")) == set(shown) | {("train-1", "N5")}


def test_times_and_hours_are_those_of_the_clock(tmp_path: Path) -> None:
    moments = {key[0]: (row["time"], row["hour"]) for key, row in rows(write(tmp_path)).items()}
    expected = {
        "train-1": (datetime(2019, 11, 11, 9, 5, 58, tzinfo=UTC), 9),
        "train-2": (datetime(2019, 11, 12, 0, 0, 1, tzinfo=UTC), 0),
        "train-3": (datetime(2019, 11, 13, 12, 30, tzinfo=UTC), 12),
        "dev-1": (datetime(2019, 11, 15, 23, 59, 59, tzinfo=UTC), 23),
    }
    assert moments == {request: (round(moment.timestamp() * 1e6), hour) for request, (moment, hour) in expected.items()}


def test_earlier_clicks_are_the_latest_fifty_and_none_of_the_log(tmp_path: Path) -> None:
    shown = rows(write(tmp_path))
    assert shown["train-1", "N1"]["earlier_clicked"] == ["N7", "N8"]
    assert shown["train-2", "N2"]["earlier_clicked"] == []
    assert shown["train-3", "N4"]["earlier_clicked"] == LONG.split()[-50:]


def test_the_data_file_reads_columns_that_are_there(tmp_path: Path) -> None:
    columns = set(standard_table("mind", write(tmp_path)).column_names)
    assert columns == {
        "user_id",
        "request",
        "time",
        "hour",
        "news_id",
        "subcategory",
        "scenario",
        "click",
        "earlier_clicked",
    }
    schema = DataFile.load("mind").features
    assert {f.source for f in schema.features if f.kind != "sequence"} <= columns - {"click", "time", "scenario"}


def test_both_engines_agree(tmp_path: Path, engines: tuple[Engine, Engine]) -> None:
    raw = write(tmp_path)
    local, cluster = (standard_table("mind", raw, on) for on in engines)
    assert cluster.equals(local)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no MIND here; expected MINDlarge_train/behaviors\.tsv"):
        standard_table("mind", tmp_path)
    write(tmp_path)
    (tmp_path / "MINDlarge_dev" / "news.tsv").unlink()
    with pytest.raises(DataError, match=r"MINDlarge_dev/news\.tsv is missing"):
        standard_table("mind", tmp_path)


@pytest.mark.parametrize(
    ("file", "line", "said"),
    [
        ("behaviors.tsv", ("9", "U1", "11/11/2019 9:05:58 AM", "N7"), r"behaviors\.tsv"),
        ("behaviors.tsv", ("9", "U1", "11/11/2019 nine AM", "N7", "N1-1"), "nine"),
        ("behaviors.tsv", ("9", "U1", "11/11/2019 9:05:58 AM", "N7", "N1-yes"), "yes"),
        ("news.tsv", ("N1", "news", "newsus", "", "", "", "", ""), "N1 is there more than once"),
    ],
)
def test_a_damaged_line_is_an_error(tmp_path: Path, file: str, line: tuple[str, ...], said: str) -> None:
    with (write(tmp_path) / "MINDlarge_train" / file).open("a") as stream:
        stream.write("\t".join(line) + "\n")
    with pytest.raises(DataError, match=said):
        standard_table("mind", tmp_path)


def test_another_layout_is_named_before_anything_is_read(tmp_path: Path) -> None:
    path = write(tmp_path) / "MINDlarge_dev" / "behaviors.tsv"
    path.write_text("\n".join("\t".join(line[1:]) for line in DEV))  # an early release had no impression number
    with pytest.raises(DataError, match=r"behaviors\.tsv:1: 4 fields, expected 5 \(impression, user_id"):
        standard_table("mind", tmp_path)
