"""One gRPC server: our services behind a gate, health checking and reflection."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from swrec_prod.errors import ConfigError
from swrec_prod.serving.process.gate import Gate
from swrec_prod.serving.process.options import Options
from swrec_prod.serving.protocol import inference, ranking_pb2, wire
from swrec_prod.serving.protocol.target import target
from swrec_prod.serving.routing.router import Router
from swrec_prod.serving.service.admission import Admission
from swrec_prod.serving.service.answering import Answering
from swrec_prod.serving.service.batching import Batching
from swrec_prod.serving.service.callers_file import Callers
from swrec_prod.serving.service.exposing import Exposing
from swrec_prod.serving.service.oip import InferenceService
from swrec_prod.serving.service.ranking import RankingService
from swrec_prod.serving.service.schedule import Bounds
from swrec_prod.serving.watching.access_log import AccessLog
from swrec_prod.serving.watching.counts import Counts, served_by, variants_of

MEBI = 1 << 20
ANY = (1 << 31) - 1


def answering_of(
    router: Router,
    options: Options,
    counts: Counts,
    exposing: Exposing | None = None,
    access: AccessLog | None = None,
) -> Answering:
    """What stands behind the services. exposing: logs answers; access: logs requests."""
    bounds = Bounds(options.queue_ms)
    batching = Batching(options.batch_rows, options.batch_wait_us / 1e6) if options.batch_rows else None
    admission = Admission(counts, bounds, options.default_deadline_ms / 1e3, options.limits.candidates, batching)
    callers = None if options.callers is None else Callers.load(options.callers)
    return Answering(router, counts, admission, callers, exposing, access)


def services(
    router: Router,
    options: Options,
    counts: Counts,
    checks: health.aio.HealthServicer,
    answering: Answering | None = None,
) -> dict[str, grpc.GenericRpcHandler]:
    """By full name, the services that score. checks: what they say of being ready."""
    answering = answering or answering_of(router, options, counts)
    return {
        wire.SERVICE: RankingService(answering).handlers(),
        inference.SERVICE: InferenceService(answering, partial(_is_serving, checks)).handlers(),
    }


async def start(
    router: Router,
    options: Options,
    gate: Gate | None = None,
    counts: Counts | None = None,
    answering: Answering | None = None,
) -> tuple[grpc.aio.Server, health.aio.HealthServicer, int]:
    """A listening server, its health service, and its port. Raises ConfigError when it cannot listen.

    Another server may listen on the same port, and gets its share of the connections; see process/address.py.
    """
    checks = health.aio.HealthServicer()
    counts = counts or Counts.alone(served_by(router), variants_of(router))
    scoring = services(router, options, counts, checks, answering)
    server = grpc.aio.server(options=_channel_options(options))
    server.add_generic_rpc_handlers(((gate or Gate()).guarded(list(scoring.values())),))
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    if options.reflection:
        names = (*scoring, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server, _descriptions())
    port = _listen(server, options)
    await server.start()
    for service in (*scoring, *(f"model/{name}" for name in router.predictors)):
        await checks.set(service, health_pb2.HealthCheckResponse.SERVING)
    return server, checks, port


async def _is_serving(checks: health.aio.HealthServicer, service: str) -> bool:
    """What health checking says of one of the services that `start` tells it of."""
    reply = await checks.Check(health_pb2.HealthCheckRequest(service=service), None)
    return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)


def _descriptions() -> DescriptorPool:
    """What reflection tells of: the files of all services, in a pool where those of protocol/inference.py may be."""
    pool = DescriptorPool()
    for file in (ranking_pb2, health_pb2, reflection_pb2):
        pool.AddSerializedFile(file.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(inference.FILE.SerializeToString())
    return pool


def _channel_options(options: Options) -> Sequence[tuple[str, int]]:
    return (
        ("grpc.so_reuseport", 1),
        ("grpc.max_receive_message_length", int(options.max_message_mb * MEBI)),
        ("grpc.max_send_message_length", int(options.max_message_mb * MEBI)),
        ("grpc.max_concurrent_streams", options.max_streams),
        # the defaults, 1,000 and 3,000, end calls as CANCELLED; admission decides what is too much
        ("grpc.server.max_pending_requests", ANY),
        ("grpc.server.max_pending_requests_hard_limit", ANY),
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.keepalive_permit_without_calls", 1),
        # the default sends clients away that ping every 30 s
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
        # so that clients find new workers, and new servers behind a load balancer
        ("grpc.max_connection_age_ms", int(options.connection_age * 1e3)),
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
