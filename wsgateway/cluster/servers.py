"""Which server holds a channel: the only one, the one that Sentinel names, or its slot's master."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Protocol

from redis.crc import key_slot

from wsgateway.cluster.connect import Address, Location, Timeouts, Topology
from wsgateway.cluster.link import (
    Greeting,
    Link,
    LinkLost,
    Purpose,
    RedisTrouble,
    Unreachable,
    open_link,
)
from wsgateway.cluster.rights import lacking

if TYPE_CHECKING:
    from collections.abc import Collection

# How many servers or sentinels are asked at once, of which the first to answer is believed. One that
# hangs costs nothing then.
_ASKED_MAX = 4
# Sharded pub/sub is from there.
_VERSION_MIN = 7


class Servers(Protocol):
    """Where to publish and subscribe.

    Attributes:
        sharded: Whether channels belong to slots, as on a cluster.
    """

    sharded: bool

    def lookup(self, channel: bytes) -> Address | None:
        """Return what is known; None when nothing is."""
        ...

    def moved(self, channel: bytes, address: Address) -> None:
        """Take in what a server said of a channel that it does not hold."""
        ...

    async def refresh(self) -> None:
        """Find out anew.

        Raises:
            Unreachable: Nobody knows.
        """
        ...

    async def open(self, address: Address) -> Link:
        """Connect to one of them, in order to publish or subscribe there.

        Raises:
            Unreachable: There is no connection.
        """
        ...


def servers_of(location: Location, timeouts: Timeouts, *, client_name: str) -> Servers:
    """Return what finds the servers of a location; nothing is opened yet."""
    match location.topology:
        case Topology.SINGLE:
            return _OneServer(location, timeouts, client_name)
        case Topology.SENTINEL:
            return _SentinelServers(location, timeouts, client_name)
        case Topology.CLUSTER:
            return _ClusterServers(location, timeouts, client_name)


async def check(
    location: Location, timeouts: Timeouts, *, client_name: str, inbox: bytes | None = None
) -> Greeting:
    """Look whether Redis is there, and is what the setting says; opens and closes a connection.

    Args:
        location: Where it should be.
        timeouts: For its answers.
        client_name: What `CLIENT LIST` shows.
        inbox: Of nobody: whether one may do all that a node does is tried there.

    Raises:
        Unreachable: It is not; the message says what would be right.
    """
    servers = servers_of(location, timeouts, client_name=client_name)
    await servers.refresh()
    where = inbox or b""
    address = servers.lookup(where)
    if address is None:
        slot = key_slot(where)
        raise Unreachable(f"{location}: slot {slot} has no master; wait until the cluster is whole")
    link = await servers.open(address)
    try:
        greeting = link.greeting
        major = greeting.version.partition(".")[0]
        if not major.isdigit() or int(major) < _VERSION_MIN:
            raise Unreachable(
                f"{address}: version {greeting.version}; it takes {_VERSION_MIN} or later"
            )
        if location.topology is Topology.SINGLE and greeting.mode == "cluster":
            raise Unreachable(f"{address}: it belongs to a cluster; write redis+cluster://")
        if location.topology is Topology.SINGLE and greeting.mode == "sentinel":
            raise Unreachable(
                f"{address}: it is a sentinel; write redis+sentinel://{address}/service"
            )
        if inbox is not None:
            try:
                async with asyncio.timeout(timeouts.answer_s):
                    rights = await lacking(
                        link, inbox, client_name=client_name, sharded=servers.sharded
                    )
            except (LinkLost, TimeoutError) as error:
                reason = str(error) or f"no answer within {timeouts.answer_s:g} s"
                raise Unreachable(f"{address}: {reason}") from error
            if rights:
                remedy = "docs/scaling.md has what a node needs"
                raise Unreachable(f"{address}: the user lacks {', '.join(rights)}; {remedy}")
    finally:
        link.abort()
        await link.lost
    return greeting


class _OneServer:
    """The server that the URL names."""

    sharded = False

    def __init__(self, location: Location, timeouts: Timeouts, client_name: str) -> None:
        self._location = location
        self._timeouts = timeouts
        self._client_name = client_name

    def lookup(self, channel: bytes) -> Address | None:  # noqa: ARG002 - shared form
        return self._location.addresses[0]

    def moved(self, channel: bytes, address: Address) -> None:
        """Nothing moves here."""

    async def refresh(self) -> None:
        """Nothing changes here."""

    async def open(self, address: Address) -> Link:
        return await self._open(address, Purpose.PUBLISH)

    async def _open(self, address: Address, purpose: Purpose) -> Link:
        location, timeouts = self._location, self._timeouts
        name = self._client_name
        return await open_link(address, location, timeouts, client_name=name, purpose=purpose)

    async def _ask_any(
        self, addresses: Collection[Address], purpose: Purpose, *command: bytes
    ) -> tuple[Address, object]:
        """Return the first answer, and whose it is."""
        few = random.sample(list(addresses), min(len(addresses), _ASKED_MAX))

        async def ask(address: Address) -> tuple[Address, object]:
            link = await self._open(address, purpose)
            try:
                async with asyncio.timeout(self._timeouts.answer_s):
                    return address, await link.ask(*command)
            finally:
                link.abort()

        problems: list[str] = []
        asking = [asyncio.create_task(ask(address)) for address in few]
        try:
            for done in asyncio.as_completed(asking):
                try:
                    address, answer = await done
                except (RedisTrouble, TimeoutError) as error:
                    problems.append(str(error) or "no answer in time")
                    continue
                if answer is not None:
                    return address, answer
                problems.append("one does not know")
        finally:
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)
        raise Unreachable("; ".join(problems))


class _SentinelServers(_OneServer):
    """The server that the sentinels take for the master."""

    def __init__(self, location: Location, timeouts: Timeouts, client_name: str) -> None:
        super().__init__(location, timeouts, client_name)
        self._master: Address | None = None

    def lookup(self, channel: bytes) -> Address | None:  # noqa: ARG002 - shared form
        return self._master

    async def refresh(self) -> None:
        question = b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", self._location.service.encode()
        sentinels = self._location.addresses
        _, answer = await self._ask_any(sentinels, Purpose.ASK_SENTINEL, *question)
        match answer:
            case [bytes() as host, bytes() as port]:
                self._master = Address(host.decode(), int(port))
            case _:
                raise Unreachable(f"no sentinel: {self._location}")


class _ClusterServers(_OneServer):
    """The masters of a cluster."""

    sharded = True

    def __init__(self, location: Location, timeouts: Timeouts, client_name: str) -> None:
        super().__init__(location, timeouts, client_name)
        # As in CLUSTER SLOTS: first slot, last slot, master.
        self._ranges: list[tuple[int, int, Address]] = []
        self._corrections: dict[int, Address] = {}

    def lookup(self, channel: bytes) -> Address | None:
        slot = key_slot(channel)
        if slot in self._corrections:
            return self._corrections[slot]
        for first, last, master in self._ranges:
            if first <= slot <= last:
                return master
        return None

    def moved(self, channel: bytes, address: Address) -> None:
        self._corrections[key_slot(channel)] = address

    async def refresh(self) -> None:
        masters = {master for _, _, master in self._ranges} | set(self._corrections.values())
        known = masters | set(self._location.addresses)
        whom, answer = await self._ask_any(known, Purpose.ASK, b"CLUSTER", b"SLOTS")
        if not isinstance(answer, list):
            raise Unreachable(f"{whom}: no table of slots")
        ranges = []
        for entry in answer:
            match entry:
                case [int() as first, int() as last, [host, int() as port, *_], *_]:
                    # A server that does not know its own name means the one that was asked.
                    name = host.decode() if isinstance(host, bytes) and host else whom.host
                    ranges.append((first, last, Address(name, port)))
                case _:
                    raise Unreachable(f"{whom}: no table of slots")
        if not ranges:
            raise Unreachable(f"{whom}: it serves no slots")
        self._ranges, self._corrections = ranges, {}
