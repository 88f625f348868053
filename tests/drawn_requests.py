"""Requests for the packages of tiny_world, as many different ones as there are numbers."""

from __future__ import annotations

import random
import struct

from tiny_world import SCENARIOS, USER

from swrec_prod.serving.client import make_request
from swrec_prod.serving.protocol import wire


def request_of(number: int, candidates: int = 3) -> bytes:
    """A request that no other number has: of a user, a history and candidates of its own."""
    draw = random.Random(number)
    behaviours = draw.randint(0, 6)
    user = {
        **USER,
        "user_id": f"u{number % 20}",
        "age": number % 60,
        "history.item": [draw.randrange(50) for _ in range(behaviours)],
        "history.scenario": [draw.choice(SCENARIOS) for _ in range(behaviours)],
    }
    items = {
        "item_id": [draw.randrange(50) for _ in range(candidates)],
        "tags": [[f"t{draw.randrange(30)}"] * draw.randint(0, 3) for _ in range(candidates)],
        "price": [draw.gauss(0, 1) for _ in range(candidates)],
    }
    request = make_request(draw.choice(SCENARIOS), user, items)
    request.model, request.request_id = ("mscan", "shared_bottom")[number % 2], f"request {number}"
    return request.SerializeToString()


def poisoned(number: int) -> bytes:
    request = wire.ScoreRequest.FromString(request_of(number))
    price = next(column for column in request.items if column.name == "price")
    values = [float("nan"), 1e300, float("-inf")]
    price.floats = struct.pack("<3d", *random.Random(number).sample(values, 3))
    return request.SerializeToString()
