"""The registry of one process without Redis: it ends with the process, and so do its connections."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wsgateway.connection import ConnectionEntry, ConnectionKey


class MemoryRegistry:
    """A `Registry` in this process's memory."""

    def __init__(self) -> None:
        self._entries: dict[ConnectionKey, ConnectionEntry] = {}

    async def add(self, entry: ConnectionEntry) -> None:
        """Record an accepted connection."""
        self._entries[entry.key] = entry

    async def claim(self, key: ConnectionKey, request_id: str) -> bool:  # noqa: ARG002 - shared form
        """Take a connection out; False when it was out already."""
        return self._entries.pop(key, None) is not None
