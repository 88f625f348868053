"""Columns of text files: whole numbers are what the file says, or refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from swrec_prod.engine.contract import Engine
from swrec_prod.errors import DataError
from swrec_prod.raw.columns import typed_columns

pytestmark = pytest.mark.engine


def test_whole_numbers_of_text_are_exact_or_refused(tmp_path: Path, each_engine: Engine) -> None:
    path = tmp_path / "log.csv"
    path.write_text(f"id,name\n{2**53 - 1},a\n-4.0,b\n,c\n")
    table = typed_columns(each_engine, [path], {"id": "int64", "name": "string"})
    assert each_engine.arrow(table.order_by("name")).to_pydict() == {
        "id": [2**53 - 1, -4, None],
        "name": ["a", "b", "c"],
    }
    path.write_text(f"id,name\n{2**53 + 1},a\n")  # float64 has 2^53 and 2^53 + 2 only
    with pytest.raises(DataError, match=r"log\.csv: column id has .*, expected less than 2\^53"):
        each_engine.arrow(typed_columns(each_engine, [path], {"id": "int64"}))
