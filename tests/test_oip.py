"""The Open Inference Protocol by messages built by hand: what they mean, and every way to be wrong."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

import grpc
import numpy as np
import pytest
from answered import Server
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_world import ITEMS, STRENGTHS, USER

from swrec_prod.serving.client import make_request
from swrec_prod.serving.protocol import ranking_pb2
from swrec_prod.serving.protocol.inference import MESSAGES, ModelInferRequest, ModelInferResponse
from swrec_prod.serving.protocol.tensors import raw_values, texts_of
from swrec_prod.serving.routing.router import Router
from swrec_prod.serving.service import oip, ranking

NUMPY = {"INT64": "<i8", "INT32": "<i4", "INT8": "<i1", "UINT64": "<u8", "FP64": "<f8", "FP32": "<f4", "FP16": "<f2"}
TENSORS = {  # what USER and ITEMS of tiny_world say
    "user_id": ("BYTES", [1], ["u1"]),
    "age": ("INT64", [1], [30]),
    "invited_by": ("BYTES", [1], ["u2"]),
    "hour": ("FP64", [1], [5.0]),
    "history.item": ("INT64", [1, 3], [1, 2, 3]),
    "history.scenario": ("BYTES", [1, 3], ["home", "cart", "home"]),
    "item_id": ("INT64", [2], [4, 5]),
    "tags": ("BYTES", [2], ["t1", "t2"]),
    "tags.lengths": ("INT32", [2], [2, 0]),
    "price": ("FP64", [1], [1.5]),
    "price.lengths": ("INT64", [2], [1, 0]),
}


def prefixed(values: list[str]) -> bytes:
    """Elements of BYTES, by the protocol's own words."""
    encoded = [value.encode() for value in values]
    return b"".join(struct.pack("<I", len(value)) + value for value in encoded)


def raw_of(datatype: str, values: list) -> bytes:
    return prefixed(values) if datatype == "BYTES" else np.array(values, NUMPY[datatype]).tobytes()


def message(tensors=TENSORS, *, model="mscan", raw=True, **parameters):
    """A ModelInferRequest. parameters: scenario is home, unless they say another, or None for none."""
    request = ModelInferRequest(model_name=model, id="r-7")
    for name, (datatype, shape, values) in tensors.items():
        tensor = request.inputs.add(name=name, datatype=datatype, shape=shape)
        if raw:
            request.raw_input_contents.append(values if isinstance(values, bytes) else raw_of(datatype, values))
        else:
            fields = {"BYTES": "bytes", "INT64": "int64", "INT32": "int", "FP64": "fp64", "FP32": "fp32"}
            typed = [v.encode() for v in values] if datatype == "BYTES" else values
            getattr(tensor.contents, f"{fields[datatype]}_contents").extend(typed)
    for name, value in {"scenario": "home", **parameters}.items():
        kind = {bool: "bool_param", int: "int64_param", str: "string_param", float: "double_param"}
        if value is not None:
            setattr(request.parameters[name], kind[type(value)], value)
    return request


@pytest.fixture(scope="module")
def server(tiny_repo) -> Iterator[Server]:
    with Server(Router.load(tiny_repo)) as opened:
        yield opened


def infer(server: Server, request) -> ModelInferResponse:
    outcome = server.ask(oip.FORM, request.SerializeToString())
    assert outcome.status is None, outcome.status
    return ModelInferResponse.FromString(outcome.reply)


def arrays(reply) -> dict[str, np.ndarray]:
    pairs = zip(reply.outputs, reply.raw_output_contents, strict=True)
    return {output.name: np.frombuffer(raw, "<f4").reshape(output.shape) for output, raw in pairs}


def refused(server: Server, data: bytes) -> tuple[grpc.StatusCode, str]:
    outcome = server.ask(oip.FORM, data)
    assert outcome.status is not None
    return outcome.status.code, outcome.status.details


# What messages mean


