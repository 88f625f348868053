"""The services' way of answering without sockets, for tests that ask very often."""

from __future__ import annotations

import asyncio

from swrec_prod.serving.routing.router import Router
from swrec_prod.serving.service.admission import Admission
from swrec_prod.serving.service.answering import Answering, Form, Outcome
from swrec_prod.serving.watching.access_log import AccessLog
from swrec_prod.serving.watching.counts import Counts, served_by, variants_of


class Context:
    """Stands where the context of a gRPC call stands: half a minute is left, and no token was sent."""

    def time_remaining(self) -> float:
        return 30.0

    def invocation_metadata(self) -> tuple[()]:
        return ()


class Server:
    """Requests one after the other, in an event loop of its own."""

    def __init__(self, router: Router, access: AccessLog | None = None) -> None:
        counts = Counts.alone(served_by(router), variants_of(router))
        self.router = router
        self._answering = Answering(router, counts, Admission(counts), access=access)
        self._runner = asyncio.Runner()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.close()

    def ask(self, form: Form, data: bytes) -> Outcome:
        return self._runner.run(self._answering.outcome(form, data, Context()))
