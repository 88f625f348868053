"""What the processes of a server say to each other: JSON objects, one a line, over a pair of sockets.

Upwards, a worker to its generation and a generation to the supervisor:

    loading   packages             a generation begins to load them
    stage     stage, package       how far it is with one of them
    loaded    served, variants, held    they are verified and warm; served: fields of counts.Served; held: what another
                                   generation needs to be the same
    serving   worker, pid          a worker accepts calls
    alive                          every second, from a worker to its generation, unless a forward hangs
    died      worker, pid, why, wait    a worker has ended by itself; another one begins in `wait` seconds
    failed    error, message       it cannot serve, for a reason that the user can mend
    refused   error, message       what files say now cannot be; all stays as it is
    unchanged                      what files say now is what it does already
    beside                         what files say now takes another generation
    ruling    held                 files of rules have changed; its workers are told
    ruled     worker               a worker routes by them

Downwards:

    reload                         look at the files
    rule      rules                from a generation to its workers: route by these from now on
    leave     seconds, grace       to be replaced without a failed call: see process/leaving.py
    drain     notice, grace        say NOT_SERVING, after `notice` seconds refuse calls, end when those begun are done
    end                            end at once

When the process at the other end is gone, `receive` gives None: a child then drains and ends.
"""

from __future__ import annotations

import contextlib
import json
import socket
from typing import Any

Message = dict[str, Any]


class Link:
    """One end."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._rest = b""

    def fileno(self) -> int:
        """For selectors and event loops."""
        return self._end.fileno()

    def send(self, what: str, **content: Any) -> None:
        """Send a message. What a process that has ended was to hear is lost."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._end.sendall(json.dumps({"what": what, **content}).encode() + b"\n")

    def receive(self) -> list[Message] | None:
        """The messages that have come; None once the other end is closed. Waits where there is nothing."""
        try:
            data = self._end.recv(1 << 16)
        except ConnectionResetError:
            return None
        if not data:
            return None
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [json.loads(line) for line in lines]

    def close(self) -> None:
        """Close this end."""
        self._end.close()


def pair() -> tuple[Link, socket.socket]:
    """The parent's end, and the child's socket, which it makes a Link of."""
    ours, theirs = socket.socketpair()
    return Link(ours), theirs
