"""Asks a server through Triton's own client. Runs in .venv-triton; its argument is HOST:PORT.

Prints one JSON object: what it was told, and the scores, which the test compares. Our own client is imported in the
same process, with protobuf 6, and asked first.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import google.protobuf
import numpy as np
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from swrec_prod.serving.client import Client

USER = {
    "user_id": "u1",
    "age": 30,
    "invited_by": "u2",
    "hour": 5.0,
    "history.item": [1, 2, 3],
    "history.scenario": ["home", "cart", "home"],
}
ITEMS = {"item_id": [4, 5], "tags": [["t1", "t2"], []], "price": [1.5, None]}
TENSORS = {
    "user_id": np.array(["u1"], object),
    "age": np.array([30]),
    "invited_by": np.array(["u2"], object),
    "hour": np.array([5.0], np.float32),
    "history.item": np.array([[1, 2, 3]], np.int32),
    "history.scenario": np.array([["home", "cart", "home"]], object),
    "item_id": np.array([4, 5]),
    "tags": np.array(["t1", "t2"], object),
    "tags.lengths": np.array([2, 0], np.int32),
    "price": np.array([1.5]),
    "price.lengths": np.array([1, 0]),
}
OUTPUTS = ("probability", "score", "interest_logit", "scenario_logit")
ASKED: dict[str, Any] = {"request_id": "r-7", "parameters": {"scenario": "cart"}, "client_timeout": 30}


def inputs(module: Any, **others: np.ndarray) -> list[Any]:
    """The tensors of a request, as this module's InferInput."""
    made = []
    for name, array in {**TENSORS, **others}.items():
        made.append(module.InferInput(name, array.shape, np_to_triton_dtype(array.dtype)))
        made[-1].set_data_from_numpy(array)
    return made


def scores(result: Any) -> dict[str, list[Any]]:
    """What an answer holds."""
    return {name: result.as_numpy(name).tolist() for name in OUTPUTS}


def synchronous(target: str) -> dict[str, Any]:
    """Everything that the client asks for."""
    with triton.InferenceServerClient(target) as client:
        wanted = [triton.InferRequestedOutput("score")]
        result = client.infer("mscan", inputs(triton), **ASKED)
        said = {
            "live": client.is_server_live(),
            "ready": client.is_server_ready(),
            "models": {name: client.is_model_ready(name) for name in ("mscan", "nothing")},
            "server": client.get_server_metadata(as_json=True),
            "metadata": client.get_model_metadata("mscan", as_json=True),
            "config": client.get_model_config("mscan", as_json=True),
            "index": client.get_model_repository_index(as_json=True),
            "statistics": client.get_inference_statistics("mscan", as_json=True),
            "all statistics": client.get_inference_statistics(as_json=True),
            "scores": scores(result),
            "answer": [result.get_response().id, result.get_response().model_version],
            "wanted": client.infer("mscan", inputs(triton), outputs=wanted, **ASKED).as_numpy("score").tolist(),
        }
        wrong = {
            "a text for an integer": lambda: client.infer(
                "mscan", inputs(triton, item_id=np.array(["4", "5"], object)), **ASKED
            ),
            "another model": lambda: client.infer("mscam", inputs(triton), **ASKED),
            "statistics of another model": lambda: client.get_inference_statistics("mscam"),
            "no scenario": lambda: client.infer("mscan", inputs(triton), client_timeout=30),
            "a sequence": lambda: client.infer("mscan", inputs(triton), sequence_id=3, **ASKED),
            "too late": lambda: client.infer("mscan", inputs(triton), timeout=1, **ASKED),
        }
        return {**said, "wrong": {name: refusal(ask) for name, ask in wrong.items()}}


def refusal(ask: Any) -> list[str]:
    """Code and text of the error that this raises."""
    try:
        ask()
    except InferenceServerException as failure:
        return [str(failure.status()), str(failure.message())]
    return ["none", ""]


async def asynchronous(target: str) -> dict[str, Any]:
    """The same scores by the client of asyncio."""
    async with triton_aio.InferenceServerClient(target) as client:
        return scores(await client.infer("mscan", inputs(triton_aio), **ASKED))


def main() -> None:
    """Ask, and say what was answered."""
    target = sys.argv[1]
    with Client(target, timeout=30) as client:
        ours = client.score("cart", USER, ITEMS, model="mscan")
    said = {
        "protobuf": google.protobuf.__version__,
        "ours": {name: getattr(ours, name).tolist() for name in OUTPUTS},
        **synchronous(target),
        "aio": asyncio.run(asynchronous(target)),
    }
    print(json.dumps(said))


if __name__ == "__main__":
    main()
