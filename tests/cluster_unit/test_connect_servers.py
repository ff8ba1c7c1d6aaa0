"""Servers that say odd things, on a real socket: what is believed, followed, refused."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import hiredis
import pytest

from tests.cluster_unit.fake_redis import until
from wsgateway.cluster.connect import Address, Location, Timeouts, Topology, parse_location
from wsgateway.cluster.link import LinkLost, Refused, Unreachable, open_link, pack
from wsgateway.cluster.publisher import NotPublished, Publisher
from wsgateway.cluster.servers import Servers, check, servers_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    Answer = Callable[[list[bytes]], bytes | None]

TIMEOUTS = Timeouts(connect_s=2.0, answer_s=2.0)
SHORT = Timeouts(connect_s=0.1, answer_s=0.1)
INBOX = b"wsgateway:api:{010203}:inbox"


def hello(*, mode: str = "standalone", role: str = "master", version: str = "8.0.0") -> bytes:
    return pack([b"version", version.encode(), b"mode", mode.encode(), b"role", role.encode()])


@asynccontextmanager
async def server(answer: Answer) -> AsyncIterator[Address]:
    """A server that answers each command with these bytes; None closes the connection."""
    busy: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        parser = hiredis.Reader()
        while data := await reader.read(65_536):
            parser.feed(data)
            while (command := parser.gets()) is not False:
                said = answer(command)
                if said is None:
                    writer.close()
                    return
                writer.write(said)
        writer.close()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(serve(reader, writer))
        busy.add(task)

    listening = await asyncio.start_server(accept, "127.0.0.1", 0)
    async with listening:
        yield Address(*listening.sockets[0].getsockname()[:2])
        await until(lambda: all(task.done() for task in busy))
    await asyncio.gather(*busy, return_exceptions=True)


def at(address: Address, kind: str = "") -> Location:
    service = "/wsgateway" if kind == "+sentinel" else ""
    return parse_location(f"redis{kind}://{address}{service}")


def servers_at(address: Address, kind: str) -> Servers:
    return servers_of(at(address, kind), TIMEOUTS, client_name="wsgateway")


class TestGreeting:
    @pytest.mark.parametrize(
        ("said", "problem"),
        [
            (b"", "no answer within 0.1 s"),
            (None, "ended"),
            (b"+OK\r\n", "does not speak the protocol of Redis"),
            (b"HTTP/1.1 400 Bad Request\r\n", "not the protocol of Redis"),
            (b"-NOAUTH HELLO must be called with authentication\r\n", "NOAUTH"),
            (hello() + b"+more\r\n", "not the protocol of Redis: an answer to nothing"),
        ],
        ids=["silence", "end", "other answer", "http", "refusal", "too much"],
    )
    async def test_who_is_no_server_is_not_taken_for_one(
        self, said: bytes | None, problem: str
    ) -> None:
        async with server(lambda _: said) as address:
            if said is not None and said.endswith(b"more\r\n"):
                link = await open_link(address, at(address), TIMEOUTS, client_name="wsgateway")
                await link.lost
                assert link.problem == problem
                return
            timeouts = SHORT if said == b"" else TIMEOUTS
            with pytest.raises(Unreachable, match=problem):
                await open_link(address, at(address), timeouts, client_name="wsgateway")

    @pytest.mark.parametrize(
        ("said", "kind", "problem"),
        [
            (hello(version="6.2.1"), "", "version 6.2.1; it takes 7 or later"),
            (hello(version="?"), "", "version ?"),
            (hello(mode="cluster"), "", "write redis+cluster://"),
            (hello(mode="sentinel"), "", "write redis+sentinel://"),
        ],
    )
    async def test_what_the_setting_does_not_say(
        self, said: bytes, kind: str, problem: str
    ) -> None:
        async with server(lambda _: said) as address:
            with pytest.raises(Unreachable) as caught:
                await check(at(address, kind), TIMEOUTS, client_name="wsgateway")
            assert problem in str(caught.value)

    async def test_a_user_and_a_database(self) -> None:
        heard: list[list[bytes]] = []

        def answer(command: list[bytes]) -> bytes:
            heard.append(command)
            return hello() if command[0] == b"HELLO" else b"+OK\r\n"

        async with server(answer) as address:
            location = parse_location(f"redis://gateway:pw@{address}/2")
            link = await open_link(address, location, TIMEOUTS, client_name="wsgateway-1")
            await link.close()

        assert heard == [
            [b"HELLO", b"2", b"AUTH", b"gateway", b"pw", b"SETNAME", b"wsgateway-1"],
            [b"SELECT", b"2"],
        ]

    async def test_a_replica_is_not_published_at(self) -> None:
        async with server(lambda _: hello(role="replica", mode="cluster")) as address:
            with pytest.raises(Unreachable, match="its role is replica"):
                await servers_at(address, "+cluster").open(address)

    async def test_an_ended_link_takes_nothing(self) -> None:
        async with server(lambda _: hello()) as address:
            link = await open_link(address, at(address), TIMEOUTS, client_name="wsgateway")
            await link.close()
            await link.close()

            with pytest.raises(LinkLost):
                await link.ask(b"PING")
            assert link.queued_size == 0


class TestSentinels:
    @pytest.mark.parametrize(
        ("said", "problem"),
        [
            (b"*-1\r\n", "one does not know"),
            (b"-ERR unknown\r\n", "ERR unknown"),
            (b"+OK\r\n", "no sentinel"),
            (b"", "no answer in time"),
        ],
    )
    async def test_who_does_not_know_the_master(self, said: bytes, problem: str) -> None:
        def answer(command: list[bytes]) -> bytes:
            return hello(mode="sentinel") if command[0] == b"HELLO" else said

        async with server(answer) as address:
            servers = servers_at(address, "+sentinel")
            with pytest.raises(Unreachable, match=problem):
                await servers.refresh()
            assert servers.lookup(INBOX) is None

    async def test_the_first_to_answer_is_believed(self) -> None:
        def answer(command: list[bytes]) -> bytes:
            return hello(mode="sentinel") if command[0] == b"HELLO" else pack([b"one", b"6379"])

        async with server(answer) as address, server(lambda _: b"") as silent:
            location = Location(
                Topology.SENTINEL, (silent, address), at(address).credentials, service="wsgateway"
            )
            servers = servers_of(location, TIMEOUTS, client_name="wsgateway")
            await servers.refresh()
            assert servers.lookup(INBOX) == Address("one", 6379)


def slots(*ranges: tuple[int, int, str, int]) -> bytes:
    """The answer to `CLUSTER SLOTS`."""
    said = b"".join(
        b"*3\r\n:%d\r\n:%d\r\n*3\r\n$%d\r\n%b\r\n:%d\r\n$2\r\nid\r\n"
        % (first, last, len(host), host.encode(), port)
        for first, last, host, port in ranges
    )
    return b"*%d\r\n%b" % (len(ranges), said)


class TestCluster:
    async def test_the_slots_master_is_found(self) -> None:
        table = slots((0, 8191, "one", 7001), (8192, 16383, "", 7002))

        def answer(command: list[bytes]) -> bytes:
            return hello(mode="cluster") if command[0] == b"HELLO" else table

        async with server(answer) as address:
            servers = servers_at(address, "+cluster")
            assert servers.lookup(b"{a}") is None
            await servers.refresh()
            # The slots of `{a}` and `{b}` are 15495 and 3300. No name: whoever was asked.
            assert servers.lookup(b"{b}") == Address("one", 7001)
            assert servers.lookup(b"{a}") == Address("127.0.0.1", 7002)
            servers.moved(b"{b}", Address("two", 7003))
            assert servers.lookup(b"{b}") == Address("two", 7003)

    @pytest.mark.parametrize(
        ("said", "problem"),
        [
            (b"*0\r\n", "it serves no slots"),
            (b"+OK\r\n", "no table of slots"),
            (b"*1\r\n*1\r\n:0\r\n", "no table of slots"),
            (b"-ERR This instance has cluster support disabled\r\n", "cluster support disabled"),
        ],
    )
    async def test_who_is_no_cluster(self, said: bytes, problem: str) -> None:
        def answer(command: list[bytes]) -> bytes:
            return hello() if command[0] == b"HELLO" else said

        async with server(answer) as address:
            with pytest.raises(Unreachable, match=problem):
                await servers_at(address, "+cluster").refresh()

    async def test_slot_0_without_a_master(self) -> None:
        def answer(command: list[bytes]) -> bytes:
            return hello() if command[0] == b"HELLO" else slots((1, 16383, "one", 7001))

        async with server(answer) as address:
            with pytest.raises(Unreachable, match="slot 0 has no master"):
                await check(at(address, "+cluster"), TIMEOUTS, client_name="wsgateway")


class TestPublishing:
    """On a cluster, where servers send one elsewhere."""

    @asynccontextmanager
    async def publisher(self, answer: Answer) -> AsyncIterator[tuple[Publisher, Address]]:
        where: list[Address] = []

        def whole(command: list[bytes]) -> bytes | None:
            said = answer(command)
            if said == b"":
                if command[0] == b"CLUSTER":
                    return slots((0, 16383, *where[0]))
                return hello(mode="cluster")
            return said

        async with server(whole) as address:
            where.append(address)
            servers = servers_at(address, "+cluster")
            await servers.refresh()
            publisher = Publisher(servers)
            yield publisher, address
            await publisher.close()

    async def publish(self, publisher: Publisher) -> object:
        end: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        publisher.publish(INBOX, b"hi", end.set_result)
        async with asyncio.timeout(5):
            return await end

    async def test_a_moved_slot_is_followed_once(self) -> None:
        async with server(lambda c: b":1\r\n" if c[0] == b"SPUBLISH" else hello()) as other:
            moved = b"-MOVED 1 %b:%d\r\n" % (other.host.encode(), other.port)
            async with self.publisher(lambda c: moved if c[0] == b"SPUBLISH" else b"") as (it, _):
                assert await self.publish(it) == 1

    @pytest.mark.parametrize("said", [b"-MOVED 1 :\r\n", b"-CLUSTERDOWN is down\r\n"])
    async def test_what_leads_nowhere_is_a_refusal(self, said: bytes) -> None:
        async with self.publisher(lambda c: said if c[0] == b"SPUBLISH" else b"") as (it, _):
            assert isinstance(await self.publish(it), Refused)

    async def test_nobody_receives_at_a_master(self) -> None:
        async with self.publisher(lambda c: b":0\r\n" if c[0] == b"SPUBLISH" else b"") as (it, _):
            assert await self.publish(it) == 0

    @pytest.mark.parametrize(
        "now", [hello(role="replica"), b"+OK\r\n"], ids=["replica", "nonsense"]
    )
    async def test_nobody_receives_at_what_may_be_a_replica(self, now: bytes) -> None:
        """It may have passed it on to its shard."""
        greeted: list[bytes] = []

        def answer(command: list[bytes]) -> bytes:
            if command[0] == b"SPUBLISH":
                return b":0\r\n"
            if len(command) == 1:
                greeted.append(now)
                return now
            return b""

        async with self.publisher(answer) as (it, _):
            assert isinstance(await self.publish(it), LinkLost)
        assert greeted == [now]

    async def test_a_lost_connection_is_opened_again(self) -> None:
        async with self.publisher(lambda c: None if c[0] == b"SPUBLISH" else b"") as (it, _):
            assert isinstance(await self.publish(it), LinkLost)
            assert isinstance(await self.publish(it), LinkLost)

    async def test_nobody_is_there(self) -> None:
        async with server(lambda _: b"") as address:
            pass
        publisher = Publisher(servers_at(address, ""))

        assert isinstance(await self.publish(publisher), NotPublished)
        with pytest.raises(NotPublished, match="Connect"):
            publisher.publish(INBOX, b"hi", lambda _: pytest.fail("it was called"))
        await publisher.close()
        with pytest.raises(NotPublished):
            publisher.publish(INBOX, b"hi", lambda _: pytest.fail("it was called"))

    async def test_closing_while_connecting(self) -> None:
        async with server(lambda _: b"") as address:
            publisher = Publisher(servers_at(address, ""))
            end: asyncio.Future[object] = asyncio.get_running_loop().create_future()
            publisher.publish(INBOX, b"hi", end.set_result)

            await publisher.close()

            assert isinstance(end.result(), NotPublished)
