"""The node: where a connection is, and what a backend's post to it comes to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wsgateway.errors import Gone

if TYPE_CHECKING:
    from collections.abc import Callable

    from wsgateway.cluster.hub import Hub
    from wsgateway.connection import ConnectionKey
    from wsgateway.contracts import Callbacks, Connection, ConnectionInfo

DELIVERIES = {
    "calls": "Posts and the like that were sent to other nodes.",
    "answered": "Those that were answered.",
    "not_sent": "Those that did not leave, or that Redis refused.",
    "no_receiver": "Those that no node received.",
    "unanswered": "Those without an answer in time.",
    "too_many": "Those refused because too many were under way.",
    "served": "Posts and the like of other nodes that were answered.",
    "failed": "Those at which this node failed.",
    "unreadable": "Messages in the inbox that no node of this version writes.",
}
"""What is counted of deliveries between nodes, by `Counts`' names."""

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


class Everywhere:
    """`Callbacks` for the connections of all nodes.

    Args:
        here: Those of this node.
        elsewhere: Those of the others; also says what is known of ids that nobody has.
        is_here: Tells whether a connection is open on this node.
    """

    def __init__(
        self, here: Node, elsewhere: Callbacks, is_here: Callable[[ConnectionKey], bool]
    ) -> None:
        self._here = here
        self._elsewhere = elsewhere
        self._is_here = is_here

    async def post(self, key: ConnectionKey, payload: bytes) -> None:
        """Send one message."""
        await self._side(key).post(key, payload)

    async def get(self, key: ConnectionKey) -> ConnectionInfo:
        """Tell what is known of a connection."""
        return await self._side(key).get(key)

    async def delete(self, key: ConnectionKey) -> None:
        """Close a connection with 1000."""
        await self._side(key).delete(key)

    def _side(self, key: ConnectionKey) -> Callbacks:
        return self._here if self._is_here(key) else self._elsewhere
