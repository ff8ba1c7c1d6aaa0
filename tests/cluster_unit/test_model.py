"""Nodes that come, go, sleep and lose contact, against a simple model of what must hold.

The nodes are real, with all their loops, on an event loop whose time is an input. The store is the
one in memory, and looks over the shoulder of who writes fences.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.cluster_unit.stores import MemoryStore
from wsgateway.cluster.contact import Contact
from wsgateway.cluster.entries import decode, field_of
from wsgateway.cluster.membership import Membership
from wsgateway.cluster.redis_registry import RedisRegistry
from wsgateway.cluster.store import NOBODY, ContactLost
from wsgateway.connection import ConnectionEntry, ConnectionKey
from wsgateway.connection_id import new_connection_id
from wsgateway.errors import Unavailable

API = "abcde12345"
LEASE_S = 8.0
CALL_S = 0.5
CONCURRENCY = 3


class ManualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time is a number."""

    now = 1000.0

    def time(self) -> float:
        return self.now

    def settle(self) -> None:
        for _ in range(30):
            self.call_soon(self.stop)
            self.run_forever()

    def advance(self, seconds: float) -> None:
        self.settle()
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + LEASE_S / 40)
            self.settle()


class WatchedStore(MemoryStore):
    """Checks each fence: was the node really silent for a lease time?"""

    def __init__(self, loop: ManualLoop) -> None:
        super().__init__()
        self.loop = loop
        self.renewed_at: dict[bytes, float] = {}
        self.beaten_at: dict[bytes, float] = {}
        self.fenced_tags: set[bytes] = set()

    async def claim_tag(self, session):
        self.renewed_at[session.tag] = self.loop.now
        return await super().claim_tag(session)

    async def renew(self, session, *, opening):
        self.renewed_at[session.tag] = self.loop.now
        return await super().renew(session, opening=opening)

    async def beat(self, hold):
        held = await super().beat(hold)
        if held:
            self.beaten_at[hold.tag] = self.loop.now
        return held

    async def fence(self, tag, expected, incarnation):
        written = await super().fence(tag, expected, incarnation)
        if written:
            if expected.lease is not None:
                assert self.loop.now - self.renewed_at[tag] >= LEASE_S
            elif expected.fence and expected.fence.holder not in {NOBODY, incarnation}:
                assert self.loop.now - self.beaten_at[tag] >= LEASE_S
            self.beaten_at[tag] = self.loop.now
            self.fenced_tags.add(tag)
        return written


class Way:
    """One node's way to the store. A call takes no time, or time without end."""

    def __init__(self, store: Any) -> None:
        self.store = store
        self.is_cut = False
        self.is_dead = False
        self.answers_lost = False
        self.late: list[Any] | None = None
        self.awake = asyncio.Event()
        self.awake.set()

    async def wake(self) -> None:
        """Pass only while the process runs."""
        while not self.awake.is_set():
            await self.awake.wait()
        if self.is_dead:
            await asyncio.Event().wait()

    def __getattr__(self, name: str):
        method = getattr(self.store, name)

        async def call(*args, **kwargs):
            await asyncio.sleep(0)
            await self.wake()
            if self.is_cut:
                if name in {"put", "remove", "renew", "take"} and self.late is not None:
                    # It lies in a buffer somewhere, and gets there when nobody waits for it.
                    self.late.append((method, args, kwargs))
                await asyncio.sleep(CALL_S)
                await self.wake()
                raise ContactLost("cut")
            answer = await method(*args, **kwargs)
            await self.wake()
            if self.answers_lost:
                await asyncio.sleep(CALL_S)
                await self.wake()
                raise ContactLost("answer lost")
            return answer

        return call


@dataclass(eq=False)
class Node:
    way: Way
    contact: Contact
    registry: RedisRegistry
    membership: Membership | None = None
    open: dict[ConnectionKey, ConnectionEntry] = field(default_factory=dict)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    places: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(CONCURRENCY))
    is_gone: bool = False
    disturbed: bool = False

    @property
    def is_paused(self) -> bool:
        return not self.way.awake.is_set()


