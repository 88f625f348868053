"""What is known of each behaviour (fields, ages) and what makes an event one, against a naive loop; added days too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dated_log import contents, data_file, day, day_files, manifest_of, prepared_rows, write_day, write_log
from rich_behaviours import SEQUENCES, Reference, behaviours_of, raw_rows, rich_schema

from swrec_prod.encoding.encoders import Encoders
from swrec_prod.engine.contract import Engine
from swrec_prod.errors import DataError
from swrec_prod.prepare.run import prepare

pytestmark = pytest.mark.engine
NAMES = [sequence["name"] for sequence in SEQUENCES]


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_log(tmp_path_factory.mktemp("rich") / "raw", 5)


@pytest.fixture(scope="module")
def out(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared") / "out"
    prepare(data_file(schema=rich_schema()), raw, folder)
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_all_that_is_known_of_behaviours_is_that_of_a_loop(raw: Path, out: Path, name: str) -> None:
    rows, prepared = raw_rows(raw), prepared_rows(out).to_pylist()
    reference = Reference(rows)
    assert len(rows) == len(prepared)
    for row, mine in zip(prepared, rows, strict=True):
        expected = reference.lists(name, mine, behaviours_of(name, mine, rows))
        for part, values in expected.items():
            given = row[f"{name}.{part}"]
            equal = np.allclose(given, values, atol=1e-6) if part in ("price", "paid") else given == values
            assert equal and len(given) == len(values), (part, given, values)


def test_numbers_of_behaviours_share_the_scaler_of_their_feature(out: Path) -> None:
    table, encoders = prepared_rows(out), Encoders.load(out)
    assert encoders.scalers.keys() == {"price", "age", "visits", "clicks.paid"}
    assert set(table["buys.visits"].combine_chunks().flatten().to_pylist()) <= set(table["visits"].to_pylist())


def test_days_that_are_added_continue_the_histories(raw: Path, out: Path, tmp_path: Path) -> None:
    write_log(tmp_path / "raw", 2)
    file = data_file(schema=rich_schema())
    for number in (3, 4, 5):
        prepare(file, tmp_path / "raw", tmp_path / "out")
        write_day(tmp_path / "raw", number)
    prepare(file, tmp_path / "raw", tmp_path / "out")
    assert day_files(tmp_path / "out") == day_files(out)


def test_a_late_day_and_chunks_change_nothing(
    raw: Path, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("swrec_prod.prepare.write_local.CHUNK_ROWS", 17)
    write_log(tmp_path / "raw", 2)
    for number in (5, 3, 4):
        write_day(tmp_path / "raw", number)
        prepare(data_file(schema=rich_schema()), tmp_path / "raw", tmp_path / "out")
    assert day_files(tmp_path / "out") == day_files(out)


def test_vocabularies_of_fields_grow(tmp_path: Path) -> None:
    write_log(tmp_path / "raw", 3)
    file = data_file(schema=rich_schema(), vocabularies="extend")
    prepare(file, tmp_path / "raw", tmp_path / "out")
    before = pq.read_table(tmp_path / "out" / "vocab" / "clicks.kin.parquet")["value"].to_pylist()
    write_day(tmp_path / "raw", 4)
    prepare(file, tmp_path / "raw", tmp_path / "out")
    after = pq.read_table(tmp_path / "out" / "vocab" / "clicks.kin.parquet")["value"].to_pylist()
    assert "new3" in after and "new3" not in before and after[: len(before)] == before
    fields = Encoders.load(tmp_path / "out").schema.feature("clicks").fields
    assert {field.name: field.rows for field in fields}["kin"] == len(after) + 1


def test_with_a_random_split_only_training_rows_are_behaviours(raw: Path, tmp_path: Path) -> None:
    prepare(data_file(schema=rich_schema(), split={"random": {"seed": 3}}), raw, tmp_path / "out")
    rows, prepared = raw_rows(raw), prepared_rows(tmp_path / "out").to_pylist()
    dealt = {row["row"]: row["split"] for row in prepared}
    numbered = [mine | {"row": row["row"]} for mine, row in zip(rows, prepared, strict=True)]
    training = [row for row in numbered if dealt[row["row"]] == "train"]
    for mine, row in zip(numbered, prepared, strict=True):
        for name in NAMES:
            assert len(row[f"{name}.item"]) == len(behaviours_of(name, mine, training))


def test_both_engines_write_the_same_bytes(cluster_engine: Engine, raw: Path, out: Path, tmp_path: Path) -> None:
    prepare(data_file(schema=rich_schema()), raw, tmp_path / "out", engine="cluster")
    assert contents(tmp_path / "out") == contents(out)


def test_encoding_what_a_client_sends_gives_the_prepared_lists(out: Path) -> None:
    sent, encoders = pq.read_table(out / "requests.parquet"), Encoders.load(out)
    assert len(sent) >= 30
    assert_encoded_alike(encoders, sent, prepared_rows(out))


def assert_encoded_alike(encoders: Encoders, sent: pa.Table, prepared: pa.Table) -> None:
    """The raw lists of requests become the prepared ones."""
    by_row = {row["row"]: row for row in prepared.to_pylist()}
    for feature in encoders.schema.of_kind("sequence"):
        name = feature.name
        for row in sent.to_pylist():
            expected = by_row[row["row"]]
            assert (
                encoders.encode_behaviour_scenario(row[f"{name}.scenario"], elsewhere=True).tolist()
                == expected[f"{name}.scenario"]
            )
            for part in ("item", *(field.name for field in feature.fields)):
                column = encoders.encode(f"{name}.{part}", row[f"{name}.{part}"])
                if f"{name}.{part}.length" in expected:
                    assert np.diff(column.offsets).tolist() == expected[f"{name}.{part}.length"]
                    column = column.values
                assert column.tolist() == expected[f"{name}.{part}"]
            if feature.age:
                seconds = [at and (row["time"] - at).total_seconds() for at in row[f"{name}.time"]]
                assert encoders.encode(f"{name}.age", seconds).tolist() == expected[f"{name}.age"]


def test_a_schema_of_features_that_are_read_apart_has_their_encoders_only(out: Path) -> None:
    encoders = Encoders.load(out).select(("clicks", "city"))
    assert encoders.tables.keys() == {"item", "city", "clicks.sitting", "clicks.kin", "clicks.age"}
    assert encoders.scalers.keys() == {"clicks.paid"}


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({"clickd": 1}, "column 'clickd' (sequence 'skips': where) is missing; did you mean clicked"),
        ({"scenario": [1]}, "column 'scenario' is string, but sequence 'skips': where has 1, int"),
        ({"click": "yes"}, "column 'clicked' is int8, but sequence 'skips': where has 'yes', str"),
        ({"visits": 1.5}, "column 'visits' is int64, but sequence 'skips': where has 1.5, float"),
        ({"near": "a"}, "column 'near' is array<string>, but sequence 'skips': where has 'a', str"),
    ],
)
def test_what_cannot_say_what_a_behaviour_is_is_refused(
    raw: Path, tmp_path: Path, where: dict[str, Any], message: str
) -> None:
    schema = rich_schema()
    schema["features"][-2] = schema["features"][-2] | {"where": where}
    with pytest.raises(DataError) as failure:
        prepare(data_file(schema=schema), raw, tmp_path / "out")
    assert message in str(failure.value)


def test_long_histories_are_written_in_small_row_groups(
    raw: Path, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("swrec_prod.data.day_writer.GROUP_ROWS", 32)
    monkeypatch.setattr("swrec_prod.data.day_writer.FILE_ROWS", 64)
    monkeypatch.setattr("swrec_prod.data.day_writer.GROUP_VALUES", 8 * (4 * 4 + 3 * 4))
    prepare(data_file(schema=rich_schema()), raw, tmp_path / "out")
    assert prepared_rows(tmp_path / "out").equals(prepared_rows(out))
    for file in manifest_of(tmp_path / "out")["files"]:
        groups = pq.ParquetFile(tmp_path / "out" / file["path"]).metadata
        sizes = [groups.row_group(i).num_rows for i in range(groups.num_row_groups)]
        assert set(sizes[:-1]) == {8} and len(sizes) == file["row_groups"] and sum(sizes) == file["rows"]


def test_a_field_of_the_wrong_type_is_refused(raw: Path, tmp_path: Path) -> None:
    schema = rich_schema()
    wrong = {"name": "paid", "kind": "dense", "column": "session", "encoder": "minmax"}
    schema["features"][-3] = schema["features"][-3] | {"fields": [wrong]}
    with pytest.raises(DataError, match=r"'session' is string, expected numbers: .*clicks.paid"):
        prepare(data_file(schema=schema, fit_until=day(2)), raw, tmp_path / "out")
