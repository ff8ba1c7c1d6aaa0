"""What a backend's request comes to when another node holds the connection."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from wsgateway.cluster.bus import NoReceiver, OwnerFailed
from wsgateway.cluster.wire_form import Kind, Outcome
from wsgateway.connection_id import owner_tag
from wsgateway.errors import DeliveryFailed, Gone, LimitExceeded

if TYPE_CHECKING:
    from wsgateway.cluster.bus import Bus
    from wsgateway.cluster.wire_form import Reply
    from wsgateway.connection import ConnectionKey
    from wsgateway.contracts import ConnectionInfo


class Leases(Protocol):
    """Which nodes live."""

    async def is_live(self, tag: bytes) -> bool:
        """Whether a node holds the lease of a tag now. Raises when Redis does not say."""
        ...


class ContactState(Protocol):
    """Whether this node may believe what it finds missing in Redis."""

    def whole(self) -> bool:
        """Whether there has been unbroken contact for a full lease time."""
        ...


class Remote:
    """`Callbacks` for the connections of other nodes.

    The owner is in the connection's id, so nothing is looked up for a post.

    | what happens | answer |
    | --- | --- |
    | the owner has written it | returns: 200 |
    | the owner does not have the connection | `Gone`: 410 |
    | the client does not read | `LimitExceeded`: 429 |
    | no receiver, and a live lease | `DeliveryFailed`: 500, safe to retry |
    | no receiver, no lease, contact with Redis whole | `Gone`: 410 |
    | no receiver, and the rest is not known | `DeliveryFailed`: 500, safe to retry |
    | not sent | `DeliveryFailed`: 500, safe to retry |
    | sent, and no answer in time | `DeliveryFailed`: 500, a retry may duplicate |
    | too much under way | `LimitExceeded`: 429 |
    """

    def __init__(
        self, bus: Bus, leases: Leases, contact: ContactState, *, lookup_timeout_s: float = 2.0
    ) -> None:
        self._bus = bus
        self._leases = leases
        self._contact = contact
        self._lookup_timeout_s = lookup_timeout_s

    async def post(self, key: ConnectionKey, payload: bytes) -> None:
        """Send one message."""
        reply = await self._call(Kind.POST, key, payload)
        if reply.outcome != Outcome.WRITTEN:
            raise _refusal(reply)

    async def get(self, key: ConnectionKey) -> ConnectionInfo:
        """Tell what is known of a connection."""
        reply = await self._call(Kind.GET, key)
        if reply.info is None:
            raise _refusal(reply)
        return reply.info

    async def delete(self, key: ConnectionKey) -> None:
        """Close a connection with 1000."""
        reply = await self._call(Kind.DELETE, key)
        if reply.outcome != Outcome.WRITTEN:
            raise _refusal(reply)

    async def _call(self, kind: Kind, key: ConnectionKey, payload: bytes = b"") -> Reply:
        tag = owner_tag(key.connection_id)
        if tag is None:
            raise Gone
        try:
            return await self._bus.call(tag, kind, key, payload)
        except NoReceiver:
            if await self._is_live(tag) or not self._contact.whole():
                raise
            raise Gone from None

    async def _is_live(self, tag: bytes) -> bool:
        try:
            async with asyncio.timeout(self._lookup_timeout_s):
                return await self._leases.is_live(tag)
        except Exception as error:
            # Whatever keeps the answer away: the node may live.
            raise DeliveryFailed(f"nobody receives, and the lease is not known: {error}") from error


def _refusal(reply: Reply) -> Gone | LimitExceeded | DeliveryFailed:
    match reply.outcome:
        case Outcome.GONE:
            return Gone()
        case Outcome.FULL:
            return LimitExceeded()
        case outcome:
            return OwnerFailed(f"the owner says {outcome.name}")
