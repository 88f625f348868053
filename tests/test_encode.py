"""The encoder: the same value has the same id offline and online, after a save, and never outside its table."""

from __future__ import annotations

import math
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from fitted_encoders import fit_encoders, scaler_of, vocabulary_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from swrec_prod.computed import fitted_values
from swrec_prod.encoding.encoders import Encoders
from swrec_prod.encoding.lookups import MANY, Buckets, Hashing, Vocabulary
from swrec_prod.encoding.pack import Ragged
from swrec_prod.encoding.scaler import Scaler
from swrec_prod.encoding.stable_hash import hash_integers, hash_strings, hash_texts
from swrec_prod.engine.contract import Engine
from swrec_prod.errors import DataError, SchemaError
from swrec_prod.schema import FeatureSchema

TEXTS = st.lists(st.one_of(st.none(), st.text(max_size=12)), max_size=30)
INTS = st.lists(st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)), max_size=30)
NUMBERS = st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6)), max_size=30)
TRAINING = np.array([True, True, True, True, False])  # rows of `log`


def schema(**changes: Any) -> FeatureSchema:
    features = [
        {"name": "item", "kind": "id", "side": "item", "encoder": "vocab"},
        {"name": "code", "kind": "id", "side": "item", "encoder": "vocab"},
        {"name": "tags", "kind": "bag", "side": "item", "encoder": {"kind": "vocab", "min_count": 2}},
        {"name": "last", "kind": "id", "side": "user", "shared_with": "item"},
        {"name": "city", "kind": "id", "side": "user", "encoder": {"kind": "hash", "buckets": 5}},
        {"name": "age", "kind": "id", "side": "user", "encoder": {"kind": "bucketize", "boundaries": [18, 40]}},
        {"name": "price", "kind": "dense", "side": "item", "encoder": "standard"},
        {"name": "rank", "kind": "dense", "side": "item", "encoder": "minmax"},
        {"name": "views", "kind": "dense", "side": "item", "encoder": "log1p", "column": "n_views"},
        {"name": "history", "kind": "sequence", "side": "user", "item": "item", "max_length": 5},
    ]
    labels = [{"name": "click", "column": "click"}]
    return FeatureSchema.model_validate(
        {"name": "toy", "features": features, "labels": labels, "time": "time", "user": "user", **changes}
    )


def log() -> pa.Table:
    return pa.table(
        {
            "item": ["b", "a", "b", "c", None],
            "code": [7, 5, 7, None, 900],
            "tags": [["x", "y"], ["x"], None, [], ["z", None]],
            "last": ["a", "d", None, "a", "a"],
            "city": ["Rome", "Oslo", None, "Rome", "Bonn"],
            "age": [17, 18, 40, None, 39],
            "price": [1.0, 3.0, None, 5.0, 100.0],
            "rank": [10, 20, 30, 40, 500],
            "n_views": [0, 1, 2, None, 3],
            "scenario": ["home", "cart", "cart", "home", "cart"],
            "click": [0, 1, 0, 1, 1],
            "time": [1, 2, 3, 4, 5],
            "user": ["u", "v", "u", "v", "u"],
            "row": [0, 1, 2, 3, 4],
        }
    )


@cache
def fitted() -> Encoders:
    """One for all tests: encoders never change."""
    return fit_encoders(schema(), log(), TRAINING)


def test_ids_follow_falling_count_of_the_fitted_rows_with_shared_columns_counted_too() -> None:
    encoders = fitted()  # item: b 2, a 1 and 2 as `last`, c 1, d 1 as `last`
    assert encoders.encode("item", log()["item"]).tolist() == [2, 1, 2, 3, 0]  # type: ignore[union-attr]
    assert encoders.encode("last", ["d", "a", "never"]).tolist() == [4, 1, 0]  # type: ignore[union-attr]
    assert encoders.encode("code", log()["code"]).tolist() == [1, 2, 1, 0, 0]  # type: ignore[union-attr]


