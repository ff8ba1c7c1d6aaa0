"""Publishes to inboxes: all that is published in one turn of the event loop shares a write."""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING

import structlog

from wsgateway.cluster.connect import Address
from wsgateway.cluster.link import (
    LinkLost,
    RedisTrouble,
    Refused,
    Unreachable,
    pack,
    read_greeting,
)
from wsgateway.limits import MESSAGE_SIZE_MAX

if TYPE_CHECKING:
    from wsgateway.cluster.link import Link, Receipt
    from wsgateway.cluster.servers import Servers

log = structlog.stdlib.get_logger(__name__)

QUEUE_SIZE_MAX = 64 * MESSAGE_SIZE_MAX
"""Bytes that wait for one server, 8 MiB: a full second of what one node can publish."""
# What replies and pings may take on top of that.
_RESERVE = 16 * MESSAGE_SIZE_MAX
_PUBLISH = b"*3\r\n$7\r\nPUBLISH\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n"
_SPUBLISH = b"*3\r\n$8\r\nSPUBLISH\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n"
_HELLO = pack((b"HELLO",))

_RETRY_MIN_S = 0.05
_RETRY_MAX_S = 1.0
_REFRESH_PAUSE_S = 0.2


class NotPublished(RedisTrouble):
    """It was not sent, and will not be."""


class QueueFull(NotPublished):
    """Redis takes it too slowly."""


class Backoff:
    """Pauses that double from one failure to the next, with jitter."""

    def __init__(self, first_s: float = _RETRY_MIN_S, max_s: float = _RETRY_MAX_S) -> None:
        self._first_s = first_s
        self._max_s = max_s
        self._failures = 0

    def succeeded(self) -> None:
        """Begin with the shortest pause again."""
        self._failures = 0

    def failed(self) -> float:
        """Return how long to wait now."""
        pause_s = min(self._max_s, self._first_s * 2**self._failures)
        self._failures = min(self._failures + 1, 16)
        return random.uniform(pause_s / 2, pause_s)  # noqa: S311 - spreads load, no secret


class Publisher:
    """One link per server, opened when it is first needed and when it is lost.

    Args:
        servers: Which server holds a channel.
        queue_size_max: Bytes that may wait for one server.
    """

    def __init__(self, servers: Servers, *, queue_size_max: int = QUEUE_SIZE_MAX) -> None:
        self._servers = servers
        self._queue_size_max = queue_size_max
        self._ways: dict[Address, _Way] = {}
        self._refreshing: asyncio.Task[None] | None = None
        self._refreshed_at = -_REFRESH_PAUSE_S
        self._closed = False

    def publish(
        self, channel: bytes, data: bytes, receipt: Receipt, *, urgent: bool = False
    ) -> None:
        """Send something to an inbox.

        Args:
            channel: The inbox.
            data: What to send.
            receipt: Called once, with the number of receivers or with what went wrong:
                `NotPublished` and `Refused` mean that nobody got it, `LinkLost` that nobody knows.
            urgent: A reply or a ping: commands must not keep it out.

        Raises:
            NotPublished: It is certain already that it cannot be sent; `receipt` is not called.
        """
        if self._servers.sharded:
            packed = _SPUBLISH % (len(channel), channel, len(data), data)
            receipt = _Redirected(self, channel, packed, receipt)
        else:
            packed = _PUBLISH % (len(channel), channel, len(data), data)
        self._send(channel, packed, receipt, self._queue_size_max + _RESERVE * urgent)

    def _send(self, channel: bytes, packed: bytes, receipt: Receipt, size_max: int) -> None:
        address = self._servers.lookup(channel)
        if address is None or self._closed:
            self.refresh_soon()
            raise NotPublished("no server is known that holds the inbox")
        way = self._ways.get(address)
        if way is None:
            way = self._ways[address] = _Way(self, self._servers, address)
        if way.queued_size + len(packed) > size_max:
            raise QueueFull(f"{address}: {way.queued_size} bytes wait")
        way.send(packed, receipt)

    def follow(self, channel: bytes, packed: bytes, receipt: Receipt, refusal: Refused) -> bool:
        """Send a command again that a server of a cluster has refused, if it says where.

        Returns:
            Whether `receipt` will hear of it.
        """
        self.refresh_soon()
        if refusal.code != "MOVED":
            return False
        # MOVED 3999 127.0.0.1:6381
        host, _, port = str(refusal).rpartition(" ")[2].rpartition(":")
        if not host or not port.isdigit():
            return False
        self._servers.moved(channel, Address(host, int(port)))
        try:
            self._send(channel, packed, receipt, self._queue_size_max + _RESERVE)
        except NotPublished:
            return False
        return True

    def verify(self, channel: bytes, receipt: Receipt) -> None:
        """Tell apart why nobody received: there is nobody, or this is the wrong server.

        A server that has become a replica takes what is published, passes it on to its shard,
        and counts only its own subscribers.
        """

        def verified(answer: object) -> None:
            try:
                is_master = read_greeting(answer).role == "master"
            except RedisTrouble:
                is_master = False
            if is_master:
                receipt(0)
            else:
                self.refresh_soon()
                receipt(LinkLost("it was published at a replica"))

        try:
            self._send(channel, _HELLO, verified, self._queue_size_max + _RESERVE)
        except NotPublished as error:
            receipt(LinkLost(str(error)))

    def distrust(self, channel: bytes) -> None:
        """Cut the link to the server of a channel: what was sent did not come back.

        The next publish opens another.
        """
        address = self._servers.lookup(channel)
        if address is not None and (way := self._ways.get(address)) is not None:
            way.cut()

    def refresh_soon(self) -> None:
        """Ask where the servers are, unless that has just been done."""
        if self._closed or (self._refreshing is not None and not self._refreshing.done()):
            return
        if time.monotonic() - self._refreshed_at >= _REFRESH_PAUSE_S:
            self._refreshing = asyncio.create_task(self._refresh())

    async def _refresh(self) -> None:
        try:
            await self._servers.refresh()
            # Servers come and go; those that went are not to be kept for ever.
            self._ways = {a: way for a, way in self._ways.items() if not way.is_idle}
        except RedisTrouble as error:
            log.debug("no server of Redis says where the others are", reason=str(error))
        finally:
            self._refreshed_at = time.monotonic()

    async def close(self) -> None:
        """Close the links; what is queued for servers that take it goes out first."""
        self._closed = True
        if self._refreshing is not None:
            self._refreshing.cancel()
            await asyncio.gather(self._refreshing, return_exceptions=True)
        await asyncio.gather(*(way.close() for way in list(self._ways.values())))
        self._ways.clear()


