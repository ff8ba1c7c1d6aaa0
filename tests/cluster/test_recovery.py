"""Nodes on a real Valkey that die, sleep and stop, and a Valkey that goes away and comes back."""

from __future__ import annotations

import asyncio
import os
import time
from collections import defaultdict
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster.conftest import connected, connected_to_cluster
from tests.cluster_unit.test_model import Way
from wsgateway.cluster.contact import Contact
from wsgateway.cluster.entries import Claim, encode, field_of
from wsgateway.cluster.keys import Keys
from wsgateway.cluster.leases import Times
from wsgateway.cluster.membership import Membership
from wsgateway.cluster.redis_registry import RedisRegistry
from wsgateway.cluster.redis_store import RedisStore
from wsgateway.cluster.store import ContactLost, Session
from wsgateway.connection import ConnectionEntry, ConnectionKey
from wsgateway.connection_id import new_connection_id

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from redis.asyncio import Redis

    from tests.cluster.valkey import Server

pytestmark = [pytest.mark.redis, pytest.mark.slow, pytest.mark.timeout(120)]

API = "abcde12345"
KEYS = Keys("test", API)
LEASE_S = 1.2
# As long as a busy machine may need.
DEADLINE_S = 60.0
CONCURRENCY = 20


class Node:
    """What a gateway does with its membership, without the gateway."""

    def __init__(
        self, client: Any, world: World, entropy: Callable[[int], bytes] = os.urandom
    ) -> None:
        self.world = world
        self.store = RedisStore(client, KEYS, timeout_s=Times(LEASE_S).beat_interval_s)
        self.way = Way(self.store)
        self.contact = Contact()
        self.registry = RedisRegistry(
            self.way,
            self.contact,
            api_id=API,
            timeout_s=DEADLINE_S,
        )
        self.open: dict[ConnectionKey, ConnectionEntry] = {}
        self.closed_with_1001 = 0
        self.tags: list[bytes] = []
        self.in_flight = 0
        self.hold: asyncio.Event | None = None
        self.membership = Membership(
            self.way,
            self.contact,
            self.registry,
            api_id=API,
            lease_s=LEASE_S,
            orphan=self.orphan,
            on_fenced=self.on_fenced,
            on_joined=self.tags.append,
            entropy=entropy,
            recovery_concurrency_max=CONCURRENCY,
        )

    async def start(self) -> Node:
        self.tags.append(await self.membership.start())
        return self

    @property
    def tag(self) -> bytes:
        return self.tags[-1]

    @property
    def is_silent(self) -> bool:
        """Whether nothing is under way to Redis."""
        store = self.store
        lanes = (*store._lanes.values(), *store._looks.values(), *store._urgent.values())
        return all(lane.is_idle for lane in lanes)

    async def connect(self, count: int) -> list[ConnectionKey]:
        entries = []
        for _ in range(count):
            key = ConnectionKey(API, "dev", new_connection_id(self.tag, os.urandom(10)))
            entries.append(ConnectionEntry(key, 1708326702789, "h", "192.0.2.10", "client/1.0"))
        await asyncio.gather(*map(self.registry.add, entries))
        self.open.update((entry.key, entry) for entry in entries)
        return [entry.key for entry in entries]

    async def disconnect(self, key: ConnectionKey) -> None:
        request_id = os.urandom(8).hex()
        if await self.registry.claim(key, request_id, 1000, "bye"):
            del self.open[key]
            self.world.delivered[key].append((request_id, 1000, "bye"))
            await self.registry.finish(key)

    async def orphan(self, entry: ConnectionEntry, request_id: str, code: int, reason: str) -> None:
        self.world.delivered[entry.key].append((request_id, code, reason))
        self.world.last_at = time.monotonic()
        self.in_flight += 1
        if self.hold is not None:
            await self.hold.wait()
        self.in_flight -= 1

    def on_fenced(self) -> None:
        self.closed_with_1001 += len(self.open)
        self.open.clear()

    async def die(self) -> None:
        self.way.is_dead = True
        await self.membership.stop(hand_over=False)
        await self.store.close()


