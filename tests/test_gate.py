"""How calls end when a worker drains: those that have begun, streams, and those that come too late."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import grpc
import pytest

from swrec_prod.serving.process.gate import Gate


class Echo:
    """A service whose unary calls last until `released`, and whose streams answer each message."""

    def __init__(self) -> None:
        self.entered, self.released = asyncio.Event(), asyncio.Event()

    async def wait(self, data: bytes, context: grpc.aio.ServicerContext) -> bytes:
        self.entered.set()
        await self.released.wait()
        return data

    async def stream(self, requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
        async for data in requests:
            yield data

    def handlers(self) -> grpc.GenericRpcHandler:
        return grpc.method_handlers_generic_handler(
            "test.Echo",
            {
                "Wait": grpc.unary_unary_rpc_method_handler(self.wait),
                "Stream": grpc.stream_stream_rpc_method_handler(self.stream),
            },
        )


def behind(use: Callable[[Gate, Echo, grpc.aio.Channel], Awaitable[None]]) -> None:
    """Run `use` with a server of Echo behind a gate."""

    async def run() -> None:
        gate, echo, server = Gate(), Echo(), grpc.aio.server()
        server.add_generic_rpc_handlers((gate.guarded([echo.handlers()]),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                await use(gate, echo, channel)
        finally:
            await server.stop(None)

    asyncio.run(asyncio.wait_for(run(), 60))


def test_what_has_begun_is_finished_and_what_comes_later_is_to_ask_again():
    async def use(gate: Gate, echo: Echo, channel: grpc.aio.Channel) -> None:
        begun = channel.unary_unary("/test.Echo/Wait")(b"begun")
        await echo.entered.wait()
        draining = asyncio.ensure_future(gate.drain(grace=60))
        await asyncio.sleep(0)
        with pytest.raises(grpc.aio.AioRpcError) as late:
            await channel.unary_unary("/test.Echo/Wait")(b"late")
        assert late.value.code() is grpc.StatusCode.UNAVAILABLE
        assert dict(late.value.trailing_metadata())["grpc-retry-pushback-ms"] == "100"
        assert not draining.done()
        echo.released.set()
        assert await begun == b"begun"
        await draining
        assert gate.begun == 0

    behind(use)


def test_grace_ends():
    async def use(gate: Gate, echo: Echo, channel: grpc.aio.Channel) -> None:
        begun = channel.unary_unary("/test.Echo/Wait")(b"begun")
        await echo.entered.wait()
        await gate.drain(grace=0.01)
        assert gate.begun == 1
        begun.cancel()

    behind(use)


def test_a_stream_has_its_answers_and_then_is_to_ask_again():
    async def use(gate: Gate, echo: Echo, channel: grpc.aio.Channel) -> None:
        stream = channel.stream_stream("/test.Echo/Stream")()
        for data in (b"one", b"two"):
            await stream.write(data)
            assert await stream.read() == data
        await gate.drain(grace=60)
        assert gate.begun == 0
        with pytest.raises(grpc.aio.AioRpcError) as end:
            await stream.read()
        assert end.value.code() is grpc.StatusCode.UNAVAILABLE

    behind(use)


def test_a_stream_that_the_client_ends_ends_well():
    async def use(gate: Gate, echo: Echo, channel: grpc.aio.Channel) -> None:
        stream = channel.stream_stream("/test.Echo/Stream")(iter([b"one", b"two"]))
        assert [data async for data in stream] == [b"one", b"two"]
        assert await stream.code() is grpc.StatusCode.OK

    behind(use)


def test_a_call_that_the_client_gives_up_has_ended():
    async def use(gate: Gate, echo: Echo, channel: grpc.aio.Channel) -> None:
        begun = channel.unary_unary("/test.Echo/Wait")(b"begun")
        await echo.entered.wait()
        begun.cancel()
        await gate.drain(grace=60)
        assert gate.begun == 0

    behind(use)


def test_unknown_methods_are_unimplemented():
    async def use(gate: Gate, echo: Echo, channel: grpc.aio.Channel) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await channel.unary_unary("/test.Echo/Other")(b"")
        assert failure.value.code() is grpc.StatusCode.UNIMPLEMENTED

    behind(use)
