"""A client of the scorer: arrays in, arrays out, and our own errors instead of RPC codes.

    from swrec_prod.serving.client import Client

    user = {"user_id": "u1", "history.item": [7, 9], "history.scenario": ["home", "cart"]}
    with Client("127.0.0.1:8500") as client:
        scored = client.score("home", user=user, items={"item_id": [1, 2, 3], "price": [9.5, 3.0, None]})
        best = scored.score[:, 0].argmax()

None is a missing value. client/aio.py has the same for asyncio.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any

import grpc

from swrec_prod.errors import ExpiredError, NotFoundError, ServerError
from swrec_prod.serving.client import calls
from swrec_prod.serving.client.channels import Connection, Line, Lines, Tls
from swrec_prod.serving.client.in_order import in_order
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

PARTS_AT_ONCE = 16  # threads that ask for parts of split requests


class Client:
    """Asks the server at `target` (host:port). Threads may share it, as many as there are.

    timeout: seconds a call may take, waiting and asking again included. channels: connections, which a server's workers
    share between them; streams: calls in flight on one, further ones wait. tls, token: see channels.py. max_candidates:
    a request with more is sent in parts. retries: when to ask again. Raises ConfigError for what cannot be.
    """

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
        self._lines = Lines(self._connection.open(grpc), streams)
        self._places = threading.Semaphore(channels * streams)
        self._closed = False
        self._threads: ThreadPoolExecutor | None = None
        self._making_threads = threading.Lock()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the channels; calls in flight end with an error."""
        self._closed = True
        for line in self._lines.lines:
            line.channel.close()
        if self._threads is not None:
            self._threads.shutdown()

    def score(
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
        """Score N candidates, all of them by one version.

        user: one value a feature (a list for bags and sequences, of lists where each behaviour has a bag); items: N
        values a feature, or N rows. client/values.py says what a value may be. unit: who is randomised in experiments,
        usually the user; forced: variants by experiment that this request gets whatever its unit, for trying them out.
        timeout: seconds for this call.

        None is an unknown value. Raises RequestError for arguments that are wrong, with the feature's name; with the
        server's message RequestError, NotFoundError for what is not served, CallerError for who is not known; BusyError
        when the server has too much to do, ExpiredError when it is too slow, UnavailableError when there is none, and
        their base ServerError when it has failed.
        """
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
        return self._send(bodies, calls.seconds(self.timeout if timeout is None else timeout))

    def score_many(self, requests: Iterable[Mapping[str, Any]], in_flight: int = 16) -> Iterator[ScoredItems]:
        """Score many requests, several at once; the answers come in the order of the requests.

        requests: arguments of `score` by name. Raises as `score` does, at the request that is at fault.
        """
        return in_order(lambda named: self.score(**named), requests, in_flight)

    def score_stream(
        self, requests: Iterable[Mapping[str, Any]], in_flight: int = 32, timeout: float | None = None
    ) -> Iterator[Streamed]:
        """Score many requests over one call; each answer comes when it is finished, whatever became of the others.

        requests: arguments of `score` by name; the next one is taken when fewer than in_flight are on their way.
        timeout: seconds for all of them; None for as long as they take, each within the server's default deadline.
        What is wrong with one request is its answer's `error`, of the classes that `score` raises; one above
        max_candidates is sent in parts. Raises what ends the call for all: UnavailableError, ExpiredError, CallerError
        and their base ServerError. Nothing is asked again. Who stops early cancels what is on its way.
        """
        stream = Requests(requests, in_flight, self.max_candidates, self.target)
        return self._streamed(stream, None if timeout is None else calls.seconds(timeout))

    def send(self, request: Any, timeout: float | None = None) -> ScoredItems:
        """Score a wire.ScoreRequest, which is not split. Raises as `score` does."""
        return self._send([request.SerializeToString()], calls.seconds(self.timeout if timeout is None else timeout))

    def list_models(self, timeout: float | None = None) -> list[ServedModel]:
        """The packages that are served. Raises as `score` does."""
        return served_models(self._ask(calls.LIST_MODELS, b"", timeout))

    def explain(
        self,
        scenario: str,
        *,
        model: str = "",
        version: str | int = "",
        unit: str = "",
        timeout: float | None = None,
    ) -> Explained:
        """Which package would score requests of a scenario, and why. Raises as `score` does."""
        return explained(self._ask(calls.EXPLAIN, calls.explain_request(model, version, scenario, unit), timeout))

    def ready(self, model: str = "", timeout: float | None = None) -> bool:
        """Whether the server, or a model of it, answers requests."""
        try:
            return self._ask(calls.HEALTH, calls.health_request(model), timeout) == calls.SERVING
        except (ServerError, NotFoundError):
            return False

    def _send(self, bodies: list[bytes], timeout: float) -> ScoredItems:
        if len(bodies) == 1:
            return scored(self._call(calls.SCORE, bodies[0], timeout))
        end = time.monotonic() + timeout
        parts = self._parts(bodies, timeout)
        for _ in range(calls.ROUNDS):
            others = others_than_latest(parts)
            if not others:
                return joined([part for part, _ in parts])
            again = self._parts([bodies[i] for i in others], end - time.monotonic())
            for i, part in zip(others, again, strict=True):
                parts[i] = part
        raise calls.mixed_versions(self.target, [part for part, _ in parts])

    def _streamed(self, stream: Requests, timeout: float | None) -> Iterator[Streamed]:
        """Fill the stream, then wait for an answer, until there is neither."""
        bodies: SimpleQueue[bytes | None] = SimpleQueue()
        with self._place(timeout or self.timeout) as line:
            answers = line.stream(calls.SCORE_STREAM)(
                iter(bodies.get, None), timeout=timeout, metadata=self._connection.metadata
            )
            try:
                while (asked := stream.next()) is not None or stream.waiting:
                    if isinstance(asked, list):
                        for body in asked:
                            bodies.put(body)
                    elif (ended := asked or stream.answered(next(answers))) is not None:
                        yield ended
            except StopIteration:
                raise stream.ended_early() from None
            except grpc.RpcError as error:
                raise error_of(failure_of(error), self.target, timeout or self.timeout) from None
            finally:
                bodies.put(None)
                answers.cancel()

    @contextmanager
    def _place(self, timeout: float) -> Iterator[Line]:
        """A line that has room for a call. Raises ExpiredError where there is none for so long."""
        if self._closed:
            raise error_of(Failure(grpc.StatusCode.UNAVAILABLE, "the client is closed"), self.target, timeout)
        if not self._places.acquire(timeout=timeout):
            raise ExpiredError(calls.no_place(self.target, timeout))
        line = self._lines.take()
        try:
            yield line
        finally:
            self._lines.give(line)
            self._places.release()

    def _parts(self, bodies: list[bytes], timeout: float) -> list[tuple[ScoredItems, float]]:
        """Answers to the parts of a request, with the moment of each."""

        def ask(body: bytes) -> tuple[ScoredItems, float]:
            return scored(self._call(calls.SCORE, body, timeout)), time.monotonic()

        asked: list[Future[tuple[ScoredItems, float]]] = [self._pool().submit(ask, body) for body in bodies]
        try:
            return [future.result() for future in asked]
        finally:
            for future in asked:
                future.cancel()

    def _pool(self) -> ThreadPoolExecutor:
        with self._making_threads:
            if self._threads is None:
                self._threads = ThreadPoolExecutor(PARTS_AT_ONCE, "swrec-parts")
            return self._threads

    def _ask(self, path: str, body: bytes, timeout: float | None) -> bytes:
        return self._call(path, body, calls.seconds(self.timeout if timeout is None else timeout))

    def _call(self, path: str, body: bytes, timeout: float) -> bytes:
        """Call a method, again where that may help. Raises our own errors."""
        attempts = Attempts(self._retries, self._budget, timeout)
        line: Line | None = None
        while True:
            answer, line = self._attempt(path, body, attempts, timeout, line)
            if isinstance(answer, bytes):
                self._budget.earn()
                return answer
            wait = None if self._closed else attempts.wait(answer)
            if wait is None:
                raise error_of(answer, self.target, timeout)
            time.sleep(wait)

    def _attempt(
        self, path: str, body: bytes, attempts: Attempts, timeout: float, avoid: Line | None
    ) -> tuple[bytes | Failure, Line]:
        """One attempt, and the line that it took. avoid: the line of the one before."""
        if not self._places.acquire(timeout=attempts.left):
            raise ExpiredError(calls.no_place(self.target, timeout))
        line = self._lines.take(avoid)
        try:
            return line.unary(path)(body, timeout=attempts.left, metadata=self._connection.metadata), line
        except grpc.RpcError as error:
            return failure_of(error), line
        except ValueError as closed:  # grpc's word for a channel that is closed
            return Failure(grpc.StatusCode.UNAVAILABLE, str(closed)), line
        finally:
            self._lines.give(line)
            self._places.release()
