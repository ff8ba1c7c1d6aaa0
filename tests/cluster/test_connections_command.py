"""`wsgateway connections`: what stands in Redis is listed, and owners are asked to post and close."""

from __future__ import annotations

import asyncio
import json
import subprocess
from itertools import product
from typing import TYPE_CHECKING

import pytest

from tests.cluster.conftest import connected
from tests.connections_command.command import command_in, run
from tests.connections_command.records import API, NOW_MS, ONE, TWO, record
from tests.e2e.client import open_client
from tests.e2e.process import COMMAND, bare_environ, serving, until
from wsgateway.cluster.entries import encode, field_of
from wsgateway.cluster.keys import Keys
from wsgateway.cluster.listing import Listing
from wsgateway.cluster.redis_store import RedisStore
from wsgateway.connection_id import new_connection_id
from wsgateway.connections_command.filters import make_filter
from wsgateway.connections_command.output import count, print_list

if TYPE_CHECKING:
    from pathlib import Path

    from redis.asyncio import Redis

    from tests.cluster.valkey import Server

pytestmark = [pytest.mark.redis, pytest.mark.slow]

KEYS = Keys("wsgateway", API)
# Whoever is kept waiting by a busy machine is neither given up nor gives up.
PATIENT = {"lease_s": 60, "redis_timeout_s": 30, "delivery_timeout_s": 30}


async def test_thousands_are_told_as_they_are_read(redis: Redis) -> None:
    for tag in (ONE, TWO):
        entries = [record(number, tag=tag).entry for number in range(1500)]
        await redis.sadd(KEYS.nodes, tag.hex())
        items = [item for entry in entries for item in (field_of(entry.key), encode(entry))]
        await redis.hset(KEYS.entries(tag), items=items)
    store = RedisStore(redis, KEYS, timeout_s=2.0)
    listing = Listing(store, api_id=API)
    told: list[str] = []

    await print_list(listing, make_filter(), NOW_MS, as_json=True, limit=0, tell=told.append)

    ids = [json.loads(line)["connectionId"] for chunk in told for line in chunk.splitlines()]
    assert set(ids) == {
        record(number, tag=tag).entry.key.connection_id
        for tag, number in product((ONE, TWO), range(1500))
    }
    assert max(chunk.count("\n") for chunk in told) < 1000
    assert await count(listing, make_filter(), NOW_MS) == 3000
    assert await count(listing, make_filter(node=ONE.hex()), NOW_MS) == 1500
    await store.close()


@pytest.mark.timeout(90)
async def test_connections_of_all_nodes_are_listed_posted_to_and_closed(
    tmp_path: Path, shared_valkey: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connected(shared_valkey) as client:
        await client.flushall()
    command_in(tmp_path, monkeypatch)
    settings = {"redis": shared_valkey.url, **PATIENT}
    variables = {f"WSGATEWAY_{name.upper()}": str(value) for name, value in settings.items()}

    async def command(*arguments: str) -> tuple[int, str, str]:
        return await asyncio.to_thread(run, *arguments, **variables)

    async with (
        serving(tmp_path / "routes", settings=settings) as one,
        serving(tmp_path / "routes", settings=settings) as two,
    ):
        clients = {}
        for gateway in (one, two, two):
            opened = await open_client(gateway.port)
            opened.send('{"action":"who"}')
            await until(lambda opened=opened: opened.messages)  # type: ignore[misc]
            clients[opened.messages.pop()] = opened
        first, *others = clients

        code, output, errors = await command("list", "--json")
        assert (code, errors) == (0, "")
        assert {json.loads(line)["connectionId"] for line in output.splitlines()} == set(clients)
        code, output, errors = await command("list", "--limit", "2")
        assert (code, errors) == (0, "There are more than 2; --limit 0 lists all.\n")
        assert [line.split()[0] in {"ID", *clients} for line in output.splitlines()] == [True] * 3
        assert await command("count") == (0, "3\n", "")
        assert await command("count", "--source-ip", "::1") == (0, "0\n", "")

        got = "".join(f"{connection_id} has got it\n" for connection_id in clients)
        assert await command("post", *clients, "--data", "hällo") == (0, got, "")
        for opened in clients.values():
            await until(lambda opened=opened: opened.messages == ["hällo"])  # type: ignore[misc]

        assert await command("close", first) == (0, f"{first} is closed\n", "")
        assert await clients[first].closed == (1000, "Connection Closed Normally")
        (tmp_path / "message").write_text("late")
        assert await command("post", *clients, "--data-file", "message", "--stage", "dev") == (
            1,
            "".join(f"{connection_id} has got it\n" for connection_id in others),
            f"{first}: 410, there is no such connection\n",
        )
        # Nothing of the command stays behind: it was no node.
        assert len(shared_valkey.ask("KEYS", "*:lease")) == 2  # type: ignore[arg-type]


def test_an_id_that_looks_like_an_option_is_an_id(tmp_path: Path, shared_valkey: Server) -> None:
    """So do all connections of one node in 64. The command is a process here, as a user's is."""
    gone = new_connection_id(TWO, bytes(10))
    assert gone.startswith("-")

    ran = subprocess.run(
        [*COMMAND, "connections", "close", gone, "--api-id", API, "--stage", "dev"],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=bare_environ(tmp_path) | {"WSGATEWAY_REDIS": shared_valkey.url},
    )

    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr == f"{gone}: 410, there is no such connection\n"
