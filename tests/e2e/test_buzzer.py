"""The project in `examples/buzzer`: a backend in Node behind HTTP_PROXY, declared in one file."""

from __future__ import annotations

import asyncio
import json
import shutil
from asyncio.subprocess import PIPE
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from websockets.asyncio.client import connect

from tests.e2e.process import READY_TIMEOUT_S, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from websockets.asyncio.client import ClientConnection

EXAMPLE = Path(__file__).parents[2] / "examples" / "buzzer"
NODE = shutil.which("node")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(60),
    pytest.mark.skipif(NODE is None, reason="NOT TESTED: there is no node on this machine"),
]


@asynccontextmanager
async def backend() -> AsyncIterator[str]:
    """Run the backend on a free port; gives its URL."""
    assert NODE is not None
    process = await asyncio.create_subprocess_exec(
        NODE, str(EXAMPLE / "backend.js"), stdout=PIPE, env={"PORT": "0"}
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(READY_TIMEOUT_S):
            ready_line = (await process.stdout.readline()).decode()
        yield ready_line.split()[-1]
    finally:
        process.kill()
        await process.communicate()


@asynccontextmanager
async def quiz(folder: Path) -> AsyncIterator[str]:
    """Run the example as it is, but for the ports; gives the URL for clients."""
    async with backend() as url:
        declared = (EXAMPLE / "api.yaml").read_text(encoding="utf-8")
        assert declared.count("http://127.0.0.1:3000") == 1
        file = folder / "api.yaml"
        file.write_text(declared.replace("http://127.0.0.1:3000", url), encoding="utf-8")
        async with serving(file) as gateway:
            yield gateway.url


async def told(client: ClientConnection) -> Any:
    return json.loads(await client.recv())


async def test_the_first_one_to_buzz_wins(tmp_path: Path) -> None:
    async with quiz(tmp_path) as url, connect(url) as ada:
        await ada.send('{"action": "join", "name": "Ada"}')
        assert await told(ada) == {"players": ["Ada"], "winner": None}
        async with connect(url) as bo:
            await bo.send('{"action": "join", "name": "Bo"}')
            assert await told(bo) == {"players": ["Ada", "Bo"], "winner": None}
            assert await told(ada) == {"players": ["Ada", "Bo"]}

            await bo.send('{"action": "buzz"}')
            assert await told(ada) == await told(bo) == {"winner": "Bo"}
            await ada.send('{"action": "buzz"}')
            await ada.send('{"action": "reset"}')
            assert await told(ada) == await told(bo) == {"winner": None}
        assert await told(ada) == {"players": ["Ada"]}


async def test_what_readme_shows(tmp_path: Path) -> None:
    async with quiz(tmp_path) as url, connect(url) as ada:
        await ada.send('{"action": "join"}')
        assert (await told(ada))["message"] == "Invalid request body"
        await ada.send('{"action": "time"}')
        assert (await told(ada)).keys() == {"time"}
        await ada.send("hello")
        assert await told(ada) == {"error": "there are: join, buzz, reset, time"}
