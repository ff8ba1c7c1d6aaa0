r"""Pushpin with a backend that echoes what it is posted, as one tree of processes.

Pushpin turns messages into HTTP requests with bodies such as `TEXT 5\r\nhello\r\n`, and what it
should do into responses of the same form (https://pushpin.org/docs/protocols/websocket-over-http/).
So the trivial backend gives each body back: it accepts who connects, answers a message with itself
and a close with a close.
"""

from __future__ import annotations

import asyncio
import signal
import tempfile
from pathlib import Path
from typing import cast

import uvloop
from httptools import HttpRequestParser

from bench.peers.installed import HERE, HOST, environment, filled, found, free_port

STOP_TIMEOUT_S = 20.0


class Backend(asyncio.Protocol):
    """A keep-alive HTTP connection on which each request is answered with its body."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.parser = HttpRequestParser(self)
        self.body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_message_begin(self) -> None:
        self.body = b""

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.transport.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/websocket-events\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(self.body), self.body)
        )


async def serve(port: int) -> int:
    loop = asyncio.get_running_loop()
    backend = await loop.create_server(Backend, HOST, 0)
    backend_port: int = backend.sockets[0].getsockname()[1]
    stopping = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopping.set)
    with tempfile.TemporaryDirectory(prefix="pushpin-") as name:
        conf = configured(Path(name), port, backend_port)
        runner = await asyncio.create_subprocess_exec(
            found("pushpin", "usr/bin/pushpin"),
            "--config",
            str(conf),
            "--merge-output",
            env=environment("pushpin"),
        )
        ended = asyncio.ensure_future(runner.wait())
        stopped = asyncio.ensure_future(stopping.wait())
        await asyncio.wait([ended, stopped], return_when=asyncio.FIRST_COMPLETED)
        if ended.done():
            stopped.cancel()
            return ended.result() or 1
        runner.terminate()
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await ended
    return 0


def configured(folder: Path, port: int, backend_port: int) -> Path:
    """Writes what pushpin reads into `folder`."""
    library = found("pushpin", "usr/lib/pushpin")
    for name in ("run", "log"):
        (folder / name).mkdir()
    # Debian's is for a zurl that runs as a service of its own.
    specs = (library / "internal.conf").read_text(encoding="utf-8")
    specs = specs.replace("/var/run/zurl/", "{rundir}/{ipc_prefix}")
    (folder / "internal.conf").write_text(specs, encoding="utf-8")
    (folder / "routes").write_text(f"* {HOST}:{backend_port},over_http\n", encoding="utf-8")
    conf = folder / "pushpin.conf"
    values: dict[str, object] = {
        "FOLDER": folder,
        "LIBRARY": library,
        "PORT": port,
        # The ports for publishing, from 5560 on, are somewhere else in each run.
        "OFFSET": free_port() - 5560,
    }
    conf.write_text(filled(HERE / "pushpin" / "pushpin.conf", values), encoding="utf-8")
    return conf


def main(port: int) -> None:
    # What had which part of the CPU time is told by the processes' names.
    Path("/proc/self/comm").write_text("backend", encoding="ascii")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        raise SystemExit(runner.run(serve(port)))
