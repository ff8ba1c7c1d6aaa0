"""The opening handshake as clients see it: verdicts, headers, refusals."""

from __future__ import annotations

import asyncio
import re
import socket
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from structlog.testing import capture_logs
from websockets.exceptions import InvalidStatus
from websockets.protocol import State

from tests.harness import connection_id_of, echo, recording, serving
from tests.listener.app import App, lent, serving_app
from tests.listener.raw import (
    ACCEPT,
    Frame,
    Response,
    close_frame,
    eventually,
    exchange,
    frame,
    nothing_unhandled,
    raw_client,
    request,
    reset,
    upgrade,
    upgrade_without,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.harness import Event, Running

pytestmark = pytest.mark.asyncio(loop_scope="module")

UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-a[0-9a-f]{3}-[0-9a-f]{12}"
ID = r"[A-Za-z0-9_-]{15}="
DATE = r"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_app() -> AsyncIterator[App]:
    async with serving_app() as app:
        yield app


@pytest_asyncio.fixture(loop_scope="module")
async def app(shared_app: App) -> AsyncIterator[App]:
    async with lent(shared_app):
        yield shared_app


async def refused(gateway: Running, stage: str = "dev", rest: str = "") -> Response:
    """Connect with a real client that is turned away."""
    with pytest.raises(InvalidStatus) as refusal:
        async with gateway.connect(stage, rest):
            pass
    response = refusal.value.response
    return Response(
        response.status_code, list(response.headers.raw_items()), bytes(response.body or b"")
    )


def assert_refusal(response: Response, status: int, error_type: str, body: str) -> None:
    """Check all of a response that the gateway itself gave; `body` is a pattern."""
    names = [name for name, _ in response.headers]
    assert names[:7] == [
        "Date",
        "Content-Type",
        "Content-Length",
        "Connection",
        "x-amzn-RequestId",
        "x-amz-apigw-id",
        "x-amzn-ErrorType",
    ]
    assert response.status == status
    assert re.fullmatch(DATE, response.header("Date") or "")
    assert response.header("Content-Type") == "application/json"
    assert re.fullmatch(UUID, response.header("x-amzn-RequestId") or "")
    assert re.fullmatch(ID, response.header("x-amz-apigw-id") or "")
    assert response.header("x-amzn-ErrorType") == error_type
    assert re.fullmatch(body, response.body.decode())


FORBIDDEN = (403, "ForbiddenException", re.escape('{"message":"Forbidden"}'))
BAD_REQUEST = (400, "BadRequestException", re.escape('{"message":"Bad Request"}'))


def in_frame_form(message: str) -> str:
    """Return the pattern of the body with three fields."""
    return rf'\{{"message": "{message}", "connectionId":"{ID}", "requestId":"{ID}"\}}'


# --- 1.1: which URLs


async def test_a_stage_is_connected_to(app: App) -> None:
    async with app.gateway.connect("dev") as client:
        await client.send("hello")
        assert await client.recv() == "hello"


async def test_a_trailing_slash_is_accepted(app: App) -> None:
    async with app.gateway.connect("dev", "/") as client:
        await client.send("hello")
        assert await client.recv() == "hello"


async def test_the_query_reaches_connect(app: App) -> None:
    async with app.gateway.connect("dev", "?a=1&b=%C3%A9&a=2"):
        pass

    event = app.events[0]
    assert event["queryStringParameters"] == {"a": "2", "b": "é"}
    assert event["multiValueQueryStringParameters"] == {"a": ["1", "2"], "b": ["é"]}


async def test_a_percent_encoded_stage_is_the_stage(app: App) -> None:
    async with app.gateway.connect("d%65v", "?a=1"):
        pass

    assert app.events[0]["requestContext"]["stage"] == "dev"


async def test_an_absolute_target_is_its_path(app: App) -> None:
    """RFC 9112, 3.2.2: a server accepts it in every request."""
    async with raw_client(app.port) as client:
        await client.open_websocket(b"http://gateway/dev?a=1")

        assert await client.subscript(frame(b"hello")) == Frame(1, b"hello")
    assert app.events[0]["queryStringParameters"] == {"a": "1"}


@pytest.mark.parametrize(
    ("stage", "rest"),
    [("prod", ""), ("", ""), ("DEV", ""), ("dev", "/more"), ("dev", "//"), ("", "/dev")],
    ids=["unknown stage", "no stage", "other case", "further path", "two slashes", "empty segment"],
)
async def test_another_path_than_a_stage_is_forbidden(app: App, stage: str, rest: str) -> None:
    assert_refusal(await refused(app.gateway, stage, rest), *FORBIDDEN)
    assert app.events == []


# --- 1.2 and 1.3: the verdict and the 101


async def test_a_missing_connect_route_accepts() -> None:
    async with (
        serving({"$default": echo}, two_way=("$default",)) as gateway,
        gateway.connect() as client,
    ):
        await client.send("hello")
        assert await client.recv() == "hello"


async def test_nothing_is_sent_before_the_verdict(app: App) -> None:
    verdict = asyncio.Event()

    async def wait() -> dict[str, int]:
        await verdict.wait()
        return {"statusCode": 200}

    app.on_connect = wait
    async with raw_client(app.port) as client:
        await client.send(upgrade() + frame(b"early"))
        await eventually(lambda: app.events)
        await client.send(frame(b"later"))
        # Whatever the gateway would send is sent by the time that it has answered another.
        await exchange(app.port, request(b"GET /_wsgateway/health", b"Host: gateway"))

        assert client.has_received() == b""
        assert app.event_types() == ["CONNECT"]
        verdict.set()
        assert (await client.head()).startswith(b"HTTP/1.1 101 ")
        assert {await client.frame(), await client.frame()} == {
            Frame(1, b"early"),
            Frame(1, b"later"),
        }


@pytest.mark.parametrize("status", [200, 204, 299, "202"])
async def test_any_2xx_accepts(app: App, status: int | str) -> None:
    app.on_connect = lambda: {"statusCode": status}
    async with app.gateway.connect() as client:
        assert client.state is State.OPEN


async def test_the_response_has_api_gateways_headers_in_its_order_and_casing(app: App) -> None:
    async with raw_client(app.port) as client:
        await client.send(upgrade())
        head = (await client.head()).decode()

    assert re.fullmatch(
        r"HTTP/1\.1 101 Switching Protocols\r\n"
        rf"Date: {DATE}\r\n"
        r"Connection: upgrade\r\n"
        r"upgrade: websocket\r\n"
        rf"sec-websocket-accept: {re.escape(ACCEPT.decode())}\r\n"
        r"\r\n",
        head,
    )


async def test_other_headers_and_the_body_of_connect_are_not_sent(app: App) -> None:
    app.on_connect = lambda: {
        "statusCode": 200,
        "headers": {"Set-Cookie": "a=b", "sec-websocket-protocol": "chat1"},
        "multiValueHeaders": {"X-Other": ["1", "2"]},
        "body": "hello",
    }
    async with raw_client(app.port) as client:
        await client.send(upgrade(b"/dev", b"Sec-WebSocket-Protocol: chat1"))
        head = (await client.head()).decode()

        assert head.split("\r\n")[2:] == [
            "Connection: upgrade",
            "upgrade: websocket",
            f"sec-websocket-accept: {ACCEPT.decode()}",
            "Sec-WebSocket-Protocol: chat1",
            "",
            "",
        ]
        assert await client.subscript(frame(b"first")) == Frame(1, b"first")


@pytest.mark.parametrize(
    "headers",
    [
        {"headers": {"Sec-WebSocket-Protocol": "chat2"}},
        {"headers": {"Sec-Websocket-Protocol": "chat2"}},
        {"headers": {"sec-websocket-protocol": "chat2"}},
        {"multiValueHeaders": {"SEC-WEBSOCKET-PROTOCOL": ["chat2"]}},
    ],
)
async def test_the_subprotocol_is_the_one_that_connect_returned(
    app: App, headers: dict[str, Any]
) -> None:
    app.on_connect = lambda: {"statusCode": 200, **headers}
    async with app.gateway.connect(subprotocols=["chat1", "chat2"]) as client:
        assert client.subprotocol == "chat2"

    assert app.events[0]["headers"]["Sec-WebSocket-Protocol"] == "chat1, chat2"


async def test_the_gateway_chooses_no_subprotocol(app: App) -> None:
    async with app.gateway.connect(subprotocols=["chat1", "chat2"]) as client:
        assert client.subprotocol is None
        assert client.response is not None
        assert "Sec-WebSocket-Protocol" not in client.response.headers


async def test_compression_is_declined(app: App) -> None:
    async with app.gateway.connect(compression="deflate") as client:
        assert client.request is not None
        assert "permessage-deflate" in client.request.headers["Sec-WebSocket-Extensions"]
        assert client.response is not None
        assert "Sec-WebSocket-Extensions" not in client.response.headers
        await client.send("hello" * 100)
        assert await client.recv() == "hello" * 100


async def test_connect_sees_header_names_as_the_client_wrote_them(app: App) -> None:
    async with raw_client(app.port) as client:
        await client.open_websocket(b"/dev", b"X-MiXeD-cAsE: One", b"x-lower: two", b"COOKIE: a=b")

    headers = app.events[0]["headers"]
    assert headers["X-MiXeD-cAsE"] == "One"
    assert headers["x-lower"] == "two"
    assert headers["COOKIE"] == "a=b"
    assert headers["Host"] == "gateway"


async def test_a_frame_in_the_segment_of_the_handshake_arrives(app: App) -> None:
    async with raw_client(app.port) as client:
        await client.send(upgrade() + frame(b"one") + frame(b"two")[:5])
        assert (await client.head()).startswith(b"HTTP/1.1 101 ")

        assert await client.frame() == Frame(1, b"one")
        assert await client.subscript(frame(b"two")[5:]) == Frame(1, b"two")


async def test_a_close_in_the_segment_of_the_handshake_closes(app: App) -> None:
    async with raw_client(app.port) as client:
        await client.send(upgrade() + close_frame(1000, "bye"))
        assert (await client.head()).startswith(b"HTTP/1.1 101 ")

        assert await client.frame() == Frame(8, b"\x03\xe8bye")
        assert await client.ended() == b""
    await eventually(lambda: len(app.events) == 2)
    assert app.events[1]["requestContext"]["disconnectStatusCode"] == 1000


# --- 1.4: refusals


@pytest.mark.parametrize("status", [300, 301, 304, 400, 401, 403, 418, 500, 501, 503, 599])
async def test_another_status_of_connect_is_returned_with_an_empty_body(
    app: App, status: int
) -> None:
    app.on_connect = lambda: {
        "statusCode": status,
        "headers": {"Location": "https://elsewhere.example", "X-Reason": "no"},
        "body": "not sent",
    }
    response = await refused(app.gateway)

    assert response.status == status
    assert response.body == b""
    assert [name for name, _ in response.headers] == [
        "Date",
        "Content-Length",
        "Connection",
        "x-amzn-RequestId",
        "x-amz-apigw-id",
    ]
    assert response.header("Content-Length") == "0"
    assert response.header("Connection") == "close"
    assert response.header("x-amz-apigw-id") == app.events[0]["requestContext"]["extendedRequestId"]


async def test_an_exception_in_connect_is_502(app: App) -> None:
    def fail() -> Any:
        raise RuntimeError("broken")

    app.on_connect = fail
    with capture_logs():
        response = await refused(app.gateway)

    assert_refusal(
        response, 502, "InternalServerErrorException", in_frame_form("Internal server error")
    )


@pytest.mark.parametrize(
    "answer",
    [
        None,
        "OK",
        [200],
        {},
        {"statusCode": None},
        {"statusCode": "OK"},
        {"statusCode": True},
        {"statusCode": 200, "extra": 1},
        {"statusCode": 200, "body": {"a": 1}},
        {"statusCode": 200, "headers": {"Sec-WebSocket-Protocol": "a\r\nX-Injected: b"}},
    ],
)
async def test_a_malformed_answer_of_connect_is_502(app: App, answer: Any) -> None:
    app.on_connect = lambda: answer
    with capture_logs():
        response = await refused(app.gateway)

    assert_refusal(
        response, 502, "InternalServerErrorException", in_frame_form("Internal server error")
    )


@pytest.mark.parametrize("status", [-1, 0, 99, 100, 101, 199, 600, 1000])
async def test_a_status_that_no_response_can_have_is_malformed(app: App, status: int) -> None:
    app.on_connect = lambda: {"statusCode": status}
    with capture_logs():
        response = await refused(app.gateway)

    assert_refusal(
        response, 502, "InternalServerErrorException", in_frame_form("Internal server error")
    )


async def test_a_timeout_of_connect_is_504() -> None:
    async def hang(event: Event, context: Any) -> None:
        await asyncio.Event().wait()

    with capture_logs():
        async with serving({"$connect": hang}, integration_timeout_ms=50) as gateway:
            response = await refused(gateway)

    assert_refusal(
        response, 504, "InternalServerErrorException", in_frame_form("Endpoint request timed out")
    )


async def test_a_refused_invocation_is_500() -> None:
    async def connect_too(event: Event, context: Any) -> Any:
        responses.append(await refused(gateway))
        return {"statusCode": 200}

    responses: list[Response] = []
    with capture_logs():
        async with (
            serving({"$connect": connect_too}, function_concurrency_max=1) as gateway,
            gateway.connect(),
        ):
            pass

    assert_refusal(
        responses[0], 500, "InternalServerErrorException", in_frame_form("Internal server error")
    )


async def test_a_fault_of_the_gateway_itself_is_500(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: Any) -> None:
        raise RuntimeError("the registry is out of reach")

    monkeypatch.setattr(app.gateway.shared.dispatch, "connect", fail)
    with capture_logs() as logs:
        response = await refused(app.gateway)

    assert_refusal(
        response,
        500,
        "InternalServerErrorException",
        re.escape('{"message":"Internal server error"}'),
    )
    assert [line["event"] for line in logs] == ["connect failed"]


async def test_nothing_runs_for_a_connection_that_was_refused(app: App) -> None:
    app.on_connect = lambda: {"statusCode": 401}
    async with raw_client(app.port) as client:
        await client.send(upgrade() + frame(b"unwanted") + close_frame(1000))
        assert (await client.response()).status == 401
        assert await client.ended() == b""

    await eventually(lambda: not app.gateway.shared.tasks)
    assert app.event_types() == ["CONNECT"]
    assert app.gateway.shared.websockets_open == 0


async def test_a_refusal_is_readable_although_more_was_sent(app: App) -> None:
    """A socket that is closed on unread bytes resets, and takes the answer with it."""
    app.on_connect = lambda: {"statusCode": 403}
    async with raw_client(app.port) as client:
        await client.send(upgrade() + frame(b"a" * 30_000) * 8)
        assert (await client.response()).status == 403


# --- what is no handshake


async def test_a_plain_get_of_a_stage_is_426(app: App) -> None:
    response = await exchange(app.port, request(b"GET /dev", b"Host: gateway"))

    assert response.status == 426
    assert response.header("Upgrade") == "websocket"
    assert response.body == b'{"message":"Upgrade Required"}'
    assert app.events == []


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (upgrade().replace(b"HTTP/1.1", b"HTTP/1.0"), BAD_REQUEST),
        (upgrade().replace(b"HTTP/1.1", b"HTTP/2.0"), BAD_REQUEST),
        (upgrade_without(b"Host"), BAD_REQUEST),
        (upgrade_without(b"Host", b"Host:"), BAD_REQUEST),
        (upgrade(b"/dev", b"Host: gateway"), BAD_REQUEST),
        (upgrade_without(b"Host", b"Host: a/b"), BAD_REQUEST),
        (upgrade_without(b"", line=b"POST /dev"), BAD_REQUEST),
        (upgrade(b"/dev", b"Content-Length: 5") + b"hello", BAD_REQUEST),
        (upgrade(b"/dev", b"Transfer-Encoding: chunked") + b"0\r\n\r\n", BAD_REQUEST),
        (upgrade_without(b"Sec-WebSocket-Key"), BAD_REQUEST),
        (upgrade_without(b"Sec-WebSocket-Key", b"Sec-WebSocket-Key: c2hvcnQ="), BAD_REQUEST),
        (upgrade_without(b"Sec-WebSocket-Key", b"Sec-WebSocket-Key: not base64"), BAD_REQUEST),
        (upgrade(b"*"), BAD_REQUEST),
        (upgrade(b"/d\xffv"), BAD_REQUEST),
        (request(b"CONNECT gateway:80", b"Host: gateway:80"), BAD_REQUEST),
        (request(b"GET /dev"), BAD_REQUEST),
        (b"GET /dev HTTP/2.0\r\nHost: gateway\r\n\r\n", BAD_REQUEST),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", BAD_REQUEST),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", BAD_REQUEST),
    ],
    ids=[
        "HTTP/1.0",
        "HTTP/2.0",
        "no Host",
        "empty Host",
        "two Hosts",
        "no host in Host",
        "POST",
        "body",
        "chunked body",
        "no key",
        "short key",
        "bad key",
        "asterisk",
        "target not ASCII",
        "CONNECT",
        "plain without Host",
        "plain HTTP/2.0",
        "HTTP/2 preface",
        "TLS",
    ],
)
async def test_what_no_client_may_send_is_refused(
    app: App, data: bytes, expected: tuple[int, str, str]
) -> None:
    async with raw_client(app.port) as client:
        await client.send(data)
        assert_refusal(await client.response(), *expected)
        assert await client.ended() == b""
    assert app.events == []


