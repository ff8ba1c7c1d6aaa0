"""The order of things, without sockets: verdicts, frames, counters and lines."""

from __future__ import annotations

import asyncio
import io
import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, strategies as st

from tests.fakes import FakeConnection, ManualClock
from tests.listener.raw import eventually
from wsgateway.api.definition import ApiDefinition
from wsgateway.api.deployment import compile_deployment
from wsgateway.cluster.registry import MemoryRegistry
from wsgateway.connection import ConnectionEntry, ConnectionKey, Handshake
from wsgateway.connection_id import orphan_request_id, owner_tag
from wsgateway.contracts import Accepted, IntegrationResponse, Rejected
from wsgateway.dispatch import Dispatcher
from wsgateway.errors import (
    FunctionFailed,
    Gone,
    HeadTooLarge,
    IntegrationFault,
    IntegrationTimeout,
    InvokeRefused,
    LimitExceeded,
    MalformedResponse,
    Unavailable,
)
from wsgateway.events import ConnectRequest, DisconnectRequest, MessageRequest
from wsgateway.stage import Stage
from wsgateway.telemetry.access_log import AccessLog
from wsgateway.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from wsgateway.events import RouteRequest

CONNECTION_ID = "AQIDEBESExQCFRY="
ENTRY = ConnectionEntry(
    key=ConnectionKey("abcde12345", "dev", CONNECTION_ID),
    connected_at_ms=1708326702789,
    domain_name="localhost:8080",
    source_ip="192.0.2.10",
    user_agent="client/1.0",
)
OK = IntegrationResponse(status_code=200, subprotocol=None, payload=None)

Answer = IntegrationResponse | Exception
ROUTES = ("$connect", "$disconnect", "$default", "join", "echo")


def reply(payload: bytes | None) -> IntegrationResponse:
    return IntegrationResponse(status_code=200, subprotocol=None, payload=payload)


def status(code: int, *, subprotocol: str | None = None) -> IntegrationResponse:
    return IntegrationResponse(status_code=code, subprotocol=subprotocol, payload=None)


def short(value: object) -> str:
    """Name an answer in a test's id."""
    if isinstance(value, IntegrationResponse):
        return f"{value.status_code} {value.subprotocol!r}"
    return "" if isinstance(value, bytes) else repr(value)


class FakeIntegration:
    """Answers each request with the same; remembers them."""

    def __init__(self, answer: Answer = OK) -> None:
        self.answer = answer
        self.requests: list[RouteRequest] = []
        self.meanwhile: Callable[[RouteRequest], Awaitable[None]] | None = None

    async def handle(self, request: RouteRequest) -> IntegrationResponse:
        self.requests.append(request)
        if self.meanwhile is not None:
            await self.meanwhile(request)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class Registry(MemoryRegistry):
    """A registry that may have lost contact.

    Attributes:
        takes: What it says before it is asked to.
        refuses: What it does then.
    """

    takes = True
    refuses = False

    @property
    def is_accepting(self) -> bool:
        return self.takes

    async def add(self, entry: ConnectionEntry) -> None:
        if self.refuses:
            raise Unavailable
        await super().add(entry)


