"""A data file is refused where a feature would tell its label, before anything is read."""

from __future__ import annotations

from typing import Any

import pytest

from swrec_prod.datasets import DATASETS
from swrec_prod.datasets.kuairand import OUTCOMES, TIMES
from swrec_prod.errors import ConfigError, SchemaError
from swrec_prod.prepare.data_file import DataFile
from swrec_prod.schema import FeatureSchema
from swrec_prod.strict import parse

USER = {"name": "user_id", "kind": "id", "side": "user", "encoder": "vocab"}
# called like its label's column
HISTORY = {"name": "click", "kind": "sequence", "side": "user", "item": "user_id", "where": "click"}
SCHEMA = {
    "name": "some",
    "time": "time",
    "user": "user_id",
    "labels": [{"name": "click", "column": "click"}],
    "features": [USER, HISTORY],
}


def reads(column: str) -> dict[str, Any]:
    return SCHEMA | {
        "features": [
            USER,
            HISTORY,
            {"name": "leak", "kind": "dense", "side": "item", "encoder": "log1p", "column": column},
        ]
    }


def test_a_label_is_no_feature() -> None:
    assert parse(FeatureSchema, reads("price"), "schema.yaml", SchemaError).feature("leak").source == "price"
    with pytest.raises(
        SchemaError, match=r"feature 'leak' reads column 'click', which is the label 'click'; a feature is what"
    ) as told:
        parse(FeatureSchema, reads("click"), "schema.yaml", SchemaError)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("source", "column"),
    [
        ("kuairand-pure", "is_like"),
        ("kuairand-1k", "long_view"),
        ("movielens-1m", "rating"),
        ("ali-ccp", "conversion"),
        ("mind", "click"),
    ],
)
def test_what_is_known_after_the_impression_is_no_feature(source: str, column: str) -> None:
    label = {"labels": [{"name": "other", "column": "other"}], "features": reads(column)["features"][::2]}
    with pytest.raises(
        ConfigError, match=rf"feature 'leak' reads column '{column}', which {source} knows only after the impression"
    ):
        parse(DataFile, {"source": source, "schema": reads(column) | label}, "data.yaml")
    assert parse(DataFile, {"source": "parquet", "schema": reads(column) | label}, "data.yaml")


def test_outcomes_of_kuairand_are_all_that_users_did() -> None:
    for name in ("kuairand-pure", "kuairand-1k"):
        assert set(DATASETS[name].outcomes) == {"click", *OUTCOMES, *TIMES} - {"is_click"}
