"""Reader: a part of a prepared folder -> batches, in an order that depends on the seed alone.

    files -> pieces (files or row groups) -> windows (shuffled together)
          -> lanes (a rank's own rows) -> steps (all ranks)

Notable choices. A rank decodes only the row groups that hold its rows (lanes.py). A part that fits into one window
(data.shuffle_rows) is decoded once, when the reader is made, and kept. Larger parts are decoded a window ahead, at most
two in memory. The order of rows knows nothing of ranks and batches: a position is a count of rows, and a run resumes at
any world or batch size. Batches are made ahead in one thread while the trainer computes.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import NamedTuple

import numpy as np

from swrec_prod.config import DataConfig, SplitName
from swrec_prod.data.batch import Batch, Position, make_batch
from swrec_prod.data.catalog import Catalog, DayFile
from swrec_prod.data.decode import Decoder, Piece, Window, overlapping
from swrec_prod.data.id_dropout import IdDropout
from swrec_prod.data.lanes import LANES, ROWS_A_LANE, Share, Shares
from swrec_prod.data.prefetch import prefetched
from swrec_prod.data.row_format import LABELS
from swrec_prod.data.windows import cut
from swrec_prod.encoding.pack import pack
from swrec_prod.errors import DataError
from swrec_prod.schema.layout import Layout

BEGINNING = Position()


class Section(NamedTuple):
    """Rows of a part that are decoded together, in file order. stop: the rows of the part, of all ranks, up to their
    end; pieces: where those of this rank lie.
    """

    stop: int
    pieces: list[Piece]


class Reader:
    """The batches of one rank. batch_size: rows a rank and step, at most; every rank takes equally many steps.

    Rows of a batch are sorted by scenario. With `shuffle` rows come in an order drawn from (seed, epoch), otherwise
    every rank has its part of each window in file order. start: the `position` of the last batch trained on; `epoch`
    gives what comes after it. prefetch: batches made ahead (0: none, and no thread). pin: batches in page-locked
    memory, for a GPU. max_lanes, rows_a_lane, rows_a_step: see Shares. All ranks must be given the same
    data, seed, shuffle and start.

    Raises DataError when the part is empty, damaged or too small for the ranks, or when rows in file order are to be
    resumed.
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
        pin: bool = False,
        unknown_rate: Mapping[str, float] | None = None,
        rows_a_step: int = 0,
        max_lanes: int = LANES,
        rows_a_lane: int = ROWS_A_LANE,
    ) -> None:
        self.layout, self.seed, self.start = layout, seed, start
        self.shuffle, self.prefetch, self.pin = shuffle, prefetch, pin
        ids = (*layout.pooled, *layout.looked_up)
        self._dropout = IdDropout(unknown_rate, ids, seed) if unknown_rate else None
        self._shares = Shares(rank, world_size, batch_size, shuffle, max_lanes, rows_a_lane, rows_a_step)
        self._decoder = Decoder.of(catalog, layout, part, data)
        self._only_window: tuple[tuple[int, int], Window] | None = None  # the only window's part, and which
        self._open(catalog.files_of(data, part), data.shuffle_rows)
        self.rows = sum(self._sizes)
        self._check(f"{catalog.root}: {part}{f' of {_scenario_names(data.scenarios)}' if data.scenarios else ''}")
        if self._only_window is None and len(self._windows) == 1:
            span = self._shares.of(self.rows).span
            self._only_window = span, self._decoder.decode(self._windows[0], span)

    def _open(self, files: Sequence[DayFile], limit: int) -> None:
        """Find the windows and their sizes; one rank decodes a part that fits into one window at once,
        each file opened once.
        """
        if self._shares.world_size == 1 and sum(f.rows for f in files) <= limit:
            self._windows = [self._decoder.whole_files(files)]
            window = self._decoder.decode(self._windows[0])
            self._sizes = [len(window.rows)]
            self._only_window = (0, len(window.rows)), window
        else:
            pieces = self._decoder.row_groups(files)
            self._windows = [pieces[window.start : window.stop] for window in cut([p.rows for p in pieces], limit)]
            self._sizes = [sum(p.rows for p in window) for window in self._windows]

    def __len__(self) -> int:
        """Steps of a whole epoch, the same on all ranks."""
        return sum(self._shares.of(rows).count for rows in self._sizes)

    def day_ends(self, epoch: int) -> list[int]:
        """After how many rows of an epoch, all ranks together, all rows of some day are over; its end left out."""
        order = self._order(epoch)
        last = {piece.file.day: at for at, number in enumerate(order) for piece in self._windows[number]}
        stops = np.cumsum([self._sizes[number] for number in order]).tolist()
        return sorted({stops[at] for at in last.values()} - {self.rows})

    def sections(self) -> list[Section]:
        """Where the rows of an epoch in file order lie, one window after the other."""
        stops = np.cumsum(self._sizes).tolist()
        windows = zip(stops, self._windows, self._sizes, strict=True)
        return [Section(stop, self._own(pieces, rows)) for stop, pieces, rows in windows]

    def _own(self, pieces: list[Piece], rows: int) -> list[Piece]:
        """The pieces of a window that hold this rank's rows. (Of files that were opened whole, only all are known.)"""
        span = self._shares.of(rows).span
        return pieces if span == (0, rows) else [part.piece for part in overlapping(pieces, span)]

    def epoch(self, number: int) -> Iterator[Batch]:
        """The batches of epoch `number` that are left:
        none of one before `start`, the rest of its own, all of a later one.
        """
        return prefetched(self._batches(number), self.prefetch, name=f"reader-{number}")

    def _batches(self, epoch: int) -> Generator[Batch, None, None]:
        todo = self._todo(epoch)
        ahead = min(1, self.prefetch) if self._only_window is None else 0
        with closing(
            prefetched((self._window(number, share) for number, _, share in todo), ahead, name="decoder")
        ) as windows:
            for (number, before, share), window in zip(todo, windows, strict=True):
                order = share.order(partial(self._draw, epoch, number + 1) if self.shuffle else None)
                for own, stop in share.steps():
                    yield self._batch(window, order[own], Position(epoch, before + stop))

    def _todo(self, epoch: int) -> list[tuple[int, int, Share]]:
        """The epoch's windows that are left: number, rows of the epoch before it,
        this rank's share of what is left of it.
        """
        skip = self.start.rows if epoch == self.start.epoch else 0 if epoch > self.start.epoch else self.rows
        todo, before = [], 0
        for number in self._order(epoch):
            if before + self._sizes[number] > skip:
                todo.append((number, before, self._shares.of(self._sizes[number], max(skip - before, 0))))
            before += self._sizes[number]
        return todo

    def _order(self, epoch: int) -> list[int]:
        """The windows in the order in which an epoch takes them."""
        count = len(self._sizes)
        return self._draw(epoch, 0).permutation(count).tolist() if self.shuffle else list(range(count))

    def _draw(self, epoch: int, stream: int, lane: int = 0) -> np.random.Generator:
        """Stream 0 orders the windows, stream w + 1 the rows of window w, lane by lane."""
        return np.random.default_rng([self.seed, epoch, stream, lane])

    def _window(self, number: int, share: Share) -> Window:
        if self._only_window is not None and self._only_window[0] == share.span:
            return self._only_window[1]
        return self._decoder.decode(self._windows[number], share.span)

    def _batch(self, window: Window, picked: np.ndarray, position: Position) -> Batch:
        rows = window.rows.take(picked)
        rows = rows.take(np.argsort(rows["scenario"], kind="stable"))
        columns = window.columns(rows)
        if self._dropout is not None:
            columns = self._dropout(columns, rows["row"], position.epoch)
        batch = make_batch(
            self.layout,
            pack(self.layout, columns, rows["scenario"].astype(np.int64)),
            labels_BT=np.ascontiguousarray(rows[LABELS]),
            row_B=np.ascontiguousarray(rows["row"]),
            weight_B=np.ascontiguousarray(rows["weight"]) if "weight" in columns else None,
            position=position,
        )
        return batch.pin_memory() if self.pin else batch

    def _check(self, name: str) -> None:
        """Every rank must have a row in every step, also of what is left of the window that a resumed run begins in."""
        if not self.rows:
            raise DataError(f"{name} has no rows")
        world_size = self._shares.world_size
        if min(self._sizes) < world_size:
            raise DataError(
                f"{name}: {min(self._sizes)} rows (data.shuffle_rows at a time) for {world_size} ranks; use fewer ranks"
            )
        if not 0 <= self.start.rows <= self.rows:
            raise DataError(
                f"{name} has {self.rows} rows, but the run resumes after {self.start.rows} of them; "
                "is it the same data?"
            )
        if not self.shuffle and self.start != BEGINNING:
            raise DataError(f"{name}: only shuffled rows can be resumed, not at {self.start.rows} rows in file order")
        for _, _, share in self._todo(self.start.epoch)[:1]:
            left = share.rows - share.begin
            if left < world_size:
                raise DataError(
                    f"{name}: the run resumes with {left} rows left of a window for {world_size} ranks; use fewer ranks"
                )


def _scenario_names(scenarios: Sequence[str]) -> str:
    return f"scenario {scenarios[0]!r}" if len(scenarios) == 1 else f"{len(scenarios)} scenarios"
