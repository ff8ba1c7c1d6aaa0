"""The callback API without a socket: every status, header and body, counters and lines."""

from __future__ import annotations

import io
import json
import re
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from tests.fakes import ManualClock
from wsgateway.connection import ConnectionKey
from wsgateway.connection_id import owner_tag
from wsgateway.contracts import ConnectionInfo
from wsgateway.errors import DeliveryFailed, Gone, LimitExceeded
from wsgateway.management import Management
from wsgateway.telemetry.access_log import AccessLog
from wsgateway.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Scope, Send

CONNECTION_ID = "AQIDEBESExQCFRY="
KEY = ConnectionKey("abcde12345", "dev", CONNECTION_ID)
PATH = f"/dev/@connections/{CONNECTION_ID}"


class FakeCallbacks:
    """Remembers what it was asked for; raises `refusal` when there is one."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.refusal: Exception | None = None
        self.info = ConnectionInfo(
            connected_at_ms=1643136604673,
            last_active_at_ms=1643136607042,
            source_ip="192.0.2.1",
            user_agent=None,
        )

    def _called(self, *call: object) -> None:
        self.calls.append(call)
        if self.refusal is not None:
            raise self.refusal

    async def post(self, key: ConnectionKey, payload: bytes) -> None:
        self._called("post", key, payload)

    async def get(self, key: ConnectionKey) -> ConnectionInfo:
        self._called("get", key)
        return self.info

    async def delete(self, key: ConnectionKey) -> None:
        self._called("delete", key)


async def internal(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 299, "headers": []})
    await send({"type": "http.response.body", "body": b"internal"})


class Response(NamedTuple):
    """Header names in lower case: their casing is no part of the contract."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def told(self) -> tuple[int, str | None, bytes]:
        """Status, error type and body."""
        return self.status, self.headers.get("x-amzn-errortype"), self.body


class Bench:
    """The application with fakes around it."""

    def __init__(self, *, with_callbacks: bool = True) -> None:
        self.callbacks = FakeCallbacks()
        self.metrics = Metrics("abcde12345")
        self.bytes_received = 0
        self._lines = io.BytesIO()
        self._log = AccessLog(self._lines, pretty=False, clock=ManualClock())
        numbers = count()
        self._application = Management(
            api_id="abcde12345",
            stages={"dev", "prod"},
            callbacks=self.callbacks if with_callbacks else None,
            internal=internal,
            clock=ManualClock(),
            entropy=lambda size: bytes([next(numbers) % 256]) * size,
            metrics=self.metrics,
            access_log=self._log,
        )

    async def request(
        self,
        method: str,
        path: str,
        *chunks: bytes,
        headers: tuple[tuple[bytes, bytes], ...] = (),
        complete: bool = True,
    ) -> Response | None:
        """Send a request in these chunks.

        Args:
            complete: False for a sender who leaves after them.

        Returns:
            None when there was no response.
        """
        received = [
            {"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks or (b"",)
        ]
        if complete:
            received[-1]["more_body"] = False
        received.append({"type": "http.disconnect"})
        sent: list[Message] = []

        async def receive() -> Message:
            message = received.pop(0)
            self.bytes_received += len(message.get("body", b""))  # type: ignore[arg-type]
            return message

        async def send(message: Message) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": method,
            "raw_path": path.encode(),
            "headers": list(headers),
        }
        await self._application(scope, receive, send)
        if not sent:
            return None
        start, body = sent
        assert (start["type"], body["type"]) == ("http.response.start", "http.response.body")
        names = {name.decode().lower(): value.decode() for name, value in start["headers"]}
        assert len(names) == len(start["headers"])
        return Response(start["status"], names, body["body"])

    async def answer(self, method: str, path: str, *chunks: bytes, **options: Any) -> Response:
        response = await self.request(method, path, *chunks, **options)
        assert response is not None
        return response

    def lines(self) -> list[dict[str, Any]]:
        self._log.flush()
        return [json.loads(line) for line in self._lines.getvalue().splitlines()]


# --- success


async def test_post_sends_the_body_and_answers_an_empty_200() -> None:
    bench = Bench()

    response = await bench.answer("POST", PATH, b"hi")

    assert bench.callbacks.calls == [("post", KEY, b"hi")]
    assert response.told == (200, None, b"")
    assert response.headers.keys() == {"x-amzn-requestid", "x-amz-apigw-id", "content-length"}
    assert response.headers["content-length"] == "0"


