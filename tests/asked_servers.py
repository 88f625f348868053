"""A server that answers as told: delays, codes and pushbacks, over real sockets; for tests of clients."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
import numpy as np

from swrec_prod.serving.protocol import ranking_pb2, wire
from swrec_prod.serving.protocol.call import call_of

Answer = Callable[[bytes, grpc.aio.ServicerContext], Awaitable[bytes]]


@dataclass
class Asked:
    """What came to the server: the messages, the metadata, and the peers, one a connection."""

    target: str = ""
    bodies: list[bytes] = field(default_factory=list)
    metadata: list[dict[str, Any]] = field(default_factory=list)
    peers: list[str] = field(default_factory=list)
    left: list[float] = field(default_factory=list)


@contextmanager
def serving(
    answers: dict[str, Answer], options: list[tuple[str, int]] | None = None, streams: dict[str, Any] | None = None
) -> Iterator[Asked]:
    """A server of swrec.v1.Ranking in a thread of its own. answers: by method; options: of the gRPC server; streams:
    methods with a stream both ways, as grpc wants them, which are not recorded.
    """
    asked, ready, loop = Asked(), threading.Event(), asyncio.new_event_loop()

    def recorded(answer: Answer) -> Answer:
        async def record(data: bytes, context: grpc.aio.ServicerContext) -> bytes:
            asked.bodies.append(data)
            asked.metadata.append(dict(context.invocation_metadata()))
            asked.peers.append(context.peer())
            asked.left.append(context.time_remaining())
            return await answer(data, context)

        return record

    async def run() -> None:
        server = grpc.aio.server(options=options)
        handlers = {name: grpc.unary_unary_rpc_method_handler(recorded(answer)) for name, answer in answers.items()}
        both = {name: grpc.stream_stream_rpc_method_handler(stream) for name, stream in (streams or {}).items()}
        handlers |= both
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(wire.SERVICE, handlers),))
        asked.target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        await server.start()
        ready.set()
        await stop.wait()
        await server.stop(None)

    stop = asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(run(),))
    thread.start()
    try:
        assert ready.wait(30)
        yield asked
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


async def scores(data: bytes, context: Any = None, version: str = "1") -> bytes:
    """The score of a candidate is the first integer or number of its first feature."""
    call = call_of(wire.ScoreRequest.FromString(data))
    score = np.asarray(call.items[0].values, "<f4") if call.items else np.zeros(0, "<f4")
    return ranking_pb2.ScoreResponse(
        request_id=call.request_id, model="echo", version=version, tasks=["click"], score=score, probability=score
    ).SerializeToString()


def in_turn(*answers: Answer) -> Answer:
    """The first answer to the first call, and so on; the last one to all that follow."""
    rest = list(answers)

    async def answer(data: bytes, context: grpc.aio.ServicerContext) -> bytes:
        return await (rest.pop(0) if len(rest) > 1 else rest[0])(data, context)

    return answer


def refusal(code: grpc.StatusCode, details: str = "as told", pushback_ms: str | None = None) -> Answer:
    """An answer by a status code."""

    async def answer(data: bytes, context: grpc.aio.ServicerContext) -> bytes:
        metadata = () if pushback_ms is None else (("grpc-retry-pushback-ms", pushback_ms),)
        return await context.abort(code, details, metadata)

    return answer
