"""A server that runs experiments: who gets which model and c, what answers and metrics say, and what it refuses."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from answered import Server
from prometheus_client.parser import text_string_to_metric_families
from runs import wait_for
from test_oip import message
from tiny_world import ITEMS, STRENGTHS, USER, launch

from swrec_prod.errors import CallerError, ConfigError, RequestError
from swrec_prod.experiments.assign import Experiments
from swrec_prod.experiments.experiments_file import ExperimentsFile
from swrec_prod.serving.client import Client
from swrec_prod.serving.client.request import make_call, message_of
from swrec_prod.serving.protocol.call import ScoreCall
from swrec_prod.serving.protocol.inference import ModelInferResponse
from swrec_prod.serving.routing.router import Router
from swrec_prod.serving.routing.routes import Routes
from swrec_prod.serving.service import oip
from swrec_prod.serving.service.answering import Outcome
from swrec_prod.serving.service.callers_file import Caller, CallerConfig

HALVES: dict[str, Any] = {
    "layers": {"debias": {}, "rank": {}},
    "experiments": {
        "c_sweep": {
            "layer": "debias",
            "control": "as_today",
            "scenarios": ["home"],
            "variants": {"as_today": {"buckets": [[0, 5000]]}, "weak": {"buckets": [[5000, 10000]], "strength": 0.125}},
        },
        "simple": {
            "layer": "rank",
            "control": "mscan",
            "variants": {
                "mscan": {"buckets": [[0, 5000]], "model": "mscan"},
                "simple": {"buckets": [[5000, 10000]], "model": "shared_bottom", "version": 1},
            },
        },
    },
}
ROUTES = Routes.model_validate({"default": {"model": "mscan"}})


def experiments(plain: dict[str, Any] = HALVES) -> Experiments:
    return Experiments(ExperimentsFile.model_validate(plain), "E.yaml")


@pytest.fixture(scope="module")
def predictors(tiny_repo):
    return Router.load(tiny_repo, ("mscan", "shared_bottom")).predictors


@pytest.fixture(scope="module")
def router(predictors) -> Router:
    return Router(predictors, ROUTES, "R.yaml", experiments())


def unit_of(**variants: str) -> str:
    """The first unit that gets these variants."""
    running = experiments()
    for number in range(1000):
        got = {one.experiment: one.variant for one in running.assign(str(number), "home").variants}
        if variants.items() <= got.items():
            return str(number)
    raise AssertionError(variants)


def test_a_units_variants_decide_model_and_c(router):
    weak = router.route(ScoreCall("", "", "home", unit=unit_of(c_sweep="weak", simple="mscan")))
    assert (weak.predictor.name, weak.strength) == ("mscan", 0.125)
    assert weak.reasons[0] == "model mscan: variant mscan of experiment simple"
    assert weak.reasons[-1] == "c 0.125: variant weak of experiment c_sweep"
    today = router.route(ScoreCall("", "", "home", unit=unit_of(c_sweep="as_today", simple="mscan")))
    assert today.strength == STRENGTHS["home"]
    simple = router.route(ScoreCall("", "", "home", unit=unit_of(simple="simple")))
    assert (simple.predictor.name, simple.predictor.version, simple.strength) == ("shared_bottom", "1", 0.0)


def test_what_a_request_says_itself_goes_before_its_variants(router):
    unit = unit_of(c_sweep="weak", simple="simple")
    named = router.route(ScoreCall("mscan", "", "home", unit=unit, debias_strength=0.5))
    assert (named.predictor.name, named.strength) == ("mscan", 0.5)
    assert [one.triggered for one in named.variants] == [False, False]
    at_simple = router.route(ScoreCall("", "", "home", unit=unit))  # which has no c
    assert {one.experiment: one.triggered for one in at_simple.variants} == {"c_sweep": False, "simple": True}


def test_forced_variants_are_a_choice_that_callers_may_not_have():
    call = ScoreCall("", "", "home", forced={"c_sweep": "weak"})
    Caller("qa", CallerConfig(token_sha256="0" * 64)).check(call)
    with pytest.raises(CallerError, match="may not choose the variant"):
        Caller("feed", CallerConfig(token_sha256="0" * 64, may_choose=("model",))).check(call)


def test_the_open_inference_protocol_says_variants_too(router):
    def ask(**parameters: str) -> Outcome:
        return server.ask(oip.FORM, message(model="", **parameters).SerializeToString())

    with Server(router) as server:
        reply = ModelInferResponse.FromString(ask(unit=unit_of(c_sweep="weak", simple="mscan")).reply)
        assert reply.parameters["variants"].string_param == "c_sweep=weak,simple=mscan"
        assert ModelInferResponse.FromString(ask(forced="simple=simple, c_sweep=as_today").reply).model_name == (
            "shared_bottom"
        )
        refused = ask(forced="simple").status
        assert refused is not None and "expected experiment=variant" in refused.details


WRONG = [
    ({"model": "msacn"}, r"E\.yaml: experiments\.one\.variants\.b\.model: 'msacn' is not served; did you mean mscan"),
    ({"model": "mscan", "version": 7}, r"variants\.b\.version: version 7 is not served"),
    ({"model": "shared_bottom", "strength": 0.1}, r"variants\.b\.strength: none of the models has a causal split"),
    ({"strength": 1e6}, r"variants\.b\.strength: 1e\+06; expected .* the range of mscan/"),
]


@pytest.mark.parametrize(("variant", "message"), WRONG)
def test_what_no_package_can_do_is_refused_at_the_start(predictors, variant, message):
    plain = {
        "layers": {"rank": {}},
        "experiments": {
            "one": {
                "layer": "rank",
                "control": "a",
                "variants": {"a": {"buckets": [[0, 10]]}, "b": {"buckets": [[10, 20]], **variant}},
            }
        },
    }
    with pytest.raises(ConfigError, match=message):
        Router(predictors, ROUTES, "R.yaml", experiments(plain))


def test_a_scenario_that_no_model_knows_is_refused_at_the_start(predictors):
    one = {**HALVES["experiments"]["c_sweep"], "scenarios": ["hmoe"]}
    with pytest.raises(ConfigError, match=r"c_sweep\.scenarios: no model knows scenario 'hmoe'; did you mean home"):
        Router(predictors, ROUTES, "R.yaml", experiments({**HALVES, "experiments": {"c_sweep": one}}))


def test_without_experiments_nothing_can_be_forced(predictors):
    with pytest.raises(RequestError, match="no experiment 'c_sweep'"):
        Router(predictors, ROUTES).route(ScoreCall("", "", "home", forced={"c_sweep": "weak"}))


@pytest.fixture(scope="module")
def served(tiny_repo, tmp_path_factory) -> Iterator[tuple[str, str]]:
    """Address and metrics' address of a server as `swrec serve` starts it."""
    folder = tmp_path_factory.mktemp("experiments")
    (folder / "E.yaml").write_text(yaml.safe_dump(HALVES))
    (folder / "R.yaml").write_text("default: {model: mscan}")
    files = {"experiments": folder / "E.yaml", "routes": folder / "R.yaml"}
    process = launch(tiny_repo, folder / "port", metrics_port=0, **files)
    try:
        target = wait_for(folder / "port", process)
        printed = next(line for line in process.stdout or () if line.startswith("metrics on "))
        yield target, printed.split()[-1]
    finally:
        process.terminate()
        process.communicate(timeout=60)