class World:
    """Several nodes, and what was delivered."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        self.delivered: dict[ConnectionKey, list[tuple[str, int, str]]] = defaultdict(list)
        self.last_at = 0.0

    async def node(self, server: Server, **options: Any) -> Node:
        client = await self._stack.enter_async_context(connected(server))
        return await self.add(Node(client, self, **options))

    async def add(self, node: Node) -> Node:
        self._stack.push_async_callback(self._end, node)
        return await node.start()

    async def _end(self, node: Node) -> None:
        node.way.awake.set()
        await node.die()


@asynccontextmanager
async def nodes() -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        yield World(stack)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with nodes() as world:
        yield world


async def wait_for(condition: Callable[[], object], within_s: float = DEADLINE_S) -> None:
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - of other parts, which tell nobody
            await asyncio.sleep(0.005)


async def wait_for_count(node: Node, count: int) -> None:
    """Wait until that many connections are registered, on all nodes."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            # Contact may be lost once more.
            with suppress(ContactLost):
                if await node.registry.count() >= count:
                    return
            await asyncio.sleep(0.01)


async def wait_for_tags(redis: Redis, *living: Node) -> None:
    """Wait until the index holds these nodes, and no other one."""
    tags = {node.tag.hex().encode() for node in living}
    async with asyncio.timeout(DEADLINE_S):
        # Redis tells nobody.
        while await redis.smembers(KEYS.nodes) != tags:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def lease_times(count: float) -> None:
    """Time in which nothing is to happen."""
    await asyncio.sleep(count * LEASE_S)


async def left(redis: Redis) -> list[bytes]:
    return sorted([key async for key in redis.scan_iter("test:*")])


