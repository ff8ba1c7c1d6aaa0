"""What a client receives, by what its function did (contract 4.5 to 4.7)."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from tests.harness import echo, serving, slow_client
from tests.listener.raw import Frame, eventually, frame, raw_client

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

    from tests.contract.conftest import Api
    from tests.harness import Event

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROUTES = ("$connect", "$disconnect", "one", "two", "marker")
TWO_WAY = ("two", "marker")
ONE, TWO = '{"action":"one"}', '{"action":"two"}'
ID = "[A-Za-z0-9_-]{15}="


def error_frame(message: str, connection_id: str) -> re.Pattern[str]:
    return re.compile(
        rf'\{{"message": "{message}", "connectionId":"{connection_id}", "requestId":"{ID}"\}}'
    )


async def heard(api: Api, client: ClientConnection) -> list[str]:
    """Return what a client receives until everything it sent is dealt with."""
    await eventually(lambda: not api.running.shared.tasks)
    api.answer("marker", {"statusCode": 200, "body": "marker"})
    await client.send('{"action":"marker"}')
    texts = []
    while (text := await client.recv()) != "marker":
        texts.append(str(text))
    return texts


async def replies(api: Api, message: str, route: str, result: Any) -> list[str]:
    """Return what a client hears after one message, whose handler returns this."""
    api.answer(route, result)
    async with api.connect() as client:
        before = len(api.of_type("MESSAGE"))
        await client.send(message)
        await eventually(lambda: len(api.of_type("MESSAGE")) > before)
        return await heard(api, client)


# --- valid responses


@pytest.mark.parametrize(
    ("response", "text"),
    [
        ({"statusCode": 200, "body": "hi"}, "hi"),
        ({"statusCode": 204, "body": "é😀 \r\n\x00"}, "é😀 \r\n\x00"),
        ({"statusCode": "200", "body": "hi", "isBase64Encoded": "false"}, "hi"),
        ({"statusCode": 200.0, "body": "hi"}, "hi"),
        ({"statusCode": Decimal(200), "body": "hi"}, "hi"),
        ({"statusCode": 200, "body": "hi", "headers": None, "multiValueHeaders": None}, "hi"),
        ({"statusCode": 200, "body": "hi", "headers": {"X": "\r\n"}}, "hi"),
        ({"statusCode": 200, "body": "hi", "headers": {"Sec-WebSocket-Protocol": "\r"}}, "hi"),
        ({"statusCode": 200, "body": "aGk=", "isBase64Encoded": True}, "hi"),
        ({"statusCode": 200, "body": "w6k=", "isBase64Encoded": "true"}, "é"),
        ({"statusCode": 200, "body": '{"a": 1}'}, '{"a": 1}'),
        # A response without a body, or with none in it, is an empty frame.
        ({"statusCode": 200}, ""),
        ({"statusCode": 200, "body": None}, ""),
        ({"statusCode": 200, "body": ""}, ""),
        ({"statusCode": 204}, ""),
        # The status says nothing to the client.
        ({"statusCode": 301, "body": "hi"}, "hi"),
        ({"statusCode": 401, "body": "hi"}, "hi"),
        ({"statusCode": 501, "body": "hi"}, "hi"),
        ({"statusCode": 0, "body": "hi"}, "hi"),
        ({"statusCode": 700, "body": "hi"}, "hi"),
        ({"statusCode": 500}, ""),
    ],
    ids=repr,
)
async def test_a_two_way_route_sends_the_body_and_a_one_way_route_nothing(
    api: Api, response: dict[str, Any], text: str
) -> None:
    assert await replies(api, TWO, "two", response) == [text]
    assert await replies(api, ONE, "one", response) == []


@pytest.mark.parametrize(
    "response",
    [
        {"statusCode": 200, "body": "/w==", "isBase64Encoded": True},
        {"statusCode": 200, "body": "\ud800"},
        {"statusCode": 200, "body": "x" * 131073},
    ],
    ids=["no UTF-8", "lone surrogate", "over 128 KiB"],
)
async def test_a_body_that_cannot_be_sent_is_an_error_frame_only_where_it_would_be(
    api: Api, response: dict[str, Any]
) -> None:
    [text] = await replies(api, TWO, "two", response)
    assert error_frame("Internal server error", api.connection_id).fullmatch(text)
    assert [line["event"] for line in api.logs] == ["integration failed"]

    assert await replies(api, ONE, "one", response) == []


# --- faults


MALFORMED = [
    None,
    "hi",
    200,
    [],
    [{"statusCode": 200}],
    {},
    {"body": "hi"},
    {"statusCode": None},
    {"statusCode": True},
    {"statusCode": "OK"},
    {"statusCode": 200.5},
    {"statusCode": 1 << 70},
    {"statusCode": 200, "ConnectionId": "x", "Data": "y"},
    {"statusCode": 200, "body": {"a": 1}},
    {"statusCode": 200, "body": 1},
    {"statusCode": 200, "headers": "x"},
    {"statusCode": 200, "multiValueHeaders": {"X": "x"}},
    {"statusCode": 200, "isBase64Encoded": 1, "body": ""},
    {"statusCode": 200, "body": "%", "isBase64Encoded": True},
    # What Lambda could not return as JSON.
    b"hi",
    {"statusCode": 200, "body": b"hi"},
    {"statusCode": 200, "headers": {"X": float("nan")}},
    {"statusCode": Decimal("NaN")},
    {"statusCode": 200, "headers": {1j: "x"}},
    {"statusCode": 200, "\ud800": 1},
]


@pytest.mark.parametrize(("message", "route"), [(ONE, "one"), (TWO, "two")], ids=["one", "two"])
@pytest.mark.parametrize("result", MALFORMED, ids=repr)
async def test_a_malformed_response_is_an_error_frame_on_every_route(
    api: Api, message: str, route: str, result: Any
) -> None:
    [text] = await replies(api, message, route, result)

    assert error_frame("Internal server error", api.connection_id).fullmatch(text)


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError

    __repr__ = __str__


@pytest.mark.parametrize(("message", "route"), [(ONE, "one"), (TWO, "two")], ids=["one", "two"])
@pytest.mark.parametrize(
    "error",
    [
        ValueError("\ud800" * 10_000),
        TimeoutError(),
        SystemExit(1),
        KeyboardInterrupt(),
        asyncio.CancelledError(),
        BaseExceptionGroup("several", [SystemExit(1)]),
        Unprintable(),
    ],
    ids=lambda error: error if isinstance(error, str) else type(error).__name__,
)
async def test_whatever_a_handler_raises_is_an_error_frame_and_the_gateway_goes_on(
    api: Api, message: str, route: str, error: BaseException
) -> None:
    async def handler(event: Event, context: Any) -> None:
        raise error

    api.handlers[route] = handler
    async with api.connect() as client:
        await client.send(message)
        assert error_frame("Internal server error", api.connection_id).fullmatch(
            str(await client.recv())
        )
        assert await heard(api, client) == []


async def test_an_exception_is_logged_with_its_traceback(api: Api) -> None:
    def handler(event: Event, context: Any) -> None:
        raise KeyError("room")

    api.handlers["one"] = handler
    async with api.connect() as client:
        await client.send(ONE)
        await client.recv()

    [line] = api.logs
    assert line["event"] == "integration failed"
    assert line["log_level"] == "error"
    assert line["connection_id"] == api.connection_id
    assert line["route"] == "one"
    assert line["error"] == "one raised KeyError('room')"
    assert isinstance(line["exc_info"], KeyError)
    assert line["exc_info"].__traceback__ is not None


async def test_an_error_frame_names_the_request(api: Api) -> None:
    api.answer("one", None)
    async with api.connect() as client:
        await client.send(ONE)
        error = json.loads(await client.recv())

    [event] = api.of_type("MESSAGE")
    assert error == {
        "message": "Internal server error",
        "connectionId": event["requestContext"]["connectionId"],
        "requestId": event["requestContext"]["requestId"],
    }


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["async", "sync", "stubborn"])
async def test_a_timeout_is_an_error_frame_on_every_route(kind: str) -> None:
    release = threading.Event()

    async def wait(event: Event, context: Any) -> None:
        await asyncio.Event().wait()

    async def wait_stubbornly(event: Event, context: Any) -> Any:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return {"statusCode": 200, "body": "too late"}

    def block(event: Event, context: Any) -> None:
        release.wait(10)

    handler: Any = {"async": wait, "sync": block, "stubborn": wait_stubbornly}[kind]
    handlers = {"one": handler, "two": handler}
    with capture_logs():
        async with (
            serving(handlers, two_way=("two",), integration_timeout_ms=50) as running,
            running.connect() as client,
        ):
            for message in (ONE, TWO):
                await client.send(message)
                text = str(await client.recv())
                assert error_frame("Endpoint request timed out", ID).fullmatch(text)
            assert client.close_code is None
            release.set()
            await eventually(lambda: running.gateway._backends._functions.running_threads == 0)


async def test_a_refused_invocation_is_an_error_frame() -> None:
    release = asyncio.Event()

    async def wait(event: Event, context: Any) -> Any:
        await release.wait()
        return {"statusCode": 200, "body": "at last"}

    async with (
        serving({"two": wait}, two_way=("two",), function_concurrency_max=1) as running,
        running.connect() as client,
    ):
        await client.send(TWO)
        await client.send(TWO)
        text = str(await client.recv())
        assert error_frame("Internal server error", ID).fullmatch(text)

        release.set()
        assert await client.recv() == "at last"


async def test_no_handlers_answer_to_connect_or_disconnect_is_a_frame() -> None:
    async def handler(event: Event, context: Any) -> Any:
        return {"statusCode": 200, "body": event["requestContext"]["eventType"]}

    routes = ("$connect", "$disconnect", "two")
    async with (
        serving(dict.fromkeys(routes, handler), two_way=routes) as running,
        running.connect() as client,
    ):
        await client.send(TWO)
        assert await client.recv() == "MESSAGE"
        await client.close()
        assert [message async for message in client] == []


@pytest.mark.parametrize("result", [None, {"statusCode": 500}, {"statusCode": 200, "extra": 1}])
async def test_what_disconnect_answers_is_ignored(api: Api, result: Any) -> None:
    api.answer("$disconnect", result)
    async with api.connect() as client:
        await client.close(4000, "bye")
        assert (client.close_code, client.close_reason) == (4000, "bye")
    await eventually(lambda: api.of_type("DISCONNECT"))


# --- frames


def cut(size: int) -> list[int]:
    """Return the sizes of the frames that a message of this size is sent in."""
    return [32768] * (size // 32768) + ([size % 32768] if size % 32768 else [])


@pytest.mark.parametrize("size", [0, 1, 125, 126, 32767, 32768, 32769, 65535, 65537, 131072])
async def test_a_reply_is_sent_in_frames_of_at_most_32_kib(api: Api, size: int) -> None:
    text = ("0123456789abcde\n" * (size // 16 + 1))[:size]
    api.answer("two", {"statusCode": 200, "body": text})
    frames: list[Frame] = []
    async with raw_client(api.port) as client:
        await client.open_websocket()
        await client.send(frame(TWO.encode()))
        while not frames or not frames[-1].fin:
            frames.append(await client.frame())

    assert [len(each.payload) for each in frames] == (cut(size) or [0])
    assert [each.opcode for each in frames] == [1] + [0] * (len(frames) - 1)
    assert [each.fin for each in frames] == [False] * (len(frames) - 1) + [True]
    assert b"".join(each.payload for each in frames).decode() == text


async def test_a_character_may_stand_across_two_frames(api: Api) -> None:
    text = "x" * 32767 + "é"
    api.answer("two", {"statusCode": 200, "body": text})

    async with raw_client(api.port) as client:
        await client.open_websocket()
        await client.send(frame(TWO.encode()))
        assert await client.frame() == Frame(1, b"x" * 32767 + b"\xc3", fin=False)
        assert await client.frame() == Frame(0, b"\xa9", fin=True)
    async with api.connect() as other:
        await other.send(TWO)
        assert await other.recv() == text


async def test_an_empty_reply_is_one_empty_text_frame(api: Api) -> None:
    async with raw_client(api.port) as client:
        await client.open_websocket()
        assert await client.subscript(frame(TWO.encode())) == Frame(1, b"", fin=True)


# --- concurrency


async def test_replies_come_as_they_are_ready(api: Api) -> None:
    gates = {name: asyncio.Event() for name in "abc"}

    async def handler(event: Event, context: Any) -> Any:
        name = json.loads(event["body"])["name"]
        await gates[name].wait()
        return {"statusCode": 200, "body": name}

    api.handlers["two"] = handler
    async with api.connect() as client:
        for name in "abc":
            await client.send(json.dumps({"action": "two", "name": name}))
        await eventually(lambda: len(api.of_type("MESSAGE")) == 3)
        for name in "bca":
            gates[name].set()
            assert await client.recv() == name


async def test_synchronous_handlers_run_at_once_in_threads() -> None:
    barrier = threading.Barrier(3)

    def handler(event: Event, context: Any) -> Any:
        barrier.wait(10)
        return {"statusCode": 200, "body": threading.current_thread().name}

    async with (
        serving({"two": handler}, two_way=("two",)) as running,
        running.connect() as client,
    ):
        for _ in range(3):
            await client.send(TWO)
        names = {await client.recv() for _ in range(3)}

    assert len(names) == 3


async def test_disconnect_runs_while_a_message_is_still_worked_on(api: Api) -> None:
    release = asyncio.Event()

    async def handler(event: Event, context: Any) -> Any:
        await release.wait()
        return {"statusCode": 200, "body": "to nobody"}

    api.handlers["two"] = handler
    dropped = api.metrics.replies_dropped["GoneException"]
    async with api.connect() as client:
        await client.send(TWO)
        await eventually(lambda: api.of_type("MESSAGE"))
    await eventually(lambda: api.of_type("DISCONNECT"))
    assert api.running.shared.tasks

    release.set()
    await eventually(lambda: not api.running.shared.tasks)
    assert api.metrics.replies_dropped["GoneException"] == dropped + 1


@pytest.mark.slow
async def test_a_reply_for_a_client_whose_send_buffer_is_full_is_dropped_counted_and_logged() -> (
    None
):
    release = asyncio.Event()
    waiting = 0

    async def handler(event: Event, context: Any) -> Any:
        nonlocal waiting
        waiting += 1
        await release.wait()
        return {"statusCode": 200, "body": "x" * 131072}

    events: list[Event] = []

    async def disconnect(event: Event, context: Any) -> Any:
        events.append(event)

    handlers = {"two": handler, "marker": echo, "$disconnect": disconnect}
    with capture_logs() as logs:
        async with (
            serving(handlers, two_way=("two", "marker"), send_buffer_max=131_200) as running,
            slow_client(running) as client,
        ):
            await client.open_websocket()
            for _ in range(10):
                await client.send(frame(TWO.encode()))
            await eventually(lambda: waiting == 10)
            release.set()
            await eventually(lambda: not running.shared.tasks)
            dropped = running.gateway._metrics.replies_dropped["LimitExceededException"]

            # The client catches up, and is served as before.
            whole = 0
            while whole < 10 - dropped:
                whole += (await client.frame()).fin
            reply = await client.subscript(frame(b'{"action":"marker"}'))
            assert reply == Frame(1, b'{"action":"marker"}')
            assert events == []

    assert 0 < dropped < 10
    lines = [line for line in logs if line["event"] == "reply dropped"]
    assert len(lines) == dropped
    assert lines[0]["log_level"] == "warning"
    assert lines[0]["reason"] == "LimitExceededException"
    assert re.fullmatch(ID, lines[0]["connection_id"])


# --- the context object


async def test_the_context_is_lambdas(api: Api) -> None:
    contexts: list[Any] = []

    async def handler(event: Event, context: Any) -> Any:
        contexts.append((context, context.get_remaining_time_in_millis()))
        return {"statusCode": 200}

    api.handlers["two"] = handler
    async with api.connect() as client:
        await client.send(TWO)
        await client.recv()
        await client.send(TWO)
        await client.recv()

    (context, remaining_ms), (other, _) = contexts
    assert context.function_name == "two"
    assert context.function_version == "$LATEST"
    assert context.invoked_function_arn == "arn:aws:lambda:us-east-1:000000000000:function:two"
    assert context.memory_limit_in_mb == "128"
    assert context.log_group_name == "/aws/lambda/two"
    assert "[$LATEST]" in context.log_stream_name
    assert context.identity.cognito_identity_id is None
    assert context.client_context is None
    assert UUID(context.aws_request_id) != UUID(other.aws_request_id)
    assert 28_000 < remaining_ms <= 29_000
