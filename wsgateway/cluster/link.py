"""One connection to Redis: many commands in one write, answers in order, no task.

redis-py has a future, a task's wake-up and a time-out per command, which is most of what a post to
another node would cost. Here bytes go from the socket to hiredis to a function call.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import deque
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple, cast

import hiredis

from wsgateway.cluster.connect import Address, Credentials, Location, Timeouts, Topology
from wsgateway.errors import GatewayError
from wsgateway.limits import MESSAGE_SIZE_MAX

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Receipt = Callable[[object], None]
    """Takes the answer to one command, a `Refused`, or a `LinkLost`."""

# What to look at when a server does not let us in.
_REMEDIES = {
    "NOAUTH": "set redis_username and redis_password",
    "WRONGPASS": "look at redis_username and redis_password",
}
# One message that is not complete yet, or a cluster's table of slots; beyond it something else than
# a node writes into our inbox.
_UNREAD_MAX = 8 * MESSAGE_SIZE_MAX


class RedisTrouble(GatewayError):
    """Redis does not do what it is asked."""


class LinkLost(RedisTrouble):
    """The connection ended before the answer came: the command may have been carried out."""


class Unreachable(RedisTrouble):
    """There is no connection."""


class Refused(RedisTrouble):
    """Redis answered with an error: the command was not carried out."""

    @property
    def code(self) -> str:
        """The error's first word: `MOVED`, `NOAUTH`, `LOADING`."""
        return str(self).partition(" ")[0]


class Greeting(NamedTuple):
    """What a server says of itself: version, `standalone`, `cluster` or `sentinel`, and role."""

    version: str
    mode: str
    role: str


class Link(asyncio.Protocol):
    """A connection to one server; made by `open_link`.

    Attributes:
        lost: Done when the connection has ended, for whatever reason.
        problem: Why it has ended.
        greeting: What the server said of itself.
        on_message: Takes the payloads of the channels that are subscribed.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader(replyError=Refused, protocolError=RedisTrouble)
        self._receipts: deque[Receipt | None] = deque()
        self._out: list[bytes] = []
        self._out_size = 0
        self._transport: asyncio.Transport | None = None
        self._is_subscribed = False
        self.lost: asyncio.Future[None] = self._loop.create_future()
        self.problem = ""
        self.greeting = Greeting("", "", "")
        self.on_message: Callable[[bytes], None] = _ignore

    # --- commands

    def send(self, packed: bytes, receipt: Receipt | None) -> None:
        """Send one command; those of one turn of the loop travel together.

        Args:
            packed: As `pack` makes it.
            receipt: Called once with what comes of it, also when the connection is lost.
        """
        if self.lost.done():
            if receipt is not None:
                receipt(LinkLost(self.problem))
            return
        self._receipts.append(receipt)
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(packed)
        self._out_size += len(packed)

    @property
    def queued_size(self) -> int:
        """Bytes that the kernel has not taken yet."""
        if self._transport is None or self.lost.done():
            return 0
        return self._out_size + self._transport.get_write_buffer_size()

    async def ask(self, *parts: bytes) -> object:
        """Send one command and wait for its answer.

        Raises:
            Refused: It is an error.
            LinkLost: There is none.
        """
        answer: asyncio.Future[object] = self._loop.create_future()

        def receipt(value: object) -> None:
            if answer.done():
                return
            if isinstance(value, RedisTrouble):
                answer.set_exception(value)
            else:
                answer.set_result(value)

        self.send(pack(parts), receipt)
        return await answer

    async def subscribe(self, command: bytes, channel: bytes) -> None:
        """Subscribe to a channel; from then on the connection is for its messages only.

        Args:
            command: `SUBSCRIBE` or `SSUBSCRIBE`.
            channel: Its name.
        """
        await self.ask(command, channel)

    def _flush(self) -> None:
        if self._transport is not None and not self.lost.done():
            out = self._out
            self._transport.write(out[0] if len(out) == 1 else b"".join(out))
        self._out = []
        self._out_size = 0

    # --- the protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        # uvloop's is none by inheritance.
        self._transport = cast("asyncio.Transport", transport)
        if self.lost.done():
            self._transport.abort()
        raw = transport.get_extra_info("socket")
        if raw is not None and raw.family != socket.AF_UNIX:
            # A server that vanishes without a word is noticed even when nothing is sent.
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def data_received(self, data: bytes) -> None:
        """Take answers and messages."""
        reader = self._reader
        try:
            reader.feed(data)
            while (value := reader.gets()) is not False:
                if type(value) is list and value and type(value[0]) is bytes:
                    self._take_list(value)
                else:
                    self._take_answer(value)
        except RedisTrouble as error:
            self._fail(f"not the protocol of Redis: {error}")
            return
        if reader.len() > _UNREAD_MAX:
            self._fail("a message of more than a node writes")

    def _take_list(self, value: list[object]) -> None:
        match value:
            case [b"message" | b"smessage", _, bytes() as payload] if self._is_subscribed:
                self.on_message(payload)
            case [b"subscribe" | b"ssubscribe", _, int()]:
                self._is_subscribed = True
                self._take_answer(value)
            case [b"unsubscribe" | b"sunsubscribe", _, int()] if self._is_subscribed:
                self._fail("its slot has moved to another server")
            case _:
                self._take_answer(value)

    def _take_answer(self, value: object) -> None:
        if not self._receipts:
            raise RedisTrouble("an answer to nothing")
        receipt = self._receipts.popleft()
        if receipt is not None:
            receipt(value)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell everybody who waits."""
        self.problem = self.problem or str(exc or "") or "the connection has ended"
        if not self.lost.done():
            self.lost.set_result(None)
        receipts, self._receipts = self._receipts, deque()
        self._out = []
        error = LinkLost(self.problem)
        for receipt in receipts:
            if receipt is not None:
                receipt(error)

    def _fail(self, problem: str) -> None:
        self.problem = problem
        self.abort()

    def abort(self) -> None:
        """End at once; what is queued is dropped."""
        if self._transport is None:
            self.connection_lost(None)
        else:
            self._transport.abort()

    async def close(self, timeout_s: float = 0.5) -> None:
        """End when what is queued has gone out, or after the time-out."""
        if self._transport is None or self.lost.done():
            return
        if self._out:
            self._flush()
        self._transport.close()
        await asyncio.wait({self.lost}, timeout=timeout_s)
        if not self.lost.done():
            self._transport.abort()
            await self.lost


