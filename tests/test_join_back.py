"""From predictions back to the raw log: what prepared days carry, what predictions say of it, what rows are called.

The raw log is read with pandas; its column `nr`, which is kept, says which row is which.
"""

from __future__ import annotations

import json
import shutil
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from commands import refused, succeeds, swrec
from dated_log import contents, data_file, day, prepare_once, prepared_rows, rows_of_day, write_day, write_users
from runs import RATES, evaluated

from swrec_prod.config import RunConfig
from swrec_prod.data.manifest import FileRecord, read_manifest
from swrec_prod.engine.contract import Engine
from swrec_prod.errors import ConfigError, DataError
from swrec_prod.evaluate.predictions import read_predictions
from swrec_prod.prepare.run import prepare
from swrec_prod.strict import parse
from swrec_prod.train.run import train

pytestmark = [pytest.mark.engine, pytest.mark.slow]

DAYS, ROWS = 5, 80
KEPT = ("nr", "price", "campaign", "a.b", "paid", "first_seen", "cents", "won")


def kept_columns(number: int) -> dict[str, pa.Array]:
    """Columns of many types, some values missing, for day `number`."""
    draw = np.random.default_rng(100 + number)
    missing = draw.random(ROWS) < 0.2
    return {
        "nr": pa.array(1000 * number + draw.permutation(ROWS)),
        "campaign": pa.array([f"campaign {i}" for i in draw.integers(0, 4, ROWS)], mask=missing),
        "a.b": pa.array(draw.normal(size=ROWS).astype(np.float32)),
        "paid": pa.array([Decimal(int(i)) / 100 for i in draw.integers(0, 999, ROWS)], pa.decimal128(9, 2)),
        "first_seen": pa.array([date(2020, 1, 1) + timedelta(days=int(i)) for i in draw.integers(0, 99, ROWS)]),
        "cents": pa.array(draw.integers(0, 9, ROWS).astype(np.int16), mask=missing),
        "won": pa.array(draw.random(ROWS) < 0.5),
    }


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("raw")
    write_users(folder)
    for number in range(1, DAYS + 1):
        write_day(folder, number, rows_of_day(number, ROWS, **kept_columns(number)))
    return folder


@pytest.fixture(scope="module")
def log(raw: Path) -> pd.DataFrame:
    """The raw rows by `nr`."""
    files = sorted(raw.glob("log/*/*.parquet"))
    return pd.concat([pq.read_table(file, partitioning=None).to_pandas() for file in files]).set_index("nr")


