"""Derived columns in prepared days, requests and packages: on both engines, offline as online."""

from __future__ import annotations

import re
import shutil
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import yaml
from commands import swrec
from dated_log import SCHEMA as DATED
from dated_log import data_file, day, write_day, write_log

from swrec_prod.encoding.derived import DerivedColumns
from swrec_prod.encoding.encoders import Encoders
from swrec_prod.encoding.lookup_table import LookupTable
from swrec_prod.encoding.pack import pack, take
from swrec_prod.engine.contract import Engine
from swrec_prod.errors import DataError, RequestError
from swrec_prod.export.loaded import encode_rows
from swrec_prod.prepare import etl
from swrec_prod.prepare.data_file import DataFile
from swrec_prod.prepare.run import prepare
from swrec_prod.schema import FeatureSchema
from swrec_prod.schema.layout import Layout
from swrec_prod.serving.callers.rows import requests_from_table
from swrec_prod.serving.client import make_request
from swrec_prod.serving.protocol.call import call_of
from swrec_prod.serving.routing.router import Router
from swrec_prod.serving.scoring.features import RequestEncoder

MADE = [
    {"name": "hour", "function": "hour", "of": "time", "zone": "Asia/Shanghai"},
    {"name": "brand", "function": "lookup", "of": "item", "file": "brands.csv", "key": "item", "value": "brand"},
    {"name": "brand_hour", "function": "cross", "of": ["brand", "hour", "scenario"]},
    {"name": "old", "function": "days_since", "of": "released"},
    {"name": "value", "function": "ratio", "of": ["price", "visits"]},
]
FEATURES = [
    {"name": "hour", "kind": "id", "side": "user", "encoder": "vocab"},
    {"name": "brand", "kind": "id", "side": "item", "encoder": "vocab"},
    {"name": "brand_hour", "kind": "id", "side": "item", "encoder": "vocab"},
    {"name": "days", "column": "old", "kind": "dense", "side": "item", "encoder": "standard"},
    {"name": "value", "kind": "dense", "side": "item", "encoder": "standard"},
]
BRANDS = "item,brand\n" + "".join(f"{item},{brand}\n" for item, brand in zip("abcd", ("x", "y", "x", ""), strict=True))
EVERYTHING = """
    SELECT *, hour(time + INTERVAL 8 HOUR) AS hour,
           hour(time + INTERVAL 8 HOUR)::VARCHAR AS hour_text,
           CASE item WHEN 'a' THEN 'x' WHEN 'b' THEN 'y' WHEN 'c' THEN 'x' END AS brand,
           date_diff('day', released, time::DATE) AS old, price / nullif(visits, 0) AS value,
           (watched > 0.5)::INT AS label_long, (action IN ('buy', 'cart'))::INT AS label_deep
    FROM given
"""
RULES = [
    {"name": "long", "column": "watched", "above": 0.5},
    {"name": "deep", "column": "action", "in": ["buy", "cart"]},
    {"name": "paid", "column": "bought", "equals": True},
]


def derived_file(fitted: int = 2, **changes: Any) -> DataFile:
    """The dated log with derived columns and labels by rule."""
    features = [f for f in DATED["features"] if f["name"] not in ("near", "visits", "clicks", "buys")]
    schema = {"derived": MADE, "features": [*features, *FEATURES], "labels": RULES, "weight": None}
    return data_file(schema=schema | changes, fit_until=day(fitted))


def write_raw(raw: Path, days: int) -> Path:
    write_log(raw, days)
    for number in range(1, days + 1):
        released = [None if i % 7 == 0 else date(2024, 1, 1) + timedelta(days=i) for i in range(60)]
        watched, action = [i / 60 for i in range(60)], [("look", "cart", "buy")[i % 3] for i in range(60)]
        write_day(raw, number, released=pa.array(released, pa.date32()), watched=watched, action=action)
    (raw / "brands.csv").write_text(BRANDS)
    return raw


def by_sql(events: pa.Table) -> pa.Table:
    naive = events["time"].cast(pa.timestamp("us"))
    with duckdb.connect() as con:
        con.register("given", events.drop("time").append_column("time", naive))
        return con.sql(EVERYTHING).to_arrow_table()