class Bench:
    """A dispatcher with a stage `dev` whose routes are fakes; `echo` is two-way."""

    def __init__(self, *routes: str, answer: Answer = OK, disconnects: int = 10) -> None:
        self.clock = ManualClock()
        self.integrations = {key: FakeIntegration(answer) for key in routes or ROUTES}
        self.metrics = Metrics("abcde12345")
        self.registry = Registry()
        self.open: set[ConnectionKey] = set()
        self.connection = FakeConnection(ENTRY)
        self._lines = io.BytesIO()
        self._log = AccessLog(self._lines, pretty=False, clock=self.clock)
        self._count = 0
        definition = ApiDefinition.model_validate(
            {
                "routes": {
                    key: {"routeResponseSelectionExpression": "$default"} if key == "echo" else {}
                    for key in self.integrations
                }
            }
        )
        self.stage = Stage(
            "dev", {"table": "conns"}, compile_deployment(definition), self.integrations
        )
        self.dispatcher = Dispatcher(
            api_id="abcde12345",
            tag=b"\x01\x02\x03",
            stages={"dev": self.stage},
            open_here=self.open.__contains__,
            registry=self.registry,
            clock=self.clock,
            entropy=self.entropy,
            metrics=self.metrics,
            access_log=self._log,
            disconnect_concurrency_max=disconnects,
        )

    def entropy(self, size: int) -> bytes:
        self._count += 1
        return bytes([self._count % 256]) * size

    async def connect(
        self, target: str = "/dev", headers: tuple[tuple[str, str], ...] = ()
    ) -> Accepted | Rejected:
        return await self.dispatcher.connect(
            Handshake(
                target=target,
                headers=headers,
                host="localhost:8080",
                source_ip="192.0.2.10",
                scheme="http",
                port=8080,
                received_at_ms=self.clock.epoch_ms(),
            )
        )

    async def message(self, action: str) -> list[bytes]:
        """Dispatch a message and return what was sent because of it."""
        await self.dispatcher.message(self.connection, f'{{"action":"{action}"}}')
        return self.connection.sent

    def lines(self) -> list[dict[str, Any]]:
        self._log.flush()
        return [json.loads(line) for line in self._lines.getvalue().splitlines()]

    def counted(self, route: str, stage: str = "dev") -> dict[str, int]:
        """Return the counters of a route that are not 0."""
        metrics = self.metrics.route(stage, route)
        names = (
            "connect_count",
            "message_count",
            "integration_error",
            "client_error",
            "execution_error",
        )
        return {name: getattr(metrics, name) for name in names if getattr(metrics, name)}


def rejected(verdict: Accepted | Rejected) -> tuple[int, str | None, bytes]:
    """Return status, error type and body; the ids in the body made known."""
    assert isinstance(verdict, Rejected)
    assert owner_tag(verdict.request_id) is not None
    body = re.sub(rb'"connectionId":"[\w-]{15}="', b'"connectionId":"{conn}"', verdict.body)
    body = body.replace(verdict.request_id.encode(), b"{req}")
    return verdict.status, verdict.error_type, body


def error_frame(message: str) -> re.Pattern[bytes]:
    return re.compile(
        rf'{{"message": "{message}", "connectionId":"{CONNECTION_ID}", "requestId":"[\w-]{{15}}="}}'.encode()
    )


# --- connect


@pytest.mark.parametrize("code", [200, 201, 204, 299])
async def test_any_2xx_of_connect_accepts(code: int) -> None:
    bench = Bench(answer=status(code, subprotocol="chat"))

    verdict = await bench.connect()

    assert isinstance(verdict, Accepted)
    assert verdict.subprotocol == "chat"


async def test_an_accepted_connection_is_recorded_with_all_its_disconnect_needs() -> None:
    bench = Bench()

    verdict = await bench.connect(headers=(("user-agent", "a"), ("User-Agent", "client/1.0")))

    assert isinstance(verdict, Accepted)
    entry = verdict.entry
    assert entry == ConnectionEntry(
        key=ConnectionKey("abcde12345", "dev", entry.key.connection_id),
        connected_at_ms=1708326702789,
        domain_name="localhost:8080",
        source_ip="192.0.2.10",
        user_agent="client/1.0",
    )
    assert owner_tag(entry.key.connection_id) == b"\x01\x02\x03"
    assert await bench.registry.claim(entry.key, "", 1000, "")


@pytest.mark.parametrize("code", [300, 301, 304, 400, 401, 403, 500, 501, 599])
async def test_any_other_status_of_connect_is_the_handshakes(code: int) -> None:
    bench = Bench(answer=status(code))

    assert rejected(await bench.connect()) == (code, None, b"")


INTERNAL_ERROR = (
    b'{"message": "Internal server error", "connectionId":"{conn}", "requestId":"{req}"}'
)


TIMED_OUT = (
    b'{"message": "Endpoint request timed out", "connectionId":"{conn}", "requestId":"{req}"}'
)


