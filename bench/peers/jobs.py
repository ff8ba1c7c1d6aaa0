"""The load on peers: some are slow to start, some have channels instead of connection ids."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Any

from bench.jobs import HOST, Messages, Poster, Posts, Sink, connect
from bench.measure import BenchError

FIRST_ANSWERS_TIMEOUT_S = 120.0
DELIVERED = 201  # nchan: published to a channel that has a subscriber


class PatientMessages(Messages):
    """As `Messages`, after a first answer to each, however long those take.

    serverless-offline starts a thread with an interpreter for each message under way.
    """

    async def open(self) -> dict[str, Any]:
        found = await super().open()
        self.start()
        deadline = time.monotonic() + FIRST_ANSWERS_TIMEOUT_S
        while self.done < 2 * self.in_flight and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        await self.finish()
        return found


class Publisher(Poster):
    """As `Poster`, but what says that it arrived is 201, and that has a body."""

    def on_message_complete(self) -> None:
        self.waiting = False
        if (status := self.parser.get_status_code()) != DELIVERED:
            self.job.fault = f"publishing was answered {status} {self.body[:200]!r}"
            return
        self.body = b""
        self.job.done += 1
        if self.job.running:
            self.post()


class Publishes(Posts):
    """One request under way on each of some keep-alive HTTP connections, a subscriber for each."""

    async def open(self) -> dict[str, Any]:
        port = self.options.port
        for n in range(self.options.connections):
            # As long as a connection id.
            channel = f"AAAAAAAAAAACA{n:03}"
            self.sinks.append(
                await connect(port, Sink(self), extra_headers=[("X-Channel", channel)])
            )
            head = (
                f"POST /dev/@connections/{channel} HTTP/1.1\r\n"
                f"Host: {HOST}:{port}\r\nContent-Length: {len(self.body)}\r\n\r\n"
            )
            make = partial(Publisher, self, head.encode() + self.body)
            _, poster = await asyncio.get_running_loop().create_connection(make, HOST, port)
            self.posters.append(poster)
        if lost := [sink.lost for sink in self.sinks if sink.lost]:
            raise BenchError(f"{len(lost)} subscribers were lost: {lost[0]}")
        return {}
