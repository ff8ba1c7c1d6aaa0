"""This node among others that share a Redis: joins them, follows what happens to it, and leaves."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import structlog

from wsgateway.cluster.bus import Bus, BusLimits
from wsgateway.cluster.connect import Timeouts, make_client, parse_location
from wsgateway.cluster.contact import Contact
from wsgateway.cluster.keys import Keys
from wsgateway.cluster.leases import Times
from wsgateway.cluster.link import RedisTrouble
from wsgateway.cluster.membership import Membership
from wsgateway.cluster.publisher import Backoff
from wsgateway.cluster.redis_registry import RedisRegistry
from wsgateway.cluster.redis_store import RedisStore
from wsgateway.cluster.remote import Remote
from wsgateway.cluster.servers import check, servers_of
from wsgateway.cluster.store import ContactLost
from wsgateway.connection_id import owner_tag
from wsgateway.errors import Fault, OperatorFaults

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from wsgateway.cluster.connect import Location
    from wsgateway.cluster.membership import Health
    from wsgateway.connection import ConnectionEntry, ConnectionKey
    from wsgateway.contracts import Callbacks, ConnectionInfo
    from wsgateway.settings import Settings

log = structlog.stdlib.get_logger(__name__)

# How often a node looks whether its inbox still works, in parts of the lease time.
_PINGS_IN_A_LEASE = 3
# Between two attempts to take a tag.
_TAG_PAUSE_S = 0.05
_CLIENT_NAME = "wsgateway"


def redis_location(settings: Settings) -> Location:
    """Return where Redis is.

    Raises:
        OperatorFaults: The settings say what cannot be.
    """
    assert settings.redis is not None, "asked before"
    try:
        location = parse_location(
            settings.redis,
            ca_file=settings.redis_ca_file,
            username=settings.redis_username,
            password=settings.redis_password,
        )
        Keys(settings.redis_prefix, "")
    except ValueError as error:
        problem, _, remedy = str(error).partition("; ")
        raise OperatorFaults(
            [Fault(settings.place("redis"), problem, remedy or "see docs/scaling.md")]
        ) from error
    return location


class Engine:
    """One node's place among the others.

    It is `Callbacks` for the connections of other nodes.

    Args:
        location: Where Redis is.
        settings: Durations and bounds.
        api_id: Of every key.
        local: Carries out what other nodes ask.
        orphan: Delivers the `$disconnect` of a connection whose node is gone: entry, request id,
            code, reason.
        on_fenced: Called when the others have given this node up: every connection is closed.
        on_joined: Called with the tag that new ids carry from now on.
        entropy: Returns that many random bytes.

    Attributes:
        registry: Of this node's connections.
    """

    def __init__(
        self,
        location: Location,
        settings: Settings,
        *,
        api_id: str,
        local: Callbacks,
        orphan: Callable[[ConnectionEntry, str, int, str], Awaitable[None]],
        on_fenced: Callable[[], None],
        on_joined: Callable[[bytes], None],
        entropy: Callable[[int], bytes],
    ) -> None:
        self._location = location
        self._settings = settings
        self._local = local
        self._on_joined = on_joined
        self._timeouts = Timeouts(
            connect_s=settings.redis_timeout_s, answer_s=settings.redis_timeout_s
        )
        self._keys = Keys(settings.redis_prefix, api_id)
        self._client = make_client(location, timeouts=self._timeouts, client_name=_CLIENT_NAME)
        self._store = RedisStore(
            self._client,
            self._keys,
            # A command that waits longer than between two heartbeats could outlast an amnesty.
            timeout_s=min(settings.redis_timeout_s, Times(settings.lease_s).beat_interval_s),
            open_timeout_s=settings.redis_timeout_s,
        )
        self._contact = Contact()
        self.registry = RedisRegistry(
            self._store,
            self._contact,
            api_id=api_id,
            timeout_s=settings.redis_timeout_s,
            accepts_unwritten=settings.redis_down == "accept",
        )
        self._membership = Membership(
            self._store,
            self._contact,
            self.registry,
            api_id=api_id,
            lease_s=settings.lease_s,
            orphan=orphan,
            on_fenced=on_fenced,
            on_joined=self._joined,
            entropy=entropy,
            recovery_concurrency_max=settings.disconnect_concurrency_max,
            recovery_rate_max=settings.recovery_rate,
        )
        self._bus: Bus | None = None
        self._remote: Remote | None = None
        self._moving: asyncio.Task[None] | None = None

    # --- life

    async def start(self) -> None:
        """Join the others.

        Raises:
            OperatorFaults: Redis is not there, and is not to be waited for.
        """
        tag = await self._join()
        bus = Bus(
            servers_of(self._location, self._timeouts, client_name=_CLIENT_NAME),
            inbox_of=self._keys.inbox,
            tag=tag,
            incarnation=self._membership.incarnation,
            local=self._local,
            ping_interval_s=self._settings.lease_s / _PINGS_IN_A_LEASE,
            limits=BusLimits(delivery_timeout_s=self._settings.delivery_timeout_s),
        )
        bus.start()
        self._bus = bus
        try:
            # Until then other nodes cannot reach this one; Redis may just have gone again.
            async with asyncio.timeout(self._settings.lease_s):
                await bus.subscription.wait_healthy()
        except TimeoutError:
            log.warning("other nodes do not reach this one yet")
        self._remote = Remote(bus, self, self, lookup_timeout_s=self._settings.redis_timeout_s)
        self._on_joined(tag)

    async def _join(self) -> bytes:
        backoff = Backoff()
        while True:
            try:
                await check(
                    self._location,
                    self._timeouts,
                    client_name=_CLIENT_NAME,
                    # No node has a tag of that size.
                    inbox=self._keys.inbox(bytes(4)).encode(),
                )
                return await self._take_tag()
            except (RedisTrouble, ContactLost) as error:
                if not self._settings.redis_wait:
                    await self._close_clients()
                    place = self._settings.place("redis")
                    problem, _, remedy = str(error).partition("; ")
                    remedy = remedy or "start it, or wait for it with --redis-wait"
                    raise OperatorFaults([Fault(place, problem, remedy)]) from error
                log.warning("waiting for Redis", error=str(error))
            await asyncio.sleep(backoff.failed())

    async def _take_tag(self) -> bytes:
        """Begin to take part; opening a connection may take longer than a command may.

        Raises:
            ContactLost: It takes longer than a connection may, too.
        """
        gives_up_at = time.monotonic() + self._settings.redis_timeout_s
        while True:
            try:
                return await self._membership.start()
            except ContactLost:
                if time.monotonic() >= gives_up_at:
                    raise
                await asyncio.sleep(_TAG_PAUSE_S)

    async def stop(self) -> int:
        """Leave, and let others deliver what is not finished.

        Returns:
            How many `$disconnect`s are left to them.
        """
        left = await self._membership.stop(hand_over=True)
        if self._moving is not None:
            await asyncio.gather(self._moving, return_exceptions=True)
        if self._bus is not None:
            await self._bus.close()
        await self._close_clients()
        return left

    async def _close_clients(self) -> None:
        await self._store.close()
        await self._client.aclose()

    def _joined(self, tag: bytes) -> None:
        """Go on under another tag, after the others have given this node up."""
        self._on_joined(tag)
        if self._bus is not None:
            self._moving = asyncio.create_task(self._bus.move(tag, self._membership.incarnation))

    # --- what Remote asks

    async def is_live(self, tag: bytes) -> bool:
        """Whether a node may be alive under a tag.

        A Redis that restarted empty, or failed over, has forgotten leases of nodes that live: only
        a fence, or never having heard of it, says that there is none.

        Raises:
            ContactLost: Redis does not say, or has forgotten this node as well.
        """
        reading = await self._store.read(tag)
        if reading.lease is not None:
            return True
        own = self._contact.tag
        if own is None or (await self._store.read(own)).lease is None:
            raise ContactLost("Redis has forgotten this node, so perhaps others too")
        return reading.fence is None and self._membership.knows(tag)

    def whole(self) -> bool:
        """Whether contact has been unbroken for a lease time."""
        opened_at_s = self._contact.opened_at_s
        return opened_at_s is not None and (
            time.monotonic() - opened_at_s >= self._settings.lease_s
        )

    # --- connections of other nodes

    async def post(self, key: ConnectionKey, payload: bytes) -> None:
        """Send one message."""
        await self._owner(key).post(key, payload)

    async def get(self, key: ConnectionKey) -> ConnectionInfo:
        """Tell what is known of a connection."""
        return await self._owner(key).get(key)

    async def delete(self, key: ConnectionKey) -> None:
        """Close a connection with 1000."""
        await self._owner(key).delete(key)

    def _owner(self, key: ConnectionKey) -> Callbacks:
        """Return who knows of a connection: this node of those with its own tag."""
        assert self._remote is not None, "nothing is served before start()"
        return self._local if owner_tag(key.connection_id) == self._contact.tag else self._remote

    # --- for operators

    def health(self) -> Health:
        """Tell how things are."""
        return self._membership.health()

    @property
    def is_reachable(self) -> bool:
        """Whether Redis answers, and other nodes reach this one."""
        return (
            self._contact.session is not None
            and self._bus is not None
            and self._bus.subscription.healthy_since is not None
        )

    def delivery_count(self, name: str) -> int:
        """Return one of the counts of what was delivered between nodes."""
        count: int = 0 if self._bus is None else getattr(self._bus.counts, name)
        return count
