"""What the supervisor serves over HTTP: the metrics, and a page that shows them.

/metrics       for Prometheus
/              the status page, of page/, which asks for
/status.json   what is served, and the same metrics
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from importlib.resources import files
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

from swrec_prod.errors import ConfigError
from swrec_prod.serving.protocol.target import target
from swrec_prod.serving.watching.metrics import Tally
from swrec_prod.serving.watching.status import status

PAGE = {  # path -> file and type
    "/": ("index.html", "text/html; charset=utf-8"),
    "/status.css": ("status.css", "text/css; charset=utf-8"),
    "/status.js": ("status.js", "text/javascript; charset=utf-8"),
}
HEADERS = [  # nothing from elsewhere is loaded, and nothing that a name holds is run
    (
        "Content-Security-Policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:",
    ),
    ("X-Content-Type-Options", "nosniff"),
    ("Cache-Control", "no-store"),
]
Application = Callable[[dict[str, Any], Any], Iterable[bytes]]


@contextlib.contextmanager
def exposed(tally: Tally, host: str, port: int | None) -> Iterator[None]:
    """Serve metrics and page within the block, and say where. port: 0 for any free one, None for not at all.

    Raises ConfigError.
    """
    if port is None:
        yield
        return
    try:
        server = make_server(host, port, application(tally), _server_class(host), _Silent)
    except OSError as failure:
        raise ConfigError(f"cannot serve metrics on {target(host, port)}: {failure.strerror}") from None
    thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
    thread.start()
    address = target(host, server.server_port)
    try:
        print(f"metrics on http://{address}/metrics\nstatus page on http://{address}/", flush=True)
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def application(tally: Tally) -> Application:
    """The WSGI application."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(tally)
    metrics = make_wsgi_app(registry)

    def answer(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "/")
        if path == "/metrics":
            return metrics(environ, start_response)
        if path == "/status.json":
            body, kind = json.dumps(status(tally, registry)).encode(), "application/json"
        elif path in PAGE:
            name, kind = PAGE[path]
            body = (files(__package__) / "page" / name).read_bytes()
        else:
            start_response("404 Not Found", [("Content-Type", "text/plain"), *HEADERS])
            return [b"there are /, /status.json and /metrics\n"]
        start_response("200 OK", [("Content-Type", kind), *HEADERS])
        return [body]

    return answer


class _Threading(ThreadingMixIn, WSGIServer):
    """A browser that keeps its connection does not keep Prometheus waiting."""

    daemon_threads = True


class _ThreadingV6(_Threading):
    address_family = socket.AF_INET6


class _Silent(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: scrapes are no news."""


def _server_class(host: str) -> type[_Threading]:
    return _ThreadingV6 if ":" in host else _Threading
