"""What an operator sees of real traffic: a line for each thing, counters with AWS's names."""

from __future__ import annotations

import asyncio
import io
import json
import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs
from websockets.exceptions import InvalidStatus

from tests.harness import echo, serving
from tests.listener.raw import close_frame, eventually, exchange, frame, raw_client, request

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from tests.harness import Event, Running

pytestmark = pytest.mark.asyncio(loop_scope="module")

ID = "[A-Za-z0-9_-]{15}="
UNKNOWN = "AQIDBAUGBwgCCQo="


async def accept(event: Event, context: Any) -> Any:
    return {"statusCode": 200}


async def fail(event: Event, context: Any) -> Any:
    raise ValueError("no")


class Observed:
    """A gateway and what it wrote."""

    def __init__(self, running: Running, stream: io.BytesIO) -> None:
        self.running = running
        self._stream = stream

    @property
    def text(self) -> str:
        self.running.gateway._access_log.flush()
        return self._stream.getvalue().decode()

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines()]

    async def settled(self) -> None:
        """Wait until nothing is under way."""
        shared = self.running.shared
        await eventually(lambda: not shared.tasks and not shared.websockets_open)

    async def metrics(self) -> dict[tuple[str, str], float]:
        """Return the samples of the page that are not 0, by name and route."""
        response = await exchange(
            self.running.port, request(b"GET /_wsgateway/metrics", b"Host: gateway")
        )
        assert response.status == 200
        assert (response.header("Content-Type") or "").startswith("text/plain")
        return {
            (sample.name, sample.labels.get("Route", sample.labels.get("reason", ""))): sample.value
            for family in text_string_to_metric_families(response.body.decode())
            for sample in family.samples
            if sample.value and "le" not in sample.labels
        }

    async def callback(self, method: str, connection_id: str, body: bytes = b"") -> int:
        path = f"/dev/@connections/{connection_id}"
        response = await exchange(
            self.running.port,
            request(
                f"{method} {path}".encode(),
                b"Host: gateway",
                b"Content-Length: %d" % len(body),
                body=body,
            ),
        )
        return response.status


@asynccontextmanager
async def observing(
    handlers: Mapping[str, Callable[[Event, Any], Any]], *, pretty: bool = False, **options: Any
) -> AsyncIterator[Observed]:
    stream = io.BytesIO()
    with capture_logs():
        async with serving(handlers, access_log=stream, pretty=pretty, **options) as running:
            yield Observed(running, stream)


async def test_a_line_for_each_connect_message_callback_and_disconnect() -> None:
    handlers = {"$connect": accept, "$disconnect": accept, "echo": echo}
    async with observing(handlers, two_way=("echo",)) as observed:
        async with observed.running.connect() as client:
            await client.send('{"action":"echo"}')
            await client.recv()
            connection_id = observed.lines[0]["connection_id"]
            assert await observed.callback("POST", connection_id, b"hi") == 200
            await client.close(4000, "bye")
        await observed.settled()
        connect, message, callback, disconnect = observed.lines

    for line in (connect, message, callback, disconnect):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("timestamp"))
        assert re.fullmatch(f"{ID}|[0-9a-f-]{{36}}", line.pop("request_id"))
        for latency in ("latency_ms", "integration_latency_ms", "connected_ms"):
            if latency in line:
                assert 0 <= line.pop(latency) < 10_000
    common = {"stage": "dev", "connection_id": connection_id, "error": None}
    assert connect == {
        "event": "connect",
        "route": "$connect",
        "status": 101,
        "source_ip": "127.0.0.1",
        **common,
    }
    assert message == {"event": "message", "route": "echo", "status": 200, **common}
    assert callback == {
        "event": "callback",
        "route": "@connections",
        "method": "POST",
        "status": 200,
        **common,
    }
    assert disconnect == {
        "event": "disconnect",
        "route": "$disconnect",
        "status": 4000,
        "reason": "bye",
        **common,
    }


async def test_lines_name_the_ids_that_events_and_frames_have() -> None:
    events: list[Event] = []

    async def handler(event: Event, context: Any) -> Any:
        events.append(event)

    routes = ("$disconnect", "join")
    async with observing(dict.fromkeys(routes, handler)) as observed:
        async with observed.running.connect() as client:
            await client.send('{"action":"join"}')
            malformed = json.loads(await client.recv())
            await client.send('{"action":"leave"}')
            forbidden = json.loads(await client.recv())
        await observed.settled()
        _, first, second, last = observed.lines

    contexts = [event["requestContext"] for event in events]
    assert first["request_id"] == malformed["requestId"] == contexts[0]["requestId"]
    assert second["request_id"] == forbidden["requestId"]
    assert last["request_id"] == contexts[1]["requestId"]
    connection_id = contexts[0]["connectionId"]
    assert {line["connection_id"] for line in (first, second, last)} == {connection_id}
    assert (second["route"], second["status"]) == (None, 403)


