"""`@connections` as backends use it: boto3 unchanged, and HTTP by hand (contract, section 11)."""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from botocore.exceptions import ClientError
from websockets.exceptions import ConnectionClosedOK

from tests.harness import callback_client, recording, serving, slow_client
from tests.listener.raw import Frame, Response, close_frame, eventually, frame, raw_client, request

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.contract.conftest import Api
    from tests.harness import Event

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROUTES = ("$connect", "$disconnect", "$default")
UNKNOWN = "AQIDBAUGBwgCCQo="
ID = "[A-Za-z0-9_-]{15}="
ISO = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


async def call(port: int, method: str, path: str, body: bytes = b"", *headers: bytes) -> Response:
    """Send a request on a connection of its own; a body has its length announced."""
    if body or method == "POST":
        headers = (*headers, b"Content-Length: %d" % len(body))
    async with raw_client(port) as client:
        line = f"{method} {path}".encode()
        await client.send(request(line, b"Host: gateway", *headers, body=body))
        return await client.response()


def told(response: Response) -> tuple[int, str | None, bytes]:
    """Return status, error type and body."""
    return response.status, response.header("x-amzn-ErrorType"), response.body


async def in_thread(function: Callable[..., Any], **arguments: Any) -> Any:
    return await asyncio.to_thread(function, **arguments)


async def refused_by(function: Callable[..., Any], **arguments: Any) -> ClientError:
    with pytest.raises(ClientError) as caught:
        await in_thread(function, **arguments)
    return caught.value


# --- boto3


@pytest.mark.slow  # the first client reads boto3's models
async def test_boto3_posts_gets_and_deletes(api: Api) -> None:
    management = api.management()
    async with api.connect(user_agent_header="client/1.0") as client:
        connection_id = api.connection_id

        posted = await in_thread(
            management.post_to_connection, ConnectionId=connection_id, Data="é😀".encode()
        )
        assert posted["ResponseMetadata"]["HTTPStatusCode"] == 200
        assert await client.recv() == "é😀"

        got = await in_thread(management.get_connection, ConnectionId=connection_id)
        assert got["ResponseMetadata"]["HTTPStatusCode"] == 200
        assert got["Identity"] == {"SourceIp": "127.0.0.1", "UserAgent": "client/1.0"}
        connected_at_ms = api.events[0]["requestContext"]["connectedAt"]
        assert round(got["ConnectedAt"].timestamp() * 1000) == connected_at_ms
        assert got["ConnectedAt"] <= got["LastActiveAt"]

        deleted = await in_thread(management.delete_connection, ConnectionId=connection_id)
        assert deleted["ResponseMetadata"]["HTTPStatusCode"] == 204
        with pytest.raises(ConnectionClosedOK):
            await client.recv()


async def test_boto3_raises_its_typed_errors(api: Api) -> None:
    management = api.management()

    for function in (management.get_connection, management.delete_connection):
        gone = await refused_by(function, ConnectionId=UNKNOWN)
        assert type(gone) is management.exceptions.GoneException
    gone = await refused_by(management.post_to_connection, ConnectionId=UNKNOWN, Data=b"x")
    assert type(gone) is management.exceptions.GoneException
    assert gone.response["ResponseMetadata"]["HTTPStatusCode"] == 410

    large = await refused_by(
        management.post_to_connection, ConnectionId=UNKNOWN, Data=b"x" * 131_073
    )
    assert type(large) is management.exceptions.PayloadTooLargeException
    assert large.response["Error"]["Message"] == "Payload too large"

    forbidden = await refused_by(api.management("none").get_connection, ConnectionId=UNKNOWN)
    assert type(forbidden).__name__ == "ForbiddenException"
    assert forbidden.response["ResponseMetadata"]["HTTPStatusCode"] == 403

    malformed = await refused_by(management.get_connection, ConnectionId="x")
    assert malformed.response["Error"] == {
        "Code": "BadRequestException",
        "Message": "Invalid connectionId: x",
    }


async def test_a_handler_in_a_thread_can_post_to_its_own_client() -> None:
    def handler(event: Event, context: Any) -> Any:
        authority = event["requestContext"]["domainName"]
        management = callback_client(f"http://{authority}/{event['requestContext']['stage']}")
        management.post_to_connection(
            ConnectionId=event["requestContext"]["connectionId"], Data=event["body"].upper()
        )
        return {"statusCode": 200}

    async with serving({"$default": handler}) as running, running.connect() as client:
        await client.send("hello")
        assert await client.recv() == "HELLO"


# --- HTTP by hand


