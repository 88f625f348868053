"""How calls come to an end when a worker does: what has begun is finished, and what comes later is told UNAVAILABLE.

gRPC's own way, Server.stop, cancels calls that arrive between its decision and the client's hearing of it, and clients
do not repeat what was CANCELLED. So a worker never stops its server. It lets calls in until it drains; those that come
then wait for a moment without being begun, and when the others have their answers the process ends. Their connection
breaks, which clients see as UNAVAILABLE: they connect again, to a worker that lives, and may repeat the call at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import grpc

SENDING = 0.1  # seconds in which an answer is on its way: from the end of a handler to the client
HELD = 0.3  # seconds that a call which comes too late waits for the end of the process
AGAIN_MS = "100"  # when a client may ask again
ENDING = "the server is about to end; ask again, another one may answer"


class Gate:
    """Stands in front of services.

    begun: calls that are being answered; is_closed: whether calls that come now are too late.
    """

    def __init__(self) -> None:
        self.begun = 0
        self.is_closed = False
        self._reading: set[asyncio.Future[Any]] = set()
        self._late = grpc.stream_stream_rpc_method_handler(self._refuse)

    def guarded(self, services: Sequence[grpc.GenericRpcHandler]) -> grpc.GenericRpcHandler:
        """All of the services as one, which this gate can close."""
        return _Guarded(self, services)

    async def drain(self, grace: float) -> None:
        """Close, and wait until the calls that have begun are answered, or `grace` seconds are over."""
        self.is_closed = True
        for reading in self._reading:
            reading.cancel()
        deadline = asyncio.get_running_loop().time() + grace
        while self.begun and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.005)
        await asyncio.sleep(SENDING)

    def handler(self, method: grpc.RpcMethodHandler) -> grpc.RpcMethodHandler:
        """The method, counted."""
        forms = {"request_deserializer": method.request_deserializer, "response_serializer": method.response_serializer}
        if method.unary_unary:
            return grpc.unary_unary_rpc_method_handler(self._unary(method.unary_unary), **forms)
        if method.stream_stream:
            return grpc.stream_stream_rpc_method_handler(self._stream(method.stream_stream), **forms)
        raise TypeError("methods with one stream are not served")

    def late(self) -> grpc.RpcMethodHandler:
        """Refuses a call, whatever its method."""
        return self._late

    def _unary(self, method: Callable[[Any, Any], Awaitable[Any]]) -> Callable[[Any, Any], Awaitable[Any]]:
        async def answer(request: Any, context: grpc.aio.ServicerContext) -> Any:
            self.begun += 1
            try:
                return await method(request, context)
            finally:
                self.begun -= 1

        return answer

    def _stream(self, method: Callable[[Any, Any], AsyncIterator[Any]]) -> Callable[[Any, Any], AsyncIterator[Any]]:
        """The stream ends with UNAVAILABLE when the gate closes: after the answers to what was read until then."""

        async def answers(requests: Any, context: grpc.aio.ServicerContext) -> AsyncIterator[Any]:
            self.begun += 1
            try:
                async for reply in method(self._until_closed(requests), context):
                    yield reply
            finally:
                self.begun -= 1
            if self.is_closed:
                await _unavailable(context)

        return answers

    async def _until_closed(self, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
        while not self.is_closed:
            reading = asyncio.ensure_future(anext(requests))
            self._reading.add(reading)
            try:
                yield await reading
            except StopAsyncIteration:
                return
            except asyncio.CancelledError:
                if not self.is_closed:
                    raise
            finally:
                self._reading.discard(reading)

    async def _refuse(self, requests: Any, context: grpc.aio.ServicerContext) -> AsyncIterator[Any]:
        await asyncio.sleep(HELD)
        await _unavailable(context)
        yield b""  # never reached: it makes this a stream


class _Guarded(grpc.GenericRpcHandler):
    """Finds the method of a call, while the gate is open."""

    def __init__(self, gate: Gate, services: Sequence[grpc.GenericRpcHandler]) -> None:
        self._gate, self._services = gate, services
        self._known: dict[str, grpc.RpcMethodHandler] = {}

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        """The handler of the call's method; None where there is none."""
        known = self._known.get(details.method) or self._find(details)
        return self._gate.late() if known and self._gate.is_closed else known

    def _find(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        for service in self._services:
            if method := service.service(details):
                return self._known.setdefault(details.method, self._gate.handler(method))
        return None


async def _unavailable(context: grpc.aio.ServicerContext) -> None:
    await context.abort(grpc.StatusCode.UNAVAILABLE, ENDING, (("grpc-retry-pushback-ms", AGAIN_MS),))
