"""The catalogue finds what prepare wrote, and says what is wrong with a folder that is not whole."""

from __future__ import annotations

import json
import shutil
from datetime import date
from pathlib import Path

import pytest
from prepared_folder import SCHEMA, days_of_sizes, rows_table, write_prepared

from swrec_prod.config import DataConfig, DayRanges
from swrec_prod.data.catalog import Catalog
from swrec_prod.data.manifest import read_manifest
from swrec_prod.errors import DataError

DAYS = DayRanges(train="2024-01-01..2024-01-02", valid="2024-01-03", test="2024-02-01..")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return days_of_sizes(tmp_path / "toy", [5, 7, 11])


def by_days(folder: Path) -> DataConfig:
    return DataConfig(path=str(folder), split="days", days=DAYS)


def change_manifest(folder: Path, **values: object) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_an_opened_folder_knows_its_schema_days_files_and_fingerprint(folder: Path) -> None:
    catalog = Catalog.open(folder)
    assert catalog.schema == SCHEMA
    assert [str(day) for day in catalog.days] == ["2024-01-01", "2024-01-02", "2024-01-03"]
    assert [f.rows for f in catalog.files] == [5, 7, 11]
    assert catalog.fingerprint == "f00"
    assert read_manifest(folder).damaged_days(folder) == {}


def test_files_come_in_order_of_days_whatever_the_manifest_s_order(folder: Path) -> None:
    change_manifest(folder, files=json.loads((folder / "manifest.json").read_text())["files"][::-1])
    assert [f.rows for f in Catalog.open(folder).files] == [5, 7, 11]


def test_a_day_range_selects_files(folder: Path) -> None:
    catalog = Catalog.open(folder)
    assert [f.rows for f in catalog.files_of(by_days(folder), "train")] == [5, 7]


def test_an_empty_day_range_names_the_range_and_the_days_there_are(folder: Path) -> None:
    with pytest.raises(
        DataError, match=r"data\.days\.test 2024-02-01\.\.; available: 2024-01-01\.\.2024-01-03 \(3 days\)"
    ):
        Catalog.open(folder).files_of(by_days(folder), "test")


def test_days_that_the_encoders_have_seen_judge_no_model(tmp_path: Path) -> None:
    folder = write_prepared(tmp_path / "toy", [rows_table(n).drop_columns(["split"]) for n in (5, 7, 11)])
    files = json.loads((folder / "manifest.json").read_text())["files"]
    change_manifest(folder, files=[file | {"fitted_until": "2024-01-02"} for file in files])
    catalog = Catalog.open(folder)
    assert [f.rows for f in catalog.files_of(by_days(folder), "train")] == [5, 7]
    assert [f.rows for f in catalog.files_of(by_days(folder), "valid")] == [11]
    early = DataConfig(path=str(folder), days=DayRanges(train="2024-01-01", valid="2024-01-02", test="2024-01-03.."))
    with pytest.raises(
        DataError, match=r"data\.days\.valid 2024-01-02: .* fitted on days up to 2024-01-02; begin later"
    ):
        catalog.files_of(early, "valid")
    assert [f.rows for f in catalog.files_of(early, "test")] == [11]


def test_encoders_of_a_random_split_have_seen_every_day(folder: Path) -> None:
    catalog = Catalog.open(folder)
    assert len(catalog.files_of(by_days(folder), "train")) == 2
    with pytest.raises(DataError, match=r"data\.days\.valid 2024-01-03: .*random split.*; use data\.split random"):
        catalog.files_of(by_days(folder), "valid")


def test_a_random_split_reads_all_files_and_needs_a_split_column(folder: Path, tmp_path: Path) -> None:
    data = DataConfig(path=str(folder), split="random")
    assert len(Catalog.open(folder).files_of(data, "valid")) == 3
    without = write_prepared(tmp_path / "without", [rows_table(4).drop_columns(["split"])])
    with pytest.raises(DataError, match="no split column"):
        Catalog.open(without).files_of(data, "train")


def test_a_folder_without_a_manifest_is_not_prepared(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(DataError, match=r"not a prepared folder: no manifest\.json; run swrec prepare"):
            Catalog.open(path)


def test_a_missing_file_and_one_of_another_size_are_named(folder: Path) -> None:
    part = folder / "day=2024-01-02" / "part-00000.parquet"
    part.write_bytes(part.read_bytes()[:-10])
    with pytest.raises(DataError, match=r"day=2024-01-02/part-00000\.parquet: \d+ bytes, expected \d+"):
        Catalog.open(folder)
    part.unlink()
    with pytest.raises(DataError, match=r"day=2024-01-02/part-00000\.parquet: missing"):
        Catalog.open(folder)


def test_schema_vocabularies_and_requests_are_part_of_the_folder(prepared_age: Path, tmp_path: Path) -> None:
    for name in ("schema.yaml", "requests.parquet", "vocab/movie_id.parquet"):
        folder = Path(shutil.copytree(prepared_age, tmp_path / name))
        manifest, content = read_manifest(folder), (folder / name).read_bytes()
        (folder / name).write_bytes(content[:100] + bytes([content[100] ^ 1]) + content[101:])
        with pytest.raises(DataError, match=rf"{name}: SHA-256 .* run swrec prepare again"):
            manifest.damaged_days(folder)
        (folder / name).write_bytes(content[:-1])
        with pytest.raises(DataError, match=rf"{name}: \d+ bytes, expected {len(content)}"):
            Catalog.open(folder)
        (folder / name).unlink()
        with pytest.raises(DataError, match=rf"{name}: missing"):
            Catalog.open(folder)


def test_a_changed_file_of_the_same_size_is_damage(folder: Path) -> None:
    part = folder / "day=2024-01-03" / "part-00000.parquet"
    content = bytearray(part.read_bytes())
    content[40] ^= 1
    part.write_bytes(content)
    damaged = read_manifest(folder).damaged_days(folder)
    assert (
        list(damaged) == [date(2024, 1, 3)]
        and "day=2024-01-03/part-00000.parquet: SHA-256" in damaged[date(2024, 1, 3)]
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "damaged"),
        ("[]", "format None, expected 3"),
        ('{"format": 1}', "format 1, expected 3"),
        ('{"format": 3, "fingerprint": "x"}', "damaged .*files"),
        ('{"format": 3, "fingerprint": "x", "files": [{"path": "a"}]}', "damaged .*bytes"),
        ('{"format": 3, "fingerprint": "x", "files": []}', "damaged .*others"),
    ],
)
def test_a_damaged_manifest_is_named(folder: Path, content: str, message: str) -> None:
    (folder / "manifest.json").write_text(content)
    with pytest.raises(DataError, match=rf"manifest\.json: {message}"):
        Catalog.open(folder)


def test_many_problems_of_a_manifest_are_a_line_of_few_words(folder: Path) -> None:
    change_manifest(folder, files=[{"path": "a"}] * 500)
    with pytest.raises(DataError, match=r"damaged \(.*; and \d{4} more\); run swrec prepare again") as failure:
        Catalog.open(folder)
    assert len(str(failure.value)) < 400


def test_it_reads_what_prepare_writes(prepared_age: Path, prepared_genre: Path) -> None:
    age, genre = Catalog.open(prepared_age), Catalog.open(prepared_genre)
    assert read_manifest(prepared_age).damaged_days(prepared_age) == {}
    assert sum(f.rows for f in age.files) == sum(f.rows for f in genre.files) == 4000
    assert (age.has_split, genre.has_split) == (True, False)
    assert age.fingerprint != genre.fingerprint
