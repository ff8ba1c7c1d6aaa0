"""Clients that call the backend by themselves: `python -m bench.callers NAME PORT BACKEND_PORT`.

What they cost is what an integration's call costs without a gateway. The load generator tells how
many calls to keep under way, and reads how many are done from a file that both have mapped.
"""

from __future__ import annotations

import asyncio
import gc
import mmap
import struct
import sys
import tempfile
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import aioboto3  # type: ignore[import-untyped]
import aiohttp
import orjson
import uvloop
from botocore.config import Config

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

HOST = "127.0.0.1"
COUNT = struct.Struct("=Q")


@contextmanager
def counter(port: int) -> Iterator[mmap.mmap]:
    """The count of calls that the caller on this port has done."""
    file = Path(tempfile.gettempdir()) / f"bench-calls-{port}"
    with file.open("a+b") as opened:
        opened.truncate(COUNT.size)
        with mmap.mmap(opened.fileno(), COUNT.size) as mapped:
            yield mapped


async def http_call(stack: AsyncExitStack, backend: str) -> Callable[[bytes], Awaitable[bytes]]:
    """An aiohttp client with its defaults, but for the number of connections."""
    connector = aiohttp.TCPConnector(limit=0)
    session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))

    async def call(body: bytes) -> bytes:
        async with session.post(f"{backend}/echo", data=body) as response:
            return await response.read()

    return call


async def lambda_call(stack: AsyncExitStack, backend: str) -> Callable[[bytes], Awaitable[bytes]]:
    """aioboto3's client, one for all calls, given an event of the size that a message makes."""
    session = aioboto3.Session("access-key", "secret", region_name="us-east-1")
    config = Config(max_pool_connections=1000, retries={"total_max_attempts": 1})
    client = await stack.enter_async_context(
        session.client("lambda", endpoint_url=backend, config=config)
    )
    context = {f"key-{n}": "a value of usual size" for n in range(14)}

    async def call(body: bytes) -> bytes:
        event = {"requestContext": context, "body": body.decode(), "isBase64Encoded": False}
        answer = await client.invoke(FunctionName="echo", Payload=orjson.dumps(event))
        result: str = orjson.loads(await answer["Payload"].read())["body"]
        return result.encode()

    return call


CALLS = {"aiohttp": http_call, "aioboto3": lambda_call}


class Caller:
    """Keeps calls under way between `run N` and `halt`."""

    def __init__(self, call: Callable[[bytes], Awaitable[bytes]], count: mmap.mmap) -> None:
        self.call = call
        self.count = count
        self.done = 0
        self.running = False

    async def work(self, body: bytes) -> None:
        while self.running:
            if await self.call(body) != body:
                raise AssertionError("not what was sent came back")
            self.done += 1
            COUNT.pack_into(self.count, 0, self.done)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Obey one connection; a GET asks whether it is ready."""
        workers: list[asyncio.Task[None]] = []
        while line := await reader.readline():
            match line.split():
                case [b"GET", *_]:
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                    await writer.drain()
                    break
                case [b"run", number, body]:
                    self.running = True
                    workers = [asyncio.create_task(self.work(body)) for _ in range(int(number))]
                case [b"halt"]:
                    self.running = False
                    ends = await asyncio.gather(*workers, return_exceptions=True)
                    faults = [end for end in ends if end is not None]
                    writer.write(f"{faults[0]!r}\n".encode() if faults else b"done\n")
                    await writer.drain()
                case _:
                    raise AssertionError(line)
        writer.close()


async def main(name: str, port: int, backend: str) -> None:
    with counter(port) as count:
        async with AsyncExitStack() as stack:
            caller = Caller(await CALLS[name](stack, backend), count)
            server = await asyncio.start_server(caller.serve, HOST, port)
            gc.freeze()
            await server.serve_forever()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(sys.argv[1], int(sys.argv[2]), f"http://{HOST}:{sys.argv[3]}"))
