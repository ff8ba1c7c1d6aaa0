"""`--reload`: files are edited while a client is connected."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING

import pytest

from tests.e2e.client import Client, open_client
from tests.e2e.process import GatewayProcess, serving, until, write_app

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]

SAY = """\
    import _text

    def handler(event, context):
        return {"statusCode": 200, "body": f"one {_text.TEXT} {event.get('stageVariables')}"}
"""
FILES = {"say.py": SAY, "_text.py": "TEXT = 'a'\n"}


async def said(client: Client) -> str:
    """Return what the route says now."""
    client.messages.clear()
    client.send('{"action":"say"}')
    await until(lambda: client.messages)
    return client.messages[0]


def count(gateway: GatewayProcess, event: str) -> int:
    return sum(line["event"] == event for line in gateway.log)


async def edit(gateway: GatewayProcess, event: str, *files: tuple[Path, str | None]) -> None:
    """Write or delete files, and wait until that is reloaded or refused."""
    before = count(gateway, event)
    for file, text in files:
        if text is None:
            file.unlink()
        else:
            # As editors save: a new file takes the old one's place.
            new = file.with_name(f"{file.name}.new")
            new.write_text(text, encoding="utf-8")
            new.replace(file)
    await until(lambda: count(gateway, event) > before)


async def test_edits_are_seen_without_dropping_the_connection(tmp_path: Path) -> None:
    app = write_app(tmp_path / "app", FILES)
    async with serving(app, "--reload") as gateway:
        client = await open_client(gateway.port)
        assert await said(client) == "one a None"

        await edit(gateway, "reloaded", (app / "_text.py", "TEXT = 'b'\n"))
        assert await said(client) == "one b None"

        handler = (app / "say.py").read_text().replace("one", "two")
        await edit(gateway, "reloaded", (app / "say.py", handler))
        assert await said(client) == "two b None"

        definition = (app / "api.yaml").read_text() + "stages: {dev: {stageVariables: {v: x}}}\n"
        await edit(gateway, "reloaded", (app / "api.yaml", definition))
        assert await said(client) == "two b {'v': 'x'}"

        one_way = definition.replace("say: {routeResponseSelectionExpression: $default}", "say: {}")
        await edit(gateway, "reloaded", (app / "api.yaml", one_way))
        client.messages.clear()
        client.send('{"action":"say"}')
        await until(lambda: count(gateway, "message") == 5)
        assert client.messages == []

        assert not client.closed.done()
        gateway.signal(signal.SIGTERM)
        assert await gateway.ended() == 0
    assert [line for line in gateway.log if line.get("level", "info") != "info"] == []


async def test_a_broken_edit_keeps_what_was_there(tmp_path: Path) -> None:
    app = write_app(tmp_path / "app", FILES)
    async with serving(app, "--reload") as gateway:
        client = await open_client(gateway.port)

        await edit(gateway, "not reloaded", (app / "_text.py", "TEXT =\n"))
        fault = next(line for line in gateway.log if line["event"] == "not reloaded")
        assert fault["fault"].startswith(f"{app}/_text.py:1: cannot be compiled: ")
        assert await said(client) == "one a None"

        await edit(gateway, "not reloaded", (app / "api.yaml", "naem: x\n"))
        assert await said(client) == "one a None"

        await edit(
            gateway,
            "reloaded",
            (app / "_text.py", "TEXT = 'c'\n"),
            (app / "api.yaml", "routes: {say: {routeResponseSelectionExpression: $default}}\n"),
        )
        assert await said(client) == "one c None"
    assert "Traceback" not in gateway.output


async def test_routes_come_and_go(tmp_path: Path) -> None:
    app = write_app(tmp_path / "app", {**FILES, "default.py": "def handler(e, c): return {}\n"})
    async with serving(app, "--reload") as gateway:
        client = await open_client(gateway.port)
        definition = "routes: {say: {routeResponseSelectionExpression: $default}}\n"
        await edit(gateway, "reloaded", (app / "api.yaml", definition), (app / "default.py", None))

        client.send("nobody knows this")
        await until(lambda: client.messages)
        assert '"Forbidden"' in client.messages[0]

        default = "def handler(event, context): return {'statusCode': 200, 'body': 'default'}\n"
        two_way = "routes: {$default: {routeResponseSelectionExpression: $default}}\n"
        await edit(gateway, "reloaded", (app / "default.py", default), (app / "api.yaml", two_way))
        client.messages.clear()
        client.send("nobody knows this")
        await until(lambda: client.messages)
        assert client.messages == ["default"]


async def test_a_call_in_flight_finishes_on_the_old_code(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    waiting = SAY.replace("        return", f"        open({str(gate)!r}).close()\n        return")
    app = write_app(tmp_path / "app", {**FILES, "say.py": waiting})
    async with serving(app, "--reload") as gateway:
        client = await open_client(gateway.port)
        client.send('{"action":"say"}')
        await until(lambda: running(gateway))

        await edit(gateway, "reloaded", (app / "_text.py", "TEXT = 'b'\n"))
        await asyncio.to_thread(lambda: gate.open("w").close())

        await until(lambda: client.messages)
        assert client.messages == ["one a None"]


async def running(gateway: GatewayProcess) -> bool:
    return await gateway.functions_running() == 1


async def test_other_files_beside_the_handlers_are_no_reason_to_reload(tmp_path: Path) -> None:
    app = write_app(tmp_path / "app", FILES)
    async with serving(app, "--reload") as gateway:
        client = await open_client(gateway.port)
        for name in ("data.json", "chat.db", ".say.py.swp"):
            (app / name).write_text("x")

        await edit(gateway, "reloaded", (app / "_text.py", "TEXT = 'b'\n"))

        assert await said(client) == "one b None"
        assert count(gateway, "reloaded") == 1


async def test_an_import_may_run_an_event_loop(tmp_path: Path) -> None:
    """It may when the gateway starts, so it may when it reloads."""
    app = write_app(tmp_path / "app", FILES)
    source = "import asyncio\n\nasync def text(): return 'loop'\n\nTEXT = asyncio.run(text())\n"
    async with serving(app, "--reload") as gateway:
        client = await open_client(gateway.port)

        await edit(gateway, "reloaded", (app / "_text.py", source))

        assert await said(client) == "one loop None"


async def test_it_stops_while_an_import_is_stuck(tmp_path: Path) -> None:
    app = write_app(tmp_path / "app", FILES)
    begun = tmp_path / "begun"
    source = f"import pathlib, time\npathlib.Path({str(begun)!r}).touch()\ntime.sleep(50)\n"
    async with serving(app, "--reload") as gateway:
        (app / "_text.py").write_text(source)
        await until(begun.exists)

        assert await gateway.health() == 200
        gateway.signal(signal.SIGTERM)

        assert await gateway.ended(10) == 0
