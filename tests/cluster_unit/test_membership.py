"""A node's place among the others, one step at a time."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

import pytest

from tests.cluster_unit.stores import Line, MemoryStore
from tests.e2e.process import until
from wsgateway.cluster.contact import Contact
from wsgateway.cluster.membership import Membership
from wsgateway.cluster.redis_registry import RedisRegistry
from wsgateway.cluster.store import ContactLost, Fence, Lease, Session

API = "abcde12345"


@dataclass
class Node:
    store: MemoryStore
    lease_s: float = 4.0
    now: float = 100.0
    drawn: int = 0
    happened: list[object] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.line = Line(self.store)
        self.contact = Contact()
        self.registry = RedisRegistry(self.line, self.contact, api_id=API, timeout_s=0.01)
        self.membership = Membership(
            self.line,
            self.contact,
            self.registry,
            api_id=API,
            lease_s=self.lease_s,
            orphan=self.orphan,
            on_fenced=lambda: self.happened.append("fenced"),
            on_joined=self.happened.append,
            entropy=self.entropy,
            recovery_concurrency_max=2,
            now=lambda: self.now or time.monotonic(),
        )

    async def join(self) -> bytes:
        """Start, but for the loops: the test does what they do."""
        return await self.membership._join()

    async def orphan(self, *what: object) -> None:
        self.happened.append(what)

    def entropy(self, size: int) -> bytes:
        self.drawn += 1
        return self.drawn.to_bytes(size, "big")


@pytest.fixture
async def node():
    one = Node(MemoryStore())
    yield one
    await one.membership.stop(hand_over=False)


async def test_without_a_store_it_does_not_start(node: Node) -> None:
    node.line.is_cut = True
    with pytest.raises(ContactLost):
        await node.membership.start()

    node.line.is_cut = False
    tag = await node.membership.start()
    assert node.contact.tag == tag
    assert node.store.nodes == {tag}
    health = node.membership.health()
    assert health == (tag, None, True, 0, 0, 0, 0)


async def test_a_tag_that_may_have_been_taken_is_asked_for_again(node: Node) -> None:
    """The answer was lost: the tag is this node's, and no other is needed."""
    node.line.answers_lost = True
    node.store.nodes.add(b"\0\0\2")
    index = node.store.index
    node.line.answers_lost = False

    async def lose_the_next_answer(tags):
        await index(tags)
        node.line.answers_lost = True

    node.store.index = lose_the_next_answer  # type: ignore[method-assign]
    with pytest.raises(ContactLost):
        await node.join()
    node.store.index = index  # type: ignore[method-assign]
    node.line.answers_lost = False

    assert await node.join() == b"\0\0\2"


async def test_it_gives_up_drawing_tags(node: Node) -> None:
    for number in range(30):
        await node.store.claim_tag(Session(number.to_bytes(3, "big"), "other", 1))

    with pytest.raises(ContactLost, match="no tag was free"):
        await node.join()


async def test_a_fenced_node_joins_anew_when_it_can(node: Node) -> None:
    tag = await node.join()
    await node.store.fence(tag, await node.store.read(tag), "other")
    claim_tag = node.store.claim_tag

    async def refuse(session: Session) -> bool:
        raise ContactLost("not now")

    node.store.claim_tag = refuse  # type: ignore[method-assign]
    assert await node.membership.beat() is False
    assert node.happened == ["fenced"]
    assert node.contact.tag is None
    assert await node.membership.beat() is False

    node.store.claim_tag = claim_tag  # type: ignore[method-assign]
    assert await node.membership.beat() is True
    assert node.happened == ["fenced", node.contact.tag]
    assert node.contact.tag != tag
    assert node.membership.health().fenced == 1


async def test_a_lease_that_is_gone_is_written_again_at_once(node: Node) -> None:
    tag = await node.join()
    node.store.clear()

    assert await node.membership.beat() is True
    await asyncio.sleep(0.01)
    assert (await node.store.read(tag)).lease == Lease(f"{node.membership.incarnation}/2", 1)
    assert node.store.nodes == {tag}
    assert node.happened == []