@pytest.mark.parametrize("version", [b"12", b"8", b"14", b""])
async def test_another_version_is_426_and_told_the_right_one(app: App, version: bytes) -> None:
    data = upgrade_without(b"Sec-WebSocket-Version", b"Sec-WebSocket-Version: " + version)
    response = await exchange(app.port, data)

    assert response.status == 426
    assert response.header("Sec-WebSocket-Version") == "13"
    assert response.header("Upgrade") == "websocket"
    assert response.header("x-amzn-ErrorType") == "UpgradeRequiredException"
    assert response.body == b'{"message":"Upgrade Required"}'


# --- the connection underneath


async def test_connection_options_may_come_on_two_lines(app: App) -> None:
    for options in ([b"Upgrade", b"keep-alive"], [b"keep-alive", b"Upgrade"]):
        lines = [b"Connection: " + option for option in options]
        async with raw_client(app.port) as client:
            await client.send(upgrade_without(b"Connection", *lines))
            assert (await client.head()).startswith(b"HTTP/1.1 101 ")


async def test_an_upgrade_may_follow_an_answered_request(app: App) -> None:
    health = request(b"GET /_wsgateway/health", b"Host: gateway")
    async with raw_client(app.port) as client:
        for _ in range(2):
            await client.send(health)
            assert (await client.response()).status == 200
        await client.open_websocket()

        assert await client.subscript(frame(b"hello")) == Frame(1, b"hello")


