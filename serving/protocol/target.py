"""How an address is written."""

from __future__ import annotations


def target(host: str, port: int) -> str:
    """host:port, as gRPC and URLs want it: an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