class Cluster(RuleBasedStateMachine):
    nodes = Bundle("nodes")

    def __init__(self) -> None:
        super().__init__()
        self.loop = ManualLoop()
        asyncio.set_event_loop(None)
        self.store = WatchedStore(self.loop)
        self.all: list[Node] = []
        self.numbers = itertools.count(1)
        # By connection: the request ids of what was delivered.
        self.delivered: dict[ConnectionKey, list[tuple[str, int]]] = defaultdict(list)
        self.accepted: dict[ConnectionKey, Node] = {}
        # Known to nobody but a node that died.
        self.lost: set[ConnectionKey] = set()
        self.faults = 0
        self.ending: list[asyncio.Task[int]] = []
        self.is_down = False
        self.late: list[Any] = []

    # --- what the nodes are made of

    def entropy(self, size: int) -> bytes:
        return next(self.numbers).to_bytes(size, "big")

    def make(self) -> Node:
        way = Way(self.store)
        contact = Contact()
        registry = RedisRegistry(way, contact, api_id=API, timeout_s=CALL_S)
        node = Node(way, contact, registry)

        async def orphan(entry: ConnectionEntry, request_id: str, code: int, reason: str) -> None:
            await self.deliver(node, entry.key, request_id, code)

        def on_fenced() -> None:
            assert node.disturbed, "a node was fenced that was neither paused nor cut off"
            for key in list(node.open):
                self.close(node, key, 1001)

        node.membership = Membership(
            way,
            contact,
            registry,
            api_id=API,
            lease_s=LEASE_S,
            orphan=orphan,
            on_fenced=on_fenced,
            on_joined=lambda tag: None,
            entropy=self.entropy,
            recovery_concurrency_max=CONCURRENCY,
            now=self.loop.time,
            chance=lambda: 0.5,
        )
        return node

    async def deliver(self, node: Node, key: ConnectionKey, request_id: str, code: int) -> None:
        await node.way.wake()
        self.delivered[key].append((request_id, code))
        # A function that takes its time.
        await asyncio.sleep(LEASE_S / 16 * (len(self.delivered) % 4))
        await node.way.wake()

    def close(self, node: Node, key: ConnectionKey, code: int) -> None:
        """What dispatch does when a connection's socket is gone."""
        del node.open[key]
        request_id = f"own-{next(self.numbers)}"

        async def disconnect() -> None:
            async with node.places:
                if await node.registry.claim(key, request_id, code, ""):
                    await self.deliver(node, key, request_id, code)
                    await node.registry.finish(key)

        _ = self.start(node, disconnect())

    def start(self, node: Node, work) -> asyncio.Task[Any]:
        task = self.loop.create_task(work)
        node.tasks.add(task)
        task.add_done_callback(node.tasks.discard)
        return task

    @property
    def living(self) -> list[Node]:
        return [node for node in self.all if not node.is_gone]

    # --- what happens

    @initialize(target=nodes)
    def first(self):
        return multiple(self.arrive(), self.arrive())

    def arrive(self) -> Node:
        node = self.make()
        self.all.append(node)
        assert node.membership is not None
        task = self.start(node, node.membership.start())
        self.loop.settle()
        assert task.done()
        task.result()
        return node

    @precondition(lambda self: not self.is_down and len(self.living) < 4)
    @rule(target=nodes)
    def a_node_starts(self):
        return self.arrive()

    @rule(node=nodes, count=st.integers(1, 12))
    def clients_connect(self, node: Node, count: int) -> None:
        if node.is_gone or node.is_paused:
            return
        for _ in range(count):
            tag = node.contact.tag
            if tag is None:
                return
            connection_id = new_connection_id(tag, next(self.numbers).to_bytes(7, "big"))
            key = ConnectionKey(API, "dev", connection_id)
            entry = ConnectionEntry(key, 1, "h", "i", None)

            async def connect(key=key, entry=entry) -> None:
                try:
                    await node.registry.add(entry)
                except Unavailable:
                    return
                self.accepted[key] = node
                node.open[key] = entry

            _ = self.start(node, connect())
        self.loop.settle()

    @rule(node=nodes, count=st.integers(1, 4))
    def clients_leave(self, node: Node, count: int) -> None:
        if node.is_gone or node.is_paused:
            return
        for key in list(node.open)[:count]:
            self.close(node, key, 1000)
        self.loop.settle()

    @rule(tenths=st.integers(1, 25))
    def time_passes(self, tenths: int) -> None:
        self.loop.advance(LEASE_S * tenths / 10)

    @rule(node=consumes(nodes))
    def a_node_dies(self, node: Node) -> None:
        self.end(node)

    def end(self, node: Node) -> None:
        if node.is_gone:
            return
        node.way.is_dead = True
        node.is_gone = True
        self.faults += 1
        assert node.membership is not None
        self.note_lost(node)
        tasks = [*node.tasks]
        for task in tasks:
            task.cancel()
        self.ending.append(self.loop.create_task(node.membership.stop(hand_over=False)))
        node.way.awake.set()
        self.loop.settle()

    def note_lost(self, node: Node) -> None:
        written = {(tag, name) for tag, slot in self.store.slots.items() for name in slot.entries}
        names = {name for _, name in written}
        for key, owner in self.accepted.items():
            if owner is node and field_of(key) not in names and not self.delivered.get(key):
                self.lost.add(key)

    @rule(node=consumes(nodes))
    def a_node_stops(self, node: Node) -> None:
        if node.is_gone or node.is_paused:
            return
        # All connections are closed; the grace period is over before all events are delivered.
        for key in list(node.open):
            self.close(node, key, 1001)
        self.loop.advance(LEASE_S / 16)
        self.faults += 1
        for task in list(node.tasks):
            task.cancel()
        assert node.membership is not None
        stop: asyncio.Task[int] = self.loop.create_task(node.membership.stop(hand_over=True))
        self.loop.advance(1.5 * LEASE_S)
        assert stop.done()
        node.is_gone = True
        self.note_lost(node)

    @rule(node=nodes)
    def a_node_is_paused(self, node: Node) -> None:
        if not node.is_gone:
            node.way.awake.clear()
            node.disturbed = True
            self.faults += 1

    @rule(node=nodes)
    def a_node_goes_on(self, node: Node) -> None:
        node.way.awake.set()
        self.loop.settle()

    @rule(node=nodes)
    def a_node_is_cut_off(self, node: Node) -> None:
        node.way.is_cut = True
        node.disturbed = True
        self.faults += 1

    @rule(node=nodes)
    def a_node_is_reached_again(self, node: Node) -> None:
        node.way.is_cut = self.is_down
        node.way.answers_lost = False

    @rule(node=nodes)
    def a_nodes_answers_are_lost(self, node: Node) -> None:
        node.way.answers_lost = True
        node.disturbed = True
        self.faults += 1

    @rule(stalls=st.booleans())
    def redis_goes_away(self, stalls: bool) -> None:
        """It is away, or stands still, and does later what it was asked."""
        self.is_down = True
        self.faults += 1
        for node in self.all:
            node.way.is_cut = True
            node.way.late = self.late if stalls else None

    @precondition(lambda self: self.is_down)
    @rule(tenths=st.integers(0, 3))
    def redis_comes_back(self, tenths: int) -> None:
        self.is_down = False
        for node in self.all:
            node.way.is_cut = False
        self.loop.advance(LEASE_S * tenths / 10)
        self.late_commands_arrive()

    def late_commands_arrive(self) -> None:
        late, self.late[:] = list(self.late), []
        for method, args, kwargs in late:
            # A renewal that arrives late is none of a node that is at work.
            renewed_at = dict(self.store.renewed_at)
            self.loop.run_until_complete(method(*args, **kwargs))
            self.store.renewed_at = renewed_at

    @precondition(lambda self: any(self.recovering()))
    @rule(what=st.sampled_from(["pause", "cut", "lose answers"]), tenths=st.integers(0, 25))
    def something_happens_to_a_recovering_node(self, what: str, tenths: int) -> None:
        node = self.recovering()[0]
        node.disturbed = True
        self.faults += 1
        match what:
            case "pause":
                node.way.awake.clear()
            case "cut":
                node.way.is_cut = True
            case _:
                node.way.answers_lost = True
        self.loop.advance(LEASE_S * tenths / 10)

    def recovering(self) -> list[Node]:
        return [
            node
            for node in self.living
            if node.membership is not None and node.membership.health().recovering
        ]

    @precondition(lambda self: not self.is_down and self.is_quiet())
    @rule(node=nodes, connect=st.integers(0, 4), leave=st.integers(0, 4))
    def redis_fails_over_to_a_replica_that_lags(self, node: Node, connect: int, leave: int) -> None:
        """What happens last is forgotten, and put right by those who know."""
        replica = self.store.copy()
        if connect:
            self.clients_connect(node, connect)
        if leave:
            self.clients_leave(node, leave)
        self.store.slots, self.store.nodes = replica.slots, replica.nodes
        self.faults += 1
        for each in self.living:
            each.way.is_cut = True
        self.loop.advance(LEASE_S / 4)
        for each in self.living:
            each.way.is_cut = False
        self.loop.advance(LEASE_S)

    @precondition(lambda self: self.is_quiet() and not self.late)
    @rule()
    def redis_restarts_empty(self) -> None:
        self.faults += 1
        self.store.clear()

    def is_quiet(self) -> bool:
        """Whether all that the store knows is known to nodes that are well, too."""
        return (
            all(not node.disturbed for node in self.living)
            and not self.unsettled()
            and not any(slot.fence and slot.entries for slot in self.store.slots.values())
        )

    def unsettled(self) -> set[ConnectionKey]:
        """Ended connections whose `$disconnect` is still owed by nodes that are no more."""
        return {
            key
            for key, node in self.accepted.items()
            if node.is_gone and key not in self.lost and not self.delivered.get(key)
        }

    # --- what must hold

    @invariant()
    def each_connection_has_one_id(self) -> None:
        for key, delivered in self.delivered.items():
            assert len({request_id for request_id, _ in delivered}) <= 1, (key, delivered)

    @invariant()
    def duplicates_are_bounded_by_what_was_in_flight(self) -> None:
        duplicates = sum(len(delivered) - 1 for delivered in self.delivered.values())
        # In each node's own line, and in that of its recoveries.
        assert duplicates <= 2 * CONCURRENCY * self.faults

    @invariant()
    def an_open_connection_has_no_disconnect(self) -> None:
        for node in self.living:
            if not node.is_paused and not node.disturbed:
                assert not [key for key in node.open if self.delivered.get(key)]

    def teardown(self) -> None:
        try:
            self.heal()
        finally:
            for node in self.living:
                self.end(node)
            for task in asyncio.all_tasks(self.loop):
                task.cancel()
            self.loop.settle()
            self.loop.close()

    def heal(self) -> None:
        self.is_down = False
        for node in self.all:
            if not node.is_gone:
                node.way.is_cut = node.way.answers_lost = False
                node.way.awake.set()
        self.loop.settle()
        self.late_commands_arrive()
        self.arrive()
        self.loop.advance(6 * LEASE_S)
        self.each_connection_has_one_id()
        self.duplicates_are_bounded_by_what_was_in_flight()
        still_open = {key: node for node in self.living for key in node.open}
        for key in self.accepted:
            if key in still_open:
                assert not self.delivered.get(key), f"a false $disconnect of {key}"
            elif key not in self.lost:
                assert self.delivered.get(key), f"no $disconnect of {key}"
        stored = {
            decode(API, name, value).entry.key: decode(API, name, value).claim
            for slot in self.store.slots.values()
            for name, value in slot.entries.items()
        }
        assert stored == dict.fromkeys(still_open)
        assert self.store.nodes == {node.contact.tag for node in self.living}
        for node in self.living:
            assert len(node.registry) == len(node.open)
            assert node.membership is not None
            assert node.membership.health().contact_lost_s is None


@pytest.mark.slow
def test_cluster() -> None:
    run_state_machine_as_test(
        Cluster,
        settings=settings(
            max_examples=40,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
