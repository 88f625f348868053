"""Amazon 5-core: three files of JSON lines are one log, and nothing of a review but its stars is read."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from standard_tables import standard_table

from swrec_prod.datasets import DATASETS
from swrec_prod.engine.contract import Engine
from swrec_prod.errors import DataError
from swrec_prod.prepare.data_file import DataFile

pytestmark = pytest.mark.engine

STEMS = {"clothing": "Clothing_Shoes_and_Jewelry", "beauty": "Beauty", "health": "Health_and_Personal_Care"}
ROWS = {"clothing": 7, "beauty": 5, "health": 10}
DAY = 86_400


def review(number: int, **other: Any) -> dict[str, Any]:
    """One object as it is in the files; ratings go 1, 2, 3, 4, 5, 1, ..."""
    return {
        "reviewerID": f"A{number % 4}XYZ",
        "asin": f"00{number:08d}",
        "reviewerName": 'Ann "A." B.',
        "helpful": [number, 9],
        "reviewText": "Nice.\nReally, it is {good}.",
        "overall": float(number % 5 + 1),
        "summary": "fünf",
        "unixReviewTime": 1_391_040_000 + number * DAY,
        "reviewTime": "01 30, 2014",
    } | other


def write(folder: Path, packed: bool = True, ascii_only: bool = True) -> Path:
    for scenario, stem in STEMS.items():
        lines = [json.dumps(review(i), ensure_ascii=ascii_only) for i in range(ROWS[scenario])]
        path = folder / f"reviews_{stem}_5.json{'.gz' * packed}"
        content = ("\n".join(lines) + "\n").encode()
        path.write_bytes(gzip.compress(content) if packed else content)
    return folder


@pytest.mark.parametrize("packed", [True, False])
def test_categories_are_scenarios_and_more_than_three_stars_a_click(tmp_path: Path, packed: bool) -> None:
    table = standard_table("amazon", write(tmp_path, packed, ascii_only=packed))
    assert Counter(table["scenario"].to_pylist()) == ROWS
    expected = sorted((s, i) for s, n in ROWS.items() for i in range(n) if i % 5 + 1 > 3)
    clicked = [(row["scenario"], int(row["item_id"])) for row in table.to_pylist() if row["click"]]
    assert sorted(clicked) == expected
    assert {row["time"] for row in table.to_pylist() if row["item_id"] == "0000000003"} == {
        (1_391_040_000 + 3 * DAY) * 1_000_000
    }
    assert set(table["user_id"].to_pylist()) == {f"A{i}XYZ" for i in range(4)}


def test_nothing_that_was_written_with_the_rating_is_a_column(tmp_path: Path) -> None:
    assert set(standard_table("amazon", write(tmp_path)).column_names) == {
        "user_id",
        "item_id",
        "time",
        "scenario",
        "click",
    }


def test_the_data_file_reads_columns_that_are_there(tmp_path: Path) -> None:
    schema = DataFile.load("amazon").features
    columns = set(standard_table("amazon", write(tmp_path)).column_names)
    assert {f.source for f in schema.features if f.kind != "sequence"} <= columns - {"click"}
    assert set(schema.scenario.values) == set(STEMS)


def test_both_engines_agree(tmp_path: Path, engines: tuple[Engine, Engine]) -> None:
    raw = write(tmp_path)
    local, cluster = (standard_table("amazon", raw, on) for on in engines)
    assert cluster.equals(local)


def test_a_missing_file_or_key_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no Amazon 5-core here; expected reviews_Clothing.*\.gz"):
        standard_table("amazon", tmp_path)
    with pytest.raises(DataError, match="Amazon 5-core: cannot be fetched; --raw DIR"):
        DATASETS["amazon"].locate(None, tmp_path, None)
    write(tmp_path, packed=False)
    path = tmp_path / "reviews_Beauty_5.json"
    path.write_text(path.read_text().replace('"asin"', '"asn"'))
    with pytest.raises(DataError, match=r"Beauty_5\.json: key 'asin' is missing; did you mean asn"):
        standard_table("amazon", tmp_path)
    path.write_text("[]\n")
    with pytest.raises(DataError, match="key 'reviewerID' is missing"):
        standard_table("amazon", tmp_path)
    path.write_text("reviewerID,asin\n")
    with pytest.raises(DataError, match=r"Beauty_5\.json:1: 'reviewerID,asin' is not one JSON object a line"):
        standard_table("amazon", tmp_path)
    path.unlink()
    with pytest.raises(DataError, match=r"reviews_Beauty_5\.json is missing"):
        standard_table("amazon", tmp_path)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    write(tmp_path)
    path = tmp_path / "reviews_Beauty_5.json.gz"
    whole = path.read_bytes()
    path.write_bytes(b"PK" + whole[2:])
    with pytest.raises(DataError, match=r"Beauty_5\.json\.gz: cannot be read"):
        standard_table("amazon", tmp_path)
    path.write_bytes(gzip.compress(json.dumps(review(1)).encode() + b'\n{"reviewerID": "A1", "asin"\n'))
    with pytest.raises(DataError, match=r"Beauty_5\.json\.gz"):
        standard_table("amazon", tmp_path)
    path.write_bytes(
        gzip.compress(b"\n".join(json.dumps(review(i, unixReviewTime="soon" if i else 5)).encode() for i in range(2)))
    )
    with pytest.raises(DataError, match=r"Beauty_5\.json\.gz.*soon"):
        standard_table("amazon", tmp_path)
