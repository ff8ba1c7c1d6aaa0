"""Ports that nobody uses."""

from __future__ import annotations

import random
import socket
from contextlib import suppress

# Above what is started for good, and below what the kernel gives to those who ask for any port or
# connect: whoever does so meanwhile does not get it, nor reaches itself there.
_PORTS = range(20_000, 32_000)


def free_port() -> int:
    """Return a port of nobody's; so is the next one, as good as always."""
    while True:
        port = random.choice(_PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
