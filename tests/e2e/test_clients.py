"""Clients that others wrote: AWS CLI, AWS SDK for JavaScript v3, wscat."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
from asyncio.subprocess import DEVNULL, PIPE
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.e2e.clients.install import HERE, INSTALL_TIMEOUT_S, aws_cli, node_modules
from tests.e2e.process import serving, write_app
from tests.harness import callback_client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

# The first one of a process may have to wait for another's installation, and then install.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(2 * INSTALL_TIMEOUT_S + 120)]

CALL_TIMEOUT_S = 60.0
WHOAMI = """\
    async def handler(event, context):
        return {"statusCode": 200, "body": event["requestContext"]["connectionId"]}
"""
TEXT = '{"hello": "Grüße 👋"}'
PLACEHOLDERS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    # Nobody's profile takes part.
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_PAGER": "",
}


def app(tmp_path: Path) -> Path:
    return write_app(tmp_path / "app", {"whoami.py": WHOAMI})


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[tuple[ClientConnection, str]]:
    """Connect and learn the connection's id."""
    async with connect(url, proxy=None, user_agent_header="tests/1.0") as client:
        await client.send('{"action": "whoami"}')
        yield client, str(await client.recv())


async def run(*command: str, environ: dict[str, str] | None = None) -> tuple[int, str, str]:
    """Return exit code, standard output and standard error."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    process = await asyncio.create_subprocess_exec(
        *command, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, env=kept | (environ or {})
    )
    try:
        async with asyncio.timeout(CALL_TIMEOUT_S):
            output, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, output.decode(), errors.decode()


async def closed(client: ClientConnection) -> tuple[int, str]:
    """Wait for the gateway's close frame."""
    with pytest.raises(ConnectionClosed) as error:
        await client.recv()
    assert error.value.rcvd is not None
    return error.value.rcvd.code, error.value.rcvd.reason


async def test_aws_cli_posts_gets_and_deletes(tmp_path: Path) -> None:
    aws = await asyncio.to_thread(aws_cli)
    data = tmp_path / "data"
    data.write_text(TEXT, encoding="utf-8")
    async with serving(app(tmp_path)) as gateway, connected(gateway.url) as (client, its_id):

        async def call(operation: str, *flags: str) -> tuple[int, str, str]:
            command = [aws, "apigatewaymanagementapi", operation, "--output", "json"]
            command += ["--endpoint-url", gateway.callback_url]
            return await run(*command, f"--connection-id={its_id}", *flags, environ=PLACEHOLDERS)

        # A file, because the CLI's versions 1 and 2 take text on the command line differently.
        assert await call("post-to-connection", "--data", f"fileb://{data}") == (0, "", "")
        assert await client.recv() == TEXT

        code, output, errors = await call("get-connection")
        assert (code, errors) == (0, "")
        found = json.loads(output)
        assert found["Identity"] == {"SourceIp": "127.0.0.1", "UserAgent": "tests/1.0"}
        assert found.keys() == {"ConnectedAt", "Identity", "LastActiveAt"}

        assert await call("delete-connection") == (0, "", "")
        assert await closed(client) == (1000, "Connection Closed Normally")

        code, output, errors = await call("get-connection")
        assert (code, output) in {(254, ""), (255, "")}
        assert "(GoneException) when calling the GetConnection operation" in errors


async def test_javascript_sdk_v3_posts_gets_and_deletes(tmp_path: Path) -> None:
    modules = await asyncio.to_thread(node_modules)
    async with serving(app(tmp_path)) as gateway, connected(gateway.url) as (client, its_id):

        async def call(action: str, *more: str) -> dict[str, Any]:
            code, output, errors = await run(
                *("node", str(HERE / "manage.cjs"), gateway.callback_url, action, its_id, *more),
                environ={"NODE_PATH": str(modules)},
            )
            # What it writes there are announcements about Node's versions.
            assert code == 0, errors
            result: dict[str, Any] = json.loads(output)
            return result

        assert await call("post", TEXT) == {"status": 200}
        assert await client.recv() == TEXT

        found = await call("get")
        assert found.pop("ConnectedAt") <= found.pop("LastActiveAt")
        assert found == {
            "status": 200,
            "Identity": {"SourceIp": "127.0.0.1", "UserAgent": "tests/1.0"},
        }

        assert await call("delete") == {"status": 204}
        assert await closed(client) == (1000, "Connection Closed Normally")

        assert await call("get") == {"status": 410, "error": "GoneException"}
        assert await call("post", TEXT) == {"status": 410, "error": "GoneException"}


async def test_wscat_is_posted_to_looked_at_and_deleted(tmp_path: Path) -> None:
    modules = await asyncio.to_thread(node_modules)
    async with serving(app(tmp_path)) as gateway, wscat(modules, gateway.url) as terminal:
        await terminal.line_with("Connected")
        terminal.type('{"action": "whoami"}')
        its_id = await terminal.line_with("< ")
        aws = callback_client(gateway.callback_url)

        await asyncio.to_thread(aws.post_to_connection, ConnectionId=its_id, Data=TEXT.encode())
        assert await terminal.line_with("< ") == TEXT

        found = await asyncio.to_thread(aws.get_connection, ConnectionId=its_id)
        assert found["Identity"]["SourceIp"] == "127.0.0.1"

        await asyncio.to_thread(aws.delete_connection, ConnectionId=its_id)
        assert (
            await terminal.line_with("Disconnected ")
            == '(code: 1000, reason: "Connection Closed Normally")'
        )
        with pytest.raises(aws.exceptions.GoneException):
            await asyncio.to_thread(aws.get_connection, ConnectionId=its_id)


class Terminal:
    """What somebody in front of a program types and reads."""

    _ESCAPE = re.compile(r"\x1b\[\d*[A-Za-z]|\r")

    def __init__(self, keyboard: int, screen: asyncio.StreamReader) -> None:
        self._keyboard = keyboard
        self._screen = screen
        self._read: list[str] = []

    def type(self, line: str) -> None:
        os.write(self._keyboard, f"{line}\r".encode())

    async def line_with(self, text: str) -> str:
        """Wait for a line with a text and return what follows the text."""
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                while line := (await self._screen.readline()).decode():
                    self._read.append(self._ESCAPE.sub("", line).strip())
                    _, found, rest = self._read[-1].partition(text)
                    if found:
                        return rest
        # On Linux a terminal that nobody has open any more is an error to read from.
        except (TimeoutError, OSError) as error:
            raise AssertionError(f"no {text!r} in {self._read}") from error
        raise AssertionError(f"no {text!r} in {self._read}")


@asynccontextmanager
async def wscat(modules: Path, url: str) -> AsyncIterator[Terminal]:
    """Run wscat in a terminal, without which it tells of messages only, until the block ends."""
    ours, its = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *("node", str(modules / "wscat" / "bin" / "wscat"), "--no-color", "--connect", url),
        stdin=its,
        stdout=its,
        stderr=its,
        start_new_session=True,
    )
    os.close(its)
    screen = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(screen), os.fdopen(ours, "rb", buffering=0)
    )
    try:
        yield Terminal(ours, screen)
    finally:
        transport.close()
        if process.returncode is None:
            process.kill()
        await process.wait()
