"""Commands of the scorer, which `cli` adds to its own, and whose ends it knows.

Stages are imported inside the commands, as there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def serve(
    models: Annotated[Path, typer.Option(help="REPO: the folder of packages, REPO/NAME/VERSION.")],
    only: Annotated[
        list[str] | None, typer.Option(help="NAME or NAME/VERSION to serve; default: the latest of every name.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.")] = 8500,
    port_file: Annotated[Path | None, typer.Option(help="File to write the port to, once serving.")] = None,
    workers: Annotated[
        int,
        typer.Option(
            help="Processes that answer; they share the port and the packages' memory. "
            "0: one per core, and from four cores on one core is left to others."
        ),
    ] = 0,
    threads: Annotated[int, typer.Option(help="Threads of one forward; more than 1 pays on idle cores only.")] = 1,
    tls_cert: Annotated[Path | None, typer.Option(help="PEM file: serve over TLS with this certificate.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM file: the certificate's key.")] = None,
    tls_client_ca: Annotated[
        Path | None, typer.Option(help="PEM file: serve clients with a certificate of this authority only.")
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Allow an address that other machines reach, without TLS.")
    ] = False,
    reflection: Annotated[bool, typer.Option(help="Tell clients which services there are.")] = True,
    metrics_port: Annotated[
        int | None, typer.Option(help="Port for Prometheus, over HTTP; 0 takes a free one; default: none.")
    ] = None,
    metrics_host: Annotated[str, typer.Option(help="Address of the metrics.")] = "127.0.0.1",
    notice: Annotated[
        float, typer.Option(help="Seconds between NOT_SERVING and refusing calls at SIGTERM, for load balancers.")
    ] = 5.0,
    grace: Annotated[float, typer.Option(help="Seconds that calls in flight then get.")] = 25.0,
    max_candidates: Annotated[int, typer.Option(help="Candidates of a request.")] = 1000,
    max_behaviours: Annotated[int, typer.Option(help="Behaviours of a history in a request.")] = 10_000,
    max_values: Annotated[int, typer.Option(help="Values of a feature that has several.")] = 1_000,
    max_text: Annotated[int, typer.Option(help="Characters of a string.")] = 1_024,
    max_message_mb: Annotated[float, typer.Option(help="MiB of a request or an answer.")] = 4.0,
    max_streams: Annotated[int, typer.Option(help="Calls in flight on one connection.")] = 4096,
    routes: Annotated[
        Path | None,
        typer.Option(help="Routes file: which model, version and c serve a scenario, its fallback and its limits."),
    ] = None,
    callers: Annotated[
        Path | None, typer.Option(help="Callers file: who may ask, by SHA-256 of a token, and how much.")
    ] = None,
    default_deadline_ms: Annotated[float, typer.Option(help="Deadline of calls that set none.")] = 250.0,
    queue_ms: Annotated[
        float, typer.Option(help="Estimated work that may wait in one worker; what is more is refused at once.")
    ] = 250.0,
) -> None:
    """Serve packages over gRPC, with health checking and reflection, until SIGTERM or Ctrl-C; a second ends at once.

    Example: `swrec serve --models build/models --port 8500 --workers 2 --metrics-port 9090`
    """
    from swrec_prod.serving.process.options import Options
    from swrec_prod.serving.process.supervisor import serve as run
    from swrec_prod.serving.protocol.call import Limits

    limits = Limits(max_candidates, max_behaviours, max_values, max_text)
    given = {name: value for name, value in locals().items() if name in Options.__dataclass_fields__}
    run(Options(**{**given, "chosen": tuple(only or ())}))


def health(
    target: Annotated[str, typer.Option(help="host:port of a server.")] = "127.0.0.1:8500",
    service: Annotated[str, typer.Option(help="swrec.v1.Ranking, model/NAME, or nothing for the whole server.")] = "",
    tls_ca: Annotated[Path | None, typer.Option(help="PEM file of the server's authority: ask over TLS.")] = None,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for the answer.")] = 2.0,
) -> None:
    """Ask a server whether it serves: for probes of containers. Exit code 0 where it does, else 2.

    Example: `swrec health --target 127.0.0.1:8500 --service model/mscan`
    """
    from swrec_prod.serving.callers.health import check

    typer.echo(check(target, service, tls_ca, timeout))
