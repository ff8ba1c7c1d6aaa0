"""A node's subscription to its inbox, and the task that keeps it.

Being subscribed is nothing that one can see: a server that fails over, or that is cut off, leaves
an idle subscriber waiting for ever. So the node writes to its own inbox, again and again, and a
ping that does not come back ends the subscription and what published the ping. Then the servers
are looked up anew, and the next subscription is built from nothing.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import structlog

from wsgateway.cluster import wire_form
from wsgateway.cluster.link import RedisTrouble
from wsgateway.cluster.publisher import Backoff

if TYPE_CHECKING:
    from collections.abc import Callable

    from wsgateway.cluster.link import Link
    from wsgateway.cluster.publisher import Publisher
    from wsgateway.cluster.servers import Servers

log = structlog.stdlib.get_logger(__name__)

# Between two attempts to send one ping.
_PING_PAUSE_S = 0.05


class SubscriptionLost(RedisTrouble):
    """The inbox gets nothing any more."""


class Subscription:
    """Keeps one inbox subscribed.

    Args:
        servers: Which server holds the inbox.
        publisher: Sends the pings, on the way that replies take.
        channel: The inbox.
        incarnation: This node's, which its pings carry.
        on_message: Takes what arrives, pings excepted. It must not raise.
        ping_interval_s: From one ping to the next, and how long one may take. A third of the
            lease time finds a silent loss before anybody gives the node up.

    Attributes:
        healthy_since: Monotonic seconds; None while it is lost.
        lost_since: Monotonic seconds; None while it is healthy. Lost from the start.
        lost_count: How often it was lost after it had been healthy.
        problem: Why it is lost.
    """

    def __init__(
        self,
        servers: Servers,
        publisher: Publisher,
        *,
        channel: bytes,
        incarnation: str,
        on_message: Callable[[bytes], None],
        ping_interval_s: float,
    ) -> None:
        self._servers = servers
        self._publisher = publisher
        self._channel = channel
        self._incarnation = incarnation
        self._on_message = on_message
        self._ping_interval_s = ping_interval_s
        self._token = 0
        self._echo: asyncio.Future[bool] | None = None
        self._unsent = ""
        self._task: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self.healthy_since: float | None = None
        self.lost_since: float | None = time.monotonic()
        self.lost_count = 0
        self.problem = "it has not begun"

    def start(self) -> None:
        """Begin to subscribe; it goes on by itself until it is closed."""
        assert self._task is None
        self._task = asyncio.create_task(self._keep())

    async def wait_healthy(self) -> None:
        """Wait until a ping has come back."""
        while self.healthy_since is None:
            self._changed.clear()
            await self._changed.wait()

    async def close(self) -> None:
        """End it."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        self._set_lost("it is closed")

    async def _keep(self) -> None:
        backoff = Backoff()
        while True:
            try:
                await self._subscribe_once(backoff)
            except RedisTrouble as error:
                self._report(str(error))
            except Exception as error:
                # Without this task the node hears nothing any more and nobody would know.
                log.exception("inbox failed")
                self._report(repr(error))
            await asyncio.sleep(backoff.failed())

    async def _subscribe_once(self, backoff: Backoff) -> None:
        """Subscribe, and return never: it raises when the subscription is lost."""
        await self._servers.refresh()
        address = self._servers.lookup(self._channel)
        if address is None:
            raise SubscriptionLost("no server is known that holds the inbox")
        link = await self._servers.open(address)
        # From here on nothing is left open, whatever ends this.
        try:
            link.on_message = self._received
            command = b"SSUBSCRIBE" if self._servers.sharded else b"SUBSCRIBE"
            try:
                async with asyncio.timeout(self._ping_interval_s):
                    await link.subscribe(command, self._channel)
            except TimeoutError as error:
                raise SubscriptionLost(f"{address}: no answer to {command.decode()}") from error
            while True:
                await self._ping(link)
                self._set_healthy()
                backoff.succeeded()
                await asyncio.wait({link.lost}, timeout=self._ping_interval_s)
                if link.lost.done():
                    raise SubscriptionLost(f"{address}: {link.problem}")
        finally:
            link.abort()

    async def _ping(self, link: Link) -> None:
        """Write to the inbox until it arrives there."""
        try:
            async with asyncio.timeout(self._ping_interval_s):
                # Only time tells when the publisher has a link again.
                while not await self._echoes(link):  # noqa: ASYNC110
                    await asyncio.sleep(_PING_PAUSE_S)
        except TimeoutError as error:
            # It is not known which of the two ways is broken.
            self._publisher.distrust(self._channel)
            reason = self._unsent or "it did not come back"
            raise SubscriptionLost(
                f"no ping within {self._ping_interval_s:g} s: {reason}"
            ) from error

    async def _echoes(self, link: Link) -> bool:
        """Send one ping and wait for it.

        Returns:
            False when it could not be sent, which says nothing about the subscription.
        """
        self._token += 1
        self._unsent = ""
        echo: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        def receipt(value: object) -> None:
            if echo.done():
                return
            if isinstance(value, Exception):
                self._unsent = str(value)
                echo.set_result(False)
            elif not value:
                echo.set_exception(SubscriptionLost("a ping has no receiver"))

        self._echo = echo
        ping = wire_form.encode_ping(wire_form.Ping(self._token, self._incarnation))
        try:
            self._publisher.publish(self._channel, ping, receipt, urgent=True)
        except RedisTrouble as error:
            self._unsent = str(error)
            return False
        try:
            ends: set[asyncio.Future[Any]] = {echo, link.lost}
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if echo.done():
                return echo.result()
            raise SubscriptionLost(link.problem)
        finally:
            self._echo = None
            # A receipt that comes later finds it done.
            echo.cancel()

    def _received(self, data: bytes) -> None:
        if data[1:2] != b"%c" % wire_form.Kind.PING:
            self._on_message(data)
            return
        try:
            ping = wire_form.decode(data)
        except wire_form.Unreadable:
            self._on_message(data)
            return
        is_ours = ping == wire_form.Ping(self._token, self._incarnation)
        if is_ours and self._echo is not None and not self._echo.done():
            self._echo.set_result(True)

    def _set_healthy(self) -> None:
        if self.healthy_since is None:
            self.healthy_since, self.lost_since = time.monotonic(), None
            self.problem = ""
            self._changed.set()
            if self.lost_count:
                log.info("inbox is subscribed again")

    def _set_lost(self, problem: str) -> None:
        self.problem = problem
        if self.healthy_since is not None:
            self.healthy_since, self.lost_since = None, time.monotonic()
            self.lost_count += 1

    def _report(self, problem: str) -> None:
        if self.healthy_since is not None:
            log.warning("inbox is lost; posts from and to other nodes fail", reason=problem)
        self._set_lost(problem)
