"""Whether a server serves, by the health protocol that every gRPC server has."""

from __future__ import annotations

from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from swrec_prod.errors import UnavailableError


def check(target: str, service: str = "", tls_ca: Path | None = None, timeout: float = 2.0) -> str:
    """`SERVING`. tls_ca: PEM file of the authority of the server's certificate. Raises UnavailableError otherwise."""
    request = health_pb2.HealthCheckRequest(service=service)
    with _channel(target, tls_ca) as channel:
        try:
            status = health_pb2_grpc.HealthStub(channel).Check(request, timeout=timeout).status
        except grpc.RpcError as failure:
            raise UnavailableError(f"{target}: {failure.code().name}: {failure.details()}") from None
    name = health_pb2.HealthCheckResponse.ServingStatus.Name(status)
    if status != health_pb2.HealthCheckResponse.SERVING:
        raise UnavailableError(f"{target}: {service or 'the server'} is {name}; it is about to end")
    return name


def _channel(target: str, tls_ca: Path | None) -> grpc.Channel:
    if tls_ca is None:
        return grpc.insecure_channel(target)
    return grpc.secure_channel(target, grpc.ssl_channel_credentials(tls_ca.read_bytes()))
