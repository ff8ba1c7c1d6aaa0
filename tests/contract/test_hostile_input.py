"""No input kills a connection that it should not, or the gateway, or leaves anything behind."""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from hypothesis import given, strategies as st
from structlog.testing import capture_logs

from tests.listener.app import App, serving_app
from tests.listener.raw import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    UPGRADE_HEADERS,
    close_frame,
    eventually,
    exchange,
    frame,
    nothing_unhandled,
    raw_client,
    request,
    upgrade,
)
from wsgateway.limits import (
    BODY_TIMEOUT_S,
    CLOSE_TIMEOUT_S,
    HEAD_TIMEOUT_S,
    IDLE_TIMEOUT_S,
    KEEP_ALIVE_TIMEOUT_S,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.listener.raw import RawClient

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.slow]

HEALTH = request(b"GET /_wsgateway/health", b"Host: gateway")
ID = r"[A-Za-z0-9_-]{15}="
FORBIDDEN = re.compile(
    rf'\{{"message": "Forbidden", "connectionId":"{ID}", "requestId":"{ID}"\}}'.encode()
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def app() -> AsyncIterator[App]:
    async with serving_app() as app:
        yield app


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client() -> AsyncIterator[RawClient]:
    """One connection for all messages, for none of them may end it; they reach one route."""
    async with serving_app(route="echo") as app, raw_client(app.port) as client:
        await client.open_websocket()
        yield client


# --- messages

# What takes the lenient parser and the expressions to their edges.
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)
pieces = st.sampled_from(
    [
        *("{", "}", "[", "]", ":", ",", '"', "'", "\\", " ", "\n", "/", "*", "#", "$"),
        *("action", "echo", "$default", "true", "null", "NaN", "1e999", "-0", "9" * 400),
        *("\\u0000", "\\ud800", "\x00", "\u2028", "\ufeff", "[" * 40, '{"a":' * 40),
    ]
)
messages = st.one_of(
    st.text(max_size=60),
    json_values.map(json.dumps),
    st.builds(lambda value: json.dumps({"action": value}), json_values),
    st.lists(pieces | st.text(max_size=5), max_size=12).map("".join),
    st.just('{"action": "echo"}').flatmap(
        lambda text: st.integers(0, len(text)).map(lambda cut: text[:cut] + text[cut + 1 :])
    ),
)


@given(message=messages, cut=st.none() | st.integers(0, 200))
async def test_a_text_message_is_routed_or_forbidden_and_the_connection_lives(
    client: RawClient, message: str, cut: int | None
) -> None:
    payload = message.encode()
    if cut is None:
        await client.send(frame(payload))
    else:
        await client.send(frame(payload[:cut], fin=False) + frame(payload[cut:], CONTINUATION))

    answer = await client.frame()
    assert answer.opcode == TEXT
    assert answer.payload == payload or FORBIDDEN.fullmatch(answer.payload)


# --- byte streams


def remains(app: App) -> tuple[int, ...]:
    """Count all that a connection could leave behind, in the order of this tuple."""
    shared = app.gateway.shared
    states = [listener.server_state for listener in app.gateway.gateway._listeners]
    return (
        len(shared.tasks),
        shared.websockets_open,
        len(shared.hub),
        len(shared.farewells),
        len(shared.deadlines),
        sum(len(state.connections) + len(state.tasks) for state in states),
        len(asyncio.all_tasks()),
        len(list(Path("/proc/self/fd").iterdir())),
    )


async def feed(app: App, data: bytes, cuts: list[int], leave: str) -> bytes:
    """Send a stream in pieces on a connection of its own, leave, and see what remains.

    Returns:
        What came back to a client that stayed until the gateway ended the connection.
    """
    before = remains(app)
    received = b""
    with nothing_unhandled(), capture_logs() as logs:
        async with raw_client(app.port) as client:
            starts = [0, *sorted(cut % (len(data) + 1) for cut in cuts)]
            with suppress(OSError):
                for start, end in zip(starts, [*starts[1:], len(data)], strict=True):
                    await client.send(data[start:end])
                    # The gateway has read that when it has answered another.
                    await exchange(app.port, HEALTH)
            if leave == "stay":
                for timeout_s in (HEAD_TIMEOUT_S, BODY_TIMEOUT_S, KEEP_ALIVE_TIMEOUT_S):
                    app.gateway.advance(timeout_s + 2)
                app.gateway.advance(IDLE_TIMEOUT_S + 2)
                app.gateway.advance(CLOSE_TIMEOUT_S + 2)
                received = await client.ended()
            elif leave == "reset":
                client.reset()
        await eventually(lambda: remains(app) == before)
    assert [line for line in logs if line["log_level"] == "error"] == []
    return received


