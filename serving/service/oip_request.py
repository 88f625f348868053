"""A ModelInferRequest of the Open Inference Protocol as a ScoreCall.

Tensors have the names of the request's columns. N candidates, of which the user is one row:

    [N] or [N, 1]       one value a candidate; of the user [1] or [1, 1]
    [N, k]              k values each, of a feature that may have several (bags, vectors); of the user [1, k], which is
                        how behaviours are given
    `<name>.lengths`    how many values each row has, integers [N] (of the user [1]), 0 where a value is unknown; then
                        the shape of `<name>` is [V], the values of all rows one after the other

What is no feature stands in the request's parameters:

    scenario          text: the place that asks; may be left out where the package has one only
    unit, request_id  text: as in swrec.v1.ScoreRequest; the request's `id` stands for the latter too
    debias_strength   number: c of the ranking score
    forced            text: `experiment=variant`, several with commas between them, to get these variants
    timeout           integer, microseconds from when it comes: another deadline
    priority          is ignored, as are those that begin with triton_

Sequences of requests (sequence_id and so on) and shared memory are refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from swrec_prod.errors import RequestError, nearest, shown
from swrec_prod.serving.protocol.call import Column, ScoreCall
from swrec_prod.serving.protocol.inference import ModelInferRequest
from swrec_prod.serving.protocol.tensors import Values, raw_values, shape_shown, typed_values
from swrec_prod.serving.protocol.wire import INTS, LENGTHS
from swrec_prod.serving.routing.router import Routed, Router
from swrec_prod.serving.scoring.columns import USER, Slot
from swrec_prod.serving.scoring.predictor import Predictor

OUTPUTS = ("probability", "score", "interest_logit", "scenario_logit")
COMPANION = ".lengths"
KNOWN = {  # parameters -> the types of their values
    "scenario": (str,),
    "unit": (str,),
    "request_id": (str,),
    "debias_strength": (float, int),
    "forced": (str,),
    "timeout": (int,),
}
IGNORED, SEQUENCE, MEMORY = ("priority", "triton_"), "sequence_", "shared_memory_region"
MICRO = 1e-6
MOST_TENSORS = 10_000


@dataclass(slots=True)
class InferCall(ScoreCall):
    """message: the ModelInferRequest. outputs: names of those that are wanted; none for all.

    It has no columns before `route`, since the package says which of them are the user's.
    """

    message: Any = None
    outputs: tuple[str, ...] = ()


def read(data: bytes) -> InferCall:
    """The call of a serialised ModelInferRequest, without its columns. Raises RequestError."""
    try:
        message = ModelInferRequest.FromString(data)
    except DecodeError:
        raise RequestError(f"the {len(data)} bytes are no inference.ModelInferRequest") from None
    given = parameters(message.parameters) if message.parameters else {}
    return InferCall(
        message.model_name,
        message.model_version,
        given.get("scenario", ""),
        given.get("request_id", message.id),
        given.get("unit", ""),
        debias_strength=float(given["debias_strength"]) if "debias_strength" in given else None,
        timeout=given["timeout"] * MICRO if given.get("timeout") else None,
        forced=_forced(given["forced"]) if given.get("forced") else {},
        message=message,
    )


def route(call: InferCall, router: Router) -> Routed:
    """Who scores a call, which gets its columns and outputs.

    Raises RequestError for what is wrong with them, NotFoundError for a model, version or scenario that is not served.
    """
    if not call.scenario:
        call.scenario = _only_scenario(router.predictor(call.model, call.version))
    routed = router.route(call)
    call.outputs = _outputs(call.message, routed.predictor) if call.message.outputs else ()
    _add_columns(call, _tensors(call.message), routed.predictor)
    return routed


def parameters(given: Mapping[str, Any]) -> dict[str, Any]:
    """The values of those that are KNOWN. Raises RequestError for others, and for a value of another type."""
    values = {}
    for name, parameter in given.items():
        if name.startswith(IGNORED):
            continue
        if name.startswith(SEQUENCE):
            raise RequestError(f"parameter {shown(name)}: sequences of requests are not kept; leave it out")
        if name not in KNOWN:
            raise RequestError(f"parameter {shown(name)} is unknown; {nearest(name, KNOWN)}")
        values[name] = _value(name, parameter)
    return values


def _forced(text: str) -> dict[str, str]:
    """Variants by experiment. Raises RequestError."""
    pairs = [pair.partition("=") for pair in text.split(",")]
    if not all(experiment and variant for experiment, _, variant in pairs):
        raise RequestError(f"parameter 'forced' is {shown(text)}, expected experiment=variant,experiment=variant")
    return {experiment.strip(): variant.strip() for experiment, _, variant in pairs}


def _value(name: str, parameter: Any) -> Any:
    choice = parameter.WhichOneof("parameter_choice")
    value: Any = getattr(parameter, choice) if choice else None
    if type(value) not in KNOWN[name]:
        wanted = " or ".join(kind.__name__ for kind in KNOWN[name])
        raise RequestError(f"parameter {name!r} is {shown(value)}, expected {wanted}")
    if name == "timeout" and value is not None and value < 0:
        raise RequestError(f"parameter 'timeout' is {value}, expected microseconds >= 0")
    return value


def _only_scenario(predictor: Predictor) -> str:
    """That of a package which has one. Raises RequestError for others."""
    if len(predictor.scenarios) != 1:
        raise RequestError(f"parameter 'scenario' is missing; {nearest('', predictor.scenarios)}")
    return predictor.scenarios[0]


def outputs_of(predictor: Predictor) -> tuple[str, ...]:
    """The names of what a package's answers hold."""
    return OUTPUTS if predictor.manifest.causal else OUTPUTS[:2]


