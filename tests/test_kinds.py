"""Vectors, weighted bags, quantiles, indicators, bools and floats as ids: from a raw log to prepared columns."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from fitted_encoders import fit_encoders
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import KBinsDiscretizer, StandardScaler

from swrec_prod.computed import fitted_values
from swrec_prod.encoding.encoders import Encoders
from swrec_prod.encoding.pack import Column, Ragged
from swrec_prod.encoding.scaler import Scaler
from swrec_prod.engine.contract import Engine
from swrec_prod.errors import DataError
from swrec_prod.prepare import etl
from swrec_prod.prepare.data_file import DataFile
from swrec_prod.prepare.fit import fit
from swrec_prod.prepare.run import prepare
from swrec_prod.schema import Feature, FeatureSchema

ROWS, WIDTH, MIDNIGHT = 200, 5, datetime(2024, 5, 1, tzinfo=UTC)
SCHEMA: dict[str, Any] = {
    "name": "kinds",
    "time": "time",
    "user": "user",
    "labels": [{"name": "click", "column": "clicked"}],
    "features": [
        {"name": "plain", "kind": "vector", "side": "item", "width": WIDTH, "column": "emb"},
        {"name": "emb", "kind": "vector", "side": "item", "width": WIDTH, "encoder": "standard"},
        {"name": "tags", "kind": "bag", "side": "item", "encoder": "vocab", "weights": "tag_weights"},
        {
            "name": "paid",
            "kind": "dense",
            "side": "user",
            "encoder": {"kind": "log1p", "clip": True},
            "missing_indicator": True,
        },
        {"name": "paid_like", "kind": "dense", "side": "user", "column": "paid", "shared_with": "paid"},
        {"name": "dwell", "kind": "id", "side": "user", "encoder": {"kind": "quantile", "buckets": 8}},
        {"name": "brand", "kind": "id", "side": "item", "encoder": "vocab"},
        {"name": "shop", "kind": "id", "side": "item", "encoder": {"kind": "hash", "buckets": 9}},
        {"name": "is_new", "kind": "id", "side": "item", "encoder": "vocab"},
        {"name": "is_free", "kind": "dense", "side": "item", "encoder": "minmax"},
        {"name": "city", "kind": "id", "side": "user", "encoder": "vocab"},
    ],
}


def some(draw: np.random.Generator, values: Any, share: float = 0.1) -> pa.Array:
    """`values`, of which a share is missing."""
    return pa.array(list(values), mask=draw.random(len(values)) < share)


def rows_of_day(number: int, **changes: Any) -> pa.Table:
    """Raw rows. Between days some types change, as they do where one program writes each day by itself."""
    draw = np.random.default_rng(number)
    lists = [draw.choice([*"abcdef"], n).tolist() for n in draw.integers(0, 4, ROWS)]
    brands = draw.integers(0, 6, ROWS)
    columns: dict[str, Any] = {
        "user": draw.integers(0, 30, ROWS),
        "time": [MIDNIGHT + timedelta(days=number - 1, seconds=i) for i in range(ROWS)],
        "scenario": draw.choice(["home", "cart"], ROWS),
        "clicked": draw.random(ROWS) < 0.3,
        "emb": some(draw, draw.normal(3, 2, (ROWS, WIDTH)).tolist()).cast(pa.list_(pa.float32(), WIDTH)),
        "tags": lists,
        "tag_weights": [draw.random(len(tags)).tolist() for tags in lists],
        "paid": some(draw, draw.exponential(50, ROWS) * number),
        "dwell": some(draw, draw.choice([0, 0, 1, 2, 5, 9, 70, *range(100, 130)], ROWS)),
        "brand": brands.astype(np.int32) if number % 2 else some(draw, brands.astype(float)),
        "shop": some(draw, draw.integers(0, 50, ROWS).astype(float)),
        "is_new": some(draw, draw.random(ROWS) < 0.5),
        "is_free": draw.random(ROWS) < 0.2,
        "city": some(draw, [["Zürich", "Rome"][i].encode() for i in draw.integers(0, 2, ROWS)]),
    }
    return pa.table(columns | changes)


def write_day(raw: Path, number: int, **changes: Any) -> Path:
    path = raw / f"day={MIDNIGHT.date() + timedelta(days=number - 1)}" / "part-0.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(rows_of_day(number, **changes), path)
    return path


def data_file() -> DataFile:
    return DataFile.model_validate({"source": "parquet", "schema": SCHEMA, "fit_until": "2024-05-02"})


def column_of(days: range, name: str) -> list[Any]:
    return [value for number in days for value in rows_of_day(number)[name].to_pylist()]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three days, fitted on the first two."""
    folder = tmp_path_factory.mktemp("kinds")
    for number in (1, 2, 3):
        write_day(folder / "raw", number)
    prepare(data_file(), folder / "raw", folder / "out")
    return folder / "out"


