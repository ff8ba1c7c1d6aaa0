"""Answers: a whole one leaves in one write, and all others as uvicorn writes them."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, cast

import pytest

from wsgateway.listener.exchange import Exchange

LENGTH = (b"content-length", b"2")
DATE = (b"date", b"today")


class Transport:
    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.is_closed = False

    def write(self, data: bytes) -> None:
        self.writes.append(data)

    def close(self) -> None:
        self.is_closed = True

    def is_closing(self) -> bool:
        return self.is_closed


class Flow:
    write_paused = False

    def resume_reading(self) -> None: ...

    async def drain(self) -> None:
        self.write_paused = False


class Bench:
    def __init__(self, method: str = "GET", *, keep_alive: bool = True) -> None:
        self.transport = cast("Any", Transport())
        self.flow = cast("Any", Flow())
        self.answered = 0
        scope: Any = {"type": "http", "method": method, "http_version": "1.1", "headers": []}
        self.exchange = Exchange(
            scope=scope,
            transport=self.transport,
            flow=self.flow,
            logger=logging.getLogger("tests"),
            access_logger=logging.getLogger("tests"),
            access_log=False,
            default_headers=[DATE],
            message_event=asyncio.Event(),
            expect_100_continue=False,
            keep_alive=keep_alive,
            on_response=self.on_response,
        )

    def on_response(self) -> None:
        self.answered += 1

    async def start(self, *headers: tuple[bytes, bytes], status: int = 200) -> None:
        await self.exchange.send(
            {"type": "http.response.start", "status": status, "headers": list(headers)}
        )

    async def body(self, body: bytes = b"ok", *, more: bool = False) -> None:
        await self.exchange.send({"type": "http.response.body", "body": body, "more_body": more})

    @property
    def written(self) -> bytes:
        return b"".join(self.transport.writes)


async def test_a_whole_answer_is_one_write_with_its_headers_as_they_are_spelled() -> None:
    bench = Bench()
    await bench.start(LENGTH, (b"x-amzn-RequestId", b"1"))
    assert bench.transport.writes == []

    await bench.body()

    assert bench.transport.writes == [
        b"HTTP/1.1 200 OK\r\ndate: today\r\ncontent-length: 2\r\nx-amzn-RequestId: 1\r\n\r\nok"
    ]
    assert (bench.exchange.response_complete, bench.answered) == (True, 1)
    assert not bench.transport.is_closed


async def test_a_connection_that_is_not_kept_is_closed_behind_it() -> None:
    bench = Bench(keep_alive=False)
    await bench.start(LENGTH)
    await bench.body()

    assert bench.written.endswith(b"\r\nconnection: close\r\n\r\nok")
    assert len(bench.transport.writes) == 1
    assert bench.transport.is_closed


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ((), b"date: today\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
        (
            (LENGTH, (b"connection", b"close")),
            b"date: today\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok",
        ),
    ],
)
async def test_what_it_does_not_know_is_written_as_uvicorn_does(
    headers: tuple[tuple[bytes, bytes], ...], expected: bytes
) -> None:
    bench = Bench()
    await bench.start(*headers)
    await bench.body()

    assert bench.written == b"HTTP/1.1 200 OK\r\n" + expected
    assert bench.answered == 1


async def test_an_answer_in_parts() -> None:
    bench = Bench()
    await bench.start(LENGTH)
    await bench.body(b"o", more=True)
    assert bench.written.endswith(b"\r\n\r\no")
    await bench.body(b"k")

    assert bench.written.endswith(b"\r\n\r\nok")
    assert (bench.exchange.response_complete, bench.answered) == (True, 1)


async def test_head_has_no_body() -> None:
    bench = Bench("HEAD")
    await bench.start(LENGTH)
    await bench.body()

    assert bench.written.endswith(b"content-length: 2\r\n\r\n")
    assert bench.answered == 1


@pytest.mark.parametrize("body", [b"", b"long"])
async def test_a_length_that_is_not_the_bodys_is_an_error(body: bytes) -> None:
    bench = Bench()
    await bench.start(LENGTH)

    with pytest.raises(RuntimeError, match="than Content-Length"):
        await bench.body(body)


@pytest.mark.parametrize("header", [(b"x", b"a\r\nb: c"), (b"x\r\ny", b"1"), (b"x", b"a\nb")])
async def test_a_header_that_would_be_two_is_an_error(header: tuple[bytes, bytes]) -> None:
    bench = Bench()
    await bench.start(LENGTH, header)

    with pytest.raises(RuntimeError, match="Invalid HTTP header"):
        await bench.body()
    assert bench.written == b""


async def test_it_waits_for_a_peer_that_does_not_read() -> None:
    bench = Bench()
    bench.flow.write_paused = True
    await bench.start(LENGTH)
    await bench.body()

    assert bench.written.endswith(b"\r\n\r\nok")
    assert not bench.flow.write_paused


async def test_nothing_is_written_to_a_peer_that_is_gone() -> None:
    bench = Bench()
    await bench.start(LENGTH)
    bench.exchange.disconnected = True
    await bench.body()

    assert bench.written == b""


async def test_an_application_that_fails_between_head_and_body_is_a_500() -> None:
    bench = Bench()

    async def fail(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [LENGTH]})
        raise ValueError("a bug")

    await bench.exchange.run_asgi(fail)

    assert bench.written.startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
    assert bench.answered == 1


async def test_a_body_without_a_head_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="Expected ASGI message"):
        await Bench().body()