async def test_an_upgrade_behind_an_unanswered_request_is_dropped(app: App) -> None:
    """Its answer and the other one would mix."""
    health = request(b"GET /_wsgateway/health", b"Host: gateway")
    async with raw_client(app.port) as client:
        await client.send(health + upgrade())

        assert b" 101 " not in await client.ended()
    assert app.events == []


async def test_an_upgrade_to_http_2_is_answered_as_if_it_were_not_asked_for(app: App) -> None:
    h2c = (
        b"Host: gateway",
        b"Connection: Upgrade, HTTP2-Settings",
        b"Upgrade: h2c",
        b"HTTP2-Settings: AAMAAABkAAQAAP__",
    )
    async with raw_client(app.port) as client:
        await client.send(request(b"GET /_wsgateway/health", *h2c))
        assert (await client.response()).status == 200
        await client.open_websocket()

        assert await client.subscript(frame(b"hello")) == Frame(1, b"hello")


@pytest.mark.parametrize(
    ("framing", "body"),
    [
        (b"Content-Length: 5", b"hello"),
        (b"Transfer-Encoding: chunked", b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"),
    ],
    ids=["length", "chunked"],
)
@pytest.mark.parametrize("cut", [0, 1, 4])
async def test_the_body_behind_an_upgrade_that_is_not_granted_is_the_requests(
    app: App, framing: bytes, body: bytes, cut: int
) -> None:
    """Java's HttpClient offers h2c with its first request, also with a POST."""
    async with app.gateway.connect() as receiver, raw_client(app.port) as client:
        target = b"/dev/@connections/" + (await own_id(app)).encode()
        post = request(
            b"POST " + target,
            b"Host: gateway",
            b"Connection: Upgrade, HTTP2-Settings",
            b"Upgrade: h2c",
            b"HTTP2-Settings: AAMAAABkAAQAAP__",
            framing,
        )
        await client.send(post + body[:cut])
        # The gateway has read that when it has answered another.
        await exchange(app.port, request(b"GET /_wsgateway/health", b"Host: gateway"))
        await client.send(body[cut:])
        assert (await client.response()).status == 200
        assert await receiver.recv() == "hello"

        # The connection goes on behind the body.
        await client.send(post + body + request(b"GET /_wsgateway/health", b"Host: gateway"))
        assert (await client.response()).status == 200
        assert (await client.response()).status == 200
        assert await receiver.recv() == "hello"


async def own_id(app: App) -> str:
    await eventually(lambda: app.events)
    return str(app.events[-1]["requestContext"]["connectionId"])


# --- leaving, and draining


@pytest.mark.parametrize("leave", ["reset", "close", "end_sending"])
async def test_a_client_that_leaves_during_connect_is_connected_and_then_disconnected(
    app: App, leave: str
) -> None:
    verdict = asyncio.Event()
    completed: list[str] = []

    async def wait() -> dict[str, int]:
        await verdict.wait()
        completed.append("$connect")
        return {"statusCode": 200}

    app.on_connect = wait
    async with raw_client(app.port) as client:
        await client.send(upgrade())
        await eventually(lambda: app.events)
        getattr(client, leave)()
        await exchange(app.port, request(b"GET /_wsgateway/health", b"Host: gateway"))
        assert app.event_types() == ["CONNECT"]

        verdict.set()
        await eventually(lambda: len(app.events) == 2)
    assert completed == ["$connect"]
    assert app.event_types() == ["CONNECT", "DISCONNECT"]
    context = app.events[1]["requestContext"]
    assert context["disconnectStatusCode"] == 1006
    assert context["disconnectReason"] == ""
    await eventually(lambda: app.gateway.shared.websockets_open == 0)


@pytest.mark.parametrize("leave", ["reset", "close", "end_sending"])
async def test_a_client_that_leaves_before_it_is_refused_is_nothing(app: App, leave: str) -> None:
    verdict = asyncio.Event()

    async def wait() -> dict[str, int]:
        await verdict.wait()
        return {"statusCode": 401}

    app.on_connect = wait
    with capture_logs() as logs:
        async with raw_client(app.port) as client:
            await client.send(upgrade())
            await eventually(lambda: app.events)
            getattr(client, leave)()
            verdict.set()
            await eventually(lambda: not app.gateway.shared.tasks)
            await eventually(lambda: not len(app.gateway.shared.deadlines))
    assert app.event_types() == ["CONNECT"]
    assert [line for line in logs if line["log_level"] == "error"] == []


async def test_a_client_that_is_gone_before_it_is_accepted_is_nothing(app: App) -> None:
    """The kernel hands out its socket and its bytes all the same, but no address."""
    # The kernel alone is at work here, for nothing awaits.
    sock = socket.create_connection(("127.0.0.1", app.port))
    sock.sendall(upgrade())
    reset(sock)
    await exchange(app.port, request(b"GET /_wsgateway/health", b"Host: gateway"))

    assert app.events == []


async def test_a_draining_gateway_refuses_handshakes() -> None:
    responses: list[Response] = []

    async def connect_again(event: Event, context: Any) -> None:
        responses.append(await exchange(gateway.port, upgrade()))

    events: list[Event] = []
    handlers = {"$connect": recording(events), "$disconnect": connect_again}
    async with serving(handlers) as gateway:
        client = await gateway.connect()
        # The gateway drains, and closes the connection, as the block ends.
    await client.wait_closed()

    assert client.close_code == 1001
    assert_refusal(
        responses[0],
        503,
        "ServiceUnavailableException",
        re.escape('{"message":"Service Unavailable"}'),
    )
    assert len(events) == 1


async def test_a_handshake_under_way_when_the_drain_begins_is_accepted_and_closed() -> None:
    async with serving_app() as app:
        verdict = asyncio.Event()

        async def wait() -> dict[str, int]:
            await verdict.wait()
            return {"statusCode": 200}

        app.on_connect = wait
        async with raw_client(app.port) as client:
            await client.send(upgrade())
            await eventually(lambda: app.events)
            stopping = asyncio.create_task(app.gateway.gateway.stop())
            await eventually(lambda: app.gateway.shared.draining)
            verdict.set()

            assert (await client.head()).startswith(b"HTTP/1.1 101 ")
            assert await client.frame() == Frame(8, b"\x03\xe9Going away")
            await client.send(close_frame(1001))
            await stopping
        assert await app.disconnected() == (1001, "Going away")


async def test_a_handshake_without_a_verdict_ends_with_the_grace_period() -> None:
    with capture_logs(), nothing_unhandled():
        async with serving_app(grace_period_s=0) as app:
            app.on_connect = asyncio.Event().wait
            async with raw_client(app.port) as client:
                await client.send(upgrade())
                await eventually(lambda: app.events)
                await app.gateway.gateway.stop()

                assert await client.ended() == b""


async def test_ids_are_new_for_each_connection() -> None:
    async with serving({}) as gateway, gateway.connect() as one, gateway.connect() as other:
        ids = {await connection_id_of(one), await connection_id_of(other)}
    assert len(ids) == 2
    assert all(re.fullmatch(ID, connection_id) for connection_id in ids)
