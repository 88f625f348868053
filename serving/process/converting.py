"""The process that converts the exposure log, which the supervisor keeps alive as long as it lives itself."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

MODULE = "swrec_prod.exposures.converter"
AGAIN = 10.0  # seconds before one that has ended is started again
LAST = 15.0  # seconds that it gets at the end; what is left is converted at the next start

_log = logging.getLogger(__name__)


@contextlib.asynccontextmanager
async def converting(folder: Path | None, environment: Mapping[str, str]) -> AsyncIterator[None]:
    """Convert segments of the log in `folder` until the block ends. folder: None where there is no log."""
    if folder is None:
        yield
        return
    keeping = asyncio.create_task(_keep(folder, environment))
    try:
        yield
    finally:
        keeping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await keeping


async def _keep(folder: Path, environment: Mapping[str, str]) -> None:
    while True:
        command = (sys.executable, "-P", "-m", MODULE, str(folder.absolute()))
        process = await asyncio.create_subprocess_exec(
            *command, stdin=subprocess.PIPE, env=environment, start_new_session=True
        )
        try:
            code = await process.wait()
        except asyncio.CancelledError:
            await _end(process)
            raise
        _log.error("the process that converts exposures ended with code %d; another one begins in %g s", code, AGAIN)
        await asyncio.sleep(AGAIN)


async def _end(process: asyncio.subprocess.Process) -> None:
    """It ends when its input does."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        await asyncio.wait_for(process.wait(), LAST)
    except TimeoutError:
        process.kill()
        await process.wait()
