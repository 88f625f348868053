"""Every kind of input, as models and packages get it, against loops over rows in numpy."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rich_layout import rich_columns, rich_schema

from swrec_prod.config import RunConfig
from swrec_prod.data.batch import Batch, make_batch
from swrec_prod.encoding.pack import Column, Ragged, pack, pack_halves, take
from swrec_prod.export.loaded import Programs
from swrec_prod.export.program import ScoreProgram, compile_program
from swrec_prod.layers.input_layer import AttentionSummary, EmbeddedNumbers, MeanSummary
from swrec_prod.layers.inputs import Behaviours
from swrec_prod.ranker import Ranker, build_ranker, dims_of, resolve_run
from swrec_prod.schema import Feature
from swrec_prod.schema.layout import Layout, lengths_column, weights_column
from swrec_prod.sparse import SparseArch


def config(model: str = "mscan", **data: object) -> RunConfig:
    return RunConfig.model_validate(
        {"data": {"path": "nowhere", "split": "random", **data}, "model": {"name": model}, "debias": None}
    )


def batch_of(layout: Layout, columns: dict[str, Column], scenario_B: np.ndarray) -> Batch:
    labels = np.zeros((len(scenario_B), 1), np.float32)
    return make_batch(layout, pack(layout, columns, scenario_B), labels_BT=labels, row_B=np.arange(len(scenario_B)))


def values_of(column: Column, row: int) -> np.ndarray:
    if isinstance(column, Ragged):
        return column.values[column.offsets[row] : column.offsets[row + 1]]
    return column[row : row + 1]


def table_of(sparse: SparseArch, feature: Feature) -> np.ndarray:
    name = f"t_{feature.table.replace('.', '__')}"
    tables = {} if sparse.ebc is None else dict(sparse.ebc.embedding_bags.items())
    for collection in sparse.collections:
        tables |= dict(collection.embeddings.items())
    return tables[name].weight.detach().numpy()


def pooled(rows: np.ndarray, how: str, weights: np.ndarray | None = None) -> np.ndarray:
    """By numpy, of the rows [n, d] of one bag."""
    if not len(rows):
        return np.zeros(rows.shape[1])
    rows = rows if weights is None else rows * weights[:, None]
    if how == "max":
        return rows.max(0)
    total = rows.sum(0)
    return total if how == "sum" else total / (len(rows) if weights is None else weights.sum() or 1.0)


def expected_single(sparse: SparseArch, feature: Feature, columns: dict[str, Column], row: int) -> np.ndarray:
    found = table_of(sparse, feature)[values_of(columns[feature.name], row)]
    if feature.kind == "id":
        return found[0]
    return pooled(found, feature.pooling, values_of(columns[weights_column(feature)], row) if feature.weights else None)


def expected_behaviours(sparse: SparseArch, part: Feature, columns: dict[str, Column], row: int) -> np.ndarray:
    """[behaviours of the row, width of the part]"""
    values = values_of(columns[part.name], row)
    if part.kind == "dense":
        return values[:, None]
    found = table_of(sparse, part)[values]
    if part.kind == "id":
        return found
    ends = np.cumsum(values_of(columns[lengths_column(part)], row))
    bags = np.split(found, ends[:-1]) if len(ends) else []
    return np.stack([pooled(bag, "mean") for bag in bags]) if bags else np.zeros((0, part.dim))


@settings(max_examples=25, deadline=None)
@given(rows=st.integers(1, 7), seed=st.integers(0, 10_000), longest=st.integers(0, 4))
def test_what_models_read_is_what_loops_over_rows_find(rows: int, seed: int, longest: int) -> None:
    layout = Layout.of(rich_schema(), history=True)
    columns, scenario_B = rich_columns(layout, rows, seed, longest)
    sparse = SparseArch(layout, std=1.0)
    embedded_BD, behaviours = sparse(batch_of(layout, columns, scenario_B))
    singles = {f.name: f for f in (*layout.pooled, *layout.looked_up)}
    for row in range(rows):
        expected = {name: expected_single(sparse, f, columns, row) for name, f in singles.items()}
        np.testing.assert_allclose(embedded_BD[row].detach(), np.concatenate(list(expected.values())), atol=1e-5)
        for sequence, (target_Bd, history_BNd, mask_BN, scenario_BN) in zip(layout.sequences, behaviours, strict=True):
            parts = [expected_behaviours(sparse, part, columns, row) for part in sequence.parts]
            count = len(parts[0])
            np.testing.assert_allclose(history_BNd[row, :count].detach(), np.concatenate(parts, 1), atol=1e-5)
            assert mask_BN[row].sum() == count and not history_BNd[row, count:].any()
            assert scenario_BN[row, :count].tolist() == values_of(columns[f"{sequence.name}.scenario"], row).tolist()
            compared = [
                np.zeros(part.shape[1]) if name is None else expected[name]
                for part, name in zip(parts, sequence.compared, strict=True)
            ]
            np.testing.assert_allclose(target_Bd[row].detach(), np.concatenate(compared), atol=1e-5)


def test_a_candidate_is_compared_in_what_it_shares_with_behaviours() -> None:
    clicks, skips = Layout.of(rich_schema(), history=True).sequences
    assert [part.name.partition(".")[2] for part in clicks.parts] == [
        "item", "category", "tags", "price", "action", "age",
    ]  # fmt: skip
    assert clicks.compared == ("item", "category", "tags", None, None, None)
    assert skips.compared == ("item", "category")


def scripted(ranker: Ranker) -> Programs:
    """The program of a package, saved and loaded."""
    stream = io.BytesIO()
    torch.jit.save(compile_program(ScoreProgram(ranker, "none")), stream)
    stream.seek(0)
    return Programs(torch.jit.load(stream), ranker.sparse.layout)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "data"),
    [("mscan", {}), ("mscan", {"history": "skips", "further_sequences": "mean"}), ("sar_net", {}), ("sfpnet", {}),
     ("m2m", {}), ("shared_bottom", {})],
)  # fmt: skip
def test_packages_score_every_kind_of_input_as_training_does(model: str, data: dict[str, object]) -> None:
    ranker = build_ranker(resolve_run(rich_schema(), config(model, **data))).eval()
    with torch.no_grad():
        for parameter in ranker.parameters():
            parameter.normal_(std=0.3)
    layout, programs = ranker.sparse.layout, scripted(ranker)
    for rows, longest in ((1, 3), (9, 4), (5, 0)):
        columns, scenario_B = rich_columns(layout, rows, seed=rows, longest=longest)
        packed = pack(layout, columns, scenario_B)
        with torch.no_grad():
            expected = ranker(batch_of(layout, columns, scenario_B))[1].logit_BT
        torch.testing.assert_close(programs.mixed(packed).logit_BT, expected, atol=1e-5, rtol=1e-5)
        for row in range(rows):
            own = pack_halves(layout, take(columns, np.array([row])), scenario_B[[row]], user_rows=1)
            one = programs.request(own, int(scenario_B[row]))
            torch.testing.assert_close(one.logit_BT[0], expected[row], atol=1e-5, rtol=1e-5)
        user = take({name: columns[name] for name in layout.user_half.columns}, np.array([0]))
        request = pack_halves(layout, columns | user, scenario_B, user_rows=1)
        beside = columns | take(user, np.zeros(rows, np.int64))
        for scenario in range(layout.num_scenarios):
            place = np.full(rows, scenario)
            with torch.no_grad():
                expected = ranker(batch_of(layout, beside, place))[1].logit_BT
            torch.testing.assert_close(programs.request(request, scenario).logit_BT, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("model", ["mscan", "sar_net", "sfpnet", "m2m", "shared_bottom", "mmoe"])
def test_every_input_is_learned_from(model: str) -> None:
    run = resolve_run(rich_schema(), config(model))
    ranker = build_ranker(run).train()
    layout = run.layout
    loss, _ = ranker(batch_of(layout, *rich_columns(layout, 40, seed=3)))
    loss.backward()
    without = [
        name for name, p in ranker.named_parameters() if name.startswith(("sparse", "inputs")) and p.grad is None
    ]
    assert without == []
    assert sum(field.width for field in dims_of(run).fields) == dims_of(run).x


def test_numbers_become_vectors_by_a_line_each() -> None:
    layer = EmbeddedNumbers([4, 8])
    out = layer(torch.tensor([[2.0, -1.0]]))
    expected = torch.cat([2.0 * layer.weight[:4] + layer.bias[:4], -layer.weight[4:] + layer.bias[4:]])
    torch.testing.assert_close(out[0], expected)


def behaviours(rows: int = 3, length: int = 4, d: int = 5) -> Behaviours:
    mask_BN = torch.arange(length).unsqueeze(0) < torch.tensor([[0], [2], [4]])
    history_BNd = torch.randn(rows, length, d) * mask_BN.unsqueeze(2)
    return Behaviours(torch.randn(rows, d), history_BNd, mask_BN, torch.zeros(rows, length, dtype=torch.int64))


def test_a_further_sequence_is_summed_up_by_how_well_it_fits_or_by_its_mean() -> None:
    given = behaviours()
    attention, mean = AttentionSummary(5), MeanSummary(5)
    for row, count in enumerate((0, 2, 4)):
        own = given.history_UNd[row, :count]
        fit = own @ attention.query(given.target_Bd[row]) / 5**0.5
        expected = (fit.softmax(0)[:, None] * own).sum(0) if count else torch.zeros(5)
        torch.testing.assert_close(attention(given)[row], expected)
        torch.testing.assert_close(mean(given)[row], own.mean(0) if count else torch.zeros(5))
