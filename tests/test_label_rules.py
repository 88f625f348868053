"""Labels by rule: what is a 1, of columns of every type, and that no feature may read them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ibis
import numpy as np
import pyarrow as pa
import pytest
from dated_log import SCHEMA as DATED
from dated_log import data_file, write_day, write_log
from hypothesis import given
from hypothesis import strategies as st

from swrec_prod.computed.rules import check_rule, with_rules
from swrec_prod.engine.contract import Engine
from swrec_prod.errors import ConfigError, DataError
from swrec_prod.prepare.run import prepare
from swrec_prod.schema import FeatureSchema, Label
from swrec_prod.strict import parse

ITEM = {"name": "item", "kind": "id", "side": "item", "encoder": "vocab"}
COLUMNS = {
    "stars": pa.array([1, 3, 4, None, 5], pa.int8()),
    "share": [0.1, float("nan"), 0.8, 0.9, None],
    "action": ["buy", "look", None, "cart", "buy"],
    "kept": [True, False, None, True, False],
}
RULES = [
    ({"column": "stars", "above": 3}, [0, 0, 1, None, 1]),
    ({"column": "stars", "in": [1, 5]}, [1, 0, 0, None, 1]),
    ({"column": "stars", "equals": 4.0}, [0, 0, 1, None, 0]),
    ({"column": "share", "above": 0.8}, [0, None, 0, 1, None]),
    ({"column": "action", "equals": "buy"}, [1, 0, None, 0, 1]),
    ({"column": "action", "in": ["buy", "cart"]}, [1, 0, None, 1, 1]),
    ({"column": "action", "in": "cart"}, [0, 0, None, 1, 0]),
    ({"column": "kept", "equals": False}, [0, 1, None, 0, 1]),
]


def schema_of(labels: list[dict[str, Any]], features: list[dict[str, Any]], **more: Any) -> FeatureSchema:
    plain = {"name": "some", "time": "at", "user": "who", "labels": labels, "features": features}
    return parse(FeatureSchema, plain | more, "some.yaml")


def test_both_engines_say_what_is_a_one(each_engine: Engine) -> None:
    schema = schema_of([{"name": f"label{i}", **rule} for i, (rule, _) in enumerate(RULES)], [ITEM])
    rows = each_engine.from_arrow(pa.table({"row": np.arange(5), **COLUMNS}))
    made = each_engine.arrow(with_rules(rows, schema).order_by("row"))
    assert [made[label.outcome].to_pylist() for label in schema.labels] == [expected for _, expected in RULES]


@given(st.sampled_from(["int64", "float64", "string", "boolean"]), st.sampled_from([True, 3, 3.5, "3"]))
def test_a_value_that_a_column_cannot_have_is_told(kind: str, value: Any) -> None:
    fits = {"int64": (int,), "float64": (int, float), "string": (str,), "boolean": (bool,)}[kind]
    label = Label(name="liked", column="x", equals=value)
    if type(value) in fits:
        check_rule(label, ibis.dtype(kind), "log")
    else:
        with pytest.raises(DataError, match=rf"^log: label 'liked': column 'x' is {kind}, so it is never"):
            check_rule(label, ibis.dtype(kind), "log")


@pytest.mark.engine
@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ([{"name": "dear", "column": "price", "above": 3}], "label column 'price' has 23 missing values; every row"),
        (
            [
                {"name": "some", "column": "visits", "above": 90},
                {"name": "many", "column": "w", "above": 0, "after": "some"},
            ],
            "label 'many' has 164 values of 1 where 'some' is 0, though it is after it; mend these rows, or leave",
        ),
    ],
)
def test_values_that_make_no_label_are_counted(labels: list[dict[str, Any]], said: str, tmp_path: Path) -> None:
    changes = {"labels": labels, "features": DATED["features"][:1], "weight": None}
    with pytest.raises(DataError, match=said) as told:
        prepare(data_file(schema=changes), write_log(tmp_path / "raw", 3), tmp_path / "out")
    assert "\n" not in str(told.value)


@pytest.mark.engine
def test_a_label_may_be_of_a_derived_column(tmp_path: Path) -> None:
    raw = write_log(tmp_path / "raw", 3)
    for number in (1, 2, 3):
        write_day(raw, number, watched=np.arange(60.0), length=np.full(60, 100.0))
    changes = {
        "derived": [{"name": "share", "function": "ratio", "of": ["watched", "length"]}],
        "labels": [{"name": "long", "column": "share", "above": 0.25}],
        "features": [DATED["features"][0], {"name": "length", "kind": "dense", "side": "item", "encoder": "standard"}],
        "weight": None,
    }
    manifest = prepare(data_file(schema=changes), raw, tmp_path / "out")
    positives = [sum(t.positives["long"] for t in of.scenarios.values()) for of in manifest.days.values()]
    assert positives == [34, 34, 34], "26/100 to 59/100"


def test_a_feature_may_not_read_what_a_label_by_rule_is_made_of() -> None:
    labels = [{"name": "liked", "column": "rating", "above": 3}, {"name": "rated", "column": "rating", "in": [1, 5]}]
    features = [{"name": "rating", "kind": "dense", "side": "item", "encoder": "standard"}]
    with pytest.raises(
        ConfigError, match=r"feature 'rating' reads column 'rating', which is the label '.*'; a feature is"
    ):
        schema_of(labels, features)
