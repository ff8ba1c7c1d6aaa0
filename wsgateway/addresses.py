"""How does a URL name an address that a socket listens on?"""

from __future__ import annotations

# A server's way to say all of its addresses; no client can connect to it everywhere.
_LOOPBACK_OF_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - compared with


def authority(host: str, port: int) -> str:
    """Return host and port of a URL; this machine's loopback where every address is listened on."""
    host = _LOOPBACK_OF_ANY.get(host, host)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
