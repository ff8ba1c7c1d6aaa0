"""Routes with declared integrations, through a whole gateway: what a client can see of them."""

from __future__ import annotations

import io
import json
import re
from base64 import b64encode
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs
from websockets.exceptions import InvalidStatus

from tests.harness import Running, connection_id_of, serving, slow_client
from tests.integrations.backends import http_backend, raw_backend, refusing_url
from tests.listener.raw import eventually, frame

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.integrations.backends import RawBackend

TWO_WAY = {"routeResponseSelectionExpression": "$default"}
UNREACHABLE = "Network error communicating with endpoint"
TIMED_OUT = "Endpoint request timed out"
INTERNAL = "Internal server error"


def http(url: str, **more: Any) -> dict[str, Any]:
    return {
        "integrationType": "HTTP_PROXY",
        "integrationMethod": "POST",
        "integrationUri": url,
        "timeoutInMillis": 200,
        **more,
    }


def mock(template: str, **response: Any) -> dict[str, Any]:
    return {
        "integrationType": "MOCK",
        "requestTemplates": {"$default": '{"statusCode": 200}'},
        "integrationResponses": {
            "$default": {"responseTemplates": {"$default": template}, **response}
        },
    }


def api(integrations: dict[str, Any], routes: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"integrations": integrations, "routes": routes, **more}


def error_frame(text: str | bytes, message: str, connection_id: str) -> bool:
    """Whether a frame is the error frame, byte for byte."""
    return bool(
        re.fullmatch(
            rf'{{"message": "{message}", "connectionId":"{connection_id}", '
            r'"requestId":"[A-Za-z0-9_-]{15}="}',
            str(text),
        )
    )


# --- faults of a backend: a frame or a status, a log line, and the connection lives on


def hang(backend: RawBackend) -> None:
    with backend.accept() as connection:
        backend.read(connection)
        backend.wait()