@pytest.mark.parametrize("at", ["@", "%40"])
@pytest.mark.parametrize("pad", ["=", "%3D", "%3d"])
async def test_at_and_equals_arrive_raw_and_percent_encoded(api: Api, at: str, pad: str) -> None:
    async with api.connect() as client:
        path = f"/dev/{at}connections/{api.connection_id.removesuffix('=')}{pad}"

        assert told(await call(api.port, "POST", path, b"hi")) == (200, None, b"")
        assert await client.recv() == "hi"
        assert (await call(api.port, "GET", path)).status == 200
        assert told(await call(api.port, "DELETE", path)) == (204, None, b"")


async def test_the_headers_of_a_post(api: Api) -> None:
    async with api.connect() as client:
        path = f"/dev/@connections/{api.connection_id}"
        responses = [await call(api.port, "POST", path, b"hi") for _ in range(2)]
        assert [await client.recv(), await client.recv()] == ["hi", "hi"]

    for response in responses:
        assert {name.lower() for name, _ in response.headers} == {
            "date",
            "content-length",
            "x-amzn-requestid",
            "x-amz-apigw-id",
        }
        assert response.header("Content-Length") == "0"
        assert UUID(response.header("x-amzn-RequestId")).version == 4
        assert re.fullmatch(ID, response.header("x-amz-apigw-id") or "")
    assert responses[0].header("x-amzn-RequestId") != responses[1].header("x-amzn-RequestId")


async def test_get_tells_of_the_connection_byte_for_byte(api: Api) -> None:
    async with raw_client(api.port) as client:
        await client.open_websocket()
        response = await call(api.port, "GET", f"/dev/@connections/{api.connection_id}")

    pattern = (
        rf'\{{"connectedAt": "{ISO}", "identity": \{{"sourceIp": "127\.0\.0\.1", '
        rf'"userAgent": null\}}, "lastActiveAt": "{ISO}"\}}'
    )
    assert re.fullmatch(pattern, response.body.decode())
    assert response.header("Content-Type") == "application/json"


async def test_last_active_at_moves_with_messages_in_both_directions(api: Api) -> None:
    async def last_active_s() -> float:
        got = await in_thread(management.get_connection, ConnectionId=connection_id)
        return float(got["LastActiveAt"].timestamp())

    management = api.management()
    async with api.connect() as client:
        connection_id = api.connection_id
        at_first = await last_active_s()

        api.running.advance(60)
        # Being asked for is no activity, and neither is a ping.
        await (await client.ping())
        assert await last_active_s() - at_first < 60

        await client.send("hello")
        await eventually(lambda: api.of_type("MESSAGE"))
        after_message = await last_active_s()
        assert 60 <= after_message - at_first < 90

        api.running.advance(60)
        await in_thread(management.post_to_connection, ConnectionId=connection_id, Data=b"hi")
        assert 60 <= await last_active_s() - after_message < 90


async def test_delete_closes_with_1000_and_tells_disconnect_so(api: Api) -> None:
    async with raw_client(api.port) as client:
        await client.open_websocket()
        path = f"/dev/@connections/{api.connection_id}"

        response = await call(api.port, "DELETE", path)
        assert told(response) == (204, None, b"")
        assert response.header("Content-Length") is None
        assert await client.frame() == Frame(8, b"\x03\xe8Connection Closed Normally")

        # From now on it is gone, although the client has not answered yet.
        assert (await call(api.port, "POST", path, b"hi")).status == 410
        assert (await call(api.port, "DELETE", path)).status == 410
        await client.send(close_frame(1000))
        assert await client.ended() == b""
    await eventually(lambda: api.of_type("DISCONNECT"))

    [event] = api.of_type("DISCONNECT")
    assert event["requestContext"]["disconnectStatusCode"] == 1000
    assert event["requestContext"]["disconnectReason"] == "Connection Closed Normally"


# --- errors


@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("x", "x"),
        (UNKNOWN + "=", UNKNOWN + "="),
        (UNKNOWN.removesuffix("="), UNKNOWN.removesuffix("=")),
        ("a%22b%5C", r"a\"b\\"),
        ("%C3%A9", r"\u00e9"),
    ],
)
async def test_a_malformed_id_is_400(api: Api, method: str, path: str, named: str) -> None:
    response = await call(api.port, method, f"/dev/@connections/{path}")

    assert told(response) == (
        400,
        "BadRequestException",
        f'{{"message":"Invalid connectionId: {named}"}}'.encode(),
    )
    assert response.header("Content-Type") == "application/json"


