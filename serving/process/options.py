"""How to serve: what the command line says, checked, and as JSON for the processes that the supervisor starts."""

from __future__ import annotations

import dataclasses
import ipaddress
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from swrec_prod.errors import ConfigError
from swrec_prod.exposures.bounds import Bounds, usable
from swrec_prod.serving.protocol.call import Limits

SHORTEST_HANG, LONGEST_HANG = 3.0, 3_600.0  # seconds; workers give a sign of life every second
SPARE_FROM = 4  # cores from which on one is left to others
POSITIVE = ("threads", "max_message_mb", "max_streams", "default_deadline_ms", "queue_ms", "connection_age")
NOT_NEGATIVE = {
    "notice": "seconds",
    "grace": "seconds",
    "batch_rows": "candidates",
    "batch_wait_us": "microseconds",
}
QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of the container: microseconds of CPU time a period, and the period


@dataclass(frozen=True)
class Options:
    """How to serve. port 0: any free one; port_file: where the real one is written, for scripts and tests.

    chosen: packages, NAME or NAME/VERSION; none: the latest of every name. workers: processes that answer, 0 for as
    many as `default_workers` says; threads: of one forward. notice: seconds between NOT_SERVING and refusing calls at
    SIGTERM; grace: seconds that calls in flight then get. insecure: allow an address that other machines reach without
    TLS. tls_cert, tls_key: PEM files of the server; tls_client_ca: PEM file of the authority whose certificates clients
    must show. metrics_port: where Prometheus may read over HTTP, None for nowhere. limits: of a request;
    max_message_mb: of its bytes, MiB; max_streams: calls in flight on one connection. routes: the
    routes file; callers: the callers file, None for no tokens; experiments: the experiments file, None for none.
    default_deadline_ms: of calls that set none; queue_ms: estimated work that may wait in one worker. exposures: the
    folder of the exposure log, None for none; exposures_features: share of answers whose requests are kept there;
    exposures_bounds: of the log. admin: a socket in the file system where the server can be asked to reload, None for
    none; watch: seconds between looks at its files, None for never; connection_age: seconds after which a connection is
    asked to begin anew, see process/leaving.py. access_log: file with a line for each request, None for none;
    access_share: of answers that have one. batch_rows: candidates that requests which wait are scored together up to,
    0 for each alone; batch_wait_us: microseconds that the first of them waits for others. hang_seconds: without a sign
    of life, or in one forward, after which a worker is killed and replaced.
    """

    models: Path
    port: int = 8500
    host: str = "127.0.0.1"
    chosen: tuple[str, ...] = ()
    workers: int = 0
    threads: int = 1
    reflection: bool = True
    insecure: bool = False
    port_file: Path | None = None
    notice: float = 5.0
    grace: float = 25.0
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    metrics_host: str = "127.0.0.1"
    metrics_port: int | None = None
    limits: Limits = field(default_factory=Limits)
    max_message_mb: float = 4.0
    max_streams: int = 4096
    routes: Path | None = None
    callers: Path | None = None
    experiments: Path | None = None
    default_deadline_ms: float = 250.0
    queue_ms: float = 250.0
    exposures: Path | None = None
    exposures_features: float = 1.0
    exposures_bounds: Bounds = field(default_factory=Bounds)
    admin: Path | None = None
    watch: float | None = None
    connection_age: float = 60.0
    access_log: Path | None = None
    access_share: float = 1.0
    batch_rows: int = 0
    batch_wait_us: float = 0.0
    hang_seconds: float = 30.0

    def checked(self) -> Options:
        """Itself, with the number of workers. Raises ConfigError for what cannot be, OSError for a missing file."""
        self._check_numbers()
        self._check_tls()
        self._check_exposures()
        if not (self.tls_cert or self.insecure or is_loopback(self.host)):
            raise ConfigError(
                f"host {self.host!r}: other machines reach it, and there is no TLS; "
                "use 127.0.0.1, give --tls-cert and --tls-key, or allow it with --insecure"
            )
        return dataclasses.replace(self, workers=self.workers or default_workers())

    def _check_numbers(self) -> None:
        if self.workers < 0:
            raise ConfigError(f"workers is {self.workers}, expected 1 or more, or 0 for one per core")
        limits = {f"most {name}": value for name, value in dataclasses.asdict(self.limits).items()}
        others = {name: getattr(self, name) for name in POSITIVE}
        for name, value in {**limits, **others}.items():
            if value <= 0:
                raise ConfigError(f"{name.replace('_', ' ')} is {value}, expected more than 0")
        if self.batch_wait_us and not self.batch_rows:
            raise ConfigError(f"batch wait us is {self.batch_wait_us:g} without batches; give --batch-rows too")
        if not SHORTEST_HANG <= self.hang_seconds <= LONGEST_HANG:
            raise ConfigError(
                f"hang seconds is {self.hang_seconds:g}, expected from {SHORTEST_HANG:g} to {LONGEST_HANG:g}"
            )
        if self.watch is not None and self.watch <= 0:
            raise ConfigError(f"watch is {self.watch}, expected seconds, more than 0")
        for name, unit in NOT_NEGATIVE.items():
            if getattr(self, name) < 0:
                raise ConfigError(f"{name.replace('_', ' ')} is {getattr(self, name)}, expected {unit} from 0 on")

    def _check_exposures(self) -> None:
        if not 0 <= self.access_share <= 1:
            raise ConfigError(f"access share is {self.access_share}, expected a share from 0 to 1")
        if not 0 <= self.exposures_features <= 1:
            raise ConfigError(f"exposures features is {self.exposures_features}, expected a share from 0 to 1")
        for name, value in self.exposures_bounds._asdict().items():
            if value <= 0:
                raise ConfigError(f"exposures {name} is {value}, expected more than 0")
        if self.exposures is not None:
            usable(self.exposures)

    def _check_tls(self) -> None:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ConfigError("a certificate and its key belong together: give both --tls-cert and --tls-key")
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise ConfigError("--tls-client-ca needs --tls-cert and --tls-key: clients show certificates over TLS only")
        for path in filter(None, (self.tls_cert, self.tls_key, self.tls_client_ca)):
            if b"-----BEGIN" not in path.read_bytes():
                raise ConfigError(f"{path}: no PEM file; it has to hold a block that begins with -----BEGIN")

    def to_json(self) -> str:
        """For `from_json`."""
        return json.dumps(dataclasses.asdict(self), default=str)

    @classmethod
    def from_json(cls, text: str) -> Options:
        """What `to_json` wrote."""
        values: dict[str, Any] = json.loads(text)
        paths = {
            option.name: Path(values[option.name])
            for option in dataclasses.fields(cls)
            if "Path" in str(option.type) and values[option.name] is not None
        }
        bounds = Bounds(*values["exposures_bounds"])
        rest = {"chosen": tuple(values["chosen"]), "limits": Limits(**values["limits"]), "exposures_bounds": bounds}
        return cls(**{**values, **paths, **rest})


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def default_workers() -> int:
    """One per core that this process may use; from SPARE_FROM cores on, one is left to others."""
    cores = min(len(os.sched_getaffinity(0)), _quota())
    return cores if cores < SPARE_FROM else cores - 1


def _quota() -> int:
    """Cores that the container may use at a time."""
    try:
        limit, period = QUOTA.read_text().split()
        return max(1, int(limit) // int(period))
    except (OSError, ValueError):  # no container, or no limit ("max")
        return 1 << 20
