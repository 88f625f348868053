"""The access log: a line of JSON for each request, by which whoever has its id finds what became of it.

    event loop  ended(): a tuple goes into a buffer; where that is full it is dropped, and counted
    thread      every FLUSH seconds the buffer becomes lines, which are appended to the file at once

The file is opened for every batch, so that it can be renamed at any time, as logrotate does, and all workers append to
the same one. Units are not in it: it is read by more people than the exposure log.
"""

from __future__ import annotations

import json
import logging
import os
import random
import threading
import time
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from swrec_prod.errors import ConfigError
from swrec_prod.serving.protocol.call import ScoreCall
from swrec_prod.serving.routing.router import Routed

FLUSH = 0.2  # seconds
MOST_LINES = 1 << 16
AT_ONCE = 256  # lines of a batch: a thread that makes one keeps the loop waiting meanwhile
COMPLAINT = 60.0  # seconds between two complaints about a disk

_log = logging.getLogger(__name__)


class Ended(NamedTuple):
    """A request that is over. ended: seconds since 1970; asked: its id and scenario, without the features, which would
    fill the memory; asked, routed: None where it ended before it had them; seconds: that it took; candidates: that were
    scored; error: what the client was told; share: of such requests in the log.
    """

    ended: float
    asked: tuple[str, str] | None
    routed: Routed | None
    code: str
    seconds: float
    candidates: int
    error: str
    share: float


class AccessLog:
    """path: of the file; share: of answers that are logged. Requests without an answer are logged always.

    dropped: requests so far that were to be logged and are not; the loop reads it, and may be told of one late.
    Raises ConfigError for a file that cannot be written to.
    """

    def __init__(self, path: Path, share: float = 1.0) -> None:
        self._path, self._share = appendable(path), share
        self._buffer = deque[Ended]()
        self._refused = self._unwritten = 0
        self._complained = -COMPLAINT
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="access log", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Requests that the buffer or the disk had no room for."""
        return self._refused + self._unwritten

    def ended(
        self, call: ScoreCall | None, routed: Routed | None, code: str, seconds: float, candidates: int, error: str
    ) -> None:
        """Log a request, unless it is not of the share, or there is too much to log. Of the event loop alone."""
        share = self._share if code == "OK" else 1.0
        if share < 1 and random.random() >= share:
            return
        if len(self._buffer) >= MOST_LINES:
            self._refused += 1
        else:
            asked = None if call is None else (call.request_id, call.scenario)
            self._buffer.append(Ended(time.time(), asked, routed, code, seconds, candidates, error, share))

    def close(self) -> None:
        """Write what is there."""
        self._closing.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._closing.wait(FLUSH):
            self._flush()
        self._flush()

    def _flush(self) -> None:
        while requests := [self._buffer.popleft() for _ in range(min(len(self._buffer), AT_ONCE))]:
            try:
                self._write(requests)
            except Exception as failure:  # a disk, or a bug of ours: scoring goes on, and it is said
                self._unwritten += len(requests)
                self._complain(failure)

    def _write(self, requests: Sequence[Ended]) -> None:
        """By one write, which the system appends whole, whatever other workers append meanwhile."""
        lines = "".join(json.dumps(line_of(request)) + "\n" for request in requests).encode()
        file = _opened(self._path)
        try:
            written = os.write(file, lines)
        finally:
            os.close(file)
        if written < len(lines):
            raise OSError(f"{written} of {len(lines)} bytes were written: the disk is full")

    def _complain(self, failure: Exception) -> None:
        now = time.monotonic()
        if now - self._complained >= COMPLAINT:
            self._complained = now
            _log.error("%s: lines are dropped, %d so far: %s", self._path, self.dropped, failure)


def line_of(request: Ended) -> dict[str, Any]:
    """What the log says of a request. What it had not come to has no key."""
    line: dict[str, Any] = {
        "time": datetime.fromtimestamp(request.ended, UTC).isoformat(timespec="microseconds"),
        "code": request.code,
        "ms": round(request.seconds * 1e3, 3),
        "share": request.share,
        "process": os.getpid(),
    }
    if request.asked is not None:
        line |= dict(zip(("request_id", "scenario"), request.asked, strict=True))
    if (routed := request.routed) is not None:
        line |= {
            "model": routed.predictor.name,
            "version": routed.predictor.version,
            "scored_scenario": routed.scored_as,
            "fallback": routed.fallback,
            "debias_strength": routed.strength,
            "variants": {got.experiment: got.variant for got in routed.variants},
            "candidates": request.candidates,
        }
    return {**line, "error": request.error} if request.error else line


def appendable(path: Path) -> Path:
    """The path itself, of a file that is there now. Raises ConfigError."""
    try:
        os.close(_opened(path))
    except OSError as failure:
        raise ConfigError(f"access log {path}: cannot be written to: {failure.strerror}; give a file") from None
    return path


def _opened(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