@pytest.mark.parametrize("body", [b"", b"\x00", "é😀".encode(), b"x" * 131072])
async def test_any_text_up_to_128_kib_can_be_posted(body: bytes) -> None:
    bench = Bench()

    assert (await bench.answer("POST", PATH, body)).status == 200
    assert bench.callbacks.calls == [("post", KEY, body)]


async def test_a_body_may_come_in_pieces_cut_anywhere() -> None:
    bench = Bench()

    response = await bench.answer("POST", PATH, b"", b"a\xc3", b"\xa9", b"", b"b")

    assert response.status == 200
    assert bench.callbacks.calls == [("post", KEY, b"a\xc3\xa9b")]


async def test_get_tells_of_the_connection_in_the_spacing_of_api_gateway() -> None:
    bench = Bench()

    response = await bench.answer("GET", PATH)

    assert bench.callbacks.calls == [("get", KEY)]
    assert response.status == 200
    assert response.body == (
        b'{"connectedAt": "2022-01-25T18:50:04.673Z", '
        b'"identity": {"sourceIp": "192.0.2.1", "userAgent": null}, '
        b'"lastActiveAt": "2022-01-25T18:50:07.042Z"}'
    )
    assert response.headers["content-type"] == "application/json"
    assert response.headers["content-length"] == str(len(response.body))


async def test_get_tells_the_user_agent_in_json() -> None:
    bench = Bench()
    bench.callbacks.info = bench.callbacks.info._replace(user_agent='a"\\é')

    response = await bench.answer("GET", PATH)

    assert json.loads(response.body)["identity"] == {
        "sourceIp": "192.0.2.1",
        "userAgent": 'a"\\é',
    }


async def test_delete_answers_204_without_a_body_or_its_length() -> None:
    bench = Bench()

    response = await bench.answer("DELETE", PATH)

    assert bench.callbacks.calls == [("delete", KEY)]
    assert response.told == (204, None, b"")
    assert response.headers.keys() == {"x-amzn-requestid", "x-amz-apigw-id"}


@pytest.mark.parametrize(
    "path",
    [
        "/dev/@connections/AQIDEBESExQCFRY%3D",
        "/dev/%40connections/AQIDEBESExQCFRY=",
        "/dev/%40connections/AQIDEBESExQCFRY%3d",
        "/d%65v/@connections/AQIDEBESExQCFRY=",
    ],
)
async def test_paths_arrive_raw_or_percent_encoded(path: str) -> None:
    bench = Bench()

    assert (await bench.answer("GET", path)).status == 200
    assert bench.callbacks.calls == [("get", KEY)]


async def test_every_answer_has_ids_of_its_own() -> None:
    bench = Bench()

    answers = [
        await bench.answer("POST", PATH),
        await bench.answer("GET", PATH),
        await bench.answer("DELETE", PATH),
        await bench.answer("POST", "/dev/@connections/x"),
        await bench.answer("GET", "/"),
    ]

    uuids = {UUID(answer.headers["x-amzn-requestid"]) for answer in answers}
    assert len(uuids) == len(answers)
    assert all(uuid.version == 4 for uuid in uuids)
    assert all(owner_tag(answer.headers["x-amz-apigw-id"]) for answer in answers)


# --- errors


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("x", "x"),
        ("AQIDEBESExQCFRY", "AQIDEBESExQCFRY"),
        ("a%22%5C%0A", r"a\"\\\n"),
        ("%C3%A9", r"\u00e9"),
        ("%ff", r"\ufffd"),
        ("a%2Fb", "a/b"),
    ],
)
@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
async def test_a_malformed_id_is_400(method: str, path: str, named: str) -> None:
    bench = Bench()

    response = await bench.answer(method, f"/dev/@connections/{path}")

    assert response.told == (
        400,
        "BadRequestException",
        f'{{"message":"Invalid connectionId: {named}"}}'.encode(),
    )
    assert response.headers["content-type"] == "application/json"
    assert bench.callbacks.calls == []


