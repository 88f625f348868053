"""The benchmark's forms: numbers of parameters as published, norms over all rows, and all else as for every model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from batches import dims, random_rows, score, sorted_rows
from runs import config_of, metrics_of_run, run_file
from torch import nn

from swrec_prod.config import RunConfig
from swrec_prod.errors import ConfigError
from swrec_prod.layers.inputs import Dims, Field
from swrec_prod.models import build
from swrec_prod.models.compat import COMPAT
from swrec_prod.train.run import train

S = 3
DIM = 16
# of MovieLens-1M's tables
ROWS = {"user": 6040, "movie": 3706, "gender": 2, "occupation": 21, "zip": 3439, "genre": 18}
EMBEDDINGS = DIM * sum(ROWS.values())  # 211,616

# Benchmark, Table 4, MovieLens. Beside the embeddings;
# D = 6 x 16 + 1 for age = 97, or 96 where dense features are not read:
PUBLISHED = {
    # bottom 97 x 128 + 128, norm 256; 3 towers of 128 x 8 + 8, norm 16, 8 + 1: 12,800 + 3 x 1,057
    "shared_bottom": 227_587,
    # 3 experts of 97 x 16 + 16, norm 32; 3 gates of 97 x 3 + 3, norm 6; 3 towers of 16 x 8 + 8, norm 16, 9:
    # 4,800 + 900 + 483
    "mmoe": 217_799,
    # 3 x 2 + 1 such experts, gates of 2 + 1 logits, such towers: 7 x 1,600 + 900 + 483
    "ple": 224_199,
    # (1 + 3) x (97 x 128 + 128 x 64 + 64 x 32 + 32, biases 225), norms 3 x 2 x 225, partitioned norm (1 + 3) x 2 x 97,
    # auxiliary network 97 x 32 + 32, norm 64, 32 + 1: 4 x 22,913 + 1,350 + 776 + 3,233
    "star": 308_627,
    # transform 3 x 2 x 96, 8 + 3 x 2 experts of norm 2 x 96 and 96 x 16 + 16, gate 96 x 10 + 10,
    # head 16 x 32 + 32, norm 64, 32 x 32 + 32, norm 64, 32 + 1: 576 + 14 x 1,744 + 970 + 1,761
    "sar_net": 239_339,
    # scenarios 3 x 16; pruners 112 x 96, 48 x 32, 48 x 32; layers 112 x 32 + 32, norm 64, 32 x 32 + 32, norm 64, 32 + 1
    "adasparse": 230_321,
    # scenarios 3 x 16; (1 + 3 clusters) x (112 x 64 + 64 x 64 + 64, biases 129): 48 + 4 x 11,457
    "adl": 257_492,
    # scenarios 3 x 16; gate 113 x 97 + 97 and 97 x 97 + 97; one Linear 97 + 1: 48 + 11,058 + 9,506 + 98
    "epnet": 232_326,
}
every_model = pytest.mark.parametrize("name", sorted(COMPAT))


def movielens() -> Dims:
    """What the benchmark's models read: six embeddings and the age."""
    embedded = [Field(name, DIM * i, DIM, "user", "id") for i, name in enumerate(ROWS)]
    age = Field("age", DIM * len(ROWS), 1, "user", "dense")
    return Dims(age.start + 1, S, fields=(*embedded, age), user="user", target="movie")


def compat(name: str, **options: object) -> nn.Module:
    """A model in eval mode, with running statistics away from their start."""
    torch.manual_seed(0)
    model = build(name, {"compat": "benchmark", **options}, dims())
    for step in range(3):
        model(sorted_rows(60, seed=step).inputs(S))
    return model.eval()


def test_every_form_is_held_to_a_published_number() -> None:
    assert PUBLISHED.keys() == COMPAT.keys()
    assert EMBEDDINGS == 211_616


@every_model
def test_the_number_of_parameters_is_the_published_one(name: str) -> None:
    model = build(name, {"compat": "benchmark"}, movielens())
    assert EMBEDDINGS + sum(parameter.numel() for parameter in model.parameters()) == PUBLISHED[name]


@every_model
def test_a_score_depends_on_the_row_alone(name: str) -> None:
    model, rows = compat(name), random_rows(30)
    together = score(model, rows, S)
    alone = torch.cat([score(model, rows.take(torch.tensor([i])), S) for i in range(30)])
    torch.testing.assert_close(alone, together, atol=1e-5, rtol=1e-5)
    assert torch.equal(score(model, rows, S), together), "scoring moved something"