def read(prepared: Path) -> pa.Table:
    return pa.concat_tables(pq.read_table(path, partitioning=None) for path in sorted(prepared.glob("day=*/*.parquet")))


@pytest.mark.engine
def test_vectors_are_lists_of_one_length_scaled_by_all_elements_of_training_rows(prepared: Path) -> None:
    table, raw = read(prepared), column_of(range(1, 4), "emb")
    assert table["emb"].type == pa.list_(pa.field("element", pa.float32(), nullable=False), WIDTH)
    known = np.array([value for value in raw if value is not None])
    seen = np.array([value for value in column_of(range(1, 3), "emb") if value is not None]).reshape(-1, 1)
    scaled = StandardScaler().fit(seen).transform(known.reshape(-1, 1)).reshape(-1, WIDTH)
    for name, expected in (("plain", known), ("emb", scaled)):
        found = np.array(table[name].to_pylist())
        present = np.array([value is not None for value in raw])
        assert np.allclose(found[present], expected, atol=1e-5), name
        assert (found[~present] == 0).all(), "a missing vector is zeros, which is the mean of scaled ones"


@pytest.mark.engine
def test_weights_stand_beside_the_values_of_their_bag(prepared: Path) -> None:
    table = read(prepared)
    assert table["tags.weight"].type == pa.list_(pa.field("element", pa.float32(), nullable=False))
    assert pc.list_value_length(table["tags"]).equals(pc.list_value_length(table["tags.weight"]))
    expected = [w for row in column_of(range(1, 4), "tag_weights") for w in row]
    assert np.allclose(pc.list_flatten(table["tags.weight"]).to_numpy(), expected)


@pytest.mark.engine
def test_a_logarithm_is_standardised_held_in_range_and_says_what_is_missing(prepared: Path) -> None:
    table, raw = read(prepared), np.array(column_of(range(1, 4), "paid"), float)
    seen = raw[: 2 * ROWS]
    logs = np.log1p(np.clip(raw, np.nanmin(seen), np.nanmax(seen)))
    expected = (logs - np.nanmean(np.log1p(seen))) / np.nanstd(np.log1p(seen))
    assert np.allclose(table["paid"].to_numpy(), np.nan_to_num(expected), atol=1e-5)
    assert table["paid.missing"].to_pylist() == np.isnan(raw).astype(float).tolist()
    assert table["paid"].equals(table["paid_like"]), "a number may share the scaler of another"
    assert (raw[2 * ROWS :] > np.nanmax(seen)).any(), "there is something to hold"


@pytest.mark.engine
def test_ids_of_bools_floats_and_bytes(prepared: Path) -> None:
    table, encoders = read(prepared), Encoders.load(prepared)
    for name in ("is_new", "brand", "city"):
        raw = column_of(range(1, 4), name)
        values = [None if v is None else v.decode() if isinstance(v, bytes) else int(v) for v in raw]
        ids = {value: i for i, value in enumerate(encoders.tables[name].values.to_pylist(), 1)}  # type: ignore[attr-defined]
        assert table[name].to_pylist() == [0 if value is None else ids[value] for value in values], name
    shops = [None if v is None else int(v) for v in column_of(range(1, 4), "shop")]
    assert table["shop"].to_pylist() == encoders.encode("shop", shops).tolist()  # type: ignore[union-attr]
    assert table["is_free"].to_pylist() == [float(v) for v in column_of(range(1, 4), "is_free")]
    assert table["label_click"].to_pylist() == [int(v) for v in column_of(range(1, 4), "clicked")]


