"""A worker whose forward hangs is replaced, whether that blocks its event loop or a thread beside it."""

from __future__ import annotations

import contextlib
import urllib.request
from pathlib import Path

import grpc
import pytest
from runs import until, wait_for
from tiny_world import ITEMS, USER, launch

from swrec_prod.errors import ConfigError
from swrec_prod.serving.client.request import make_request
from swrec_prod.serving.process.link import pair
from swrec_prod.serving.process.options import Options
from swrec_prod.serving.process.pulse import Pulse
from swrec_prod.serving.protocol import wire
from swrec_prod.serving.routing.router import Router
from swrec_prod.serving.service.ranking import parse
from swrec_prod.serving.watching.counts import Counts, Layout, served_by

SCORE = "/swrec.v1.Ranking/Score"


def message(user: str) -> bytes:
    request = make_request("cart", {**USER, "user_id": user}, ITEMS)
    request.model = "mscan"
    return request.SerializeToString()


@pytest.mark.process
@pytest.mark.parametrize("milliseconds", ["1", "20"], ids=["in the loop", "in the thread"])
def test_a_worker_that_hangs_in_a_forward_is_replaced_and_it_is_said_where(
    tiny_repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, milliseconds: str
) -> None:
    monkeypatch.setenv("ESTIMATED_MS", milliseconds)
    port_file, log = tmp_path / "port", tmp_path / "err"
    options = {"generation": "hanging_generation", "hang_seconds": 3.0, "metrics_port": 0, "queue_ms": 1e5}
    with log.open("w") as err, launch(tiny_repo, port_file, stderr=err, **options) as process:
        try:
            target = wait_for(port_file, process)
            url = process.stdout.readline().strip().removeprefix("metrics on ")
            with grpc.insecure_channel(target) as channel:
                ask = channel.unary_unary(SCORE)
                expected = ask(message("u1"), timeout=60)
                with pytest.raises(grpc.RpcError) as ended:
                    ask(message("hang"), timeout=60)
                assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
                until(lambda: ask_or_nothing(ask) == expected, "another worker answers")
            metrics = urllib.request.urlopen(url, timeout=30).read().decode()
        finally:
            process.terminate()
    assert 'scorer_worker_restarts_total{cause="hung"} 1.0' in metrics
    lines = [line for line in log.read_text().splitlines() if "hangs" in line]
    assert len(lines) == 1 and "while it scores scenario 'cart' with mscan/2; it is killed" in lines[0]


def ask_or_nothing(ask: grpc.UnaryUnaryMultiCallable) -> bytes:
    with contextlib.suppress(grpc.RpcError):
        return ask(message("u1"), timeout=5)
    return b""


def test_a_sign_of_life_is_missing_only_while_one_forward_lasts(tiny_repo: Path) -> None:
    router = Router.load(tiny_repo)
    layout = Layout(served_by(router))
    [slot] = layout.slots(memoryview(bytearray(layout.bytes(1))))
    counts = Counts(layout, slot)
    ours, theirs = pair()
    pulse = Pulse(router, ours, counts)
    request = wire.ScoreRequest(model="shared_bottom", scenario="search").SerializeToString()
    routed = router.route(parse(request))
    assert pulse.moves() and pulse.moves() and layout.scored_in(slot) is None
    counts.scoring(routed)
    assert [pulse.moves() for _ in range(3)] == [True, False, False]
    assert layout.scored_in(slot) == ("search", "shared_bottom/1")
    counts.forward(routed, 0.1)
    assert pulse.moves() and layout.scored_in(slot) is None
    for _ in range(3):
        counts.scoring(routed)
        assert pulse.moves()
        counts.forward(routed, 0.1)
    theirs.close()
    ours.close()


@pytest.mark.parametrize("seconds", [0.0, 2.9, float("nan"), float("inf")])
def test_what_the_limit_cannot_be_is_refused(seconds: float) -> None:
    with pytest.raises(ConfigError, match=r"hang seconds is .*, expected from 3 to 3600"):
        Options(Path(), hang_seconds=seconds).checked()
