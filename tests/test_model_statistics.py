"""What a model has done, by the Open Inference Protocol: of the whole server, whichever worker is asked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from runs import wait_for
from tiny_world import ITEMS, USER, launch

from swrec_prod.serving.client.request import make_request
from swrec_prod.serving.protocol import inference

pytestmark = pytest.mark.process
ALONE = (("grpc.use_local_subchannel_pool", 1),)  # a connection for each channel


@pytest.fixture(scope="module")
def server(tiny_repo: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port_file = tmp_path_factory.mktemp("statistics") / "port"
    with launch(tiny_repo, port_file, workers=2, queue_ms=1e5) as process:
        yield wait_for(port_file, process)
        process.terminate()


def ask(target: str, path: str, message: bytes) -> bytes:
    """Over a connection of its own, which either worker may get."""
    with grpc.insecure_channel(target, ALONE) as channel:
        return channel.unary_unary(path)(message, timeout=60)


def statistics(target: str, name: str = "", version: str = "") -> dict[tuple[str, str], Any]:
    asked = inference.MESSAGES["ModelStatisticsRequest"](name=name, version=version).SerializeToString()
    told = ask(target, f"/{inference.SERVICE}/ModelStatistics", asked)
    models = inference.MESSAGES["ModelStatisticsResponse"].FromString(told).model_stats
    return {(model.name, model.version): model for model in models}


def score(target: str, candidates: dict[str, list[Any]]) -> bool:
    request = make_request("home", USER, candidates)
    request.model = "shared_bottom"
    try:
        ask(target, "/swrec.v1.Ranking/Score", request.SerializeToString())
    except grpc.RpcError as failure:
        assert failure.code() is grpc.StatusCode.INVALID_ARGUMENT
        return False
    return True


def test_either_worker_tells_what_both_have_done(server: str) -> None:
    assert all(score(server, ITEMS) for _ in range(30))
    assert not any(score(server, {"item_id": [1]}) for _ in range(4))
    told = [statistics(server)["shared_bottom", "1"] for _ in range(20)]  # of both workers, but for one chance in 2^19
    assert len({model.SerializeToString() for model in told}) == 1
    [model, *_] = told
    stats = model.inference_stats
    assert (model.inference_count, stats.success.count, stats.fail.count) == (30, 30, 4)
    assert model.execution_count == stats.compute_infer.count >= 30
    assert stats.success.ns >= stats.compute_infer.ns * 30 / 34 * 0.5 > 0 and stats.fail.ns > 0


def test_all_models_those_of_a_name_or_one_are_told(server: str) -> None:
    assert set(statistics(server)) == {("mscan", "2"), ("shared_bottom", "1")}
    assert set(statistics(server, "mscan")) == {("mscan", "2")}
    assert set(statistics(server, "mscan", "2")) == {("mscan", "2")}


@pytest.mark.parametrize(
    ("name", "version", "said"), [("mscam", "", "did you mean mscan"), ("mscan", "9", "version '9' of model 'mscan'")]
)
def test_what_is_not_served_is_not_found(server: str, name: str, version: str, said: str) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        statistics(server, name, version)
    assert raised.value.code() is grpc.StatusCode.NOT_FOUND and said in raised.value.details()