async def test_a_node_dies(
    world: World, redis: Redis, shared_valkey: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two, three = [await world.node(shared_valkey) for _ in range(3)]
    keys = await one.connect(500)
    await two.connect(10)
    await lease_times(1.2)

    died_at = time.monotonic()
    await one.die()
    await wait_for(lambda: len(world.delivered) == 500)

    with capsys.disabled():
        seconds = world.last_at - died_at
        print(  # noqa: T201 - a figure
            f"\n{seconds:.2f} s from a node's death to the last of 500 $disconnects,"
            f" {seconds / LEASE_S:.1f} lease times"
        )
    assert world.delivered.keys() == set(keys)
    assert all(len(each) == 1 for each in world.delivered.values())
    assert {each[0][1:] for each in world.delivered.values()} == {(1006, "")}
    assert len({each[0][0] for each in world.delivered.values()}) == 500
    await wait_for(lambda: not two.membership.health().recovering)
    await wait_for(lambda: not three.membership.health().recovering)
    assert two.membership.health().recovered + three.membership.health().recovered == 500
    await wait_for_tags(redis, two, three)
    # The lease is gone, so posts are answered 410; the fence stays for the day.
    assert await redis.exists(KEYS.lease(one.tag), KEYS.entries(one.tag)) == 0
    assert await redis.hget(KEYS.fence(one.tag), "of") == one.membership.incarnation.encode()


async def test_the_recovering_node_dies(
    world: World, redis: Redis, shared_valkey: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two, three = [await world.node(shared_valkey) for _ in range(3)]
    keys = await one.connect(200)
    # Whoever recovers first gets stuck in its deliveries.
    two.hold = three.hold = asyncio.Event()
    await one.die()
    await wait_for(lambda: two.in_flight + three.in_flight == CONCURRENCY)
    first, second = (two, three) if two.in_flight else (three, two)
    second.hold = None
    # Slow functions do not make it look dead.
    await lease_times(2)
    assert len(world.delivered) == CONCURRENCY

    await first.die()
    await wait_for(lambda: len(world.delivered) == 200)
    await wait_for(lambda: not second.membership.health().recovering)

    twice = [each for each in world.delivered.values() if len(each) > 1]
    with capsys.disabled():
        print(f"\n{len(twice)} delivered twice, each with the same request id")  # noqa: T201 - a figure
    assert world.delivered.keys() == set(keys)
    assert all(len(set(each)) == 1 for each in world.delivered.values())
    assert len(twice) == CONCURRENCY


async def test_what_was_claimed_comes_back_as_it_was(
    world: World, redis: Redis, shared_valkey: Server
) -> None:
    one, two = [await world.node(shared_valkey) for _ in range(2)]
    (key,) = await one.connect(1)
    assert await one.registry.claim(key, "AQIDBAUGBwgFCQo=", 4000, "bye")
    await one.die()

    await wait_for(lambda: world.delivered)
    assert world.delivered[key] == [("AQIDBAUGBwgFCQo=", 4000, "bye")]
    await wait_for(lambda: two.membership.health().is_certain)


async def test_a_node_that_slept_finds_its_fence(
    world: World, redis: Redis, shared_valkey: Server
) -> None:
    one, two = [await world.node(shared_valkey) for _ in range(2)]
    keys = await one.connect(50)
    tag = one.tag
    one.way.awake.clear()
    await wait_for(lambda: len(world.delivered) == 50)
    # What it was about to do when it fell asleep.
    late = asyncio.create_task(one.disconnect(keys[0]))

    one.way.awake.set()
    await wait_for(lambda: len(one.tags) == 2)
    await late
    assert one.closed_with_1001 == 50
    assert one.tag != tag
    assert one.membership.health().fenced == 1
    assert all(len(each) == 1 for each in world.delivered.values())
    # It is a node like any other now.
    await one.connect(5)
    assert await two.registry.count() == 5


async def test_redis_stands_still_for_two_lease_times(world: World, valkey: Server) -> None:
    one, two = [await world.node(valkey) for _ in range(2)]
    keys = await one.connect(20) + await two.connect(20)
    valkey.pause()
    await wait_for(lambda: one.membership.health().contact_lost_s is not None)
    claiming = asyncio.create_task(one.disconnect(keys[0]))
    await lease_times(2)
    assert not claiming.done()
    assert not one.membership.health().is_certain
    late = await one.connect(3)

    valkey.resume()
    await wait_for(lambda: one.contact.session and two.contact.session)
    await claiming
    await lease_times(3)
    assert list(world.delivered) == [keys[0]]
    assert len(one.tags) == len(two.tags) == 1
    assert await two.registry.count() == 42
    await asyncio.gather(*map(one.disconnect, late))
    assert await two.registry.count() == 39


async def test_redis_comes_back_empty(world: World, valkey: Server) -> None:
    one, two = [await world.node(valkey) for _ in range(2)]
    await one.connect(1200)
    await two.connect(5)
    valkey.kill()
    await wait_for(lambda: one.membership.health().contact_lost_s is not None)
    await one.connect(3)
    await lease_times(1.5)

    valkey.restart()
    await wait_for(lambda: one.contact.session and two.contact.session)
    await wait_for_count(one, 1208)
    await lease_times(3)
    assert not world.delivered
    assert await two.registry.count() == 1208


async def test_a_flush_under_load_is_healed(
    world: World, redis: Redis, shared_valkey: Server
) -> None:
    one, two = [await world.node(shared_valkey) for _ in range(2)]
    await one.connect(100)
    await redis.flushall()
    await one.connect(100)
    await wait_for_count(two, 200)
    await lease_times(2)
    assert not world.delivered
    assert len(one.tags) == len(two.tags) == 1


async def test_a_lost_index_heals(world: World, redis: Redis, shared_valkey: Server) -> None:
    """Also with a node in it that dies in the same moment."""
    one, two = [await world.node(shared_valkey) for _ in range(2)]
    await one.connect(10)
    await wait_for(lambda: two.membership.health().others == 1)
    await one.die()
    await redis.delete(KEYS.nodes)

    await wait_for(lambda: len(world.delivered) == 10)
    await wait_for(lambda: two.membership.health().others == 0)
    await wait_for_tags(redis, two)


async def test_a_stop_in_order_leaves_a_fence_and_nothing_else(
    world: World, redis: Redis, shared_valkey: Server
) -> None:
    one = await world.node(shared_valkey)
    for key in await one.connect(10):
        await one.disconnect(key)

    tag = one.contact.tag
    assert tag is not None

    assert await one.membership.stop(hand_over=True) == 0
    fence = KEYS.fence(tag)
    assert await left(redis) == [fence.encode()]
    assert await redis.ttl(fence) > 0


async def test_a_stop_hands_over_what_is_not_finished(
    world: World, redis: Redis, shared_valkey: Server
) -> None:
    one, two = [await world.node(shared_valkey) for _ in range(2)]
    await one.connect(30)
    await lease_times(1)
    stopped_at = time.monotonic()

    assert await one.membership.stop(hand_over=True) == 30
    await wait_for(lambda: len(world.delivered) == 30)
    # Nobody waited to see it stand still.
    assert world.last_at - stopped_at < LEASE_S
    assert two.membership.health().recovered + two.membership.health().recovering


async def test_a_stop_hands_a_recovery_over(
    world: World, redis: Redis, shared_valkey: Server
) -> None:
    one, two = [await world.node(shared_valkey) for _ in range(2)]
    await one.connect(50)
    two.hold = asyncio.Event()
    await one.die()
    await wait_for(lambda: two.in_flight == CONCURRENCY)
    three = await world.node(shared_valkey)
    stopped_at = time.monotonic()
    await two.membership.stop(hand_over=True)

    await wait_for(lambda: len(world.delivered) == 50)
    assert world.last_at - stopped_at < LEASE_S
    assert three.membership.health().fenced == 0
    assert all(len(set(each)) == 1 for each in world.delivered.values())


async def test_two_that_draw_the_same_tag(
    world: World, redis: Redis, shared_valkey: Server
) -> None:
    def drawing(*tags: bytes) -> Callable[[int], bytes]:
        left = list(tags)
        return lambda size: left.pop(0) if size == 3 and left else os.urandom(size)

    one = await world.node(shared_valkey, entropy=drawing(b"abc"))
    two = await world.node(shared_valkey, entropy=drawing(b"abc", b"abd"))

    assert (one.tag, two.tag) == (b"abc", b"abd")


async def test_another_has_the_tag_since_redis_forgot(
    world: World, redis: Redis, shared_valkey: Server
) -> None:
    """Its connections are known to nobody else, so their events are its own to deliver."""
    one = await world.node(shared_valkey)
    tag, keys = one.tag, await one.connect(5)
    entries = dict(one.open)
    one.way.awake.clear()
    await wait_for(lambda: one.is_silent)
    await redis.flushall()
    await RedisStore(redis, KEYS, timeout_s=1.0).claim_tag(Session(tag, "other", 1))
    one.way.awake.set()

    await wait_for(lambda: len(one.tags) == 2)
    assert one.closed_with_1001 == 5
    one.open = entries
    await asyncio.gather(*map(one.disconnect, keys))
    assert world.delivered.keys() == set(keys)


async def test_entries_of_a_newer_version_are_left_to_newer_nodes(
    world: World, redis: Redis, shared_valkey: Server
) -> None:
    one, two = [await world.node(shared_valkey) for _ in range(2)]
    (key,) = await one.connect(1)
    await redis.hset(KEYS.entries(one.tag), field_of(key), b'[2,"?"]')
    await one.connect(1)
    await one.die()

    await wait_for(lambda: len(world.delivered) == 1)
    await wait_for(lambda: not two.membership.health().recovering)
    await lease_times(1)
    assert await redis.hgetall(KEYS.entries(one.tag)) == {field_of(key): b'[2,"?"]'}
    assert two.membership.health().recovering == 0


async def test_all_nodes_die_and_one_comes_back(
    world: World, redis: Redis, shared_valkey: Server
) -> None:
    one, two = [await world.node(shared_valkey) for _ in range(2)]
    await one.connect(5)
    await two.connect(5)
    await asyncio.gather(one.die(), two.die())

    await world.node(shared_valkey)
    await wait_for(lambda: len(world.delivered) == 10)


async def test_no_wall_clock(
    world: World, redis: Redis, shared_valkey: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong clock, and one that is set, are nobody's death."""
    one, two = [await world.node(shared_valkey) for _ in range(2)]
    await one.connect(5)
    for offset in (86_400.0, -86_400.0):
        monkeypatch.setattr(time, "time", lambda offset=offset: 1.7e9 + offset)
        await lease_times(1.5)
    assert not world.delivered
    await wait_for(lambda: two.membership.health().is_certain)


async def test_on_a_cluster(shared_valkey_cluster: Any) -> None:
    async with AsyncExitStack() as stack:
        world = World(stack)
        client = await stack.enter_async_context(connected_to_cluster(shared_valkey_cluster))
        one, two, _ = [await world.add(Node(client, world)) for _ in range(3)]
        keys = await one.connect(100)
        await two.connect(10)
        await one.die()
        await wait_for(lambda: len(world.delivered) == 100)
        assert world.delivered.keys() == set(keys)
        assert all(len(each) == 1 for each in world.delivered.values())
        assert await two.registry.count() == 10


def test_an_orphans_claim_is_written_as_a_nodes_own() -> None:
    key = ConnectionKey(API, "dev", new_connection_id(b"abc", bytes(7)))
    entry = ConnectionEntry(key, 1, "h", "i", None)

    assert encode(entry, Claim("r", 1006, "")) == b'[1,1,"h","i",null,["r",1006,""]]'
