"""What is told of the connections that an operator means?

They are read in pages and printed as they come, so that a million entries fill neither Redis'
answers nor this process.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import orjson

from wsgateway.connection_id import owner_tag
from wsgateway.loaders.yaml_file import printable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from wsgateway.cluster.entries import Record
    from wsgateway.cluster.listing import Listing
    from wsgateway.connections_command.filters import Filter

# One answer of Redis: some 100 KB, and less than a millisecond of its time.
_PAGE_SIZE = 500
_COLUMNS = (
    "{connectionId:<17}{state:<8}{connectedAt:<21}{sourceIp:<16} {node:<7}{stage:<12} {userAgent}"
)
_HEADER = _COLUMNS.format(
    connectionId="ID",
    state="STATE",
    connectedAt="CONNECTED",
    sourceIp="SOURCE IP",
    node="NODE",
    stage="STAGE",
    userAgent="USER AGENT",
)


async def print_list(
    listing: Listing,
    wanted: Filter,
    now_ms: int,
    *,
    as_json: bool,
    limit: int,
    tell: Callable[[str], object],
) -> bool:
    """Print connections as they are read.

    Args:
        listing: Where they are.
        wanted: Which ones.
        now_ms: The wall clock.
        as_json: A line of JSON each instead of a table.
        limit: How many; 0 for all.
        tell: Takes some lines, without the last one's end.

    Returns:
        Whether there are more.
    """
    left = limit or sys.maxsize
    line = _json_line if as_json else _row
    if not as_json:
        tell(_HEADER)
    async for records in _matching(listing, wanted, now_ms):
        if records and left:
            tell("\n".join(line(_described(record)) for record in records[:left]))
        if len(records) > left:
            return True
        left -= len(records)
    return False


async def count(listing: Listing, wanted: Filter, now_ms: int) -> int:
    """Return how many connections are wanted; only a filter has to read them."""
    if wanted.takes_all:
        return await listing.count()
    return sum([len(records) async for records in _matching(listing, wanted, now_ms)])


async def _matching(listing: Listing, wanted: Filter, now_ms: int) -> AsyncIterator[list[Record]]:
    """Yield the connections that are wanted, page by page.

    One that comes or goes meanwhile may be missing, and while Redis moves a table to a larger one
    it may give one twice.
    """
    cursor: str | None = None
    while True:
        records, cursor = await listing.page(cursor, _PAGE_SIZE)
        yield [record for record in records if wanted.takes(record, now_ms)]
        if cursor is None:
            return


def _described(record: Record) -> dict[str, str | None]:
    entry = record.entry
    at = datetime.fromtimestamp(entry.connected_at_ms // 1000, UTC)
    return {
        "connectionId": entry.key.connection_id,
        "stage": entry.key.stage,
        "state": "open" if record.claim is None else "closing",
        "connectedAt": f"{at:%Y-%m-%dT%H:%M:%SZ}",
        "sourceIp": entry.source_ip,
        "userAgent": entry.user_agent,
        "domainName": entry.domain_name,
        "node": (owner_tag(entry.key.connection_id) or b"").hex(),
    }


def _json_line(fields: Mapping[str, str | None]) -> str:
    return orjson.dumps(fields).decode()


def _row(fields: Mapping[str, str | None]) -> str:
    """Return one line of the table; what clients say of themselves cannot steer a terminal."""
    told = {name: printable(value or "") for name, value in fields.items()}
    return _COLUMNS.format_map(told).rstrip()