@pytest.mark.parametrize(
    ("answer", "code", "body"),
    [
        (FunctionFailed("x"), 502, INTERNAL_ERROR),
        (MalformedResponse("x"), 502, INTERNAL_ERROR),
        (InvokeRefused("x"), 500, INTERNAL_ERROR),
        (IntegrationTimeout("x"), 504, TIMED_OUT),
        (LookupError("a bug"), 500, INTERNAL_ERROR),
        (status(-1), 502, INTERNAL_ERROR),
        (status(0), 502, INTERNAL_ERROR),
        (status(99), 502, INTERNAL_ERROR),
        (status(101), 502, INTERNAL_ERROR),
        (status(199), 502, INTERNAL_ERROR),
        (status(600), 502, INTERNAL_ERROR),
        (status(999_999_999), 502, INTERNAL_ERROR),
        (status(200, subprotocol="a\r\nSet-Cookie: b"), 502, INTERNAL_ERROR),
        (status(200, subprotocol="a\x00"), 502, INTERNAL_ERROR),
        (status(200, subprotocol="é"), 502, INTERNAL_ERROR),
    ],
    ids=short,
)
async def test_a_fault_of_connect_is_an_error_of_the_gateway(
    answer: Answer, code: int, body: bytes
) -> None:
    bench = Bench(answer=answer)

    verdict = await bench.connect()

    assert rejected(verdict) == (code, "InternalServerErrorException", body)
    assert bench.counted("$connect") == {"connect_count": 1, "execution_error": 1}
    [line] = bench.lines()
    assert line["status"] == code
    assert line["error"]


@pytest.mark.parametrize("subprotocol", [None, "", "chat", "a, b", "a b"])
async def test_the_subprotocol_of_connect_is_passed_on_as_it_is(subprotocol: str | None) -> None:
    verdict = await Bench(answer=status(200, subprotocol=subprotocol)).connect()

    assert isinstance(verdict, Accepted)
    assert verdict.subprotocol == subprotocol


async def test_without_a_connect_route_everybody_is_let_in() -> None:
    bench = Bench("$default")

    assert isinstance(await bench.connect(), Accepted)
    assert bench.counted("$connect") == {}
    [line] = bench.lines()
    assert (line["status"], line["integration_latency_ms"]) == (101, None)


@pytest.mark.parametrize("target", ["/", "/prod", "/dev/x", "/dev//", "/?token=secret"])
async def test_another_path_than_a_stage_is_forbidden_before_an_api_is_known(target: str) -> None:
    bench = Bench()

    verdict = await bench.connect(target)

    assert rejected(verdict) == (403, "ForbiddenException", b'{"message":"Forbidden"}')
    assert bench.integrations["$connect"].requests == []
    assert bench.counted("$connect", stage="") == {"client_error": 1}
    [line] = bench.lines()
    assert (line["event"], line["status"]) == ("connect", 403)
    assert line["path"] == target.partition("?")[0]
    assert "secret" not in json.dumps(line)


async def test_an_id_that_is_taken_is_not_given_again() -> None:
    bench = Bench()
    first = await bench.connect()
    assert isinstance(first, Accepted)
    bench.open.add(first.entry.key)
    bench._count = 0

    second = await bench.connect()

    assert isinstance(second, Accepted)
    assert second.entry.key != first.entry.key


async def test_the_request_of_connect() -> None:
    bench = Bench()
    meanwhile: list[bool] = []

    async def not_yet_recorded(request: RouteRequest) -> None:
        meanwhile.append(await bench.registry.claim(request.entry.key, "", 1000, ""))

    bench.integrations["$connect"].meanwhile = not_yet_recorded
    await bench.connect("/dev/?room=a")

    [request] = bench.integrations["$connect"].requests
    assert isinstance(request, ConnectRequest)
    assert request.route_key == "$connect"
    assert request.requested_at_ms == 1708326702789
    assert request.stage_variables == {"table": "conns"}
    assert request.handshake.target == "/dev/?room=a"
    assert re.fullmatch(r"Root=1-65d2ff2e-[0-9a-f]{24}", request.trace_id)
    assert meanwhile == [False]