tokens = st.sampled_from(
    [
        upgrade(),
        upgrade(b"/dev?a=%zz&%"),
        upgrade(b"/dev", b"Cookie: \xff\xfe"),
        HEALTH,
        request(b"POST /dev/@connections/x", b"Host: a", b"Content-Length: 3", body=b"abc"),
        request(b"POST /dev", b"Host: a", b"Transfer-Encoding: chunked"),
        b"3;x=y\r\nabc\r\n",
        b"0\r\n",
        b"0\r\nTrailer: x\r\n\r\n",
        b"GET ",
        b"CONNECT a:1",
        b"/dev",
        b"http://[::1",
        b"*",
        b" HTTP/1.1\r\n",
        b" HTTP/1.0\r\n",
        b" HTTP/9.9\r\n",
        b"Host: a\r\n",
        b"Connection: upgrade, close\r\n",
        b"Upgrade: h2c\r\n",
        b"Content-Length: 5\r\n",
        b"Content-Length: 99999999999999999999\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n",
        b"Expect: 100-continue\r\n",
        *(header + b"\r\n" for header in UPGRADE_HEADERS),
        b"\r\n",
        b"\n",
        b"\r",
        b"\x00",
        b": ",
        b"a" * 2000,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01",
        frame(b"hello"),
        close_frame(1000),
    ]
)
leaves = st.sampled_from(["close", "reset", "stay"])
cuts = st.lists(st.integers(0, 4000), max_size=3)


@given(data=st.lists(tokens | st.binary(max_size=6), max_size=8), cuts=cuts, leave=leaves)
async def test_no_stream_of_requests_leaves_anything_behind(
    app: App, data: list[bytes], cuts: list[int], leave: str
) -> None:
    await feed(app, b"".join(data), cuts, leave)


@st.composite
def mutations(draw: st.DrawFn) -> bytes:
    """Draw a handshake with a few bytes cut out, put in, or repeated."""
    data = draw(st.sampled_from([upgrade(), upgrade(b"/dev", b"X: y") + frame(b"hi")]))
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 12)))
        middle = draw(st.binary(max_size=4) | st.just(data[start:end] * 2) | st.just(b""))
        data = data[:start] + middle + data[end:]
    return data


@given(data=mutations(), cuts=cuts, leave=leaves)
async def test_no_broken_handshake_leaves_anything_behind(
    app: App, data: bytes, cuts: list[int], leave: str
) -> None:
    await feed(app, data, cuts, leave)


frames = st.one_of(
    st.builds(
        frame,
        st.binary(max_size=130) | st.text(max_size=30).map(str.encode) | st.just(b"a" * 990),
        st.sampled_from([TEXT, TEXT, TEXT, CONTINUATION, BINARY, CLOSE, PING, PONG, 3, 11]),
        fin=st.booleans(),
        masked=st.sampled_from([True, True, True, False]),
    ),
    st.builds(close_frame, st.none() | st.integers(0, 65535), st.text(max_size=10)),
    st.binary(max_size=20),
)


@given(data=st.lists(frames, max_size=6), cuts=cuts, leave=leaves)
async def test_no_stream_of_frames_leaves_anything_behind(
    app: App, data: list[bytes], cuts: list[int], leave: str
) -> None:
    await feed(app, upgrade() + b"".join(data), cuts, leave)


@given(data=st.lists(frames, max_size=6), cuts=cuts)
async def test_whatever_frames_are_sent_valid_frames_come_back(
    app: App, data: list[bytes], cuts: list[int]
) -> None:
    """Text as it was sent, pongs, and at last one close frame."""
    received = await feed(app, upgrade() + b"".join(data), cuts, "stay")

    head, _, stream = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 ")
    opcodes = []
    while stream:
        first, size = stream[:2]
        begin = 2
        if size == 126:
            size, begin = int.from_bytes(stream[2:4]), 4
        assert first & 0xF0 == 0x80
        assert len(stream) >= begin + size
        opcodes.append(first & 0x0F)
        stream = stream[begin + size :]
    assert opcodes[-1] == CLOSE
    assert {*opcodes[:-1]} <= {TEXT, PONG}
