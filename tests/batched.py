"""Requests for the tests of batches, scored at once, and what is counted of them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
from drawn_requests import request_of

from swrec_prod.serving.protocol import wire
from swrec_prod.serving.protocol.call import ScoreCall, call_of
from swrec_prod.serving.routing.router import Router
from swrec_prod.serving.scoring.predictor import Scored
from swrec_prod.serving.service.admission import Admission
from swrec_prod.serving.watching.counts import BATCH_REQUESTS, BATCHES, Counts, Layout, served_by, total

CLOSE = {"atol": 1e-5, "rtol": 1e-5}


def drawn(number: int, candidates: int) -> ScoreCall:
    return call_of(wire.ScoreRequest.FromString(request_of(number, candidates)))


def assert_same(one: Scored, other: Scored) -> None:
    assert one.strength == other.strength
    for got, expected in zip(one[:4], other[:4], strict=True):
        np.testing.assert_allclose(got, expected, **CLOSE)


class Timed:
    """A predictor of which only the time is known."""

    def __init__(self, a_row: float) -> None:
        self.a_row = a_row

    def milliseconds(self, rows: int) -> float:
        return 1.0 + self.a_row * rows


def counted(router: Router) -> tuple[Counts, dict[str, Any]]:
    served = served_by(router)
    layout = Layout(served)
    slots = layout.slots(memoryview(bytearray(layout.bytes(1))))
    names = {BATCHES: "batches", BATCH_REQUESTS: "requests"}

    class Read(dict[str, float]):
        def __missing__(self, name: str) -> float:
            return sum(total(slots, s)[0] for s in layout.series if names.get(s.family) == name)

    return Counts(layout, slots[0]), Read()


async def scored_at_once(
    admission: Admission, router: Router, calls: Sequence[ScoreCall], seconds: float = 60.0
) -> list[Any]:
    asked = [admission.scored(call, router.route(call), seconds) for call in calls]
    return await asyncio.gather(*asked, return_exceptions=True)
