"""GAUC and NDCG against scikit-learn, group by group."""

from __future__ import annotations

import doctest

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.metrics import ndcg_score, roc_auc_score

from swrec_prod.errors import MetricError, SingleClassError
from swrec_prod.metrics import within_groups
from swrec_prod.metrics.within_groups import gauc, ndcg


@st.composite
def groups_of_rows(draw: st.DrawFn) -> pd.DataFrame:
    """Rows of a few groups with many equal scores, and weights of which some are 0."""
    n = draw(st.integers(2, 40))
    return pd.DataFrame(
        {
            "label": draw(arrays.arrays(np.float32, n, elements=st.sampled_from([0.0, 1.0]))),
            "score": draw(arrays.arrays(np.float32, n, elements=st.sampled_from([-9.0, -2.5, -0.1, 0.0, 0.1, 3.0]))),
            "group": draw(arrays.arrays(np.int64, n, elements=st.integers(-1, 4))),
            "weight": draw(arrays.arrays(np.float64, n, elements=st.sampled_from([0.0, 0.25, 1.0, 3.0]))),
        }
    )


def judged(rows: pd.DataFrame) -> list[pd.DataFrame]:
    """The groups with both classes."""
    return [group for _, group in rows.groupby("group") if group.label.nunique() == 2]


def columns(rows: pd.DataFrame) -> list[np.ndarray]:
    return [rows[name].to_numpy() for name in ("label", "score", "group")]


def test_docstring_examples():
    assert doctest.testmod(within_groups).failed == 0


@given(groups_of_rows())
def test_gauc_equals_a_loop_over_groups(rows):
    groups = judged(rows)
    if not groups:
        with pytest.raises(SingleClassError, match="groups has both a positive and a negative row"):
            gauc(*columns(rows))
        return
    values = [roc_auc_score(g.label, g.score) for g in groups]
    expected = np.average(values, weights=[len(g) for g in groups])
    found = gauc(*columns(rows))
    assert found == (pytest.approx(expected, abs=1e-12), sum(map(len, groups)), len(groups))
    labels, scores, group = columns(rows)
    assert gauc(labels, scores, np.array([f"user {g}" for g in group])) == found


@given(groups_of_rows())
def test_weighted_gauc_equals_a_loop_over_groups(rows):
    groups = judged(rows[rows.weight > 0])
    assume(groups)
    values = [roc_auc_score(g.label, g.score, sample_weight=g.weight) for g in groups]
    expected = np.average(values, weights=[g.weight.sum() for g in groups])
    found = gauc(*columns(rows), rows.weight.to_numpy())
    assert found == (pytest.approx(expected, abs=1e-12), sum(map(len, groups)), len(groups))


@given(groups_of_rows(), st.integers(1, 12))
def test_ndcg_equals_scikit_learn_with_ties(rows, k):
    groups = judged(rows)
    assume(groups)
    values = [ndcg_score([g.label], [g.score], k=k) for g in groups]
    found = ndcg(*columns(rows), k)
    assert found == (pytest.approx(np.mean(values), abs=1e-12), sum(map(len, groups)), len(groups))


@given(groups_of_rows(), st.integers(1, 12))
def test_weighted_ndcg_averages_groups_by_the_mean_weight_of_their_rows(rows, k):
    groups = judged(rows[rows.weight > 0])
    assume(groups)
    values = [ndcg_score([g.label], [g.score], k=k) for g in groups]
    expected = np.average(values, weights=[g.weight.mean() for g in groups])
    assert ndcg(*columns(rows), k, rows.weight.to_numpy()).value == pytest.approx(expected, abs=1e-12)


def test_what_cannot_be_is_named():
    with pytest.raises(MetricError, match="k is 0, expected 1 or more"):
        ndcg(np.array([0, 1]), np.zeros(2), np.zeros(2, int), 0)
    with pytest.raises(MetricError, match=r"groups \(3,\) must be a column of 2 ids"):
        gauc(np.array([0, 1]), np.zeros(2), np.zeros(3, int))
