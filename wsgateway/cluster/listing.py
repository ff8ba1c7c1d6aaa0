"""Which connections are there, on all nodes? Read in pages, so that a million do not hurt."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from wsgateway.cluster.entries import EntryRefused, Record, decode

if TYPE_CHECKING:
    from wsgateway.cluster.store import Store


class Page(NamedTuple):
    """Some connections.

    Attributes:
        records: In no order. A connection that was there all the time is on one page at least.
        cursor: What to ask for the next page with; None at the end. Opaque.
    """

    records: list[Record]
    cursor: str | None


class Listing:
    """Reads the connections of all nodes.

    Args:
        store: Where they stand.
        api_id: Of every key.
    """

    def __init__(self, store: Store, *, api_id: str) -> None:
        self._store = store
        self._api_id = api_id

    async def count(self) -> int:
        """Return the number of connections, those being disconnected included.

        Raises:
            ContactLost: The store does not answer.
        """
        return sum([(await self._store.read(t)).entry_count for t in await self._store.tags()])

    async def page(self, cursor: str | None = None, size: int = 100) -> Page:
        """Return about `size` connections; a node with few connections gives all of them at once.

        Args:
            cursor: From the page before; None for the first.
            size: How many, at least 1.

        Raises:
            ContactLost: The store does not answer.
            ValueError: The cursor is none.
        """
        tag_text, _, place_text = (cursor or ":0").partition(":")
        first, place = bytes.fromhex(tag_text), int(place_text)
        records: list[Record] = []
        tags = sorted(tag for tag in await self._store.tags() if tag >= first)
        for index, tag in enumerate(tags):
            at = place if tag == first else 0
            while True:
                batch = await self._store.look(tag, at, size - len(records))
                for field, value in batch.items:
                    try:
                        records.append(decode(self._api_id, field, value))
                    # A newer node's; it can be listed there.
                    except EntryRefused:
                        continue
                at = batch.cursor
                if len(records) >= size or at == 0:
                    break
            if at != 0:
                return Page(records, f"{tag.hex()}:{at}")
            if len(records) >= size and index + 1 < len(tags):
                return Page(records, f"{tags[index + 1].hex()}:0")
        return Page(records, None)
