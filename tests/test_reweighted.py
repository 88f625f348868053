"""Figures under weights of clusters against scikit-learn on the rows repeated, and what clusters do to them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from swrec_prod.statistics.bootstrap import cluster_weights
from swrec_prod.statistics.reweighted import RankedRows, Ratio


@st.composite
def ranked(draw: st.DrawFn) -> tuple[np.ndarray, ...]:
    """Labels, scores with many ties, clusters, groups that lie across them, and how often each cluster is drawn."""
    n, clusters = draw(st.integers(4, 40)), draw(st.integers(2, 6))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    labels = random.integers(0, 2, n)
    columns = (random.integers(-2, 3, n) / 2, random.integers(0, clusters, n), random.integers(0, 3, n))
    columns[1][:clusters] = np.arange(clusters)[:n]
    assume(0 < labels.sum() < n and n >= clusters)
    return labels, *columns, random.integers(0, 4, clusters)


def naive_gauc(labels: np.ndarray, scores: np.ndarray, groups: np.ndarray, weights: np.ndarray) -> float:
    """By scikit-learn, a group at a time; NaN where no group has both labels."""
    total, mass = 0.0, 0.0
    for group in np.unique(groups):
        mine = (groups == group) & (weights > 0)
        if 0 < labels[mine].sum() < mine.sum():
            own = weights[mine].sum()
            total += own * roc_auc_score(labels[mine], scores[mine], sample_weight=weights[mine])
            mass += own
    return total / mass if mass else np.nan


@settings(deadline=None)
@given(ranked(), st.booleans())
def test_auc_and_gauc_are_those_of_rows_repeated(given_rows, weighted):
    labels, scores, clusters, groups, times = given_rows
    mass = np.random.default_rng(0).random(len(labels)) + 0.1 if weighted else None
    rows = times[clusters] * (1 if mass is None else mass)
    one = RankedRows.of(labels, scores, clusters, mass_N=mass)
    found = one.under(times[None].astype(np.uint16))
    assert found == pytest.approx([naive_gauc(labels, scores, np.zeros_like(labels), rows)], abs=1e-12, nan_ok=True)
    if any(0 < labels[groups == g].mean() < 1 for g in np.unique(groups)):
        many = RankedRows.of(labels, scores, clusters, groups, mass)
        found = many.under(times[None].astype(np.uint16))
        assert found == pytest.approx([naive_gauc(labels, scores, groups, rows)], abs=1e-12, nan_ok=True)


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_influence_is_the_derivative_by_a_clusters_weight(grouped, weighted):
    random = np.random.default_rng(4)
    labels, clusters = (random.random(300) < 0.3).astype(int), random.integers(0, 20, 300)
    scores = np.round(labels + 2 * random.normal(size=300), 1)
    groups = random.integers(0, 25, 300) if grouped else np.zeros(300, int)
    mass = random.random(300) + 0.1 if weighted else np.ones(300)
    figure = RankedRows.of(labels, scores, clusters, groups if grouped else None, mass if weighted else None)
    found, step = figure.influence().value_C, 1e-5
    for cluster in range(0, 20, 4):
        up, down = (naive_gauc(labels, scores, groups, mass * (1 + s * (clusters == cluster))) for s in (step, -step))
        assert found[cluster] == pytest.approx((up - down) / (2 * step), abs=1e-8)
    assert found.sum() == pytest.approx(0, abs=1e-12)


def test_what_a_left_out_cluster_changes_is_exact_for_a_ratio_and_near_for_auc():
    random = np.random.default_rng(5)
    above, below = random.random(12), random.integers(1, 50, 12)
    rest = [(above.sum() - a) / (below.sum() - b) for a, b in zip(above, below, strict=True)]
    ratio = Ratio(above, below)
    assert ratio.influence().left_out_C == pytest.approx(ratio.value - np.array(rest), abs=1e-12)
    clusters = np.repeat(np.arange(60), 10)
    labels = (random.random(len(clusters)) < 0.3).astype(int)
    scores = labels + random.normal(size=len(labels)) + random.normal(size=60)[clusters]
    found = RankedRows.of(labels, scores, clusters).influence().left_out_C
    kept = [clusters != cluster for cluster in range(60)]
    exact = roc_auc_score(labels, scores) - np.array([roc_auc_score(labels[at], scores[at]) for at in kept])
    assert found == pytest.approx(exact, abs=0.1 * np.abs(exact).max())


def test_weights_are_those_of_drawing_clusters_with_replacement():
    weights = cluster_weights(np.random.default_rng(0), 4000, 7)
    assert weights.shape == (4000, 7) and (weights.sum(1) == 7).all()
    assert weights.mean(0) == pytest.approx(1, abs=0.06)
    assert np.cov(weights.T.astype(float)) == pytest.approx(np.eye(7) - 1 / 7, abs=0.06), "multinomial"
