"""What one survivor does with what a gone node has left."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.cluster_unit.stores import Line, MemoryStore
from wsgateway.cluster.entries import Claim, encode, field_of
from wsgateway.cluster.recovery import Line as Places, Outcome, Recovery
from wsgateway.cluster.store import Batch, Session, fence_hold
from wsgateway.connection import ConnectionEntry, ConnectionKey
from wsgateway.connection_id import new_connection_id, orphan_request_id

if TYPE_CHECKING:
    from collections.abc import Callable

API = "abcde12345"
TAG = b"abc"
GONE = Session(TAG, "gone", 1)


def entry(number: int) -> ConnectionEntry:
    key = ConnectionKey(API, "dev", new_connection_id(TAG, number.to_bytes(7, "big")))
    return ConnectionEntry(key, 1, "h", "i", None)


def orphan_id(number: int) -> str:
    return orphan_request_id(entry(number).key.connection_id)


class Scene:
    def __init__(self) -> None:
        self.store = MemoryStore()
        self.line = Line(self.store)
        self.delivered: list[tuple[int, str, int, str]] = []
        self.on_deliver: Callable[[], object] = lambda: None
        self.at_once = self.most_at_once = 0

    async def gone(self, count: int, claim: Claim | None = None) -> None:
        await self.store.claim_tag(GONE)
        items = {field_of(entry(n).key): encode(entry(n), claim) for n in range(count)}
        await self.store.put(GONE.hold, items)
        await self.store.fence(TAG, await self.store.read(TAG), "me")

    async def deliver(self, of: ConnectionEntry, request_id: str, code: int, reason: str) -> None:
        number = [entry(n).key for n in range(100)].index(of.key)
        self.delivered.append((number, request_id, code, reason))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self.on_deliver()
        await asyncio.sleep(0)
        self.at_once -= 1

    def recovery(self, *, concurrency_max: int = 4, rate_max: float = 1e9) -> Recovery:
        return Recovery(
            self.line,
            TAG,
            incarnation="me",
            api_id=API,
            orphan=self.deliver,
            line=Places(concurrency_max=concurrency_max, rate_max=rate_max),
            retry_s=0.001,
        )


@pytest.fixture
def scene() -> Scene:
    return Scene()


async def test_everything_is_delivered_and_removed(scene: Scene) -> None:
    await scene.gone(20)

    assert await scene.recovery().run() is Outcome.DONE
    assert sorted(number for number, *_ in scene.delivered) == list(range(20))
    assert {(code, reason) for _, _, code, reason in scene.delivered} == {(1006, "")}
    assert scene.store.slot(TAG).entries == {}
    assert scene.most_at_once <= 4


async def test_nothing_to_deliver(scene: Scene) -> None:
    await scene.gone(0)

    assert await scene.recovery().run() is Outcome.DONE


async def test_a_claim_is_kept(scene: Scene) -> None:
    await scene.gone(1, Claim("stored", 4000, "bye"))

    await scene.recovery().run()
    assert scene.delivered == [(0, "stored", 4000, "bye")]


async def test_the_claim_stands_in_the_store_before_the_delivery(scene: Scene) -> None:
    await scene.gone(1)
    stored: list[bytes] = []
    scene.on_deliver = lambda: stored.extend(scene.store.slot(TAG).entries.values())

    await scene.recovery().run()
    assert stored == [encode(entry(0), Claim(orphan_id(0), 1006, ""))]


async def test_nothing_begins_after_the_fence_is_anothers(scene: Scene) -> None:
    """It slept, and was overtaken: what was in flight ends, and that is all."""
    await scene.gone(20)

    def overtake() -> None:
        fence = scene.store.slot(TAG).fence
        assert fence is not None
        scene.store.slot(TAG).fence = fence._replace(holder="you")

    scene.on_deliver = overtake
    assert await scene.recovery(concurrency_max=3).run() is Outcome.OVERTAKEN
    assert len(scene.delivered) <= 3
    assert len(scene.store.slot(TAG).entries) == 20


async def test_a_fence_that_is_anothers_from_the_start(scene: Scene) -> None:
    await scene.gone(3)
    await scene.store.fence(TAG, await scene.store.read(TAG), "you")

    assert await scene.recovery().run() is Outcome.OVERTAKEN
    assert scene.delivered == []


async def test_what_is_delivered_is_removed_when_contact_is_back(scene: Scene) -> None:
    """And not delivered again."""
    await scene.gone(10)
    loop = asyncio.get_running_loop()

    def cut() -> None:
        scene.on_deliver = lambda: None
        scene.line.is_cut = True
        loop.call_later(0.01, setattr, scene.line, "is_cut", False)

    scene.on_deliver = cut
    assert await scene.recovery().run() is Outcome.DONE
    assert sorted(number for number, *_ in scene.delivered) == list(range(10))
    assert scene.store.slot(TAG).entries == {}


async def test_one_that_a_scan_tells_of_twice_is_delivered_once(scene: Scene) -> None:
    """As HSCAN may while the table is resized: at once, or after it is gone."""
    await scene.gone(3)
    items = list(scene.store.slot(TAG).entries.items())
    batches = [Batch(1, items + items), Batch(0, items)]
    scan = scene.store.scan

    async def twice(hold, cursor, size):
        return batches.pop(0) if batches else await scan(hold, cursor, size)

    scene.store.scan = twice  # type: ignore[method-assign]
    assert await scene.recovery().run() is Outcome.DONE
    assert sorted(number for number, *_ in scene.delivered) == [0, 1, 2]


async def test_what_it_does_not_understand_stays(scene: Scene) -> None:
    await scene.gone(2)
    newer = {field_of(entry(7).key): b"[2]", b"?": b"[]"}
    scene.store.slot(TAG).entries.update(newer)

    assert await scene.recovery().run() is Outcome.ABANDONED
    assert len(scene.delivered) == 2
    assert scene.store.slot(TAG).entries == newer


async def test_a_delivery_that_raises_counts_as_one(scene: Scene) -> None:
    await scene.gone(2)

    def fail() -> None:
        raise ValueError("a bug")

    scene.on_deliver = fail
    assert await scene.recovery().run() is Outcome.DONE
    assert len(scene.delivered) == 2


async def test_the_end_of_a_recovery_leaves_claims(scene: Scene) -> None:
    await scene.gone(3)
    began = asyncio.Event()

    count = iter(range(3))

    async def for_ever(*args: object) -> None:
        if next(count) == 2:
            began.set()
        await asyncio.Event().wait()

    scene.deliver = for_ever  # type: ignore[method-assign,assignment]
    task = asyncio.create_task(scene.recovery().run())
    await began.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    hold = fence_hold(TAG, "me")
    batch = await scene.store.scan(hold, 0, 10)
    assert batch is not None
    assert sorted(batch.items) == [
        (field_of(entry(n).key), encode(entry(n), Claim(orphan_id(n), 1006, ""))) for n in range(3)
    ]


async def test_the_rate_is_bounded(scene: Scene) -> None:
    await scene.gone(6)
    loop = asyncio.get_running_loop()
    started_at = loop.time()

    await scene.recovery(rate_max=100).run()
    assert loop.time() - started_at >= 0.045
