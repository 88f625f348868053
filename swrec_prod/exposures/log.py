"""The log as a worker sees it: one call for each answer, which neither waits nor fails.

    event loop  add(): the answer goes into a buffer; where that is full it is dropped, and counted
    thread      every FLUSH seconds the buffer becomes a batch of the write-ahead log, which goes to the disk every
                SYNC seconds; a process that is killed loses what it has answered since the last batch

What cannot be written, because the disk is full or broken, is dropped and counted as well.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from swrec_prod.exposures.answer import ANSWERS, Answer, batch_of
from swrec_prod.exposures.bounds import MEBI, Bounds, usable
from swrec_prod.exposures.event_ids import EventIds
from swrec_prod.exposures.schema import FeatureColumn
from swrec_prod.exposures.write_ahead import Segment, waiting_bytes

FLUSH, SYNC = 0.2, 1.0  # seconds
MOST_ANSWERS = 1 << 16
AT_ONCE = 256  # answers of a batch: a thread that makes one keeps the loop waiting meanwhile
COMPLAINT = 60.0  # seconds between two complaints about a disk
METADATA = b"packages"

_log = logging.getLogger(__name__)


class Described(NamedTuple):
    """What the log needs to know of a package. tasks: their names; columns: that its requests may have."""

    tasks: Sequence[str]
    columns: Sequence[FeatureColumn]


class Log:
    """folder: of the log; packages: by NAME/VERSION, whose answers may come.

    logged, dropped: answers so far; the loop reads them, and may be told of one late.
    """

    def __init__(self, folder: Path, packages: Mapping[str, Described], bounds: Bounds | None = None) -> None:
        self._folder, self._bounds = usable(folder), bounds or Bounds()
        self._schema = ANSWERS.with_metadata({METADATA: json.dumps(packages)})
        self._buffer, self._ids = deque[Answer](), EventIds()
        self._most = self._bounds.buffer_mb * MEBI
        self._added = self._taken = 0  # bytes that came into the buffer, and left it
        self._refused = self._unwritten = self.logged = 0
        self._segment: Segment | None = None
        self._synced = self._complained = -COMPLAINT
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="exposures", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Answers that were not logged."""
        return self._refused + self._unwritten

    @property
    def queued(self) -> int:
        """Answers in the buffer."""
        return len(self._buffer)

    def add(self, answer: Answer) -> None:
        """Log an answer, unless there is too much to log. Of the event loop alone."""
        size = answer.bytes
        if len(self._buffer) >= MOST_ANSWERS or self._added + size - self._taken > self._most:
            self._refused += 1
        else:
            self._added += size
            self._buffer.append(answer)

    def close(self) -> None:
        """Write what is there, and finish the segment."""
        self._closing.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._closing.wait(FLUSH):
            self._flush()
        self._flush()
        self._finish()

    def _flush(self) -> None:
        while answers := self._take():
            try:
                self._write(answers)
                self.logged += len(answers)
            except Exception as failure:  # a disk, or a bug of ours: scoring goes on, and it is said
                self._unwritten += len(answers)
                self._complain(failure)
        self._sync()

    def _take(self) -> list[Answer]:
        answers = [self._buffer.popleft() for _ in range(min(len(self._buffer), AT_ONCE))]
        self._taken += sum(answer.bytes for answer in answers)
        return answers

    def _write(self, answers: Sequence[Answer]) -> None:
        batch = batch_of([self._ids.next(answer.ts) for answer in answers], answers, self._schema)
        if self._segment is None:
            self._check_room()
            self._segment = Segment(self._folder, self._schema)
        self._segment.append(batch)

    def _check_room(self) -> None:
        waiting = waiting_bytes(self._folder) / MEBI
        if waiting > self._bounds.waiting_mb:
            raise OSError(f"{waiting:,.0f} MiB wait to be converted, allowed are {self._bounds.waiting_mb:,.0f}")

    def _sync(self) -> None:
        segment, now = self._segment, time.monotonic()
        if segment is None:
            return
        if now - self._synced >= SYNC:
            self._synced = now
            try:
                segment.sync()
            except OSError as failure:
                self._complain(failure)
        old = now - segment.begun > self._bounds.segment_seconds
        if old or segment.bytes > self._bounds.segment_mb * MEBI:
            self._finish()

    def _finish(self) -> None:
        if self._segment is not None:
            self._segment.close()
            self._segment = None

    def _complain(self, failure: Exception) -> None:
        now = time.monotonic()
        if now - self._complained >= COMPLAINT:
            self._complained = now
            _log.error("%s: exposures are dropped, %d so far: %s", self._folder, self.dropped, failure)


def packages_of(schema_metadata: Mapping[bytes, bytes] | None) -> dict[str, Described]:
    """What the writer of a segment knew of its packages."""
    told: dict[str, Any] = json.loads((schema_metadata or {}).get(METADATA, b"{}"))
    return {
        name: Described(tasks, [FeatureColumn(*column) for column in columns])
        for name, (tasks, columns) in told.items()
    }
