"""Scores over real sockets: parity with the trained ranker, and every way to ask wrongly."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent import futures

import grpc
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from answered import Server
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_world import (
    ITEMS,
    MAX_LENGTH,
    SCENARIOS,
    STRENGTHS,
    USER,
    eager_logits,
    make_ranker,
)

from swrec_prod.errors import NotFoundError, RequestError, ServerError
from swrec_prod.schema import FeatureSchema
from swrec_prod.serving.callers.rows import compare, requests_from_table, score_table
from swrec_prod.serving.client import Client, make_request
from swrec_prod.serving.protocol import ranking_pb2, ranking_pb2_grpc
from swrec_prod.serving.protocol.call import call_of
from swrec_prod.serving.routing.router import Router
from swrec_prod.serving.service.ranking import FORM


@pytest.fixture(scope="module")
def client(tiny_server) -> Iterator[Client]:
    with Client(tiny_server, timeout=30) as opened:
        yield opened


@pytest.fixture(scope="module")
def service(tiny_repo) -> Iterator[Server]:
    with Server(Router.load(tiny_repo)) as opened:
        yield opened


# Scores


@pytest.mark.parametrize("model", ["mscan", "shared_bottom"])
def test_served_scores_are_those_of_the_trained_ranker(model, client, tiny_folder):
    rows = pq.read_table(tiny_folder / "requests.parquet")
    served, latency_ms = score_table(client, rows, FeatureSchema.load(tiny_folder / "schema.yaml"), model=model)
    logit, interest, scenario = (
        torch.from_numpy(array) for array in eager_logits(make_ranker(model, tiny_folder), tiny_folder, rows)
    )
    c = torch.tensor([[STRENGTHS[name]] for name in rows["scenario"].to_pylist()])
    score = scenario.sigmoid() * (interest - c) if model == "mscan" else logit
    wanted = {"row": rows["row"]}
    for t, task in enumerate(("click", "buy")):
        wanted |= {f"prob_{task}": logit.sigmoid()[:, t].numpy(), f"score_{task}": score[:, t].numpy()}
        if model == "mscan":
            wanted |= {
                f"interest_logit_{task}": interest[:, t].numpy(),
                f"scenario_logit_{task}": scenario[:, t].numpy(),
            }
    far = compare(served, pa.table(wanted).take(np.random.default_rng(0).permutation(len(rows))))
    assert far.pop("rows") == len(rows)
    assert len(far) == (8 if model == "mscan" else 4)
    assert max(far.values()) <= 1e-5
    assert set(served.column_names) == {"row", *far}
    assert len(latency_ms) == len(set(rows["time"].to_pylist())) and (latency_ms > 0).all()


def test_a_table_becomes_one_request_for_the_candidates_of_a_user_and_moment(tiny_folder):
    rows = pq.read_table(tiny_folder / "requests.parquet")
    requests = list(requests_from_table(rows, FeatureSchema.load(tiny_folder / "schema.yaml")))
    assert sorted(i for r in requests for i in r.rows) == list(range(len(rows)))
    assert len(requests) == len(set(rows["time"].to_pylist()))
    assert max(len(r.rows) for r in requests) > 1


@pytest.mark.parametrize("limit", [1, 7, 30, 10_000])
def test_some_rows_are_whole_requests_of_all_scenarios_in_turn(limit, tiny_folder):
    rows, schema = pq.read_table(tiny_folder / "requests.parquet"), FeatureSchema.load(tiny_folder / "schema.yaml")
    some, whole = list(requests_from_table(rows, schema, limit=limit)), list(requests_from_table(rows, schema))
    assert all(r.rows in [w.rows for w in whole] for r in some)
    sent = sum(len(r.rows) for r in some)
    assert sent == len(rows) if limit > len(rows) else limit <= sent < limit + max(len(r.rows) for r in whole)
    turns = [sum(r.request.scenario == name for r in some) for name in SCENARIOS]
    assert len(some) == len(whole) or max(turns) - min(turns) <= 1


def test_any_grpc_client_can_ask(tiny_server):
    column = ranking_pb2.Column
    request = ranking_pb2.ScoreRequest(
        model="mscan",
        scenario="cart",
        request_id="r-7",
        user=[
            column(name="user_id", strings=["u1"]),
            column(name="age", ints=[30]),
            column(name="invited_by", strings=["u2"]),
            column(name="hour", floats=[5.0]),
            column(name="history.item", ints=[1, 2, 3]),
            column(name="history.scenario", strings=["home", "cart", "home"]),
            column(name="history.time", ints=[7, 8, 9]),
        ],
        items=[
            column(name="item_id", ints=[4, 5]),
            column(name="tags", strings=["t1", "t2"], lengths=[2, 0]),
            column(name="price", floats=[1.5], lengths=[1, 0]),
        ],
    )
    with grpc.insecure_channel(tiny_server) as channel, Client(tiny_server, timeout=30) as client:
        reply = ranking_pb2_grpc.RankingStub(channel).Score(request, timeout=30)
        ours = client.score("cart", USER, ITEMS, model="mscan", request_id="r-7")
    assert (reply.model, reply.version, reply.request_id, reply.debias_strength) == (
        "mscan",
        "2",
        "r-7",
        STRENGTHS["cart"],
    )
    assert list(reply.tasks) == ["click", "buy"]
    for field in ("probability", "score", "interest_logit", "scenario_logit"):
        np.testing.assert_array_equal(np.array(getattr(reply, field), np.float32), getattr(ours, field).reshape(-1))
    assert ours.score.shape == (2, 2)


def test_items_may_be_rows(client):
    rows = [{name: values[i] for name, values in ITEMS.items()} for i in range(2)]
    by_rows, by_columns = (client.score("home", USER, items, model="mscan") for items in (rows, ITEMS))
    np.testing.assert_array_equal(by_rows.score, by_columns.score)


def test_c_can_be_chosen_and_recomputed(client):
    default, other = (client.score("home", USER, ITEMS, model="mscan", debias_strength=c) for c in (None, -1.5))
    assert (default.debias_strength, other.debias_strength) == (0.25, -1.5)
    np.testing.assert_array_equal(default.probability, other.probability)
    assert client.score("cart", USER, ITEMS, model="mscan").debias_strength == -0.5
    for scored in (default, other):
        again = (scored.interest_logit - scored.debias_strength) / (1 + np.exp(-scored.scenario_logit))
        np.testing.assert_allclose(scored.score, again, rtol=1e-5)
    assert client.score("home", USER, ITEMS, model="shared_bottom", debias_strength=3.0).debias_strength == 0


def test_the_latest_behaviours_are_kept(client):
    items, places = list(range(30)), [SCENARIOS[i % 3] for i in range(30)]
    long = {**USER, "history.item": items, "history.scenario": places}
    short = {**USER, "history.item": items[-MAX_LENGTH:], "history.scenario": places[-MAX_LENGTH:]}
    scored = client.score("home", long, ITEMS, model="mscan").score
    np.testing.assert_array_equal(scored, client.score("home", short, ITEMS, model="mscan").score)
    assert (
        scored != client.score("home", {**short, "history.item": items[:MAX_LENGTH]}, ITEMS, model="mscan").score
    ).any()


def test_a_user_without_history_is_scored(client):
    scored = client.score("home", {**USER, "history.item": [], "history.scenario": []}, ITEMS, model="mscan")
    assert np.isfinite(scored.score).all()


def test_a_model_without_causal_split_gives_its_logit(client):
    scored = client.score("home", USER, ITEMS, model="shared_bottom")
    assert scored.interest_logit is None
    assert scored.scenario_logit is None
    np.testing.assert_allclose(scored.probability, 1 / (1 + np.exp(-scored.score)), rtol=1e-5)


# Requests that are refused


def without(part: dict, name: str) -> dict:
    return {key: value for key, value in part.items() if key != name}


REFUSED = {
    "a missing user feature": ({"user": without(USER, "age")}, r"user: feature 'age' \(side user\) is missing"),
    "a missing context feature": ({"user": without(USER, "hour")}, r"user: feature 'hour' \(side context\) is missing"),
    "a missing item feature": ({"items": without(ITEMS, "price")}, r"items: feature 'price' \(side item\) is missing"),
    "a missing history": (
        {"user": without(USER, "history.scenario")},
        r"user: feature 'history.scenario' \(side user\) is missing",
    ),
    "an unknown feature": ({"user": {**USER, "agee": 3}}, r"user: unknown feature 'agee'; did you mean age\?"),
    "the wrong side": ({"items": {**ITEMS, "age": [3, 4]}}, r"items: feature 'age' has side user and belongs in user"),
    "no candidate": ({"items": {name: [] for name in ITEMS}}, r"items: 0 candidates, expected 1 to 1000"),
    "columns of different length": (
        {"items": {**ITEMS, "price": [1.0]}},
        r"items: feature 'price' has 1 rows, but 'item_id' has 2",
    ),
    "text for an integer": (
        {"items": {**ITEMS, "item_id": ["4", "5"]}},
        r"feature 'item_id': value '4' is str, expected int64",
    ),
    "an integer for text": ({"user": {**USER, "user_id": 1}}, r"feature 'user_id': value 1 is int, expected string"),
    "text for a number": (
        {"items": {**ITEMS, "price": ["1", "2"]}},
        r"items: feature 'price' is dense and takes floats or ints, not strings such as '1'",
    ),
    "an infinite number": (
        {"user": {**USER, "hour": float("inf")}},
        r"user: feature 'hour' has the value inf; a dense value is finite",
    ),
    "histories of different length": (
        {"user": {**USER, "history.item": [1]}},
        r"history.item has 1 behaviours and history.scenario 3; give one for each",
    ),
    "several values for one": (
        {"user": {**USER, "age": [30, 31]}},
        r"user: feature 'age' has one value a row, but lengths say 2",
    ),
    "an infinite c": (
        {"debias_strength": float("inf")},
        r"debias_strength is inf; expected -?[\d.]+ to",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_wrong_is_said(case, client):
    change, message = REFUSED[case]
    with pytest.raises(RequestError, match=message):
        client.score(**{"scenario": "home", "user": USER, "items": ITEMS, "model": "mscan", **change})


MISSING = {
    "scenario": ({"scenario": "hom"}, r"scenario 'hom' is unknown to mscan/2; did you mean home\?"),
    "model": ({"model": "mscam"}, r"model 'mscam' is not served; did you mean mscan\? \(known: mscan, shared_bottom\)"),
    "no model named": ({"model": ""}, r"model is empty and 2 models are served; known: mscan, shared_bottom"),
    "version": ({"version": "7"}, r"version '7' of model 'mscan' is not served; known: 2"),
    "no version": ({"version": "newest"}, r"version 'newest' of model 'mscan' is not served"),
}


@pytest.mark.parametrize("case", MISSING)
def test_what_is_not_served_is_not_found(case, client):
    change, message = MISSING[case]
    with pytest.raises(NotFoundError, match=message):
        client.score(**{"scenario": "home", "user": USER, "items": ITEMS, "model": "mscan", **change})


def raw(change) -> bytes:
    """A request that our client would not send."""
    request = make_request("home", USER, ITEMS)
    request.model = "mscan"
    change({column.name: column for column in (*request.user, *request.items)}, request)
    return request.SerializeToString()


def clear_lengths(columns, _):
    columns["tags"].ClearField("lengths")


MALFORMED = {
    "bytes of something else": (b"\xff\xffnot a message", r"the 15 bytes are no swrec.v1.ScoreRequest"),
    "text that is not UTF-8": (b"\x1a\x02\xff\xfe", r"the 4 bytes are no swrec.v1.ScoreRequest"),
    "too many candidates": (
        lambda c, _: [setattr(c[name], "lengths", np.zeros(1001, "<i4").tobytes()) for name in ITEMS],
        r"items: 1001 candidates, expected 1 to 1000",
    ),
    "half a number": (
        lambda c, _: setattr(c["item_id"], "ints", b"123456789"),
        r"items: feature 'item_id': ints has 9 bytes",
    ),
    "a bag without lengths": (clear_lengths, r"items: feature 'tags' holds several values a row and needs lengths"),
    "lengths that do not sum": (
        lambda c, _: setattr(c["tags"], "lengths", np.array([2, 1], "<i4").tobytes()),
        r"sum to the number of values, 2, not 3",
    ),
    "a negative length": (
        lambda c, _: setattr(c["tags"], "lengths", np.array([3, -1], "<i4").tobytes()),
        r"lengths must be >= 0",
    ),
    "two types": (
        lambda c, _: setattr(c["item_id"], "floats", np.ones(2).tobytes()),
        r"'item_id' has ints and floats; fill one",
    ),
    "not a number": (
        lambda c, _: setattr(c["hour"], "floats", np.array([np.nan]).tobytes()),
        r"feature 'hour' has the value nan",
    ),
    "a feature given twice": (lambda c, r: r.user.append(c["age"]), r"user: feature 'age' is given twice"),
    "two users": (
        lambda c, _: setattr(c["age"], "ints", np.array([1, 2], "<i8").tobytes()),
        r"user: feature 'age' has 2 rows, expected one",
    ),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_requests_are_invalid_arguments(case, tiny_server):
    change, message = MALFORMED[case]
    data = change if isinstance(change, bytes) else raw(change)
    with grpc.insecure_channel(tiny_server) as channel, pytest.raises(grpc.RpcError, match=message) as failure:
        channel.unary_unary("/swrec.v1.Ranking/Score")(data, timeout=30)
    assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_request_cannot_ask_for_boundless_memory(service, monkeypatch):
    user = {**USER, "history.item": [1] * 3000, "history.scenario": ["home"] * 3000}
    request = make_request("home", user, {"item_id": [1] * 1000, "tags": [[]] * 1000, "price": [1.0] * 1000})
    encoder = service.router.predictor("mscan", "").encoder
    assert len(encoder.encode(call_of(request), 0).user.behaviour_scenario) == MAX_LENGTH  # once, and cut
    monkeypatch.setattr("swrec_prod.serving.scoring.features.MAX_VALUES", 1000 * (3 + MAX_LENGTH) - 1)
    with pytest.raises(
        RequestError, match=r"user: 9 ids times 1000 candidates, allowed are 8999; send fewer candidates a request"
    ):
        encoder.encode(call_of(request), 0)


def test_a_difference_to_nothing_is_not_small():
    here = pa.table({"row": [1, 2], "prob_click": [0.5, 0.5]})
    assert compare(here, pa.table({"row": [2, 1], "prob_click": [0.5, float("nan")]}))["prob_click"] == np.inf


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_mutated_requests_never_shake_the_server(service, data):
    valid = raw(lambda columns, request: None)
    message, wanted = bytearray(valid), service.ask(FORM, valid).reply
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(message) - 1))
        message[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
        if not message:
            return
    status = service.ask(FORM, bytes(message)).status
    assert status is None or status.code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND)
    after = ranking_pb2.ScoreResponse.FromString(service.ask(FORM, valid).reply)
    assert after == ranking_pb2.ScoreResponse.FromString(wanted)


# What the client makes of failures


@pytest.mark.parametrize(
    "code", [grpc.StatusCode.INTERNAL, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.RESOURCE_EXHAUSTED]
)
def test_faults_of_the_server_are_not_put_on_the_request(code):
    def refuse(_, context):
        context.abort(code, "error 1f2e")

    with futures.ThreadPoolExecutor(1) as pool:
        server = grpc.server(pool)
        method = grpc.unary_unary_rpc_method_handler(refuse)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("swrec.v1.Ranking", {"Score": method}),))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        said = (
            "no answer from"
            if code is grpc.StatusCode.DEADLINE_EXCEEDED
            else f"127.0.0.1:{port}: {code.name}: error 1f2e"
        )
        with Client(f"127.0.0.1:{port}", timeout=30) as opened, pytest.raises(ServerError, match=said):
            opened.score("home", USER, ITEMS)
        server.stop(None).wait()


def test_no_server_is_said(tmp_path):
    with Client("127.0.0.1:9", timeout=5) as nobody, pytest.raises(ServerError, match=r"no server at 127.0.0.1:9"):
        nobody.score("home", USER, ITEMS)


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ({"item_id": ["a", 3]}, r"feature 'item_id': values are strings or numbers, all of one kind, not 'a' and 3"),
        ({"item_id": [1 << 63]}, r"feature 'item_id': 9223372036854775808 does not fit a 64-bit integer"),
        ([{"item_id": 1}, {"itemid": 1}], r"items: row 1 has the features \['itemid'\], row 0 \['item_id'\]"),
    ],
)
def test_the_client_refuses_what_it_cannot_send(items, message):
    with pytest.raises(RequestError, match=message):
        make_request("home", USER, items)
