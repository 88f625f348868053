"""Looking at the files that a server is made of, again and again, and saying when they have changed."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from swrec_prod.serving.process.options import Options

Stamp = frozenset[tuple[str, int, int]]


@contextlib.asynccontextmanager
async def watching(options: Options, changed: Callable[[], object]) -> AsyncIterator[None]:
    """Look every `options.watch` seconds within the block; None: never."""
    looking = asyncio.ensure_future(_look(options, options.watch, changed)) if options.watch else None
    try:
        yield
    finally:
        if looking is not None:
            looking.cancel()


async def _look(options: Options, seconds: float, changed: Callable[[], object]) -> None:
    """For ever. What changes has to stay as it is for one look."""
    told = last = stamp(options)
    while True:
        await asyncio.sleep(seconds)
        now = stamp(options)
        if now == last != told:
            told = now
            changed()
        last = now


def stamp(options: Options) -> Stamp:
    """The files that decide, each with its time and size: of a package READY alone, which is written last."""
    in_repo = itertools.chain(options.models.glob("*/*/READY"), options.models.glob("*/labels.yaml"))
    others = (options.routes, options.experiments, options.callers)
    return frozenset(found for path in (*in_repo, *filter(None, others)) if (found := _stamp(path)))


def _stamp(path: Path) -> tuple[str, int, int] | None:
    try:
        status = path.stat()
    except OSError:  # gone since it was listed
        return None
    return str(path), status.st_mtime_ns, status.st_size
