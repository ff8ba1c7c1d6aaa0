"""The registry of one process without Redis: it ends with the process, and so do its connections."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from wsgateway.cluster.entries import Claim, Record
from wsgateway.cluster.listing import Page

if TYPE_CHECKING:
    from wsgateway.connection import ConnectionEntry, ConnectionKey


class MemoryRegistry:
    """A `Registry` in this process's memory."""

    def __init__(self) -> None:
        self._open: dict[ConnectionKey, ConnectionEntry] = {}
        self._claimed: dict[ConnectionKey, Record] = {}

    def __len__(self) -> int:
        """The number of connections whose `$disconnect` is not delivered yet."""
        return len(self._open) + len(self._claimed)

    @property
    def is_accepting(self) -> bool:
        """Whether `add` would take a connection now."""
        return True

    async def add(self, entry: ConnectionEntry) -> None:
        """Record an accepted connection."""
        self._open[entry.key] = entry

    async def claim(
        self, key: ConnectionKey, request_id: str, code: int = 1006, reason: str = ""
    ) -> bool:
        """Record the one `$disconnect` of a connection; False when it was claimed before."""
        entry = self._open.pop(key, None)
        if entry is None:
            return False
        self._claimed[key] = Record(entry, Claim(request_id, code, reason))
        return True

    async def finish(self, key: ConnectionKey) -> None:
        """Remove a connection whose `$disconnect` has been delivered."""
        self._claimed.pop(key, None)

    async def count(self) -> int:
        """Return the number of connections, those being disconnected included."""
        return len(self)

    async def page(self, cursor: str | None = None, size: int = 100) -> Page:
        """Return up to `size` connections; those that come or go meanwhile may be missed."""
        start = int(cursor or 0)
        records = [
            *self._claimed.values(),
            *(Record(entry, None) for entry in self._open.values()),
        ]
        page = list(islice(records, start, start + size))
        end = start + size
        return Page(page, str(end) if end < len(records) else None)
