"""Tables and ranker: against plain torch lookups, whatever the order of tables, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from swrec_prod.config import RunConfig
from swrec_prod.data.batch import Batch, make_batch
from swrec_prod.encoding.pack import Column, Ragged, pack
from swrec_prod.errors import ConfigError, SchemaError
from swrec_prod.layers.inputs import Inputs, make_route
from swrec_prod.ranker import build_ranker, dims_of, input_layer, resolve_run
from swrec_prod.schema import Feature, FeatureSchema, Label, Scenario
from swrec_prod.schema.layout import Layout
from swrec_prod.sparse import Embedded, SparseArch, in_order

# `friend` and `wish` share a table that is listed far from them, so tables and features are in different orders.
SCHEMA = FeatureSchema(
    name="toy",
    features=(
        Feature(name="friend", kind="id", side="user", shared_with="person", dim=8),
        Feature(name="tags", kind="bag", side="item", encoder="vocab", dim=4, rows=9),
        Feature(name="age", kind="dense", side="user", encoder="standard"),
        Feature(name="item", kind="id", side="item", encoder="vocab", dim=12, rows=30),
        Feature(name="place", kind="id", side="context", encoder="vocab", dim=4, rows=5),
        Feature(name="person", kind="id", side="user", encoder="vocab", dim=8, rows=20),
        Feature(name="price", kind="dense", side="item", encoder="log1p"),
        Feature(name="liked_tags", kind="bag", side="user", shared_with="tags", dim=4, rows=9),
        Feature(name="history", kind="sequence", side="user", item="item", rows=30),
    ),
    scenario=Scenario(values=("home", "cart", "search")),
    labels=(Label(name="click", column="click"), Label(name="buy", column="buy")),
    time="time",
    user="person",
)
ROWS = {"friend": 20, "tags": 9, "item": 30, "place": 5, "person": 20, "liked_tags": 9}
DATA = {"path": "nowhere", "split": "random"}
OWNER = {"friend": "person", "liked_tags": "tags"}


def schema() -> FeatureSchema:
    """SCHEMA as `swrec prepare` writes it: every feature knows the height of its table."""
    filled = tuple(
        f.model_copy(update={"rows": ROWS.get(f.table)}) if f.kind != "dense" else f for f in SCHEMA.features
    )
    return SCHEMA.model_copy(update={"features": filled})


def config(model: str = "shared_bottom", options: dict[str, Any] | None = None, **more: Any) -> RunConfig:
    return RunConfig.model_validate({"data": DATA, "model": {"name": model, **(options or {})}, **more})


def lists(draw: np.random.Generator, rows: int, height: int, longest: int = 4) -> Ragged:
    lengths = draw.integers(0, longest + 1, rows)
    return Ragged(draw.integers(0, height, lengths.sum()), np.concatenate([[0], lengths.cumsum()]))


def columns_of(seed: int, rows: int, longest: int = 4) -> tuple[dict[str, Column], np.ndarray]:
    """Random encoded columns and sorted scenarios of `rows` rows."""
    draw = np.random.default_rng(seed)
    columns: dict[str, Column] = {
        name: draw.integers(0, ROWS[name], rows) for name in ("friend", "item", "place", "person")
    }
    columns |= {name: lists(draw, rows, ROWS[name]) for name in ("tags", "liked_tags")}
    columns |= {name: draw.normal(size=rows).astype(np.float32) for name in ("age", "price")}
    columns["history.item"] = history = lists(draw, rows, ROWS["item"], longest)
    columns["history.scenario"] = Ragged(draw.integers(0, 3, len(history.values)), history.offsets)
    return columns, np.sort(draw.integers(0, 3, rows))


def batch_of(layout: Layout, columns: dict[str, Column], scenario_B: np.ndarray) -> Batch:
    labels = np.zeros((len(scenario_B), len(layout.tasks)), np.float32)
    return make_batch(layout, pack(layout, columns, scenario_B), labels_BT=labels, row_B=np.arange(len(scenario_B)))


def lookup(weights: dict[str, Tensor], feature: Feature, column: Column) -> Tensor:
    """[B, dim] by torch's own modules: the row of an id, the mean of a bag, zeros of an empty one."""
    table = weights[OWNER.get(feature.name, feature.name)]
    if isinstance(column, Ragged):
        bag = nn.EmbeddingBag.from_pretrained(table, mode="mean", include_last_offset=True)
        return bag(torch.from_numpy(column.values), torch.from_numpy(column.offsets))
    return nn.Embedding.from_pretrained(table)(torch.from_numpy(column))


