"""Experiments: who gets which variant, what files are refused, and what a ramp may do."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml
from commands import refused, succeeds, swrec
from hypothesis import given, settings
from hypothesis import strategies as st
from runs import ROOT

from swrec_prod.errors import ConfigError, RequestError
from swrec_prod.experiments.assign import Experiments
from swrec_prod.experiments.buckets import bucket
from swrec_prod.experiments.experiments_file import ExperimentsFile


def sweep(**changed: Any) -> dict[str, Any]:
    """An experiment with c."""
    own = {
        "layer": "debias",
        "control": "as_today",
        "variants": {
            "as_today": {"buckets": [[0, 100]]},
            "stronger": {"buckets": [[5000, 5100]], "strength": 0.6},
        },
    }
    return {**own, **changed}


def content(**experiments: Any) -> dict[str, Any]:
    return {"layers": {"debias": {}, "rank": {}}, "experiments": experiments}


def made(plain: dict[str, Any]) -> Experiments:
    return Experiments(ExperimentsFile.model_validate(plain), "E.yaml")


MODELS = {
    "layer": "rank",
    "control": "old",
    "variants": {"old": {"buckets": [[0, 5000]]}, "new": {"buckets": [[5000, 10000]], "model": "mscan", "version": 2}},
}
UNITS = [str(number) for number in range(4000)]


def variants(experiments: Experiments, units: list[str] = UNITS, scenario: str = "home") -> dict[str, dict[str, str]]:
    """By unit and experiment."""
    return {u: {got.experiment: got.variant for got in experiments.assign(u, scenario).variants} for u in units}


def test_layers_are_independent_and_set_what_their_variants_say():
    halves = {"as_today": {"buckets": [[0, 5000]]}, "stronger": {"buckets": [[5000, 10000]], "strength": 0.6}}
    experiments = made(content(c_sweep=sweep(variants=halves), models=MODELS))
    both = Counter((got["c_sweep"], got["models"]) for got in variants(experiments).values())
    assert len(both) == 4 and all(880 < times < 1120 for times in both.values())
    for unit in UNITS[:50]:
        got = experiments.assign(unit, "home")
        names = {one.experiment: one.variant for one in got.variants}
        assert got.parameters.strength == (0.6 if names["c_sweep"] == "stronger" else None)
        assert (got.parameters.model, got.parameters.version) == (
            ("mscan", 2) if names["models"] == "new" else (None, None)
        )


def test_experiments_of_a_layer_exclude_each_other():
    whole = {"a": {"buckets": [[0, 5000]]}, "b": {"buckets": [[5000, 10000]], "strength": 0.1}}
    first, second = (sweep(variants=whole, control="a", traffic=[part]) for part in ([0, 3000], [3000, 10000]))
    got = variants(made(content(first=first, second=second)))
    assert all(len(of_unit) == 1 for of_unit in got.values())
    assert Counter(next(iter(of_unit)) for of_unit in got.values())["first"] == pytest.approx(1200, abs=120)


def test_a_domain_holds_units_out_of_everything():
    plain = content(models=MODELS) | {"domains": {"all": {"buckets": [[500, 10000]]}}}
    got = variants(made(plain))
    assert sum(not of_unit for of_unit in got.values()) == pytest.approx(200, abs=60)
    assert variants(made(content(models=MODELS))).keys() == got.keys()
    assert all(got[u] in ({}, of_unit) for u, of_unit in variants(made(content(models=MODELS))).items())


def test_other_scenarios_and_requests_without_a_unit_are_in_none():
    experiments = made(content(models={**MODELS, "scenarios": ["home"]}))
    assert experiments.assign("1", "home").variants and not experiments.assign("1", "cart").variants
    missing = experiments.assign("", "home")
    assert missing.is_missing and not missing.variants and missing.parameters.model is None


def test_forced_variants_are_got_whatever_the_unit_and_marked():
    experiments = made(content(c_sweep=sweep(), models=MODELS))
    for unit in ("", "1", "2"):
        got = {one.experiment: one for one in experiments.assign(unit, "home", {"c_sweep": "stronger"}).variants}
        assert got["c_sweep"].variant == "stronger" and got["c_sweep"].forced
    with pytest.raises(RequestError, match="no experiment 'c_swep'; did you mean c_sweep"):
        experiments.assign("1", "home", {"c_swep": "stronger"})
    with pytest.raises(RequestError, match="has no variant 'strong'; did you mean stronger"):
        experiments.assign("1", "home", {"c_sweep": "strong"})
    both = {"models": "new", "others": "new"}
    others = made(content(models={**MODELS, "traffic": [[0, 10]]}, others={**MODELS, "traffic": [[10, 20]]}))
    with pytest.raises(RequestError, match="'models' and 'others' exclude each other"):
        others.assign("1", "home", both)


@given(st.integers(1, 49), st.integers(1, 49))
@settings(max_examples=20, deadline=None)
def test_a_ramp_moves_no_unit_between_variants(first, more):
    """From 1 % or more to at most 50 % in each of two variants."""
    stages = [
        {
            "as_today": {"buckets": [[0, 100 * share]]},
            "stronger": {"buckets": [[5000, 5000 + 100 * share]], "strength": 0.6},
        }
        for share in (first, min(50, first + more))
    ]
    before, after = (made(content(c_sweep=sweep(variants=stage))) for stage in stages)
    after.check_follows(before)
    ramped = variants(after, UNITS[:500])
    assert all(of_unit in ({}, ramped[u]) for u, of_unit in variants(before, UNITS[:500]).items())


WRONG = [
    ({"layer": "debas"}, r"E\.yaml:\d+: experiments\.c_sweep\.layer: 'debas' is not there; did you mean debias"),
    ({"control": "x"}, r"experiments\.c_sweep\.control: 'x' is not there"),
    ({"traffic": [[0, 10001]]}, r"traffic: \[0, 10001\] is no range of buckets; expected 0 <= start < stop <= 10000"),
    ({"traffic": [[5, 5]]}, r"\[5, 5\] is no range"),
    ({"traffic": [[0, 10], [9, 20]]}, r"\[0, 10\] and \[9, 20\] overlap"),
    ({"variants": {"as_today": {"buckets": []}}}, r"variants: dictionary should have at least 2 items"),
    (
        {"variants": {"as_today": {"buckets": [[0, 9]]}, "b": {"buckets": [[8, 10]]}}},
        r"variants\.b\.buckets: \[8, 10\] overlaps with \[0, 9\] of 'as_today'",
    ),
    (
        {"variants": {"as_today": {"buckets": [[0, 9]]}, "b": {"buckets": [[9, 10]], "version": 2}}},
        r"variants\.b\.version: a version of which model\? say `model` too",
    ),
    (
        {"variants": {"as_today": {"buckets": [[0, 9]]}, "b": {"buckets": [[9, 10]], "strenght": 2}}},
        r"E\.yaml:17: .*strenght: unknown key; did you mean strength",
    ),
]


@pytest.mark.parametrize(("changed", "message"), WRONG)
def test_a_wrong_file_is_refused_with_its_line(tmp_path, monkeypatch, changed, message):
    monkeypatch.chdir(tmp_path)
    Path("E.yaml").write_text(yaml.safe_dump(content(c_sweep=sweep(**changed)), sort_keys=False))
    outcome = swrec("experiments", "check", "E.yaml")
    refused(outcome, "E.yaml:")
    assert re.search(message, outcome.err), outcome.err
    assert re.search(r"E\.yaml:\d+: ", outcome.err), outcome.err


def test_the_line_is_that_of_the_key(tmp_path):
    lines = ["layers: {debias: {}}", "experiments:", "  c_sweep:", "    layer: debias", "    control: zero"]
    lines += ["    variants: {a: {buckets: [[0, 1]]}, b: {buckets: [[1, 2]]}}"]
    (tmp_path / "E.yaml").write_text("\n".join(lines))
    with pytest.raises(ConfigError, match=r"E\.yaml:5: experiments\.c_sweep\.control"):
        Experiments.load(tmp_path / "E.yaml")


def test_two_layers_that_set_one_parameter_are_refused():
    other = sweep(layer="rank")
    with pytest.raises(
        ConfigError, match=r"other\.layer: layer 'rank' sets strength, as 'c_sweep' does in layer 'debias'"
    ):
        made(content(c_sweep=sweep(), other=other))


def test_experiments_of_a_layer_may_not_share_traffic():
    with pytest.raises(ConfigError, match=r"other\.traffic: \[0, 10000\] overlaps with \[0, 10000\] of 'c_sweep'"):
        made(content(c_sweep=sweep(), other=sweep()))


STRONGER = {"buckets": [[5000, 5100]], "strength": 0.6}
MOVED = [
    ({"variants": {"as_today": {"buckets": [[0, 50]]}, "stronger": STRONGER}}, "50 buckets from 50 on were in it"),
    ({"variants": {"as_today": {"buckets": [[0, 100]]}, "x": STRONGER}}, r"\[5000, 5100\] were of 'stronger'"),
    ({"traffic": [[0, 9000]]}, "1000 buckets from 9000 on were in it"),
    ({"layer": "rank"}, "was 'debias', which had other units"),
]


@pytest.mark.parametrize(("changed", "message"), MOVED)
def test_a_running_experiment_is_not_dealt_out_anew_in_silence(changed, message):
    running = made(content(c_sweep=sweep()))
    after = made(content(c_sweep=sweep(**changed)))
    with pytest.raises(ConfigError, match=message) as caught:
        after.check_follows(running)
    assert "give the experiment another version" in str(caught.value)
    made(content(c_sweep=sweep(version=2, **changed))).check_follows(running)
    made(content()).check_follows(running)


def test_the_command_says_who_gets_what(tmp_path):
    path = tmp_path / "E.yaml"
    path.write_text(yaml.safe_dump(content(models=MODELS)))
    assert "1 experiments in 2 layers, version " in succeeds("experiments", "check", path)
    told = succeeds("experiments", "assign", path, "--unit", "42", "--unit", "43")
    expected = made(content(models=MODELS)).assign("42", "").variants[0]
    assert told.splitlines()[0] == f"42: models={expected.variant} (bucket {expected.bucket})"


def test_the_page_shows_a_file_that_is_right_and_sql_that_agrees():
    page = (ROOT / "docs" / "experiments.md").read_text()
    file = re.search(r"^```yaml experiments.yaml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)[1]
    assert len(made(yaml.safe_load(file)).file.experiments) == 2
    sql = re.search(r"^```sql\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)[1]
    assert duckdb.sql(sql).fetchall() == [(bucket("exp:c_sweep:1", unit),) for unit in ("42", "43")]