@pytest.mark.engine
def test_what_is_kept_raw_is_as_wide_on_every_day(prepared: Path) -> None:
    kinds = {pq.read_schema(path).field("raw:item").type for path in prepared.glob("day=*/*.parquet")}
    assert kinds == {pa.float64()}, "brand, the item here, is int32 on some days and floating on others"


@pytest.mark.engine
def test_held_out_requests_have_all_of_it_raw_and_encode_as_prepared(prepared: Path) -> None:
    asked, encoders = pq.read_table(prepared / "requests.parquet"), Encoders.load(prepared)
    rows = read(prepared)
    rows = rows.take(pc.index_in(asked["row"].combine_chunks(), rows["row"].combine_chunks()))
    assert len(asked)
    for feature in encoders.schema.features:
        raw = {name: asked[name].to_pylist() for name in feature.raw_columns}
        for name, column in encoders.columns_of(feature.name, raw).items():
            assert as_lists(column) == rows[name].to_pylist(), name


def as_lists(column: Column) -> list[Any]:
    if isinstance(column, Ragged):
        return [part.tolist() for part in np.split(column.values, column.offsets[1:-1])]
    return column.tolist()


@pytest.mark.engine
def test_saved_quantiles_are_the_same_encoder_and_count_in_the_fingerprint(prepared: Path, tmp_path: Path) -> None:
    encoders = Encoders.load(prepared)
    encoders.save(tmp_path)
    assert Encoders.load(tmp_path).fingerprint() == encoders.fingerprint()
    state = (tmp_path / "vocab" / "encoders.json").read_text()
    first = encoders.tables["dwell"].boundaries[0]  # type: ignore[attr-defined]
    (tmp_path / "vocab" / "encoders.json").write_text(state.replace(str(first), str(first + 0.5), 1))
    assert Encoders.load(tmp_path).fingerprint() != encoders.fingerprint()
    assert encoders.schema.feature("dwell").rows == encoders.tables["dwell"].rows


@pytest.mark.engine
@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("emb", [1.0, 2.0], "has 1 vectors of another width than 5 (FIRST: 2); mend them, or `width` in the schema"),
        ("emb", [1.0, None, 3.0, 4.0, 5.0], "(feature plain) has 1 vectors with a number that is missing"),
        ("emb", [1.0, 2.0, float("nan"), 4.0, 5.0], "(FIRST: nan); give a number"),
        ("emb", [1.0, 2.0, 3.0, 4.0, -1e39], "(FIRST: -1e+39); give a number, or no list at all"),
        ("tag_weights", [0.5] * 9, "lists of other lengths than those of column 'tags' (FIRST: 9); give one weight"),
        ("tag_weights", None, "(feature tags) has 1 lists of other lengths than those of column 'tags' (FIRST: 0)"),
        ("tag_weights", [-0.25, 1.0], "has 1 lists with a weight that is below 0, missing (null or NaN), infinite or"),
        ("tag_weights", [-0.25, 1.0], "too large for float32 (FIRST: -0.25); give numbers >= 0"),
        ("tag_weights", [1.0, None], "has 1 lists with a weight that is below 0, missing"),
        ("paid", 1e39, "(feature paid) has 1 values that are infinite, too large for float32"),
        ("dwell", float("inf"), "(feature dwell) has 1 values that are infinite (FIRST: inf)"),
        (
            "brand",
            2.5,
            "has 1 floating numbers that are no whole numbers, or 2^53 and more and so not exact (FIRST: 2.5)",
        ),
        ("shop", 2.0**53, "(FIRST: 9007199254740992); ids are whole numbers or strings"),
        ("city", b"Z\xfcrich", "has the value b'Z\\xfcrich', which is no UTF-8; write text as UTF-8"),
    ],
)
def test_a_value_that_no_encoder_takes_is_named(tmp_path: Path, column: str, value: Any, said: str) -> None:
    write_day(tmp_path / "raw", 1)
    values = rows_of_day(2)[column].to_pylist()
    kinds = {"emb": pa.list_(pa.float64()), "dwell": pa.float64(), "city": pa.binary()}
    tags = rows_of_day(2)["tags"].to_pylist()
    tags[7] = ["a", "b"]
    values[7] = value
    weights = rows_of_day(2)["tag_weights"].to_pylist()
    weights[7] = [0.5, 0.5]
    changes = {"tags": tags, "tag_weights": weights, column: pa.array(values, kinds.get(column))}
    file = write_day(tmp_path / "raw", 2, **changes)
    write_day(tmp_path / "raw", 3)
    with pytest.raises(DataError) as told:
        prepare(data_file(), tmp_path / "raw", tmp_path / "out")
    said = said.replace("FIRST", "the first at 2024-05-02 00:00:07 UTC")
    assert str(told.value).startswith(f"{file}: column {column!r} ") and said in str(told.value)
    assert not (tmp_path / "out").exists()