def weights_of(sparse: SparseArch) -> dict[str, Tensor]:
    """The tables by the name of their owner."""
    found = {c.name: sparse.ebc.embedding_bags[c.name].weight for c in sparse.ebc.embedding_bag_configs()}
    if sparse.ec is not None:
        found |= {c.name: sparse.ec.embeddings[c.name].weight for c in sparse.ec.embedding_configs()}
    return {name.removeprefix("t_"): weight.detach() for name, weight in found.items()}


def embed(layout: Layout, columns: dict[str, Column], scenario_B: np.ndarray) -> tuple[SparseArch, Embedded, Batch]:
    torch.manual_seed(0)
    sparse, batch = SparseArch(layout, std=1.0), batch_of(layout, columns, scenario_B)
    with torch.no_grad():
        return sparse, sparse(batch), batch


def inputs_of(layout: Layout, embedded: Embedded, batch: Batch) -> Inputs:
    route = make_route(batch.scenario_B, layout.num_scenarios)
    return input_layer(layout, "attention")(*embedded, batch.dense_BF, route)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), rows=st.integers(1, 12), history=st.booleans())
def test_x_is_what_plain_lookups_give_in_the_order_of_the_layout(seed: int, rows: int, history: bool) -> None:
    layout = Layout.of(schema(), history=history)
    columns, scenario_B = columns_of(seed, rows)
    sparse, embedded, batch = embed(layout, columns, scenario_B)
    inputs = inputs_of(layout, embedded, batch)
    run = resolve_run(schema(), config("mscan" if history else "shared_bottom"))
    weights, dims = weights_of(sparse), dims_of(run)
    assert inputs.x_BD.shape == (rows, dims.x) and dims.x == layout.width
    assert [field.name for field in dims.fields] == [f.name for f in (*layout.pooled, *layout.looked_up, *layout.dense)]
    for field in dims.fields:
        feature, column = schema().feature(field.name), columns[field.name]
        expected = torch.from_numpy(column)[:, None] if feature.kind == "dense" else lookup(weights, feature, column)  # type: ignore[arg-type]
        torch.testing.assert_close(inputs.x_BD[:, field.start : field.start + field.width], expected)