@pytest.fixture(scope="module")
def folder(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("prepared") / "kept"
    prepare_once(data_file(keep=KEPT), raw, out)
    return out


def run_over(folder: Path, out: Path, model: str = "shared_bottom", **changes: str) -> Path:
    """A tiny run that is tested on the last two days."""
    days = {"train": f"..{day(2)}", "valid": str(day(3)), "test": f"{day(4)}.."}
    config = {"data": {"path": str(folder), "days": days}, "model": {"name": model}}
    config["train"] = {"epochs": 1, "batch_size": 64, **RATES}
    train(RunConfig.model_validate(config | changes), out)
    return out


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_over(folder, tmp_path_factory.mktemp("runs") / "run")


def test_predictions_are_joined_back_to_the_rows_that_they_are_of(run: Path, log: pd.DataFrame) -> None:
    table = read_predictions(run / "predictions.parquet")
    assert table.column_names[: 8 + len(KEPT)] == [
        "row", "day", "scenario", "user", "time", "request", "item", "weight", *KEPT,
    ]  # fmt: skip
    rows = log.loc[table["nr"].to_pylist()]
    assert len(rows) == 2 * ROWS and rows.index.is_unique
    same = {"user": rows.user_id.astype(str), "request": rows.session, "item": rows.item, "scenario": rows.scenario}
    same |= {"label_click": rows.clicked, "price": rows.price, **{name: rows[name] for name in KEPT[2:]}}
    for name, expected in same.items():
        pd.testing.assert_series_equal(
            table[name].to_pandas(), expected.reset_index(drop=True), check_names=False, check_dtype=False
        )
    assert table["time"].to_pylist() == [moment.to_pydatetime() for moment in rows.time]
    np.testing.assert_array_equal(table["weight"], rows.w.astype(np.float32))


def test_kept_columns_have_the_types_of_the_log(folder: Path) -> None:
    schema = prepared_rows(folder).schema
    kinds = {name: str(schema.field(f"keep:{name}").type) for name in KEPT}
    assert kinds == {
        "nr": "int64", "price": "double", "campaign": "string", "a.b": "float", "paid": "decimal128(9, 2)",
        "first_seen": "date32[day]", "cents": "int16", "won": "bool",
    }  # fmt: skip
    assert str(schema.field("raw:item").type) == "string"


def test_numbers_made_here_are_the_day_and_the_place_in_it(run: Path) -> None:
    table = read_predictions(run / "predictions.parquet").to_pandas()
    assert [str(date(1970, 1, 1) + timedelta(days=int(n))) for n in table.row // 2**32] == table.day.tolist()
    for _, of_day in table.groupby("day"):
        in_order = of_day.sort_values("row")
        assert (in_order.row % 2**32).tolist() == list(range(ROWS)) and in_order.time.is_monotonic_increasing


def test_numbers_of_the_log_stay(tmp_path: Path) -> None:
    write_users(tmp_path / "raw")
    numbers = [np.random.default_rng(number).permutation(60) + 100 * number for number in (1, 2, 3)]
    for number, row in enumerate(numbers, 1):
        write_day(tmp_path / "raw", number, rows_of_day(number, row=row, nr=row))
    prepare(data_file(keep=("nr",)), tmp_path / "raw", tmp_path / "out")
    rows = prepared_rows(tmp_path / "out")
    assert rows["row"].to_pylist() == rows["keep:nr"].to_pylist()
    assert sorted(rows["row"].to_pylist()) == sorted(np.concatenate(numbers).tolist())


def test_what_is_kept_changes_nothing_else(raw: Path, folder: Path, tmp_path: Path) -> None:
    prepare_once(data_file(), raw, tmp_path / "without")
    kept, without = prepared_rows(folder), prepared_rows(tmp_path / "without")
    assert kept.drop_columns([f"keep:{name}" for name in KEPT]).equals(without)
    assert (folder / "schema.yaml").read_bytes() == (tmp_path / "without" / "schema.yaml").read_bytes()


def test_derived_columns_are_kept_too(tmp_path: Path) -> None:
    write_users(tmp_path / "raw")
    write_day(tmp_path / "raw", 1)
    hour = {"name": "hour", "function": "hour", "of": ["time"]}
    prepare(data_file(keep=("hour",), schema={"derived": [hour]}), tmp_path / "raw", tmp_path / "out")
    rows = prepared_rows(tmp_path / "out")
    assert rows["keep:hour"].to_pylist() == [moment.hour for moment in rows["time"].to_pylist()]


def placed(raw: Path, out: Path, engine: str = "local") -> Path:
    """Prepared with the place of every row: day 2 has its rows in two files."""
    write_users(raw)
    write_day(raw, 1)
    two = rows_of_day(2)
    for part, rows in enumerate((two.slice(0, 25), two.slice(25))):
        write_day(raw, 2, rows, part)
    options = data_file().options | {"raw_place": True}
    prepare(data_file(options=options, keep=("raw_file", "raw_row")), raw, out, engine=engine)
    return out


def test_a_row_knows_its_file_and_its_place_there(tmp_path: Path) -> None:
    rows = prepared_rows(placed(tmp_path / "raw", tmp_path / "out"))
    assert len(set(zip(rows["keep:raw_file"].to_pylist(), rows["keep:raw_row"].to_pylist(), strict=True))) == 120
    assert sorted(pc.unique(rows["keep:raw_file"]).to_pylist()) == [
        "log/day=2024-05-01/part-0.parquet", "log/day=2024-05-02/part-0.parquet", "log/day=2024-05-02/part-1.parquet",
    ]  # fmt: skip
    for file in pc.unique(rows["keep:raw_file"]).to_pylist():
        of_file = rows.filter(pc.equal(rows["keep:raw_file"], file))
        raw = pq.read_table(tmp_path / "raw" / file, partitioning=None).take(of_file["keep:raw_row"].combine_chunks())
        assert of_file["raw:item"].to_pylist() == raw["item"].to_pylist()
        assert of_file["request"].to_pylist() == raw["session"].to_pylist()
        assert of_file["time"].to_pylist() == raw["time"].to_pylist()


def test_both_engines_know_the_place_of_a_row(cluster_engine: Engine, tmp_path: Path) -> None:
    for engine in ("local", "cluster"):
        placed(tmp_path / "raw", tmp_path / engine, engine)
    assert contents(tmp_path / "cluster") == contents(tmp_path / "local")


@pytest.mark.parametrize("column", ["Raw_row", "file_row_number"])
def test_a_log_with_such_a_column_is_refused(tmp_path: Path, column: str) -> None:
    write_users(tmp_path / "raw")
    write_day(tmp_path / "raw", 1, **{column: range(60)})
    options = data_file().options | {"raw_place": True}
    with pytest.raises(DataError, match=f"column '{column}' has the name of the number of a row in its file; rename"):
        prepare(data_file(options=options, keep=("raw_row",)), tmp_path / "raw", tmp_path / "out")


def test_both_engines_keep_alike(cluster_engine: Engine, raw: Path, folder: Path, tmp_path: Path) -> None:
    prepare(data_file(keep=KEPT), raw, tmp_path / "cluster", engine="cluster")
    assert contents(tmp_path / "cluster") == contents(folder)


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        (["nr", "nr"], "keep names 'nr' twice"),
        (["user"], "keep: predictions have a column 'user' of their own; rename the raw one"),
        (["Label_x"], "predictions have a column 'Label_x'"),
    ],
)
def test_names_that_cannot_be_kept_are_refused(keep: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(type(data_file()), data_file().model_dump(mode="json", by_alias=True) | {"keep": keep}, "my.yaml")


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        ("campain", r"column 'campain' \(keep\) is missing; did you mean campaign\?"),
        ("near", r"column 'near' is array<string>, expected one value a row \(keep\)"),
    ],
)
def test_columns_that_cannot_be_kept_are_named(raw: Path, tmp_path: Path, keep: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        prepare(data_file(keep=(keep,)), raw, tmp_path / "out")


def test_a_column_that_only_some_days_have_is_missing_on_the_others(tmp_path: Path) -> None:
    write_users(tmp_path / "raw")
    write_day(tmp_path / "raw", 1)
    write_day(tmp_path / "raw", 2, extra=pa.array(range(60)))
    prepare(data_file(keep=("extra",)), tmp_path / "raw", tmp_path / "out")
    rows = prepared_rows(tmp_path / "out")
    assert rows["keep:extra"].null_count == 60 and rows.schema.field("keep:extra").type == pa.int64()


def test_folders_of_before_give_predictions_without_these_columns(folder: Path, run: Path, tmp_path: Path) -> None:
    """Such days have neither the raw item nor kept columns; a folder that grew since has them on later days."""
    grown = Path(shutil.copytree(folder, tmp_path / "grown"))
    manifest = read_manifest(grown)
    for file in manifest.files:
        if file.day == day(4):
            table = pq.ParquetFile(grown / file.path).read()
            pq.write_table(table.select([n for n in table.column_names if ":" not in n]), grown / file.path)
            record = FileRecord.of(grown, grown / file.path)
            file.bytes, file.sha256 = record.bytes, record.sha256
    (grown / "manifest.json").write_text(json.dumps(manifest.to_json()))
    table, metrics = evaluated(run, data=grown)
    old = pc.equal(table["day"], str(day(4)))
    assert set(pc.unique(table.filter(old)["item"]).to_pylist()) == {None}
    assert len(pc.unique(table.filter(pc.invert(old))["nr"])) == ROWS
    only_old, _ = evaluated(run, data=grown, days=str(day(4)))
    assert {"item", *KEPT}.isdisjoint(only_old.column_names) and "time" in only_old.column_names
    assert metrics["overall"]["rows"] == 2 * ROWS


def test_evaluate_judges_by_weight_and_by_any_column(run: Path, folder: Path) -> None:
    told = json.loads((run / "metrics.json").read_text())
    assert (told["weighted"], told["group_by"], told["ndcg_k"]) == (True, "user", 10)
    weighted = json.loads(succeeds("evaluate", run, "--json"))
    assert weighted["overall"] == told["overall"]
    plain = json.loads(succeeds("evaluate", run, "--json", "--unweighted"))
    assert not plain["weighted"] and plain["overall"]["logloss"] != told["overall"]["logloss"]
    by_won = json.loads(succeeds("evaluate", run, "--json", "--group-by", "won", "--ndcg-k", "3"))
    assert (by_won["group_by"], by_won["ndcg_k"]) == ("won", 3)
    assert by_won["overall"]["auc"] == told["overall"]["auc"] and by_won["overall"]["gauc"] != told["overall"]["gauc"]
    refused(
        swrec("evaluate", run, "--group-by", "reqest"), "no column 'reqest' to group rows by; did you mean request?"
    )
    printed = succeeds("evaluate", run, "--group-by", "request")
    assert "rows whose request has both classes. Each row counts by its weight." in printed
