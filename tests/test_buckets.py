"""Buckets of experiments: golden vectors, the same in SQL, even and independent."""

from __future__ import annotations

import duckdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2_contingency, chisquare

from swrec_prod.experiments.buckets import BUCKET_SQL, BUCKETS, bucket

GOLDEN = {
    ("layer:rank:2026a", "42"): 4916,
    ("layer:rank:2026a", "user-1"): 5092,
    ("layer:rank:2026a", "用户7"): 9361,
    ("exp:c_sweep:1", "42"): 5631,
    ("exp:c_sweep:1", ""): 4348,
}
texts = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=20)


def in_sql(salts: list[str], units: list[str]) -> list[int]:
    con = duckdb.connect()
    con.execute("CREATE TABLE asked AS SELECT unnest($1) AS salt, unnest($2) AS unit", [salts, units])
    return [number for (number,) in con.execute(f"SELECT {BUCKET_SQL} FROM asked").fetchall()]


@pytest.mark.parametrize(("salt", "unit"), GOLDEN)
def test_golden_vectors(salt, unit):
    assert bucket(salt, unit) == GOLDEN[salt, unit]
    assert in_sql([salt], [unit]) == [GOLDEN[salt, unit]]


@given(st.lists(st.tuples(texts, texts), min_size=1, max_size=20))
@settings(max_examples=25, deadline=None)
def test_a_warehouse_finds_the_same_buckets(pairs):
    salts, units = (list(column) for column in zip(*pairs, strict=True))
    assert in_sql(salts, units) == [bucket(salt, unit) for salt, unit in pairs]


@pytest.mark.slow  # 20 million hashes
def test_buckets_are_even_and_salts_independent():
    con = duckdb.connect()
    salts = [f"layer:l{i}:1" for i in range(20)]
    columns = ", ".join(
        BUCKET_SQL.replace("salt", f"'{salt}'") + f"::USMALLINT AS b{i}" for i, salt in enumerate(salts)
    )
    table = con.execute(f"SELECT {columns} FROM (SELECT range::VARCHAR AS unit FROM range(1000000))").fetchnumpy()
    found = [np.asarray(table[f"b{i}"]) for i in range(20)]
    assert all(chisquare(np.bincount(own, minlength=BUCKETS)).pvalue > 1e-4 for own in found)
    for one, other in zip(found, found[1:] + found[:1], strict=True):
        counts = np.histogram2d(one, other, bins=20, range=[[0, BUCKETS]] * 2)[0]
        assert chi2_contingency(counts).pvalue > 1e-4
