"""`swrec loadtest`: what to send, how much of it, and what came back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swrec_prod.errors import ConfigError
from swrec_prod.serving.callers import bodies
from swrec_prod.serving.callers.capacity import Step, capacity, goal_of, ramp
from swrec_prod.serving.callers.load import LoadResult, Plan
from swrec_prod.serving.callers.load_text import as_dict, line, text
from swrec_prod.serving.callers.processes import load
from swrec_prod.serving.client import Client, Tls
from swrec_prod.serving.client.channels import Connection

FIRST_RATE = 100.0  # requests a second, of a ramp


@dataclass(frozen=True)
class LoadTest:
    """What to send and how, as the command line says it.

    data: a prepared folder, None for made-up values; features: those that the model was trained on, none for all;
    candidates: of each request, 0 for its own (100 where values are made up). rate: requests a second of an open loop,
    0 for a closed one of `clients`; constant: whether they come at equal distances; ramp: until `slo` or `goodput` is
    missed. duration, warmup: seconds, of each step.
    """

    target: str
    data: Path | None = None
    model: str = ""
    features: tuple[str, ...] = ()
    candidates: int = 0
    clients: int = 16
    rate: float = 0.0
    constant: bool = False
    ramp: bool = False
    slo: str = "p99=25ms"
    goodput: float = 0.99
    deadline_ms: float = 1000.0
    duration: float = 10.0
    warmup: float = 2.0
    processes: int = 1
    channels: int = 4
    tls: Tls | None = None
    token: str | None = None

    def plan(self, rate: float) -> Plan:
        """A load at a rate, or of a closed loop where it is 0."""
        connection = Connection(self.target, self.channels, tls=self.tls, token=self.token)
        clients = 0 if rate else self.clients
        return Plan(connection, self.duration, self.warmup, clients, rate, not self.constant, self.deadline_ms / 1e3)


def run(test: LoadTest, say: Callable[[str], None]) -> tuple[dict[str, Any], list[str]]:
    """The outcome for programs, and as lines for a reader. say: gets lines of progress.

    Raises ConfigError for numbers that make no load, and as Client.score does.
    """
    _check(test)
    goal = goal_of(test.slo, test.goodput)
    to_send = _bodies(test)
    say(f"{len(to_send)} requests of {sum(map(len, to_send)) / len(to_send):,.0f} bytes, sent in turn to {test.target}")

    def measure(rate: float) -> LoadResult:
        return load(test.plan(rate), to_send, test.processes, say)

    if not test.ramp:
        result = measure(test.rate)
        return as_dict(result), list(text(result))
    steps = ramp(measure, goal, test.rate or FIRST_RATE, lambda step: say(line(step)))
    return _capacity(steps, test)


def _capacity(steps: list[Step], test: LoadTest) -> tuple[dict[str, Any], list[str]]:
    most = capacity(steps)
    tried = [{"rate": step.rate, "met": step.met, **as_dict(step.result)} for step in steps]
    goal = f"{test.slo} and {test.goodput:.0%} inside {test.deadline_ms:g} ms"
    summary = f"capacity: {most:,.0f} requests/s with {goal}" if most else f"no rate was answered with {goal}"
    return {"capacity_per_s": most, "slo": test.slo, "goodput": test.goodput, "steps": tried}, [summary]


def _bodies(test: LoadTest) -> list[bytes]:
    if test.data is not None:
        return bodies.of_folder(test.data, test.model, test.features, test.candidates)
    with Client(test.target, channels=1, tls=test.tls, token=test.token) as client:
        models = client.list_models()
    return bodies.of_model(models, test.model, test.candidates or 100)


def _check(test: LoadTest) -> None:
    for name in ("clients", "processes", "channels", "duration", "deadline_ms"):
        if getattr(test, name) <= 0:
            raise ConfigError(f"--{name.replace('_', '-')} {getattr(test, name):g}: give more than 0")
    for name in ("rate", "candidates", "warmup"):
        if getattr(test, name) < 0:
            raise ConfigError(f"--{name} {getattr(test, name):g}: give 0 or more")
    if not 0 < test.goodput <= 1:
        raise ConfigError(f"--goodput {test.goodput:g}: give a share of the calls, as 0.99")
