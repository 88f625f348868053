"""Ali-CCP: samples join the common features of their visit; fields, labels, scenarios and the made-up days."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from swrec_prod.datasets.aliccp import (
    ALI_CCP,
    SAMPLE_BAGS,
    SAMPLE_FIELDS,
    USER_BAGS,
    USER_FIELDS,
    AliCcpOptions,
    all_values,
    one_value,
)
from swrec_prod.engine.contract import Engine
from swrec_prod.errors import DataError
from swrec_prod.prepare.data_file import DataFile

pytestmark = pytest.mark.engine

OPTIONS = AliCcpOptions()
Features = list[tuple[str, str]]


def line(*columns: object, features: Features) -> str:
    """A line of the official layout; every feature has the value 1.0."""
    text = "\x01".join(f"{field}\x02{value}\x031.0" for field, value in features)
    return ",".join([*map(str, columns), str(len(features)), text])


def user(number: int) -> Features:
    return [
        ("101", str(number)),
        ("121", "38"),
        ("124", "5"),
        ("109_14", "70"),
        ("109_14", "71"),
        ("127_14", "90"),
        ("127", "7"),
    ]


def item(number: int, place: int) -> Features:
    return [
        ("216", "9"),
        ("301", str(place)),
        ("205", str(number)),
        ("206", "6"),
        ("210", "31"),
        ("210", "32"),
        ("853", "80"),
    ]


COMMON = {
    "train": [line("aaa0", features=user(1)), line("bbbf", features=user(2))],
    "test": [line("aaa0", features=user(3))],  # an index is of its split only
}
SAMPLES = {
    "train": [
        line(1, 0, 0, "aaa0", features=item(500, 9351665)),
        line(2, 1, 1, "bbbf", features=item(501, 9351666)),
        line(3, 0, 1, "bbbf", features=item(502, 9351665)),  # a conversion without a click, of which there are a few
    ],
    "test": [line(1, 1, 0, "aaa0", features=item(500, 9351667)), line(2, 0, 0, "none", features=[])],
}


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    for split in ("train", "test"):
        (tmp_path / f"common_features_{split}.csv").write_text("\n".join(COMMON[split]) + "\n")
        (tmp_path / f"sample_skeleton_{split}.csv").write_text("\n".join(SAMPLES[split]) + "\n")
    return tmp_path


def read(raw: Path, on: Engine) -> pa.Table:
    files = ALI_CCP.locate(raw, Path("/nowhere"), OPTIONS)
    return on.arrow(ALI_CCP.read(on, files, OPTIONS).order_by("time", "row"))


def test_samples_have_the_features_of_their_visit(raw: Path, local_engine: Engine) -> None:
    table = read(raw, local_engine)
    assert table["f101"].to_pylist() == ["2", "2", "1", "3", None]
    by_item = {(row["f205"], row["scenario"]): row for row in table.to_pylist()}
    first = by_item["500", "9351665"]
    assert (first["f101"], first["f121"], first["f127"], first["f122"]) == ("1", "38", "7", None)
    assert (first["f109_14"], first["f127_14"], first["f110_14"]) == (["70", "71"], ["90"], [])
    assert (first["f206"], first["f216"], first["f210"], first["f853"], first["f508"]) == (
        "6",
        "9",
        ["31", "32"],
        ["80"],
        None,
    )
    assert by_item["500", "9351667"]["f101"] == "3"
    assert set(table.column_names) == {"row", "time", "scenario", "click", "conversion"} | {
        f"f{field}" for field in (*USER_FIELDS, *USER_BAGS, *SAMPLE_FIELDS, *SAMPLE_BAGS)
    }


def test_engines_agree(raw: Path, engines: tuple[Engine, Engine]) -> None:
    one, two = (read(raw, on) for on in engines)
    assert one.to_pylist() == two.to_pylist() and one.schema.equals(two.schema)


def test_a_conversion_needs_a_click(raw: Path, local_engine: Engine) -> None:
    labels = {
        (row["f205"], row["scenario"]): (row["click"], row["conversion"]) for row in read(raw, local_engine).to_pylist()
    }
    assert (
        labels["501", "9351666"] == (1, 1) and labels["502", "9351665"] == (0, 0) and labels["500", "9351667"] == (1, 0)
    )


def test_the_test_file_is_the_last_day_and_visits_are_of_one_day(raw: Path, local_engine: Engine) -> None:
    start = date(1970, 1, 1)
    days = {
        (row["f101"], row["row"]): start + timedelta(microseconds=row["time"])
        for row in read(raw, local_engine).to_pylist()
    }
    assert days == {
        ("2", 4): date(2000, 1, 1),
        ("2", 6): date(2000, 1, 1),
        ("1", 2): date(2000, 1, 2),  # its visit ends with 0
        ("3", 3): date(2000, 1, 3),
        (None, 5): date(2000, 1, 3),
    }


def test_scenarios_are_the_places(raw: Path, local_engine: Engine) -> None:
    assert sorted(set(read(raw, local_engine)["scenario"].drop_null().to_pylist())) == ["9351665", "9351666", "9351667"]


fields = st.sampled_from(["101", "1101", "205", "109_14", "9_14", "14"])
lists = st.lists(st.tuples(fields, st.integers(0, 99).map(str)), max_size=12)


@given(st.lists(lists, min_size=1, max_size=8))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_fields_are_told_apart(local_engine: Engine, rows: list[Features]) -> None:
    texts = [line(features=row).split(",", 1)[1] for row in rows]
    table = local_engine.from_arrow(pa.table({"at": range(len(rows)), "text": texts}))
    wanted = {f"s{f}": one_value(table["text"], f) for f in ("101", "205")} | {
        f"b{f}": all_values(table["text"], f) for f in ("9_14", "14")
    }
    extracted = local_engine.arrow(table.select("at", **wanted).order_by("at")).to_pylist()
    for row, values in zip(extracted, rows, strict=True):
        for field in ("101", "205"):
            assert row[f"s{field}"] == next((value for name, value in values if name == field), None)
        for field in ("9_14", "14"):
            assert row[f"b{field}"] == [value for name, value in values if name == field]


def test_a_missing_file_is_named(raw: Path, local_engine: Engine) -> None:
    (raw / "common_features_test.csv").unlink()
    with pytest.raises(
        DataError, match=r"common_features_test\.csv is missing \(the layout is sample_skeleton_train\.csv, "
    ):
        read(raw, local_engine)
    with pytest.raises(DataError, match=r"ali-ccp: cannot be fetched; get it by hand: --raw DIR with .*tianchi"):
        ALI_CCP.locate(None, raw, OPTIONS)


def test_a_visit_on_two_lines_is_named(raw: Path, local_engine: Engine) -> None:
    with (raw / "common_features_train.csv").open("a") as stream:
        stream.write(line("bbbf", features=user(3)) + "\n")
    with pytest.raises(
        DataError, match=r"common_features_train\.csv: common_feature_index bbbf is there more than once"
    ):
        read(raw, local_engine)


@pytest.mark.parametrize("wrong", ["3,yes,0,aaa0,0,", "3,1,0,aaa0"])
def test_a_line_of_another_layout_fails(raw: Path, local_engine: Engine, wrong: str) -> None:
    with (raw / "sample_skeleton_train.csv").open("a") as stream:
        stream.write(wrong + "\n")
    with pytest.raises(DataError, match=r"sample_skeleton_train\.csv"):
        read(raw, local_engine)


def test_the_data_file_reads_what_there_is_and_no_label(raw: Path, local_engine: Engine) -> None:
    schema = DataFile.load("ali-ccp").features
    sources = {feature.source for feature in schema.features}
    assert sources == set(read(raw, local_engine).column_names) - {"row", "time", "scenario", "click", "conversion"}
    assert schema.tasks == ("click", "conversion") and schema.user == "f101"
