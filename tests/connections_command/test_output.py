"""What is told of connections, which are read page by page."""

from __future__ import annotations

import json
from itertools import product

import pytest

from tests.cluster_unit.stores import MemoryStore
from tests.connections_command.records import API, BROWSER, NOW_MS, TWO, record
from wsgateway.cluster.entries import Claim, Record, encode, field_of
from wsgateway.cluster.listing import Listing
from wsgateway.connection_id import owner_tag
from wsgateway.connections_command.filters import Filter, make_filter
from wsgateway.connections_command.output import count, print_list

EVERYTHING = Filter()
FIRST = record(1)
CLOSING = record(0, tag=TWO, stage="prod", claim=Claim("request", 1006, ""))


def listing_of(*records: Record) -> Listing:
    store = MemoryStore()
    for entry, claim in records:
        tag = owner_tag(entry.key.connection_id)
        assert tag is not None
        store.nodes.add(tag)
        store.slot(tag).entries[field_of(entry.key)] = encode(entry, claim)
    return Listing(store, api_id=API)


@pytest.fixture(scope="module")
def listing() -> Listing:
    """3,000 connections of 20 nodes, a third of them of another stage."""
    return listing_of(
        *(
            record(number, tag=node.to_bytes(3), stage="dev" if number % 3 else "prod")
            for node, number in product(range(20), range(150))
        )
    )


async def listed(
    listing: Listing, wanted: Filter = EVERYTHING, *, as_json: bool = True, limit: int = 0
) -> tuple[list[str], bool]:
    """Return the chunks that were written, and whether there is more."""
    told: list[str] = []
    is_more = await print_list(
        listing, wanted, NOW_MS, as_json=as_json, limit=limit, tell=told.append
    )
    return told, is_more


async def test_a_line_of_json_has_all_that_is_told_of_a_connection() -> None:
    told, _ = await listed(listing_of(FIRST, CLOSING))

    first, closing = [json.loads(line) for line in "\n".join(told).splitlines()]
    assert first == {
        "connectionId": FIRST.entry.key.connection_id,
        "stage": "dev",
        "state": "open",
        "connectedAt": "2023-11-14T22:13:20Z",
        "sourceIp": "192.0.2.7",
        "userAgent": BROWSER,
        "domainName": "host",
        "node": "000001",
    }
    assert (closing["state"], closing["node"]) == ("closing", "f80002")


async def test_a_table_has_a_header_and_a_row_for_each() -> None:
    told, _ = await listed(listing_of(FIRST, CLOSING), as_json=False)

    assert "\n".join(told).splitlines() == [
        "ID               STATE   CONNECTED            SOURCE IP        NODE   STAGE        USER AGENT",
        f"AAABAAAAAAACAAE= open    2023-11-14T22:13:20Z 192.0.2.7        000001 dev          {BROWSER}",
        f"-AACAAAAAAACAAA= closing 2023-11-14T22:13:20Z 192.0.2.7        f80002 prod         {BROWSER}",
    ]


async def test_what_a_client_says_of_itself_does_not_steer_the_terminal() -> None:
    hostile = listing_of(record(user_agent="\x1b[2J\x07hello\nworld"), record(2, user_agent=None))

    told, _ = await listed(hostile, as_json=False)

    [row, silent] = told[1].splitlines()
    assert row.endswith(r" \x1b[2J\x07hello\nworld")
    assert row.isprintable()
    assert silent.endswith(" dev")


async def test_all_are_told_as_they_are_read(listing: Listing) -> None:
    told, is_more = await listed(listing)

    ids = [json.loads(line)["connectionId"] for chunk in told for line in chunk.splitlines()]
    assert len(set(ids)) == 3000
    assert max(chunk.count("\n") for chunk in told) < 1000
    assert not is_more


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({"stage": "prod"}, 1000),
        ({"stage": "prod", "node": "000001"}, 50),
        ({"user_agent": "curl"}, 0),
    ],
)
async def test_filters_bound_what_is_told_and_counted(
    listing: Listing, flags: dict[str, str], expected: int
) -> None:
    wanted = make_filter(**flags)

    told, _ = await listed(listing, wanted)

    assert sum(len(chunk.splitlines()) for chunk in told) == expected
    assert await count(listing, wanted, NOW_MS) == expected


@pytest.mark.parametrize("as_json", [True, False])
@pytest.mark.parametrize(
    ("limit", "expected", "more"),
    [(7, 7, True), (500, 500, True), (2999, 2999, True), (3000, 3000, False), (0, 3000, False)],
)
async def test_a_limit_bounds_what_is_told(
    listing: Listing, limit: int, expected: int, more: bool, as_json: bool
) -> None:
    told, is_more = await listed(listing, as_json=as_json, limit=limit)

    assert "" not in told
    assert sum(len(chunk.splitlines()) for chunk in told) == expected + (not as_json)
    assert is_more is more


async def test_without_a_filter_nothing_is_read_to_count(
    listing: Listing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(Listing, "page")

    assert await count(listing, EVERYTHING, NOW_MS) == 3000
