"""The hub: the open connections of this node."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wsgateway.connection import ConnectionKey
    from wsgateway.contracts import Connection


class Hub:
    """A table of open connections by their whole key.

    A connection is in it from the end of its opening handshake to the start of its closing one:
    what is not in it is answered 410.
    """

    def __init__(self) -> None:
        self._connections: dict[ConnectionKey, Connection] = {}

    def add(self, connection: Connection) -> None:
        """Take a connection in."""
        self._connections[connection.entry.key] = connection

    def discard(self, key: ConnectionKey) -> None:
        """Forget a connection; it may have been forgotten already."""
        self._connections.pop(key, None)

    def find(self, key: ConnectionKey) -> Connection | None:
        """Return the connection if it is open here."""
        return self._connections.get(key)

    def __contains__(self, key: ConnectionKey) -> bool:
        """Whether the connection is open here."""
        return key in self._connections

    def __len__(self) -> int:
        """The number of open connections."""
        return len(self._connections)

    def snapshot(self) -> list[Connection]:
        """Return the connections that are open now."""
        return list(self._connections.values())