async def test_lines_tell_statuses_and_errors() -> None:
    async def status(event: Event, context: Any) -> Any:
        return {"statusCode": 404}

    handlers = {"$connect": accept, "fail": fail, "status": status}
    async with observing(handlers) as observed:
        with pytest.raises(InvalidStatus):
            async with observed.running.connect("none", "?token=secret"):
                pass
        async with observed.running.connect() as client:
            await client.send('{"action":"fail"}')
            await client.recv()
            await client.send('{"action":"status"}')
            await eventually(lambda: len(observed.lines) == 4)
        assert await observed.callback("POST", "x") == 400
        assert await observed.callback("POST", UNKNOWN) == 410
        await observed.settled()
        told = [(line["event"], line["status"], line.get("error")) for line in observed.lines]

        assert "secret" not in observed.text
    assert sorted(told, key=str) == [
        ("callback", 400, "Invalid connectionId: x"),
        ("callback", 410, "GoneException"),
        ("connect", 101, None),
        ("connect", 403, None),
        ("disconnect", 1000, None),
        ("message", 404, None),
        ("message", 502, "fail raised ValueError('no')"),
    ]


@pytest.mark.parametrize("pretty", [False, True], ids=["json", "pretty"])
async def test_no_handler_can_break_the_log(*, pretty: bool) -> None:
    async def surrogate(event: Event, context: Any) -> Any:
        return {"statusCode": 200, "\ud800": 1}

    async def huge(event: Event, context: Any) -> Any:
        raise ValueError("x" * 1_000_000)

    async def number(event: Event, context: Any) -> Any:
        return {"statusCode": 1 << 20_000}

    handlers = {"a": surrogate, "b": huge, "c": number, "echo": echo}
    async with observing(handlers, pretty=pretty) as observed:
        async with observed.running.connect() as client:
            for action in "abc":
                await client.send(json.dumps({"action": action}))
                await client.recv()
            await client.send('{"action":"echo"}')
        await observed.settled()
        text = observed.text

        rows = text.splitlines()
        assert len(rows) == 6
        assert max(map(len, rows)) < 3_000
        if not pretty:
            routes = [line.get("route") for line in observed.lines]
            assert routes == ["$connect", "a", "b", "c", "echo", "$disconnect"]


async def test_a_pretty_line_is_for_a_person_and_no_client_can_steer_its_terminal() -> None:
    reason = "\x1b[2J\n\x9b\u202eé"
    async with observing({"echo": echo}, pretty=True) as observed:
        async with raw_client(observed.running.port) as client:
            await client.open_websocket()
            await client.send(frame(b'{"action":"echo"}'))
            await client.send(close_frame(4000, reason))
            await client.ended()
        await observed.settled()
        text = observed.text

    rows = re.sub(r"\x1b\[\d*m", "", text).splitlines()
    assert [row.split()[3] for row in rows] == ["connect", "message", "disconnect"]
    assert "status=101" in rows[0]
    assert "route=echo" in rows[1]
    assert r"reason=\x1b[2J\n\x9b\u202eé" in rows[2]
    assert not re.search("[\x00-\x1f\x7f-\x9f\u202e]", "".join(rows))


# --- metrics


async def test_metrics_have_the_dimensions_of_cloudwatch() -> None:
    async with observing({"$connect": accept}, api_id="abcde12345") as observed:
        async with observed.running.connect():
            response = await exchange(
                observed.running.port, request(b"GET /_wsgateway/metrics", b"Host: gateway")
            )
        text = response.body.decode()

    assert (
        'ConnectCount_total{ApiId="abcde12345",Route="$connect",Stage="dev"} 1.0\n' in text
        or 'ConnectCount_total{ApiId="abcde12345",Stage="dev",Route="$connect"} 1.0\n' in text
    )
    assert "wsgateway_connections 1.0\n" in text
    for name in (
        "ConnectCount",
        "MessageCount",
        "IntegrationError",
        "ClientError",
        "ExecutionError",
    ):
        assert f"# TYPE {name}_total counter\n" in text
    assert "# TYPE IntegrationLatency histogram\n" in text


