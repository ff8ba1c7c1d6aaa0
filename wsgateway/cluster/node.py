"""The node: where a connection is, and what a backend's post to it comes to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wsgateway.errors import Gone

if TYPE_CHECKING:
    from wsgateway.cluster.hub import Hub
    from wsgateway.connection import ConnectionKey
    from wsgateway.contracts import Connection, ConnectionInfo

# What API Gateway puts into the close frame and the `$disconnect` event of a deleted connection.
_DELETED = (1000, "Connection Closed Normally")


class Node:
    """`Callbacks` for the connections of this process, which are all there are without Redis."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    async def post(self, key: ConnectionKey, payload: bytes) -> None:
        """Send one message."""
        self._here(key).send(payload)

    async def get(self, key: ConnectionKey) -> ConnectionInfo:
        """Tell what is known of a connection."""
        return self._here(key).info()

    async def delete(self, key: ConnectionKey) -> None:
        """Close a connection with 1000."""
        self._here(key).close(*_DELETED)

    def _here(self, key: ConnectionKey) -> Connection:
        connection = self._hub.find(key)
        if connection is None:
            raise Gone
        return connection