# --- message


@pytest.mark.parametrize("payload", [None, b"hi", b"\xff"])
async def test_a_one_way_route_sends_nothing(payload: bytes | None) -> None:
    assert await Bench(answer=reply(payload)).message("join") == []


@pytest.mark.parametrize(
    ("payload", "sent"),
    [
        (None, b""),
        (b"", b""),
        (b"hi", b"hi"),
        ("é😀".encode(), "é😀".encode()),
        (b"x" * 131072, b"x" * 131072),
    ],
    ids=["none", "empty", "text", "unicode", "128 KiB"],
)
async def test_a_two_way_route_sends_the_payload(payload: bytes | None, sent: bytes) -> None:
    assert await Bench(answer=reply(payload)).message("echo") == [sent]


@pytest.mark.parametrize("code", [-1, 0, 99, 301, 404, 500, 600])
async def test_the_status_of_a_message_changes_nothing_for_the_client(code: int) -> None:
    answer = IntegrationResponse(status_code=code, subprotocol="a\r\n", payload=b"hi")

    assert await Bench(answer=answer).message("echo") == [b"hi"]
    assert await Bench(answer=answer).message("join") == []


@pytest.mark.parametrize("route", ["join", "echo"])
@pytest.mark.parametrize(
    ("answer", "message", "code"),
    [
        (FunctionFailed("x"), "Internal server error", 502),
        (MalformedResponse("x"), "Internal server error", 502),
        (InvokeRefused("x"), "Internal server error", 500),
        (IntegrationTimeout("x"), "Endpoint request timed out", 504),
        (LookupError("a bug"), "Internal server error", 500),
    ],
    ids=short,
)
async def test_a_fault_is_an_error_frame_on_every_route(
    route: str, answer: Answer, message: str, code: int
) -> None:
    bench = Bench(answer=answer)

    [frame] = await bench.message(route)

    assert error_frame(message).fullmatch(frame)
    assert bench.connection.closed is None
    [line] = bench.lines()
    assert (line["route"], line["status"]) == (route, code)
    assert line["error"]
    assert line["request_id"].encode() in frame


@pytest.mark.parametrize(
    "payload", [b"x" * 131073, b"\xff", b"\xed\xa0\x80"], ids=["large", "no UTF-8", "surrogate"]
)
async def test_a_reply_that_cannot_be_sent_is_an_error_frame(payload: bytes) -> None:
    bench = Bench(answer=reply(payload))

    [frame] = await bench.message("echo")

    assert error_frame("Internal server error").fullmatch(frame)
    assert bench.counted("echo") == {"message_count": 2, "execution_error": 1}
    [line] = bench.lines()
    assert line["status"] >= 500
    assert line["error"]


async def test_no_route_is_a_forbidden_frame() -> None:
    bench = Bench("join")

    [frame] = await bench.message("leave")

    assert error_frame("Forbidden").fullmatch(frame)
    assert bench.counted("$default") == {"message_count": 2, "client_error": 1}
    [line] = bench.lines()
    assert (line["route"], line["status"]) == (None, 403)
    assert line["integration_latency_ms"] is None


async def test_the_request_of_a_message() -> None:
    bench = Bench()
    bench.clock.advance(2)

    await bench.message("join")

    [request] = bench.integrations["join"].requests
    assert isinstance(request, MessageRequest)
    assert request.entry is ENTRY
    assert request.route_key == "join"
    assert request.body == '{"action":"join"}'
    assert request.requested_at_ms == 1708326704789
    assert request.stage_variables == {"table": "conns"}
    assert owner_tag(request.request_id) is not None
    assert request.message_id[12:] == CONNECTION_ID[12:]
    assert request.message_id != request.request_id