@pytest.mark.parametrize("raw", [True, False], ids=["raw", "typed"])
@pytest.mark.parametrize("model", ["mscan", "shared_bottom"])
def test_scores_are_those_of_the_other_protocol(model, raw, server):
    reply = infer(server, message(model=model, raw=raw))
    request = make_request("home", USER, ITEMS)
    request.model = model
    other = ranking_pb2.ScoreResponse.FromString(server.ask(ranking.FORM, request.SerializeToString()).reply)
    assert (reply.model_name, reply.model_version, reply.id) == (other.model, other.version, "r-7")
    names = ("probability", "score", "interest_logit", "scenario_logit")[: 4 if model == "mscan" else 2]
    assert [(o.name, o.datatype, list(o.shape)) for o in reply.outputs] == [(name, "FP32", [2, 2]) for name in names]
    for name, array in arrays(reply).items():
        np.testing.assert_array_equal(array.reshape(-1), np.array(getattr(other, name), np.float32))


def changed(**tensors) -> dict:
    """TENSORS with others; None takes one away."""
    named = {name.replace("_lengths", ".lengths").replace("history_", "history."): t for name, t in tensors.items()}
    return {name: tensor for name, tensor in {**TENSORS, **named}.items() if tensor is not None}


SAME = {
    "other integers": changed(item_id=("INT8", [2], [4, 5]), age=("UINT64", [1], [30])),
    "other floats": changed(price=("FP16", [1], [1.5]), hour=("FP32", [1], [5.0])),
    "integers for a number": changed(hour=("INT32", [1], [5])),
    "one value a row, as a matrix": changed(item_id=("INT64", [2, 1], [4, 5]), age=("INT64", [1, 1], [30])),
    "behaviours with lengths": changed(
        history_item=("INT64", [3], [1, 2, 3]), **{"history.item.lengths": ("INT32", [1], [3])}
    ),
    "brain floats": changed(price=("BF16", [1], struct.pack("<f", 1.5)[2:])),
    "another order": dict(reversed(TENSORS.items())),
}


@pytest.mark.parametrize("case", SAME)
def test_the_same_values_may_be_written_in_many_ways(case, server):
    for name, array in arrays(infer(server, message(SAME[case]))).items():
        np.testing.assert_array_equal(array, arrays(infer(server, message()))[name])


def test_bags_of_equal_size_are_a_matrix(server):
    matrix = message(changed(tags=("BYTES", [2, 2], ["t1", "t2", "t3", "t4"]), tags_lengths=None))
    ragged = message(changed(tags=("BYTES", [4], ["t1", "t2", "t3", "t4"]), tags_lengths=("INT32", [2], [2, 2])))
    np.testing.assert_array_equal(arrays(infer(server, matrix))["score"], arrays(infer(server, ragged))["score"])


def test_a_user_without_behaviours_is_scored(server):
    empty = message(changed(history_item=("INT64", [1, 0], []), history_scenario=("BYTES", [1, 0], [])))
    assert np.isfinite(arrays(infer(server, empty))["score"]).all()


def test_only_outputs_that_are_wanted_come_back(server):
    request = message()
    for name in ("scenario_logit", "score"):
        request.outputs.add(name=name)
    found, whole = arrays(infer(server, request)), arrays(infer(server, message()))
    assert list(found) == ["scenario_logit", "score"]
    np.testing.assert_array_equal(found["score"], whole["score"])


def test_parameters_are_what_is_no_feature(server):
    reply = infer(server, message(scenario="cart", priority=3, timeout=20_000_000, unit="u1"))
    assert reply.parameters["scored_scenario"].string_param == "cart"
    assert reply.parameters["fallback"].bool_param is False
    assert reply.parameters["debias_strength"].double_param == STRENGTHS["cart"]
    other = infer(server, message(scenario="cart", debias_strength=-1.5))
    assert other.parameters["debias_strength"].double_param == -1.5
    found = arrays(other)
    again = (found["interest_logit"] + 1.5) / (1 + np.exp(-found["scenario_logit"]))
    np.testing.assert_allclose(found["score"], again, rtol=1e-5)


def test_a_timeout_is_a_deadline(server):
    code, _ = refused(server, message(timeout=1).SerializeToString())
    assert code in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.DEADLINE_EXCEEDED)


# What is wrong


def edited(edit) -> bytes:
    request = message()
    edit(request)
    return request.SerializeToString()


def tensor(request, name: str):
    return next(t for t in request.inputs if t.name == name)


def shared_memory(request):
    tensor(request, "age").parameters["shared_memory_region"].string_param = "x"


def contents_beside_raw(request):
    tensor(request, "age").contents.int64_contents.append(30)


