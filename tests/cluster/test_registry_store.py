"""One suite for every store: in memory, on Redis, on a cluster."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster.conftest import connected, connected_to_cluster
from tests.cluster_unit.stores import MemoryStore
from wsgateway.cluster.keys import Keys
from wsgateway.cluster.redis_store import RedisStore
from wsgateway.cluster.store import (
    NOBODY,
    ContactLost,
    Fence,
    Lease,
    Reading,
    Session,
    Standing,
    Taken,
    fence_hold,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from wsgateway.cluster.store import Store

KEYS = Keys("test", "abcde12345")
TAG = b"\x01\x02\x03"
ONE = Session(TAG, "one", 1)
EMPTY = Reading(None, None, 0)


@pytest.fixture(
    params=[
        "memory",
        pytest.param("redis", marks=pytest.mark.redis),
        pytest.param("cluster", marks=[pytest.mark.redis, pytest.mark.slow]),
    ]
)
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    async with AsyncExitStack() as stack:
        client: Any
        if request.param == "memory":
            yield MemoryStore()
            return
        if request.param == "redis":
            server = request.getfixturevalue("shared_valkey")
            client = await stack.enter_async_context(connected(server))
            await client.flushall()
        else:
            servers = request.getfixturevalue("shared_valkey_cluster")
            client = await stack.enter_async_context(connected_to_cluster(servers))
        one = RedisStore(client, KEYS, timeout_s=10.0)
        stack.push_async_callback(one.close)
        yield one


class TestIndex:
    async def test_tags_come_and_go(self, store: Store) -> None:
        assert await store.tags() == set()

        await store.index([TAG, b"\xff\xfe\xfd"])
        await store.index([TAG])
        assert await store.tags() == {TAG, b"\xff\xfe\xfd"}

        await store.unindex(TAG)
        await store.unindex(TAG)
        assert await store.tags() == {b"\xff\xfe\xfd"}


class TestLease:
    async def test_a_tag_has_one_holder(self, store: Store) -> None:
        assert await store.claim_tag(ONE) is True
        assert await store.claim_tag(ONE._replace(incarnation="other")) is False
        # The answer to the first attempt may have been lost.
        assert await store.claim_tag(ONE) is True
        assert await store.read(TAG) == Reading(Lease("one/1", 1), None, 0)

    async def test_renewing_moves_the_beat(self, store: Store) -> None:
        await store.claim_tag(ONE)

        assert await store.renew(ONE, opening=False) is Standing.HELD
        assert await store.renew(ONE, opening=False) is Standing.HELD
        assert await store.read(TAG) == Reading(Lease("one/1", 3), None, 0)

    async def test_a_lease_that_is_gone_is_not_renewed(self, store: Store) -> None:
        assert await store.renew(ONE, opening=False) is Standing.ABSENT
        assert await store.read(TAG) == EMPTY

    async def test_opening_a_session_writes_it_again(self, store: Store) -> None:
        session = ONE._replace(number=7)

        assert await store.renew(session, opening=True) is Standing.CREATED
        assert await store.read(TAG) == Reading(Lease("one/7", 1), None, 0)

    async def test_a_session_ends_those_before_it(self, store: Store) -> None:
        await store.claim_tag(ONE)
        two = ONE._replace(number=2)
        assert await store.renew(two, opening=False) is Standing.ABSENT
        assert await store.renew(two, opening=True) is Standing.HELD

        assert await store.renew(ONE, opening=False) is Standing.ABSENT
        assert await store.renew(ONE, opening=True) is Standing.ABSENT
        assert await store.put(ONE.hold, {b"late": b"1"}) is False
        assert await store.put(two.hold, {b"new": b"1"}) is True
        assert (await store.look(TAG, 0, 10)).items == [(b"new", b"1")]

    async def test_another_nodes_lease(self, store: Store) -> None:
        await store.claim_tag(ONE)

        other = ONE._replace(incarnation="other", number=9)
        assert await store.renew(other, opening=True) is Standing.TAKEN

    async def test_release_without_entries_says_that_the_node_is_gone(self, store: Store) -> None:
        await store.claim_tag(ONE)

        assert await store.release(ONE) is True
        assert await store.read(TAG) == Reading(None, Fence("one", NOBODY, 1), 0)
        assert await store.release(ONE) is False

    async def test_release_with_entries_leaves_a_fence_to_anybody(self, store: Store) -> None:
        await store.claim_tag(ONE)
        await store.put(ONE.hold, {b"a": b"1"})

        assert await store.release(ONE) is False
        reading = await store.read(TAG)
        assert reading == Reading(None, Fence("one", NOBODY, 1), 1)
        assert await store.fence(TAG, reading, "me") is True
        assert await store.read(TAG) == Reading(None, Fence("one", "me", 2), 1)


class TestFence:
    async def test_one_of_many_wins(self, store: Store) -> None:
        await store.claim_tag(ONE)
        reading = await store.read(TAG)

        assert await store.fence(TAG, reading, "me") is True
        assert await store.fence(TAG, reading, "you") is False
        assert await store.read(TAG) == Reading(None, Fence("one", "me", 1), 0)

    async def test_a_beat_meanwhile_prevents_it(self, store: Store) -> None:
        await store.claim_tag(ONE)
        reading = await store.read(TAG)
        await store.renew(ONE, opening=False)

        assert await store.fence(TAG, reading, "me") is False
        assert await store.renew(ONE, opening=False) is Standing.HELD

    async def test_the_fenced_node_finds_it_and_writes_nothing_more(self, store: Store) -> None:
        await store.claim_tag(ONE)
        await store.put(ONE.hold, {b"a": b"1"})
        await store.fence(TAG, await store.read(TAG), "me")

        assert await store.renew(ONE, opening=False) is Standing.FENCED
        assert await store.renew(ONE._replace(number=2), opening=True) is Standing.FENCED
        assert await store.put(ONE.hold, {b"b": b"1"}) is False
        assert await store.remove(ONE.hold, [b"a"]) is False
        assert await store.scan(ONE.hold, 0, 10) is None
        assert await store.release(ONE) is False

    async def test_a_fenced_tag_cannot_be_claimed(self, store: Store) -> None:
        await store.claim_tag(ONE)
        await store.fence(TAG, await store.read(TAG), "me")

        assert await store.claim_tag(Session(TAG, "other", 1)) is False

    async def test_a_tag_with_entries_cannot_be_claimed(self, store: Store) -> None:
        """Its lease was evicted, say."""
        await store.claim_tag(ONE)
        await store.put(ONE.hold, {b"a": b"1"})
        await store.fence(TAG, await store.read(TAG), "me")

        reading = await store.read(TAG)
        assert await store.claim_tag(Session(TAG, "other", 1)) is False
        assert await store.read(TAG) == reading

    async def test_a_recovering_node_shows_that_it_is_at_work(self, store: Store) -> None:
        await store.claim_tag(ONE)
        reading = await store.read(TAG)
        await store.fence(TAG, reading, "me")
        mine = fence_hold(TAG, "me")

        assert await store.beat(mine) is True
        assert await store.read(TAG) == Reading(None, Fence("one", "me", 2), 0)
        assert await store.beat(fence_hold(TAG, "you")) is False

    async def test_a_fence_changes_hands(self, store: Store) -> None:
        await store.claim_tag(ONE)
        await store.put(ONE.hold, {b"a": b"1"})
        await store.fence(TAG, await store.read(TAG), "me")
        mine, yours = fence_hold(TAG, "me"), fence_hold(TAG, "you")

        assert await store.fence(TAG, await store.read(TAG), "you") is True
        assert await store.beat(mine) is False
        assert await store.take(mine, b"a", b"2") is Taken.NOT_HELD
        assert await store.remove(mine, [b"a"]) is False
        assert await store.scan(mine, 0, 10) is None
        await store.hand_back(mine)
        assert await store.take(yours, b"a", b"2") is Taken.TAKEN
        assert await store.remove(yours, [b"a"]) is True
        assert await store.take(yours, b"a", b"3") is Taken.GONE
        await store.hand_back(yours)
        assert (await store.read(TAG)).fence == Fence("one", NOBODY, 3)

    async def test_nothing_at_all_can_be_fenced(self, store: Store) -> None:
        assert await store.fence(TAG, EMPTY, "me") is True
        assert await store.read(TAG) == Reading(None, Fence("", "me", 1), 0)


class TestEntries:
    async def test_put_remove_and_scan(self, store: Store) -> None:
        await store.claim_tag(ONE)
        assert await store.put(ONE.hold, {b"a": b"1", b"b": b"2"}) is True
        assert await store.put(ONE.hold, {b"a": b"3"}) is True
        assert await store.remove(ONE.hold, [b"b", b"c"]) is True

        batch = await store.scan(ONE.hold, 0, 10)
        assert batch is not None
        assert batch.cursor == 0
        assert batch.items == [(b"a", b"3")]
        assert (await store.read(TAG)).entry_count == 1

    async def test_a_scan_finds_all_of_many(self, store: Store) -> None:
        await store.claim_tag(ONE)
        items = {f"{n:05}".encode(): b"x" * 80 for n in range(2000)}
        numbered = list(items.items())
        for start in range(0, len(items), 500):
            await store.put(ONE.hold, dict(numbered[start : start + 500]))

        found: dict[bytes, bytes] = {}
        cursor, sizes = 0, []
        while True:
            batch = await store.scan(ONE.hold, cursor, 200)
            assert batch is not None
            found.update(batch.items)
            sizes.append(len(batch.items))
            cursor = batch.cursor
            if cursor == 0:
                break
        assert found == items
        if not isinstance(store, MemoryStore):
            assert max(sizes) < 400


@pytest.mark.redis
class TestRedis:
    async def test_a_fence_outlives_a_pause_but_not_for_ever(self, redis) -> None:
        store = RedisStore(redis, KEYS, timeout_s=10.0)
        await store.claim_tag(ONE)
        await store.fence(TAG, await store.read(TAG), "me")

        assert 86_000 < await redis.ttl(KEYS.fence(TAG)) <= 86_400

    async def test_scripts_that_redis_forgot_are_sent_again(self, redis) -> None:
        store = RedisStore(redis, KEYS, timeout_s=10.0)
        await store.claim_tag(ONE)
        await store.put(ONE.hold, {b"a": b"1"})
        await redis.script_flush()

        # Whether what followed it was carried out in order is not known, so the session is over.
        with pytest.raises(ContactLost, match="NoScript"):
            await store.put(ONE.hold, {b"a": b"2"})
        assert await store.put(ONE.hold, {b"a": b"2"}) is True
        assert await store.renew(ONE, opening=False) is Standing.HELD

    async def test_what_is_in_the_index_and_no_tag_is_left_out(self, redis) -> None:
        await redis.sadd(KEYS.nodes, "010203", "zz", "0102", b"\xff")

        assert await RedisStore(redis, KEYS, timeout_s=10.0).tags() == {TAG}

    async def test_a_server_that_refuses_is_no_contact(self, redis) -> None:
        store = RedisStore(redis, KEYS, timeout_s=10.0)
        await redis.set(KEYS.lease(TAG), "not a hash")

        with pytest.raises(ContactLost, match="WRONGTYPE"):
            await store.claim_tag(ONE)
        with pytest.raises(ContactLost, match="WRONGTYPE"):
            await store.put(ONE.hold, {b"a": b"1"})
