"""The registry of a node among others: what it knows of its own connections stands in the store.

Writes are made in a session (`store.Session`). When one has no good answer the session ends, and
the next begins with a comparison of what is known here with what stands there (`resync`). So
nothing is queued while contact is lost, and nothing is lost: an entry that could not be written is
written then, and a claim waits. What grows meanwhile are accepted connections, which are bounded.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from wsgateway.cluster.entries import Claim, EntryRefused, encode, field_of, key_of
from wsgateway.cluster.listing import Listing
from wsgateway.cluster.store import ContactLost
from wsgateway.connection_id import owner_tag
from wsgateway.errors import Unavailable

if TYPE_CHECKING:
    from wsgateway.cluster.contact import Contact
    from wsgateway.cluster.listing import Page
    from wsgateway.cluster.store import Session, Store
    from wsgateway.connection import ConnectionEntry, ConnectionKey

log = structlog.stdlib.get_logger(__name__)

# Entries in one step of a comparison: some 100 KB on the wire, a millisecond for the server.
_BATCH_SIZE = 500
# What may be accepted without a record while contact is lost, some 10 MB here.
UNWRITTEN_MAX = 10_000


class RedisRegistry:
    """A `Registry` whose entries outlive the process.

    Args:
        store: Where they stand.
        contact: Tells in which session to write.
        api_id: Of every key.
        timeout_s: How long a new connection waits for contact that has just been lost.
        accepts_unwritten: Whether connections are accepted while contact is lost.
        unwritten_max: How many of them, until there is contact again.
    """

    def __init__(
        self,
        store: Store,
        contact: Contact,
        *,
        api_id: str,
        timeout_s: float,
        accepts_unwritten: bool = True,
        unwritten_max: int = UNWRITTEN_MAX,
    ) -> None:
        self._store = store
        self._contact = contact
        self._listing = Listing(store, api_id=api_id)
        self._api_id = api_id
        self._timeout_s = timeout_s
        self._unwritten_max = unwritten_max if accepts_unwritten else 0
        # Accepted while contact was lost: nobody else knows of them.
        self._unwritten: set[ConnectionKey] = set()
        self._open: dict[ConnectionKey, ConnectionEntry] = {}
        # Those being delivered, and those that wait to be: as many as callers.
        self._claimed: dict[ConnectionKey, tuple[ConnectionEntry, Claim]] = {}
        self._finishing: set[ConnectionKey] = set()

    def __len__(self) -> int:
        """The number of connections whose `$disconnect` is not delivered yet."""
        return len(self._open) + len(self._claimed)

    @property
    def is_accepting(self) -> bool:
        """Whether `add` would take a connection now; to be asked before `$connect` runs."""
        contact = self._contact
        return contact.tag is not None and (
            contact.session is not None or len(self._unwritten) < self._unwritten_max
        )

    # --- what dispatch asks

    async def add(self, entry: ConnectionEntry) -> None:
        """Record an accepted connection.

        Raises:
            Unavailable: It cannot be recorded and is not to be taken without, or its id is
                of a tag that the node has had to give up.
        """
        key = entry.key
        if self._contact.tag is None or owner_tag(key.connection_id) != self._contact.tag:
            raise Unavailable
        session = self._contact.session
        if session is None:
            if len(self._unwritten) >= self._unwritten_max:
                raise Unavailable
            self._unwritten.add(key)
            self._open[key] = entry
            return
        self._open[key] = entry
        while session is not None:
            is_written = await self._put(session, {field_of(key): encode(entry)})
            if not is_written:
                session = await self._session_soon()
            if key not in self._open:
                # Fenced meanwhile: others deliver its `$disconnect`, if it was written.
                raise Unavailable
            if is_written:
                return
        # Whether it was written is not known, so it is not taken: were this node fenced now, it
        # could not tell whether others deliver the `$disconnect`. Should it be there, the next
        # comparison removes it.
        del self._open[key]
        raise Unavailable

    async def claim(
        self, key: ConnectionKey, request_id: str, code: int = 1006, reason: str = ""
    ) -> bool:
        """Record the one `$disconnect` of a connection; waits for as long as contact is lost.

        Returns:
            False when it is not this caller's to deliver: it has been claimed before, or the node
            has been fenced and others deliver it.
        """
        entry = self._open.pop(key, None)
        if entry is None:
            return False
        claim = Claim(request_id, code, reason)
        mine = self._claimed[key] = (entry, claim)
        item = {field_of(key): encode(entry, claim)}
        while True:
            session = await self._contact.opened()
            if self._claimed.get(key) is not mine:
                return False
            if await self._put(session, item):
                self._unwritten.discard(key)
                return True

    async def finish(self, key: ConnectionKey) -> None:
        """Remove a connection whose `$disconnect` has been delivered; waits as `claim` does.

        As long as this has not returned, the delivery counts as in flight: another node delivers
        it again when this one dies. Hold the place in the line until then.
        """
        mine = self._claimed.get(key)
        if mine is None:
            return
        self._finishing.add(key)
        try:
            while self._claimed.get(key) is mine:
                session = await self._contact.opened()
                if await self._remove(session, [field_of(key)]):
                    self._claimed.pop(key, None)
        finally:
            self._finishing.discard(key)

    async def count(self) -> int:
        """Return the number of connections on all nodes, those being disconnected included.

        Raises:
            ContactLost: The store does not answer.
        """
        return await self._listing.count()

    async def page(self, cursor: str | None = None, size: int = 100) -> Page:
        """Return about `size` connections of all nodes; see `Listing.page`."""
        return await self._listing.page(cursor, size)

    # --- what membership asks

    def fenced(self) -> None:
        """Forget what others know: they deliver those `$disconnect`s.

        What was accepted while contact was lost stays, to be recorded under the next tag.
        """
        for known in (self._open, self._claimed):
            for key in known.keys() - self._unwritten:
                del known[key]

    async def resync(self, session: Session, *, is_empty: bool) -> bool:
        """Make the store say what is known here.

        Args:
            session: The one that has just been opened.
            is_empty: Nothing of this node stands there.

        Returns:
            False when the session ended before that was done.
        """
        written: set[ConnectionKey] = set()
        try:
            if not is_empty and not await self._compare(session, written):
                self._contact.lose(session)
                return False
        except ContactLost as error:
            log.warning("the registry cannot be compared", error=str(error))
            self._contact.lose(session)
            return False
        self._unwritten -= written
        # What is claimed or finished meanwhile is written by that.
        missing = [key for key in self._open if key not in written]
        for start in range(0, len(missing), _BATCH_SIZE):
            keys = [key for key in missing[start : start + _BATCH_SIZE] if key in self._open]
            items = {field_of(key): encode(self._open[key]) for key in keys}
            if items and not await self._put(session, items):
                return False
            self._unwritten.difference_update(keys)
        # Their own callers write these too; but who was cancelled has left a claim here.
        claimed = list(self._claimed)
        for start in range(0, len(claimed), _BATCH_SIZE):
            keys = [
                key
                for key in claimed[start : start + _BATCH_SIZE]
                # Their removal may be under way, before what would be written here.
                if key in self._claimed and key not in self._finishing
            ]
            items = {field_of(key): encode(*self._claimed[key]) for key in keys}
            if items and not await self._put(session, items):
                return False
            self._unwritten.difference_update(keys)
        return True

    async def _compare(self, session: Session, written: set[ConnectionKey]) -> bool:
        cursor = 0
        while True:
            batch = await self._store.scan(session.hold, cursor, _BATCH_SIZE)
            if batch is None:
                return False
            extra = []
            for field, _ in batch.items:
                try:
                    key = key_of(self._api_id, field)
                except EntryRefused:
                    continue
                if key in self._open:
                    written.add(key)
                elif key not in self._claimed:
                    # Ended here, and back by a failover to a replica that had not heard of it.
                    extra.append(field)
            if extra and not await self._store.remove(session.hold, extra):
                return False
            cursor = batch.cursor
            if cursor == 0:
                return True

    async def _session_soon(self) -> Session | None:
        """Return the next session; None when there is none in time."""
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._contact.opened()
        except TimeoutError:
            return None

    async def _put(self, session: Session, items: dict[bytes, bytes]) -> bool:
        """Write; when that fails the session is over."""
        try:
            written = await self._store.put(session.hold, items)
        except ContactLost as error:
            log.debug("an entry was not written", error=str(error))
            written = False
        if not written:
            self._contact.lose(session)
        return written

    async def _remove(self, session: Session, fields: list[bytes]) -> bool:
        """Remove; when that fails the session is over."""
        try:
            removed = await self._store.remove(session.hold, fields)
        except ContactLost as error:
            log.debug("an entry was not removed", error=str(error))
            removed = False
        if not removed:
            self._contact.lose(session)
        return removed
