"""Data that are not what they say: one line before the first step."""

from __future__ import annotations

from pathlib import Path

import ibis
import pytest
from commands import swrec
from prepared_folder import rows_table, write_prepared
from runs import config_of, run_file

from swrec_prod.data.catalog import Catalog
from swrec_prod.errors import DataError, SchemaError
from swrec_prod.prepare.check import check_columns
from swrec_prod.schema import FeatureSchema
from swrec_prod.strict import parse


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_prepared(tmp_path / "data", [rows_table(900)])


def flipped(path: Path) -> None:
    """The same size, one bit otherwise."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.slow
def test_a_flipped_bit_of_a_day_is_found_by_verify_alone(folder: Path, tmp_path: Path) -> None:
    damaged = next(folder.glob("day=*/*.parquet"))
    flipped(damaged)
    run = run_file(tmp_path, config_of(folder))
    ended = swrec("train", run, "--out", tmp_path / "run", "--verify")
    assert ended.code == 2 and ended.err.startswith(f"DataError: {damaged}: SHA-256")
    assert not (tmp_path / "run").exists()
    Catalog.open(folder).verify(days=False)


@pytest.mark.slow
def test_a_changed_schema_is_found_always(folder: Path, tmp_path: Path) -> None:
    """Two scenarios that are swapped: as many bytes, and every row would be of another one."""
    file = folder / "schema.yaml"
    one, other = FeatureSchema.load(file).scenario.values[:2]
    file.write_text(file.read_text().replace(one, "\0").replace(other, one).replace("\0", other))
    with pytest.raises(DataError, match=r"schema.yaml"):
        Catalog.open(folder).verify(days=False)


def test_a_column_of_the_name_of_prepares_own_is_refused() -> None:
    feature = {"name": "part", "side": "item", "kind": "id", "column": "_split", "encoder": "vocab"}
    plain = {"name": "x", "user": "u", "labels": [{"name": "click", "column": "click"}], "features": [feature]}
    schema = parse(FeatureSchema, plain, "schema.yaml", SchemaError)
    columns = {name: ibis.dtype("string") for name in ("u", "scenario", "_split")}
    columns |= {"click": ibis.dtype("int8"), "_time": ibis.dtype("int64")}
    with pytest.raises(DataError, match=r"log: column '_split' \(feature part\) begins with _"):
        check_columns(schema, columns, "log")


def test_more_buckets_than_ids_are_refused() -> None:
    feature = {"name": "a", "side": "item", "kind": "id", "encoder": {"kind": "hash", "buckets": 2**31}}
    plain = {"name": "x", "user": "u", "labels": [{"name": "click", "column": "click"}], "features": [feature]}
    with pytest.raises(SchemaError, match=r"buckets: .*2147483646"):
        parse(FeatureSchema, plain, "schema.yaml", SchemaError)


@pytest.mark.slow
def test_a_batch_norm_over_one_row_is_refused(prepared_genre: Path, tmp_path: Path) -> None:
    config = config_of(prepared_genre, more={"model": {"name": "shared_bottom", "norm": "batch"}}, batch_size=1)
    ended = swrec("train", run_file(tmp_path, config), "--out", tmp_path / "run")
    assert ended.code == 2 and ended.err.startswith("ConfigError: train.batch_size: 1 with a batch norm")
    assert not (tmp_path / "run").exists()
