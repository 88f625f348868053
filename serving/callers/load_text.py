"""A load in words and numbers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from swrec_prod.serving.callers.capacity import Step
from swrec_prod.serving.callers.load import LoadResult

BUSY_CLIENT = 0.85  # CPU share of a client's process from which on its figures are its own rather than the server's


def line(step: Step) -> str:
    """A step of a ramp on one line."""
    result = step.result
    p50, p99 = (1e3 * result.answered.quantile(q) for q in (0.5, 0.99))
    good = result.within / max(1, result.calls)
    verdict = "holds" if step.met else "fails"
    latency = f"p50 {p50:.2f} ms, p99 {p99:.2f} ms"
    return f"{verdict}: {step.rate:,.0f} requests/s offered, {good:.1%} good, {latency}{hint(result)}"


def hint(result: LoadResult) -> str:
    """A warning where the client is what is slow."""
    if result.cpu_share < BUSY_CLIENT:
        return ""
    return f" (the client is busy: {result.cpu_share:.0%} of a core; use more --processes)"


def as_dict(result: LoadResult) -> dict[str, Any]:
    """A load for programs: rates a second, times in milliseconds, None where nothing was counted."""
    return {
        "seconds": result.seconds,
        "offered_per_s": result.offered,
        "ok_per_s": result.rate,
        "goodput_per_s": result.goodput,
        "codes_per_s": {code: count / result.seconds for code, count in sorted(result.codes.items())},
        "answered": _known(result.answered.summary()),
        "refused": _known(result.refused.summary()),
        "sent_late": _known(result.late.summary()),
        "client_cpu_share": result.cpu_share,
        "client_processes": result.processes,
    }


def _known(times: dict[str, float]) -> dict[str, float | None]:
    return {name: None if value != value else value for name, value in times.items()}


def text(result: LoadResult) -> Iterator[str]:
    """A load as lines for a reader."""
    yield f"offered: {result.offered:,.1f} requests/s for {result.seconds:g} s"
    for code, count in sorted(result.codes.items(), key=lambda item: -item[1]):
        yield f"{code}: {count / result.seconds:,.1f}/s"
    yield f"goodput: {result.goodput:,.1f}/s inside the deadline"
    for name, times in (("answers", result.answered), ("refusals", result.refused), ("sent late by", result.late)):
        if times.count:
            yield f"{name}: " + ", ".join(
                f"{key.replace('_ms', '')} {ms:.2f} ms" for key, ms in times.summary().items()
            )
    yield f"client: {result.cpu_share:.0%} of a core in each of {result.processes} process(es){hint(result)}"
