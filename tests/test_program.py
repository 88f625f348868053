"""The TorchScript program against the eager ranker that it was compiled from."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_world import MODELS, eager_logits, make_ranker, packed_rows, prepare, raw_rows

from swrec_prod.config import Quantize, RunConfig
from swrec_prod.data.batch import make_batch
from swrec_prod.encoding.pack import Packed, pack_halves, take
from swrec_prod.encoding.unpack import unpack
from swrec_prod.export.loaded import Programs, tensors_of
from swrec_prod.export.logits import difference
from swrec_prod.export.program import ScoreProgram, compile_program
from swrec_prod.layers.inputs import Inputs, make_route
from swrec_prod.ranker import Ranker, build_ranker, resolve_run
from swrec_prod.schema import FeatureSchema

# rounding error, as a part of a row's range
HALF_STEPS = {"none": 0.0, "fp16": 2**-11, "int8": 0.5 / 255, "int4": 0.5 / 15}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("prepared")
    prepare(path)
    return path


def reloaded(ranker: Ranker) -> Programs:
    stream = io.BytesIO()
    torch.jit.save(compile_program(ScoreProgram(ranker, "none")), stream)
    stream.seek(0)
    return Programs(torch.jit.load(stream), ranker.sparse.layout)


def eager_inputs(ranker: Ranker, packed: Packed) -> Inputs:
    labels = np.zeros((len(packed.scenario_B), 2), np.float32)
    batch = make_batch(ranker.sparse.layout, packed, labels_BT=labels, row_B=np.arange(len(labels)))
    with torch.inference_mode():
        embedded_BD, behaviours = ranker.sparse(batch)
        return ranker.inputs(embedded_BD, behaviours, batch.dense_BF, make_route(batch.scenario_B, 3))


def inputs_of(ranker: Ranker, packed: Packed, quantize: Quantize) -> Inputs:
    """What the folded scorer reads of the program's tables; every row has its own user."""
    layout, rows = ranker.sparse.layout, len(packed.scenario_B)
    halves = pack_halves(layout, unpack(layout, packed), packed.scenario_B, user_rows=rows)
    with torch.inference_mode():
        return ScoreProgram(ranker, quantize).inputs(*tensors_of(layout, halves))


@pytest.mark.parametrize("model", MODELS)
def test_fp32_tables_are_exact(model, folder):
    ranker = make_ranker(model, folder)
    packed = packed_rows(folder, ranker.sparse.layout, raw_rows(seed=1))
    found, expected = inputs_of(ranker, packed, "none")._asdict(), eager_inputs(ranker, packed)._asdict()
    for name in expected.keys() - {"route"}:
        assert found[name].dtype == expected[name].dtype
        # bags: sum / n against sum * (1 / n)
        torch.testing.assert_close(found[name], expected[name], rtol=0, atol=1e-6 if name == "x_BD" else 0)


@pytest.mark.parametrize("quantize", ["fp16", "int8", "int4"])
def test_quantised_rows_are_off_by_half_a_step_of_their_range(quantize, folder):
    ranker = make_ranker("mscan", folder)
    packed = packed_rows(folder, ranker.sparse.layout, raw_rows(seed=2))
    expected = eager_inputs(ranker, packed).target_Bd
    spread = (expected.amax(1) - expected.amin(1)).unsqueeze(1)
    error = (inputs_of(ranker, packed, quantize).target_Bd - expected).abs()
    assert error.max() > 0
    # scale and shift are halves: their rounding on top
    assert (error <= HALF_STEPS[quantize] * spread * 1.05 + 2e-3).all()


@pytest.mark.parametrize("model", MODELS)
def test_programs_score_as_the_trained_ranker_does(model, folder):
    ranker = make_ranker(model, folder)
    rows = raw_rows(seed=3)
    expected = eager_logits(ranker, folder, rows)
    assert expected[0].std() > 0.01  # else the comparison would prove nothing
    programs, layout = reloaded(ranker), ranker.sparse.layout
    packed = packed_rows(folder, layout, rows)
    assert difference(programs.mixed(packed), expected) <= 1e-5
    columns = unpack(layout, packed)
    for row in range(0, len(rows), 7):  # as a request of one candidate
        own = pack_halves(layout, take(columns, np.array([row])), packed.scenario_B[[row]], user_rows=1)
        one = programs.request(own, int(packed.scenario_B[row]))
        assert difference(one, [array[[row]] for array in expected]) <= 1e-5


@pytest.mark.parametrize("model", MODELS)
def test_a_table_is_stored_once(model, folder):
    ranker, stream = make_ranker(model, folder), io.BytesIO()
    weights = sum(parameter.nbytes for parameter in ranker.state_dict().values())
    with torch.no_grad():
        for table in ranker.sparse.parameters():  # as large as tables are beside a program's text
            table.data = torch.randn(30_000, table.shape[1])
    tables = sum(table.nbytes for table in ranker.sparse.parameters())
    torch.jit.save(compile_program(ScoreProgram(ranker, "none")), stream)
    assert stream.tell() <= 1.02 * tables + weights + 100_000


def test_compiling_leaves_the_ranker_as_it_was(folder):
    ranker = make_ranker("mscan", folder)
    before = {name: value.clone() for name, value in ranker.state_dict().items()}
    compile_program(ScoreProgram(ranker, "int8"))
    after = ranker.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert all(parameter.requires_grad for parameter in ranker.parameters())


@pytest.fixture(scope="module")
def mscan(folder) -> tuple[Programs, pa.Table, list[np.ndarray]]:
    ranker, rows = make_ranker("mscan", folder), raw_rows(seed=4)
    return reloaded(ranker), rows, eager_logits(ranker, folder, rows)


@settings(max_examples=25, deadline=None)
@given(chosen=st.lists(st.integers(0, 59), min_size=1, max_size=12))
def test_a_row_scores_the_same_in_any_company(mscan, folder, chosen):
    programs, rows, expected = mscan
    layout = make_ranker("mscan", folder).sparse.layout
    mixed = programs.mixed(packed_rows(folder, layout, rows.take(chosen)))
    assert difference(mixed, [array[chosen] for array in expected]) <= 1e-5


def test_histories_may_all_be_empty(mscan, folder):
    programs, rows, expected = mscan
    layout = make_ranker("mscan", folder).sparse.layout
    empty = [i for i, items in enumerate(rows["history.item"].to_pylist()) if not items]
    assert empty
    mixed = programs.mixed(packed_rows(folder, layout, rows.take(empty)))
    assert difference(mixed, [array[empty] for array in expected]) <= 1e-5


def test_weights_of_1000_scenarios_are_stored_once(folder):
    schema = FeatureSchema.load(folder / "schema.yaml").with_scenarios(tuple(map(str, range(1000))))
    config = {"model": {"name": "star", "fcn": [16, 8]}, "data": {"path": str(folder), "split": "random"}}
    ranker, stream = build_ranker(resolve_run(schema, RunConfig.model_validate(config))).eval(), io.BytesIO()
    torch.jit.save(compile_program(ScoreProgram(ranker, "none")), stream)
    assert stream.tell() <= 1.1 * sum(value.nbytes for value in ranker.state_dict().values())