def _outputs(request: Any, predictor: Predictor) -> tuple[str, ...]:
    known = outputs_of(predictor)
    for output in request.outputs:
        if output.name not in known:
            raise RequestError(f"output {shown(output.name)} is unknown; {nearest(output.name, known)}")
        for name in output.parameters:
            raise RequestError(f"output {output.name!r} has the parameter {shown(name)}; none is supported")
    return tuple(dict.fromkeys(output.name for output in request.outputs))


def _tensors(request: Any) -> dict[str, tuple[Any, Values]]:
    """The inputs by name, with their values."""
    inputs, blobs = request.inputs, request.raw_input_contents
    if len(inputs) > MOST_TENSORS:
        raise RequestError(f"{len(inputs)} inputs, allowed are {MOST_TENSORS}; send one a feature")
    for tensor in inputs:
        _check(tensor, raw=len(blobs) > 0)
    if blobs and len(blobs) != len(inputs):
        raise RequestError(f"raw_input_contents has {len(blobs)} entries for {len(inputs)} inputs; send one for each")
    if blobs:
        found = {tensor.name: (tensor, raw_values(tensor, data)) for tensor, data in zip(inputs, blobs, strict=True)}
    else:
        found = {tensor.name: (tensor, typed_values(tensor)) for tensor in inputs}
    if len(found) < len(inputs):
        [(name, times)] = Counter(tensor.name for tensor in inputs).most_common(1)
        raise RequestError(f"input {shown(name)} is given {'twice' if times == 2 else f'{times} times'}")
    return found


def _check(tensor: Any, *, raw: bool) -> None:
    """Raise RequestError for a tensor whose values are somewhere else, or in two places."""
    for name in tensor.parameters:
        if name == MEMORY:
            raise RequestError(f"input {shown(tensor.name)}: shared memory is not supported; send its values")
        raise RequestError(f"input {shown(tensor.name)} has the parameter {shown(name)}; none is supported")
    if raw and tensor.HasField("contents"):
        raise RequestError(f"input {shown(tensor.name)} has contents beside raw_input_contents; send one of both")


def _add_columns(call: ScoreCall, tensors: Mapping[str, tuple[Any, Values]], predictor: Predictor) -> None:
    """The tensors as the columns of `call`. Raises RequestError for a shape that is none of a column."""
    slots, most = predictor.encoder.slots, predictor.encoder.limits.candidates
    for name, (tensor, values) in tensors.items():
        of = name.removesuffix(COMPANION)
        if of != name and of in tensors and name not in slots:
            continue
        slot, companion = slots.get(name), tensors.get(name + COMPANION)
        lengths = _rows(tensor, values, slot, most) if companion is None else _lengths(name, tensor, companion[1])
        part = call.user if slot is not None and slot.part == USER else call.items
        part.append(Column(name, values, lengths))


def _rows(tensor: Any, values: Values, slot: Slot | None, most: int) -> np.ndarray | None:
    """The lengths of a column that has none of its own: every row has as many values, of which the shape tells."""
    shape, is_one = tensor.shape, slot is None or slot.shape == "one"
    if is_one and (len(shape) == 1 or shape[1] == 1):
        return None
    if len(shape) == 1:
        return np.ones(len(values), LENGTHS)
    if shape[0] > most:
        raise RequestError(f"input {shown(tensor.name)}: {shape[0]} rows, expected 1 to {most}")
    if shape[1] > np.iinfo(LENGTHS).max:  # of no rows, as their values would not fit into a message
        raise RequestError(f"input {shown(tensor.name)}: shape {list(shape)} has {shape[1]} values a row")
    return np.full(shape[0], shape[1], LENGTHS)


def _lengths(name: str, tensor: Any, counts: Values) -> np.ndarray:
    what = f"input {shown(name + COMPANION)}"
    if len(tensor.shape) != 1:
        raise RequestError(f"input {shown(name)} has {what}, so its shape is [values], not {shape_shown(tensor)}")
    if not isinstance(counts, np.ndarray) or counts.dtype != INTS:
        raise RequestError(f"{what} holds counts, whole numbers >= 0")
    if len(counts) and not 0 <= counts.min() <= counts.max() <= np.iinfo(LENGTHS).max:
        raise RequestError(f"{what} holds {counts.min()} to {counts.max()}, expected counts >= 0")
    return counts.astype(LENGTHS)