def _ignore(_: bytes) -> None:
    """Take a message that nobody waits for."""


def pack(parts: Sequence[bytes]) -> bytes:
    """Write one command in Redis's protocol."""
    return b"*%d\r\n%b" % (len(parts), b"".join([b"$%d\r\n%b\r\n" % (len(p), p) for p in parts]))


class Purpose(Enum):
    """Whom a link is to."""

    PUBLISH = "publish"
    """The master that holds a channel."""
    ASK = "ask"
    """Any server."""
    ASK_SENTINEL = "ask a sentinel"


async def open_link(
    address: Address,
    location: Location,
    timeouts: Timeouts,
    *,
    client_name: str,
    purpose: Purpose = Purpose.PUBLISH,
) -> Link:
    """Connect to one server and introduce oneself.

    Args:
        address: Which one.
        location: TLS, credentials and database.
        timeouts: `connect_s` bounds all of it.
        client_name: What `CLIENT LIST` shows; no spaces.
        purpose: Who it should be.

    Raises:
        Unreachable: There is nobody, it does not answer in time, or it refuses us.
    """
    loop = asyncio.get_running_loop()
    link = Link()
    try:
        async with asyncio.timeout(timeouts.connect_s):
            if address.is_path:
                await loop.create_unix_connection(lambda: link, address.host)
            else:
                context = None if location.tls is None else location.tls.context
                await loop.create_connection(lambda: link, *address, ssl=context)
            if purpose is Purpose.ASK_SENTINEL:
                await _introduce(link, location.sentinel_credentials, client_name, 0)
            else:
                await _introduce(link, location.credentials, client_name, location.db)
            if purpose is Purpose.PUBLISH and location.topology is not Topology.SINGLE:
                _expect_master(link)
    except (OSError, RedisTrouble, TimeoutError) as error:
        link.abort()
        reason = _reason(error) or f"no answer within {timeouts.connect_s:g} s"
        raise Unreachable(f"{address}: {reason}") from error
    except BaseException:
        link.abort()
        raise
    return link


def _reason(error: Exception) -> str:
    """Return why there is no connection, and what would be right if that can be known."""
    reason = str(error)
    if isinstance(error, ssl.SSLCertVerificationError):
        # What OpenSSL says before and after it is for those who read its source.
        reason = f"certificate verify failed: {error.verify_message}"
        return f"{reason}; redis_ca_file names the authorities that are trusted"
    remedy = _REMEDIES.get(error.code) if isinstance(error, Refused) else None
    return f"{reason.rstrip('.')}; {remedy}" if remedy else reason


async def _introduce(link: Link, credentials: Credentials, client_name: str, db: int) -> None:
    hello = [b"HELLO", b"2"]
    if credentials.password is not None:
        username = credentials.username or "default"
        hello += [b"AUTH", username.encode(), credentials.password.encode()]
    hello += [b"SETNAME", client_name.encode()]
    answer = await link.ask(*hello)
    link.greeting = read_greeting(answer)
    if db:
        await link.ask(b"SELECT", b"%d" % db)


def read_greeting(answer: object) -> Greeting:
    """Read the answer to `HELLO`.

    Raises:
        RedisTrouble: It is none.
    """
    if not isinstance(answer, list):
        raise RedisTrouble("it does not speak the protocol of Redis")
    said = dict(zip(answer[::2], answer[1::2], strict=False))
    return Greeting(*(_text(said.get(name)) for name in (b"version", b"mode", b"role")))


def _text(value: object) -> str:
    return value.decode("ascii", "replace") if isinstance(value, bytes) else ""


def _expect_master(link: Link) -> None:
    # Others may say who was the master a moment ago. What was published at a replica would reach
    # its subscribers only, and a subscriber there would not be counted.
    if link.greeting.role != "master":
        raise RedisTrouble(f"its role is {link.greeting.role}")
