"""One gRPC server: our services behind a gate, health checking and reflection."""

from __future__ import annotations

from collections.abc import Sequence

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from swrec_prod.errors import ConfigError
from swrec_prod.serving.process.address import target
from swrec_prod.serving.process.gate import Gate
from swrec_prod.serving.process.options import Options
from swrec_prod.serving.protocol import wire
from swrec_prod.serving.routing.router import Router
from swrec_prod.serving.service.counts import Counts
from swrec_prod.serving.service.ranking import RankingService

MEBI = 1 << 20


def services(router: Router, options: Options, counts: Counts) -> dict[str, grpc.GenericRpcHandler]:
    """By full name, the services that score."""
    return {wire.SERVICE: RankingService(router).handlers()}


async def start(
    router: Router, options: Options, gate: Gate | None = None, counts: Counts | None = None
) -> tuple[grpc.aio.Server, health.aio.HealthServicer, int]:
    """A listening server, its health service, and its port. Raises ConfigError when it cannot listen.

    Another server may listen on the same port, and gets its share of the connections; see process/address.py.
    """
    scoring = services(router, options, counts or Counts.alone())
    server = grpc.aio.server(options=_channel_options(options))
    server.add_generic_rpc_handlers(((gate or Gate()).guarded(list(scoring.values())),))
    checks = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    if options.reflection:
        reflection.enable_server_reflection((*scoring, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    port = _listen(server, options)
    await server.start()
    for service in (*scoring, *(f"model/{name}" for name in router.predictors)):
        await checks.set(service, health_pb2.HealthCheckResponse.SERVING)
    return server, checks, port


def _channel_options(options: Options) -> Sequence[tuple[str, int]]:
    return (
        ("grpc.so_reuseport", 1),
        ("grpc.max_receive_message_length", int(options.max_message_mb * MEBI)),
        ("grpc.max_send_message_length", int(options.max_message_mb * MEBI)),
        ("grpc.max_concurrent_streams", options.max_streams),
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.keepalive_permit_without_calls", 1),
        # the default sends clients away that ping every 30 s
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
        ("grpc.max_connection_age_ms", 30 * 60_000),  # so that clients find new servers behind a load balancer
        ("grpc.max_connection_age_grace_ms", 60_000),
    )


def _listen(server: grpc.aio.Server, options: Options) -> int:
    address = target(options.host, options.port)
    try:
        if options.tls_cert is None:
            return int(server.add_insecure_port(address))
        return int(server.add_secure_port(address, _credentials(options)))
    except RuntimeError:
        files = f" with the certificate {options.tls_cert} and its key" if options.tls_cert else ""
        raise ConfigError(f"cannot listen on {address}{files}; is the port taken? 0 takes any free one") from None


def _credentials(options: Options) -> grpc.ServerCredentials:
    """TLS; with tls_client_ca for clients with a certificate of that authority only."""
    assert options.tls_key is not None and options.tls_cert is not None
    pair = options.tls_key.read_bytes(), options.tls_cert.read_bytes()
    authority = options.tls_client_ca.read_bytes() if options.tls_client_ca else None
    return grpc.ssl_server_credentials([pair], authority, require_client_auth=authority is not None)
