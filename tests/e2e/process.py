"""A gateway in a process of its own, started as a user starts it."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE
from contextlib import asynccontextmanager
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import aiohttp
import orjson

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import AsyncIterator, Callable, Mapping

COMMAND = (sys.executable, "-m", "wsgateway.cli")
READY_TIMEOUT_S = 15.0


class GatewayProcess:
    """A gateway that serves.

    Attributes:
        pid: Of the process.
        ready_line: What it printed when it was ready.
        url: Where clients connect, for the only stage.
        callback_url: Where backends post, for the only stage.
        health_url: Where an orchestrator asks.
        port: Where clients connect.
    """

    def __init__(self, process: Process, errors: Path, ready_line: str) -> None:
        self.pid = process.pid
        self.ready_line = ready_line
        self.url, callback_url, self.health_url, *_ = ready_line.split(": ", 1)[1].split()
        self.callback_url = callback_url.removesuffix("/@connections/ID")
        self.metrics_url = self.health_url.removesuffix("health") + "metrics"
        self.port = urlsplit(self.url).port or 0
        self._process = process
        self._errors = errors

    @property
    def output(self) -> str:
        """What it has written to standard error so far."""
        return self._errors.read_text(encoding="utf-8")

    @property
    def log(self) -> list[dict[str, Any]]:
        """The lines of its log so far; each has to be JSON."""
        return [orjson.loads(line) for line in self.output.splitlines()]

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    async def ended(self, timeout_s: float = 15.0) -> int:
        """Wait for its end and return the exit code."""
        async with asyncio.timeout(timeout_s):
            return await self._process.wait()

    async def health(self) -> int:
        async with aiohttp.ClientSession() as session, session.get(self.health_url) as response:
            return response.status

    async def functions_running(self) -> int:
        """Return how many calls of handlers are under way."""
        return await self.gauge("wsgateway_functions_running")

    async def connections(self) -> int:
        """Return how many connections are open."""
        return await self.gauge("wsgateway_connections")

    async def tasks(self) -> int:
        """Return how many tasks its event loop has."""
        return await self.gauge("wsgateway_tasks")

    async def gauge(self, name: str) -> int:
        """Return a metric without labels."""
        return int(float((await self.metric(f"{name} ")).split()[1]))

    async def metric(self, beginning: str) -> str:
        """Return the one line of its metrics that begins so."""
        async with aiohttp.ClientSession() as session, session.get(self.metrics_url) as response:
            text = await response.text()
        [line] = [line for line in text.splitlines() if line.startswith(beginning)]
        return line

    def rss_kib(self) -> int:
        """Return the resident memory of the process."""
        for line in Path(f"/proc/{self.pid}/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
        raise AssertionError("no such line")


@asynccontextmanager
async def serving(
    folder: Path,
    *flags: str,
    settings: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
) -> AsyncIterator[GatewayProcess]:
    """Serve a folder on a free port until the block ends; then the process is killed.

    Args:
        folder: Of handlers.
        flags: More flags.
        settings: Given as variables.
        environ: More variables.
    """
    variables = {
        f"WSGATEWAY_{name.upper()}": str(value) for name, value in (settings or {}).items()
    }
    errors = folder.parent / f"{folder.name}.stderr"
    with errors.open("wb") as stderr:
        process = await asyncio.create_subprocess_exec(
            *COMMAND,
            *("serve", str(folder), "--port", "0", *flags),
            stdout=PIPE,
            stderr=stderr,
            cwd=folder.parent,
            env=bare_environ(folder.parent) | variables | dict(environ or {}),
        )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(READY_TIMEOUT_S):
            ready_line = (await process.stdout.readline()).decode()
        assert ready_line.startswith("wsgateway is ready: "), errors.read_text(encoding="utf-8")
        yield GatewayProcess(process, errors, ready_line)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def bare_environ(home: Path) -> dict[str, str]:
    """Return the variables of this process without those of AWS and of wsgateway."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AWS_", "WSGATEWAY_"))
    }
    return {**kept, "HOME": str(home)}


def write_app(folder: Path, files: Mapping[str, str]) -> Path:
    """Write handlers, and let every route of theirs be two-way if there is no `api.yaml`."""
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(dedent(text), encoding="utf-8")
    if "api.yaml" not in files:
        routes = [Path(name).stem for name in files if not name.startswith("_")]
        lines = [
            f"  {route}: {{routeResponseSelectionExpression: $default}}\n"
            for route in routes
            if route not in {"connect", "disconnect", "default"}
        ]
        (folder / "api.yaml").write_text("routes:\n" + "".join(lines) if lines else "")
    return folder


async def until(condition: Callable[[], Any], timeout_s: float = 10.0) -> None:
    """Wait until a condition, which may be a coroutine function, holds."""
    async with asyncio.timeout(timeout_s):
        while True:
            result = condition()
            if asyncio.iscoroutine(result):
                result = await result
            if result:
                return
            await asyncio.sleep(0.02)
