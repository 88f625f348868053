"""The client of sync.py for asyncio, with the same surface.

    from swrec_prod.serving.client import AsyncClient

    async with AsyncClient("127.0.0.1:8500") as client:
        scored = await client.score("home", user={"user_id": "u1"}, items={"item_id": [1, 2, 3]})

Make it inside of the event loop that uses it.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast

import grpc
import grpc.aio

from swrec_prod.errors import ExpiredError, NotFoundError, ServerError
from swrec_prod.serving.client import calls
from swrec_prod.serving.client.channels import Connection, Line, Lines, Tls
from swrec_prod.serving.client.reply import (
    Explained,
    ScoredItems,
    ServedModel,
    explained,
    joined,
    others_than_latest,
    scored,
    served_models,
)
from swrec_prod.serving.client.request import Items, Row, make_call, message_of, parts_of
from swrec_prod.serving.client.retry import Attempts, Budget, Failure, Retries, error_of, failure_of
from swrec_prod.serving.client.streaming import Requests, Streamed


class AsyncClient:
    """Asks the server at `target` (host:port). Tasks of one event loop may share it; arguments as of Client."""

    def __init__(
        self,
        target: str,
        timeout: float = 5.0,
        *,
        channels: int = 4,
        streams: int = 100,
        tls: Tls | None = None,
        token: str | None = None,
        keepalive: float = 30.0,
        max_candidates: int = 1000,
        retries: Retries | None = None,
    ) -> None:
        self.target, self.timeout, self.max_candidates = target, calls.seconds(timeout), max_candidates
        self._connection = Connection(target, channels, streams, tls, token, keepalive)
        self._retries = retries or Retries()
        self._budget = Budget(self._retries.share)
        self._lines = Lines(self._connection.open(grpc.aio), streams)
        self._places = asyncio.Semaphore(channels * streams)
        self._closed = False

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the channels; calls in flight end with an error."""
        self._closed = True
        await asyncio.gather(*(line.channel.close() for line in self._lines.lines))

    async def score(
        self,
        scenario: str,
        user: Row,
        items: Items,
        *,
        model: str = "",
        version: str | int = "",
        request_id: str = "",
        unit: str = "",
        debias_strength: float | None = None,
        forced: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> ScoredItems:
        """Score N candidates, all of them by one version; arguments and errors as of Client.score."""
        call = make_call(
            scenario,
            user,
            items,
            model=model,
            version=version,
            request_id=request_id,
            unit=unit,
            debias_strength=debias_strength,
            forced=forced,
        )
        bodies = [message_of(part).SerializeToString() for part in parts_of(call, self.max_candidates)]
        return await self._send(bodies, calls.seconds(self.timeout if timeout is None else timeout))

    async def score_many(
        self, requests: Iterable[Mapping[str, Any]], in_flight: int = 16
    ) -> AsyncIterator[ScoredItems]:
        """Score many requests, several at once; the answers come in the order of the requests.

        requests: arguments of `score` by name. Raises as `score` does, at the request that is at fault.
        """
        rest = iter(requests)
        waiting = deque(asyncio.create_task(self.score(**named)) for named in itertools.islice(rest, in_flight))
        try:
            while waiting:
                yield await waiting.popleft()
                waiting.extend(asyncio.create_task(self.score(**named)) for named in itertools.islice(rest, 1))
        finally:
            for task in waiting:
                task.cancel()

    def score_stream(
        self, requests: Iterable[Mapping[str, Any]], in_flight: int = 32, timeout: float | None = None
    ) -> AsyncGenerator[Streamed]:
        """Score many requests over one call; arguments, answers and errors as of Client.score_stream.

        Who stops early closes it, with contextlib.aclosing, which cancels what is on its way.
        """
        stream = Requests(requests, in_flight, self.max_candidates, self.target)
        return self._streamed(stream, None if timeout is None else calls.seconds(timeout))

    async def send(self, request: Any, timeout: float | None = None) -> ScoredItems:
        """Score a wire.ScoreRequest, which is not split. Raises as `score` does."""
        return await self._send(
            [request.SerializeToString()], calls.seconds(self.timeout if timeout is None else timeout)
        )

    async def list_models(self, timeout: float | None = None) -> list[ServedModel]:
        """The packages that are served. Raises as `score` does."""
        return served_models(await self._ask(calls.LIST_MODELS, b"", timeout))

    async def explain(
        self,
        scenario: str,
        *,
        model: str = "",
        version: str | int = "",
        unit: str = "",
        timeout: float | None = None,
    ) -> Explained:
        """Which package would score requests of a scenario, and why. Raises as `score` does."""
        request = calls.explain_request(model, version, scenario, unit)
        return explained(await self._ask(calls.EXPLAIN, request, timeout))

    async def ready(self, model: str = "", timeout: float | None = None) -> bool:
        """Whether the server, or a model of it, answers requests."""
        try:
            return await self._ask(calls.HEALTH, calls.health_request(model), timeout) == calls.SERVING
        except (ServerError, NotFoundError):
            return False

    async def _send(self, bodies: list[bytes], timeout: float) -> ScoredItems:
        if len(bodies) == 1:
            return scored(await self._call(calls.SCORE, bodies[0], timeout))
        end = time.monotonic() + timeout
        parts = await self._parts(bodies, timeout)
        for _ in range(calls.ROUNDS):
            others = others_than_latest(parts)
            if not others:
                return joined([part for part, _ in parts])
            again = await self._parts([bodies[i] for i in others], end - time.monotonic())
            for i, part in zip(others, again, strict=True):
                parts[i] = part
        raise calls.mixed_versions(self.target, [part for part, _ in parts])

    async def _streamed(self, stream: Requests, timeout: float | None) -> AsyncGenerator[Streamed]:
        """Fill the stream, then wait for an answer, until there is neither."""
        bodies: asyncio.Queue[bytes] = asyncio.Queue()
        async with self._place(timeout or self.timeout) as line:
            answers = line.stream(calls.SCORE_STREAM)(
                _taken(bodies), timeout=timeout, metadata=self._connection.metadata
            )
            try:
                while (asked := stream.next()) is not None or stream.waiting:
                    if isinstance(asked, list):
                        for body in asked:
                            bodies.put_nowait(body)
                    elif (ended := asked or stream.answered(await _answer(answers, stream))) is not None:
                        yield ended
            except grpc.RpcError as error:
                raise error_of(failure_of(error), self.target, timeout or self.timeout) from None
            finally:
                answers.cancel()

    @asynccontextmanager
    async def _place(self, timeout: float) -> AsyncIterator[Line]:
        """A line that has room for a call. Raises ExpiredError where there is none for so long."""
        if self._closed:
            raise error_of(Failure(grpc.StatusCode.UNAVAILABLE, "the client is closed"), self.target, timeout)
        try:
            async with asyncio.timeout(timeout):
                await self._places.acquire()
        except TimeoutError:
            raise ExpiredError(calls.no_place(self.target, timeout)) from None
        line = self._lines.take()
        try:
            yield line
        finally:
            self._lines.give(line)
            self._places.release()

    async def _parts(self, bodies: list[bytes], timeout: float) -> list[tuple[ScoredItems, float]]:
        """Answers to the parts of a request, with the moment of each."""

        async def ask(body: bytes) -> tuple[ScoredItems, float]:
            return scored(await self._call(calls.SCORE, body, timeout)), time.monotonic()

        asked = [asyncio.create_task(ask(body)) for body in bodies]
        try:
            return await asyncio.gather(*asked)
        finally:
            for task in asked:
                task.cancel()

    async def _ask(self, path: str, body: bytes, timeout: float | None) -> bytes:
        return await self._call(path, body, calls.seconds(self.timeout if timeout is None else timeout))

    async def _call(self, path: str, body: bytes, timeout: float) -> bytes:
        """Call a method, again where that may help. Raises our own errors."""
        attempts = Attempts(self._retries, self._budget, timeout)
        line: Line | None = None
        while True:
            answer, line = await self._attempt(path, body, attempts, timeout, line)
            if isinstance(answer, bytes):
                self._budget.earn()
                return answer
            wait = None if self._closed else attempts.wait(answer)
            if wait is None:
                raise error_of(answer, self.target, timeout)
            await asyncio.sleep(wait)

    async def _attempt(
        self, path: str, body: bytes, attempts: Attempts, timeout: float, avoid: Line | None
    ) -> tuple[bytes | Failure, Line]:
        """One attempt, and the line that it took. avoid: the line of the one before."""
        try:
            async with asyncio.timeout(attempts.left if self._places.locked() else None):
                await self._places.acquire()
        except TimeoutError:
            raise ExpiredError(calls.no_place(self.target, timeout)) from None
        line = self._lines.take(avoid)
        try:
            return await line.unary(path)(body, timeout=attempts.left, metadata=self._connection.metadata), line
        except grpc.RpcError as error:
            return failure_of(error), line
        except grpc.aio.UsageError as closed:
            return Failure(grpc.StatusCode.UNAVAILABLE, str(closed)), line
        finally:
            self._lines.give(line)
            self._places.release()


async def _taken(bodies: asyncio.Queue[bytes]) -> AsyncIterator[bytes]:
    """What is put into the queue, for ever."""
    while True:
        yield await bodies.get()


async def _answer(answers: Any, stream: Requests) -> bytes:
    """The next one. Raises ServerError where the stream has ended."""
    answer = await answers.read()
    if answer is grpc.aio.EOF:
        raise stream.ended_early()
    return cast(bytes, answer)
