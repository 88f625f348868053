"""The rows that tables begin with: the same however a table is cut, and normal."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from swrec_prod.first_rows import BLOCK, FirstRows

ROWS, WIDTH = 3 * BLOCK + 17, 6


def whole(first_rows: FirstRows) -> torch.Tensor:
    table = torch.empty(ROWS, first_rows.width)
    first_rows(table)
    return table


@settings(max_examples=40, deadline=None)
@given(
    rows=st.tuples(st.integers(0, ROWS), st.integers(0, ROWS)).map(sorted),
    columns=st.tuples(st.integers(0, WIDTH), st.integers(0, WIDTH)).map(sorted),
)
def test_a_part_has_the_rows_of_the_whole_table(rows: list[int], columns: list[int]) -> None:
    first_rows = FirstRows("movie_id", WIDTH, seed=3, std=0.01)
    part = torch.full((rows[1] - rows[0], columns[1] - columns[0]), torch.nan)
    first_rows.fill(part, (rows[0], columns[0]))
    assert torch.equal(part, whole(first_rows)[rows[0] : rows[1], columns[0] : columns[1]])


def test_rows_are_normal_and_no_two_tables_seeds_or_blocks_are_alike() -> None:
    tables = [whole(FirstRows(name, WIDTH, seed, std=0.5)) for name in ("user", "item") for seed in (1, 2)]
    assert all(stats.kstest(table.flatten().numpy(), "norm", (0, 0.5)).pvalue > 1e-3 for table in tables)
    blocks = np.stack([table[: 3 * BLOCK].reshape(3, -1).numpy() for table in tables]).reshape(12, -1)
    apart = np.abs(np.corrcoef(blocks)[~np.eye(12, dtype=bool)])
    assert apart.max() < 5 / np.sqrt(BLOCK * WIDTH)  # standard errors of a correlation of nothing
