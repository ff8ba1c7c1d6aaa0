"""Messages between nodes: a command to the owner of a connection, and its one reply.

A call has one of five ends: a reply; `NotSent`; `NoReceiver`; `Unanswered`; `TooManyCalls`. Nothing
is sent again by itself, because only the backend knows whether its message may arrive twice.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from wsgateway.cluster import wire_form
from wsgateway.cluster.link import LinkLost, RedisTrouble
from wsgateway.cluster.publisher import QUEUE_SIZE_MAX, NotPublished, Publisher, QueueFull
from wsgateway.cluster.subscription import Subscription
from wsgateway.cluster.wire_form import Command, Kind, Outcome, Reply
from wsgateway.errors import DeliveryFailed, Gone, LimitExceeded
from wsgateway.limits import MESSAGE_SIZE_MAX

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

    from wsgateway.cluster.servers import Servers
    from wsgateway.connection import ConnectionKey
    from wsgateway.contracts import Callbacks, ConnectionInfo

    _Result = tuple[Outcome, ConnectionInfo | None]

log = structlog.stdlib.get_logger(__name__)


class NotSent(DeliveryFailed):
    """It did not leave this node, or Redis refused it."""


class NoReceiver(DeliveryFailed):
    """No node is subscribed to the owner's inbox."""


class Unanswered(DeliveryFailed):
    """It was sent, and no reply came in time."""

    may_duplicate = True


class OwnerFailed(DeliveryFailed):
    """The owner got it and failed."""

    may_duplicate = True


class TooManyCalls(LimitExceeded):
    """As many calls, or as many bytes of calls, are under way as may be."""


@dataclass(frozen=True, slots=True)
class BusLimits:
    """The bounds.

    Attributes:
        delivery_timeout_s: How long a call waits for its reply.
        calls_max: Calls under way.
        calls_size_max: Bytes of their commands.
        queue_size_max: Bytes that wait for one server of Redis.
        serving_max: Commands of others that this node works on and that wait for something.
    """

    delivery_timeout_s: float = 2.0
    calls_max: int = 10_000
    calls_size_max: int = 256 * MESSAGE_SIZE_MAX
    queue_size_max: int = QUEUE_SIZE_MAX
    serving_max: int = 1_000


@dataclass(slots=True)
class Counts:
    """What happened so far, for metrics.

    Attributes:
        calls: Commands sent to other nodes.
        answered: Those that were answered.
        not_sent: Those that did not leave, or that Redis refused.
        no_receiver: Those without a receiver.
        unanswered: Those without an answer in time.
        too_many: Calls that were refused because too many are under way.
        served: Commands of others that were carried out or refused with an answer.
        failed: Those at which this node failed.
        replies_lost: Replies that could not be sent or had no receiver.
        replies_late: Replies to calls that are not under way any more, or to another incarnation.
        unreadable: Messages that no node of this version writes.
        unknown_version: Messages of nodes of another version.
    """

    calls: int = 0
    answered: int = 0
    not_sent: int = 0
    no_receiver: int = 0
    unanswered: int = 0
    too_many: int = 0
    served: int = 0
    failed: int = 0
    replies_lost: int = 0
    replies_late: int = 0
    unreadable: int = 0
    unknown_version: int = 0


class _Call:
    """A call under way: takes the receipt of its command, and its reply."""

    __slots__ = ("deadline", "reply")

    def __init__(self, reply: asyncio.Future[Reply], deadline: float) -> None:
        self.reply = reply
        self.deadline = deadline

    def receipt(self, value: object) -> None:
        """Take what Redis says of the command."""
        reply = self.reply
        if value == 1 or reply.done():
            return
        if isinstance(value, LinkLost):
            # It may have arrived, and the reply comes another way.
            return
        if isinstance(value, Exception):
            reply.set_exception(NotSent(str(value)))
        elif not value:
            reply.set_exception(NoReceiver("nobody is subscribed to the owner's inbox"))