@pytest.mark.parametrize("body", [b"\xff", b"\xed\xa0\x80", b"\xc3", b"a\x80"])
async def test_a_body_that_is_no_utf8_is_400(body: bytes) -> None:
    bench = Bench()

    assert (await bench.answer("POST", PATH, body)).told == (
        400,
        "BadRequestException",
        b'{"message":"Bad Request"}',
    )
    assert bench.callbacks.calls == []


@pytest.mark.parametrize(
    "path",
    [
        f"/@connections/{CONNECTION_ID}",
        f"/other/@connections/{CONNECTION_ID}",
        f"/DEV/@connections/{CONNECTION_ID}",
        "/",
        "",
        "/other",
        "/%ff",
    ],
)
@pytest.mark.parametrize("method", ["POST", "GET", "PUT"])
async def test_a_missing_or_unknown_stage_is_403(method: str, path: str) -> None:
    bench = Bench()

    assert (await bench.answer(method, path)).told == (
        403,
        "ForbiddenException",
        b'{"message":"Forbidden"}',
    )
    assert bench.callbacks.calls == []


@pytest.mark.parametrize(
    ("method", "path", "route"),
    [
        ("POST", "/dev/@connections", "@connections"),
        ("POST", "/dev/@connections/", "@connections/"),
        ("GET", "/dev/%40connections/", "%40connections/"),
        ("DELETE", f"{PATH}/", f"@connections/{CONNECTION_ID}/"),
        ("POST", f"/dev/prod/@connections/{CONNECTION_ID}", f"prod/@connections/{CONNECTION_ID}"),
        ("PUT", PATH, f"@connections/{CONNECTION_ID}"),
        ("HEAD", PATH, f"@connections/{CONNECTION_ID}"),
        ("OPTIONS", PATH, f"@connections/{CONNECTION_ID}"),
        ("PATCH", f"{PATH}?x=1", f"@connections/{CONNECTION_ID}"),
        ("POST", "/dev", ""),
        ("POST", "/dev/", ""),
        ("GET", "/dev/other", "other"),
        ("GET", '/dev/"', r"\""),
    ],
)
async def test_a_stray_path_or_method_is_404(method: str, path: str, route: str) -> None:
    response = await Bench().answer(method, path)

    message = f"No method found matching route {route} for http method {method}."
    assert response.told == (404, "NotFoundException", f'{{"message":"{message}"}}'.encode())


@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
async def test_gone_is_410_with_an_empty_body(method: str) -> None:
    bench = Bench()
    bench.callbacks.refusal = Gone()

    response = await bench.answer(method, PATH)

    assert response.told == (410, "GoneException", b"")
    assert response.headers["content-length"] == "0"
    assert "content-type" not in response.headers


async def test_an_id_of_another_stage_is_looked_for_in_the_stage_of_the_path() -> None:
    bench = Bench()

    await bench.answer("GET", f"/prod/@connections/{CONNECTION_ID}")

    assert bench.callbacks.calls == [("get", KEY._replace(stage="prod"))]


TOO_LARGE = (413, "PayloadTooLargeException", b'{"message":"Payload too large"}')


async def test_a_body_that_is_announced_too_large_is_413_unread() -> None:
    bench = Bench()

    response = await bench.answer(
        "POST", PATH, b"x" * 131073, headers=((b"content-length", b"131073"),)
    )

    assert response.told == TOO_LARGE
    assert bench.bytes_received == 0
    assert bench.callbacks.calls == []


async def test_a_body_that_becomes_too_large_is_413_as_soon_as_it_is() -> None:
    bench = Bench()

    response = await bench.answer("POST", PATH, b"x" * 131072, b"x", b"x" * 131072)

    assert response.told == TOO_LARGE
    assert bench.bytes_received == 131073
    assert bench.callbacks.calls == []


async def test_a_full_buffer_is_429() -> None:
    bench = Bench()
    bench.callbacks.refusal = LimitExceeded()

    assert (await bench.answer("POST", PATH, b"hi")).told == (
        429,
        "LimitExceededException",
        b'{"message":"Too Many Requests"}',
    )


@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
async def test_a_bug_is_500_in_the_form_of_the_other_errors(method: str) -> None:
    bench = Bench()
    bench.callbacks.refusal = LookupError("secret")

    response = await bench.answer(method, PATH)

    assert response.told == (
        500,
        "InternalServerErrorException",
        b'{"message":"Internal server error"}',
    )
    [line] = bench.lines()
    assert line["status"] == 500