def half_floats(request):
    del request.raw_input_contents[:]
    request.inputs[0].datatype = "FP16"


def other_contents(request):
    del request.raw_input_contents[:]
    request.inputs[0].contents.int_contents.append(1)


def large_contents(request):
    other_contents(request)
    request.inputs[0].datatype = "INT8"
    request.inputs[0].contents.int_contents[0] = 300


WRONG = {
    "other bytes": (b"\xff\xffnot a message", r"the 15 bytes are no inference.ModelInferRequest"),
    "a name that is not UTF-8": (b"\x0a\x02\xff\xfe", r"the 4 bytes are no inference.ModelInferRequest"),
    "raw and typed": (edited(contents_beside_raw), r"input 'age' has contents beside raw_input_contents"),
    "a blob too few": (edited(lambda r: r.raw_input_contents.pop()), r"has 10 entries for 11 inputs"),
    "a blob too many": (edited(lambda r: r.raw_input_contents.append(b"")), r"has 12 entries for 11 inputs"),
    "shared memory": (edited(shared_memory), r"input 'age': shared memory is not supported"),
    "a byte too few": (
        message(changed(item_id=("INT64", [2], b"1" * 15))),
        r"'item_id': 15 bytes, but INT64 of shape \[2\] has 16",
    ),
    "a byte too many": (message(changed(item_id=("INT64", [2], b"1" * 17))), r"'item_id': 17 bytes, but"),
    "a negative size": (
        message(changed(item_id=("INT64", [-2], [4, 5]))),
        r"'item_id': shape \[-2\], expected \[rows\] or",
    ),
    "sizes that overflow": (
        message(changed(item_id=("INT64", [2**62, 4], [4, 5]))),
        r"'item_id': 16 bytes, but INT64 of shape",
    ),
    "the largest size": (
        message(changed(item_id=("INT64", [2**63 - 1], [4]))),
        r"'item_id': 8 bytes, but INT64 of shape",
    ),
    "endless empty rows": (
        message(changed(tags=("BYTES", [2**40, 0], []), tags_lengths=None)),
        r"'tags': 1099511627776 rows",
    ),
    "no dimension": (
        message(changed(age=("INT64", [], [30]))),
        r"'age': shape \[\], expected \[rows\] or \[rows, values\]",
    ),
    "very many dimensions": (
        message(changed(age=("INT64", [2**62] * 300_000, [30]))),
        r"'age': shape \[4611686018427387904, .*, \.\.\.\], expected",
    ),
    "three dimensions": (message(changed(age=("INT64", [1, 1, 1], [30]))), r"'age': shape \[1, 1, 1\], expected"),
    "an unknown datatype": (
        message(changed(age=("INT65", [1], b"12345678"))),
        r"'age': datatype 'INT65'; did you mean INT64\?",
    ),
    "a datatype that has no contents": (edited(half_floats), r"'user_id': datatype 'FP16' of contents"),
    "contents of another type": (edited(other_contents), r"'user_id': BYTES is given in contents.bytes_contents, not"),
    "contents of another size": (message({"hour": ("FP64", [2], [5.0])}, raw=False), r"'hour': 1 values in contents"),
    "contents that do not fit": (edited(large_contents), r"'user_id': INT8 does not hold 300 to 300"),
    "text with a wrong length": (
        message(changed(user_id=("BYTES", [1], b"\3\0\0\0u1"))),
        r"'user_id': its 6 bytes are not 1 elements",
    ),
    "text with more than its elements": (
        message(changed(user_id=("BYTES", [1], prefixed(["u1", "u2"])))),
        r"'user_id': its 12 bytes",
    ),
    "text without a whole length": (
        message(changed(user_id=("BYTES", [1], b"\3\0"))),
        r"'user_id': its 2 bytes are not 1 elements",
    ),
    "text of gigabytes": (
        message(changed(user_id=("BYTES", [1], b"\xff\xff\xff\xffu1"))),
        r"'user_id': its 6 bytes are not",
    ),
    "text that is not UTF-8": (
        message(changed(user_id=("BYTES", [1], b"\2\0\0\0\xff\xfe"))),
        r"'user_id': text that is not UTF-8",
    ),
    "text that is too long": (
        message(changed(user_id=("BYTES", [1], ["u" * 2000]))),
        r"'user_id' has a text of 2000 characters",
    ),
    "an input given twice": (
        edited(lambda r: (r.inputs.append(r.inputs[1]), r.raw_input_contents.append(b"12345678"))),
        r"input 'age' is given twice",
    ),
    "an unknown input": (
        message({**TENSORS, "agee": ("INT64", [1], [30])}),
        r"unknown feature 'agee'; did you mean age\?",
    ),
    "lengths of nothing": (
        message({**TENSORS, "colour.lengths": ("INT64", [1], [1])}),
        r"unknown feature 'colour.lengths'",
    ),
    "a missing input": (message(changed(age=None)), r"user: feature 'age' \(side user\) is missing"),
    "no input": (ModelInferRequest(model_name="mscan", parameters=message().parameters), r"is missing"),
    "two users": (message(changed(age=("INT64", [2], [30, 31]))), r"user: feature 'age' has 2 rows, expected one"),
    "several values for one": (
        message(changed(item_id=("INT64", [2, 2], [1, 2, 3, 4]))),
        r"'item_id' has one value a row, but lengths say 2",
    ),
    "rows that differ": (
        message(changed(item_id=("INT64", [3], [4, 5, 6]))),
        r"feature '\w+' has \d rows, but '\w+' has \d",
    ),
    "no candidate": (
        message(
            changed(
                item_id=("INT64", [0], []),
                tags=("BYTES", [0, 2], []),
                tags_lengths=None,
                price=("FP64", [0], []),
                price_lengths=None,
            )
        ),
        r"items: 0 candidates, expected 1 to 1000",
    ),
    "too many candidates": (
        message(
            changed(
                item_id=("INT64", [1001], [1] * 1001),
                tags=("BYTES", [1001], ["t"] * 1001),
                tags_lengths=None,
                price=("FP32", [1001], [1.0] * 1001),
                price_lengths=None,
            )
        ),
        r"items: 1001 candidates, expected 1 to 1000",
    ),
    "the wrong type": (
        message(changed(item_id=("FP64", [2], [4.0, 5.5]))),
        r"feature 'item_id': value 5.5 is no whole number",
    ),
    "text for an integer": (
        message(changed(item_id=("BYTES", [2], ["4", "5"]))),
        r"feature 'item_id': value '4' is str, expected int64",
    ),
    "a number for text": (
        message(changed(user_id=("INT64", [1], [1]))),
        r"feature 'user_id': value 1 is int, expected string",
    ),
    "an integer that is too large": (
        message(changed(item_id=("UINT64", [2], [4, 2**63]))),
        r"'item_id': 9223372036854775808 does not fit",
    ),
    "not a number": (message(changed(hour=("FP64", [1], [float("nan")]))), r"feature 'hour' has the value nan"),
    "infinity": (message(changed(hour=("FP32", [1], [float("inf")]))), r"feature 'hour' has the value inf"),
    "a negative length": (message(changed(tags_lengths=("INT32", [2], [3, -1]))), r"'tags.lengths' holds -1 to 3"),
    "lengths that do not sum": (
        message(changed(tags_lengths=("INT32", [2], [2, 1]))),
        r"sum to the number of values, 2, not 3",
    ),
    "lengths that are no numbers": (
        message(changed(tags_lengths=("FP32", [2], [2.0, 0.0]))),
        r"'tags.lengths' holds counts",
    ),
    "a matrix with lengths": (
        message(changed(tags=("BYTES", [2, 1], ["t1", "t2"]))),
        r"so its shape is \[values\], not \[2, 1\]",
    ),
    "no scenario": (message(scenario=None), r"parameter 'scenario' is missing; known: home, cart, search"),
    "an empty scenario": (message(scenario=""), r"parameter 'scenario' is missing"),
    "a scenario that is no text": (message(scenario=3), r"parameter 'scenario' is 3, expected str"),
    "a c that is no number": (
        message(debias_strength="high"),
        r"parameter 'debias_strength' is 'high', expected float or int",
    ),
    "an infinite c": (message(debias_strength=float("inf")), r"debias_strength is inf; expected"),
    "a timeout that is no integer": (message(timeout=1.5), r"parameter 'timeout' is 1.5, expected int"),
    "a negative timeout": (message(timeout=-1), r"parameter 'timeout' is -1, expected microseconds >= 0"),
    "a parameter without a value": (
        edited(lambda r: r.parameters["unit"].Clear()),
        r"parameter 'unit' is None, expected str",
    ),
    "an unknown parameter": (
        message(debias_strenght=1.0),
        r"parameter 'debias_strenght' is unknown; did you mean debias_strength\?",
    ),
    "5,000 parameters": (message(**{f"p{i}": i for i in range(5000)}), r"parameter 'p\d+' is unknown"),
    "a sequence": (message(sequence_id=5), r"parameter 'sequence_id': sequences of requests are not kept"),
    "an unknown output": (
        edited(lambda r: r.outputs.add(name="scor")),
        r"output 'scor' is unknown; did you mean score\?",
    ),
    "an output's parameter": (
        edited(
            lambda r: r.outputs.add(name="score").parameters["classification"].MergeFrom(message(x=1).parameters["x"])
        ),
        r"output 'score' has the parameter 'classification'",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said(case, server):
    request, said = WRONG[case]
    data = request if isinstance(request, bytes) else request.SerializeToString()
    code, details = refused(server, data)
    assert code is grpc.StatusCode.INVALID_ARGUMENT, details
    assert re.search(said, details), details


MISSING = {
    "model": (message(model="mscam"), r"model 'mscam' is not served; did you mean mscan\?"),
    "no model": (message(model=""), r"model is empty and 2 models are served"),
    "scenario": (message(scenario="hom"), r"scenario 'hom' is unknown to mscan/2; did you mean home\?"),
}


@pytest.mark.parametrize("case", MISSING)
def test_what_is_not_served_is_not_found(case, server):
    request, said = MISSING[case]
    code, details = refused(server, request.SerializeToString())
    assert code is grpc.StatusCode.NOT_FOUND
    assert re.search(said, details), details


def test_no_message_repeats_a_long_text_of_the_request(server):
    long = "x" * 1_000_000
    for request in (
        message(scenario=long),
        message(model=long),
        message(**{long: 1}),
        message({**TENSORS, long: ("INT64", [1], [1])}),
        message(changed(age=(long, [1], b"12345678"))),
        message(changed(user_id=("BYTES", [1], [long]))),
    ):
        _, details = refused(server, request.SerializeToString())
        assert len(details) < 600


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_mutated_requests_never_shake_the_server(server, data):
    valid = message().SerializeToString()
    mutated, wanted = bytearray(valid), arrays(infer(server, message()))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(mutated) - 1))
        mutated[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    status = server.ask(oip.FORM, bytes(mutated)).status
    assert status is None or status.code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND), status
    for name, array in arrays(infer(server, message())).items():
        np.testing.assert_array_equal(array, wanted[name])


