"""The search for one user says what the whole tensor of pairs says: compiled or in passes, in a package, in a fork."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from swrec_prod.blocks.attention import CoAttention
from swrec_prod.operators import search_one_user

ROOT = Path(__file__).resolve().parent.parent
CLOSE = {"atol": 1e-5, "rtol": 1e-5}
varied = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(params=["compiled", "in passes"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both implementations of the operator."""
    if request.param == "compiled":
        assert search_one_user.compiled_loop() is not None, "numba is not installed"
    else:
        monkeypatch.setattr(search_one_user, "compiled_loop", lambda: None)


@pytest.mark.usefixtures("way")
@varied
@given(
    sizes=st.tuples(st.integers(0, 60), st.integers(1, 5), st.integers(1, 140)),
    width=st.integers(0, 25) | st.sampled_from([32, 64]),
    share=st.floats(0, 1),
    seed=st.integers(0, 99),
)
def test_it_is_that_of_the_whole_tensor(sizes: tuple[int, int, int], width: int, share: float, seed: int) -> None:
    """N behaviours, K of the scenario, B candidates; widths that fill the groups of the loop, and others."""
    draw, positive = np.random.default_rng(seed), round(share * width)
    positive -= positive % 8 if width % 8 == 0 else 0
    history, same, target = (draw.standard_normal((size, width)) for size in sizes)
    pair = history[:, None] + same
    pairs = pair[None, ..., :positive], pair[None, ..., positive:]
    targets = target[:, None, None, :positive], target[:, None, None, positive:]
    expected = (np.maximum(pairs[0], targets[0]).sum(-1) + np.minimum(pairs[1], targets[1]).sum(-1)).max(2)
    here = [torch.from_numpy(matrix).float() for matrix in (history, same, target)]
    elsewhere = [matrix.t().contiguous().t() for matrix in here]  # the same values in another order in memory
    for matrices in (here, elsewhere):
        got = torch.ops.swrec.search_one_user(*matrices, positive)
        torch.testing.assert_close(got, torch.from_numpy(expected).float(), **CLOSE)


@pytest.mark.usefixtures("way")
@varied
@given(
    sizes=st.tuples(st.integers(0, 20), st.integers(1, 5), st.integers(1, 70)),
    width=st.integers(1, 40),
    zeros=st.floats(0, 1),
    real=st.integers(0, 20),
    is_empty=st.booleans(),
    seed=st.integers(0, 99),
)
@torch.no_grad()
def test_a_folded_attention_attends_as_the_one_that_was_trained(
    sizes: tuple[int, int, int], width: int, zeros: float, real: int, is_empty: bool, seed: int
) -> None:
    """Histories that are empty or padded, scenarios without behaviours, and weights that are 0."""
    torch.manual_seed(seed)
    n, k, rows = sizes
    block = CoAttention(6, width)
    block.out.weight.masked_fill_(torch.rand(1, width) < zeros, 0.0)
    history, same, target = torch.randn(1, n, 6), torch.randn(1, k, 6), torch.randn(rows, 6)
    mask, same_mask = (torch.arange(n) < real).unsqueeze(0), torch.full((1, k), not is_empty)
    same = same[:, :1] if is_empty else same
    same_mask = same_mask[:, : same.shape[1]]
    expected = block(history, mask, same, same_mask, target)
    script = torch.jit.freeze(torch.jit.script(block.folded().eval()))
    for graph in (block.folded(), script):
        torch.testing.assert_close(graph(history, mask, same, same_mask, target), expected, **CLOSE)


LOADS = """
import sys
if sys.argv[3] == "without":
    sys.modules["numba"] = None  # importing it raises ImportError
import torch
import swrec_prod.export.loaded
program, inputs = torch.jit.load(sys.argv[1]), torch.load(sys.argv[2])
torch.save(program(*inputs), sys.argv[2])
print("swrec_prod.operators.search_loop" in sys.modules)
"""


@pytest.mark.process
@pytest.mark.parametrize("numba", ["with", "without"])
@torch.no_grad()
def test_a_program_is_loaded_with_and_without_numba(numba: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    block, masks = CoAttention(6, 20), (torch.ones(1, 9, dtype=torch.bool), torch.ones(1, 3, dtype=torch.bool))
    inputs = (torch.randn(1, 9, 6), masks[0], torch.randn(1, 3, 6), masks[1], torch.randn(70, 6))
    program, exchanged = tmp_path / "program.pt", tmp_path / "exchanged.pt"
    torch.jit.save(torch.jit.freeze(torch.jit.script(block.folded().eval())), program)
    torch.save(inputs, exchanged)
    assert python(LOADS, str(program), str(exchanged), numba) == str(numba == "with")
    torch.testing.assert_close(torch.load(exchanged), block(*inputs), **CLOSE)


FORKS = """
import os, sys
from concurrent.futures import ThreadPoolExecutor
import torch
torch.set_num_threads(1)
import swrec_prod.operators.search_one_user
def search(seed):
    draw = torch.Generator().manual_seed(seed)
    matrices = [torch.randn(size, 64, generator=draw) for size in (50, 10, 500)]
    return torch.ops.swrec.search_one_user(*matrices, 32)
expected = [search(seed) for seed in range(16)]
child = os.fork()
if child == 0:
    with ThreadPoolExecutor(4) as threads:
        same = all(torch.equal(a, b) for a, b in zip(threads.map(search, range(16)), expected))
    os._exit(0 if same else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), len(os.listdir("/proc/self/task")))
"""


@pytest.mark.process
def test_what_was_compiled_before_a_fork_works_in_threads_after_it() -> None:
    alone = "import os, torch; torch.set_num_threads(1); print(len(os.listdir('/proc/self/task')))"
    assert python(FORKS) == f"0 {python(alone)}", "the child's exit code, and how many threads the parent has"


WARM = """
import sys
from pathlib import Path
from swrec_prod.serving.scoring.predictor import Predictor
for model in ("shared_bottom", "mscan"):
    Predictor.load(Path(sys.argv[1]) / model / "1")
    print(model, "swrec_prod.operators.search_loop" in sys.modules)
"""


@pytest.mark.process
def test_a_package_is_compiled_for_before_its_first_request_and_only_where_it_searches(tiny_repo: Path) -> None:
    assert python(WARM, str(tiny_repo)).split("\n") == ["shared_bottom False", "mscan True"]


def python(script: str, *arguments: str) -> str:
    """What a process says that runs `script`."""
    command = [sys.executable, "-W", "ignore", "-c", script, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout.strip()