def test_bags_and_sequences_are_ragged_and_missing_lists_empty() -> None:
    encoders = fitted()
    tags = encoders.encode("tags", log()["tags"])
    assert isinstance(tags, Ragged)
    assert tags.values.tolist() == [1, 0, 1, 0, 0] and tags.offsets.tolist() == [0, 2, 3, 3, 3, 5]
    history = encoders.encode("history", [["b", "?"], None, ("a",), []])
    assert isinstance(history, Ragged)
    assert history.values.tolist() == [2, 0, 1] and history.offsets.tolist() == [0, 2, 2, 3, 3]


def test_the_schema_is_resolved() -> None:
    resolved = fitted().schema
    rows = {f.name: f.rows for f in resolved.features}
    assert rows == dict(item=5, code=3, tags=2, last=5, city=6, age=4, price=None, rank=None, views=None, history=5)
    assert resolved.scenario.values == ("cart", "home")


def test_scalers_see_fitted_rows_only_and_missing_counts_as_mean() -> None:
    encoders = fitted()
    deviation = math.sqrt(8 / 3)
    assert np.allclose(encoders.encode("price", [3.0, 5.0, None]), [0, 2 / deviation, 0])
    assert np.allclose(encoders.encode("rank", [10, 40, None, 500, 0]), [0, 1, 0.5, 1, 0])
    logs = np.log([1, 2, 3])
    views = (np.log([1, 4]) - logs.mean()) / logs.std()
    assert np.allclose(encoders.encode("views", [0, 3, None]), [*views, 0])
    assert scaler_of("standard", [4, 4])([4, 4], "f").tolist() == [0, 0]
    assert scaler_of("standard", [0, 1e-200])([0, 1e-200], "f").tolist() == [0, 0], (
        "their deviation is too small to divide by"
    )


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=30).filter(lambda v: np.ptp(v) > 1e-3))
def test_scalers_agree_with_scikit_learn(local_engine: Engine, values: list[float]) -> None:
    column = np.array(values)[:, None]
    row = local_engine.arrow(
        fitted_values.moments(local_engine.from_arrow(pa.table({"x": values})), ["x"])
    ).to_pylist()[0]
    moments = [row[name] for name in ("mean", "std", "min", "max")]
    assert np.allclose(
        Scaler.of("standard", *moments)(values, "f"), StandardScaler().fit_transform(column)[:, 0], atol=1e-4
    )
    assert np.allclose(
        Scaler.of("minmax", *moments)(values, "f"), MinMaxScaler().fit_transform(column)[:, 0], atol=1e-5
    )


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(TEXTS, TEXTS, st.integers(1, 3))
def test_a_vocabulary_is_a_counter_sorted(
    local_engine: Engine, seen: list[str | None], asked: list[str | None], min_count: int
) -> None:
    counts = Counter(value for value in seen if value is not None)
    known = sorted((v for v, n in counts.items() if n >= min_count), key=lambda v: (-counts[v], v.encode()))
    events = local_engine.from_arrow(pa.table({"item": pa.array(seen, pa.string())}))
    counted = local_engine.arrow(fitted_values.counts(events, [schema().feature("item")]))
    vocabulary = Vocabulary.of_counts(counted, min_count)
    assert vocabulary.values.to_pylist() == known
    expected = [known.index(value) + 1 if value in known else 0 for value in asked]
    assert vocabulary(asked, "f").tolist() == expected == vocabulary(pa.array(asked, pa.string()), "f").tolist()


@given(INTS, INTS)
def test_integers_are_found_like_in_a_dict(seen: list[int | None], asked: list[int | None]) -> None:
    vocabulary = vocabulary_of(pa.array(seen, pa.int64()))
    ids = {value: i for i, value in enumerate(vocabulary.values.to_pylist(), 1)}
    expected = [ids.get(value, 0) for value in [*asked, *seen]]
    assert vocabulary([*asked, *seen], "f").tolist() == expected