def test_both_engines_compute_them_as_sql_does(each_engine: Engine, tmp_path: Path) -> None:
    raw, file = write_raw(tmp_path, 1), derived_file()
    log = pq.read_table(next(raw.rglob("part-0.parquet")))
    expected = by_sql(log.append_column("row", pa.array(np.arange(len(log))))).sort_by("row")
    users = {"city": pa.nulls(len(log), pa.string()), "age": pa.nulls(len(log), pa.float64())}
    for name, column in {**users, "row": pa.array(np.arange(len(log)))}.items():
        log = log.append_column(name, column)
    table = pa.csv.read_csv(raw / "brands.csv", convert_options=pa.csv.ConvertOptions(strings_can_be_null=True))
    columns = DerivedColumns(file.features, {"brand": LookupTable.of(file.features.derived[1], table, "brands.csv")})
    standard = etl.standard(each_engine, each_engine.from_arrow(log), file, columns, "row")
    events = each_engine.arrow(standard.order_by(etl.ROW))
    for name in ("hour", "brand", "old", "value"):
        assert events[name].to_pylist() == expected[name].to_pylist(), name
    crossed = zip(*(expected[name].to_pylist() for name in ("brand", "hour_text", "scenario")), strict=True)
    assert events["brand_hour"].to_pylist() == [None if None in one else "|".join(one) for one in crossed]
    assert events["_label_long"].to_pylist() == expected["label_long"].to_pylist()
    assert events["_label_deep"].to_pylist() == expected["label_deep"].to_pylist()
    assert events["_label_paid"].to_pylist() == [int(paid) for paid in log["bought"].to_pylist()]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared folder of three days, the last held out; its raw log lies beside it."""
    folder = tmp_path_factory.mktemp("derived")
    prepare(derived_file(), write_raw(folder / "raw", 3), folder / "out")
    return folder / "out"


def rows_and_sql(out: Path, day_: date) -> tuple[pa.Table, pa.Table]:
    """The prepared rows of a day, and what SQL makes of the raw ones, in one order."""
    raw = pq.read_table(out.parent / "raw" / "log" / f"day={day_}" / "part-0.parquet")
    made = by_sql(raw).append_column("at", raw["time"])
    rows = pq.read_table(out / f"day={day_}", partitioning=None)
    assert rows["time"].cast(pa.int64()).to_pylist() == made.sort_by("at")["at"].cast(pa.int64()).to_pylist()
    return rows, made


@pytest.mark.engine
def test_prepared_days_hold_what_the_encoders_make_of_them(prepared: Path) -> None:
    encoders = Encoders.load(prepared)
    rows, made = rows_and_sql(prepared, day(3))
    for feature, source in (("hour", "hour"), ("brand", "brand"), ("days", "old"), ("value", "value")):
        expected = np.sort(encoders.encode(feature, made[source]))
        np.testing.assert_allclose(np.sort(rows[feature].to_numpy()), expected, rtol=1e-6)
    assert sum(rows["label_long"].to_pylist()) == sum(made["label_long"].to_pylist())
    seen = pa.concat_tables([rows_and_sql(prepared, day(number))[1] for number in (1, 2)])
    assert set(encoders.tables["hour"].values.to_pylist()) == set(seen["hour"].to_pylist())  # type: ignore[attr-defined]
    assert encoders.scalers["days"].shift == pytest.approx(np.nanmean(seen["old"].to_numpy().astype(float)))


@pytest.mark.engine
def test_a_request_encodes_to_what_was_prepared(prepared: Path) -> None:
    encoders = Encoders.load(prepared)
    requests = pq.read_table(prepared / "requests.parquet")
    rows = pq.read_table(prepared / f"day={day(3)}", partitioning=None)
    rows = rows.take(pa.array([rows["row"].to_pylist().index(row) for row in requests["row"].to_pylist()]))
    assert "hour" not in requests.column_names and requests["released"].type == pa.string()
    sent = {given.column: requests[given.name].to_pylist() for given in encoders.schema.inputs if given.name != "time"}
    sent |= {"time": requests["time"].cast(pa.int64()).to_numpy(), "scenario": requests["scenario"].to_pylist()}
    made = encoders.derived(sent)
    for feature in (f for f in encoders.schema.features if f.source in made):
        online = encoders.encode(feature.name, made[feature.source])
        np.testing.assert_array_equal(online, rows[feature.name].to_numpy(), feature.name)


@pytest.mark.engine
@pytest.mark.parametrize("names", [(), ("brand_hour", "days", "item"), ("hour", "price"), ("value", "item")])
def test_requests_are_packed_as_rows_are(names: tuple[str, ...], prepared: Path) -> None:
    encoders = Encoders.load(prepared)
    encoders = encoders.select(names) if names else encoders
    rows, layout = pq.read_table(prepared / "requests.parquet"), Layout.of(encoders.schema, history=False)
    columns, scenario_N = encode_rows(encoders, layout, rows)
    encoder, asked = RequestEncoder(layout, encoders), list(requests_from_table(rows, encoders.schema))
    assert sorted(i for one in asked for i in one.rows) == list(range(len(rows)))
    for one in asked:
        scenario = encoders.schema.scenario.index(one.request.scenario)
        packed = encoder.encode(call_of(one.request), scenario)
        own = take(columns, one.rows)
        user = pack(layout.user_half, take(own, np.array([0])), scenario_N[one.rows[:1]])
        items = pack(layout.item_half, own, scenario_N[one.rows])
        for served, offline in zip((*packed.user, *packed.items), (*user, *items), strict=True):
            np.testing.assert_array_equal(served, offline)


@pytest.mark.engine
def test_behaviours_are_chosen_by_them_and_have_them_as_fields(tmp_path: Path) -> None:
    seen = {"name": "seen", "kind": "sequence", "side": "user", "item": "item", "where": {"hour": [20, 21, 22, 23]}}
    seen["fields"] = ["brand", {"name": "at", "column": "hour", "shared_with": "hour"}]
    raw, features = write_raw(tmp_path / "raw", 3), [DATED["features"][0], *FEATURES, seen]
    prepare(derived_file(features=features), raw, tmp_path / "out")
    rows, made = rows_and_sql(tmp_path / "out", day(1))
    encoders = Encoders.load(tmp_path / "out")
    events = list(zip(*(made[name].to_pylist() for name in ("user_id", "at", "hour", "brand")), strict=True))
    for user, time, hours, brands in zip(
        *(rows[name].to_pylist() for name in ("user", "time", "seen.at", "seen.brand")), strict=True
    ):
        mine = [e for e in events if str(e[0]) == user and e[1] < time and e[2] in seen["where"]["hour"]]
        assert sorted(hours) == sorted(encoders.encode("hour", [e[2] for e in mine]).tolist())
        assert sorted(brands) == sorted(encoders.encode("brand", [e[3] for e in mine]).tolist())
    assert any(rows["seen.at"].to_pylist())


@pytest.mark.engine
@pytest.mark.slow
def test_served_scores_are_those_of_the_test_rows(prepared: Path, tmp_path: Path) -> None:
    days = {"train": str(day(1)), "valid": str(day(2)), "test": str(day(3))}
    fit_again = prepare(derived_file(fitted=1), prepared.parent / "raw", tmp_path / "data")
    assert fit_again.rows == 180
    config = {"data": {"path": str(tmp_path / "data"), "days": days}, "model": {"name": "shared_bottom"}}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config | {"train": {"epochs": 1, "batch_size": 32}}))
    assert swrec("train", tmp_path / "run.yaml", "--out", tmp_path / "run").code == 0
    assert swrec("export", tmp_path / "run", "--to", tmp_path / "repo" / "m").code == 0
    predictor, compared = Router.load(tmp_path / "repo").predictor("m", ""), 0
    predictions = pq.read_table(tmp_path / "run" / "predictions.parquet")
    expected = dict(zip(predictions["row"].to_pylist(), predictions["prob_deep"].to_pylist(), strict=True))
    rows = pq.read_table(tmp_path / "data" / "requests.parquet")
    for one in requests_from_table(rows, FeatureSchema.load(tmp_path / "data" / "schema.yaml")):
        call = call_of(one.request)
        scenario, _ = predictor.scenario(call.scenario)
        scored = predictor.score(call, scenario, 0.0).probability[:, 1]
        known = [(i, expected[row]) for i, row in enumerate(rows["row"].take(one.rows).to_pylist()) if row in expected]
        for i, probability in known:
            assert scored[i] == pytest.approx(probability, abs=1e-5)
        compared += len(known)
    assert compared >= 10


@pytest.mark.engine
@pytest.mark.parametrize(
    ("user", "items", "said"),
    [
        ({"time": 5}, {}, "items: feature 'item' (side item) is missing"),
        ({}, {"item": ["a"]}, "user: feature 'time' (side context) is missing"),
        ({"time": 5, "hour": 3}, {"item": ["a"]}, "user: feature 'hour' is derived; send the columns it is made of"),
        ({"time": 5}, {"item": [3]}, "feature 'item': value 3 is int, expected string"),
        ({"time": 0.5}, {"item": ["a"]}, "feature 'time': value 0.5 is no whole number"),
        ({"time": [5, 6]}, {"item": ["a"]}, "user: feature 'time' has one value a row, but lengths say 2"),
        ({"time": 5, "item": "a"}, {}, "user: feature 'item' has side item and belongs in items"),
    ],
)
def test_a_request_without_the_raw_columns_is_refused(
    user: dict[str, Any], items: dict[str, Any], said: str, prepared: Path
) -> None:
    encoders = Encoders.load(prepared).select(("hour", "brand_hour"))
    encoder = RequestEncoder(Layout.of(encoders.schema, history=False), encoders)
    with pytest.raises((RequestError, DataError)) as told:
        encoder.encode(call_of(make_request("home", user, items)), 0)
    assert said in str(told.value)


@pytest.mark.engine
def test_unknown_inputs_of_a_request_are_missing_values(prepared: Path) -> None:
    encoders = Encoders.load(prepared).select(("hour", "brand_hour", "value"))
    layout = Layout.of(encoders.schema, history=False)
    request = make_request("home", {"time": None}, {"item": ["a", None], "price": [None, 1.0], "visits": [3, 0]})
    packed = RequestEncoder(layout, encoders).encode(call_of(request), 0)
    assert not packed.user.ids_values.any() and not packed.items.ids_values.any(), "row 0"
    np.testing.assert_allclose(packed.items.dense_BF, 0, atol=1e-6, err_msg="the mean")


@pytest.mark.engine
def test_a_table_goes_along_and_counts(prepared: Path, tmp_path: Path) -> None:
    shutil.copytree(prepared, tmp_path / "copy")
    encoders = Encoders.load(prepared)
    assert Encoders.load(tmp_path / "copy").fingerprint() == encoders.fingerprint()
    table = tmp_path / "copy" / "vocab" / "lookup_brand.parquet"
    pq.write_table(pa.table({"item": ["a"], "brand": ["x"]}), table)
    assert Encoders.load(tmp_path / "copy").fingerprint() != encoders.fingerprint()
    table.unlink()
    with pytest.raises(DataError, match=r"lookup_brand.parquet: no such file; derived 'brand' needs its table"):
        Encoders.load(tmp_path / "copy")
    encoders.select(("brand_hour", "item")).save(tmp_path)
    assert [d.name for d in Encoders.load(tmp_path).schema.derived] == ["hour", "brand", "brand_hour"]


@pytest.mark.engine
def test_days_that_come_later_look_up_the_same(prepared: Path, tmp_path: Path) -> None:
    shutil.copytree(prepared.parent / "raw", tmp_path / "raw")
    shutil.copytree(prepared, tmp_path / "out")
    write_raw(tmp_path / "raw", 4)
    (tmp_path / "raw" / "brands.csv").write_text("item,brand\na,z\n")
    said: list[str] = []
    manifest = prepare(derived_file(), tmp_path / "raw", tmp_path / "out", progress=said.append)
    assert manifest.fingerprint == Encoders.load(prepared).fingerprint()
    assert any("brands.csv changed since it was prepared" in line for line in said)


@pytest.mark.engine
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"labels": [{"name": "bought", "column": "bought", "equals": "yes"}]},
            "column 'bought' is boolean, so it is never 'yes' (equals)",
        ),
        (
            {"labels": [{"name": "long", "column": "w", "in": [1, "two"]}]},
            "column 'w' is float64, so it is never 'two' (in)",
        ),
        (
            {"labels": [{"name": "deep", "column": "action", "above": 3}]},
            "column 'action' is string, but `above` takes numbers",
        ),
        (
            {"labels": [{"name": "dear", "column": "price", "above": 3}], "features": DATED["features"][:1]},
            "label column 'price' has ",
        ),
        (
            {"derived": [{**MADE[1], "file": "brand.csv"}], "features": [DATED["features"][0], FEATURES[1]]},
            "derived 'brand': file brand.csv is not in ",
        ),
        (
            {"derived": [{**MADE[1], "of": "visits"}], "features": [DATED["features"][0], FEATURES[1]]},
            "column 'visits' is int64, but key 'item' of brands.csv is string",
        ),
        (
            {"derived": [{**MADE[0], "name": "price"}], "features": DATED["features"][:1]},
            "derived 'price': the log has a column of that name; choose another",
        ),
    ],
)
def test_a_log_that_does_not_fit_is_refused_in_one_line(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=re.escape(said)) as told:
        prepare(derived_file(**changes), write_raw(tmp_path / "raw", 3), tmp_path / "out")
    assert "\n" not in str(told.value) and not (tmp_path / "out").exists()


@pytest.mark.engine
def test_what_no_float_holds_is_told_by_prepare(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw", 3)
    nothing, more = pa.nulls(60, pa.date32()), {"watched": np.zeros(60), "action": ["look"] * 60}
    write_day(raw, 2, released=nothing, price=np.full(60, 1e308), w=np.full(60, -1e308), **more)
    made = [{"name": "value", "function": "difference", "of": ["price", "w"]}]
    features = [DATED["features"][0], FEATURES[-1]]
    with pytest.raises(DataError, match=r"^derived 'value': the difference of 1e\+308 and -1e\+308 is more than"):
        prepare(derived_file(derived=made, features=features), raw, tmp_path / "out")
