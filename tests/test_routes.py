"""The routes file: which package scores a scenario, with which c and as which scenario; what is refused at start."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from tiny_world import SCENARIOS, STRENGTHS

from swrec_prod.errors import ConfigError, NotFoundError, RequestError
from swrec_prod.serving.protocol.call import ScoreCall
from swrec_prod.serving.routing.router import Router
from swrec_prod.serving.routing.routes import Routes, Share

CHOSEN = ("mscan/1", "mscan/2", "shared_bottom")


@pytest.fixture(scope="module")
def predictors(tiny_repo):
    return Router.load(tiny_repo, CHOSEN).predictors


def router(predictors, content: dict) -> Router:
    return Router(predictors, Routes.model_validate(content), "R.yaml")


def call(scenario: str, model: str = "", version: str = "", c: float | None = None) -> ScoreCall:
    return ScoreCall(model, version, scenario, debias_strength=c)


ROUTES = {
    "default": {"model": "mscan", "fallback": "home"},
    "scenarios": {
        "home": {"version": 1, "max_concurrent": 4},
        "cart": {"model": "shared_bottom", "queue_ms": 20},
        "search": {"strength": 0.125},
        "closed": {"fallback": "refuse"},
    },
}


def test_a_scenario_gets_the_package_of_its_route(predictors):
    routes = router(predictors, ROUTES)
    got = {name: routes.route(call(name)) for name in SCENARIOS}
    assert {name: (r.predictor.name, r.predictor.version, r.fallback) for name, r in got.items()} == {
        "home": ("mscan", "1", False),
        "cart": ("shared_bottom", "1", False),
        "search": ("mscan", "2", False),
    }
    assert [got[name].scored_as for name in SCENARIOS] == list(SCENARIOS)
    assert got["home"].share == Share("home", 4, None) and got["cart"].share == Share("cart", None, 20.0)


def test_c_is_the_requests_else_the_routes_else_the_packages(predictors):
    routes = router(predictors, ROUTES)
    assert routes.route(call("search", c=0.25)).strength == 0.25
    assert routes.route(call("search")).strength == 0.125
    assert routes.route(call("home")).strength == STRENGTHS["home"]
    assert routes.route(call("search", model="shared_bottom")).strength == 0.0  # the route's c is of the route's model
    with pytest.raises(RequestError, match="debias_strength is 1e\\+06"):
        routes.route(call("search", c=1e6))


def test_unknown_scenarios_get_the_fallback_or_are_refused(predictors):
    routes = router(predictors, ROUTES)
    unknown = routes.route(call("new"))
    assert (unknown.scored_as, unknown.fallback, unknown.share.name) == ("home", True, "")
    assert unknown.strength == STRENGTHS["home"]
    with pytest.raises(NotFoundError, match="scenario 'closed' is unknown to mscan/2, and the routes refuse such"):
        routes.route(call("closed"))
    with pytest.raises(NotFoundError, match="did you mean search"):
        router(predictors, {"default": {"model": "mscan"}}).route(call("serch"))


def test_the_reasons_say_which_rule_decided(predictors):
    routes = router(predictors, ROUTES)
    assert routes.route(call("search")).reasons == (
        "model mscan: its route names it",
        "version 2: it is the latest served",
        "scenario search: the model knows it",
        "c 0.125: its route says so",
    )
    assert routes.route(call("new", "mscan", "1", 0.5)).reasons == (
        "model mscan: the request names it",
        "version 1: the request names it",
        "scenario home: the fallback that the routes name for 'new'",
        "c 0.5: the request asks for 0.5",
    )


def test_what_a_request_names_comes_before_the_routes(predictors):
    routes = router(predictors, ROUTES)
    for model, version, wanted in [("shared_bottom", "", "1"), ("mscan", "2", "2"), ("mscan", "", "1"), ("", "2", "2")]:
        routed = routes.route(call("home", model, version))
        assert (routed.predictor.name, routed.predictor.version) == (model or "mscan", wanted)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"default": {"model": "mscann"}}, "default.model: 'mscann' is not served; did you mean mscan?"),
        ({"default": {"model": "mscan", "version": 3}}, "default.version: '3' is not served; known: 1, 2"),
        (
            {"default": {"model": "mscan", "fallback": "hom"}},
            "default.fallback: 'hom' is not served; did you mean home?",
        ),
        ({"default": {"model": "mscan", "strength": 1e6}}, "default.strength: 1e+06; expected -"),
        (
            {"scenarios": {"home": {"model": "shared_bottom", "strength": 0.1}}},
            "scenarios.home.strength: shared_bottom/1",
        ),
        ({"scenarios": {"home": {}}}, "scenarios.home.model: required where several are served"),
        ({"scenarios": {"hone": {"model": "mscan"}}}, "scenarios.hone: 'mscan' does not know this scenario"),
    ],
)
def test_a_route_that_no_request_could_take_is_refused_at_start(content, message, predictors):
    with pytest.raises(ConfigError) as refused:
        router(predictors, content)
    assert str(refused.value).startswith(f"R.yaml: {message}") and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"defualt": {}}, "defualt: unknown key; did you mean default?"),
        ({"scenarios": {"home": {"debias": 1}}}, "scenarios.home.debias: unknown key; known: model, version"),
        ({"scenarios": {1: {}}}, "scenarios.1"),
        ({"default": {"max_concurrent": 0}}, "default.max_concurrent: "),
        ({"default": {"queue_ms": -1}}, "default.queue_ms: "),
        ({"default": {"version": "newest"}}, "default.version"),
        ({"default": {"strength": float("nan")}}, "default.strength: "),
    ],
)
def test_a_wrong_file_is_refused_by_name(content, message, tmp_path: Path, tiny_repo):
    path = tmp_path / "R.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(ConfigError) as refused:
        Router.load(tiny_repo, CHOSEN, routes=path)
    assert str(refused.value).startswith(f"{path}: {message}") and "\n" not in str(refused.value)


def test_without_routes_everything_is_as_before(predictors):
    routes = Router(predictors)
    assert routes.route(call("cart", "mscan")).strength == STRENGTHS["cart"]
    with pytest.raises(NotFoundError, match="model is empty and 2 models are served"):
        routes.route(call("cart"))
    alone = Router({"shared_bottom": predictors["shared_bottom"]}).route(call("cart"))
    assert alone.reasons[:2] == ("model shared_bottom: it is the only one", "version 1: it is the latest served")