class Bus:
    """One node's end of the bus.

    Args:
        servers: Which server holds which inbox.
        inbox_of: The name of a node's inbox, by its tag.
        tag: This node's.
        incarnation: This life of it; a reply to another one is not for this one's calls.
        local: Carries out what others ask, on the connections of this node.
        ping_interval_s: See `Subscription`.

    Attributes:
        counts: What happened so far.
        subscription: Of this node's inbox; another one after `move`.
    """

    def __init__(
        self,
        servers: Servers,
        *,
        inbox_of: Callable[[bytes], str],
        tag: bytes,
        incarnation: str,
        local: Callbacks,
        ping_interval_s: float,
        limits: BusLimits | None = None,
    ) -> None:
        self._servers = servers
        self._inbox_of = inbox_of
        self._tag = tag
        self._incarnation = incarnation
        self._local = local
        self._ping_interval_s = ping_interval_s
        self._limits = limits or BusLimits()
        self._publisher = Publisher(servers, queue_size_max=self._limits.queue_size_max)
        self._calls: dict[int, _Call] = {}
        self._calls_size = 0
        self._last_correlation = 0
        self._sweep: asyncio.TimerHandle | None = None
        self._serving: set[asyncio.Task[None]] = set()
        self.counts = Counts()
        self.subscription = self._subscription()

    def _subscription(self) -> Subscription:
        return Subscription(
            self._servers,
            self._publisher,
            channel=self._inbox_of(self._tag).encode(),
            incarnation=self._incarnation,
            on_message=self._received,
            ping_interval_s=self._ping_interval_s,
        )

    @property
    def calls_under_way(self) -> int:
        """How many calls wait for a reply."""
        return len(self._calls)

    # --- life

    def start(self) -> None:
        """Begin to subscribe; `subscription.wait_healthy()` tells when that is done."""
        self.subscription.start()

    async def move(self, tag: bytes, incarnation: str) -> None:
        """Go on under another tag: calls under way are not answered, the old inbox is left."""
        await self.subscription.close()
        self._give_up("the node has another tag")
        self._tag, self._incarnation = tag, incarnation
        self.subscription = self._subscription()
        self.subscription.start()

    async def close(self) -> None:
        """Leave: the inbox first, so that others learn at once; then the calls, then the links."""
        await self.subscription.close()
        self._give_up("the node is stopping")
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        await self._publisher.close()

    def _give_up(self, reason: str) -> None:
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        for call in self._calls.values():
            if not call.reply.done():
                call.reply.set_exception(Unanswered(reason))

    # --- calls

    async def call(self, tag: bytes, kind: Kind, key: ConnectionKey, payload: bytes = b"") -> Reply:
        """Ask the owner of a connection to do something.

        Calls for one connection arrive in the order in which they are made, if each is made after
        the reply to the one before.

        Args:
            tag: The owner's.
            kind: What to do.
            key: The connection.
            payload: A post's message.

        Returns:
            What the owner says.

        Raises:
            NotSent: It did not leave.
            NoReceiver: No node is subscribed to the inbox.
            Unanswered: There was no reply within `delivery_timeout_s`.
            TooManyCalls: A bound is reached.
        """
        counts, limits = self.counts, self._limits
        if self.subscription.healthy_since is None:
            # The reply would be lost: whether it was carried out, nobody could say.
            counts.not_sent += 1
            raise NotSent(f"the inbox for the reply is lost: {self.subscription.problem}")
        self._last_correlation = correlation = self._last_correlation + 1
        data = wire_form.encode_command(
            Command(kind, correlation, self._tag, self._incarnation, key, payload)
        )
        if (
            len(self._calls) >= limits.calls_max
            or self._calls_size + len(data) > limits.calls_size_max
        ):
            counts.too_many += 1
            raise TooManyCalls
        loop = asyncio.get_running_loop()
        call = _Call(loop.create_future(), loop.time() + limits.delivery_timeout_s)
        self._calls[correlation] = call
        self._calls_size += len(data)
        try:
            self._publisher.publish(self._inbox_of(tag).encode(), data, call.receipt)
            if self._sweep is None:
                self._sweep = loop.call_at(call.deadline, self._sweep_overdue)
            counts.calls += 1
            reply = await call.reply
        except QueueFull as error:
            counts.too_many += 1
            raise TooManyCalls from error
        except NotPublished as error:
            counts.not_sent += 1
            raise NotSent(str(error)) from error
        except DeliveryFailed as error:
            self._count(error)
            raise
        except asyncio.CancelledError:
            if call.reply.done() and not call.reply.cancelled():
                # Nobody else asks for it, and asyncio would report that.
                call.reply.exception()
            raise
        finally:
            del self._calls[correlation]
            self._calls_size -= len(data)
        counts.answered += 1
        return reply

    def _count(self, error: DeliveryFailed) -> None:
        match error:
            case NotSent():
                self.counts.not_sent += 1
            case NoReceiver():
                self.counts.no_receiver += 1
            case _:
                self.counts.unanswered += 1

    def _sweep_overdue(self) -> None:
        """End the calls that are due; all wait equally long, so the first made is the first due."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._sweep = None
        for call in self._calls.values():
            if call.reply.done():
                continue
            if call.deadline > now:
                self._sweep = loop.call_at(call.deadline, self._sweep_overdue)
                return
            call.reply.set_exception(
                Unanswered(f"no reply within {self._limits.delivery_timeout_s:g} s")
            )

    # --- what arrives

    def _received(self, data: bytes) -> None:
        try:
            message = wire_form.decode(data)
        except wire_form.UnknownVersion:
            self.counts.unknown_version += 1
            return
        except wire_form.Unreadable:
            self.counts.unreadable += 1
            return
        if type(message) is Reply:
            self._take_reply(message)
        elif type(message) is Command:
            self._serve(message)

    def _take_reply(self, reply: Reply) -> None:
        call = self._calls.get(reply.correlation)
        if call is None or reply.incarnation != self._incarnation or call.reply.done():
            self.counts.replies_late += 1
            return
        call.reply.set_result(reply)

    def _serve(self, command: Command) -> None:
        """Carry a command out.

        What a node does with its own connections waits for nothing, so it is done right here; a
        task would cost more than all the rest. What does wait goes on in a task.
        """
        coroutine = self._carry_out(command)
        try:
            waits_for = coroutine.send(None)
        except StopIteration as end:
            self._reply(command, end.value)
            return
        if len(self._serving) >= self._limits.serving_max:
            coroutine.close()
            self._reply(command, (Outcome.FULL, None))
            return
        task = asyncio.create_task(self._finish(command, _Begun(coroutine, waits_for)))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _finish(self, command: Command, begun: _Begun) -> None:
        self._reply(command, await begun)

    async def _carry_out(self, command: Command) -> _Result:
        try:
            if command.kind == Kind.POST:
                await self._local.post(command.key, command.payload)
            elif command.kind == Kind.GET:
                return Outcome.INFO, await self._local.get(command.key)
            else:
                await self._local.delete(command.key)
        except Gone:
            return Outcome.GONE, None
        except LimitExceeded:
            return Outcome.FULL, None
        except Exception:
            self.counts.failed += 1
            log.exception("callback failed", connection_id=command.key.connection_id)
            return Outcome.FAILED, None
        return Outcome.WRITTEN, None

    def _reply(self, command: Command, result: _Result) -> None:
        self.counts.served += 1
        to_whom = command.correlation, command.incarnation
        try:
            data = wire_form.encode_reply(Reply(*to_whom, *result))
        except ValueError:
            self.counts.failed += 1
            log.warning("callback's answer is too large", connection_id=command.key.connection_id)
            data = wire_form.encode_reply(Reply(*to_whom, Outcome.FAILED))
        try:
            self._publisher.publish(
                self._inbox_of(command.reply_tag).encode(), data, self._reply_receipt, urgent=True
            )
        except RedisTrouble:
            self.counts.replies_lost += 1

    def _reply_receipt(self, value: object) -> None:
        if not value or isinstance(value, Exception):
            self.counts.replies_lost += 1


class _Begun:
    """A coroutine that was begun outside of a task and waits: awaiting this goes on with it."""

    def __init__(
        self,
        coroutine: Coroutine[object, None, _Result],
        waits_for: object,
    ) -> None:
        self._coroutine = coroutine
        self._waits_for = waits_for

    def __await__(self) -> Generator[object, None, _Result]:
        coroutine, waits_for = self._coroutine, self._waits_for
        try:
            while True:
                try:
                    yield waits_for
                except BaseException as error:  # noqa: BLE001 - a cancellation too is its own
                    waits_for = coroutine.throw(error)
                else:
                    waits_for = coroutine.send(None)
        except StopIteration as end:
            result: _Result = end.value
            return result
