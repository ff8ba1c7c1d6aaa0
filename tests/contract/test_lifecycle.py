"""An open connection: its limits, its end, and what backpressure does to it."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from structlog.testing import capture_logs
from websockets.exceptions import ConnectionClosed

from tests.listener.app import App, fill, lent, serving_app
from tests.listener.raw import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Frame,
    close_frame,
    eventually,
    exchange,
    frame,
    nothing_unhandled,
    raw_client,
    request,
)
from wsgateway.limits import SEND_BUFFER_MAX, WAITING_OVERHEAD, WAITING_SIZE_MAX

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from websockets.asyncio.client import ClientConnection

pytestmark = pytest.mark.asyncio(loop_scope="module")

GOING_AWAY = (1001, "Going away")
# What uvloop reads at most in one go.
READ_SIZE_MAX = 256_000


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_app() -> AsyncIterator[App]:
    async with serving_app() as app:
        yield app


@pytest_asyncio.fixture(loop_scope="module")
async def app(shared_app: App) -> AsyncIterator[App]:
    async with lent(shared_app):
        yield shared_app


async def closed(client: ClientConnection) -> tuple[int, str]:
    """Wait for the end of a connection; return the code and reason that the gateway sent."""
    with pytest.raises(ConnectionClosed) as caught:
        await client.recv()
    assert caught.value.rcvd is not None
    return caught.value.rcvd.code, caught.value.rcvd.reason


def close_of(received: Frame) -> tuple[int, bytes]:
    assert received.opcode == CLOSE
    return struct.unpack("!H", received.payload[:2])[0], received.payload[2:]


async def turn(app: App) -> None:
    """Wait until the gateway has read what was sent to it before."""
    await exchange(app.port, request(b"GET /_wsgateway/health", b"Host: gateway"))


def holding(app: App) -> Callable[[], None]:
    """Make each message wait; returns what lets all of them go."""
    released = asyncio.Event()

    async def hold(body: str) -> dict[str, Any]:
        await released.wait()
        return {"statusCode": 200, "body": body}

    app.on_message = hold
    return released.set


def small_buffers(app: App) -> None:
    """Let the kernel keep little for connections that are accepted from now on."""
    for listening in app.gateway.gateway._ports.public:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)


# --- 12.1: idle time and duration


async def test_a_connection_without_messages_is_closed_after_10_minutes(app: App) -> None:
    async with app.gateway.connect() as client:
        app.gateway.advance(598)
        assert app.connection().info().connected_at_ms
        app.gateway.advance(3)

        assert await closed(client) == GOING_AWAY
    assert await app.disconnected() == GOING_AWAY


async def message(app: App, client: ClientConnection) -> None:
    await client.send("hello")
    assert await client.recv() == "hello"


async def callback(app: App, client: ClientConnection) -> None:
    connection_id = app.connection().entry.key.connection_id.encode()
    post = request(
        b"POST /dev/@connections/" + connection_id,
        b"Host: gateway",
        b"Content-Length: 2",
        body=b"hi",
    )
    assert (await exchange(app.port, post)).status == 200
    assert await client.recv() == "hi"


async def ping(app: App, client: ClientConnection) -> None:
    await (await client.ping())
    await client.pong()
    await turn(app)


@pytest.mark.parametrize("activity", [message, callback])
async def test_messages_in_both_directions_reset_the_idle_time(
    app: App, activity: Callable[[App, ClientConnection], Coroutine[Any, Any, None]]
) -> None:
    async with app.gateway.connect() as client:
        for _ in range(3):
            app.gateway.advance(400)
            await activity(app, client)
        app.gateway.advance(598)
        assert len(app.gateway.shared.hub) == 1
        app.gateway.advance(3)

        assert await closed(client) == GOING_AWAY


async def test_pings_do_not_reset_the_idle_time(app: App) -> None:
    async with app.gateway.connect() as client:
        app.gateway.advance(400)
        await ping(app, client)
        app.gateway.advance(201)

        assert await closed(client) == GOING_AWAY
    assert await app.disconnected() == GOING_AWAY


async def test_a_message_in_the_making_does_not_reset_the_idle_time(app: App) -> None:
    async with raw_client(app.port) as client:
        await client.open_websocket()
        await client.send(frame(b"hel", fin=False))
        await turn(app)
        app.gateway.advance(400)
        await client.send(frame(b"lo", CONTINUATION, fin=False))
        await turn(app)
        app.gateway.advance(201)

        assert close_of(await client.frame()) == (1001, b"Going away")


async def test_a_connection_is_closed_after_2_hours_however_busy_it_is(app: App) -> None:
    async with app.gateway.connect() as client:
        for _ in range(14):
            app.gateway.advance(500)
            await message(app, client)
        app.gateway.advance(198)
        await message(app, client)
        app.gateway.advance(3)

        assert await closed(client) == GOING_AWAY
    assert await app.disconnected() == GOING_AWAY


async def test_a_clock_that_jumps_by_hours_closes_each_connection_once(app: App) -> None:
    async with app.gateway.connect() as one, app.gateway.connect() as other:
        app.gateway.advance(5 * 3600)

        assert await closed(one) == GOING_AWAY
        assert await closed(other) == GOING_AWAY
    await eventually(lambda: app.event_types().count("DISCONNECT") == 2)


# --- 12.1: sizes and kinds


async def test_a_message_of_128_kib_in_frames_of_32_kib_is_taken(app: App) -> None:
    async with app.gateway.connect(max_size=None) as client:
        await client.send(["a" * 32768] * 4)

        assert await client.recv() == "a" * 131072


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("a" * 32769, 1009),
        ([*["a" * 32768] * 4, "a"], 1009),
        (b"binary", 1003),
    ],
    ids=["frame over 32 KiB", "message over 128 KiB", "binary"],
)
async def test_what_is_not_supported_closes_with_its_code(
    app: App, message: Any, code: int
) -> None:
    async with app.gateway.connect() as client:
        await client.send(message)

        assert await closed(client) == (code, "")
    assert await app.disconnected() == (code, "")
    assert app.messages() == []


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(b"\xff"), 1007),
        (frame("€".encode()[:2], fin=False) + frame(b"x", CONTINUATION), 1007),
        (frame(b"unmasked", masked=False), 1002),
        (frame(b"", CONTINUATION), 1002),
        (frame(b"", 5), 1002),
        (close_frame(1005), 1002),
        (frame(b"\x03", CLOSE), 1002),
    ],
    ids=[
        "bad UTF-8",
        "bad UTF-8 over fragments",
        "unmasked",
        "continuation of nothing",
        "reserved opcode",
        "close code 1005",
        "half a close code",
    ],
)
async def test_what_the_protocol_forbids_closes_with_its_code(
    app: App, data: bytes, code: int
) -> None:
    async with raw_client(app.port) as client:
        await client.open_websocket()
        await client.send(data)

        assert await client.frame() == Frame(CLOSE, struct.pack("!H", code))
        assert await client.ended() == b""
    assert await app.disconnected() == (code, "")


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
async def test_the_close_frame_is_readable_although_more_was_in_flight(
    app: App, opcode: int
) -> None:
    async with raw_client(app.port) as client:
        await client.open_websocket()
        await client.send(frame(b"a" * 3_000_000, opcode))

        code = close_of(await client.frame())
        assert code == (1009, b"")
        assert await client.ended() == b""
    assert await app.disconnected() == (1009, "")


# --- a breach of the protocol behind messages

BREACHES = pytest.mark.parametrize(
    ("breach", "code"),
    [
        (frame(b"", BINARY), 1003),
        (frame(b"", 5), 1002),
        (frame(b"\xff"), 1007),
        (frame(b"a" * 32769), 1009),
        (close_frame(1005), 1002),
    ],
    ids=["binary", "reserved opcode", "bad UTF-8", "frame over 32 KiB", "bad close frame"],
)


@BREACHES
async def test_messages_before_a_breach_are_processed(app: App, breach: bytes, code: int) -> None:
    """Their replies go out before our close frame."""
    async with raw_client(app.port) as client:
        await client.open_websocket()
        await client.send(frame(b"before") + breach + frame(b"after"))

        assert await client.frame() == Frame(TEXT, b"before")
        assert close_of(await client.frame()) == (code, b"")
        assert await client.ended() == b""
    assert await app.disconnected() == (code, "")
    assert app.messages() == ["before"]


@BREACHES
async def test_a_breach_while_messages_are_in_flight_waits_for_their_replies(
    app: App, breach: bytes, code: int
) -> None:
    release = holding(app)
    async with raw_client(app.port) as client:
        await client.open_websocket()
        await client.send(frame(b"1") + frame(b"2") + frame(b"3"))
        await eventually(lambda: app.messages() == ["1", "2", "3"])
        await client.send(breach)
        await client.send(frame(b"after") + frame(b"after", PING) + close_frame(4000, "after"))
        await turn(app)
        assert client.has_received() == b""
        release()

        assert {(await client.frame()).payload for _ in range(3)} == {b"1", b"2", b"3"}
        assert close_of(await client.frame()) == (code, b"")
        assert await client.ended() == b""
    assert await app.disconnected() == (code, "")
    assert app.messages() == ["1", "2", "3"]


async def test_messages_that_wait_are_answered_before_the_close_too() -> None:
    async with serving_app(in_flight_max=1) as app:
        async with raw_client(app.port) as client:
            await client.open_websocket()
            await client.send(frame(b"1") + frame(b"2") + frame(b"3") + frame(b"", BINARY))

            assert [(await client.frame()).payload for _ in range(3)] == [b"1", b"2", b"3"]
            assert close_of(await client.frame()) == (1003, b"")
            assert await client.ended() == b""
        assert await app.disconnected() == (1003, "")


async def test_a_message_that_has_no_reply_delays_the_close_no_longer_than_it_takes(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: Any) -> None:
        raise RuntimeError("broken")

    async with raw_client(app.port) as client:
        await client.open_websocket()
        with monkeypatch.context() as patch, capture_logs():
            patch.setattr(app.gateway.shared.dispatch, "message", fail)
            await client.send(frame(b"lost") + frame(b"", BINARY))
            assert close_of(await client.frame()) == (1003, b"")
    assert await app.disconnected() == (1003, "")


async def test_a_ping_before_a_breach_is_answered_at_once(app: App) -> None:
    release = holding(app)
    async with raw_client(app.port) as client:
        await client.open_websocket()
        await client.send(frame(b"slow") + frame(b"now", PING) + frame(b"", BINARY))
        assert await client.frame() == Frame(PONG, b"now")
        await turn(app)
        assert client.has_received() == b""
        release()

        assert await client.frame() == Frame(TEXT, b"slow")
        assert close_of(await client.frame()) == (1003, b"")


async def test_after_a_breach_a_connection_is_gone_for_backends(app: App) -> None:
    """Also while messages before it are answered."""
    release = holding(app)
    async with raw_client(app.port) as client:
        await client.open_websocket()
        connection = app.connection()
        target = b"/dev/@connections/" + connection.entry.key.connection_id.encode()
        await client.send(frame(b"slow") + frame(b"", BINARY))
        await turn(app)
        post = request(b"POST " + target, b"Host: gateway", b"Content-Length: 2", body=b"hi")
        assert (await exchange(app.port, post)).status == 410
        for method in (b"GET ", b"DELETE "):
            assert (
                await exchange(app.port, request(method + target, b"Host: gateway"))
            ).status == 410
        # A backend that was being served when the breach came.
        connection.close(*GOING_AWAY)
        connection.leave()
        release()

        assert await client.frame() == Frame(TEXT, b"slow")
        assert close_of(await client.frame()) == (1003, b"")
    assert await app.disconnected() == (1003, "")


async def test_a_breach_does_not_wait_for_replies_longer_than_a_closing_handshake(
    app: App,
) -> None:
    release = holding(app)
    async with raw_client(app.port) as client:
        await client.open_websocket()
        await client.send(frame(b"slow") + frame(b"slower") + frame(b"", BINARY))
        await turn(app)
        app.gateway.advance(3)
        assert client.has_received() == b""
        app.gateway.advance(3)
        assert close_of(await client.frame()) == (1003, b"")
        with capture_logs() as logs:
            release()
            await eventually(lambda: not app.gateway.shared.tasks)

        assert [line["reason"] for line in logs if line["event"] == "reply dropped"] == [
            "GoneException",
            "GoneException",
        ]
        assert await client.ended() == b""
        # It has as long to leave as every other client.
        app.gateway.advance(3)
        assert app.gateway.shared.websockets_open == 1
        app.gateway.advance(3)
        await eventually(lambda: not app.gateway.shared.websockets_open)
    assert await app.disconnected() == (1003, "")


async def test_the_time_to_leave_after_a_breach_begins_with_the_close_frame(app: App) -> None:
    release = holding(app)
    async with raw_client(app.port) as client:
        await client.open_websocket()
        await client.send(frame(b"slow") + frame(b"", BINARY))
        await turn(app)
        app.gateway.advance(3)
        release()
        assert await client.frame() == Frame(TEXT, b"slow")
        assert close_of(await client.frame()) == (1003, b"")
        app.gateway.advance(3)
        assert app.gateway.shared.websockets_open == 1
        app.gateway.advance(3)
        await eventually(lambda: not app.gateway.shared.websockets_open)
    assert await app.disconnected() == (1003, "")


@pytest.mark.parametrize("leave", ["reset", "close"])
async def test_a_client_that_leaves_before_its_breach_is_answered(app: App, leave: str) -> None:
    release = holding(app)
    with capture_logs() as logs:
        async with raw_client(app.port) as client:
            await client.open_websocket()
            await client.send(frame(b"slow") + frame(b"", BINARY))
            await turn(app)
            getattr(client, leave)()
            assert await app.disconnected() == (1003, "")
            release()
            await eventually(lambda: not app.gateway.shared.tasks)
    assert [line["event"] for line in logs if line["log_level"] == "error"] == []
    assert [line["reason"] for line in logs if line["event"] == "reply dropped"] == [
        "GoneException"
    ]


async def test_a_client_that_ends_sending_after_its_breach_is_closed_at_once(app: App) -> None:
    release = holding(app)
    async with raw_client(app.port) as client:
        await client.open_websocket()
        await client.send(frame(b"slow") + frame(b"", BINARY))
        await turn(app)
        client.end_sending()

        assert close_of(await client.frame()) == (1003, b"")
        assert await client.ended() == b""
        assert await app.disconnected() == (1003, "")
        release()


async def test_a_reply_for_a_full_send_buffer_does_not_keep_the_close_frame_back() -> None:
    with capture_logs():
        async with serving_app() as app:
            small_buffers(app)
            release = holding(app)
            async with raw_client(app.port, receive_buffer=4096) as client:
                await client.open_websocket()
                await client.send(frame(b"r" * 20_000))
                await eventually(app.messages)
                fill(app.connection(), b"x" * 20_000)
                # What a client that does not read sends is read again once it is closing.
                app.connection().resume_writing()
                await client.send(frame(b"", BINARY))
                await eventually(lambda: not len(app.gateway.shared.hub))
                release()
                await eventually(lambda: not app.gateway.shared.tasks)

                received = await client.ended()
                assert received.endswith(b"\x88\x02" + struct.pack("!H", 1003))
                assert b"r" not in received
            assert await app.disconnected() == (1003, "")


@pytest.mark.slow
async def test_a_breach_is_answered_when_the_gateway_gives_its_messages_up() -> None:
    with capture_logs(), nothing_unhandled():
        async with serving_app(grace_period_s=0) as app:
            holding(app)
            async with raw_client(app.port) as client:
                await client.open_websocket()
                await client.send(frame(b"1") + frame(b"2") + frame(b"", BINARY))
                await turn(app)
                assert client.has_received() == b""
                await app.gateway.gateway.stop()

                assert close_of(await client.frame()) == (1003, b"")


# --- 12.2 and 12.3: who closed, and how


async def test_a_client_that_closes_without_a_code(app: App) -> None:
    async with raw_client(app.port) as client:
        await client.open_websocket()

        assert await client.subscript(close_frame()) == Frame(CLOSE, b"")
        assert await client.ended() == b""
    assert await app.disconnected() == (1005, "Client-side close frame status not set")


async def test_a_browser_tab_that_is_closed(app: App) -> None:
    async with raw_client(app.port) as client:
        await client.open_websocket()

        assert close_of(await client.subscript(close_frame(1001))) == (1001, b"")
    assert await app.disconnected() == (1001, "")


@pytest.mark.parametrize(
    ("code", "reason"), [(1000, ""), (1000, "done"), (3000, "registered"), (4999, "ça va")]
)
async def test_a_client_that_closes_with_its_own_code_and_reason(
    app: App, code: int, reason: str
) -> None:
    async with app.gateway.connect() as client:
        await client.close(code, reason)

        assert (client.close_code, client.close_reason) == (code, reason)
    assert await app.disconnected() == (code, reason)


@pytest.mark.parametrize("leave", ["reset", "close", "end_sending"])
async def test_a_connection_whose_tcp_is_lost(app: App, leave: str) -> None:
    async with raw_client(app.port) as client:
        await client.open_websocket()
        await client.subscript(frame(b"hello"))
        getattr(client, leave)()

        assert await app.disconnected() == (1006, "")


async def test_tcp_that_is_lost_inside_a_frame(app: App) -> None:
    async with raw_client(app.port) as client:
        await client.open_websocket()
        await client.send(frame(b"hello")[:5])
    assert await app.disconnected() == (1006, "")
    assert app.messages() == []


async def test_disconnect_comes_after_the_connection_is_gone(app: App) -> None:
    async with app.gateway.connect() as client:
        connection = app.connection()
        await client.close()

    await app.disconnected()
    assert app.gateway.shared.hub.find(connection.entry.key) is None
    assert app.gateway.shared.websockets_open == 0


async def test_a_client_that_does_not_answer_our_close_is_dropped(app: App) -> None:
    async with raw_client(app.port) as client:
        await client.open_websocket()
        app.connection().close(*GOING_AWAY)
        assert close_of(await client.frame()) == (1001, b"Going away")
        await client.send(frame(b"late") + frame(b"", PING))
        await turn(app)
        app.gateway.advance(3)
        assert client.has_received() == b""
        app.gateway.advance(3)

        assert await client.ended() == b""
    assert await app.disconnected() == GOING_AWAY
    assert app.messages() == []


async def test_a_client_that_answers_our_close_with_another_code(app: App) -> None:
    async with raw_client(app.port) as client:
        await client.open_websocket()
        app.connection().close(*GOING_AWAY)
        assert close_of(await client.subscript(close_frame(4000, "mine"))) == (1001, b"Going away")
        assert await client.ended() == b""
    assert await app.disconnected() == GOING_AWAY


async def test_a_client_that_closes_at_the_same_time(app: App) -> None:
    async with raw_client(app.port) as client:
        await client.open_websocket()
        await client.send(close_frame(4000))
        app.connection().close(*GOING_AWAY)

        assert close_of(await client.frame()) == (1001, b"Going away")
        assert await client.ended() == b""
    assert await app.disconnected() == GOING_AWAY


async def test_a_close_inside_a_fragmented_message_closes(app: App) -> None:
    async with raw_client(app.port) as client:
        await client.open_websocket()
        await client.send(frame(b"half", fin=False) + close_frame(4000, "enough"))

        assert close_of(await client.frame()) == (4000, b"enough")
    assert await app.disconnected() == (4000, "enough")


async def test_a_client_that_breaks_the_protocol_and_stays_is_dropped(app: App) -> None:
    async with raw_client(app.port) as client:
        await client.open_websocket()
        await client.send(frame(b"", BINARY))
        await client.frame()
        assert await client.ended() == b""
        assert app.gateway.shared.websockets_open == 1

        app.gateway.advance(7)
        await eventually(lambda: not app.gateway.shared.websockets_open)
    assert await app.disconnected() == (1003, "")


# --- 12.4: pings


async def test_a_ping_is_answered_with_its_payload(app: App) -> None:
    async with raw_client(app.port) as client:
        await client.open_websocket()

        assert await client.subscript(frame(b"\x00\xff", PING)) == Frame(PONG, b"\x00\xff")


async def test_a_ping_is_answered_inside_a_message(app: App) -> None:
    async with raw_client(app.port) as client:
        await client.open_websocket()
        await client.send(frame(b"hel", fin=False))
        assert await client.subscript(frame(b"now", PING)) == Frame(PONG, b"now")

        assert await client.subscript(frame(b"lo", CONTINUATION)) == Frame(TEXT, b"hello")


# --- 12.5: concurrency and order


async def test_messages_are_handled_concurrently(app: App) -> None:
    """A slow one does not hold up the next, and replies come as they are ready."""
    released = asyncio.Event()

    async def answer(body: str) -> dict[str, Any]:
        if body == "slow":
            await released.wait()
        return {"statusCode": 200, "body": body}

    app.on_message = answer
    async with app.gateway.connect() as client:
        await client.send("slow")
        await client.send("fast")
        assert await client.recv() == "fast"
        released.set()
        assert await client.recv() == "slow"


async def test_at_most_64_messages_of_a_connection_are_in_flight(app: App) -> None:
    release = holding(app)
    async with app.gateway.connect() as client:
        for number in range(70):
            await client.send(str(number))
        await (await client.ping())

        assert app.messages() == [str(number) for number in range(64)]
        release()
        assert {await client.recv() for _ in range(70)} == {str(number) for number in range(70)}


async def test_one_message_in_flight_keeps_the_order() -> None:
    async with serving_app(in_flight_max=1) as app:
        delays = iter(range(20, 0, -1))

        async def answer(body: str) -> dict[str, Any]:
            # Later messages take fewer turns of the loop.
            for _ in range(next(delays)):
                await asyncio.sleep(0)
            return {"statusCode": 200, "body": body}

        app.on_message = answer
        async with app.gateway.connect() as client:
            for number in range(20):
                await client.send(str(number))
            assert [await client.recv() for _ in range(20)] == [str(n) for n in range(20)]


@pytest.mark.slow
async def test_pings_are_answered_while_messages_wait() -> None:
    async with serving_app(in_flight_max=1) as app:
        release = holding(app)
        async with raw_client(app.port) as client:
            await client.open_websocket()
            await client.send(b"".join(frame(b"%d" % number) for number in range(10)))
            assert await client.subscript(frame(b"?", PING)) == Frame(PONG, b"?")
            assert app.messages() == ["0"]

            release()
            assert [(await client.frame()).payload for _ in range(10)] == [
                b"%d" % number for number in range(10)
            ]


async def test_a_close_is_answered_while_messages_wait_and_they_are_still_processed() -> None:
    async with serving_app(in_flight_max=1) as app:
        release = holding(app)
        async with raw_client(app.port) as client:
            await client.open_websocket()
            await client.send(frame(b"1") + frame(b"2") + frame(b"3") + close_frame(1000))
            assert close_of(await client.frame()) == (1000, b"")

        assert await app.disconnected() == (1000, "")
        assert app.messages() == ["1"]
        release()
        await eventually(lambda: app.messages() == ["1", "2", "3"])


@pytest.mark.parametrize("leave", ["reset", "close", "end_sending"])
async def test_what_was_received_before_the_connection_was_lost_is_processed(leave: str) -> None:
    with capture_logs() as logs, nothing_unhandled():
        async with serving_app(in_flight_max=1) as app:
            release = holding(app)
            async with raw_client(app.port) as client:
                await client.open_websocket()
                await client.send(frame(b"1") + frame(b"2"))
                await eventually(lambda: app.messages() == ["1"])
                getattr(client, leave)()
                assert await app.disconnected() == (1006, "")

                release()
                await eventually(lambda: app.messages() == ["1", "2"])
                await eventually(lambda: not app.gateway.shared.tasks)
    # Their replies are for nobody, which is no failure of theirs.
    assert [line["event"] for line in logs if line["log_level"] == "error"] == []


@pytest.mark.slow
async def test_beyond_the_waiting_room_the_socket_is_not_read_until_there_is_room() -> None:
    async with serving_app(in_flight_max=1, waiting_size_max=5000) as app:
        small_buffers(app)
        release = holding(app)
        sent = b"".join(frame(b"%04d" % number + b"x" * 996) for number in range(200))
        async with raw_client(app.port, send_buffer=4096) as client:
            await client.open_websocket()
            taken = 0
            while (more := client.send_what_fits(sent[taken:])) or app.connection()._reading:
                taken += more
                await turn(app)
            assert taken < len(sent)
            waiting = app.connection()._waiting
            assert sum(len(text) for text in waiting) <= 5000 + READ_SIZE_MAX
            # Not even a ping is read now.
            assert app.messages() == ["0000" + "x" * 996]

            release()
            sending = asyncio.create_task(client.send(sent[taken:]))
            replies = [await client.frame() for _ in range(200)]
            await sending
        assert [reply.payload[:4] for reply in replies] == [b"%04d" % n for n in range(200)]
        assert app.messages() == [reply.payload.decode() for reply in replies]


@pytest.mark.slow
async def test_a_flood_of_empty_messages_is_bounded() -> None:
    async with serving_app(in_flight_max=1) as app:
        small_buffers(app)
        release = holding(app)
        async with raw_client(app.port) as client:
            await client.open_websocket()
            empty = len(frame())
            taken = 0
            while (more := client.send_what_fits((frame() * 20_000)[taken % empty :])) or (
                app.connection()._reading
            ):
                taken += more
                await turn(app)

            waiting = len(app.connection()._waiting)
            assert taken > waiting * empty
            assert waiting <= WAITING_SIZE_MAX // WAITING_OVERHEAD + READ_SIZE_MAX // empty + 1
            app.on_message = lambda body: {"statusCode": 200}
            client.reset()
        # The reset shows when the socket is read again.
        release()
        await app.disconnected()
        await eventually(lambda: not app.gateway.shared.tasks)


@pytest.mark.slow
async def test_messages_that_wait_do_not_begin_when_the_gateway_gives_up() -> None:
    with capture_logs(), nothing_unhandled():
        async with serving_app(in_flight_max=1, grace_period_s=0) as app:
            holding(app)
            async with raw_client(app.port) as client:
                await client.open_websocket()
                await client.send(frame(b"1") + frame(b"2") + frame(b"3"))
                await eventually(lambda: app.messages() == ["1"])
                await app.gateway.gateway.stop()
                assert app.messages() == ["1"]
                assert not app.gateway.shared.tasks


# --- clients that do not read


@pytest.mark.slow
async def test_a_client_that_does_not_read_fills_its_send_buffer_and_no_more() -> None:
    async with serving_app() as app:
        small_buffers(app)
        async with raw_client(app.port, receive_buffer=4096) as client:
            await client.open_websocket()
            connection = app.connection()
            payload = b"x" * 100_000
            sent = fill(connection, payload)
            assert 10 <= sent <= 11
            assert connection._transport.get_write_buffer_size() <= SEND_BUFFER_MAX
            # A smaller one may still fit.
            connection.send(b"small")

            for _ in range(sent):
                received = b""
                while len(received) < len(payload):
                    received += (await client.frame()).payload
                assert received == payload
            assert await client.frame() == Frame(TEXT, b"small")
            connection.send(b"again")
            assert await client.frame() == Frame(TEXT, b"again")


@pytest.mark.slow
async def test_a_reply_for_a_full_send_buffer_is_dropped_and_the_connection_lives() -> None:
    with capture_logs():
        async with serving_app() as app:
            small_buffers(app)
            release = holding(app)
            async with raw_client(app.port, receive_buffer=4096) as client:
                await client.open_websocket()
                await client.send(frame(b"r" * 20_000))
                await eventually(app.messages)
                fill(app.connection(), b"x" * 20_000)
                release()
                await eventually(lambda: not app.gateway.shared.tasks)
                app.connection().send(b"last")

                reply = await client.frame()
                while reply.payload == b"x" * 20_000:
                    reply = await client.frame()
                assert reply == Frame(TEXT, b"last")
                assert await client.subscript(frame(b"hello")) == Frame(TEXT, b"hello")


@pytest.mark.slow
async def test_a_flood_of_pings_by_a_client_that_does_not_read_is_bounded() -> None:
    async with serving_app() as app:
        small_buffers(app)
        async with raw_client(app.port, receive_buffer=4096) as client:
            await client.open_websocket()
            connection = app.connection()
            one = frame(b"p" * 125, PING)
            taken = 0
            while (more := client.send_what_fits((one * 500)[taken % len(one) :])) or (
                connection._reading
            ):
                taken += more
                await turn(app)
            assert connection._transport.get_write_buffer_size() <= 65536 + READ_SIZE_MAX

            # It reads, and all that the gateway has read is answered.
            reading = asyncio.create_task(client.ended())
            await eventually(lambda: connection._reading)
            app.connection().close(*GOING_AWAY)
            app.gateway.advance(7)
            pongs = (await reading).count(b"\x8a\x7d" + b"p" * 125)
            assert 100 < pongs <= taken // len(one)


@pytest.mark.parametrize("leave", ["end_sending", "close frame", "stay"])
async def test_a_closing_client_that_does_not_read_is_dropped(leave: str) -> None:
    async with serving_app() as app:
        small_buffers(app)
        async with raw_client(app.port, receive_buffer=4096) as client:
            await client.open_websocket()
            connection = app.connection()
            # Less than what pauses the reading of its socket.
            connection.send(b"x" * 60_000)
            assert connection._transport.get_write_buffer_size()
            match leave:
                case "end_sending":
                    client.end_sending()
                case "close frame":
                    await client.send(close_frame(1000))
                case _:
                    connection.close(*GOING_AWAY)
            await turn(app)
            assert app.gateway.shared.websockets_open == 1
            assert connection.entry.key not in app.gateway.shared.hub
            app.gateway.advance(7)
            await eventually(lambda: not app.gateway.shared.websockets_open)
        await app.disconnected()


async def test_a_message_that_the_gateway_fails_at_is_logged_and_the_connection_lives(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: Any) -> None:
        raise RuntimeError("broken")

    async with app.gateway.connect() as client:
        with monkeypatch.context() as patch, capture_logs() as logs:
            patch.setattr(app.gateway.shared.dispatch, "message", fail)
            await client.send("lost")
            await eventually(lambda: logs)
        await message(app, client)

    assert [line["event"] for line in logs] == ["message failed"]
    assert app.messages() == ["hello"]


async def test_a_disconnect_that_fails_is_logged(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: Any) -> None:
        raise RuntimeError("the registry is out of reach")

    monkeypatch.setattr(app.gateway.shared.dispatch, "disconnect", fail)
    with capture_logs() as logs:
        async with app.gateway.connect():
            connection_id = app.connection().entry.key.connection_id
        await eventually(lambda: logs)
    assert [(line["event"], line["connection_id"]) for line in logs] == [
        ("disconnect failed", connection_id)
    ]


async def test_an_idle_client_that_does_not_read_is_dropped() -> None:
    async with serving_app() as app:
        small_buffers(app)
        async with raw_client(app.port, receive_buffer=4096) as client:
            await client.open_websocket()
            app.connection().send(b"x" * 500_000)
            app.gateway.advance(601)
            assert app.gateway.shared.websockets_open == 1
            app.gateway.advance(7)
            await eventually(lambda: not app.gateway.shared.websockets_open)
        assert await app.disconnected() == GOING_AWAY