async def test_a_sender_who_leaves_gets_no_answer_and_sends_nothing() -> None:
    bench = Bench()

    assert await bench.request("POST", PATH, b"half", complete=False) is None
    assert bench.callbacks.calls == []


@pytest.mark.parametrize("path", ["/dev", "/dev/", "/dev?x=1"])
async def test_get_of_a_stage_asks_for_an_upgrade(path: str) -> None:
    response = await Bench().answer("GET", path)

    assert response.told == (
        426,
        "UpgradeRequiredException",
        b'{"message":"Upgrade Required"}',
    )
    assert response.headers["upgrade"] == "websocket"


@pytest.mark.parametrize("path", ["/_wsgateway", "/_wsgateway/health", "/%5Fwsgateway/x"])
async def test_the_gateways_own_paths_are_served_elsewhere(path: str) -> None:
    bench = Bench()

    assert (await bench.answer("GET", path)).status == 299
    assert bench.lines() == []


async def test_where_callbacks_are_not_served_there_is_nothing() -> None:
    bench = Bench(with_callbacks=False)

    assert (await bench.answer("POST", PATH, b"hi")).status == 404
    assert (await bench.answer("GET", "/dev")).status == 426


# --- counters and lines


async def test_only_posts_that_were_delivered_are_messages() -> None:
    bench = Bench()
    for _ in range(3):
        await bench.answer("POST", PATH, b"hi")
    await bench.answer("GET", PATH)
    bench.callbacks.refusal = Gone()
    await bench.answer("POST", PATH, b"hi")

    counted = bench.metrics.route("dev", "@connections")
    assert counted.message_count == 3
    assert counted.client_error == 1


async def test_refused_requests_are_client_errors_of_their_stage_if_it_has_a_name() -> None:
    bench = Bench()
    await bench.answer("POST", "/dev/@connections/x")
    await bench.answer("PUT", PATH)
    await bench.answer("POST", "/other/@connections/x")
    bench.callbacks.refusal = LookupError("a bug")
    await bench.answer("POST", PATH)

    assert bench.metrics.route("dev", "@connections").client_error == 2
    assert bench.metrics.route("", "@connections").client_error == 1
    assert set(bench.metrics._routes) == {("dev", "@connections"), ("", "@connections")}


async def test_the_lines() -> None:
    bench = Bench()
    posted = await bench.answer("POST", PATH, b"hi")
    await bench.answer("POST", "/dev/@connections/x%0Ay")
    await bench.answer("PUT", "/other/path")

    lines = bench.lines()

    assert lines[0].pop("request_id") == posted.headers["x-amzn-requestid"]
    assert all(re.fullmatch(r"[0-9a-f-]{36}", line.pop("request_id")) for line in lines[1:])
    assert lines == [
        {
            "timestamp": "2024-02-19T07:11:42.789Z",
            "event": "callback",
            "stage": "dev",
            "connection_id": CONNECTION_ID,
            "route": "@connections",
            "method": "POST",
            "status": 200,
            "latency_ms": 0.0,
            "error": None,
        },
        {
            "timestamp": "2024-02-19T07:11:42.789Z",
            "event": "callback",
            "stage": "dev",
            "connection_id": "x\ny",
            "route": "@connections",
            "method": "POST",
            "status": 400,
            "latency_ms": 0.0,
            "error": "Invalid connectionId: x\ny",
        },
        {
            "timestamp": "2024-02-19T07:11:42.789Z",
            "event": "callback",
            "stage": "other",
            "connection_id": None,
            "route": "@connections",
            "method": "PUT",
            "status": 403,
            "latency_ms": 0.0,
            "error": "Forbidden",
        },
    ]


async def test_what_another_node_did_not_get_is_500_and_a_line_that_says_so() -> None:
    class Unanswered(DeliveryFailed):
        may_duplicate = True

    bench = Bench()
    bench.callbacks.refusal = Unanswered("nobody answered")

    with capture_logs() as logs:
        response = await bench.request("POST", PATH, b"hi")

    assert response is not None
    assert response.told == (
        500,
        "InternalServerErrorException",
        b'{"message":"Internal server error"}',
    )
    [line] = logs
    assert (line["event"], line["may_duplicate"]) == ("not delivered", True)
