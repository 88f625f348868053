"""A worker: one event loop and one gRPC server over packages that are in memory already.

Its generation forks it, so that the packages' tables are in memory once. gRPC is imported here only, since a process
that has started gRPC cannot be forked. uvloop takes 11 % less time for a call than asyncio's own loop.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import traceback

import torch
import uvloop
from grpc_health.v1 import health

from swrec_prod.errors import SwrecError
from swrec_prod.exposures.log import Log
from swrec_prod.serving.process.gate import Gate
from swrec_prod.serving.process.leaving import leave
from swrec_prod.serving.process.link import Link, Message
from swrec_prod.serving.process.options import Options
from swrec_prod.serving.process.pulse import Pulse
from swrec_prod.serving.process.server import answering_of, start
from swrec_prod.serving.routing.router import Router
from swrec_prod.serving.routing.rules import Rules
from swrec_prod.serving.service.answering import Answering
from swrec_prod.serving.service.exposing import Exposing, described
from swrec_prod.serving.watching.access_log import AccessLog
from swrec_prod.serving.watching.counts import Counts

SWITCH = 5e-4  # seconds after which a forward in its thread gets its turn beside a busy loop
ORPHANED = 5.0  # seconds that calls get which have begun when the generation is gone


class ClientsThatLeft(logging.Filter):
    """Drops what gRPC logs, with a traceback, of every answer whose client has gone meanwhile: under overload that is
    hundreds a second, and each call is counted by its code anyway.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to log."""
        return not (record.exc_info and record.exc_info[0] and record.exc_info[0].__name__ == "ExecuteBatchError")


def work(router: Router, options: Options, link: Link, counts: Counts) -> None:
    """Serve until told to drain, by the generation or by SIGTERM, or until the generation is gone."""
    torch.set_num_threads(options.threads)
    logging.getLogger("grpc._cython.cygrpc").addFilter(ClientsThatLeft())
    sys.setswitchinterval(SWITCH)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the supervisor
    try:
        uvloop.run(_work(router, options, link, counts))
    except (SwrecError, OSError) as failure:
        link.send("failed", error=type(failure).__name__, message=str(failure))


async def _work(router: Router, options: Options, link: Link, counts: Counts) -> None:
    gate, exposing = Gate(), _exposing(router, options)
    access = None if options.access_log is None else AccessLog(options.access_log, options.access_share)
    answering = answering_of(router, options, counts, exposing, access)
    server, checks, port = await start(router, options, gate, counts, answering)
    orders = asyncio.Queue[Message]()
    loop = asyncio.get_running_loop()
    loop.add_reader(link.fileno(), _hear, link, orders, answering)
    own = {"what": "drain", "notice": options.notice, "grace": options.grace}
    loop.add_signal_handler(signal.SIGTERM, orders.put_nowait, own)
    link.send("serving", pid=os.getpid())
    pulse = Pulse(router, link, counts, exposing.log if exposing else None, access)
    beating = asyncio.ensure_future(pulse.beat())
    await _follow(orders, gate, checks, port)
    if exposing is not None:
        exposing.log.close()
    if access is not None:
        access.close()
    pulse.tell()
    del server, beating  # until here: what nothing refers to is stopped
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # without gRPC's own farewell, which would cancel calls; see process/gate.py


def _exposing(router: Router, options: Options) -> Exposing | None:
    """What logs answers, where they are to be logged. Raises ConfigError for a folder that cannot be written to."""
    if options.exposures is None:
        return None
    return Exposing(Log(options.exposures, described(router), options.exposures_bounds), options.exposures_features)


async def _follow(orders: asyncio.Queue[Message], gate: Gate, checks: health.aio.HealthServicer, port: int) -> None:
    """Drain or leave as told last; whoever hears while it waits that its generation is gone waits no longer."""
    following = asyncio.ensure_future(orders.get())
    draining: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    while not draining.done():
        await asyncio.wait((draining, following), return_when=asyncio.FIRST_COMPLETED)
        if following.done():
            order, following = following.result(), asyncio.ensure_future(orders.get())
            draining.cancel()
            ending = _leave(gate, port, order) if order["what"] == "leave" else _drain(gate, checks, order)
            draining = asyncio.ensure_future(ending)


def _hear(link: Link, orders: asyncio.Queue[Message], answering: Answering) -> None:
    heard = link.receive()
    if heard is None:
        asyncio.get_running_loop().remove_reader(link.fileno())
        heard = [{"what": "drain", "notice": 0.0, "grace": ORPHANED}]
    for order in heard:
        if order["what"] == "rule":
            _rule(answering, order["rules"])
            link.send("ruled")
        else:
            orders.put_nowait(order)


def _rule(answering: Answering, rules: Message) -> None:
    """Route by other rules from the next request on. Whoever cannot is replaced by a worker that begins with them."""
    try:
        answering.router = answering.router.ruled(Rules.from_plain(rules))
    except Exception:
        traceback.print_exc()
        os._exit(1)


async def _drain(gate: Gate, checks: health.aio.HealthServicer, order: Message) -> None:
    await checks.enter_graceful_shutdown()
    await asyncio.sleep(order["notice"])
    await gate.drain(order["grace"])


async def _leave(gate: Gate, port: int, order: Message) -> None:
    """Health checking goes on to say SERVING: whoever asks next is answered by another worker."""
    await leave(port, order["seconds"])
    await gate.drain(order["grace"])
