"""A Redis without a socket: channels, and every way in which it can fail a node."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import hiredis

from wsgateway.cluster.connect import Address
from wsgateway.cluster.link import Link, Refused, Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable

    from wsgateway.cluster.link import Receipt


async def until(condition: Callable[[], object]) -> None:
    """Wait for what other tasks do."""
    async with asyncio.timeout(5):
        # There is no event for what a test looks at from outside.
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0)


HERE = Address("redis", 6379)


class FakeLink(Link):
    """A link into `FakeRedis`."""

    def __init__(self, redis: FakeRedis) -> None:
        super().__init__()
        self._redis = redis

    def send(self, packed: bytes, receipt: Receipt | None) -> None:
        reader = hiredis.Reader()
        reader.feed(packed)
        self._redis.take(reader.gets(), receipt)

    async def subscribe(self, command: bytes, channel: bytes) -> None:
        if self._redis.is_silent:
            await asyncio.get_running_loop().create_future()
        self._redis.channels.setdefault(channel, []).append(self)

    def abort(self) -> None:
        self._redis.forget(self)
        super().abort()


class FakeRedis:
    """What `Servers` finds.

    Attributes:
        channels: Who is subscribed to what.
        published: What was published.
        is_silent: Whether it takes commands and answers nothing.
        is_down: Whether no connection can be made.
        refusal: Every command is answered with it.
        is_losing: Whether what is published arrives nowhere, and is counted all the same.
    """

    sharded = False

    def __init__(self) -> None:
        self.channels: dict[bytes, list[FakeLink]] = {}
        self.links: list[FakeLink] = []
        self.published: list[bytes] = []
        self.is_silent = False
        self.is_down = False
        self.is_losing = False
        self.refusal: str | None = None
        self.refreshed_count = 0

    def take(self, command: list[bytes], receipt: Receipt | None) -> None:
        _, channel, data = command
        self.published.append(data)
        if self.is_silent:
            return
        loop = asyncio.get_running_loop()
        if self.refusal is not None:
            loop.call_soon(_answer, receipt, Refused(self.refusal))
            return
        links = self.channels.get(channel, [])
        loop.call_soon(_answer, receipt, len(links))
        for link in [] if self.is_losing else links:
            loop.call_soon(link.on_message, data)

    def forget(self, link: FakeLink) -> None:
        for links in self.channels.values():
            if link in links:
                links.remove(link)

    def cut(self) -> None:
        """End all connections."""
        links, self.links = self.links, []
        for link in links:
            link.abort()

    # --- Servers

    def lookup(self, channel: bytes) -> Address | None:
        return HERE

    def moved(self, channel: bytes, address: Address) -> None: ...

    async def refresh(self) -> None:
        self.refreshed_count += 1

    async def open(self, address: Address) -> Link:
        if self.is_down:
            raise Unreachable(f"{address}: Connection refused")
        link = FakeLink(self)
        self.links.append(link)
        return link


def _answer(receipt: Receipt | None, value: object) -> None:
    if receipt is not None:
        receipt(value)
