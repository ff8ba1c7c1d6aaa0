"""What stands between a node and its Redis: TLS, or a slow line."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.cluster.valkey import Server, tls_binary
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@dataclass(slots=True)
class Line:
    """The way to a server.

    Attributes:
        port: Where it begins.
        delay_s: How long each answer takes longer, and each message of a subscription; may be
            changed at any time.
    """

    port: int
    delay_s: float = 0.0

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"


@asynccontextmanager
async def line_to(server: Server, *, context: ssl.SSLContext | None = None) -> AsyncIterator[Line]:
    """Pass bytes on between clients and a server, until the block ends.

    Args:
        server: Where they go.
        context: Clients speak TLS.
    """
    line = Line(0)
    relays: set[asyncio.Task[None]] = set()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            answers, questions = await asyncio.open_connection("127.0.0.1", server.port)
        except OSError:
            writer.close()
            return
        there = asyncio.create_task(_pass_on(reader, questions, Line(0)))
        back = asyncio.create_task(_pass_on(answers, writer, line))
        try:
            await asyncio.gather(there, back)
        finally:
            there.cancel()
            back.cancel()
            await asyncio.gather(there, back, return_exceptions=True)
            for each in (questions, writer):
                each.transport.abort()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(relay(reader, writer))
        relays.add(task)
        task.add_done_callback(relays.discard)

    async with await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context) as listening:
        line.port = listening.sockets[0].getsockname()[1]
        try:
            yield line
        finally:
            for task in relays:
                task.cancel()
            await asyncio.gather(*relays, return_exceptions=True)


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, line: Line) -> None:
    """Pass on until one side ends; then so does the other."""
    loop = asyncio.get_running_loop()
    # Bytes, and when they are due, which is never before those that came first.
    held: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def let_go() -> None:
        while True:
            due_at, data = await held.get()
            if (wait_s := due_at - loop.time()) > 0:
                await asyncio.sleep(wait_s)
            if not data:
                writer.close()
                return
            writer.write(data)

    letting_go = asyncio.create_task(let_go())
    try:
        data = b"more"
        while data:
            try:
                data = await reader.read(65_536)
            except OSError:
                data = b""
            held.put_nowait((loop.time() + line.delay_s, data))
        await letting_go
    finally:
        letting_go.cancel()
        await asyncio.gather(letting_go, return_exceptions=True)


@asynccontextmanager
async def tls_server(certificate: Path, key: Path) -> AsyncIterator[tuple[Server, int]]:
    """Run a server that speaks TLS at a port besides its own.

    Where none is installed that can, a proxy ends TLS in front of one that cannot; what the tests
    print at their beginning and end says so.
    """
    program = tls_binary()
    if program is None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        with Server() as server:
            async with line_to(server, context=context) as line:
                yield server, line.port
        return
    port = free_port()
    config = {
        "tls-port": str(port),
        "tls-cert-file": str(certificate),
        "tls-key-file": str(key),
        "tls-ca-cert-file": str(certificate),
        "tls-auth-clients": "no",
    }
    with Server(config, program=program) as server:
        yield server, port
