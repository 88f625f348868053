"""Recall, hit rate, MRR, coverage and novelty of requests against loops over orders of equal scores, and in pieces."""

from __future__ import annotations

import doctest
import itertools

import duckdb
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.metrics import label_ranking_average_precision_score

from swrec_prod.errors import MetricError
from swrec_prod.metrics import improvement, top_items, within_requests
from swrec_prod.metrics.improvement import auc_ratio_impr, rela_impr
from swrec_prod.metrics.inside import Inside
from swrec_prod.metrics.pieces import Piece
from swrec_prod.metrics.rows import Rows
from swrec_prod.metrics.summary import REQUEST_METRICS, Support, record_of
from swrec_prod.metrics.within_groups import gauc
from swrec_prod.metrics.within_requests import hit_rate, mrr, recall, sgauc


@st.composite
def requests(draw: st.DrawFn, size: int = 24, candidates: int = 5) -> pd.DataFrame:
    """Rows of small requests with many equal scores, weights of which some are 0, and items."""
    n = draw(st.integers(1, size))
    return pd.DataFrame(
        {
            "label": draw(arrays.arrays(np.float64, n, elements=st.sampled_from([0.0, 1.0]))),
            "score": draw(arrays.arrays(np.float64, n, elements=st.sampled_from([-1.5, 0.0, 0.25, 2.0]))),
            "request": np.arange(n) // candidates,
            "weight": draw(arrays.arrays(np.float64, n, elements=st.sampled_from([0.0, 0.5, 2.0]))),
            "item": draw(arrays.arrays(np.int64, n, elements=st.integers(0, 6))),
        }
    )


def in_any_order(rows: pd.DataFrame, k: int) -> tuple[float, float, float]:
    """Mean recall, hit rate and reciprocal rank of one request over all orders of rows of equal score."""
    found = []
    for order in itertools.permutations(range(len(rows))):
        labels = rows.iloc[list(order)].sort_values("score", ascending=False, kind="stable").label.to_numpy()
        first = int(labels.argmax()) + 1
        found.append((labels[:k].sum() / labels.sum(), first <= k, 1 / first if first <= k else 0.0))
    return tuple(np.mean(found, axis=0))


def test_docstring_examples() -> None:
    assert doctest.testmod(within_requests).failed == doctest.testmod(top_items).failed == 0


@settings(max_examples=25, deadline=None)
@given(requests(15, 4), st.integers(1, 5))
def test_recall_hit_rate_and_mrr_are_means_over_orders_of_equal_scores(rows: pd.DataFrame, k: int) -> None:
    counted = [of for _, of in rows[rows.weight > 0].groupby("request") if of.label.any()]
    columns = (rows.label.to_numpy(), rows.score.to_numpy(), rows.request.to_numpy())
    if not counted:
        with pytest.raises(MetricError, match="groups has a positive row"):
            recall(*columns, k, rows.weight.to_numpy())
        return
    expected = np.array([in_any_order(of, k) for of in counted])
    means = np.average(expected, axis=0, weights=[of.weight.mean() for of in counted])
    found = [metric(*columns, k, rows.weight.to_numpy()) for metric in (recall, hit_rate, mrr)]
    assert [of.value for of in found] == pytest.approx(means, abs=1e-12)
    assert {(of.rows, of.groups) for of in found} == {(sum(map(len, counted)), len(counted))}


def test_mrr_of_requests_with_one_positive_row_is_that_of_scikit_learn() -> None:
    draw = np.random.default_rng(0)
    scores = draw.normal(size=(200, 7))
    labels = np.eye(7)[draw.integers(0, 7, 200)]
    request = np.repeat(np.arange(200), 7)
    found = mrr(labels.ravel(), scores.ravel(), request, k=7).value
    assert found == pytest.approx(label_ranking_average_precision_score(labels, scores), abs=1e-12)


def test_figures_of_the_first_places_equal_sql() -> None:
    draw = np.random.default_rng(1)
    n, k = 3000, 3
    rows = pd.DataFrame(
        {
            "row": draw.permutation(n),
            "score": draw.normal(size=n).round(1),
            "request": draw.integers(0, 400, n),
            "item": [f"i{i}" for i in draw.zipf(1.5, n) % 200],
        }
    )
    bits = rows.item.map(dict(zip(rows.item.unique(), draw.random(200) * 9, strict=False))).to_numpy()
    rows["bits"] = bits
    shown, bits_mean = duckdb.sql(
        f"""with places as (select *, row_number() over (partition by request order by score desc, row) place from rows)
        select (select count(distinct item) from places where place <= {k}) / (select count(distinct item) from rows),
               (select avg(b) from (select avg(bits) b from places where place <= {k} group by request))"""
    ).fetchone()
    names, codes = np.unique(rows.item, return_inverse=True)
    judged = Rows(
        draw.integers(0, 2, n), rows.score.to_numpy(), np.zeros(n, int), None, k, rows.request.to_numpy(), codes,
        names.astype(str), bits, rows.row.to_numpy(),
    )  # fmt: skip
    record = record_of(Piece.of_rows({"": judged}, np.zeros(n, int), ["feed"]))["overall"]
    assert (record["coverage"], record["novelty"]) == pytest.approx((shown, bits_mean), abs=1e-12)


