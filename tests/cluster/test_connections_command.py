"""`wsgateway connections`: what stands in Redis is listed, and owners are asked to post and close."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.cluster.conftest import connected
from tests.e2e.client import open_client
from tests.e2e.process import COMMAND, bare_environ, serving, until, write_app
from wsgateway import listing_command
from wsgateway.cluster.entries import Claim, Record, encode, field_of
from wsgateway.cluster.keys import Keys
from wsgateway.cluster.listing import Listing
from wsgateway.cluster.redis_store import RedisStore
from wsgateway.connection import ConnectionEntry, ConnectionKey
from wsgateway.connection_id import new_connection_id
from wsgateway.errors import OperatorFaults
from wsgateway.listing_command import count, described, make_filter, print_list, row

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from redis.asyncio import Redis

    from tests.cluster.valkey import Server

API = "abcde12345"
KEYS = Keys("wsgateway", API)
ONE, TWO = b"\x00\x00\x01", b"\xf8\x00\x02"
NOW_MS = 1_700_000_100_000
CONNECTED_MS = 1_700_000_000_000
BROWSER = "Mozilla/5.0 (X11; Linux x86_64)"


def record(
    number: int = 0,
    *,
    tag: bytes = ONE,
    stage: str = "dev",
    source_ip: str = "192.0.2.7",
    user_agent: str | None = BROWSER,
    claim: Claim | None = None,
) -> Record:
    key = ConnectionKey(API, stage, new_connection_id(tag, number.to_bytes(7)))
    return Record(ConnectionEntry(key, CONNECTED_MS, "host", source_ip, user_agent), claim)


# --- which


@pytest.mark.parametrize(
    ("flags", "is_taken"),
    [
        ({}, True),
        ({"stage": "prod,dev"}, True),
        ({"stage": "prod"}, False),
        ({"source_ip": "192.0.2.7"}, True),
        ({"source_ip": "192.0.2.0/24"}, True),
        ({"source_ip": "192.0.2.8"}, False),
        ({"source_ip": "2001:db8::/32"}, False),
        ({"older_than": "100"}, True),
        ({"older_than": "100s"}, True),
        ({"older_than": "1.5m"}, True),
        ({"older_than": "101s"}, False),
        ({"older_than": "1h"}, False),
        ({"user_agent": "mozilla"}, True),
        ({"user_agent": "curl"}, False),
        ({"node": "000001"}, True),
        ({"node": "F80002"}, False),
        ({"stage": "dev", "older_than": "1m", "user_agent": "curl"}, False),
    ],
)
def test_filters(flags: Mapping[str, str], is_taken: bool) -> None:
    wanted = make_filter(**flags)

    assert wanted.takes(record(), NOW_MS) is is_taken
    assert wanted.takes_all is (flags == {})


def test_a_client_of_ipv4_at_an_ipv6_socket_has_its_ipv4_address() -> None:
    wanted = make_filter(source_ip="192.0.2.0/24")

    assert wanted.takes(record(source_ip="::ffff:192.0.2.7"), NOW_MS)
    assert not wanted.takes(record(source_ip="nowhere"), NOW_MS)


def test_who_tells_nothing_of_itself_is_not_found_by_that() -> None:
    assert not make_filter(user_agent="x").takes(record(user_agent=None), NOW_MS)


def test_filters_that_cannot_be_read_are_told_all_at_once() -> None:
    with pytest.raises(OperatorFaults) as raised:
        make_filter(source_ip="here", older_than="long", node="1")

    assert [str(fault) for fault in raised.value.faults] == [
        "--source-ip: 'here' is no address; write 192.0.2.7, or 192.0.2.0/24",
        "--older-than: 'long' is no duration; write 90s, 10m or 2h",
        "--node: '1' is no node; write six hexadecimal digits, as `connections list` shows them",
    ]


def test_what_a_client_says_of_itself_does_not_steer_the_terminal() -> None:
    text = row(described(record(user_agent="\x1b[2J\x07hello\nworld")))

    assert text.endswith(r"\x1b[2J\x07hello\nworld")
    assert text.isprintable()


# --- what stands in Redis


@pytest.fixture
async def listing(redis: Redis) -> AsyncIterator[Listing]:
    """3,000 connections of two nodes, one of them being disconnected."""
    for tag in (ONE, TWO):
        await redis.sadd(KEYS.nodes, tag.hex())
        for number in range(1500):
            claim = Claim("request", 1006, "") if (tag, number) == (TWO, 0) else None
            one = record(number, tag=tag, stage="dev" if number % 3 else "prod", claim=claim)
            await redis.hset(KEYS.entries(tag), field_of(one.entry.key), encode(one.entry, claim))
    store = RedisStore(redis, KEYS, timeout_s=2.0)
    yield Listing(store, api_id=API)
    await store.close()


async def listed(listing: Listing, limit: int = 0, **flags: str) -> tuple[list[str], list[str]]:
    """Return the chunks that were written, and their lines."""
    told: list[str] = []
    wanted = make_filter(**flags)
    await print_list(listing, wanted, as_json=True, limit=limit, tell=told.append)
    return told, "".join(told).splitlines()


@pytest.mark.redis
@pytest.mark.slow
async def test_all_are_listed_as_they_are_read(listing: Listing) -> None:
    told, lines = await listed(listing)

    found = [json.loads(line) for line in lines]
    assert len({one["connectionId"] for one in found}) == 3000
    assert max(chunk.count("\n") for chunk in told) < 1000
    assert [one["state"] for one in found].count("closing") == 1
    [first] = [one for one in found if one["connectionId"] == record(1).entry.key.connection_id]
    assert first == {
        "connectionId": record(1).entry.key.connection_id,
        "stage": "dev",
        "state": "open",
        "connectedAt": "2023-11-14T22:13:20Z",
        "sourceIp": "192.0.2.7",
        "userAgent": BROWSER,
        "domainName": "host",
        "node": "000001",
    }


@pytest.mark.redis
@pytest.mark.slow
async def test_filters_and_limits_bound_the_list(listing: Listing) -> None:
    assert len((await listed(listing, stage="prod"))[1]) == 1000
    assert len((await listed(listing, stage="prod", node="000001"))[1]) == 500
    assert (await listed(listing, user_agent="curl"))[1] == []
    assert len((await listed(listing, limit=7))[1]) == 7

    everything = make_filter()
    for limit, is_more in ((2999, True), (3000, False), (3001, False), (0, False)):
        args = {"as_json": False, "limit": limit, "tell": lambda _: None}
        assert await print_list(listing, everything, **args) is is_more  # type: ignore[arg-type]


@pytest.mark.redis
@pytest.mark.slow
async def test_counting_reads_only_what_a_filter_has_to_see(listing: Listing) -> None:
    assert await count(listing, make_filter(stage="prod")) == 1000
    listing.page = None  # type: ignore[assignment, method-assign]
    assert await count(listing, make_filter()) == 3000


# --- as a command


def run(folder: Path, *arguments: str, **variables: str) -> tuple[int, str, str]:
    """Return exit code, output and errors."""
    ran = subprocess.run(
        [*COMMAND, "connections", *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=folder,
        env=bare_environ(folder) | variables,
    )
    assert "Traceback" not in ran.stderr, ran.stderr
    return ran.returncode, ran.stdout, ran.stderr


WHO = """\
    async def handler(event, context):
        return {"statusCode": 200, "body": event["requestContext"]["connectionId"]}
