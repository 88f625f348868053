"""Reader: a part of a prepared folder -> batches, in an order that depends on the seed alone.

    files -> pieces (files or row groups) -> windows (decoded and shuffled together) -> steps (all ranks) -> shares (one rank)

Notable choices. A part that fits into one window (data.shuffle_rows) is decoded once, when the reader is made, and kept. Larger
parts are decoded a window ahead, at most two in memory. The order of rows knows nothing of ranks and batches: a position is a
count of rows, and a run resumes at any world or batch size. Batches are made ahead in one thread while the trainer computes.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing

import numpy as np

from swrec_prod.config import DataConfig, SplitName
from swrec_prod.data.batch import Batch, Position, make_batch
from swrec_prod.data.catalog import Catalog
from swrec_prod.data.decode import Decoder, Window
from swrec_prod.data.pack import pack
from swrec_prod.data.prefetch import prefetched
from swrec_prod.data.record import LABELS, Record
from swrec_prod.data.windows import count_steps, cut, share, steps
from swrec_prod.errors import DataError
from swrec_prod.layout import Layout

BEGINNING = Position()


class Reader:
    """The batches of one rank. batch_size: rows a rank and step, at most; every rank takes equally many steps.

    Rows of a batch are sorted by scenario; otherwise they come in file order, or, with `shuffle`, in an order drawn from
    (seed, epoch). start: the `position` of the last batch trained on; `epoch` gives what comes after it. prefetch: batches made
    ahead (0: none, and no thread). All ranks must be given the same data, seed, shuffle and start.
    Raises DataError when the part is empty, damaged or too small for the ranks.
    """

    def __init__(
        self,
        catalog: Catalog,
        layout: Layout,
        part: SplitName,
        data: DataConfig,
        batch_size: int,
        *,
        shuffle: bool,
        rank: int = 0,
        world_size: int = 1,
        seed: int = 1,
        start: Position = BEGINNING,
        prefetch: int = 4,
    ) -> None:
        self.layout, self.batch_size, self.rank, self.world_size = layout, batch_size, rank, world_size
        self.shuffle, self.seed, self.start, self.prefetch = shuffle, seed, start, prefetch
        self._decoder = Decoder(Record(catalog.schema, layout), part if data.split == "random" else None)
        pieces = self._decoder.pieces(catalog.files_of(data, part), data.shuffle_rows)
        self._windows = [pieces[window.start : window.stop] for window in cut([p.rows for p in pieces], data.shuffle_rows)]
        self._kept = self._decoder.decode(pieces) if len(self._windows) == 1 else None
        self._sizes = [sum(p.rows for p in w) for w in self._windows] if self._kept is None else [len(self._kept.rows)]
        self.rows = sum(self._sizes)
        self._check(f"{catalog.root}: {part}")

    def __len__(self) -> int:
        """Steps of a whole epoch, the same on all ranks."""
        return sum(count_steps(rows, self.world_size, self.batch_size) for rows in self._sizes)

    def epoch(self, number: int) -> Iterator[Batch]:
        """The batches of epoch `number` that are left: none of one before `start`, the rest of its own, all of a later one."""
        return prefetched(self._batches(number), self.prefetch, name=f"reader-{number}")

    def _batches(self, epoch: int) -> Generator[Batch, None, None]:
        todo = self._todo(epoch)
        ahead = min(1, self.prefetch) if self._kept is None else 0
        with closing(prefetched((self._window(w) for w, _, _ in todo), ahead, name="decoder")) as windows:
            for (number, before, begin), window in zip(todo, windows, strict=True):
                order = self._draw(epoch, number + 1).permutation(len(window.rows)) if self.shuffle else np.arange(len(window.rows))
                for start, stop in steps(begin, len(order), self.world_size, self.batch_size):
                    first, last = share(start, stop, self.rank, self.world_size)
                    yield self._batch(window, order[first:last], Position(epoch, before + stop))

    def _todo(self, epoch: int) -> list[tuple[int, int, int]]:
        """The epoch's windows that are left: number, rows of the epoch before it, first of its own rows to take."""
        skip = self.start.rows if epoch == self.start.epoch else 0 if epoch > self.start.epoch else self.rows
        order = self._draw(epoch, 0).permutation(len(self._sizes)) if self.shuffle else range(len(self._sizes))
        todo, before = [], 0
        for number in map(int, order):
            if before + self._sizes[number] > skip:
                todo.append((number, before, max(skip - before, 0)))
            before += self._sizes[number]
        return todo

    def _draw(self, epoch: int, stream: int) -> np.random.Generator:
        """Stream 0 orders the windows, stream w + 1 the rows of window w."""
        return np.random.default_rng([self.seed, epoch, stream])

    def _window(self, number: int) -> Window:
        return self._kept if self._kept is not None else self._decoder.decode(self._windows[number])

    def _batch(self, window: Window, picked: np.ndarray, position: Position) -> Batch:
        rows = window.rows.take(picked)
        rows = rows.take(np.argsort(rows["scenario"], kind="stable"))
        columns = window.columns(rows)
        return make_batch(
            self.layout,
            pack(self.layout, columns, rows["scenario"].astype(np.int64)),
            labels_BT=np.ascontiguousarray(rows[LABELS]),
            row_B=np.ascontiguousarray(rows["row"]),
            weight_B=np.ascontiguousarray(rows["weight"]) if "weight" in columns else None,
            position=position,
        )

    def _check(self, name: str) -> None:
        """Every rank must have a row in every step, also of what is left of the window that a resumed run begins in."""
        if not self.rows:
            raise DataError(f"{name} has no rows")
        if min(self._sizes) < self.world_size:
            raise DataError(f"{name}: {min(self._sizes)} rows (data.shuffle_rows at a time) for {self.world_size} ranks; use fewer ranks")
        if not 0 <= self.start.rows <= self.rows:
            raise DataError(f"{name} has {self.rows} rows, but the run resumes after {self.start.rows} of them; is it the same data?")
        for number, _, begin in self._todo(self.start.epoch)[:1]:
            left = self._sizes[number] - begin
            if left < self.world_size:
                raise DataError(f"{name}: the run resumes with {left} rows left of a window for {self.world_size} ranks; use fewer ranks")