async def test_no_request_is_older_than_its_connection() -> None:
    """Wall clocks are set back now and then."""
    bench = Bench()
    await bench.registry.add(ENTRY)
    bench.clock.now_ms -= 60_000

    await bench.message("join")
    await bench.dispatcher.disconnect(ENTRY, 1000, "")

    [message] = bench.integrations["join"].requests
    [disconnect] = bench.integrations["$disconnect"].requests
    assert message.requested_at_ms == ENTRY.connected_at_ms
    assert disconnect.requested_at_ms == ENTRY.connected_at_ms
    assert bench.lines()[1]["connected_ms"] == 0


@pytest.mark.parametrize("refusal", [Gone(), LimitExceeded()], ids=repr)
@pytest.mark.parametrize("answer", [reply(b"hi"), FunctionFailed("x")], ids=short)
async def test_what_a_client_cannot_be_sent_is_dropped_and_counted(
    refusal: Gone | LimitExceeded, answer: Answer
) -> None:
    bench = Bench(answer=answer)
    bench.connection.refusal = refusal

    assert await bench.message("echo") == []

    assert bench.metrics.replies_dropped == {refusal.error_type: 1}
    assert bench.counted("echo")["message_count"] == 1


@pytest.mark.slow
@given(
    st.text(st.characters(codec="utf-8"))
    | st.from_regex(r'\{ ?"?action"? ?: ?"?(join|echo|\$connect|.)"? ?[,}]?.*', fullmatch=True)
)
def test_every_text_is_a_routed_message_or_an_error_frame(text: str) -> None:
    async def dispatch() -> tuple[list[RouteRequest], list[bytes]]:
        bench = Bench("$connect", "$disconnect", "join", "echo")
        await bench.dispatcher.message(bench.connection, text)
        return [
            request
            for integration in bench.integrations.values()
            for request in integration.requests
        ], bench.connection.sent

    requests, sent = asyncio.run(dispatch())

    if requests:
        [request] = requests
        assert isinstance(request, MessageRequest)
        assert request.body == text
        assert request.route_key in {"join", "echo"}
        assert sent == ([b""] if request.route_key == "echo" else [])
    else:
        [frame] = sent
        assert error_frame("Forbidden").fullmatch(frame)


async def test_messages_wait_for_nobody() -> None:
    bench = Bench(answer=reply(b"late"))
    bench.integrations["$default"].answer = reply(None)
    release = asyncio.Event()

    async def wait(request: RouteRequest) -> None:
        await release.wait()

    bench.integrations["echo"].meanwhile = wait
    late = asyncio.create_task(bench.message("echo"))
    await eventually(lambda: bench.integrations["echo"].requests)
    await bench.message("other")
    assert [line["route"] for line in bench.lines()] == ["$default"]

    release.set()
    assert await late == [b"late"]


async def test_the_next_message_is_served_by_the_deployment_of_its_time() -> None:
    bench = Bench()
    later = FakeIntegration(reply(b"new"))
    definition = {"routes": {"join": {"routeResponseSelectionExpression": "$default"}}}
    deployment = compile_deployment(ApiDefinition.model_validate(definition))
    await bench.message("join")

    bench.stage.deploy({"table": "other"}, deployment, {"join": later})

    assert await bench.message("join") == [b"new"]
    assert later.requests[0].stage_variables == {"table": "other"}
    assert len(bench.integrations["join"].requests) == 1


# --- disconnect


async def test_disconnect_runs_once_for_a_recorded_connection() -> None:
    bench = Bench()
    await bench.registry.add(ENTRY)
    bench.clock.advance(2)

    await bench.dispatcher.disconnect(ENTRY, 1005, "Client-side close frame status not set")
    await bench.dispatcher.disconnect(ENTRY, 1006, "")

    [request] = bench.integrations["$disconnect"].requests
    assert isinstance(request, DisconnectRequest)
    assert (request.status_code, request.reason) == (
        1005,
        "Client-side close frame status not set",
    )
    assert request.requested_at_ms == 1708326704789
    [line] = bench.lines()
    assert line["connected_ms"] == 2000


