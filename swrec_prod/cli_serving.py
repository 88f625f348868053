"""Commands that serve, or call a server. `cli` adds them to its own, and turns their errors into exit codes.

Stages are imported inside the commands, as there.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from swrec_prod.errors import DataError

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
CallersFile = Annotated[
    Path | None, typer.Option(help="Callers file: who may ask, by SHA-256 of a token, and how much.")
]
Exposures = Annotated[
    Path | None, typer.Option(help="Folder of the exposure log, in Parquet: what was answered, to whom and why.")
]
ExposuresFeatures = Annotated[
    float, typer.Option(help="Share of answers whose requests are kept in that log, with all candidates.")
]
ExposuresBound = Annotated[
    list[str] | None,
    typer.Option(help="NAME=NUMBER, how much the log holds: buffer_mb, segment_mb, segment_seconds, waiting_mb."),
]
AccessLog = Annotated[
    Path | None, typer.Option(help="File of the access log: a line of JSON for each request, without units.")
]
AccessShare = Annotated[
    float, typer.Option(help="Share of answers that have a line there; requests without an answer always have one.")
]
Admin = Annotated[
    Path | None, typer.Option(help="Socket to make, where `swrec reload` asks for changes; for this user alone.")
]
Watch = Annotated[
    float | None, typer.Option(help="Seconds between looks for new versions and changed files; default: never.")
]
ConnectionAge = Annotated[
    float, typer.Option(help="Seconds after which a client is asked to connect anew; after a change as many pass.")
]

BatchRows = Annotated[
    int, typer.Option(help="Score requests that wait together, up to so many candidates; 0: each alone.")
]
HangSeconds = Annotated[
    float, typer.Option(help="Seconds in one forward, or without a sign of life, after which a worker is replaced.")
]
BatchWait = Annotated[float, typer.Option(help="Microseconds that the first request of a batch waits for others.")]


def serve(
    models: Annotated[Path, typer.Option(help="REPO: the folder of packages, REPO/NAME/VERSION.")],
    only: Annotated[
        list[str] | None,
        typer.Option(help="NAME or NAME/VERSION to serve; default: of every name those with labels, or the latest."),
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
        int | None,
        typer.Option(help="Port of metrics and a status page, over HTTP; 0: a free one; default: none."),
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
    callers: CallersFile = None,
    experiments: Annotated[
        Path | None, typer.Option(help="Experiments file: which units get which model, version and c.")
    ] = None,
    default_deadline_ms: Annotated[float, typer.Option(help="Deadline of calls that set none.")] = 250.0,
    admin: Admin = None,
    watch: Watch = None,
    connection_age: ConnectionAge = 60.0,
    queue_ms: Annotated[
        float, typer.Option(help="Estimated work that may wait in one worker; what is more is refused at once.")
    ] = 250.0,
    exposures: Exposures = None,
    exposures_features: ExposuresFeatures = 1.0,
    exposures_bound: ExposuresBound = None,
    access_log: AccessLog = None,
    access_share: AccessShare = 1.0,
    batch_rows: BatchRows = 0,
    batch_wait_us: BatchWait = 0.0,
    hang_seconds: HangSeconds = 30.0,
) -> None:
    """Serve packages over gRPC, with health checking and reflection, until SIGTERM or Ctrl-C; a second ends at once.

    Example: `swrec serve --models build/models --port 8500 --workers 2 --metrics-port 9090`
    """
    from swrec_prod.exposures.bounds import Bounds
    from swrec_prod.serving.process.options import Options
    from swrec_prod.serving.process.supervisor import serve as run
    from swrec_prod.serving.protocol.call import Limits

    limits = Limits(max_candidates, max_behaviours, max_values, max_text)
    exposures_bounds = Bounds.parsed(exposures_bound or ())
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


def score(
    data: Annotated[Path, typer.Argument(help="A prepared folder; its requests.parquet holds raw held-out rows.")],
    target: Annotated[str, typer.Option(help="host:port of a server.")] = "127.0.0.1:8500",
    model: Annotated[str, typer.Option(help="Package to ask for; default: the only one.")] = "",
    feature: Annotated[
        list[str] | None, typer.Option(help="A feature to send, once for each in data.features; default: all.")
    ] = None,
    rows: Annotated[
        int, typer.Option(help="About how many rows to send, in whole requests and evenly over scenarios; 0: all.")
    ] = 0,
    expect: Annotated[
        Path | None, typer.Option(help="Predictions file; its rows are sent, and the answers compared with it.")
    ] = None,
    tolerance: Annotated[float, typer.Option(help="Largest difference to --expect that is accepted.")] = 1e-5,
    out: Annotated[Path | None, typer.Option(help="Parquet file for the answers.")] = None,
    as_json: AsJson = False,
) -> None:
    """Send raw held-out rows to a server, as requests of one user in one scenario;
    optionally hold the answers to a prediction.

    Example: `swrec score build/data/movielens_1m_genre --expect build/runs/mscan/predictions.parquet`
    """
    from swrec_prod.serving.callers.rows import score_folder

    chosen, say = tuple(feature or ()), partial(typer.echo, err=True)
    summary = score_folder(data, target, model=model, features=chosen, limit=rows, expect=expect, out=out, say=say)
    if as_json:
        print_json(summary)
    else:
        for name, value in summary.items():
            typer.echo(f"{name}: {value:.3g}" if isinstance(value, float) else f"{name}: {value:,}")
    if summary.get("max_abs_diff", 0.0) > tolerance:
        difference = f"by {summary['max_abs_diff']:.3g}, allowed are {tolerance:g}"
        raise DataError(f"served scores differ from {expect} {difference}")


def loadtest(
    data: Annotated[
        Path | None, typer.Argument(help="A prepared folder, whose held-out rows are sent; default: made-up values.")
    ] = None,
    target: Annotated[str, typer.Option(help="host:port of a server.")] = "127.0.0.1:8500",
    model: Annotated[str, typer.Option(help="Package to ask for; default: the only one.")] = "",
    feature: Annotated[
        list[str] | None, typer.Option(help="A feature to send, once for each in data.features; default: all.")
    ] = None,
    candidates: Annotated[
        int, typer.Option(help="Candidates of a request, repeated or cut to that many; 0: as the rows have them.")
    ] = 0,
    clients: Annotated[int, typer.Option(help="Closed loop: callers that wait for their answers.")] = 16,
    rate: Annotated[float, typer.Option(help="Open loop: requests a second, whatever comes back; 0: closed loop.")] = 0,
    constant: Annotated[
        bool, typer.Option("--constant", help="Open loop: at equal distances instead of a Poisson process.")
    ] = False,
    ramp: Annotated[bool, typer.Option("--ramp", help="Raise the rate until --slo or --goodput is missed.")] = False,
    slo: Annotated[str, typer.Option(help="Ramp: a quantile of the answers and its bound.")] = "p99=25ms",
    goodput: Annotated[float, typer.Option(help="Ramp: share of all calls answered inside the deadline.")] = 0.99,
    deadline_ms: Annotated[float, typer.Option(help="Deadline of a call, milliseconds.")] = 1000,
    duration: Annotated[float, typer.Option(help="Seconds that are measured; of a ramp, in each step.")] = 10,
    warmup: Annotated[float, typer.Option(help="Seconds of load before that.")] = 2,
    processes: Annotated[int, typer.Option(help="Client processes, so that the client is not what is slow.")] = 1,
    channels: Annotated[int, typer.Option(help="Connections of a process.")] = 4,
    tls_ca: Annotated[
        Path | None, typer.Option(help="PEM file of the authority behind the server's certificate; asks over TLS.")
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="PEM file of the client's certificate.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM file of its key.")] = None,
    token_file: Annotated[Path | None, typer.Option(help="File with the caller's token.")] = None,
    as_json: AsJson = False,
) -> None:
    """Put load on a server: rates by status code, goodput, latency, and whether the client was the limit.

    Latency of an open loop counts from when a request was to be sent, so that a stall is not hidden by requests that
    were not sent meanwhile.

    Example: `swrec loadtest build/data/movielens_1m_genre --candidates 100 --rate 500 --deadline-ms 100`
    """
    from swrec_prod.serving.callers.loadtest import LoadTest, run
    from swrec_prod.serving.client import Tls

    tls = Tls(tls_ca, tls_cert, tls_key) if tls_ca or tls_cert or tls_key else None
    token = token_file.read_text().strip() if token_file else None
    test = LoadTest(
        target,
        data,
        model=model,
        features=tuple(feature or ()),
        candidates=candidates,
        clients=clients,
        rate=rate,
        constant=constant,
        ramp=ramp,
        slo=slo,
        goodput=goodput,
        deadline_ms=deadline_ms,
        duration=duration,
        warmup=warmup,
        processes=processes,
        channels=channels,
        tls=tls,
        token=token,
    )
    outcome, lines = run(test, partial(typer.echo, err=True))
    print_json(outcome) if as_json else typer.echo("\n".join(lines))


def print_json(value: Any) -> None:
    """Print what a command has to say to programs."""
    typer.echo(json.dumps(value, indent=1))
