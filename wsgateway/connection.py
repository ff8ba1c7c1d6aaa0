"""What is known of a connection: from its opening handshake, and for as long as it lasts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence


class ConnectionKey(NamedTuple):
    """What every look-up of a connection uses: an id of another stage is another connection."""

    api_id: str
    stage: str
    connection_id: str


@dataclass(frozen=True, slots=True)
class ConnectionEntry:
    """What is known of a connection from its handshake on, and all a later `$disconnect` needs.

    Attributes:
        key: Whose it is.
        connected_at_ms: Epoch in milliseconds, the same in every event of the connection.
        domain_name: The `Host` the client sent, port included.
        source_ip: The immediate peer.
        user_agent: None when the client sent none.
    """

    key: ConnectionKey
    connected_at_ms: int
    domain_name: str
    source_ip: str
    user_agent: str | None


@dataclass(frozen=True, slots=True)
class Handshake:
    """A well-formed opening handshake, as far as RFC 6455 goes; nothing is decided yet.

    Attributes:
        target: The request target as received, in origin form.
        headers: Names as the client wrote them, values decoded as latin-1, in order.
        host: The one `Host` header.
        source_ip: The immediate peer.
        scheme: `http` or `https`.
        port: The port the client connected to.
        received_at_ms: Epoch in milliseconds.
    """

    target: str
    headers: Sequence[tuple[str, str]]
    host: str
    source_ip: str
    scheme: str
    port: int
    received_at_ms: int