# Fitted by either engine


def schema_of(*features: dict[str, Any]) -> FeatureSchema:
    whole = [{"kind": "dense", "side": "user", "encoder": "standard", **feature} for feature in features]
    return FeatureSchema.model_validate(SCHEMA | {"features": whole, "scenario": {"values": ["home", "cart"]}})


NUMBERS = st.lists(st.one_of(st.none(), st.integers(-5, 5).map(float), st.floats(-1e6, 1e6)), min_size=1, max_size=60)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(NUMBERS, st.integers(2, 12))
def test_quantiles_are_the_smallest_values_with_enough_rows_below(
    local_engine: Engine, values: list[float | None], buckets: int
) -> None:
    events = local_engine.from_arrow(pa.table({"x": pa.array(values, pa.float64())}))
    found = local_engine.arrow(fitted_values.boundaries(events, ["x"], buckets))["value"].to_pylist()
    known = [value for value in values if value is not None]
    expected = set()
    for k in range(1, buckets):
        enough = [v for v in known if buckets * sum(other < v for other in known) >= k * len(known)]
        expected |= {min(enough)} if enough else set()
    assert found == sorted(expected)


def test_distinct_values_fall_into_equal_buckets_as_scikit_learn_makes_them(each_engine: Engine) -> None:
    values = np.random.default_rng(3).normal(0, 1, 240)
    bins = KBinsDiscretizer(8, encode="ordinal", strategy="quantile", quantile_method="linear")
    schema = schema_of({"name": "x", "kind": "id", "encoder": {"kind": "quantile", "buckets": 8}})
    encoders = fit(each_engine, each_engine.from_arrow(pa.table({"x": values})), schema)
    ids = encoders.encode("x", values)
    assert (ids - 1 == bins.fit_transform(values[:, None])[:, 0]).all()  # type: ignore[operator]
    assert np.bincount(ids).tolist() == [0] + [30] * 8  # type: ignore[arg-type]


def test_both_engines_fit_the_same_encoders(engines: tuple[Engine, Engine]) -> None:
    log = pa.concat_tables([rows_of_day(1), rows_of_day(3)], promote_options="permissive")
    log = log.set_column(log.column_names.index("city"), "city", log["city"].cast(pa.string()))
    schema = FeatureSchema.model_validate(SCHEMA).with_scenarios(("home", "cart"))
    local, cluster = (fit(engine, engine.from_arrow(log), schema) for engine in engines)
    assert local.fingerprint() == cluster.fingerprint()


def test_both_engines_find_the_same_unusable_values(engines: tuple[Engine, Engine]) -> None:
    wrong = {
        "emb": pa.array([[1.0] * i for i in range(ROWS)], pa.list_(pa.float64())),
        "tag_weights": pa.array([[-1.0, float("nan"), None][: i % 4] for i in range(ROWS)], pa.list_(pa.float64())),
        "shop": [i / 2 for i in range(ROWS)],
        "paid": pa.array([1e39, float("nan"), -1.0, None] * (ROWS // 4)),
        etl.ROW: list(range(ROWS)),
        "city": ["Rome"] * ROWS,
    }
    log = rows_of_day(1, **wrong)
    schema = FeatureSchema.model_validate(SCHEMA)
    found = []
    for engine in engines:
        events = engine.from_arrow(log.append_column(etl.HOUR, pa.array([0] * ROWS)))
        events = events.mutate(time=engine.micros(events["time"]))
        found.append(engine.arrow(etl.profile(events, schema)).sort_by("scenario").to_pydict())
    assert str(found[0]) == str(found[1])  # as text, since NaN is unequal to itself
    assert sum(found[0]["unfit_0"]) == ROWS - 2 and sum(found[0]["unfit_6"]) > 0


@settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.floats(0, 1e9) | st.floats(0, 1e-9), min_size=2, max_size=20))
def test_moments_of_logarithms_are_numpys(local_engine: Engine, values: list[float]) -> None:
    events = local_engine.from_arrow(pa.table({"x": values}))
    row = local_engine.arrow(fitted_values.moments(events, ["x"], logarithm=True)).to_pylist()[0]
    logs = np.log1p(values)
    assert row["mean"] == pytest.approx(logs.mean(), rel=1e-9, abs=0)
    assert row["std"] == pytest.approx(logs.std(), rel=1e-6, abs=1e-12)
    assert (row["min"], row["max"]) == (min(values), max(values))