@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
@pytest.mark.parametrize("stage", ["", "/other", "/DEV"])
async def test_a_missing_or_unknown_stage_is_403(api: Api, method: str, stage: str) -> None:
    response = await call(api.port, method, f"{stage}/@connections/{UNKNOWN}")

    assert told(response) == (403, "ForbiddenException", b'{"message":"Forbidden"}')


@pytest.mark.parametrize(
    ("method", "path", "route"),
    [
        ("POST", "@connections", "@connections"),
        ("POST", "@connections/", "@connections/"),
        ("GET", "%40connections/", "%40connections/"),
        ("POST", f"dev/@connections/{UNKNOWN}", f"dev/@connections/{UNKNOWN}"),
        ("DELETE", f"@connections/{UNKNOWN}/x", f"@connections/{UNKNOWN}/x"),
        ("PUT", f"@connections/{UNKNOWN}", f"@connections/{UNKNOWN}"),
        ("PATCH", f"@connections/{UNKNOWN}", f"@connections/{UNKNOWN}"),
        ("OPTIONS", f"@connections/{UNKNOWN}", f"@connections/{UNKNOWN}"),
        ("GET", "favicon.ico", "favicon.ico"),
    ],
)
async def test_a_stray_path_or_method_is_404(api: Api, method: str, path: str, route: str) -> None:
    response = await call(api.port, method, f"/dev/{path}")

    message = f"No method found matching route {route} for http method {method}."
    assert told(response) == (404, "NotFoundException", f'{{"message":"{message}"}}'.encode())


async def test_head_is_404_without_a_body(api: Api) -> None:
    async with raw_client(api.port) as client:
        line = f"HEAD /dev/@connections/{UNKNOWN}".encode()
        await client.send(request(line, b"Host: gateway", b"Connection: close"))
        head = await client.head()
        assert head.startswith(b"HTTP/1.1 404 ")
        assert b"x-amzn-errortype: notfoundexception" in head.lower()
        assert await client.ended() == b""


@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
async def test_an_unknown_id_is_410_with_an_empty_body(api: Api, method: str) -> None:
    response = await call(api.port, method, f"/dev/@connections/{UNKNOWN}")

    assert told(response) == (410, "GoneException", b"")
    assert response.header("Content-Length") == "0"


async def test_a_closed_connection_is_gone(api: Api) -> None:
    async with api.connect():
        path = f"/dev/@connections/{api.connection_id}"
        assert (await call(api.port, "GET", path)).status == 200
    await eventually(lambda: api.of_type("DISCONNECT"))

    assert (await call(api.port, "GET", path)).status == 410


async def test_a_connection_does_not_exist_inside_its_own_connect(api: Api) -> None:
    seen: list[Response] = []

    async def handler(event: Event, context: Any) -> Any:
        path = f"/dev/@connections/{event['requestContext']['connectionId']}"
        seen.extend([await call(api.port, method, path) for method in ("POST", "GET", "DELETE")])
        return {"statusCode": 200}

    api.handlers["$connect"] = handler
    async with api.connect() as client:
        assert [told(response) for response in seen] == [(410, "GoneException", b"")] * 3
        path = f"/dev/@connections/{api.connection_id}"
        assert (await call(api.port, "POST", path, b"now")).status == 200
        assert await client.recv() == "now"


async def test_an_id_of_this_stage_under_another_stage_is_410(api: Api) -> None:
    async with api.connect("dev") as client:
        connection_id = api.connection_id
        for method in ("POST", "GET", "DELETE"):
            response = await call(api.port, method, f"/prod/@connections/{connection_id}")
            assert told(response) == (410, "GoneException", b"")

        # Nothing was delivered, nothing closed.
        assert (
            await call(api.port, "POST", f"/dev/@connections/{connection_id}", b"x")
        ).status == 200
        assert await client.recv() == "x"


@pytest.mark.parametrize("body", [b"\xff", b"a\xed\xa0\x80", b"\xc3"])
async def test_a_body_that_is_no_utf8_is_400_and_not_sent(api: Api, body: bytes) -> None:
    async with api.connect() as client:
        path = f"/dev/@connections/{api.connection_id}"
        response = await call(api.port, "POST", path, body)
        assert told(response) == (400, "BadRequestException", b'{"message":"Bad Request"}')

        await call(api.port, "POST", path, b"next")
        assert await client.recv() == "next"


# --- bodies and frames


