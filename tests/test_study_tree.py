"""The tree that makes scenarios, against scikit-learn's, and by what a split of it must be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.tree import DecisionTreeClassifier

from swrec_prod.studies.tree import Binned, grow

ROWS = 600


def drawn_columns(seed: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Two numbers of few values and a label that depends on both."""
    draw = np.random.default_rng(seed)
    columns = {"a": draw.integers(0, 9, ROWS).astype(float), "b": draw.integers(0, 7, ROWS).astype(float)}
    logit = 0.8 * (columns["a"] - 4) * (columns["b"] > 2) + draw.normal(size=ROWS)
    return columns, (logit > 0).astype(int)


def binned(columns: dict[str, np.ndarray]) -> tuple[dict[str, Binned], dict[str, np.ndarray]]:
    as_bins = {name: Binned.of(values, True, 0, 10_000) for name, values in columns.items()}
    return as_bins, {name: as_bins[name].bins(values) for name, values in columns.items()}


@settings(max_examples=20, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000), leaves=st.integers(2, 6))
def test_of_numbers_it_is_scikit_learns(seed: int, leaves: int) -> None:
    columns, label_N = drawn_columns(seed)
    known, bins = binned(columns)
    ours = grow(known, bins, label_N, leaves).leaf_of(bins)
    tree = DecisionTreeClassifier(
        criterion="entropy", max_leaf_nodes=leaves, min_samples_leaf=ROWS // 100, random_state=0
    )
    x = np.stack(list(columns.values()), 1)
    rate = tree.fit(x, label_N).predict_proba(x)[:, 1]
    means = np.array([label_N[ours == leaf].mean() for leaf in range(leaves)])
    assert likelihood(label_N, means[ours]) == pytest.approx(likelihood(label_N, rate), rel=1e-9)


def likelihood(label_N: np.ndarray, rate_N: np.ndarray) -> float:
    with np.errstate(divide="ignore", invalid="ignore"):
        each_N = np.where(label_N == 1, np.log(rate_N), np.log1p(-rate_N))
    return float(each_N.sum())


@settings(max_examples=20, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000))
def test_the_best_split_of_ids_beats_every_other(seed: int) -> None:
    draw = np.random.default_rng(seed)
    id_N, rate_V = draw.integers(0, 6, ROWS), draw.random(6)
    label_N = (draw.random(ROWS) < rate_V[id_N]).astype(int)
    tree = grow({"id": Binned.of(id_N, False, 6, 64)}, {"id": id_N}, label_N, 2)
    found = split_likelihood(label_N, tree.leaf_of({"id": id_N}) == 1)
    every = [split_likelihood(label_N, np.isin(id_N, [v for v in range(6) if mask >> v & 1])) for mask in range(1, 63)]
    assert found == pytest.approx(max(every), rel=1e-9)


def split_likelihood(label_N: np.ndarray, left_N: np.ndarray) -> float:
    rate_N = np.where(left_N, label_N[left_N].mean(), label_N[~left_N].mean())
    return likelihood(label_N, rate_N)


def test_it_stops_where_nothing_is_gained_and_says_its_rules() -> None:
    values = np.repeat([1.0, 2.0, 3.0], 100)
    known, bins = binned({"age": values})
    tree = grow(known, bins, (values > 1).astype(int), 5)
    assert tree.leaves == 2
    assert tree.rules({"age": known["age"].said}) == ["age <= 1", "age > 1"]
    ids = Binned.of(np.array([0, 1, 2]), False, 3, 64)
    rules = grow({"tab": ids}, {"tab": np.repeat([0, 1, 2], 50)}, np.repeat([1, 0, 1], 50), 3).rules({"tab": ids.said})
    assert rules == ["tab in ids 1", "tab in ids 0, 2"]
    assert grow(known, bins, np.ones(300, int), 4).rules({"age": known["age"].said}) == ["all"]