@pytest.mark.process
def test_answers_and_metrics_count_variants(served):
    target, metrics = served
    with Client(target, timeout=30) as client:
        for number in range(40):
            scored = client.score("home", USER, ITEMS, unit=str(number))
            expected = {one.experiment: one.variant for one in experiments().assign(str(number), "home").variants}
            assert scored.variants == expected
            assert scored.model == ("shared_bottom" if expected["simple"] == "simple" else "mscan")
        forced = client.score("home", USER, ITEMS, forced={"c_sweep": "weak", "simple": "mscan"})
        assert forced.debias_strength == 0.125 and client.score("home", USER, ITEMS).variants == {}
        told = client.explain("home", unit="1")
        assert told.variants == client.score("home", USER, ITEMS, unit="1").variants
        same = client.score("home", USER, ITEMS, model="mscan", debias_strength=0.125)
        np.testing.assert_array_equal(same.score, forced.score)
    counted = samples(metrics)
    assert sum(counted["simple"].values()) == 42 and sum(counted["c_sweep"].values()) == 42


def samples(address: str) -> dict[str, dict[str, float]]:
    """By experiment, the answers of every variant."""
    text = urllib.request.urlopen(address, timeout=10).read().decode()
    found: dict[str, dict[str, float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == "scorer_assignments_total":
                found.setdefault(sample.labels["experiment"], {})[sample.labels["variant"]] = sample.value
    return found


def test_requests_of_a_call_in_parts_force_the_same_variants():
    call = make_call("home", USER, ITEMS, forced={"c_sweep": "weak"})
    assert [(one.experiment, one.variant) for one in message_of(call).forced] == [("c_sweep", "weak")]
    with pytest.raises(RequestError, match="forced is 'weak'; give a mapping"):
        make_call("home", USER, ITEMS, forced="weak")


def test_paths_of_the_files_reach_the_generation(tmp_path: Path):
    from swrec_prod.serving.process.options import Options

    given = Options(tmp_path, experiments=tmp_path / "E.yaml")
    assert Options.from_json(given.to_json()) == given