def half(backend: RawBackend) -> None:
    with backend.accept() as connection:
        backend.read(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")


def garbage(backend: RawBackend) -> None:
    with backend.accept() as connection:
        backend.read(connection)
        connection.sendall(b"\x15\x03\x01\x00\x02\x02\x28")


def five_mb(backend: RawBackend) -> None:
    with backend.accept() as connection, suppress(ConnectionError):
        backend.read(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5000000\r\n\r\n" + b"x" * 5_000_000)


SCRIPTS = pytest.mark.parametrize(
    ("script", "status", "message"),
    [
        pytest.param(hang, 504, TIMED_OUT, marks=pytest.mark.slow),
        (half, 504, UNREACHABLE),
        (garbage, 504, UNREACHABLE),
        (five_mb, 504, UNREACHABLE),
    ],
    ids=["hangs", "half an answer", "no HTTP", "answers 5 MB"],
)


async def a_fault_is_told(running: Running, logs: list[Any], message: str) -> None:
    """Send a message to the route `faulty`, and see what comes of it."""
    async with running.connect() as client:
        connection_id = await connection_id_of(client)
        logs.clear()
        await client.send('{"action":"faulty"}')
        assert error_frame(await client.recv(), message, connection_id)
        [line] = [line for line in logs if line["event"] == "integration failed"]
        assert line["connection_id"] == connection_id
        assert line["route"] == "faulty"
        await client.send('{"action":"fine"}')
        assert await client.recv() == "fine"


FINE = {"fine": {"target": "fine", **TWO_WAY}}


@SCRIPTS
async def test_a_fault_of_a_backend_is_an_error_frame_and_the_connection_lives_on(
    script: Callable[[RawBackend], None], status: int, message: str
) -> None:
    with raw_backend(script) as backend, capture_logs() as logs:
        definition = api(
            {"bad": http(backend.url), "fine": mock("fine")}, {"faulty": {"target": "bad"}, **FINE}
        )
        async with serving({}, definition=definition) as running:
            await a_fault_is_told(running, logs, message)


@SCRIPTS
async def test_a_fault_of_a_backend_keeps_a_client_out(
    script: Callable[[RawBackend], None], status: int, message: str
) -> None:
    with raw_backend(script) as backend, capture_logs():
        definition = api({"bad": http(backend.url)}, {"$connect": {"target": "bad"}})
        async with serving({}, definition=definition) as running:
            with pytest.raises(InvalidStatus) as refused:
                await running.connect()
    assert refused.value.response.status_code == status
    assert json.loads(refused.value.response.body)["message"] == message


@pytest.mark.parametrize("url", ["refused", "http://no-such-host.invalid/"])
async def test_a_backend_that_is_not_there(url: str) -> None:
    url = refusing_url() if url == "refused" else url
    with capture_logs() as logs:
        definition = api(
            {"bad": http(url, timeoutInMillis=5000), "fine": mock("fine")},
            {"faulty": {"target": "bad"}, **FINE},
        )
        async with serving({}, definition=definition) as running:
            await a_fault_is_told(running, logs, UNREACHABLE)


def close_after_each_answer(backend: RawBackend) -> None:
    for _ in range(3):
        with backend.accept() as connection:
            backend.read(connection)
            # It says nothing of closing, so the gateway keeps the connection.
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine")


async def test_no_message_is_lost_to_a_connection_that_the_backend_has_closed() -> None:
    with raw_backend(close_after_each_answer) as backend:
        definition = api(
            {"backend": http(backend.url, timeoutInMillis=5000)},
            {"$default": {"target": "backend", **TWO_WAY}},
        )
        async with serving({}, definition=definition) as running, running.connect() as client:
            for number in range(3):
                await client.send(str(number))
                assert await client.recv() == "fine"
    assert backend.requests == [b"0", b"1", b"2"]


@pytest.mark.parametrize(
    ("integration", "body"),
    [
        (
            {
                "integrationResponses": {
                    "$default": {"responseTemplates": {"$default": "$input.body"}}
                }
            },
            b"\xff\xfe",
        ),
        ({"integrationResponses": {"/5\\d\\d/": {}}}, b"ok"),
        (
            {
                "requestTemplates": {
                    "$default": "#foreach($i in [1..1000])#foreach($j in [1..1000])$j#end#end"
                }
            },
            b"ok",
        ),
    ],
    ids=["no UTF-8 for a template", "no integration response", "a template that goes too far"],
)
async def test_a_transformation_that_fails_is_an_error_frame(
    integration: dict[str, Any], body: bytes
) -> None:
    async with http_backend() as backend:
        backend.body = body
        bad = http(backend.url, integrationType="HTTP", integrationResponses={"$default": {}})
        definition = api(
            {"bad": bad | integration, "fine": mock("fine")},
            {"faulty": {"target": "bad", **TWO_WAY}, **FINE},
        )
        with capture_logs() as logs:
            async with serving({}, definition=definition) as running:
                await a_fault_is_told(running, logs, INTERNAL)


async def test_a_message_that_may_not_pass_is_an_error_frame() -> None:
    """Appendix B 6."""
    async with http_backend() as backend:
        bad = http(backend.url, integrationType="HTTP", passthroughBehavior="NEVER")
        bad["integrationResponses"] = {"$default": {}}
        definition = api({"bad": bad, "fine": mock("fine")}, {"faulty": {"target": "bad"}, **FINE})
        with capture_logs() as logs:
            async with serving({}, definition=definition) as running:
                await a_fault_is_told(running, logs, "Unsupported Media Type")
        assert backend.received == []


# --- what can leave


async def test_a_reply_over_128_kib_is_an_error_frame() -> None:
    """Appendix B 22."""
    async with http_backend() as backend:
        backend.body = b"x" * (131_072 + 1)
        definition = api(
            {"large": http(backend.url, timeoutInMillis=5000), "fine": mock("fine")},
            {"faulty": {"target": "large", **TWO_WAY}, **FINE},
        )
        with capture_logs() as logs:
            async with serving({}, definition=definition) as running:
                await a_fault_is_told(running, logs, INTERNAL)


async def test_a_reply_of_128_kib_leaves_in_frames_of_32_kib() -> None:
    async with http_backend() as backend:
        backend.body = b"x" * 131_072
        definition = api(
            {"large": http(backend.url, timeoutInMillis=5000)},
            {"$default": {"target": "large", **TWO_WAY}},
        )
        async with serving({}, definition=definition) as running, running.connect() as client:
            await client.send("?")
            parts = [part async for part in client.recv_streaming()]
    assert [len(part) for part in parts] == [32_768] * 4


async def test_a_reply_that_is_not_utf_8_is_an_error_frame() -> None:
    """Appendix B 19."""
    async with http_backend() as backend:
        backend.body = b"\xff"
        definition = api(
            {"binary": http(backend.url), "fine": mock("fine")},
            {"faulty": {"target": "binary", **TWO_WAY}, **FINE},
        )
        with capture_logs() as logs:
            async with serving({}, definition=definition) as running:
                await a_fault_is_told(running, logs, INTERNAL)


async def test_a_reply_for_a_full_send_buffer_is_dropped_and_logged() -> None:
    """Appendix B 23."""
    async with http_backend() as backend:
        backend.body = b"x" * 100_000
        definition = api(
            {"large": http(backend.url, timeoutInMillis=5000)},
            {"$default": {"target": "large", **TWO_WAY}},
        )
        with capture_logs() as logs:
            async with (
                serving({}, definition=definition, send_buffer_max=131_072) as running,
                slow_client(running) as client,
            ):
                await client.open_websocket()
                for _ in range(4):
                    await client.send(frame(b"?"))
                await eventually(lambda: any(line["event"] == "reply dropped" for line in logs))
    [line, *_] = [line for line in logs if line["event"] == "reply dropped"]
    assert line["reason"] == "LimitExceededException"


async def test_a_mock_without_response_template_replies_an_empty_message() -> None:
    """Appendix B 20."""
    bare = {"integrationType": "MOCK", "requestTemplates": {"$default": '{"statusCode": 200}'}}
    definition = api({"bare": bare}, {"$default": {"target": "bare", **TWO_WAY}})
    async with serving({}, definition=definition) as running, running.connect() as client:
        await client.send("?")
        assert await client.recv() == ""


# --- models (section 10)

MODELS = {
    "text": {
        "contentType": "application/json",
        "schema": {"type": "object", "required": ["text"]},
    }
}


async def test_a_message_that_its_model_rejects_does_not_reach_the_integration() -> None:
    lines = io.BytesIO()
    async with http_backend() as backend:
        backend.body = b"fine"
        definition = api(
            {"checked": http(backend.url)},
            {
                "send": {
                    "target": "checked",
                    "modelSelectionExpression": "$default",
                    "requestModels": {"$default": "text"},
                    **TWO_WAY,
                }
            },
            models=MODELS,
        )
        async with (
            serving({}, definition=definition, access_log=lines) as running,
            running.connect() as client,
        ):
            connection_id = await connection_id_of(client)
            await client.send('{"action":"send"}')
            assert error_frame(await client.recv(), "Invalid request body", connection_id)
            assert backend.received == []
            await client.send('{"action":"send","text":"hi"}')
            assert await client.recv() == "fine"

    logged = [json.loads(line) for line in lines.getvalue().splitlines()]
    [rejected] = [line for line in logged if line["event"] == "message" and line["status"] == 400]
    assert rejected["error"] == '[object has missing required properties (["text"])]'
    assert rejected["route"] == "send"


# --- required parameters of `$connect`


async def test_a_handshake_without_a_required_parameter_is_refused() -> None:
    definition = api(
        {"fine": mock("fine")},
        {
            "$connect": {
                "target": "fine",
                "requestParameters": {
                    "route.request.querystring.token": {"required": True},
                    "route.request.header.X-Room": {"required": True},
                    "route.request.header.X-Other": {"required": False},
                },
            }
        },
    )
    async with serving({}, definition=definition) as running:
        with pytest.raises(InvalidStatus) as refused:
            await running.connect(rest="?Token=1", additional_headers={"X-Room": ""})
        response = refused.value.response
        assert response.status_code == 400
        assert response.headers["x-amzn-ErrorType"] == "BadRequestException"
        assert json.loads(response.body)["message"] == (
            "Missing required request parameters: [token, X-Room]"
        )
        async with running.connect(rest="?token=1", additional_headers={"x-room": "a"}):
            pass


# --- stages


async def test_stages_of_one_file_have_their_own_variables() -> None:
    async with http_backend() as backend:
        definition = api(
            {"backend": http(f"{backend.url}/${{stageVariables.version}}")},
            {"$default": {"target": "backend"}},
            stages={
                "dev": {"stageVariables": {"version": "v2"}},
                "prod": {"stageVariables": {"version": "v1"}},
            },
        )
        async with serving({}, definition=definition) as running:
            for stage in ("dev", "prod"):
                async with running.connect(stage) as client:
                    await client.send("?")
                    await eventually(lambda: backend.received)
                assert backend.received.pop().line == f"POST /{'v2' if stage == 'dev' else 'v1'}"


# --- binary handling on AWS_PROXY


async def test_a_function_is_told_that_a_message_is_base64() -> None:
    events: list[Any] = []

    async def function(event: Any, context: Any) -> Any:
        events.append(event)
        return {"statusCode": 200, "body": "got it"}

    definition = api(
        {
            "local": {
                "integrationType": "AWS_PROXY",
                "integrationUri": "python:_local.function",
                "contentHandlingStrategy": "CONVERT_TO_BINARY",
            }
        },
        {"$default": {"target": "local", **TWO_WAY}},
    )
    with capture_logs() as logs:
        async with (
            serving({}, definition=definition, functions={"local": function}) as running,
            running.connect() as client,
        ):
            text = b64encode(b"\x00\xff").decode()
            await client.send(text)
            assert await client.recv() == "got it"
            await client.send("not base64!")
            assert '"message": "Internal server error"' in str(await client.recv())
    [event] = events
    assert event["body"] == text
    assert event["isBase64Encoded"] is True
    assert [line["event"] for line in logs].count("integration failed") == 1