@pytest.mark.parametrize(
    "answer", [status(500), FunctionFailed("x"), LookupError("a bug")], ids=short
)
async def test_what_disconnect_answers_is_ignored(answer: Answer) -> None:
    bench = Bench(answer=answer)
    await bench.registry.add(ENTRY)

    await bench.dispatcher.disconnect(ENTRY, 1000, "")

    [line] = bench.lines()
    assert (line["event"], line["status"]) == ("disconnect", 1000)


async def test_without_a_disconnect_route_only_the_line_is_written() -> None:
    bench = Bench("join")
    await bench.registry.add(ENTRY)

    await bench.dispatcher.disconnect(ENTRY, 1000, "")

    [line] = bench.lines()
    assert (line["status"], line["integration_latency_ms"]) == (1000, None)


async def test_so_many_disconnects_run_at_once_and_no_more() -> None:
    bench = Bench(disconnects=2)
    release = asyncio.Event()

    async def wait(request: RouteRequest) -> None:
        await release.wait()

    integration = bench.integrations["$disconnect"]
    integration.meanwhile = wait
    entries = [
        ConnectionEntry(ConnectionKey("abcde12345", "dev", name), 0, "", "", None)
        for name in "abcde"
    ]
    for entry in entries:
        await bench.registry.add(entry)
    async with asyncio.TaskGroup() as group:
        for entry in entries:
            group.create_task(bench.dispatcher.disconnect(entry, 1000, ""))
        await eventually(lambda: len(integration.requests) == 2)
        assert len(bench.lines()) == 0
        release.set()

    assert len(integration.requests) == 5
    assert len(bench.lines()) == 5


# --- counters and lines


async def test_answers_of_4xx_and_5xx_are_integration_errors() -> None:
    for code, counted in ((399, 0), (400, 1), (404, 1), (500, 1), (599, 1)):
        bench = Bench(answer=status(code))
        await bench.message("join")
        assert bench.counted("join").get("integration_error", 0) == counted
        assert "execution_error" not in bench.counted("join")


async def test_messages_are_counted_in_both_directions() -> None:
    bench = Bench(answer=reply(b"hi"))
    await bench.message("join")
    assert bench.counted("join") == {"message_count": 1}

    await bench.message("echo")
    assert bench.counted("echo") == {"message_count": 2}

    bench.integrations["join"].answer = FunctionFailed("x")
    await bench.message("join")
    assert bench.counted("join") == {"message_count": 3, "execution_error": 1}


async def test_latencies_are_measured_in_milliseconds() -> None:
    bench = Bench()

    async def take_a_while(request: RouteRequest) -> None:
        bench.clock.advance(0.25)

    for integration in bench.integrations.values():
        integration.meanwhile = take_a_while
    await bench.connect()
    await bench.message("join")
    await bench.registry.add(ENTRY)
    await bench.dispatcher.disconnect(ENTRY, 1000, "")

    assert [line["integration_latency_ms"] for line in bench.lines()] == [250, 250, 250]
    for route in ("$connect", "join", "$disconnect"):
        buckets, sum_ms = bench.metrics.route("dev", route).latency_histogram()
        assert sum_ms == 250
        assert dict(buckets)["100.0"] == 0
        assert dict(buckets)["250.0"] == 1