def cut(size: int) -> list[int]:
    return [32768] * (size // 32768) + ([size % 32768] if size % 32768 else [])


@pytest.mark.parametrize("size", [0, 1, 126, 32768, 32769, 65536, 131072])
async def test_a_post_is_one_message_in_frames_of_at_most_32_kib(api: Api, size: int) -> None:
    body = (b"0123456789abcde\n" * (size // 16 + 1))[:size]
    frames: list[Frame] = []
    async with raw_client(api.port) as client:
        await client.open_websocket()
        response = await call(api.port, "POST", f"/dev/@connections/{api.connection_id}", body)
        assert told(response) == (200, None, b"")
        while not frames or not frames[-1].fin:
            frames.append(await client.frame())

    assert [len(each.payload) for each in frames] == (cut(size) or [0])
    assert [each.opcode for each in frames] == [1] + [0] * (len(frames) - 1)
    assert b"".join(each.payload for each in frames) == body


async def test_131072_bytes_are_a_message_and_one_more_is_413(api: Api) -> None:
    management = api.management()
    async with api.connect() as client:
        connection_id = api.connection_id
        path = f"/dev/@connections/{connection_id}"
        response = await call(api.port, "POST", path, b"x" * 131_073)
        assert told(response) == (
            413,
            "PayloadTooLargeException",
            b'{"message":"Payload too large"}',
        )
        data = b"y" * 131_072
        await in_thread(management.post_to_connection, ConnectionId=connection_id, Data=data)
        assert await client.recv() == data.decode()


async def test_a_body_may_be_chunked(api: Api) -> None:
    async with api.connect() as client, raw_client(api.port) as backend:
        line = f"POST /dev/@connections/{api.connection_id}".encode()
        await backend.send(request(line, b"Host: gateway", b"Transfer-Encoding: chunked"))
        for chunk in (b"1\r\n\xc3\r\n", b"3;x=y\r\n\xa9ab\r\n", b"0\r\n\r\n"):
            await backend.send(chunk)
        assert told(await backend.response()) == (200, None, b"")
        assert await client.recv() == "éab"


async def test_a_chunked_body_that_becomes_too_large_is_413(api: Api) -> None:
    async with api.connect() as client, raw_client(api.port) as backend:
        path = f"/dev/@connections/{api.connection_id}"
        await backend.send(
            request(f"POST {path}".encode(), b"Host: gateway", b"Transfer-Encoding: chunked")
        )
        await backend.send((b"8000\r\n" + b"x" * 0x8000 + b"\r\n") * 4 + b"1\r\nx\r\n")
        assert (await backend.response()).status == 413

        await call(api.port, "POST", path, b"next")
        assert await client.recv() == "next"


async def test_a_sender_may_ask_before_it_sends_its_body(api: Api) -> None:
    async with api.connect() as client, raw_client(api.port) as backend:
        await backend.send(
            request(
                f"POST /dev/@connections/{api.connection_id}".encode(),
                b"Host: gateway",
                b"Expect: 100-continue",
                b"Content-Length: 2",
            )
        )
        assert await backend.head() == b"HTTP/1.1 100 Continue\r\n\r\n"
        await backend.send(b"hi")
        assert (await backend.response()).status == 200
        assert await client.recv() == "hi"


@pytest.mark.parametrize(
    ("path", "size", "status"),
    [
        (f"/dev/@connections/{UNKNOWN}", 131_073, 413),
        ("/dev/@connections/x", 10, 400),
        (f"/@connections/{UNKNOWN}", 10, 403),
        ("/dev/other", 10, 404),
    ],
)
async def test_a_sender_who_asks_first_is_refused_without_its_body(
    api: Api, path: str, size: int, status: int
) -> None:
    async with raw_client(api.port) as backend:
        await backend.send(
            request(
                f"POST {path}".encode(),
                b"Host: gateway",
                b"Expect: 100-continue",
                b"Content-Length: %d" % size,
            )
        )
        assert (await backend.response()).status == status


async def test_any_content_type_is_text_to_the_client(api: Api) -> None:
    async with api.connect() as client:
        path = f"/dev/@connections/{api.connection_id}"
        for content_type in (b"application/octet-stream", b"image/png", b"text/plain; charset=x"):
            await call(api.port, "POST", path, b"hi", b"Content-Type: " + content_type)
            assert await client.recv() == "hi"


async def test_posts_one_after_the_other_arrive_in_order(api: Api) -> None:
    async with api.connect() as client, raw_client(api.port) as backend:
        line = f"POST /dev/@connections/{api.connection_id}".encode()
        for number in range(50):
            body = b"%d" % number
            await backend.send(
                request(line, b"Host: gateway", b"Content-Length: %d" % len(body), body=body)
            )
            assert (await backend.response()).status == 200
        assert [await client.recv() for _ in range(50)] == [str(number) for number in range(50)]


async def test_posts_by_many_at_once_all_arrive(api: Api) -> None:
    async with api.connect() as client:
        path = f"/dev/@connections/{api.connection_id}"
        responses = await asyncio.gather(
            *(call(api.port, "POST", path, b"%d" % number) for number in range(20))
        )
        assert {response.status for response in responses} == {200}
        assert {await client.recv() for _ in range(20)} == {str(number) for number in range(20)}


async def test_requests_share_a_connection(api: Api) -> None:
    async with api.connect(), raw_client(api.port) as backend:
        good = f"/dev/@connections/{api.connection_id}"
        for path, status in ((good, 200), ("/dev/@connections/x", 400), ("/x", 403), (good, 200)):
            await backend.send(request(f"GET {path}".encode(), b"Host: gateway"))
            assert (await backend.response()).status == status


async def test_a_path_with_bytes_that_no_url_has_is_400(api: Api) -> None:
    async with raw_client(api.port) as backend:
        await backend.send(b"GET /dev/\xe9 HTTP/1.1\r\nHost: gateway\r\n\r\n")
        assert (await backend.response()).status == 400


@pytest.mark.slow
async def test_a_full_buffer_is_429_until_the_client_reads_again() -> None:
    events: list[Event] = []
    handlers = {"$connect": recording(events), "$disconnect": recording(events)}
    async with (
        serving(handlers, send_buffer_max=131_072 * 2) as running,
        slow_client(running) as client,
    ):
        await client.open_websocket()
        connection_id = events[0]["requestContext"]["connectionId"]
        path = f"/dev/@connections/{connection_id}"
        posted = 0
        while (response := await call(running.port, "POST", path, b"x" * 100_000)).status == 200:
            posted += 1
            assert posted < 100
        assert told(response) == (
            429,
            "LimitExceededException",
            b'{"message":"Too Many Requests"}',
        )
        management = callback_client(running.callback_url())
        refused = None
        while refused is None:
            try:
                await in_thread(
                    management.post_to_connection, ConnectionId=connection_id, Data=b"x" * 100_000
                )
            except management.exceptions.LimitExceededException as error:
                refused = error
            else:
                # The kernel has taken some more meanwhile.
                posted += 1
                assert posted < 100
        # It is full, not gone.
        assert (await call(running.port, "GET", path)).status == 200

        received = 0
        while received < posted:
            received += (await client.frame()).fin
        assert (await call(running.port, "POST", path, b"again")).status == 200
        assert await client.frame() == Frame(1, b"again")
    assert len(events) == 2


async def test_callbacks_are_served_on_the_management_port_only_when_there_is_one() -> None:
    events: list[Event] = []
    handlers = {"$connect": recording(events)}
    async with (
        serving(handlers, management_port=0) as running,
        running.connect() as client,
    ):
        path = f"/dev/@connections/{events[0]['requestContext']['connectionId']}"
        assert (await call(running.port, "POST", path, b"hi")).status == 404

        private = running.gateway.callback_urls[0]
        port = int(private.split(":")[2].partition("/")[0])
        assert port != running.port
        assert (await call(port, "POST", path, b"hi")).status == 200
        assert await client.recv() == "hi"


async def test_get_body_is_json_that_any_parser_reads(api: Api) -> None:
    async with api.connect(user_agent_header='a"b\\') as client:
        response = await call(api.port, "GET", f"/dev/@connections/{api.connection_id}")
        assert client.state.name == "OPEN"

    assert json.loads(response.body)["identity"] == {
        "sourceIp": "127.0.0.1",
        "userAgent": 'a"b\\',
    }


async def test_a_frame_cannot_come_between_the_frames_of_a_post(api: Api) -> None:
    async with raw_client(api.port) as client:
        await client.open_websocket()
        path = f"/dev/@connections/{api.connection_id}"
        api.answer("$default", None)
        await client.send(frame(b"bad"))
        await asyncio.gather(
            *(call(api.port, "POST", path, letter * 40_000) for letter in (b"a", b"b"))
        )
        messages: list[bytes] = []
        for _ in range(3):
            message = b""
            while not (part := await client.frame()).fin:
                message += part.payload
            messages.append(message + part.payload)

    assert sorted(message[:1] for message in messages) == [b"a", b"b", b"{"]
    assert {message for message in messages if message[:1] != b"{"} == {
        b"a" * 40_000,
        b"b" * 40_000,
    }