async def test_how_long_contact_has_been_lost(node: Node) -> None:
    await node.join()
    node.line.is_cut = True
    assert await node.membership.beat() is False
    node.now += 3.0
    assert await node.membership.beat() is False

    assert node.membership.health().contact_lost_s == 3.0
    assert node.membership.health().is_certain
    node.now += 2.0
    assert not node.membership.health().is_certain
    node.line.is_cut = False
    assert await node.membership.beat() is True
    assert node.membership.health().contact_lost_s is None


async def test_a_stop_that_cannot_be_told(node: Node) -> None:
    tag = await node.join()
    node.line.is_cut = True

    assert await node.membership.stop(hand_over=True) == 0
    assert (await node.store.read(tag)).lease is not None


async def test_a_stop_after_contact_is_back_hands_over(node: Node) -> None:
    tag = await node.join()
    await node.line.put(node.contact.session.hold, {b"a": b"1"})  # type: ignore[union-attr]
    node.line.is_cut = True
    await node.membership.beat()
    node.line.is_cut = False
    node.store.slot(tag).entries[b"AQIDBAUGBwgCCQo=dev"] = b"[1]"

    await node.membership.stop(hand_over=True)
    reading = await node.store.read(tag)
    # What nobody knew of was removed; what could not be read is left to others.
    assert reading.fence == Fence(node.membership.incarnation, "", 1)
    assert reading.entry_count == 1


async def test_a_look_that_cannot_be_finished(node: Node) -> None:
    await node.join()
    await node.membership.look()
    node.line.is_cut = True
    await node.membership.look()

    assert node.membership.health().others == 0


async def test_a_decision_that_cannot_be_carried_out_waits(node: Node) -> None:
    await node.join()
    await node.store.index([b"zzz"])

    async def refuse(tag: bytes) -> None:
        raise ContactLost("not now")

    unindex = node.store.unindex
    node.store.unindex = refuse  # type: ignore[method-assign]
    await node.membership.look()
    assert b"zzz" in node.store.nodes

    node.store.unindex = unindex  # type: ignore[method-assign]
    await node.membership.look()
    assert b"zzz" not in node.store.nodes


# --- bugs: a node whose loop has ended would be given up while it serves


async def fail(*_: object, **__: object) -> object:
    raise RuntimeError("a bug")


async def test_a_renewal_that_fails_is_a_loss_of_contact(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    await node.join()
    with monkeypatch.context() as faulty:
        faulty.setattr(node.store, "renew", fail)
        assert await node.membership.beat() is False
    assert node.contact.session is None
    assert node.membership.health().contact_lost_s == 0

    assert await node.membership.beat() is True


async def test_a_comparison_that_fails_is_made_again(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as faulty:
        faulty.setattr(node.registry, "resync", fail)
        await node.join()
        await asyncio.sleep(0.01)
    assert node.contact.session is None

    assert await node.membership.beat() is True
    await asyncio.sleep(0.01)
    assert node.contact.session is not None


async def test_a_look_that_fails_holds_nothing_against_anybody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # With the machine's time, as its loops run.
    node = Node(MemoryStore(), lease_s=0.04, now=0.0)
    looks = 0

    async def fail_to_read(_: bytes) -> None:
        nonlocal looks
        looks += 1
        raise RuntimeError("a bug")

    await node.store.claim_tag(Session(b"oth", "other", 1))
    await node.store.index([b"oth"])
    monkeypatch.setattr(node.store, "read", fail_to_read)
    await node.membership.start()
    await until(lambda: looks >= 3)
    monkeypatch.undo()
    await until(lambda: node.store.slot(b"oth").fence is not None)
    await node.membership.stop(hand_over=False)


async def test_a_recovery_that_fails_is_left_to_others(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    await node.join()
    await node.store.claim_tag(Session(b"oth", "other", 1))
    await node.store.put(Session(b"oth", "other", 1).hold, {b"a": b"1"})
    await node.store.index([b"oth"])
    monkeypatch.setattr(node.store, "scan", fail)
    await node.membership.look()
    node.now += 1
    await node.membership.look()
    for _ in range(3):
        node.now += 1
        await node.membership.look()
    await asyncio.sleep(0.01)

    fence = (await node.store.read(b"oth")).fence
    assert fence is not None
    assert fence.holder == node.membership.incarnation
    assert node.membership.health().recovering == 0
    # It does not beat, so others take it after a lease time; this one not at once.
    node.now += 1
    await node.membership.look()
    assert node.membership.health().recovering == 0
