"""A store in memory, which runs the suite of the real one, and ways to lose contact with it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from wsgateway.cluster.store import (
    NOBODY,
    Batch,
    ContactLost,
    Fence,
    Lease,
    Reading,
    Standing,
    Taken,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from wsgateway.cluster.store import Hold, Session


@dataclass
class Slot:
    """What stands under one tag."""

    lease: Lease | None = None
    fence: Fence | None = None
    entries: dict[bytes, bytes] = field(default_factory=dict)


class MemoryStore:
    """A `Store` that nothing ever happens to; `clear` is a restart without a snapshot.

    Attributes:
        commands: The names of the methods called.
    """

    def __init__(self) -> None:
        self.slots: dict[bytes, Slot] = {}
        self.nodes: set[bytes] = set()
        self.commands: list[str] = []

    def clear(self) -> None:
        self.slots.clear()
        self.nodes.clear()

    def slot(self, tag: bytes) -> Slot:
        return self.slots.setdefault(tag, Slot())

    async def tags(self) -> set[bytes]:
        return set(self.nodes)

    async def index(self, tags: Collection[bytes]) -> None:
        self.nodes.update(tags)

    async def unindex(self, tag: bytes) -> None:
        self.nodes.discard(tag)

    async def claim_tag(self, session: Session) -> bool:
        slot = self.slot(session.tag)
        if slot.lease is not None and slot.lease.holder == session.hold.holder:
            return True
        if slot.lease or slot.fence or slot.entries:
            return False
        slot.lease = Lease(session.hold.holder, 1)
        return True

    async def renew(self, session: Session, *, opening: bool) -> Standing:
        slot = self.slot(session.tag)
        mine = session.hold.holder
        if slot.fence is not None:
            return Standing.FENCED
        if slot.lease is None:
            if not opening:
                return Standing.ABSENT
            slot.lease = Lease(mine, 1)
            return Standing.CREATED
        incarnation, _, number = slot.lease.holder.partition("/")
        if incarnation != session.incarnation:
            return Standing.TAKEN
        if int(number) > session.number or (int(number) < session.number and not opening):
            return Standing.ABSENT
        slot.lease = Lease(mine, slot.lease.beat + 1)
        return Standing.HELD

    async def release(self, session: Session) -> bool:
        slot = self.slot(session.tag)
        if not self._is_held(session.hold):
            return False
        slot.lease = None
        slot.fence = Fence(session.incarnation, NOBODY, 1)
        return not slot.entries

    async def read(self, tag: bytes) -> Reading:
        slot = self.slot(tag)
        return Reading(slot.lease, slot.fence, len(slot.entries))

    async def fence(self, tag: bytes, expected: Reading, incarnation: str) -> bool:
        slot = self.slot(tag)
        if (slot.lease, slot.fence and slot.fence[1:]) != (
            expected.lease,
            expected.fence and expected.fence[1:],
        ):
            return False
        lease, fence = slot.lease, slot.fence
        of = lease.incarnation if lease else fence.of if fence else ""
        slot.lease = None
        slot.fence = Fence(of, incarnation, (fence.beat if fence else 0) + 1)
        return True

    async def beat(self, hold: Hold) -> bool:
        if not self._is_held(hold):
            return False
        slot = self.slot(hold.tag)
        assert slot.fence is not None
        slot.fence = slot.fence._replace(beat=slot.fence.beat + 1)
        return True

    async def hand_back(self, hold: Hold) -> None:
        slot = self.slot(hold.tag)
        if slot.fence is not None and self._is_held(hold):
            slot.fence = slot.fence._replace(holder=NOBODY, beat=slot.fence.beat + 1)

    async def put(self, hold: Hold, items: Mapping[bytes, bytes]) -> bool:
        self.commands.append("put")
        if not self._is_held(hold):
            return False
        self.slot(hold.tag).entries.update(items)
        return True

    async def take(self, hold: Hold, field: bytes, value: bytes) -> Taken:
        self.commands.append("take")
        if not self._is_held(hold):
            return Taken.NOT_HELD
        entries = self.slot(hold.tag).entries
        if field not in entries:
            return Taken.GONE
        entries[field] = value
        return Taken.TAKEN

    async def remove(self, hold: Hold, fields: Collection[bytes]) -> bool:
        self.commands.append("remove")
        if not self._is_held(hold):
            return False
        for each in fields:
            self.slot(hold.tag).entries.pop(each, None)
        return True

    async def scan(self, hold: Hold, cursor: int, size: int) -> Batch | None:
        return await self.look(hold.tag, cursor, size) if self._is_held(hold) else None

    async def look(self, tag: bytes, cursor: int, size: int) -> Batch:
        # All at once, as Redis does with small hashes.
        return Batch(0, list(self.slot(tag).entries.items()))

    def _is_held(self, hold: Hold) -> bool:
        slot = self.slot(hold.tag)
        held = slot.fence if hold.is_fence else slot.lease
        return held is not None and held.holder == hold.holder

    def copy(self) -> MemoryStore:
        """What a replica has."""
        other = MemoryStore()
        other.nodes = set(self.nodes)
        other.slots = {
            tag: replace(slot, entries=dict(slot.entries)) for tag, slot in self.slots.items()
        }
        return other


class Line:
    """One node's way to the store.

    Attributes:
        is_cut: Nothing gets through.
        answers_lost: What is asked happens, but there is no answer.
    """

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self.is_cut = False
        self.answers_lost = False

    def __getattr__(self, name: str):
        method = getattr(self._store, name)

        async def call(*args: object, **kwargs: object) -> object:
            # An answer is never there in the same turn.
            await asyncio.sleep(0)
            if self.is_cut:
                raise ContactLost("cut")
            answer = await method(*args, **kwargs)
            if self.answers_lost:
                raise ContactLost("answer lost")
            return answer

        return call
