"""Which rows go into which step: pure numbers, so that every rank and every resumed run comes to the same answer.

A *window* is a run of rows that are shuffled together; where windows begin depends on the data alone. A *step* is the
next piece of a window's order, taken by all ranks together. A step's size depends only on how much of the window is
left, so a run that resumes with the same world and batch size takes the very same steps, and with another one still
takes every row once. Who takes which rows of a step: lanes.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def cut(sizes: Sequence[int], limit: int) -> list[range]:
    """Windows over pieces of `sizes` rows, each a range of piece indices, in order.

    A window has at most `limit` rows, unless one of its pieces is that large or a rest of less than half of `limit`
    joins it: every window but an only one has at least limit / 2 rows.
    """
    windows: list[range] = []
    first, rows = 0, 0
    for i, size in enumerate(sizes):
        if rows + size > limit and 2 * rows >= limit:
            windows.append(range(first, i))
            first, rows = i, 0
        rows += size
    if windows and 2 * rows < limit:
        first = windows.pop().start
    windows.append(range(first, len(sizes)))
    return windows


def count_steps(rows: int, smallest: int, largest: int) -> int:
    """Steps that `rows` rows take: as few as `largest` rows a step allow,
    and never so many that one has less than `smallest`.

    (Where no number of steps does both, a step has more than `largest` rows: it is better than a rank without any.)
    """
    return min(-(-rows // largest), rows // smallest)


def steps(begin: int, rows: int, count: int) -> Iterator[tuple[int, int]]:
    """`count` steps of even size over rows [begin, rows) of a window, as (start, stop)."""
    for left in range(count, 0, -1):
        stop = begin - (begin - rows) // left  # the ceiling of what is left over the steps that are left
        yield begin, stop
        begin = stop


def share(start: int, stop: int, rank: int, world_size: int) -> tuple[int, int]:
    """An even part of [start, stop) for `rank`. Shares differ by one row at most, in all steps of a window."""
    rows = stop - start
    return start + rows * rank // world_size, start + rows * (rank + 1) // world_size