def whole(rows: pd.DataFrame, k: int = 2) -> Rows:
    names = np.array([f"i{i}" for i in range(7)])
    return Rows(
        *(rows[name].to_numpy() for name in ("label", "score", "request", "weight")), k,
        np.where(rows.request == 1, -1, rows.request), rows.item.to_numpy(), names, rows.item.to_numpy() / 3.0,
    )  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(requests(), st.integers(0, 5))
def test_requests_in_pieces_say_what_all_say(rows: pd.DataFrame, cut: int) -> None:
    scenario, judged = rows.item.to_numpy() % 2, whole(rows)

    def piece(own: np.ndarray) -> Piece:
        return Piece.of_rows({"click": judged.take(own)}, scenario[own], ["feed", "ads"])

    first = (rows.request < cut).to_numpy()
    merged = Piece.from_arrays((piece(first) + piece(~first)).to_arrays())
    expected, found = record_of(piece(np.ones(len(rows), bool))), record_of(merged)
    assert list(found["overall"]) == list(expected["overall"]) and {*REQUEST_METRICS} <= {*found["overall"]}
    for part in (found, expected):
        del part["reliability"]
    for name, record in {**found.pop("scenarios"), **found}.items():
        other = expected["scenarios"][name] if name in expected["scenarios"] else expected[name]
        assert record.pop("reasons", {}) == other.pop("reasons", {})
        assert record == pytest.approx(other, abs=1e-12, nan_ok=False)


def test_rows_without_a_request_count_in_none_and_s_gauc_is_that_of_requests() -> None:
    draw = np.random.default_rng(2)
    labels, scores = draw.integers(0, 2, 300), draw.normal(size=300)
    request = draw.integers(-1, 40, 300)
    rows = Rows(labels, scores, draw.integers(0, 30, 300), requests=request)
    record = record_of(Piece.of_rows({"": rows}, np.zeros(300, int), ["feed"]))["overall"]
    own = request >= 0
    expected = sgauc(labels[own], scores[own], request[own])
    assert expected == gauc(labels[own], scores[own], request[own])
    assert (record["sgauc"], record["request_rows"]) == (pytest.approx(expected.value), expected.rows)
    assert "coverage" not in record and "novelty" not in record


def test_too_few_rows_are_null_with_their_number() -> None:
    draw = np.random.default_rng(3)
    labels = np.concatenate([np.ones(3), np.zeros(60)])
    rows = Rows(labels, draw.normal(size=63), np.zeros(63, int))
    piece = Piece.of_rows({"": rows}, np.repeat([0, 1], [33, 30]), ["feed", "ads"])
    record = record_of(piece, Support(rows=31, positives=3))
    assert record["overall"]["auc"] is not None and record["scenarios"]["feed"]["auc"] is not None
    assert set(record["scenarios"]["ads"]["reasons"].values()) == {"30 rows, fewer than 31"}
    assert record["macro"]["auc"] == record["scenarios"]["feed"]["auc"]
    few = record_of(piece, Support(positives=4))["overall"]
    assert few["auc"] is None and few["reasons"]["logloss"] == "3 positive rows, fewer than 4"


def test_traffic_is_the_mean_by_rows_and_curves_are_those_of_bins() -> None:
    draw = np.random.default_rng(4)
    labels, logits, scenario = draw.integers(0, 2, 500), draw.normal(size=500), draw.integers(0, 3, 500)
    found = record_of(Piece.of_rows({"": Rows(labels, logits, scenario)}, scenario, ["a", "b", "c"]))
    rows = [of["rows"] for of in found["scenarios"].values()]
    for name in ("auc", "logloss", "ece"):
        values = [of[name] for of in found["scenarios"].values()]
        assert found["traffic"][name] == pytest.approx(np.average(values, weights=rows))
        assert found["macro"][name] == pytest.approx(np.mean(values))
    curve = found["reliability"]["overall"]
    gaps = np.abs(np.subtract(curve["predicted"], curve["observed"]))
    assert np.dot(curve["mass"], gaps) == pytest.approx(found["overall"]["ece"], abs=1e-5)
    assert list(found["reliability"]["scenarios"]) == ["a", "b", "c"] and sum(curve["mass"]) == pytest.approx(1)


def test_no_places_are_refused() -> None:
    with pytest.raises(MetricError, match="k is 0, expected 1 or more"):
        Inside.of(Rows(np.array([0, 1]), np.zeros(2), np.zeros(2, int), k=0))


def test_both_forms_of_relaimpr() -> None:
    assert doctest.testmod(improvement).failed == 0
    assert auc_ratio_impr(0.7, 0.7) == rela_impr(0.7, 0.7) == 0
    with pytest.raises(MetricError, match=r"AUC of 0\.5 has no value, expected one above 0\.5"):
        rela_impr(0.6, 0.5)