@given(TEXTS, INTS, NUMBERS)
def test_offline_equals_online_one_value_at_a_time(
    texts: list[str | None], ints: list[int | None], numbers: list[float | None]
) -> None:
    text_tables = [vocabulary_of(pa.array(texts[::2], pa.string())), Hashing(7, "string")]
    int_tables = [vocabulary_of(pa.array(ints[::2], pa.int64())), Hashing(7, "int64")]
    number_tables = [
        Buckets((-5.0, 0.0, 2.5)),
        scaler_of("standard", numbers),
        scaler_of("minmax", numbers),
    ]
    cases: list[tuple[list[Any], list[Any], list[pa.DataType]]] = [
        (text_tables, texts, [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())]),
        (int_tables, ints, [pa.int64()]),
        (number_tables, numbers, [pa.float64()]),
    ]
    for tables, values, kinds in cases:
        for table in tables:
            alone = [table([value], "f")[0] for value in values]
            assert table(values, "f").tolist() == alone
            for kind in kinds:
                column = pa.array(values, kinds[0]).cast(kind)
                assert table(pa.chunked_array([column]), "f").tolist() == alone


def test_many_strings_at_once_are_what_they_are_alone() -> None:
    vocabulary = vocabulary_of(pa.array(["a", "b", "b"]))
    values = ["b", None, "?", "a"] * MANY
    assert vocabulary(pa.array(values), "f").tolist() == [1, 0, 0, 2] * MANY == vocabulary(values, "f").tolist()


@given(st.lists(st.floats(allow_nan=True, allow_infinity=False), max_size=20))
def test_buckets_count_boundaries_at_or_below(values: list[float]) -> None:
    boundaries = (-1.0, 0.0, 10.0)
    expected = [0 if math.isnan(v) else 1 + sum(b <= v for b in boundaries) for v in values]
    assert Buckets(boundaries)(values, "f").tolist() == expected and max(expected, default=0) < Buckets(boundaries).rows


def mix(z: int) -> int:
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
    return z ^ (z >> 31)


def plain_hash(value: str | int) -> int:
    """The definition in stable_hash, one value at a time."""
    golden = 0x9E3779B97F4A7C15
    if isinstance(value, int):
        return mix((value + golden) % 2**64)
    raw = value.encode()
    h = mix(len(raw) + golden)
    for at in range(0, len(raw), 8):
        h = mix(((h ^ int.from_bytes(raw[at : at + 8], "little")) + golden) % 2**64)
    return h


@given(
    st.lists(st.text(max_size=40), max_size=20),
    st.lists(st.integers(-(2**63), 2**63 - 1), max_size=20),
    st.integers(0, 5),
)
def test_hashes_follow_their_definition_in_slices_too(texts: list[str], ints: list[int], start: int) -> None:
    assert hash_strings(pa.array(texts, pa.string()).slice(start)).tolist() == [
        plain_hash(text) for text in texts[start:]
    ]
    assert hash_texts(texts).tolist() == [plain_hash(text) for text in texts]
    assert hash_integers(np.array(ints, np.int64)).tolist() == [plain_hash(value) for value in ints]


def test_hashes_never_change() -> None:
    # what SplitMix64 gives for seeds 0 and 1
    assert hash_integers(np.array([0, 1])).tolist() == [0xE220A8397B1DCDAF, 0x910A2DEC89025CC1]
    assert hash_strings(pa.array(["", "Rome", "Toy Story (1995)"])).tolist() == [
        0xE220A8397B1DCDAF,
        0x113AA7417A5DF413,
        0x7E6ACA372B4D7912,
    ]


