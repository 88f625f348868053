"""Delimited text and JSON lines: both engines read the same values,
and name the file and the line of what cannot be read.
"""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pyarrow as pa
import pytest

from swrec_prod.engine.contract import Engine
from swrec_prod.engine.lines import first_line
from swrec_prod.errors import DataError

pytestmark = pytest.mark.engine
LINE = {"i": "int64", "s": "string", "f": "float64"}


@pytest.mark.parametrize("name", ["log.csv", "log.csv.gz"])
@pytest.mark.parametrize("header", [False, True])
def test_delimited_text(each_engine: Engine, tmp_path: Path, name: str, header: bool) -> None:
    text = ("i::s::f\n" if header else "") + '1::a b::1.5\n-2::::\n::"x\\::-2e3\n\n3:: é |::0\n'
    text = text if name.endswith("gz") else text.replace("\n", "\r\n")
    (tmp_path / name).write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    table = each_engine.arrow(each_engine.text([tmp_path / name], LINE, delimiter="::", header=header).order_by("f"))
    assert table.to_pydict() == {
        "i": [None, 3, 1, -2],
        "s": ['"x\\', " é |", "a b", None],
        "f": [-2000.0, 0.0, 1.5, None],
    }
    assert table.schema == pa.schema([("i", pa.int64()), ("s", pa.string()), ("f", pa.float64())])


def test_quoted_text(each_engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "quoted.csv").write_text('i,s,f\n1,"a, ""b""\nc",1\n2,"",2\n"3",d\\,\n')
    table = each_engine.arrow(each_engine.text([tmp_path / "quoted.csv"], LINE, header=True, quote='"').order_by("i"))
    assert table.to_pydict() == {"i": [1, 2, 3], "s": ['a, "b"\nc', None, "d\\"], "f": [1.0, 2.0, None]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,a,2\n2,b,x\n", "2: column 'f' is 'x', expected float64"),
        ("1,a,2\n2,b\n", "2: 2 values, expected 3"),
        ("1,a,2\n2,b,3\n3,c,4,5\n", "3: 4 values, expected 3"),
        ("99999999999999999999,a,2\n", "1: column 'i' is '99999999999999999999', expected int64"),
    ],
)
def test_a_line_that_cannot_be_read_is_named(each_engine: Engine, tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a b.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=f"^{re.escape(f'{path}:{message}')}$"):
        each_engine.arrow(each_engine.text([path], LINE).select("f", "i", "s"))


@pytest.mark.parametrize(
    ("first", "message"),
    [("i,f,s", "the header has 'f' where 's' is expected"), ("i,s", "the header has 2 columns, expected 3: i,s,f")],
)
def test_a_header_of_other_columns_is_refused(each_engine: Engine, tmp_path: Path, first: str, message: str) -> None:
    path = tmp_path / "log.csv"
    path.write_text(f"{first}\n1,a,2\n")
    with pytest.raises(DataError, match=f"^{re.escape(f'{path}:1: {message}')}"):
        each_engine.text([path], LINE, header=True)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("log.csv", b"i,\xff\n"),
        ("log.csv.gz", b"i,s,f\n"),
        ("log.csv.gz", gzip.compress(b"i,s,f\n")[:12]),
        ("log.csv.gz", gzip.compress(b"i,s,f\n")[:10] + b"\xff" * 40),
    ],
    ids=["no UTF-8", "no gzip", "cut off", "damaged"],
)
def test_a_first_line_that_cannot_be_read_is_an_error_that_names_the_file(
    tmp_path: Path, name: str, content: bytes
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"^{re.escape(str(path))}: cannot be read: .+$"):
        first_line(path)


def test_compressed_text_that_is_cut_off_is_named(each_engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "log.csv.gz"
    lines = "".join(f"{i},{i * 7919 % 1009},1\n" for i in range(50_000))
    path.write_bytes(gzip.compress(lines.encode())[:-2000])
    with pytest.raises(DataError, match=re.escape(str(path))):
        each_engine.arrow(each_engine.text([path], LINE))
    path.write_bytes(b"")
    with pytest.raises(DataError, match=re.escape(str(path))):
        each_engine.arrow(each_engine.text([path], LINE))


@pytest.mark.parametrize("name", ["reviews.json", "reviews.json.gz"])
def test_json_lines(each_engine: Engine, tmp_path: Path, name: str) -> None:
    text = (
        '{"id": 1, "name": "x", "tags": ["p", "q"], "other": {"a": 1}}\n{"id": 2, "name": ""}\n\n'
        '{"tags": [], "id": 3, "name": null}\n'
    )
    (tmp_path / name).write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    columns = {"id": "int64", "name": "string", "tags": "array<string>", "price": "float64"}
    table = each_engine.arrow(each_engine.json_lines([tmp_path / name], columns).order_by("id"))
    assert table.to_pydict() == {
        "id": [1, 2, 3],
        "name": ["x", "", None],
        "tags": [["p", "q"], None, []],
        "price": [None] * 3,
    }


def test_json_that_cannot_be_read_is_named(each_engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "reviews.json"
    path.write_text('{"id": 1}\n{"id": 2\n')
    with pytest.raises(DataError, match=re.escape(str(path))) as error:
        each_engine.arrow(each_engine.json_lines([path], {"id": "int64"}))
    assert "line" in str(error.value) and "\n" not in str(error.value)
