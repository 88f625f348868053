"""The callers file: who may ask this server, how much, and for what.

    callers:
      feed:
        token_sha256: 3c469e9d6c5875d37a43f353d4f88e61fcf812c66eee3457465a40b0da4153e0
        requests_per_second: 500
        milliseconds_per_second: 400
        may_choose: [model, strength]

The file never holds a token, but its SHA-256. To make a token, and the line that belongs to it:

    openssl rand -hex 32 | tee token
    printf %s "$(cat token)" | sha256sum

A caller sends `authorization: Bearer TOKEN` as metadata of every call. Quotas are those of one worker process: a caller
with one connection has one worker. `swrec serve --callers FILE` reads it; without TLS it refuses to where other
machines reach the address, unless `--insecure` says that something else protects the tokens.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from swrec_prod.errors import CallerError, ConfigError
from swrec_prod.serving.protocol.call import ScoreCall
from swrec_prod.serving.service.quotas import Quota
from swrec_prod.strict import Strict, load

SCHEME = "bearer "
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class CallerConfig(Strict):
    """One caller.

    token_sha256: the SHA-256 of the caller's token, 64 hexadecimal digits.
    requests_per_second: how many requests it may send a second to one worker, and at once; default: any number.
    milliseconds_per_second: how much estimated work its requests may be a second on one worker; default: any.
    may_choose: what its requests may say instead of the server: `model` (with its version), `strength` (c) and
        `variant` (of experiments); default: all of these.
    """

    token_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    requests_per_second: Rate | None = None
    milliseconds_per_second: Rate | None = None
    may_choose: tuple[Literal["model", "strength", "variant"], ...] = ("model", "strength", "variant")


class CallersConfig(Strict):
    """The file.

    callers: by name, at least one.
    """

    callers: dict[str, CallerConfig] = Field(min_length=1)


class Caller:
    """A caller, as one worker knows it."""

    def __init__(self, name: str, config: CallerConfig) -> None:
        self.name = name
        self.quota = Quota(config.requests_per_second, config.milliseconds_per_second)
        self._digest = bytes.fromhex(config.token_sha256)
        self._may_choose = config.may_choose

    def has(self, digest: bytes) -> bool:
        """Whether this is the SHA-256 of its token; takes equally long whatever differs."""
        return hmac.compare_digest(self._digest, digest)

    def check(self, call: ScoreCall) -> None:
        """Raises CallerError for a choice that it may not make."""
        chosen = {
            "model": bool(call.model or call.version),
            "strength": call.debias_strength is not None,
            "variant": bool(call.forced),
        }
        for what, is_chosen in chosen.items():
            if is_chosen and what not in self._may_choose:
                raise CallerError(
                    f"caller {self.name!r} may not choose the {what}; leave it out, or ask for may_choose: [{what}]",
                    is_known=True,
                )


class Callers:
    """All callers that a server knows."""

    def __init__(self, config: CallersConfig) -> None:
        self._callers = [Caller(name, caller) for name, caller in config.callers.items()]

    @classmethod
    def load(cls, path: Path) -> Callers:
        """Raises ConfigError naming file, key and what would be right."""
        config = load(CallersConfig, path)
        by_digest: dict[str, str] = {}
        for name, caller in config.callers.items():
            if (other := by_digest.setdefault(caller.token_sha256, name)) != name:
                raise ConfigError(f"{path}: callers.{name}.token_sha256: caller {other!r} has the same token")
        return cls(config)

    def caller(self, metadata: Iterable[tuple[str, str | bytes]]) -> Caller:
        """Who sends a call with this metadata. Raises CallerError for one whose token is none of the file's."""
        token = _token(dict(metadata))
        digest = hashlib.sha256(token.encode(errors="surrogatepass")).digest()
        for caller in self._callers:
            if caller.has(digest):
                return caller
        raise CallerError("the token is none that this server knows; ask who runs it for one")


def _token(metadata: Mapping[str, str | bytes]) -> str:
    given = metadata.get("authorization", "")
    if not isinstance(given, str) or not given.lower().startswith(SCHEME):
        raise CallerError("the server wants a token: send it as metadata `authorization: Bearer TOKEN`")
    return given[len(SCHEME) :].strip()
