"""The backend of the rows that call one: `python -m bench.backend PORT`.

It shares the load generator's core, and its CPU time is nobody's. A request is answered with its
body; an invocation of a function with a proxy response that has the event's body.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import cast

import orjson
import uvloop
from httptools import HttpRequestParser

from bench.measure import cores

HOST = "127.0.0.1"
# https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html
INVOKE_PATH = b"/2015-03-31/functions/"


class Backend(asyncio.Protocol):
    """A keep-alive HTTP connection."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.parser = HttpRequestParser(self)
        self.url = b""
        self.body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_message_begin(self) -> None:
        self.url = self.body = b""

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        body = self.body
        if self.url.startswith(INVOKE_PATH):
            body = orjson.dumps({"statusCode": 200, "body": orjson.loads(body)["body"]})
        self.transport.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
            % (len(body), body)
        )


async def serve(port: int) -> None:
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopping.set)
    async with await loop.create_server(Backend, HOST, port):
        await stopping.wait()


if __name__ == "__main__":
    os.sched_setaffinity(0, {cores()[1]})
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(int(sys.argv[1])))
