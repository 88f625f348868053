"""Every error that a user can mend. The command line prints one as a single line and exits with 2.

    SwrecError (ValueError)
    |- ConfigError        a run, data or experiment file, or a command-line override
    |- SchemaError        a feature schema
    |- DataError          raw logs, prepared days, predictions
    |- CheckpointError    a RUN_DIR or a checkpoint in it
    |- StoppedError       a run that was told to leave, or lost a rank; exit code 75: the same command goes on
    |- DivergedError      a loss that is no number, or explodes
    |- PackageError       an exported package: checksum, version, parity
    |- MetricError        a figure that cannot be computed
    |  '- SingleClassError   all labels are equal, so a ranking metric has no value
    |- RequestError       a scoring request: gRPC INVALID_ARGUMENT
    |  |- NotFoundError      an unknown scenario, model or version: gRPC NOT_FOUND
    |  '- CallerError        a caller that is not known, or may not do this: gRPC UNAUTHENTICATED, PERMISSION_DENIED
    '- ServerError        a fault of the server's own: gRPC INTERNAL; the request may be right
       |- BusyError          too much to do, or a quota is used up: gRPC RESOURCE_EXHAUSTED
       |- ExpiredError       no answer within the deadline: gRPC DEADLINE_EXCEEDED
       '- UnavailableError   no server there, or one that is about to end: gRPC UNAVAILABLE

A message names the thing, the offending value and what would be right, on one line.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SwrecError(ValueError):
    """Base of all errors that a user can mend."""


class ConfigError(SwrecError):
    """A run, data or experiment configuration is wrong."""


class SchemaError(SwrecError):
    """A feature schema is wrong."""


class DataError(SwrecError):
    """Raw or prepared data are missing, damaged or not as the schema says."""


class CheckpointError(SwrecError):
    """A run directory or checkpoint is missing, damaged or does not fit the model."""


class StoppedError(SwrecError):
    """A run has ended before it was done, and the same command goes on with it."""


class DivergedError(SwrecError):
    """The loss is no number any more, or explodes."""


class PackageError(SwrecError):
    """An exported package is damaged, incomplete or disagrees with its golden scores."""


class MetricError(SwrecError):
    """A figure cannot be computed from the given rows."""


class SingleClassError(MetricError):
    """All labels are equal, so a ranking metric has no value."""


class RequestError(SwrecError):
    """A scoring request is malformed."""


class NotFoundError(RequestError):
    """A request names a scenario, model or version that is not served."""


class CallerError(RequestError):
    """A caller is not known to the server, or may not do what it asks for.

    is_known: whether it is known: gRPC PERMISSION_DENIED instead of UNAUTHENTICATED.
    """

    def __init__(self, message: str, is_known: bool = False) -> None:
        super().__init__(message)
        self.is_known = is_known


class ServerError(SwrecError):
    """A server is not there, too slow, or has failed; the request may be right."""


class BusyError(ServerError):
    """A request was refused because it could not be answered in time, or a quota is used up.

    pushback_ms: when to ask again, milliseconds; -1: not at all.
    """

    def __init__(self, message: str, pushback_ms: int = -1) -> None:
        super().__init__(message)
        self.pushback_ms = pushback_ms


class ExpiredError(ServerError):
    """A deadline passed before there was an answer."""


class UnavailableError(ServerError):
    """No server is there, or it is about to end."""


LONGEST_WORD = 100  # characters; comparing takes time in proportion to them, and a client may send millions


def shown(value: object) -> str:
    """A value as a message quotes it, of a long text its beginning.

    >>> shown("home"), shown("x" * 5000) == repr("x" * 100) + "..."
    ("'home'", True)
    """
    is_long = isinstance(value, (str, bytes)) and len(value) > LONGEST_WORD
    return f"{value[:LONGEST_WORD]!r}..." if is_long else repr(value)  # type: ignore[index]


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint that ends an error message: the nearest known word, and all of them.

    >>> nearest("num_expert", ["num_experts", "expert"])
    'did you mean num_experts? (known: num_experts, expert)'
    >>> nearest("xyz", ["num_experts", "expert"])
    'known: num_experts, expert'
    """
    names = list(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.6) if len(word) <= LONGEST_WORD else []
    shown = ", ".join(names[:20]) + (f", ... {len(names) - 20} more" if len(names) > 20 else "")
    return f"did you mean {close[0]}? (known: {shown})" if close else f"known: {shown or 'none'}"
