"""One suite for every registry: in memory, over a store in memory, on Redis, on a cluster."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster.conftest import connected, connected_to_cluster
from tests.cluster_unit.stores import Line, MemoryStore
from wsgateway.cluster.contact import Contact
from wsgateway.cluster.entries import Claim, Record
from wsgateway.cluster.keys import Keys
from wsgateway.cluster.redis_registry import RedisRegistry
from wsgateway.cluster.redis_store import RedisStore
from wsgateway.cluster.registry import MemoryRegistry
from wsgateway.cluster.store import Session, Standing
from wsgateway.connection import ConnectionEntry, ConnectionKey
from wsgateway.connection_id import new_connection_id
from wsgateway.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis

    from wsgateway.cluster.store import Store

API = "abcde12345"
KEYS = Keys("test", API)
TAG = b"\x01\x02\x03"
SESSION = Session(TAG, "one", 1)

Registry = MemoryRegistry | RedisRegistry


def entry(number: int = 1, *, stage: str = "dev", tag: bytes = TAG) -> ConnectionEntry:
    return ConnectionEntry(
        key=ConnectionKey(API, stage, new_connection_id(tag, number.to_bytes(7, "big"))),
        connected_at_ms=1708326702789 + number,
        domain_name="gateway.example.com:8443",
        source_ip="192.0.2.10",
        user_agent="Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    )


async def opened(store: Store | Line, contact: Contact) -> RedisRegistry:
    """A registry of a node that has a tag and a session."""
    await store.index([TAG])
    assert await store.claim_tag(SESSION)
    contact.open(SESSION)
    return RedisRegistry(store, contact, api_id=API, timeout_s=0.01)


@pytest.fixture(
    params=[
        "memory",
        "store",
        pytest.param("redis", marks=pytest.mark.redis),
        pytest.param("cluster", marks=[pytest.mark.redis, pytest.mark.slow]),
    ]
)
async def registry(request: pytest.FixtureRequest) -> AsyncIterator[Registry]:
    async with AsyncExitStack() as stack:
        client: Any
        match request.param:
            case "memory":
                yield MemoryRegistry()
                return
            case "store":
                yield await opened(MemoryStore(), Contact())
                return
            case "redis":
                server = request.getfixturevalue("shared_valkey")
                client = await stack.enter_async_context(connected(server))
                await client.flushall()
            case _:
                servers = request.getfixturevalue("shared_valkey_cluster")
                client = await stack.enter_async_context(connected_to_cluster(servers))
        store = RedisStore(client, KEYS, timeout_s=10.0)
        stack.push_async_callback(store.close)
        yield await opened(store, Contact())


class TestEveryRegistry:
    async def test_a_connection_can_be_claimed_once(self, registry: Registry) -> None:
        await registry.add(entry())

        assert await registry.claim(entry().key, "one", 1000, "bye") is True
        assert await registry.claim(entry().key, "other", 1000, "bye") is False

    async def test_one_of_two_at_once_claims(self, registry: Registry) -> None:
        await registry.add(entry())

        claims = [registry.claim(entry().key, str(n), 1000, "") for n in range(2)]
        assert sorted(await asyncio.gather(*claims)) == [False, True]

    async def test_a_connection_that_was_never_added_cannot_be_claimed(
        self, registry: Registry
    ) -> None:
        await registry.add(entry())

        assert await registry.claim(entry(stage="prod").key, "one", 1000, "") is False
        assert await registry.claim(entry(2).key, "one", 1000, "") is False
        assert await registry.claim(entry().key, "one", 1000, "") is True

    async def test_the_claim_is_kept_until_the_event_is_delivered(self, registry: Registry) -> None:
        await registry.add(entry())
        assert (await registry.page()).records == [Record(entry(), None)]

        await registry.claim(entry().key, "AQIDBAUGBwgFCQo=", 1001, "Going away")
        claim = Claim("AQIDBAUGBwgFCQo=", 1001, "Going away")
        assert (await registry.page()).records == [Record(entry(), claim)]
        assert len(registry) == await registry.count() == 1

        await registry.finish(entry().key)
        assert (await registry.page()).records == []
        assert len(registry) == await registry.count() == 0

    async def test_what_is_finished_cannot_be_claimed_again(self, registry: Registry) -> None:
        await registry.add(entry())
        await registry.claim(entry().key, "one", 1000, "")
        await registry.finish(entry().key)

        assert await registry.claim(entry().key, "two", 1000, "") is False
        await registry.finish(entry().key)

    async def test_an_id_on_two_stages_is_two_connections(self, registry: Registry) -> None:
        await registry.add(entry())
        await registry.add(entry(stage="prod"))

        assert await registry.claim(entry().key, "one", 1000, "") is True
        await registry.finish(entry().key)
        assert (await registry.page()).records == [Record(entry(stage="prod"), None)]

    async def test_pages_hold_everything(self, registry: Registry) -> None:
        entries = [entry(number) for number in range(700)]
        await asyncio.gather(*map(registry.add, entries))

        found: dict[ConnectionKey, Record] = {}
        cursor, pages = None, 0
        while True:
            page = await registry.page(cursor, 50)
            found.update((record.entry.key, record) for record in page.records)
            pages += 1
            cursor = page.cursor
            if cursor is None:
                break
        assert found == {each.key: Record(each, None) for each in entries}
        assert await registry.count() == 700

    async def test_it_accepts(self, registry: Registry) -> None:
        assert registry.is_accepting


class TestLossOfContact:
    """What the registry does while nothing gets through, and after."""

    @pytest.fixture
    def store(self) -> MemoryStore:
        return MemoryStore()

    @pytest.fixture
    def line(self, store: MemoryStore) -> Line:
        return Line(store)

    @pytest.fixture
    def contact(self) -> Contact:
        return Contact()

    @pytest.fixture
    async def registry(self, line: Line, contact: Contact) -> RedisRegistry:
        return await opened(line, contact)

    async def reopen(self, line: Line, contact: Contact, registry: RedisRegistry) -> None:
        session = SESSION._replace(number=contact_number(contact) + 1)
        line.is_cut = line.answers_lost = False
        standing = await line.renew(session, opening=True)
        contact.open(session)
        assert await registry.resync(session, is_empty=standing is Standing.CREATED)

    async def test_connections_are_accepted_and_recorded_later(
        self, registry: RedisRegistry, line: Line, contact: Contact, store: MemoryStore
    ) -> None:
        contact.lose(SESSION)
        await registry.add(entry())
        assert await registry.count() == 0

        await self.reopen(line, contact, registry)
        assert (await registry.page()).records == [Record(entry(), None)]

    async def test_up_to_a_bound(self, line: Line, contact: Contact) -> None:
        await opened(line, contact)
        registry = RedisRegistry(line, contact, api_id=API, timeout_s=0.01, unwritten_max=2)
        contact.lose(SESSION)
        await registry.add(entry(1))
        assert accepts(registry)
        await registry.add(entry(2))

        assert not accepts(registry)
        with pytest.raises(Unavailable):
            await registry.add(entry(3))
        await self.reopen(line, contact, registry)
        assert accepts(registry)
        assert await registry.count() == 2

    async def test_or_not_at_all(self, line: Line, contact: Contact) -> None:
        await opened(line, contact)
        registry = RedisRegistry(line, contact, api_id=API, timeout_s=0.01, accepts_unwritten=False)
        assert accepts(registry)
        contact.lose(SESSION)

        assert not accepts(registry)
        with pytest.raises(Unavailable):
            await registry.add(entry())

    @pytest.mark.parametrize("fault", ["is_cut", "answers_lost"])
    async def test_one_whose_record_is_uncertain_is_refused_and_removed(
        self,
        registry: RedisRegistry,
        line: Line,
        contact: Contact,
        store: MemoryStore,
        fault: str,
    ) -> None:
        setattr(line, fault, True)
        with pytest.raises(Unavailable):
            await registry.add(entry())
        assert contact.session is None
        assert len(store.slot(TAG).entries) == (fault == "answers_lost")

        await self.reopen(line, contact, registry)
        assert await registry.count() == 0

    async def test_one_that_was_sent_just_before_waits_for_the_next_session(
        self, line: Line, contact: Contact
    ) -> None:
        await opened(line, contact)
        registry = RedisRegistry(line, contact, api_id=API, timeout_s=5.0)
        line.is_cut = True
        adding = asyncio.create_task(registry.add(entry()))
        await asyncio.wait_for(contact.wanted.wait(), 10)

        await self.reopen(line, contact, registry)
        await adding
        assert (await registry.page()).records == [Record(entry(), None)]

    async def test_a_claim_waits(
        self, registry: RedisRegistry, line: Line, contact: Contact, store: MemoryStore
    ) -> None:
        await registry.add(entry())
        line.answers_lost = True
        claiming = asyncio.create_task(registry.claim(entry().key, "one", 1000, "bye"))
        await asyncio.wait_for(contact.wanted.wait(), 10)
        assert not claiming.done()

        await self.reopen(line, contact, registry)
        assert await claiming is True
        assert (await registry.page()).records == [Record(entry(), Claim("one", 1000, "bye"))]

    async def test_a_finish_waits(
        self, registry: RedisRegistry, line: Line, contact: Contact
    ) -> None:
        await registry.add(entry())
        await registry.claim(entry().key, "one", 1000, "")
        line.is_cut = True
        finishing = asyncio.create_task(registry.finish(entry().key))
        await asyncio.wait_for(contact.wanted.wait(), 10)
        assert not finishing.done()

        await self.reopen(line, contact, registry)
        await finishing
        assert await registry.count() == 0

    async def test_a_restart_without_a_snapshot_loses_nothing(
        self, registry: RedisRegistry, line: Line, contact: Contact, store: MemoryStore
    ) -> None:
        entries = [entry(number) for number in range(1200)]
        await asyncio.gather(*map(registry.add, entries))
        await registry.claim(entries[0].key, "one", 1000, "")
        store.clear()

        assert await store.put(SESSION.hold, {b"a": b"1"}) is False
        contact.lose(SESSION)
        await self.reopen(line, contact, registry)
        await store.index([TAG])
        assert len((await registry.page()).records) == 1200
        assert Record(entries[0], Claim("one", 1000, "")) in (await registry.page()).records

    async def test_a_failover_to_a_replica_that_lagged(
        self, registry: RedisRegistry, line: Line, contact: Contact, store: MemoryStore
    ) -> None:
        """An entry added, one claimed and one finished are as they were a moment before."""
        for number in (1, 2):
            await registry.add(entry(number))
        replica = store.copy()
        await registry.add(entry(3))
        await registry.claim(entry(1).key, "one", 1000, "")
        await registry.claim(entry(2).key, "two", 1000, "")
        await registry.finish(entry(2).key)
        store.slots = replica.slots
        contact.lose(SESSION)

        await self.reopen(line, contact, registry)
        assert (await registry.page()).records == [
            Record(entry(1), Claim("one", 1000, "")),
            Record(entry(3), None),
        ]

    async def test_a_fenced_node_has_nothing_to_deliver(
        self, registry: RedisRegistry, contact: Contact
    ) -> None:
        await registry.add(entry(1))
        await registry.add(entry(2))
        contact.lose(SESSION)
        waiting = asyncio.create_task(registry.claim(entry(2).key, "one", 1001, ""))
        await asyncio.sleep(0)
        registry.fenced()
        contact.leave()
        contact.open(Session(b"\x09\x09\x09", "one", 2))

        assert await registry.claim(entry(1).key, "one", 1001, "") is False
        assert await waiting is False
        assert len(registry) == 0

    async def test_but_what_nobody_else_knows_of(
        self, registry: RedisRegistry, line: Line, contact: Contact
    ) -> None:
        contact.lose(SESSION)
        await registry.add(entry(1))
        await registry.add(entry(2))
        waiting = asyncio.create_task(registry.claim(entry(1).key, "one", 1001, ""))
        await asyncio.sleep(0)
        registry.fenced()
        contact.leave()
        assert not registry.is_accepting

        session = Session(b"\x09\x09\x09", "one", 2)
        await line.claim_tag(session)
        contact.open(session)
        await registry.resync(session, is_empty=True)
        assert await waiting is True
        assert await registry.claim(entry(2).key, "two", 1001, "") is True

    async def test_an_id_of_a_tag_given_up_is_not_taken(
        self, registry: RedisRegistry, contact: Contact
    ) -> None:
        contact.leave()
        with pytest.raises(Unavailable):
            await registry.add(entry())
        contact.open(Session(b"\x09\x09\x09", "one", 2))
        with pytest.raises(Unavailable):
            await registry.add(entry())

    async def test_a_session_that_ends_ends_the_comparison(
        self, registry: RedisRegistry, line: Line, contact: Contact
    ) -> None:
        await registry.add(entry())
        line.is_cut = True

        assert await registry.resync(SESSION, is_empty=False) is False
        assert contact.session is None

    async def test_commands_per_connection(
        self, registry: RedisRegistry, store: MemoryStore
    ) -> None:
        await registry.add(entry())
        assert store.commands == ["put"]
        await registry.claim(entry().key, "one", 1000, "")
        await registry.finish(entry().key)
        assert store.commands == ["put", "put", "remove"]


def accepts(registry: RedisRegistry) -> bool:
    """As it is now: mypy takes attributes for constant."""
    return registry.is_accepting


def contact_number(contact: Contact) -> int:
    return 1 if contact.session is None else contact.session.number


@pytest.mark.redis
class TestRedis:
    async def test_commands_of_one_turn_share_a_round_trip(self, redis: Redis) -> None:
        registry = await opened(RedisStore(redis, KEYS, timeout_s=10.0), Contact())
        await registry.add(entry(0))
        before = await redis.info("stats")
        await asyncio.gather(*(registry.add(entry(number)) for number in range(1, 101)))
        after = await redis.info("stats")

        # EVALSHA, its HGET and HSET are all counted, and one INFO.
        assert after["total_commands_processed"] - before["total_commands_processed"] == 301
        # Redis counts system calls to read from clients, so it is few.
        assert after["total_reads_processed"] - before["total_reads_processed"] <= 4

    @pytest.mark.slow
    async def test_bytes_per_connection(
        self, redis: Redis, capsys: pytest.CaptureFixture[str]
    ) -> None:
        registry = await opened(RedisStore(redis, KEYS, timeout_s=10.0), Contact())
        count = 10_000
        for start in range(0, count, 500):
            await asyncio.gather(*(registry.add(entry(start + n)) for n in range(500)))
        used = await redis.memory_usage(KEYS.entries(TAG), samples=0)
        assert used is not None

        with capsys.disabled():
            print(f"\nRedis holds {used / count:.0f} bytes per connection")  # noqa: T201 - a figure
        assert used / count < 400