@every_model
def test_it_folds_and_scripts(name: str) -> None:
    model, rows = compat(name), sorted_rows(40)
    expected = model(rows.inputs(S))
    torch.testing.assert_close(torch.jit.script(model)(rows.inputs(S)), expected, atol=1e-5, rtol=1e-5)
    folded = torch.jit.script(model.fold())
    for s in range(S):
        got = folded(rows.of(s).inputs(S), torch.tensor([s]))
        torch.testing.assert_close(got, expected[rows.scenario_B == s], atol=1e-5, rtol=1e-5)


def test_all_rows_are_those_that_every_tower_is_computed_on() -> None:
    torch.manual_seed(0)
    model, rows = build("shared_bottom", {"compat": "benchmark"}, dims()).train(), sorted_rows(50)
    layer, out = model.model.tower.hidden[0], model.model.tower.out
    norms = [nn.BatchNorm1d(8) for _ in range(S)]
    h_BH = model.model.bottom(rows.x_BD)
    towers = [norm((h_BH @ layer.linear.weight[s].t()) + layer.linear.bias[s]).relu() for s, norm in enumerate(norms)]
    logits = [tower @ out.weight[s].t() + out.bias[s] for s, tower in enumerate(towers)]
    expected = torch.stack([logits[s][b] for b, s in enumerate(rows.scenario_B.tolist())])
    torch.testing.assert_close(model(rows.inputs(S)), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(
        layer.norm.mean, torch.stack([norm.running_mean for norm in norms]), atol=1e-5, rtol=1e-5
    )


def test_star_begins_with_small_products_and_without_the_scenario() -> None:
    torch.manual_seed(0)
    star = build("star", {"compat": "benchmark"}, movielens()).model
    first = star.star.hidden[0].layers[0]
    # each has a variance of 2 / 128
    assert (first.weight * first.group_weight).std().item() == pytest.approx(2 / 128, rel=0.05)
    assert not torch.equal(first.group_weight[0], first.group_weight[1])
    logit = star.eval().star(torch.randn(9, 97), sorted_rows(9).inputs(S).route)
    assert (logit >= 0).all()
    assert star.star.out is None


def test_sar_net_s_transform_begins_at_random() -> None:
    transform = build("sar_net", {"compat": "benchmark"}, movielens()).transform
    assert 0.2 < transform.scale.abs().max() < (6 / 97) ** 0.5
    assert 0 <= transform.shift.min() < transform.shift.max() <= 1


def test_adasparse_s_alpha_grows_in_training_only() -> None:
    model, inputs = compat("adasparse"), sorted_rows(8).inputs(S)
    alpha = model.layers[0].pruner.alpha
    before = float(alpha.eval()())
    model(inputs)
    assert float(alpha()) == before == pytest.approx(1.0003)


def test_age_is_not_read_where_the_benchmark_does_not() -> None:
    for name in COMPAT:
        model, rows = compat(name), sorted_rows(20)
        before = score(model, rows, S)
        rows.x_BD[:, -1] += 1
        assert torch.equal(score(model, rows, S), before) == (name in ("sar_net", "adasparse", "adl")), name


def test_a_key_that_is_given_wins() -> None:
    model = compat("shared_bottom", tower=[4], norm="none", norm_scope="routed")
    assert model.tower.hidden[0].linear.d_out == 4
    assert not any(isinstance(module, nn.BatchNorm1d) for module in model.bottom)
    assert compat("shared_bottom").model.tower.hidden[0].norm is not None
    assert isinstance(build("ple", {"compat": "none", "norm_scope": "all_rows"}, dims()).model, nn.Module)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("star", {"compat": "benchmrk"}, "model.compat: expected none or benchmark, not 'benchmrk'"),
        (
            "mscan",
            {"compat": "benchmark"},
            "model.compat: mscan has no benchmark form; those that have one: adasparse, adl, epnet, mmoe, ",
        ),
        ("mmoe", {"norm_scope": "rows"}, "model.norm_scope: input should be 'routed' or 'all_rows', not 'rows'"),
        ("epnet", {"norm_scope": "all_rows"}, "model.norm_scope: unknown option of epnet"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(name: str, options: dict, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build(name, options, dims())
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("name", ["ple", "sar_net"])
def test_a_run_file_can_ask_for_it(name: str, prepared_genre: Path, tmp_path: Path) -> None:
    asked = config_of(prepared_genre, more={"model": {"name": name, "compat": "benchmark"}}, epochs=1)
    train(RunConfig.load(run_file(tmp_path, asked)), tmp_path / "run")
    assert 0 < metrics_of_run(tmp_path / "run")["overall"]["auc"] < 1
