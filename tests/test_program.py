"""TorchScript programs against the eager ranker they were compiled from."""

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

from swrec_prod.data.batch import make_batch
from swrec_prod.export.loaded import Programs, difference
from swrec_prod.export.program import PRECISIONS, SparseProgram, compile_programs

# rounding error, as a part of a row's range
HALF_STEPS = {"none": 0.0, "fp16": 2**-11, "int8": 0.5 / 255, "int4": 0.5 / 15}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("prepared")
    prepare(path)
    return path


def reloaded(programs: dict[str, torch.jit.ScriptModule]) -> Programs:
    modules = {}
    for name, program in programs.items():
        stream = io.BytesIO()
        torch.jit.save(program, stream)
        stream.seek(0)
        modules[name] = torch.jit.load(stream)
    return Programs(modules)


def eager_embedded(ranker, packed):
    labels = np.zeros((len(packed.scenario_B), 2), np.float32)
    batch = make_batch(ranker.sparse.layout, packed, labels_BT=labels, row_B=np.arange(len(labels)))
    return ranker.sparse(batch)


def embed(sparse, packed):
    with torch.inference_mode():
        return sparse([torch.from_numpy(array) for array in packed[:-1]])


@pytest.mark.parametrize("model", MODELS)
def test_fp32_tables_are_exact(model, folder):
    ranker = make_ranker(model, folder)
    packed = packed_rows(folder, ranker.sparse.layout, raw_rows(seed=1))
    with torch.inference_mode():
        embedded, behaviours = eager_embedded(ranker, packed)
    expected = [embedded, *(tensor for sequence in behaviours for tensor in sequence)]
    found = embed(torch.jit.script(SparseProgram(ranker.sparse, PRECISIONS["none"]).eval()), packed)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == theirs.dtype
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)  # bags: sum / n against sum * (1 / n)
    for ours, theirs in zip(found[1:], expected[1:], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


@pytest.mark.parametrize("quantize", ["fp16", "int8", "int4"])
def test_quantised_rows_are_off_by_half_a_step_of_their_range(quantize, folder):
    ranker = make_ranker("mscan", folder)
    packed = packed_rows(folder, ranker.sparse.layout, raw_rows(seed=2))
    with torch.inference_mode():
        embedded, behaviours = eager_embedded(ranker, packed)
    expected = [embedded, *(tensor for sequence in behaviours for tensor in sequence)]
    target = embed(SparseProgram(ranker.sparse, PRECISIONS[quantize]).eval(), packed)[1]
    spread = (expected[1].amax(1) - expected[1].amin(1)).unsqueeze(1)
    error = (target - expected[1]).abs()
    assert error.max() > 0
    # scale and shift are halves: their rounding on top
    assert (error <= HALF_STEPS[quantize] * spread * 1.05 + 2e-3).all()


@pytest.mark.parametrize("model", MODELS)
def test_programs_score_as_the_trained_ranker_does(model, folder):
    ranker = make_ranker(model, folder)
    rows = raw_rows(seed=3)
    expected = eager_logits(ranker, folder, rows)
    assert expected[0].std() > 0.01  # else the comparison would prove nothing
    programs = reloaded(compile_programs(ranker, "none"))
    packed = packed_rows(folder, ranker.sparse.layout, rows)
    assert difference(programs.mixed(packed), expected) <= 1e-5
    for scenario in range(3):
        chosen = np.flatnonzero(packed.scenario_B == scenario)
        one = programs.one(packed_rows(folder, ranker.sparse.layout, rows.take(chosen)), scenario)
        assert difference(one, [array[chosen] for array in expected]) <= 1e-5


def test_compiling_leaves_the_ranker_as_it_was(folder):
    ranker = make_ranker("mscan", folder)
    before = {name: value.clone() for name, value in ranker.state_dict().items()}
    compile_programs(ranker, "int8")
    after = ranker.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert all(parameter.requires_grad for parameter in ranker.parameters())


@pytest.fixture(scope="module")
def mscan(folder) -> tuple[Programs, pa.Table, list[np.ndarray]]:
    ranker, rows = make_ranker("mscan", folder), raw_rows(seed=4)
    return reloaded(compile_programs(ranker, "none")), rows, eager_logits(ranker, folder, rows)


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
