"""SIGTERM and SIGINT: what clients, handlers and whoever waits for the exit code see."""

from __future__ import annotations

import asyncio
import signal
import time
from typing import TYPE_CHECKING

import pytest

from tests.e2e.client import open_client, open_clients
from tests.e2e.process import GatewayProcess, serving, until, write_app

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]

GOING_AWAY = (1001, "Going away")
CONNECT = "async def handler(event, context): return {'statusCode': 200}\n"
ECHO = "async def handler(event, context): return {'statusCode': 200, 'body': event['body']}\n"
# Each call adds a line, also when many run at once.
DISCONNECT = """\
    import os
    FILE = os.open(os.environ["DISCONNECTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def handler(event, context):
        of = event["requestContext"]
        line = f'{of["connectionId"]} {of["disconnectStatusCode"]} {of["disconnectReason"]}\\n'
        os.write(FILE, line.encode())
        return {"statusCode": 200}
"""
SLOW = """\
    import asyncio

    async def handler(event, context):
        await asyncio.sleep(1)
        return {"statusCode": 200, "body": "answered"}
"""
SLOW_IN_THREAD = """\
    import time

    def handler(event, context):
        time.sleep(1)
        return {"statusCode": 200, "body": "answered"}
"""


@pytest.fixture
def disconnects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the `$disconnect` handler writes its lines."""
    file = tmp_path / "disconnects"
    file.touch()
    monkeypatch.setenv("DISCONNECTS", str(file))
    return file


def app(tmp_path: Path, **routes: str) -> Path:
    files = {"connect.py": CONNECT, "disconnect.py": DISCONNECT, "echo.py": ECHO}
    return write_app(
        tmp_path / "app", files | {f"{name}.py": text for name, text in routes.items()}
    )


def lines_of(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8").splitlines()


def assert_quiet(gateway: GatewayProcess) -> None:
    """Nothing but its log lines, and none of something wrong."""
    assert [line for line in gateway.log if line.get("level", "info") != "info"] == []


async def test_1000_connections_and_100_handlers_in_flight(
    tmp_path: Path, disconnects: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = app(tmp_path, slow=SLOW, thread=SLOW_IN_THREAD)
    async with serving(folder, settings={"handler_threads": 50}) as gateway:
        clients = await open_clients(gateway.port, 1000)
        busy, idle = clients[450:550], clients[:450] + clients[550:]
        for number, client in enumerate(busy):
            client.send('{"action":"slow"}' if number % 2 else '{"action":"thread"}')
        await until(lambda: running(gateway, 100))

        started_s = time.monotonic()
        gateway.signal(signal.SIGTERM)
        async with asyncio.timeout(15):
            closed = await asyncio.gather(*(client.closed for client in clients))
        code = await gateway.ended()
        took_s = time.monotonic() - started_s

    with capsys.disabled():
        print(f" [drained 1000 connections in {took_s:.2f} s]", end="")  # noqa: T201 - a figure
    assert code == 0
    assert set(closed) == {GOING_AWAY}
    assert [client.messages for client in busy] == [["answered"]] * 100
    assert [client.messages for client in idle] == [[]] * 900
    lines = lines_of(disconnects)
    assert len({line.split()[0] for line in lines}) == len(lines) == 1000
    assert {line.split(" ", 1)[1] for line in lines} == {"1001 Going away"}
    assert_quiet(gateway)


async def running(gateway: GatewayProcess, count: int) -> bool:
    return await gateway.functions_running() == count


async def test_messages_that_were_taken_are_answered_and_later_ones_are_not(
    tmp_path: Path, disconnects: Path
) -> None:
    """A client that never stops sending does not hold the drain up."""
    folder = app(tmp_path, slow=SLOW.replace("sleep(1)", "sleep(0.2)"))
    async with serving(folder, settings={"in_flight_max": 1}) as gateway:
        client = await open_client(gateway.port)
        for _ in range(5):
            client.send('{"action":"slow"}')
        await until(lambda: running(gateway, 1))

        gateway.signal(signal.SIGTERM)
        while not client.closed.done():
            client.send('{"action":"slow"}')
            await asyncio.wait({client.closed}, timeout=0.05)

        assert client.closed.result() == GOING_AWAY
        assert len(client.messages) >= 5
        assert await gateway.ended() == 0
    assert_quiet(gateway)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_both_signals_end_with_0(tmp_path: Path, disconnects: Path, number: int) -> None:
    async with serving(app(tmp_path)) as gateway:
        client = await open_client(gateway.port)

        gateway.signal(number)

        assert await gateway.ended() == 0
        assert client.closed.result() == GOING_AWAY
    assert_quiet(gateway)


async def test_nothing_to_drain_takes_no_time(tmp_path: Path, disconnects: Path) -> None:
    async with serving(app(tmp_path)) as gateway:
        gateway.signal(signal.SIGTERM)

        assert await gateway.ended(10) == 0
    assert gateway.log[-1]["seconds"] < 1
    assert_quiet(gateway)


async def test_during_the_delay_readiness_is_off_and_all_else_goes_on(
    tmp_path: Path, disconnects: Path
) -> None:
    async with serving(app(tmp_path), settings={"drain_delay_s": 30}) as gateway:
        client = await open_client(gateway.port)
        assert await gateway.health() == 200

        gateway.signal(signal.SIGTERM)
        await until(lambda: unready(gateway))

        client.send('{"action":"echo"}')
        await until(lambda: client.messages)
        late = await open_client(gateway.port)
        assert late.status.result() == 101
        assert not client.closed.done()
        gateway.signal(signal.SIGTERM)
        assert await gateway.ended() == 0
        assert await client.closed == await late.closed == GOING_AWAY
    assert_quiet(gateway)


async def unready(gateway: GatewayProcess) -> bool:
    return await gateway.health() == 503


async def test_a_second_signal_cuts_the_wait(tmp_path: Path, disconnects: Path) -> None:
    folder = app(tmp_path, slow=SLOW.replace("sleep(1)", "sleep(25)"))
    async with serving(folder) as gateway:
        idle, busy = await open_client(gateway.port), await open_client(gateway.port)
        busy.send('{"action":"slow"}')
        await until(lambda: running(gateway, 1))

        gateway.signal(signal.SIGINT)
        assert await idle.closed == GOING_AWAY
        assert not busy.closed.done()
        gateway.signal(signal.SIGINT)

        assert await gateway.ended(10) == 0
        assert await busy.closed == GOING_AWAY
        assert busy.messages == []
    assert gateway.log[-1]["unfinished"] >= 1
    assert_quiet(gateway)


async def test_the_grace_period_bounds_the_wait(tmp_path: Path, disconnects: Path) -> None:
    folder = app(tmp_path, slow=SLOW.replace("sleep(1)", "sleep(25)"))
    async with serving(folder, settings={"grace_period_s": 0.3, "in_flight_max": 1}) as gateway:
        client = await open_client(gateway.port)
        for _ in range(20):
            client.send('{"action":"slow"}')
        await until(lambda: running(gateway, 1))

        gateway.signal(signal.SIGTERM)

        assert await client.closed == GOING_AWAY
        assert await gateway.ended(10) == 0
    assert_quiet(gateway)


@pytest.mark.parametrize(
    "wait",
    [
        pytest.param("def handler(event, context): time.sleep(50)", id="in a thread of ours"),
        pytest.param(
            "async def handler(event, context): await asyncio.to_thread(time.sleep, 50)",
            id="in a thread of the loop",
        ),
        pytest.param(
            "def handler(event, context):\n"
            "  t = threading.Thread(target=time.sleep, args=(50,))\n"
            "  t.start()\n"
            "  t.join()",
            id="in a thread of its own",
        ),
        pytest.param(
            "async def handler(event, context):\n"
            "  while True:\n"
            "    try: await asyncio.sleep(50)\n"
            "    except asyncio.CancelledError: pass",
            id="cancelled and does not care",
        ),
    ],
)
async def test_a_stuck_handler_does_not_keep_the_process(
    tmp_path: Path, disconnects: Path, wait: str
) -> None:
    folder = app(tmp_path, stuck=f"import asyncio, threading, time\n{wait}\n")
    async with serving(folder, settings={"grace_period_s": 0.3}) as gateway:
        client = await open_client(gateway.port)
        client.send('{"action":"stuck"}')
        await until(lambda: running(gateway, 1))

        gateway.signal(signal.SIGTERM)

        assert await client.closed == GOING_AWAY
        assert await gateway.ended(10) == 0
    assert [line["event"] for line in gateway.log if line.get("level", "info") != "info"] == [
        "handlers are still running, and are given up"
    ]


async def test_a_handler_that_blocks_the_loop_is_ended_by_a_second_signal(
    tmp_path: Path, disconnects: Path
) -> None:
    begun = tmp_path / "begun"
    folder = app(
        tmp_path,
        stuck=f"""\
            import pathlib, time

            async def handler(event, context):
                pathlib.Path({str(begun)!r}).touch()
                time.sleep(50)
        """,
    )
    async with serving(folder) as gateway:
        client = await open_client(gateway.port)
        client.send('{"action":"stuck"}')
        await until(begun.exists)

        gateway.signal(signal.SIGINT)
        gateway.signal(signal.SIGTERM)

        assert await gateway.ended(10) == 0


async def test_a_client_that_never_answers_the_close_frame(
    tmp_path: Path, disconnects: Path
) -> None:
    async with serving(app(tmp_path), settings={"close_timeout_s": 0.5}) as gateway:
        client = await open_client(gateway.port, answers_close=False)

        gateway.signal(signal.SIGTERM)

        assert await client.closed == GOING_AWAY
        assert await gateway.ended(10) == 0
    assert [line.split(" ", 1)[1] for line in lines_of(disconnects)] == ["1001 Going away"]
    assert_quiet(gateway)


async def test_who_comes_while_it_drains_is_told_503(tmp_path: Path, disconnects: Path) -> None:
    async with serving(app(tmp_path, slow=SLOW)) as gateway:
        idle, busy = await open_client(gateway.port), await open_client(gateway.port)
        busy.send('{"action":"slow"}')
        await until(lambda: running(gateway, 1))

        gateway.signal(signal.SIGTERM)
        await idle.closed
        late = await open_client(gateway.port)

        assert late.status.result() == 503
        assert await gateway.health() == 503
        assert await busy.closed == GOING_AWAY
        assert busy.messages == ["answered"]
        assert await gateway.ended() == 0
    assert_quiet(gateway)


async def test_with_a_management_port_it_is_no_different(tmp_path: Path, disconnects: Path) -> None:
    async with serving(app(tmp_path, slow=SLOW), "--management-port", "0") as gateway:
        idle, busy = await open_client(gateway.port), await open_client(gateway.port)
        busy.send('{"action":"slow"}')
        await until(lambda: running(gateway, 1))

        gateway.signal(signal.SIGTERM)
        await idle.closed
        late = await open_client(gateway.port)

        assert late.status.result() == 503
        assert await gateway.health() == 503
        assert await busy.closed == GOING_AWAY
        assert busy.messages == ["answered"]
        assert await gateway.ended() == 0
    assert len(lines_of(disconnects)) == 2
    assert_quiet(gateway)


@pytest.mark.parametrize("flags", [(), ("--management-port", "0")])
async def test_disconnect_handlers_can_post_while_it_drains(
    tmp_path: Path, disconnects: Path, flags: tuple[str, ...]
) -> None:
    """The first one to be closed is told of to the other one."""
    folder = app(
        tmp_path,
        whoami="""\
            import _seen

            def handler(event, context):
                _seen.IDS.append(event["requestContext"]["connectionId"])
                return {"statusCode": 200, "body": "noted"}
        """,
        _seen="IDS = []\n",
        disconnect="""\
            import os, urllib.request
            import _seen

            def handler(event, context):
                _seen.IDS.remove(event["requestContext"]["connectionId"])
                for id in _seen.IDS:
                    url = f'{os.environ["WSGATEWAY_CALLBACK_URL"]}/@connections/{id}'
                    with urllib.request.urlopen(url, b"left"):
                        pass
                return {"statusCode": 200}
        """,
    )
    # Two seconds between the two.
    async with serving(folder, *flags, settings={"drain_close_rate": 0.5}) as gateway:
        first, second = await open_client(gateway.port), await open_client(gateway.port)
        for client in (first, second):
            client.send('{"action":"whoami"}')
            await until(lambda client=client: client.messages)  # type: ignore[misc]

        gateway.signal(signal.SIGTERM)

        assert await first.closed == await second.closed == GOING_AWAY
        assert first.messages == ["noted"]
        assert second.messages == ["noted", "left"]
        assert await gateway.ended() == 0
    assert_quiet(gateway)


async def test_half_a_request_does_not_hold_it_up(tmp_path: Path, disconnects: Path) -> None:
    async with serving(app(tmp_path)) as gateway:
        client = await open_client(gateway.port)
        sockets = [await asyncio.open_connection("127.0.0.1", gateway.port) for _ in range(4)]
        for (_, writer), text in zip(
            sockets,
            [
                "",
                "GET /dev HT",
                (
                    "POST /dev/@connections/L0SM9cOFvHcCIhw= HTTP/1.1\r\nHost: x\r\n"
                    "Content-Length: 9\r\n\r\nhalf"
                ),
                "GET /_wsgateway/health HTTP/1.1\r\nHost: x\r\n\r\n",
            ],
            strict=True,
        ):
            writer.write(text.encode())
        await sockets[3][0].readuntil(b"}")

        gateway.signal(signal.SIGTERM)

        assert await client.closed == GOING_AWAY
        assert await gateway.ended(10) == 0
        for _, writer in sockets:
            writer.close()
    assert_quiet(gateway)


async def test_tasks_and_sockets_of_handlers_end_without_noise(
    tmp_path: Path, disconnects: Path
) -> None:
    """A handler may leave a task behind, or an HTTP client of its own."""
    folder = app(
        tmp_path,
        leave="""\
            import asyncio, aiohttp

            LEFT = []

            async def handler(event, context):
                LEFT.append(asyncio.create_task(asyncio.sleep(50)))
                LEFT.append(asyncio.get_running_loop().run_in_executor(None, print, "", ""))
                return {"statusCode": 200, "body": "left"}
        """,
    )
    async with serving(folder) as gateway:
        client = await open_client(gateway.port)
        client.send('{"action":"leave"}')
        await until(lambda: client.messages)

        gateway.signal(signal.SIGTERM)

        assert await gateway.ended(10) == 0
    assert_quiet(gateway)
