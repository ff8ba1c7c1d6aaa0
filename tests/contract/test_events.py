"""What functions receive, from real connections: exact values, and AWS's own models of them."""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from aws_lambda_powertools.utilities.parser.models import (
    APIGatewayWebSocketConnectEventModel,
    APIGatewayWebSocketDisconnectEventModel,
    APIGatewayWebSocketMessageEventModel,
)

from tests.harness import recording, serving
from tests.listener.raw import close_frame, eventually, frame, raw_client

if TYPE_CHECKING:
    from pydantic import BaseModel

    from tests.contract.conftest import Api
    from tests.harness import Event

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROUTES = ("$connect", "$disconnect", "$default", "join")
ID = re.compile(r"[A-Za-z0-9_-]{15}=")
MODELS: dict[str, type[BaseModel]] = {
    "CONNECT": APIGatewayWebSocketConnectEventModel,
    "MESSAGE": APIGatewayWebSocketMessageEventModel,
    "DISCONNECT": APIGatewayWebSocketDisconnectEventModel,
}
CONTEXT = {
    "routeKey",
    "eventType",
    "extendedRequestId",
    "requestTime",
    "messageDirection",
    "stage",
    "connectedAt",
    "requestTimeEpoch",
    "identity",
    "requestId",
    "domainName",
    "connectionId",
    "apiId",
}


async def one_connection(
    api: Api,
    target: bytes = b"/dev",
    *headers: bytes,
    message: bytes = b'{"action":"join"}',
) -> dict[str, Event]:
    """Connect, send a message, close without a code; return the events by type."""
    before = len(api.events)
    async with raw_client(api.port) as client:
        await client.open_websocket(target, *headers)
        await client.send(frame(message))
        await eventually(lambda: len(api.events) == before + 2)
        await client.send(close_frame())
        await eventually(lambda: len(api.events) == before + 3)
    return {event["requestContext"]["eventType"]: event for event in api.events[before:]}