class _Redirected:
    """A receipt on a cluster: follows one `MOVED`, and does not believe in nobody at once."""

    __slots__ = ("_channel", "_packed", "_publisher", "_receipt")

    def __init__(
        self, publisher: Publisher, channel: bytes, packed: bytes, receipt: Receipt
    ) -> None:
        self._publisher = publisher
        self._channel = channel
        self._packed = packed
        self._receipt = receipt

    def __call__(self, value: object) -> None:
        publisher, receipt = self._publisher, self._receipt
        if value == 0:
            publisher.verify(self._channel, receipt)
        elif not isinstance(value, Refused) or not publisher.follow(
            self._channel, self._packed, receipt, value
        ):
            receipt(value)


class _Way:
    """The way to one server: closed, opening (what is sent waits), or open."""

    def __init__(self, publisher: Publisher, servers: Servers, address: Address) -> None:
        self._publisher = publisher
        self._servers = servers
        self.address = address
        self._link: Link | None = None
        self._waiting: list[tuple[bytes, Receipt]] = []
        self._waiting_size = 0
        self._opening: asyncio.Task[None] | None = None
        self._backoff = Backoff()
        self._retry_at = 0.0
        self._problem = ""

    @property
    def queued_size(self) -> int:
        """Bytes that the kernel has not taken."""
        return self._waiting_size if self._link is None else self._link.queued_size

    def send(self, packed: bytes, receipt: Receipt) -> None:
        if self._link is not None and not self._link.lost.done():
            self._link.send(packed, receipt)
            return
        if self._opening is None:
            if time.monotonic() < self._retry_at:
                raise NotPublished(self._problem)
            self._opening = asyncio.create_task(self._open())
        self._waiting.append((packed, receipt))
        self._waiting_size += len(packed)

    async def _open(self) -> None:
        try:
            link = await self._servers.open(self.address)
        except Unreachable as error:
            self._problem = str(error)
            self._retry_at = time.monotonic() + self._backoff.failed()
            self._publisher.refresh_soon()
            self._drop(NotPublished(self._problem))
            return
        except asyncio.CancelledError:
            self._drop(NotPublished("the node is stopping"))
            raise
        finally:
            self._opening = None
        self._backoff.succeeded()
        self._link = link
        link.lost.add_done_callback(lambda _: self._lost(link))
        waiting, self._waiting, self._waiting_size = self._waiting, [], 0
        for packed, receipt in waiting:
            link.send(packed, receipt)

    def _drop(self, error: NotPublished) -> None:
        waiting, self._waiting, self._waiting_size = self._waiting, [], 0
        for _, receipt in waiting:
            receipt(error)

    def _lost(self, link: Link) -> None:
        self._publisher.refresh_soon()
        if self._link is link:
            self._link = None

    def cut(self) -> None:
        if self._link is not None:
            self._link.abort()
            self._link = None

    @property
    def is_idle(self) -> bool:
        """Whether nothing would be lost with it."""
        is_closed = self._link is None and self._opening is None
        return is_closed and time.monotonic() >= self._retry_at

    async def close(self) -> None:
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.gather(self._opening, return_exceptions=True)
        if self._link is not None:
            await self._link.close()
