"""Two ranks train what one does on the same rows, whatever the model: its weights, its evolving state, its losses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import model_ranks
import pytest
import torch
from runs import torchrun

from swrec_prod.train.distributed import Ranks, process_group

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two ranks has, by case."""
    folder = tmp_path_factory.mktemp("two")
    done = torchrun(model_ranks.__file__, folder)
    assert done.returncode == 0, done.stderr[-3000:]
    return [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]


@pytest.fixture(scope="module")
def alone() -> Iterator[Ranks]:
    with process_group(1) as ranks:
        yield ranks


@pytest.mark.parametrize("case", model_ranks.cases())
def test_two_ranks_train_what_one_does(two: list[dict[str, Any]], alone: Ranks, case: str) -> None:
    (held, parts), (held_by_second, parts_of_second) = (rank[case] for rank in two)
    summed = {name: part + parts_of_second[name] for name, part in parts.items()}
    held_by_one, parts_of_one = model_ranks.train(case, alone)
    expected = held_by_one | parts_of_one
    for trained in (held | summed, held_by_second | summed):
        assert trained.keys() == expected.keys()
        for name, tensor in expected.items():
            torch.testing.assert_close(
                trained[name], tensor, atol=1e-5, rtol=1e-4, msg=lambda text, name=name: f"{name}: {text}"
            )