def without_instants(event: Event) -> Event:
    """Return an event whose ids and times are checked and named."""
    context = dict(event["requestContext"])
    for name in ("requestId", "extendedRequestId", "connectionId", "messageId"):
        if name in context:
            assert ID.fullmatch(context[name]), name
            context[name] = f"<{name}>"
    at = datetime.fromtimestamp(context["requestTimeEpoch"] // 1000, UTC)
    assert context["requestTime"] == at.strftime("%d/%b/%Y:%H:%M:%S +0000")
    assert context["requestTimeEpoch"] >= context["connectedAt"]
    for name in ("requestTime", "requestTimeEpoch", "connectedAt"):
        context[name] = f"<{name}>"
    return {**event, "requestContext": context}


async def test_the_three_events_of_a_connection(api: Api) -> None:
    by_type = await one_connection(api, b"/dev", b"Cookie: sid=1", b"User-Agent: client/1.0")
    port = str(api.port)

    connect = without_instants(by_type["CONNECT"])
    trace_id = connect["headers"]["X-Amzn-Trace-Id"]
    assert re.fullmatch(r"Root=1-[0-9a-f]{8}-[0-9a-f]{24}", trace_id)
    headers = {
        "Cookie": "sid=1",
        "Host": "gateway",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version": "13",
        "User-Agent": "client/1.0",
        "X-Amzn-Trace-Id": trace_id,
        "X-Forwarded-For": "127.0.0.1",
        "X-Forwarded-Port": port,
        "X-Forwarded-Proto": "http",
    }
    assert list(connect["headers"]) == list(headers)
    assert connect == {
        "headers": headers,
        "multiValueHeaders": {name: [value] for name, value in headers.items()},
        "requestContext": {
            "routeKey": "$connect",
            "eventType": "CONNECT",
            "extendedRequestId": "<extendedRequestId>",
            "requestTime": "<requestTime>",
            "messageDirection": "IN",
            "stage": "dev",
            "connectedAt": "<connectedAt>",
            "requestTimeEpoch": "<requestTimeEpoch>",
            "identity": {"userAgent": "client/1.0", "sourceIp": "127.0.0.1"},
            "requestId": "<requestId>",
            "domainName": "gateway",
            "connectionId": "<connectionId>",
            "apiId": "abcde12345",
        },
        "isBase64Encoded": False,
    }
    assert without_instants(by_type["MESSAGE"]) == {
        "requestContext": {
            "routeKey": "join",
            "messageId": "<messageId>",
            "eventType": "MESSAGE",
            "extendedRequestId": "<extendedRequestId>",
            "requestTime": "<requestTime>",
            "messageDirection": "IN",
            "stage": "dev",
            "connectedAt": "<connectedAt>",
            "requestTimeEpoch": "<requestTimeEpoch>",
            "identity": {"userAgent": "client/1.0", "sourceIp": "127.0.0.1"},
            "requestId": "<requestId>",
            "domainName": "gateway",
            "connectionId": "<connectionId>",
            "apiId": "abcde12345",
        },
        "body": '{"action":"join"}',
        "isBase64Encoded": False,
    }
    assert without_instants(by_type["DISCONNECT"]) == {
        "headers": {"Host": "gateway", "x-api-key": "", "X-Forwarded-For": "", "x-restapi": ""},
        "multiValueHeaders": {
            "Host": ["gateway"],
            "x-api-key": [""],
            "X-Forwarded-For": [""],
            "x-restapi": [""],
        },
        "requestContext": {
            "routeKey": "$disconnect",
            "disconnectStatusCode": 1005,
            "eventType": "DISCONNECT",
            "extendedRequestId": "<extendedRequestId>",
            "requestTime": "<requestTime>",
            "messageDirection": "IN",
            "disconnectReason": "Client-side close frame status not set",
            "stage": "dev",
            "connectedAt": "<connectedAt>",
            "requestTimeEpoch": "<requestTimeEpoch>",
            "identity": {"userAgent": "client/1.0", "sourceIp": "127.0.0.1"},
            "requestId": "<requestId>",
            "domainName": "gateway",
            "connectionId": "<connectionId>",
            "apiId": "abcde12345",
        },
        "isBase64Encoded": False,
    }


@pytest.mark.parametrize("query", ["", "?room=a&room=b"])
@pytest.mark.parametrize("variables", [{}, {"table": "conns"}], ids=["", "variables"])
async def test_powertools_parses_every_event_and_the_fields_are_exactly_the_contracts(
    query: str, variables: dict[str, str]
) -> None:
    definition = {"stages": {"dev": {"stageVariables": variables}}}
    events: list[Event] = []
    handlers = {key: recording(events) for key in ROUTES}
    async with (
        serving(handlers, definition=definition) as running,
        running.connect(rest=query) as client,
    ):
        await client.send("hello")
        await eventually(lambda: len(events) == 2)
        await client.close(4000, "bye")
        await eventually(lambda: len(events) == 3)

    more = {"stageVariables"} if variables else set()
    fields = {
        "CONNECT": {"headers", "multiValueHeaders", "requestContext", "isBase64Encoded"} | more,
        "MESSAGE": {"requestContext", "body", "isBase64Encoded"} | more,
        "DISCONNECT": {"headers", "multiValueHeaders", "requestContext", "isBase64Encoded"} | more,
    }
    if query:
        fields["CONNECT"] |= {"queryStringParameters", "multiValueQueryStringParameters"}
    context_fields = {
        "CONNECT": CONTEXT,
        "MESSAGE": CONTEXT | {"messageId"},
        "DISCONNECT": CONTEXT | {"disconnectStatusCode", "disconnectReason"},
    }
    for event, event_type in zip(events, ("CONNECT", "MESSAGE", "DISCONNECT"), strict=True):
        MODELS[event_type].model_validate(event)
        assert event.keys() == fields[event_type]
        assert event["requestContext"].keys() == context_fields[event_type]
        assert event["requestContext"]["eventType"] == event_type
        assert event["requestContext"]["identity"].keys() == {"sourceIp", "userAgent"}
        assert event["isBase64Encoded"] is False
        assert event.get("stageVariables", {}) == variables


async def test_names_of_headers_keep_their_casing_and_values_all_their_bytes(api: Api) -> None:
    by_type = await one_connection(
        api,
        b"/dev",
        b"x-lower: 1",
        b"X-UPPER: 2",
        b"Foo: a",
        b"foo: b",
        b"X-Latin: caf\xe9",
        b"Sec-WebSocket-Protocol: chat1, chat2",
        b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
    )
    event = by_type["CONNECT"]

    assert list(event["headers"]) == sorted(event["headers"], key=str.lower)
    assert event["headers"]["x-lower"] == "1"
    assert event["headers"]["X-UPPER"] == "2"
    assert event["headers"]["Foo"] == "b"
    assert event["multiValueHeaders"]["Foo"] == ["a", "b"]
    assert event["headers"]["X-Latin"] == "café"
    assert event["headers"]["Sec-WebSocket-Protocol"] == "chat1, chat2"
    assert (
        event["headers"]["Sec-WebSocket-Extensions"] == "permessage-deflate; client_max_window_bits"
    )
    assert event["headers"].keys() == event["multiValueHeaders"].keys()


async def test_what_the_client_says_of_proxies_is_kept_and_the_peer_appended(api: Api) -> None:
    trace_id = "Root=1-6374f33e-0f3721a17111942153e57600"
    by_type = await one_connection(
        api,
        b"/dev",
        b"X-Forwarded-For: 203.0.113.7",
        b"X-Forwarded-Proto: https",
        b"X-Amzn-Trace-Id: " + trace_id.encode(),
    )
    event = by_type["CONNECT"]

    assert event["headers"]["X-Forwarded-For"] == "203.0.113.7, 127.0.0.1"
    assert event["headers"]["X-Forwarded-Proto"] == "http"
    assert event["headers"]["X-Amzn-Trace-Id"] == trace_id
    # Nor is anything a client says believed to be its address.
    assert event["requestContext"]["identity"]["sourceIp"] == "127.0.0.1"


async def test_query_strings_are_decoded(api: Api) -> None:
    by_type = await one_connection(
        api, b"/dev?room=a&room=b&q=1+2%2B3&empty&e=%C3%A9&bad=%zz&raw=%ff"
    )
    event = by_type["CONNECT"]

    assert event["queryStringParameters"] == {
        "room": "b",
        "q": "1 2+3",
        "empty": "",
        "e": "é",
        "bad": "%zz",
        "raw": "\ufffd",
    }
    assert event["multiValueQueryStringParameters"] == {
        "room": ["a", "b"],
        "q": ["1 2+3"],
        "empty": [""],
        "e": ["é"],
        "bad": ["%zz"],
        "raw": ["\ufffd"],
    }


async def test_a_client_without_a_user_agent_has_none_in_its_events(api: Api) -> None:
    by_type = await one_connection(api)

    for event in by_type.values():
        assert event["requestContext"]["identity"] == {"sourceIp": "127.0.0.1"}
    assert "User-Agent" not in by_type["CONNECT"]["headers"]


async def test_the_domain_name_is_the_host_with_its_port(api: Api) -> None:
    async with api.connect() as client:
        await client.send("hello")
        await client.close()
        await eventually(lambda: len(api.events) == 3)

    for event in api.events:
        assert event["requestContext"]["domainName"] == api.running.authority
    assert api.events[0]["headers"]["Host"] == api.running.authority
    assert api.events[2]["headers"]["Host"] == api.running.authority


@pytest.mark.parametrize(
    "text",
    ["", " ", '{"action":"join",\r\n\t"data": "é😀"}', "\x00\u2028", "x" * 32768],
    ids=["empty", "space", "crlf", "controls", "32 KiB"],
)
async def test_the_body_is_the_exact_text_of_the_message(api: Api, text: str) -> None:
    by_type = await one_connection(api, message=text.encode())

    assert by_type["MESSAGE"]["body"] == text


async def test_a_message_in_fragments_is_one_event(api: Api) -> None:
    async with api.connect() as client:
        await client.send(['{"action":', '"jo', 'in"}'])
        await eventually(lambda: len(api.events) == 2)

    assert api.events[1]["body"] == '{"action":"join"}'
    assert api.events[1]["requestContext"]["routeKey"] == "join"


async def test_ids_tell_connection_request_and_message_apart(api: Api) -> None:
    first = await one_connection(api)
    second = await one_connection(api)

    contexts = [event["requestContext"] for event in (*first.values(), *second.values())]
    assert len({context["requestId"] for context in contexts}) == 6
    assert len({context["connectionId"] for context in contexts}) == 2
    for context in contexts:
        assert context["requestId"] == context["extendedRequestId"]
        assert urlsafe_b64decode(context["requestId"])[8] == 0x05
        assert urlsafe_b64decode(context["connectionId"])[8] == 0x02
    for events_of_one in (first, second):
        context = events_of_one["MESSAGE"]["requestContext"]
        assert context["messageId"] not in {context["requestId"], context["connectionId"]}
        assert (
            urlsafe_b64decode(context["messageId"])[-3:]
            == urlsafe_b64decode(context["connectionId"])[-3:]
        )


async def test_a_connection_was_connected_at_one_instant_in_all_its_events(api: Api) -> None:
    async with api.connect() as client:
        api.running.advance(5)
        await client.send("hello")
        await eventually(lambda: len(api.events) == 2)
        api.running.advance(5)
        await client.close()
        await eventually(lambda: len(api.events) == 3)

    contexts = [event["requestContext"] for event in api.events]
    assert len({context["connectedAt"] for context in contexts}) == 1
    ages = [context["requestTimeEpoch"] - context["connectedAt"] for context in contexts]
    assert ages[0] < 5_000 <= ages[1] < 10_000 <= ages[2]


async def test_a_wall_clock_that_is_set_back_makes_no_request_older_than_its_connection(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with api.connect() as client:
        monkeypatch.setattr(api.running.clock, "epoch_ms", lambda: 1_000_000_000_000)
        await client.send("hello")
        await eventually(lambda: len(api.events) == 2)
        await client.close()
        await eventually(lambda: len(api.events) == 3)

    for context in (event["requestContext"] for event in api.events):
        assert context["requestTimeEpoch"] >= context["connectedAt"]


async def test_a_message_that_fell_back_has_the_route_key_default(api: Api) -> None:
    by_type = await one_connection(api, message=b'{"action":"leave"}')

    assert by_type["MESSAGE"]["requestContext"]["routeKey"] == "$default"


async def test_a_stage_has_connections_of_its_own(api: Api) -> None:
    dev = await one_connection(api, b"/dev")
    prod = await one_connection(api, b"/prod/")

    assert {event["requestContext"]["stage"] for event in dev.values()} == {"dev"}
    assert {event["requestContext"]["stage"] for event in prod.values()} == {"prod"}