async def test_the_lines() -> None:
    bench = Bench(answer=reply(b"hi"))
    verdict = await bench.connect()
    assert isinstance(verdict, Accepted)
    connection_id = verdict.entry.key.connection_id
    bench.connection = FakeConnection(verdict.entry)
    await bench.message("echo")
    await bench.dispatcher.disconnect(verdict.entry, 4000, "bye")
    bench.dispatcher.refused(HeadTooLarge())

    lines = bench.lines()

    assert [owner_tag(line.pop("request_id")) is not None for line in lines[:3]] == [True] * 3
    assert lines == [
        {
            "timestamp": "2024-02-19T07:11:42.789Z",
            "event": "connect",
            "stage": "dev",
            "connection_id": connection_id,
            "route": "$connect",
            "status": 101,
            "source_ip": "192.0.2.10",
            "integration_latency_ms": 0.0,
            "latency_ms": 0.0,
            "error": None,
        },
        {
            "timestamp": "2024-02-19T07:11:42.789Z",
            "event": "message",
            "stage": "dev",
            "connection_id": connection_id,
            "route": "echo",
            "status": 200,
            "integration_latency_ms": 0.0,
            "latency_ms": 0.0,
            "error": None,
        },
        {
            "timestamp": "2024-02-19T07:11:42.789Z",
            "event": "disconnect",
            "stage": "dev",
            "connection_id": connection_id,
            "route": "$disconnect",
            "status": 4000,
            "reason": "bye",
            "integration_latency_ms": 0.0,
            "connected_ms": 0,
            "error": None,
        },
        {
            "timestamp": "2024-02-19T07:11:42.789Z",
            "event": "refused",
            "status": 431,
            "error": "RequestHeaderFieldsTooLargeException",
        },
    ]


async def test_a_long_fault_is_told_in_short() -> None:
    bench = Bench(answer=IntegrationFault("x" * 1_000_000))

    await bench.message("join")

    [line] = bench.lines()
    assert line["error"] == "x" * 1024


# --- among other nodes


async def test_a_disconnect_is_recorded_before_it_is_delivered_and_forgotten_after() -> None:
    bench = Bench()
    await bench.registry.add(ENTRY)
    meanwhile: list[int] = []

    async def look(_: RouteRequest) -> None:
        meanwhile.append(len(bench.registry))

    bench.integrations["$disconnect"].meanwhile = look
    await bench.dispatcher.disconnect(ENTRY, 1000, "")

    assert meanwhile == [1]
    assert len(bench.registry) == 0


async def test_the_disconnect_of_a_gone_nodes_connection_has_the_request_id_it_was_given() -> None:
    bench = Bench()

    for _ in range(2):
        await bench.dispatcher.orphaned(ENTRY, "EBESExQVFhcFGBk=", 1006, "")

    requests = bench.integrations["$disconnect"].requests
    assert [request.request_id for request in requests] == ["EBESExQVFhcFGBk="] * 2
    assert [line["request_id"] for line in bench.lines()] == ["EBESExQVFhcFGBk="] * 2


async def test_the_stage_of_a_gone_nodes_connection_may_be_unknown_here() -> None:
    bench = Bench()
    entry = replace(ENTRY, key=ENTRY.key._replace(stage="other"))

    await bench.dispatcher.orphaned(entry, "EBESExQVFhcFGBk=", 1006, "")

    assert [line["stage"] for line in bench.lines()] == ["other"]


UNAVAILABLE = (503, "ServiceUnavailableException")


async def test_without_a_tag_nobody_is_let_in() -> None:
    bench = Bench()
    bench.dispatcher.tag = None

    verdict = await bench.connect()

    assert isinstance(verdict, Rejected)
    assert (verdict.status, verdict.error_type) == UNAVAILABLE
    assert bench.integrations["$connect"].requests == []


async def test_a_registry_that_takes_nobody_is_asked_before_connect_runs() -> None:
    bench = Bench()
    bench.registry.takes = False

    verdict = await bench.connect()

    assert isinstance(verdict, Rejected)
    assert (verdict.status, verdict.error_type) == UNAVAILABLE
    assert bench.integrations["$connect"].requests == []


async def test_a_connection_that_cannot_be_recorded_is_refused_and_its_end_is_told() -> None:
    bench = Bench()
    bench.registry.refuses = True

    verdict = await bench.connect()

    assert isinstance(verdict, Rejected)
    assert (verdict.status, verdict.error_type) == UNAVAILABLE
    assert len(bench.integrations["$connect"].requests) == 1
    [request] = bench.integrations["$disconnect"].requests
    assert isinstance(request, DisconnectRequest)
    assert (request.status_code, request.reason) == (1006, "")
    # Others may deliver it too, if this node is given up just now.
    assert request.request_id == orphan_request_id(request.entry.key.connection_id)
