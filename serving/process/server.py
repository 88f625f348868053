"""The server process: packages of one folder behind gRPC, with health checking and reflection.

It serves once every package is loaded, has reproduced its golden rows and is warm; at SIGTERM it says NOT_SERVING,
gives load balancers time to notice, and finishes what it has begun.
"""

from __future__ import annotations

import asyncio
import ipaddress
import signal
from dataclasses import dataclass
from pathlib import Path

import grpc
import torch
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from swrec_prod.errors import ConfigError
from swrec_prod.files import replaced
from swrec_prod.serving.protocol import wire
from swrec_prod.serving.routing.router import Router
from swrec_prod.serving.service.ranking import RankingService

MEBI = 1 << 20
OPTIONS = (
    ("grpc.so_reuseport", 0),  # a port that is taken is an error, not a second server that gets half of the calls
    ("grpc.max_receive_message_length", 4 * MEBI),
    ("grpc.max_send_message_length", MEBI),
    ("grpc.max_concurrent_streams", 128),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # the default sends clients away that ping every 30 s
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ("grpc.max_connection_age_ms", 30 * 60_000),  # so that clients find new servers behind a load balancer
    ("grpc.max_connection_age_grace_ms", 60_000),
)


@dataclass(frozen=True)
class Options:
    """How to serve. port 0: any free one; port_file: where the real one is written, for scripts and tests.

    chosen: packages, NAME or NAME/VERSION; none: the latest of every name. insecure: allow an address that other
    machines reach, which this server does without TLS. notice: seconds between NOT_SERVING and closing at SIGTERM;
    grace: seconds that calls in flight then get.
    """

    models: Path
    port: int = 8500
    host: str = "127.0.0.1"
    chosen: tuple[str, ...] = ()
    max_candidates: int = 1000
    threads: int = 1
    reflection: bool = True
    insecure: bool = False
    port_file: Path | None = None
    notice: float = 5.0
    grace: float = 25.0


def serve(options: Options) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises ConfigError for an address, PackageError for a package that cannot be served.
    """
    _check_host(options)
    _set_threads(options.threads)
    router = Router.load(options.models, options.chosen, options.max_candidates)
    asyncio.run(_run(router, options))


async def start(router: Router, options: Options) -> tuple[grpc.aio.Server, health.aio.HealthServicer, int]:
    """A listening server, its health service, and its port. Raises ConfigError when the port is taken."""
    server = grpc.aio.server(options=OPTIONS)
    server.add_generic_rpc_handlers((RankingService(router).handlers(),))
    checks = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    if options.reflection:
        reflection.enable_server_reflection((wire.SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    address = f"[{options.host}]" if ":" in options.host else options.host
    try:
        port = server.add_insecure_port(f"{address}:{options.port}")
    except RuntimeError:
        raise ConfigError(
            f"cannot listen on {address}:{options.port}; is the port taken? 0 takes any free one"
        ) from None
    await server.start()
    for service in (wire.SERVICE, *(f"model/{name}" for name in router.predictors)):
        await checks.set(service, health_pb2.HealthCheckResponse.SERVING)
    return server, checks, port


async def _run(router: Router, options: Options) -> None:
    stop: asyncio.Queue[int] = asyncio.Queue()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.put_nowait, number)
    server, checks, port = await start(router, options)
    for name, versions in router.predictors.items():
        print(f"serving {name}/{', '.join(map(str, versions))} on {options.host}:{port}", flush=True)
    if options.port_file is not None:
        with replaced(options.port_file) as aside:
            aside.write_text(f"{port}\n")
    notice = options.notice if await stop.get() == signal.SIGTERM else 0.0
    await checks.enter_graceful_shutdown()
    drained = asyncio.create_task(_drain(server, notice, options.grace))
    second_signal = asyncio.create_task(stop.get())
    await asyncio.wait((drained, second_signal), return_when=asyncio.FIRST_COMPLETED)
    second_signal.cancel()
    await server.stop(0)  # at once, also for calls in flight


async def _drain(server: grpc.aio.Server, notice: float, grace: float) -> None:
    await asyncio.sleep(notice)
    await server.stop(grace)


def _check_host(options: Options) -> None:
    try:
        loopback = options.host == "localhost" or ipaddress.ip_address(options.host).is_loopback
    except ValueError:
        loopback = False
    if not (loopback or options.insecure):
        raise ConfigError(
            f"host {options.host!r}: other machines reach it, and there is no TLS; "
            "use 127.0.0.1 or allow it with --insecure"
        )


def _set_threads(threads: int) -> None:
    """Threads of one forward.

    More than one is a trap on shared cores: beside a busy process, 16 forwards/s against 769.
    """
    torch.set_num_threads(threads)
    if torch.get_num_interop_threads() != 1:
        torch.set_num_interop_threads(1)
