"""The callers file: who is known, what each may choose, how much each may ask; and over a socket."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import grpc
import pytest
import yaml
from test_admission import Slow

from swrec_prod.errors import CallerError, ConfigError
from swrec_prod.serving.process.options import Options
from swrec_prod.serving.process.server import start
from swrec_prod.serving.protocol import wire
from swrec_prod.serving.protocol.call import ScoreCall
from swrec_prod.serving.routing.router import Router
from swrec_prod.serving.service.callers_file import Callers

FEED, SHOP = "feed's own token", "another"


def sha256(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def write(folder: Path, content: object) -> Path:
    path = folder / "callers.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture
def file(tmp_path) -> Path:
    feed = {"token_sha256": sha256(FEED), "may_choose": ["strength"]}
    shop = {"token_sha256": sha256(SHOP), "requests_per_second": 2}
    return write(tmp_path, {"callers": {"feed": feed, "shop": shop}})


def test_a_token_says_who_calls(file):
    callers = Callers.load(file)
    assert callers.caller([("user-agent", "x"), ("authorization", f"Bearer {FEED}")]).name == "feed"
    assert callers.caller([("authorization", f"bearer {SHOP}")]).name == "shop"


@pytest.mark.parametrize(
    "metadata",
    [
        [],
        [("authorization", FEED)],
        [("authorization", "Bearer ")],
        [("authorization", f"Bearer {FEED}x")],
        [("authorization", f"Bearer {sha256(FEED)}")],
        [("authorization", b"Bearer \xff")],
        [("authorization", "Bearer caf\udce9")],
    ],
)
def test_whoever_has_no_token_of_the_file_is_not_known(metadata, file):
    with pytest.raises(CallerError, match="token") as refused:
        Callers.load(file).caller(metadata)
    assert not refused.value.is_known and FEED not in str(refused.value)


def test_a_caller_chooses_what_the_file_lets_it_choose(file):
    feed, shop = (Callers.load(file).caller([("authorization", f"Bearer {token}")]) for token in (FEED, SHOP))
    calls = [ScoreCall("m", "", "home"), ScoreCall("", "1", "home"), ScoreCall("", "", "home", debias_strength=0.0)]
    for call in calls:
        shop.check(call)
    feed.check(calls[2])
    for call in calls[:2]:
        with pytest.raises(CallerError, match="caller 'feed' may not choose the model") as refused:
            feed.check(call)
        assert refused.value.is_known


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "callers: required, but not given"),
        ({"callers": {}}, "callers: "),
        ({"callers": {"a": {"token_sha256": "secret"}}}, "callers.a.token_sha256: "),
        ({"callers": {"a": {"token": "secret"}}}, "callers.a.token: unknown key; known: token_sha256"),
        ({"callers": {"a": {"token_sha256": "0" * 64, "requests_per_second": 0}}}, "callers.a.requests_per_second: "),
        ({"callers": {"a": {"token_sha256": "0" * 64, "may_choose": ["all"]}}}, "callers.a.may_choose.0: "),
        ({"callers": {n: {"token_sha256": "0" * 64} for n in "ab"}}, "callers.b.token_sha256: caller 'a' has the same"),
    ],
)
def test_a_wrong_file_is_refused_by_name(content, message, tmp_path):
    path = write(tmp_path, content)
    with pytest.raises(ConfigError) as refused:
        Callers.load(path)
    assert str(refused.value).startswith(f"{path}: {message}") and "\n" not in str(refused.value)


def test_callers_over_a_socket(file):
    async def ask(token: str | None, model: str = "") -> tuple[str, bool]:
        request = wire.ScoreRequest(model=model, scenario="home").SerializeToString()
        metadata = () if token is None else (("authorization", f"Bearer {token}"),)
        try:
            await score(request, timeout=20, metadata=metadata)
            return "OK", False
        except grpc.aio.AioRpcError as error:
            return error.code().name, "grpc-retry-pushback-ms" in dict(error.trailing_metadata() or ())

    async def run() -> list[tuple[str, bool]]:
        nonlocal score
        server, _, port = await start(Router({"slow": {1: Slow(0.01)}}), Options(Path(), port=0, callers=file))
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            score = channel.unary_unary("/swrec.v1.Ranking/Score")
            asks = [(None,), ("wrong",), (FEED,), (FEED, "slow"), *[(SHOP,)] * 40]
            outcomes = [await ask(*one) for one in asks]
        await server.stop(None)
        return outcomes

    score = None
    nobody, wrong, feed, choosing, *shop = asyncio.run(run())
    assert (nobody, wrong) == (("UNAUTHENTICATED", False), ("UNAUTHENTICATED", False))
    assert (feed, choosing) == (("OK", False), ("PERMISSION_DENIED", False))
    assert shop[:2] == [("OK", False)] * 2 and ("RESOURCE_EXHAUSTED", True) in shop[2:]
