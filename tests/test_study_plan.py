"""What studies would train: every study by name, keys of one's own, groups, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import refused, succeeds, swrec

from swrec_prod.config import RunConfig
from swrec_prod.errors import ConfigError
from swrec_prod.models import MODELS, find, option_types
from swrec_prod.studies.named import STUDIES
from swrec_prod.studies.plan import StudyPlan, plan_study

RUN = "kuairand_shared_bottom"


def names(plan: StudyPlan) -> dict[str, list[str]]:
    return {group: [variant.name for variant in of] for group, of in plan.groups.items()}


@pytest.mark.parametrize("name", sorted(set(STUDIES) - {"grid"}))
@pytest.mark.parametrize("run", [None, RUN])
def test_every_study_plans_runs_whose_models_know_their_options(name: str, run: str | None) -> None:
    plan = plan_study(name, run)
    for variant in plan.variants:
        config = RunConfig.load(plan.run, variant.overrides)
        assert set(config.model.options) <= set(option_types(find(config.model.name)))
        assert (variant.simulation is None) == (run is not None and name != "many_scenarios")
    folders = [variant.folder for variant in plan.variants]
    assert len(set(folders)) == len(folders) > 1


def test_a_grid_is_every_combination_against_the_first() -> None:
    plan = plan_study("grid", RUN, ["train.lr_dense=1e-3,3e-4", "model.bottom=[64],[64, 32]"], seeds=(4, 5))
    assert names(plan) == {
        "": [
            "lr_dense 0.001, bottom [64]",
            "lr_dense 0.001, bottom [64, 32]",
            "lr_dense 0.0003, bottom [64]",
            "lr_dense 0.0003, bottom [64, 32]",
        ]
    }
    config = RunConfig.load(plan.run, plan.variants[3].overrides)
    assert config.train.lr_dense == 3e-4 and config.model.options["bottom"] == [64, 32]
    assert config.model.options["norm"] == "batch", "what the study does not name is the run file's"
    assert plan.seeds == (4, 5)


def test_other_keys_make_groups() -> None:
    words = ["model.name=mmoe,shared_bottom", "rows.share=1,0.5", "rows.thinned=4"]
    plan = plan_study("sparsity", RUN, words)
    assert names(plan) == {"mmoe": ["share 1", "share 0.5"], "shared_bottom": ["share 1", "share 0.5"]}
    assert plan.variants[1].rows.thinned == "4" and plan.variants[1].rows.share == 0.5
    across = plan_study("sparsity", RUN, words, along="model.name")
    assert names(across) == {"share 1": ["mmoe", "shared_bottom"], "share 0.5": ["mmoe", "shared_bottom"]}


def test_another_model_has_none_of_the_run_files_options() -> None:
    plan = plan_study("grid", RUN, ["model.name=shared_bottom,mmoe", "model.norm=layer"])
    configs = [RunConfig.load(plan.run, variant.overrides).model for variant in plan.variants]
    assert configs[0].options["tower"] == [8] and configs[1].options == {"norm": "layer"}


def test_efficiency_is_of_all_models() -> None:
    assert {name for of in names(plan_study("efficiency")).values() for name in of} == set(MODELS)


def test_quick_is_small() -> None:
    plan = plan_study("experts", RUN, quick=True)
    config = RunConfig.load(plan.run, plan.variants[0].overrides)
    assert (config.train.epochs, plan.variants[0].rows.limit, plan.seeds) == (1, 20_000, (1,))
    assert plan_study("experts", RUN, rows=500).variants[0].rows.limit == 500


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["experst"], "experst: no such study; did you mean experts?"),
        (["grid"], "grid: nothing varies"),
        (["grid", "epochs=1,2"], "'epochs=1,2': give key=value"),
        (["experts", "model.num_experts=2,2"], "'model.num_experts=2,2': a value is there twice"),
        (["experts", "model.name=mmeo"], "model.name: unknown model 'mmeo'"),
        (["experts", "rows.shares=0.5,1"], "rows: shares: unknown key; did you mean share?"),
        (["experts", "rows.share=0,1"], "rows: share: input should be greater than 0"),
        (["many_scenarios", "simulate.scenarios=1,3"], "simulate: --scenarios: input should be greater"),
        (["experts", "--along", "model.norm"], "--along model.norm: has no several values"),
        (["experts", "--seeds", "1,1"], "--seeds 1,1: give different whole numbers"),
        (["experts", "missing.yaml"], "missing.yaml: no such file"),
    ],
)
def test_what_is_refused(words: list[str], message: str) -> None:
    refused(swrec("study", *words, "--plan"), message)


def test_without_a_folder_nothing_is_trained() -> None:
    refused(swrec("study", "experts"), "--out: give the folder of the study, or --plan")


def test_the_command_says_what_it_would_do() -> None:
    listed = json.loads(succeeds("study", "list", "--json"))
    assert listed == {name: study.question for name, study in STUDIES.items()}
    text = succeeds("study", "depth", RUN, "--seeds", "1,2,3", "--plan")
    assert "blocks 2, blocks 1, blocks 3, blocks 4" in text and ": 12 runs" in text
    plan = json.loads(succeeds("study", "depth", RUN, "--plan", "--json"))
    assert plan["variants"][0]["rows"] == {} and plan["variants"][0]["simulation"] is None
    assert plan["runs"] == 8 and plan["variants"][0]["overrides"] == ["model={name: sfpnet}", "model.blocks=2"]


def test_a_missing_run_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        plan_study("grid", str(tmp_path / "none.yaml"), ["model.name=dnn,mmoe"])
