"""The messages of the Open Inference Protocol, version 2: inference.proto.

They live in a descriptor pool of their own. Every implementation of the protocol gives its messages the same names, and
protobuf refuses the second of a name in a process's default pool: there Triton's client could not be imported beside
ours.
"""

from __future__ import annotations

from importlib import resources
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_SET = descriptor_pb2.FileDescriptorSet.FromString(
    resources.files("swrec_prod.serving.protocol").joinpath("inference.binpb").read_bytes()
)
[FILE] = _SET.file  # its description, for reflection
SERVICE = f"{FILE.package}.{FILE.service[0].name}"
METHODS = {method.name: method.input_type.rpartition(".")[2] for method in FILE.service[0].method}  # -> its request


def _messages() -> dict[str, Any]:
    """Classes by short name."""
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(FILE.SerializeToString())
    found = (pool.FindMessageTypeByName(f"{FILE.package}.{message.name}") for message in FILE.message_type)
    return {descriptor.name: message_factory.GetMessageClass(descriptor) for descriptor in found}


MESSAGES = _messages()
ModelInferRequest, ModelInferResponse = MESSAGES["ModelInferRequest"], MESSAGES["ModelInferResponse"]
InferParameter = MESSAGES["InferParameter"]