def test_dropout_leaves_out_embedded_numbers_of_x_alone() -> None:
    columns, scenario_B = columns_of(seed=1, rows=200)
    ranker = build_ranker(resolve_run(schema(), config("mscan")))
    layout, seen = ranker.sparse.layout, []
    ranker.inputs.register_forward_hook(lambda module, given, inputs: seen.append(inputs))
    for share in (0.0, 0.25):
        ranker.embedding_dropout = share
        ranker(batch_of(layout, columns, scenario_B))
    whole, kept = seen
    dense = layout.width - len(layout.dense)
    assert torch.equal(kept.x_BD[:, dense:], whole.x_BD[:, dense:])
    assert torch.equal(kept.target_Bd, whole.target_Bd) and torch.equal(kept.history_UNd, whole.history_UNd)
    there = kept.x_BD[:, :dense] != 0
    torch.testing.assert_close(kept.x_BD[:, :dense][there], whole.x_BD[:, :dense][there] / 0.75)
    assert 0.7 < there.sum() / (whole.x_BD[:, :dense] != 0).sum() < 0.8


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), rows=st.integers(1, 12), longest=st.integers(0, 5))
def test_behaviours_are_looked_up_row_by_row_and_padded_on_the_right(seed: int, rows: int, longest: int) -> None:
    columns, scenario_B = columns_of(seed, rows, longest)
    sparse, embedded, _ = embed(Layout.of(schema(), history=True), columns, scenario_B)
    items, scenarios, table = columns["history.item"], columns["history.scenario"], weights_of(sparse)["item"]
    assert isinstance(items, Ragged) and isinstance(scenarios, Ragged)
    _, history_BNd, mask_BN, scenario_BN = embedded.behaviours[0]
    assert history_BNd.shape[1] == max(1, int(np.diff(items.offsets).max()))
    for i in range(rows):
        own = slice(items.offsets[i], items.offsets[i + 1])
        n = own.stop - own.start
        torch.testing.assert_close(history_BNd[i, :n], table[torch.from_numpy(items.values[own])])
        assert scenario_BN[i, :n].tolist() == scenarios.values[own].tolist()
        assert mask_BN[i].tolist() == [True] * n + [False] * (mask_BN.shape[1] - n)
        assert not history_BNd[i, n:].any() and not scenario_BN[i, n:].any()


def test_a_batch_without_any_behaviour_scores_and_has_a_gradient() -> None:
    columns, scenario_B = columns_of(1, 5, longest=0)
    ranker = build_ranker(resolve_run(schema(), config("mscan")))
    loss, scores = ranker(batch_of(ranker.sparse.layout, columns, scenario_B))
    loss.backward()
    assert scores.logit_BT.shape == (5, 2) and bool(torch.isfinite(scores.logit_BT).all())
    assert all(p.grad is None or bool(torch.isfinite(p.grad).all()) for p in ranker.parameters())


def test_features_that_come_table_by_table_are_put_in_order() -> None:
    layout = Layout.of(schema(), history=False)
    sparse, embedded, batch = embed(layout, *columns_of(3, 6))
    pooled, names = sparse.ebc(batch.ids), [f.name for f in layout.pooled]
    assert pooled.keys() != names, "the schema of this test no longer has tables in another order than features"
    by_name = pooled.to_dict()
    torch.testing.assert_close(embedded.embedded_BD, torch.cat([by_name[name] for name in names], 1))
    assert in_order(pooled, pooled.keys()) is pooled.values(), "features that are in order are not copied"


def test_dims_name_user_and_target() -> None:
    with_history, without = (dims_of(resolve_run(schema(), config(model))) for model in ("mscan", "shared_bottom"))
    assert (with_history.user, with_history.target, with_history.item) == ("person", "item", 12)
    assert (without.user, without.target, without.item) == ("person", "item", 0)
    assert (without.num_scenarios, without.num_tasks) == (3, 2)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    one, same, other = (
        build_ranker(resolve_run(schema(), config("mscan", train={"seed": seed}))).state_dict() for seed in (3, 3, 4)
    )
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("model", "more", "alpha"),
    [
        ("mscan", {}, 0.1),
        ("mscan", {"debias": None}, None),
        ("mscan", {"debias": {"alpha": 0.3}}, 0.3),
        ("shared_bottom", {}, None),
        ("shared_bottom", {"debias": {"alpha": 0.1}}, 0.1),
    ],
)
def test_the_eliminator_is_on_for_models_made_for_it_and_where_asked(
    model: str, more: dict[str, Any], alpha: float | None
) -> None:
    asked = config(model, **more)
    ranker, debias = build_ranker(resolve_run(schema(), asked)), resolve_run(schema(), asked).config.debias
    assert ranker.alpha == alpha == (debias.alpha if debias else None)
    assert (ranker.scorer.eliminator is not None) == (alpha is not None)
    _, scores = ranker(batch_of(ranker.sparse.layout, *columns_of(0, 4)))
    assert scores.scenario_BT.shape == (4, 2 if alpha is not None else 0)


