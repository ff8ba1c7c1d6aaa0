"""The `$disconnect`s of a node that is gone, delivered by the one survivor that holds its fence.

Each entry is claimed, delivered and removed by itself. Before each delivery the fence is asked, and
a place in the line is held until the entry is removed. So when this node dies or is overtaken, what
the next one delivers again are those in flight, at most `concurrency_max`, with the same request id.
"""

from __future__ import annotations

import asyncio
from enum import Enum
from typing import TYPE_CHECKING

import structlog

from wsgateway.cluster.entries import Claim, EntryRefused, decode, encode
from wsgateway.cluster.store import ContactLost, Taken, fence_hold
from wsgateway.connection_id import orphan_request_id

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from wsgateway.cluster.store import Hold, Store
    from wsgateway.connection import ConnectionEntry

log = structlog.stdlib.get_logger(__name__)

ORPHAN_CODE = 1006
"""RFC 6455, 7.4.1: the connection was closed abnormally. What a lost TCP connection has."""

_BATCH_SIZE = 200


class Outcome(Enum):
    """How a recovery ended."""

    DONE = "done"
    OVERTAKEN = "overtaken"
    """Another node has the fence."""
    ABANDONED = "abandoned"
    """What is left is not understood; a node with a newer version may."""


class Line:
    """The place in the line that each delivery takes, whichever node it is of.

    Args:
        concurrency_max: Deliveries at once.
        rate_max: Deliveries a second.
    """

    def __init__(self, *, concurrency_max: int, rate_max: float) -> None:
        self._places = asyncio.Semaphore(concurrency_max)
        self._interval_s = 1 / rate_max
        self._next_at = 0.0

    async def enter(self) -> None:
        """Wait for a place, and for one's turn."""
        await self._places.acquire()
        now = asyncio.get_running_loop().time()
        pause_s = self._next_at - now
        self._next_at = max(now, self._next_at) + self._interval_s
        # Timers are no finer than a millisecond: shorter pauses are made up for by longer ones.
        if pause_s > 0.001:  # noqa: PLR2004
            try:
                await asyncio.sleep(pause_s)
            except asyncio.CancelledError:
                self._places.release()
                raise

    def leave(self) -> None:
        """Free the place."""
        self._places.release()


class Overtaken(Exception):
    """The fence is another's."""


class Recovery:
    """Delivers what one gone node has left.

    Args:
        store: Where its entries stand.
        tag: The gone node's; this node holds its fence.
        incarnation: This node's.
        api_id: Of every key.
        orphan: Delivers one `$disconnect`: entry, request id, code, reason. What it raises is
            logged, and counts as delivered.
        line: Shared by all recoveries of this node.
        retry_s: How long to wait when there is no contact.
    """

    def __init__(
        self,
        store: Store,
        tag: bytes,
        *,
        incarnation: str,
        api_id: str,
        orphan: Callable[[ConnectionEntry, str, int, str], Awaitable[None]],
        line: Line,
        retry_s: float,
    ) -> None:
        self._store = store
        self._hold: Hold = fence_hold(tag, incarnation)
        self._api_id = api_id
        self._orphan = orphan
        self._line = line
        self._retry_s = retry_s
        # Delivered, but not removed when contact was lost: as many as were in flight.
        self._delivered: set[bytes] = set()
        self._in_flight: set[bytes] = set()
        self._refused_count = 0
        self.delivered_count = 0

    async def run(self) -> Outcome:
        """Deliver everything; goes on through losses of contact until done or overtaken."""
        while True:
            try:
                if not await self._pass():
                    continue
            except ContactLost as error:
                log.debug("a recovery waits", error=str(error))
                await asyncio.sleep(self._retry_s)
                continue
            except Overtaken:
                return Outcome.OVERTAKEN
            return Outcome.ABANDONED if self._refused_count else Outcome.DONE

    async def _pass(self) -> bool:
        """Go through all entries once.

        Returns:
            Whether there was nothing to deliver.
        """
        cursor, worked = 0, False
        self._refused_count = 0
        while True:
            batch = await self._store.scan(self._hold, cursor, _BATCH_SIZE)
            if batch is None:
                raise Overtaken
            worked |= await self._settle_all(batch.items)
            cursor = batch.cursor
            if cursor == 0:
                return not worked

    async def _settle_all(self, items: list[tuple[bytes, bytes]]) -> bool:
        """Settle a batch; tasks are as many as places in the line."""
        worked = False
        failure: list[Exception] = []
        async with asyncio.TaskGroup() as group:
            for field, value in items:
                try:
                    record = decode(self._api_id, field, value)
                except EntryRefused as error:
                    self._refused_count += 1
                    log.error("an entry is left alone", error=str(error))  # noqa: TRY400 - told
                    continue
                worked = True
                if field in self._in_flight:
                    continue
                await self._line.enter()
                if failure:
                    self._line.leave()
                    break
                claim = record.claim or _orphan_claim(record.entry)
                self._in_flight.add(field)
                group.create_task(self._settle(field, record.entry, claim, failure))
        if failure:
            raise failure[0]
        return worked

    async def _settle(
        self, field: bytes, entry: ConnectionEntry, claim: Claim, failure: list[Exception]
    ) -> None:
        try:
            if field in self._delivered or await self._take(field, entry, claim):
                if field not in self._delivered:
                    await self._deliver(entry, claim)
                    self._delivered.add(field)
                    self.delivered_count += 1
                _held(is_held=await self._store.remove(self._hold, [field]))
                self._delivered.discard(field)
        except (ContactLost, Overtaken) as error:
            failure.append(error)
        finally:
            self._in_flight.discard(field)
            self._line.leave()

    async def _take(self, field: bytes, entry: ConnectionEntry, claim: Claim) -> bool:
        """Claim an entry, also when it was claimed before: that asks whether the fence is held.

        Returns:
            False when there is no such entry any more: a scan may tell of one twice.
        """
        taken = await self._store.take(self._hold, field, encode(entry, claim))
        _held(is_held=taken is not Taken.NOT_HELD)
        return taken is Taken.TAKEN

    async def _deliver(self, entry: ConnectionEntry, claim: Claim) -> None:
        try:
            await self._orphan(entry, *claim)
        # One that always fails would come back for ever.
        except Exception:
            log.exception("disconnect failed", connection_id=entry.key.connection_id)


def _orphan_claim(entry: ConnectionEntry) -> Claim:
    return Claim(orphan_request_id(entry.key.connection_id), ORPHAN_CODE, "")


def _held(*, is_held: bool) -> None:
    if not is_held:
        raise Overtaken