# The encoder alone


@cache
def encoders() -> Encoders:
    log = rows_of_day(1, city=["Rome", "Oslo"] * (ROWS // 2))
    return fit_encoders(FeatureSchema.model_validate(SCHEMA).with_scenarios(("home", "cart")), log)


@pytest.mark.parametrize("kind", [pa.list_(pa.float64()), pa.list_(pa.float32(), 2), pa.large_list(pa.int32())])
def test_a_vector_is_the_same_from_any_list_type(kind: pa.DataType) -> None:
    schema = schema_of({"name": "v", "kind": "vector", "width": 2, "encoder": None})
    one = Encoders(schema, {}, {})
    values = [[1, 2], None, [3, 4]]
    expected = [[1.0, 2.0], [0.0, 0.0], [3.0, 4.0]]
    array = pa.array(values, kind)
    assert one.encode("v", array).tolist() == expected == one.encode("v", values).tolist()  # type: ignore[union-attr]
    assert one.encode("v", pa.chunked_array([array])).tolist() == expected  # type: ignore[union-attr]
    assert one.encode("v", array.slice(2)).tolist() == expected[2:]  # type: ignore[union-attr]
    assert one.encode("v", [[], [3, 4]]).tolist() == expected[1:], "an empty list is a missing one, as in requests"  # type: ignore[union-attr]
    assert one.encode("v", np.array([[3, 4]])).tolist() == expected[2:]  # type: ignore[union-attr]
    assert one.encode("v", []).shape == (0, 2)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        ("emb", [[1.0] * 5, [1.0] * 4], "row 1 has 4 numbers, expected 5; mend the row, or `width` in the schema"),
        ("emb", [[1.0] * 5, [1.0, None, 1, 1, 1]], "row 1 has a missing value (null or NaN) in its list; give a"),
        ("emb", [None, [1.0, 1, 1, 1, float("inf")]], "value inf is not finite"),
        ("emb", [[1e39] * 5], "value 1e+39 overflows float32"),
        ("emb", ["abcde"], "value 'abcde' is str, expected a list"),
        ("paid", [1e39], "value 1e+39 overflows float32 (3.4e+38); rescale the column"),
        ("paid", [-1.0], "value -1.0 is negative, log1p takes 0 and above"),
        ("brand", [1.0, 2.5], "value 2.5 is no whole number; ids are whole numbers or strings"),
        ("brand", np.array([2.0**53]), "value 9007199254740992.0 is a floating number of 2^53 or more"),
        ("brand", np.array([2**63], np.uint64), "value 9223372036854775808 does not fit int64; write it as a string"),
        ("brand", pa.array([2**63], pa.uint64()), "value 9223372036854775808 does not fit int64; write it as a string"),
        ("city", pa.array([b"\xff\xfe"]), "value b'\\xff\\xfe' is no UTF-8 text"),
    ],
)
def test_the_encoder_names_feature_and_value(name: str, values: Any, said: str) -> None:
    with pytest.raises(DataError) as told:
        encoders().columns_of(name, {name: values})
    assert str(told.value).startswith(f"feature {name!r}: {said}")