"""


@pytest.mark.redis
@pytest.mark.slow
@pytest.mark.timeout(90)
async def test_connections_of_a_gateway_are_listed_posted_to_and_closed(
    tmp_path: Path, shared_valkey: Server
) -> None:
    async with connected(shared_valkey) as client:
        await client.flushall()
    app = write_app(tmp_path / "routes", {"who.py": WHO})
    variables = {"WSGATEWAY_REDIS": shared_valkey.url}
    settings = {"redis": shared_valkey.url}
    async with serving(app, settings=settings) as one, serving(app, settings=settings) as two:
        ids = {}
        for gateway in (one, two, two):
            client_of = await open_client(gateway.port)
            client_of.send('{"action":"who"}')
            await until(lambda client_of=client_of: client_of.messages)  # type: ignore[misc]
            ids[client_of.messages.pop()] = client_of

        code, output, errors = run(tmp_path, "list", "--json", **variables)
        assert (code, errors) == (0, "")
        assert {json.loads(line)["connectionId"] for line in output.splitlines()} == ids.keys()
        code, output, _ = run(tmp_path, "list", "--limit", "2", "--redis", shared_valkey.url)
        assert next(line.split()[0] for line in output.splitlines()) == "ID"
        assert len(output.splitlines()) == 3
        assert run(tmp_path, "count", **variables)[:2] == (0, "3\n")
        assert run(tmp_path, "count", "--source-ip", "::1", **variables)[:2] == (0, "0\n")

        code, output, errors = run(tmp_path, "post", *ids, "--data", "hällo", **variables)
        assert (code, errors) == (0, "")
        assert output == "".join(f"{connection_id} has got it\n" for connection_id in ids)
        for client_of in ids.values():
            await until(lambda client_of=client_of: client_of.messages == ["hällo"])  # type: ignore[misc]

        first, *_ = ids
        assert run(tmp_path, "close", first, **variables)[:2] == (0, f"{first} is closed\n")
        assert await ids[first].closed == (1000, "Connection Closed Normally")
        (tmp_path / "message").write_text("late")
        code, output, errors = run(
            tmp_path, "post", *ids, "--data-file", "message", "--stage", "dev", **variables
        )
        assert (code, errors) == (1, f"{first}: 410, there is no such connection\n")
        assert output.count("has got it") == 2
        # Nothing of the command stays behind: it was no node.
        assert len(shared_valkey.ask("KEYS", "*:lease")) == 2  # type: ignore[arg-type]


@pytest.mark.redis
@pytest.mark.slow
def test_an_id_that_looks_like_an_option_is_an_id(tmp_path: Path, shared_valkey: Server) -> None:
    """So do all connections of one node in 64."""
    gone = new_connection_id(TWO, bytes(10))
    assert gone.startswith("-")

    for api in (("--api-id", API, "--stage", "dev"), ("--api-id", API)):
        code, _, errors = run(tmp_path, "close", gone, *api, "--redis", shared_valkey.url)
        if len(api) == 4:
            assert (code, errors) == (1, f"{gone}: 410, there is no such connection\n")
        else:
            assert (code, errors[:8]) == (2, "--stage:")


@pytest.mark.slow
def test_what_is_wrong_is_told(tmp_path: Path) -> None:
    write_app(tmp_path / "routes", {"who.py": WHO})

    code, output, errors = run(tmp_path, "list")
    assert (code, output) == (2, "")
    assert errors == (
        "--redis: there is none, and a gateway without Redis tells nobody of its connections; "
        "name the Redis that the nodes share: --redis redis://HOST:PORT, or WSGATEWAY_REDIS\n"
    )
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        redis = "--redis", f"redis://127.0.0.1:{nobody.getsockname()[1]}"
        code, output, errors = run(tmp_path, "count", *redis)
        assert (code, output) == (2, "")
        assert errors.startswith("--redis: 127.0.0.1:")
        code, _, errors = run(tmp_path, "close", "nonsense", "--stagee", *redis)
        assert (code, [line.split(";")[0] for line in errors.splitlines()]) == (
            2,
            ["ID: 'nonsense' is no connection's id", "ID: '--stagee' is no connection's id"],
        )
        code, _, errors = run(tmp_path, "post", "L0SM9cOFvHcCIhw=", *redis)
        assert (code, errors) == (
            2,
            "--data: there is not one message; give --data or --data-file\n",
        )
        code, _, errors = run(tmp_path, "list", "--path", "nowhere.yaml", *redis)
        assert (code, errors[:12]) == (2, "nowhere.yaml")
    os.rename(tmp_path / "routes", tmp_path / "elsewhere")  # noqa: PTH104
    code, _, errors = run(tmp_path, "list", *redis)
    assert (code, "name the API's id, or its definition" in errors) == (2, True)
    assert listing_command.OPERATOR_FAULT == 2