# Text


@settings(max_examples=300, deadline=None)
@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=300)))
def test_text_is_read_as_it_was_written(values):
    assert texts_of(len(values), prefixed(values)) == values
    assert texts_of(len(values) + 1, prefixed(values)) is None


@settings(max_examples=500, deadline=None)
@given(st.integers(0, 6), st.lists(st.sampled_from([0, 1, 2, 4, 255, 97]), max_size=24).map(bytes))
def test_any_bytes_are_text_or_none(count, data):
    def naive() -> list[bytes] | None:
        found, rest = [], data
        while rest:
            if len(rest) < 4 or len(rest) - 4 < struct.unpack("<I", rest[:4])[0]:
                return None
            end = 4 + struct.unpack("<I", rest[:4])[0]
            found.append(rest[4:end])
            rest = rest[end:]
        return found if len(found) == count else None

    try:
        read = texts_of(count, data)
    except UnicodeDecodeError:
        assert b"\xff" in data
    else:
        assert read == (None if (wanted := naive()) is None else [value.decode() for value in wanted])


@settings(deadline=None)
@given(st.sampled_from(sorted(NUMPY)), st.lists(st.integers(-128, 127)))
def test_numbers_are_widened_and_stay_what_they_are(datatype, values):
    held = np.array(values, np.int64).clip(0 if datatype[0] == "U" else -128)
    tensor = MESSAGES["ModelInferRequest"].InferInputTensor(name="x", datatype=datatype, shape=[len(held)])
    read = raw_values(tensor, held.astype(NUMPY[datatype]).tobytes())
    assert read.dtype == (np.float64 if datatype[0] == "F" else np.int64)
    np.testing.assert_array_equal(read, held)
