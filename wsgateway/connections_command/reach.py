"""How does a process that is no node reach the connections of all nodes?

It reads what stands in Redis. What it posts and closes goes through the owner's inbox, as from any
node; but it takes no lease and stands in no index. It subscribes to an inbox of a random tag for as
long as it waits for replies, and nobody else knows the tag.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wsgateway.cluster.bus import Bus, BusLimits
from wsgateway.cluster.connect import Timeouts, make_client
from wsgateway.cluster.engine import redis_location
from wsgateway.cluster.hub import Hub
from wsgateway.cluster.keys import Keys
from wsgateway.cluster.link import RedisTrouble
from wsgateway.cluster.listing import Listing
from wsgateway.cluster.node import Node
from wsgateway.cluster.redis_store import RedisStore
from wsgateway.cluster.remote import Remote
from wsgateway.cluster.servers import check, servers_of
from wsgateway.connection_id import TAG_SIZE
from wsgateway.entropy import random_bytes
from wsgateway.errors import Fault, OperatorFaults

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from wsgateway.contracts import Callbacks
    from wsgateway.settings import Settings

_CLIENT_NAME = "wsgateway-connections"
_INCARNATION_SIZE = 8


@asynccontextmanager
async def open_listing(settings: Settings, api_id: str) -> AsyncIterator[Listing]:
    """Read what stands in Redis for as long as a block lasts.

    Raises:
        OperatorFaults: Redis is not there, or not as the settings say.
    """
    async with _open_store(settings, api_id) as store:
        yield Listing(store, api_id=api_id)


@asynccontextmanager
async def open_callbacks(settings: Settings, api_id: str) -> AsyncIterator[Callbacks]:
    """Have an end of the bus for as long as a block lasts.

    Raises:
        ContactLost: Redis does not answer.
        OperatorFaults: It is not there, not as the settings say, or allows no subscription.
    """
    async with _open_store(settings, api_id) as store:
        tag = random_bytes(TAG_SIZE)
        # A node's commands would come here too, and find no connection: it has none.
        while (await store.read(tag)).lease is not None:
            tag = random_bytes(TAG_SIZE)
        bus = Bus(
            servers_of(redis_location(settings), _timeouts(settings), client_name=_CLIENT_NAME),
            inbox_of=Keys(settings.redis_prefix, api_id).inbox,
            tag=tag,
            incarnation=random_bytes(_INCARNATION_SIZE).hex(),
            local=Node(Hub()),
            ping_interval_s=settings.redis_timeout_s,
            limits=BusLimits(delivery_timeout_s=settings.delivery_timeout_s),
        )
        bus.start()
        try:
            await _subscribed(bus, settings)
            leases = _Leases(store)
            yield Remote(bus, leases, leases, lookup_timeout_s=settings.redis_timeout_s)
        finally:
            await bus.close()


@asynccontextmanager
async def _open_store(settings: Settings, api_id: str) -> AsyncIterator[RedisStore]:
    location, timeouts = redis_location(settings), _timeouts(settings)
    try:
        await check(location, timeouts, client_name=_CLIENT_NAME)
    except RedisTrouble as error:
        place = settings.place("redis")
        raise OperatorFaults([Fault(place, str(error), "see whether it runs there")]) from error
    client = make_client(location, timeouts=timeouts, client_name=_CLIENT_NAME)
    keys = Keys(settings.redis_prefix, api_id)
    store = RedisStore(client, keys, timeout_s=settings.redis_timeout_s)
    try:
        yield store
    finally:
        await store.close()
        await client.aclose()


def _timeouts(settings: Settings) -> Timeouts:
    return Timeouts(connect_s=settings.redis_timeout_s, answer_s=settings.redis_timeout_s)


async def _subscribed(bus: Bus, settings: Settings) -> None:
    """Wait until replies come back here."""
    try:
        async with asyncio.timeout(settings.redis_timeout_s * 2):
            await bus.subscription.wait_healthy()
    except TimeoutError as error:
        fault = Fault(
            settings.place("redis"),
            f"no subscription: {bus.subscription.problem}",
            "allow this user the channels that begin with the prefix",
        )
        raise OperatorFaults([fault]) from error


@dataclass(frozen=True, slots=True)
class _Leases:
    """What `Remote` asks of a process that has only just come."""

    store: RedisStore

    async def is_live(self, tag: bytes) -> bool:
        """Whether a node holds the lease of a tag, or has left connections behind."""
        reading = await self.store.read(tag)
        return reading.lease is not None or reading.entry_count > 0

    def whole(self) -> bool:
        """Where there is neither lease nor entry, nobody else would find the connection either."""
        return True
