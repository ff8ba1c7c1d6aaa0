"""`serve --workers`: one gateway in several processes, which outlives each of them."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
from collections import Counter
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import aiohttp
import orjson
import pytest

from tests.cluster.valkey import Server
from tests.e2e import process
from tests.e2e.client import open_client, open_clients
from tests.e2e.process import COMMAND, GatewayProcess, bare_environ, until, write_app

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping
    from pathlib import Path

    from tests.e2e.client import Client

pytestmark = [pytest.mark.slow, pytest.mark.redis, pytest.mark.timeout(90)]

GOING_AWAY = (1001, "Going away")
# Who answers, and whom it answers.
WHO = """\
    import json, os

    async def handler(event, context):
        of = event["requestContext"]
        body = {"pid": os.getpid(), "id": of["connectionId"], "parent": os.getppid()}
        return {"statusCode": 200, "body": json.dumps(body)}
"""
VERSION = "async def handler(event, context): return {'statusCode': 200, 'body': 'one'}\n"
CONNECT = "async def handler(event, context): return {'statusCode': 200}\n"
DISCONNECT = """\
    import os
    FILE = os.open(os.environ["DISCONNECTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def handler(event, context):
        of = event["requestContext"]
        os.write(FILE, f'{of["connectionId"]} {of["disconnectStatusCode"]}\\n'.encode())
        return {"statusCode": 200}
"""


@pytest.fixture(scope="module")
def valkey() -> Iterator[Server]:
    with Server() as server:
        yield server


@pytest.fixture
def settings(valkey: Server) -> dict[str, object]:
    """Of a gateway that shares nothing with those of other tests."""
    valkey.ask("FLUSHALL")
    return {"redis": valkey.url, "lease_s": 1}


@pytest.fixture
def disconnects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the `$disconnect` handler writes its lines."""
    file = tmp_path / "disconnects"
    file.touch()
    monkeypatch.setenv("DISCONNECTS", str(file))
    return file


def app(tmp_path: Path, **routes: str) -> Path:
    files = {"connect.py": CONNECT, "disconnect.py": DISCONNECT, "who.py": WHO}
    return write_app(
        tmp_path / "app", files | {f"{name}.py": text for name, text in routes.items()}
    )


@asynccontextmanager
async def serving(
    folder: Path, *flags: str, settings: Mapping[str, object] | None = None
) -> AsyncIterator[GatewayProcess]:
    """Serve until the block ends; then supervisor and workers are killed."""
    async with process.serving(folder, *flags, settings=settings) as gateway:
        try:
            yield gateway
        finally:
            # The supervisor first: it would start others.
            pids = [gateway.pid, *pids_of(gateway).values()]
            for pid in filter(is_alive, pids):
                os.kill(pid, signal.SIGKILL)
            await until(lambda: not any(map(is_alive, pids)))


async def who(client: Client) -> dict[str, Any]:
    """Return what the worker of a client says of itself."""
    before = len(client.messages)
    client.send('{"action":"who"}')
    await until(lambda: len(client.messages) > before)
    said: dict[str, Any] = orjson.loads(client.messages[-1])
    return said


async def clients_by_worker(gateway: GatewayProcess, count: int = 40) -> dict[int, list[Client]]:
    """Connect clients, and return them by the process that has them."""
    clients = await open_clients(gateway.port, count)
    said = await asyncio.gather(*map(who, clients))
    found: dict[int, list[Client]] = {}
    for client, of in zip(clients, said, strict=True):
        found.setdefault(of["pid"], []).append(client)
    return found


def has_messages(client: Client, number: int) -> bool:
    return len(client.messages) == number


async def post(gateway: GatewayProcess, connection_id: str, data: str) -> int:
    url = f"{gateway.callback_url}/@connections/{quote(connection_id)}"
    # A connection of its own each time, which may come to another worker.
    connector = aiohttp.TCPConnector(force_close=True)
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.post(url, data=data.encode()) as response,
    ):
        return response.status


def lines_of(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8").splitlines()


def pids_of(gateway: GatewayProcess) -> dict[int, int]:
    """Return the last process of each worker, as the supervisor's log tells."""
    return {
        line["worker"]: line["pid"]
        for line in gateway.log
        if line["event"] == "a worker is started"
    }


def is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:  # noqa: PTH123
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def test_workers_share_the_port_evenly_and_reach_each_others_connections(
    tmp_path: Path, disconnects: Path, settings: dict[str, object]
) -> None:
    async with serving(app(tmp_path), "--workers", "3", settings=settings) as gateway:
        by_worker = await clients_by_worker(gateway, 150)
        pids = pids_of(gateway)

        assert by_worker.keys() == set(pids.values())
        assert len(pids) == 3
        # The kernel's hash: 50 each, and not so few by chance in a million starts.
        assert min(map(len, by_worker.values())) > 20

        for clients in by_worker.values():
            said = await who(clients[0])
            # Wherever each of them arrives.
            assert [await post(gateway, said["id"], f"note {n}") for n in range(6)] == [200] * 6
            await until(partial(has_messages, clients[0], 8))
            assert clients[0].messages[2:] == [f"note {n}" for n in range(6)]

        gateway.signal(signal.SIGTERM)
        clients = [client for of_one in by_worker.values() for client in of_one]
        async with asyncio.timeout(15):
            closed = await asyncio.gather(*(client.closed for client in clients))
        assert await gateway.ended() == 0

    assert Counter(closed) == {GOING_AWAY: 150}
    lines = lines_of(disconnects)
    assert len({line.split()[0] for line in lines}) == len(lines) == 150
    assert {line.split()[1] for line in lines} == {"1001"}
    assert [line for line in gateway.log if line.get("level", "info") != "info"] == []
    assert not any(map(is_alive, pids.values()))


async def test_a_worker_that_dies_is_started_again_and_others_tell_of_its_connections(
    tmp_path: Path, disconnects: Path, settings: dict[str, object]
) -> None:
    async with serving(app(tmp_path), "--workers", "2", settings=settings) as gateway:
        by_worker = await clients_by_worker(gateway)
        before = pids_of(gateway)
        dead, alive = before[1], before[2]
        ids = [(await who(client))["id"] for client in by_worker[dead]]

        os.kill(dead, signal.SIGKILL)

        await until(lambda: pids_of(gateway)[1] != dead)
        await until(lambda: len(lines_of(disconnects)) >= len(ids))
        assert sorted(line.split()[0] for line in lines_of(disconnects)) == sorted(ids)
        assert {line.split()[1] for line in lines_of(disconnects)} == {"1006"}

        async def is_gone() -> bool:
            return {await post(gateway, ids[0], "gone") for _ in range(4)} == {410}

        # Until then the new one cannot know, and answers 500.
        await until(is_gone)
        # Those of the other are as they were, and the new one has its share of the next.
        assert {(await who(client))["pid"] for client in by_worker[alive]} == {alive}

        async def has_two() -> bool:
            return len(await clients_by_worker(gateway)) == 2

        await until(has_two)
        assert (await clients_by_worker(gateway)).keys() == {alive, pids_of(gateway)[1]}
        gateway.signal(signal.SIGTERM)
        assert await gateway.ended() == 0
    [told] = [line for line in gateway.log if line.get("level") == "error"]
    assert (told["worker"], told["pid"], told["exit_code"]) == (1, dead, -signal.SIGKILL)


async def test_a_worker_that_cannot_start_again_is_tried_until_it_can(
    tmp_path: Path, disconnects: Path, settings: dict[str, object]
) -> None:
    folder = app(tmp_path, version=VERSION)
    async with serving(folder, "--workers", "2", settings=settings) as gateway:
        (folder / "version.py").write_text("raise ValueError('not now')\n")
        os.kill(pids_of(gateway)[2], signal.SIGKILL)
        await until(lambda: len(ends(gateway)) >= 3)
        (folder / "version.py").write_text(VERSION)

        async def are_two() -> bool:
            return len(await clients_by_worker(gateway)) == 2

        await until(are_two)
        first, second, third, *_ = ends(gateway)
    assert {line["worker"] for line in (first, second, third)} == {2}
    assert (first["exit_code"], second["exit_code"]) == (-signal.SIGKILL, 2)
    [fault] = second["faults"]
    assert fault.startswith(f"{folder}/version.py:1: cannot be imported: ValueError: not now")
    assert first["pause_s"] <= 0.1 < third["pause_s"] <= 0.4


def ends(gateway: GatewayProcess) -> list[dict[str, Any]]:
    event = "a worker has ended, and is started again"
    return [line for line in gateway.log if line["event"] == event]


async def test_workers_drain_and_end_when_their_supervisor_is_killed(
    tmp_path: Path, disconnects: Path, settings: dict[str, object]
) -> None:
    async with serving(app(tmp_path), "--workers", "2", settings=settings) as gateway:
        by_worker = await clients_by_worker(gateway)
        clients = [client for of_one in by_worker.values() for client in of_one]

        gateway.signal(signal.SIGKILL)

        async with asyncio.timeout(15):
            closed = await asyncio.gather(*(client.closed for client in clients))
        await until(lambda: not any(map(is_alive, by_worker)))
    assert Counter(closed) == {GOING_AWAY: len(clients)}
    assert len(lines_of(disconnects)) == len(clients)


async def test_a_signal_to_all_processes_at_once_drains_as_well(
    tmp_path: Path, disconnects: Path, settings: dict[str, object]
) -> None:
    """As a terminal's Ctrl-C and systemd's stop are: what is at work ends, unhurried."""
    slow = """\
        import asyncio

        async def handler(event, context):
            await asyncio.sleep(1)
            return {"statusCode": 200, "body": "done"}
    """
    async with serving(app(tmp_path, slow=slow), "--workers", "2", settings=settings) as gateway:
        by_worker = await clients_by_worker(gateway, 20)
        busy = [clients[0] for clients in by_worker.values()]
        for client in busy:
            client.send('{"action":"slow"}')
            # Taken before what follows is answered.
            await who(client)

        for pid in (*by_worker, gateway.pid):
            os.kill(pid, signal.SIGINT)

        assert await gateway.ended() == 0
        assert [client.messages[-1] for client in busy] == ["done"] * len(busy)
        assert {await client.closed for client in busy} == {GOING_AWAY}


async def test_each_worker_has_a_management_port_of_its_own(
    tmp_path: Path, disconnects: Path, settings: dict[str, object]
) -> None:
    folder, flags = app(tmp_path), ("--workers", "2", "--management-port", "0")
    settings["node_name"] = "here"
    async with serving(folder, *flags, settings=settings) as gateway:
        urls = gateway.ready_line.split(": ", 1)[1].split()
        health = [url for url in urls if url.endswith("/_wsgateway/health")]
        assert len(health) == 2
        by_worker = await clients_by_worker(gateway)

        async with aiohttp.ClientSession() as session:
            counts, names = [], []
            for url in health:
                async with session.get(url) as response:
                    assert response.status == 200
                async with session.get(url.removesuffix("health") + "metrics") as response:
                    text = await response.text()
                [line] = [x for x in text.splitlines() if x.startswith("wsgateway_connections ")]
                counts.append(int(float(line.split()[1])))
                names += re.findall(r'wsgateway_node_info\{node="([^"]*)"', text)
        pids = pids_of(gateway)
        assert counts == [len(by_worker[pids[1]]), len(by_worker[pids[2]])]
        assert names == ["here-1", "here-2"]


async def test_reload_reaches_every_worker(
    tmp_path: Path, disconnects: Path, settings: dict[str, object]
) -> None:
    folder = app(tmp_path, version=VERSION)
    async with serving(folder, "--workers", "2", "--reload", settings=settings) as gateway:
        by_worker = await clients_by_worker(gateway)
        one_of_each = [clients[0] for clients in by_worker.values()]
        assert len(one_of_each) == 2
        (folder / "version.py").write_text(VERSION.replace("one", "two"))

        for client in one_of_each:

            async def is_new(client: Client = client) -> bool:
                client.send('{"action":"version"}')
                await who(client)
                return "two" in client.messages

            await until(is_new)


def faults(folder: Path, *flags: str, **variables: str) -> list[str]:
    finished = subprocess.run(
        [*COMMAND, "serve", str(folder), *flags],
        env=bare_environ(folder.parent) | variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (finished.returncode, finished.stdout) == (2, ""), finished
    return [line for line in finished.stderr.splitlines() if not line.startswith("{")]


def test_what_workers_find_is_told_once(
    tmp_path: Path, disconnects: Path, settings: dict[str, object]
) -> None:
    folder = app(tmp_path, broken="def handle(event, context): pass\n")
    flags = ("--workers", "3", "--redis", str(settings["redis"]))

    [told] = faults(folder, "--port", "0", *flags)
    assert told.startswith(f"{folder}/broken.py:1: there is no handler")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        of_port, of_handler = faults(folder, "--port", str(port), *flags)
    assert of_port.startswith(f"--port: cannot listen on 127.0.0.1:{port}: Address already in use")
    assert of_handler == told


def test_a_redis_that_is_not_there_is_told_once(tmp_path: Path, disconnects: Path) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"redis://127.0.0.1:{nobody.getsockname()[1]}"
        told = faults(app(tmp_path), "--port", "0", "--workers", "3", "--redis", url)

    assert len(told) == 1
    assert told[0].endswith("start it, or wait for it with --redis-wait")


async def test_a_second_gateway_with_workers_does_not_slip_into_the_port(
    tmp_path: Path, disconnects: Path, settings: dict[str, object]
) -> None:
    """Sharing the port is for the workers of one gateway."""
    folder = app(tmp_path)
    async with serving(folder, "--workers", "2", settings=settings) as gateway:
        flags = ("--port", str(gateway.port), "--workers", "2", "--redis", str(settings["redis"]))
        [told] = await asyncio.to_thread(faults, folder, *flags)

    assert "Address already in use" in told


async def test_a_supervisor_whose_workers_wait_for_redis_ends_at_once(
    tmp_path: Path, disconnects: Path
) -> None:
    folder = app(tmp_path)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"redis://127.0.0.1:{nobody.getsockname()[1]}"
        supervisor = await asyncio.create_subprocess_exec(
            *COMMAND,
            *("serve", str(folder), "--port", "0", "--workers", "2"),
            *("--redis", url, "--redis-wait"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=bare_environ(tmp_path),
        )
        assert supervisor.stderr is not None
        async with asyncio.timeout(30):
            while b"waiting for Redis" not in await supervisor.stderr.readline():
                pass
            supervisor.send_signal(signal.SIGTERM)
            output, _ = await supervisor.communicate()
    assert (supervisor.returncode, output) == (0, b"")


async def test_nobody_is_needed_to_serve_with_one_worker(tmp_path: Path, disconnects: Path) -> None:
    async with serving(app(tmp_path), "--workers", "1") as gateway:
        client = await open_client(gateway.port)
        assert (await who(client))["pid"] == gateway.pid
