"""The servers that the gateway is compared with: `python -m bench.references NAME PORT`.

Each is the least that does the visible part of the job in the common library for it, on uvloop,
without logs, compression or pings.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from typing import TYPE_CHECKING, Any

import uvicorn
import uvloop
from websockets.asyncio.server import ServerConnection, serve

from bench.measure import raise_file_limit

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

HOST = "127.0.0.1"


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


async def collect(connection: ServerConnection) -> None:
    """Holds the connection; a message stands for `app/collect.py`."""
    async for _ in connection:
        await connection.send(str(gc.collect()))


async def websockets_server(
    handler: Callable[[ServerConnection], Awaitable[None]], port: int
) -> None:
    # The backlog is uvicorn's, so that a burst of connections meets the same queue.
    async with serve(handler, HOST, port, compression=None, ping_interval=None, backlog=2048):
        await asyncio.get_running_loop().create_future()


async def empty_200(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Raw ASGI: reads the body and answers without one, as `POST @connections` does."""
    assert scope["type"] == "http"
    while (await receive()).get("more_body"):
        pass
    headers = [(b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


def main(name: str, port: int) -> None:
    raise_file_limit()
    match name:
        case "websockets-echo" | "websockets-idle":
            handler = echo if name == "websockets-echo" else collect
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(websockets_server(handler, port))
        case "uvicorn-post":
            uvicorn.run(
                empty_200,
                host=HOST,
                port=port,
                http="httptools",
                ws="none",
                loop="uvloop",
                lifespan="off",
                access_log=False,
                log_level="warning",
            )
        case _:
            sys.exit(f"no such reference: {name}")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
