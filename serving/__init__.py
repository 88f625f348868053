"""The scorer: an exported package behind gRPC, and its client.

The server needs torch and fbgemm, not torchrec, and a CPU is enough. The client needs grpcio, protobuf and numpy:

from swrec_prod.serving import Client
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from swrec_prod.serving.client import Client, ScoredItems

__all__ = ["Client", "ScoredItems"]


def __getattr__(name: str) -> Any:
    """The client, imported when it is asked for: it brings gRPC, which a process that forks workers must not have."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from swrec_prod.serving import client

    return getattr(client, name)
