"""Which rows go into which step: pure numbers, so that every rank and every resumed run comes to the same answer.

A *window* is a run of rows that are decoded and shuffled together; where windows begin depends on the data alone. A *step* is
the next piece of a window's order, shared evenly by all ranks. A step's size depends only on how much of the window is left, so
a run that resumes with the same world and batch size takes the very same steps, and with another one still takes every row once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def cut(sizes: Sequence[int], limit: int) -> list[range]:
    """Windows over pieces of `sizes` rows, each a range of piece indices, in order.

    A window has at most `limit` rows, unless one of its pieces is that large or a rest of less than half of `limit` joins it:
    every window but an only one has at least limit / 2 rows.
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


def count_steps(rows: int, world_size: int, batch_size: int) -> int:
    """Steps that `rows` rows take: as few as batches allow, and never so many that a rank would go without a row.

    (Only with batch_size 1 do the two disagree; a rank's share is then one row larger than batch_size.)
    """
    return min(-(-rows // (world_size * batch_size)), rows // world_size)


def steps(begin: int, rows: int, world_size: int, batch_size: int) -> Iterator[tuple[int, int]]:
    """The steps over rows [begin, rows) of a window, all ranks together, as (start, stop)."""
    for left in range(count_steps(rows - begin, world_size, batch_size), 0, -1):
        stop = begin - (begin - rows) // left  # the ceiling of what is left over the steps that are left
        yield begin, stop
        begin = stop


def share(start: int, stop: int, rank: int, world_size: int) -> tuple[int, int]:
    """The rows of a step that `rank` takes. Shares differ by one row at most, in all steps of a window."""
    rows = stop - start
    return start + rows * rank // world_size, start + rows * (rank + 1) // world_size