async def test_connect_count_counts_handshakes_that_went_to_connect() -> None:
    answers = [{"statusCode": 200}, {"statusCode": 401}, None]

    async def connect(event: Event, context: Any) -> Any:
        return answers.pop(0)

    async with observing({"$connect": connect}) as observed:
        async with observed.running.connect():
            pass
        for stage in ("dev", "dev", "none"):
            with pytest.raises(InvalidStatus):
                async with observed.running.connect(stage):
                    pass
        await observed.settled()
        metrics = await observed.metrics()

    assert metrics[("ConnectCount_total", "$connect")] == 3
    assert metrics[("IntegrationError_total", "$connect")] == 1
    assert metrics[("ExecutionError_total", "$connect")] == 1
    assert metrics[("IntegrationLatency_count", "$connect")] == 3
    # The unknown stage was refused before there was an integration.
    assert metrics[("ClientError_total", "$connect")] == 1


async def test_without_a_connect_route_no_handshake_is_counted() -> None:
    async with observing({"echo": echo}) as observed:
        async with observed.running.connect():
            pass
        await observed.settled()

        assert ("ConnectCount_total", "$connect") not in await observed.metrics()


async def test_message_count_counts_messages_in_both_directions() -> None:
    handlers = {"one": echo, "two": echo, "$connect": accept}
    async with observing(handlers, two_way=("two",)) as observed:
        async with observed.running.connect() as client:
            await client.send('{"action":"one"}')
            await client.send('{"action":"two"}')
            await client.recv()
            await client.send('{"action":"none"}')
            await client.recv()
            connection_id = observed.lines[0]["connection_id"]
            for _ in range(3):
                assert await observed.callback("POST", connection_id, b"hi") == 200
            assert await observed.callback("GET", connection_id) == 200
            await observed.callback("POST", UNKNOWN, b"hi")
        await observed.settled()
        metrics = await observed.metrics()

    assert metrics[("MessageCount_total", "one")] == 1
    assert metrics[("MessageCount_total", "two")] == 2
    # A message that has no route, and its error frame.
    assert metrics[("MessageCount_total", "$default")] == 2
    assert metrics[("ClientError_total", "$default")] == 1
    assert metrics[("MessageCount_total", "@connections")] == 3
    assert metrics[("ClientError_total", "@connections")] == 1


async def test_errors_are_counted_by_whose_they_are() -> None:
    async def status(event: Event, context: Any) -> Any:
        return {"statusCode": 500}

    async def malformed(event: Event, context: Any) -> Any:
        return None

    async def wait(event: Event, context: Any) -> Any:
        await asyncio.Event().wait()

    handlers = {"status": status, "fail": fail, "malformed": malformed, "wait": wait}
    async with observing(handlers, integration_timeout_ms=50) as observed:
        async with observed.running.connect() as client:
            await client.send('{"action":"status"}')
            for action in ("fail", "malformed", "wait"):
                await client.send(json.dumps({"action": action}))
                await client.recv()
        await observed.settled()
        metrics = await observed.metrics()

    assert metrics[("IntegrationError_total", "status")] == 1
    assert ("ExecutionError_total", "status") not in metrics
    for route in ("fail", "malformed", "wait"):
        assert metrics[("ExecutionError_total", route)] == 1
        assert ("IntegrationError_total", route) not in metrics
        # The message, and its error frame.
        assert metrics[("MessageCount_total", route)] == 2
    # The event loop's timers count from the start of a turn, in whole milliseconds.
    assert metrics[("IntegrationLatency_sum", "wait")] > 48


async def test_clients_cannot_make_series() -> None:
    async with observing({"$connect": accept, "join": echo}) as observed:
        for number in range(5):
            with pytest.raises(InvalidStatus):
                async with observed.running.connect(f"stage{number}"):
                    pass
            await exchange(
                observed.running.port,
                request(f"POST /stage{number}/@connections/x".encode(), b"Host: gateway"),
            )
        async with observed.running.connect() as client:
            for number in range(5):
                await client.send(json.dumps({"action": f"action{number}"}))
                await client.recv()
        await observed.settled()
        routes = {route for _, route in await observed.metrics()}

    assert routes <= {"", "$connect", "$default", "$disconnect", "@connections", "join"}


async def test_metrics_are_on_the_management_port_only_when_there_is_one() -> None:
    async with observing({"echo": echo}, management_port=0) as observed:
        asked = request(b"GET /_wsgateway/metrics", b"Host: gateway")
        assert (await exchange(observed.running.port, asked)).status == 404

        private = observed.running.gateway.callback_urls[0]
        port = int(private.split(":")[2].partition("/")[0])
        assert (await exchange(port, asked)).status == 200