@pytest.mark.parametrize(
    ("tags", "weights", "said"),
    [
        ([["a"], ["b", "c"]], [[1.0], [0.5]], "row 1 has 2 values and 1 weights; give one weight for each value"),
        ([["a"], ["b", "c"]], [[1.0]], "row 1 has 2 values and 0 weights"),
        ([[], ["a"]], [[], [-1.0]], "row 1 has the weight -1.0; expected >= 0"),
        ([["a"]], [[None]], "row 0 has a missing value"),
        ([["a"]], [["b"]], "value 'b' is str, expected a number"),
    ],
)
def test_the_encoder_names_weights_that_are_wrong(tags: list[Any], weights: list[Any], said: str) -> None:
    with pytest.raises(DataError) as told:
        encoders().columns_of("tags", {"tags": tags, "tags.weight": weights})
    assert str(told.value).startswith(f"feature 'tags.weight': {said}")


def test_a_scaled_number_that_overflows_is_named_with_the_remedy() -> None:
    tiny = fit_encoders(schema_of({"name": "x"}), pa.table({"x": [0.0, 1e-30]}))
    with pytest.raises(DataError, match=r"feature 'x': value 1e\+30 overflows float32 when .*; clip: true holds it"):
        tiny.encode("x", [1e30])
    held = fit_encoders(
        schema_of({"name": "x", "encoder": {"kind": "standard", "clip": True}}), pa.table({"x": [0.0, 1e-30]})
    )
    assert held.encode("x", [1e30, -5.0]).tolist() == pytest.approx([1.0, -1.0])  # type: ignore[union-attr]


IDS = st.lists(st.one_of(st.none(), st.booleans(), st.integers(-(2**52), 2**52)), max_size=20)


@given(IDS)
def test_an_id_is_the_same_as_bool_whole_number_or_exact_float(values: list[Any]) -> None:
    table = encoders().tables["brand"], encoders().tables["shop"]
    for one in table:
        plain = [None if value is None else int(value) for value in values]
        expected = one(plain, "f").tolist()
        assert one(values, "f").tolist() == expected
        floating = [np.nan if value is None else float(value) for value in values]
        assert one(floating, "f").tolist() == expected == one(np.array(floating), "f").tolist()
        assert one(pa.array(plain, pa.int64()).cast(pa.float64()), "f").tolist() == expected


def test_what_was_fitted_before_means_the_same() -> None:
    """encoders.json of earlier versions: a logarithm with shift 0 and scale 1 is not standardised."""
    old = {"kind": "log1p", "shift": 0.0, "scale": 1.0, "missing": 0.0}
    scaler = Scaler(**old)  # type: ignore[arg-type]
    assert scaler([0, 3.5, None], "f").tolist() == np.log1p([0, 3.5, 0]).astype(np.float32).tolist()
    assert scaler.state() == old, "and its fingerprint stays"


def test_a_field_of_behaviours_has_a_table_or_scaler_of_its_own() -> None:
    item = {"name": "brand", "kind": "id", "side": "item", "encoder": "vocab"}
    fields = [
        {"name": "watched", "kind": "dense", "encoder": "log1p", "column": "paid"},
        {"name": "stay", "kind": "id", "encoder": {"kind": "quantile", "buckets": 4}, "column": "dwell"},
    ]
    history = {"name": "seen", "kind": "sequence", "side": "user", "item": "brand", "fields": fields, "age": True}
    schema = FeatureSchema.model_validate(
        SCHEMA | {"features": [item, history], "scenario": {"values": ["home", "cart"]}}
    )
    one = fit_encoders(schema, rows_of_day(1))
    alone = fit_encoders(
        schema_of(
            {"name": "paid", "encoder": "log1p"},
            {"name": "dwell", "kind": "id", "encoder": {"kind": "quantile", "buckets": 4}},
        ),
        rows_of_day(1),
    )
    for part, name, values in (("seen.watched", "paid", [1.0, None, 7.5]), ("seen.stay", "dwell", [0, None, 9, 110])):
        assert one.encode(part, values).tolist() == alone.encode(name, values).tolist()  # type: ignore[union-attr]
    sequence: Feature = one.schema.feature("seen")
    assert [field.rows for field in sequence.fields] == [None, one.tables["seen.stay"].rows]
    assert one.encode("seen.age", [30.0, 90.0]).tolist() == [1, 2]  # type: ignore[union-attr]
    assert one.select(("seen",)).encode("seen.watched", [0.0]).tolist() == one.encode("seen.watched", [0.0]).tolist()  # type: ignore[union-attr]