def test_features_are_restricted_to_those_asked_for_and_the_tables_that_they_share() -> None:
    asked = config(data={**DATA, "features": ["friend", "price"]})
    layout = resolve_run(schema(), asked).layout
    assert layout.columns == ("friend", "person", "price")


@pytest.mark.parametrize(
    ("asked", "reads"),
    [
        (config("sar_net"), True),
        (config("sar_net", {"use_history": False}), False),
        (config("sar_net", data={**DATA, "features": ["item", "person"]}), False),
        (config("shared_bottom"), False),
        (config("mscan", {"use_saca": False}), True),
    ],
)
def test_a_model_that_can_do_both_reads_behaviours_where_there_are_any(asked: RunConfig, reads: bool) -> None:
    layout, ranker = resolve_run(schema(), asked).layout, build_ranker(resolve_run(schema(), asked))
    assert (layout.history is not None) == reads
    if asked.model.name == "sar_net":
        assert (ranker.scorer.model.extraction is not None) == reads


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        (config("mscn"), ConfigError, "model.name: unknown model 'mscn'; did you mean mscan?"),
        (config(data={**DATA, "features": ["plaice"]}), SchemaError, "no feature 'plaice'; did you mean place?"),
        (config(data={**DATA, "features": ["age"]}), SchemaError, "needs an id or bag feature"),
        (config("mscan", data={**DATA, "features": ["person"]}), SchemaError, "no feature has kind: sequence"),
        (config(options={"towr": [4]}), ConfigError, "model.towr: unknown option"),
    ],
)
def test_what_cannot_be_built_is_refused_in_one_line(asked: RunConfig, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message.replace("?", r"\?")) as failure:
        build_ranker(resolve_run(schema(), asked))
    assert "\n" not in str(failure.value)


@pytest.mark.parametrize("model", ["mscan", "sfpnet", "m2m", "sar_net"])
def test_features_that_share_the_behaviours_table_are_looked_up_in_it(model: str) -> None:
    gift = Feature(name="gift", kind="id", side="item", shared_with="item", dim=12, rows=30)
    wishes = Feature(name="wishes", kind="bag", side="user", shared_with="item", dim=12, rows=30)
    more = schema().with_features((*schema().features, gift, wishes))
    columns, scenario_B = columns_of(seed=2, rows=9)
    columns |= {"gift": columns["item"][::-1].copy(), "wishes": lists(np.random.default_rng(3), 9, 30)}
    ranker = build_ranker(resolve_run(more, config(model)))
    layout, table = ranker.sparse.layout, weights_of(ranker.sparse)["item"]
    embedded = ranker.sparse(batch_of(layout, columns, scenario_B)).embedded_BD
    expected = [lookup({name: table for name in ("gift", "wishes")}, f, columns[f.name]) for f in (gift, wishes)]
    torch.testing.assert_close(embedded[:, -24:], torch.cat(expected, 1))
    assert [f.name for f in layout.looked_up] == ["item", "gift", "wishes"]


def test_a_model_needs_no_feature_beside_the_behaviours_item() -> None:
    ranker = build_ranker(resolve_run(schema(), config("mscan", data={**DATA, "features": ["item", "history"]})))
    loss, _ = ranker(batch_of(ranker.sparse.layout, *columns_of(1, 5)))
    loss.backward()
    assert ranker.sparse.ebc is None and bool(torch.isfinite(loss))


def test_a_schema_that_prepare_has_not_filled_is_refused() -> None:
    with pytest.raises(SchemaError, match="rows of its table are not known"):
        build_ranker(resolve_run(SCHEMA, config()))


def test_features_of_one_table_have_one_width() -> None:
    narrow = SCHEMA.model_dump() | {
        "features": [{**f.model_dump(), "dim": 16} if f.name == "friend" else f for f in SCHEMA.features]
    }
    with pytest.raises(
        ValueError, match="feature 'friend' has dim 16, but shares the table of 'person', whose dim is 8"
    ):
        FeatureSchema.model_validate(narrow)
