"""Asking a running server to look at its files again, over a socket in the file system.

Whoever may open the file may ask: it is for the server's own user alone. Nothing of it can be reached from the network.
A line of JSON comes, {"what": "reload"}, and one goes back, with the fields of change.Outcome.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from swrec_prod.errors import ConfigError, UnavailableError
from swrec_prod.serving.process.change import Outcome

LONGEST = 4096  # bytes of a request
Reload = Callable[[], Awaitable[Outcome]]


@contextlib.asynccontextmanager
async def listening(path: Path | None, reload: Reload) -> AsyncIterator[None]:
    """Answer at the path within the block; None: nowhere. Raises ConfigError."""
    if path is None:
        yield
        return
    _remove_stale(path)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, ValueError):
            writer.write(json.dumps(await _answer(await reader.readline(), reload)).encode() + b"\n")
            await writer.drain()
        writer.close()

    mask = os.umask(0o177)
    try:
        server = await asyncio.start_unix_server(answer, path, limit=LONGEST)
    except OSError as failure:
        raise ConfigError(
            f"admin socket {path}: {failure.strerror}; give a path in a folder of the server's own"
        ) from None
    finally:
        os.umask(mask)
    try:
        yield
    finally:
        server.close()
        path.unlink(missing_ok=True)


async def _answer(line: bytes, reload: Reload) -> dict[str, Any]:
    try:
        what = json.loads(line).get("what")
    except (ValueError, AttributeError):
        what = None
    if what != "reload":
        return {"error": 'expected {"what": "reload"} on one line'}
    return (await reload())._asdict()


def _remove_stale(path: Path) -> None:
    """A socket that nobody listens at is of a server that was killed. Raises ConfigError where somebody does."""
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return path.unlink(missing_ok=True)
    raise ConfigError(f"admin socket {path}: another server listens there; give each its own")


def ask_to_reload(path: Path, timeout: float) -> Outcome:
    """What became of it. Raises UnavailableError where no server listens, or none answers within so many seconds."""
    try:
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(timeout)
            line.connect(str(path))
            line.sendall(b'{"what": "reload"}\n')
            with line.makefile("rb") as answer:
                return Outcome(**json.loads(answer.readline()))
    except TimeoutError:
        raise UnavailableError(f"{path}: no answer within {timeout:g} s; the change may still be made") from None
    except (OSError, ValueError) as failure:
        reason = getattr(failure, "strerror", None) or "the server ended"
        raise UnavailableError(f"{path}: {reason}; is a server there that was started with --admin {path}?") from None
