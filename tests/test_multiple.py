"""Adjusted p against the definitions, and what the two controls promise."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swrec_prod.errors import MetricError
from swrec_prod.statistics import multiple
from swrec_prod.statistics.multiple import CONTROLS, benjamini_hochberg, holm, significant

p_values = st.lists(st.sampled_from([0.0, 1e-4, 0.004, 0.01, 0.02, 0.03, 0.049, 0.2, 0.9, 1.0]), max_size=12)


def test_docstring_examples():
    assert doctest.testmod(multiple).failed == 0


@given(p_values, st.sampled_from([0.01, 0.05, 0.2]))
def test_holm_stops_at_the_first_that_is_not_significant(p, level):
    rejected = []
    for rank, i in enumerate(np.argsort(p, kind="stable")):
        if p[i] > level / (len(p) - rank):
            break
        rejected.append(p[i])
    marks = significant(p, level, control="holm")
    assert sorted(x for x, mark in zip(p, marks, strict=True) if mark) == rejected


@given(p_values, st.sampled_from([0.01, 0.05, 0.2]))
def test_benjamini_hochberg_takes_all_up_to_the_last_below_its_line(p, level):
    ordered = np.sort(p)
    held = [x for rank, x in enumerate(ordered, start=1) if x <= level * rank / len(p)]
    assert significant(p, level) == [bool(held) and x <= held[-1] for x in p]


@given(p_values)
def test_holm_is_the_stricter_and_both_keep_the_order(p):
    strict, loose = holm(p), benjamini_hochberg(p)
    assert (strict >= loose - 1e-12).all() and (loose >= np.array(p) - 1e-12).all() and (strict <= 1).all()
    for adjusted in (strict, loose):
        assert all(adjusted[i] <= adjusted[j] for i in range(len(p)) for j in range(len(p)) if p[i] <= p[j])


def test_no_family_has_no_marks():
    assert [significant([], control=control) for control in CONTROLS] == [[], []]


def test_holm_marks_nothing_false_in_19_of_20_families():
    random = np.random.default_rng(0)
    families = random.random((4000, 10))
    assert np.mean([any(significant(p, control="holm")) for p in families]) == pytest.approx(0.05, abs=0.011)


@pytest.mark.parametrize(
    ("p", "control", "message"),
    [
        ([0.1, 1.2], "holm", "from 0 to 1, not 1.2"),
        ([0.1, float("nan")], "benjamini-hochberg", "from 0 to 1, not nan"),
        ([0.1], "bonferroni", "bonferroni: no control"),
    ],
)
def test_wrong_inputs_are_named(p, control, message):
    with pytest.raises(MetricError, match=message):
        significant(p, control=control)