def test_hashed_ids_leave_row_zero_to_missing_values() -> None:
    ids = Hashing(3, "int64")(list(range(1000)), "f")
    assert set(ids.tolist()) == {1, 2, 3} and Hashing(3, "int64")([None], "f").tolist() == [0]


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        ("item", ["a", 3], "feature 'item': value 3 is int, expected string"),
        ("item", [["a"]], r"feature 'item': value \['a'\] is list, expected string"),
        ("item", np.array([3]), "feature 'item': value 3 is int, expected string"),
        ("item", pa.array([3]), r"feature 'item': values are int64 \(for example 3\), expected string"),
        ("code", ["7"], "feature 'code': value '7' is str, expected int64"),
        ("code", [7, 7.5], "feature 'code': value 7.5 is no whole number"),
        ("code", [7, 2.0**53], "feature 'code': value 9007199254740992.0 is a floating number of 2\\^53 or more"),
        ("code", pa.array([None, 0.5]), "feature 'code': value 0.5 is no whole number"),
        ("code", [2**63], "feature 'code': value 9223372036854775808 does not fit int64"),
        ("city", [5], "feature 'city': value 5 is int, expected string"),
        ("age", ["young"], "feature 'age': value 'young' is str, expected a number"),
        ("price", pa.array(["1"]), r"feature 'price': values are string \(for example '1'\), expected a number"),
        ("price", [float("inf")], "feature 'price': value inf is not finite"),
        ("views", [-1], "feature 'views': value -1.0 is negative"),
        ("tags", ["xy"], "feature 'tags': value 'xy' is str, expected a list"),
        ("tags", pa.array(["xy"]), "feature 'tags': values are string .*, expected a list"),
        ("history", [["b", 4]], "feature 'history': value 4 is int, expected string"),
    ],
)
def test_a_value_of_the_wrong_type_is_an_error_that_names_the_feature(name: str, values: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        fitted().encode(name, values)


def test_an_unknown_feature_is_named_with_the_nearest() -> None:
    with pytest.raises(SchemaError, match="no feature 'prize'; did you mean price"):
        fitted().encode("prize", [1])


def test_an_unseen_scenario_is_an_error_or_has_the_fallback_index() -> None:
    with pytest.raises(DataError, match="scenario 'carts' is unknown; did you mean cart"):
        fitted().encode_scenario(["cart", "carts"])
    with pytest.raises(DataError, match="scenario None is unknown"):
        fitted().encode_scenario(pa.array(["cart", None]))
    lenient = fit_encoders(schema(scenario={"values": ["home", "cart"], "unseen": "fallback"}), log(), TRAINING)
    index = lenient.encode_scenario(["cart", "carts", "home"])
    assert index.tolist() == [1, 2, 0] and index.dtype == np.int64


def test_saved_encoders_are_the_same_encoders(tmp_path: Path) -> None:
    encoders = fitted()
    encoders.save(tmp_path)
    loaded = Encoders.load(tmp_path)
    assert loaded.schema == encoders.schema and loaded.fingerprint() == encoders.fingerprint()
    for feature in schema().features:
        if feature.kind != "sequence":
            before, after = (e.encode(feature.name, log()[feature.source]) for e in (encoders, loaded))
            assert np.array_equal(getattr(before, "values", before), getattr(after, "values", after))


def test_the_fingerprint_tells_vocabularies_and_scalers_apart() -> None:
    one, again = fitted().fingerprint(), fit_encoders(schema(), log(), TRAINING).fingerprint()
    other_rows = fit_encoders(schema(), log(), np.array([True, True, True, False, True])).fingerprint()
    assert one == again != other_rows


def test_selected_encoders_keep_the_tables_they_share(tmp_path: Path) -> None:
    part = fitted().select(("last", "price"))
    assert [f.name for f in part.schema.features] == ["item", "last", "price"]
    part.save(tmp_path)
    assert Encoders.load(tmp_path).encode("last", ["a"]).tolist() == [1]  # type: ignore[union-attr]
    assert sorted(path.name for path in (tmp_path / "vocab").iterdir()) == ["encoders.json", "item.parquet"]


def test_a_damaged_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match=r"schema\.yaml: no such file"):
        Encoders.load(tmp_path)
    fitted().save(tmp_path)
    (tmp_path / "vocab" / "code.parquet").unlink()
    with pytest.raises(DataError, match=r"code\.parquet: no such file"):
        Encoders.load(tmp_path)
    (tmp_path / "vocab" / "code.parquet").write_bytes((tmp_path / "vocab" / "item.parquet").read_bytes())
    with pytest.raises(DataError, match=r"code\.parquet: 4 values, expected 2"):
        Encoders.load(tmp_path)
    (tmp_path / "vocab" / "encoders.json").write_text("{}")
    with pytest.raises(DataError, match=r"encoders\.json: damaged"):
        Encoders.load(tmp_path)
