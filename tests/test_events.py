"""The events: exact dictionaries, key order included."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs

import orjson
import pytest
from hypothesis import given, strategies as st

from wsgateway.connection import ConnectionEntry, ConnectionKey, Handshake
from wsgateway.events import (
    ConnectRequest,
    DisconnectRequest,
    MessageRequest,
    RouteRequest,
    clf_time,
    event_for,
    forwarded_headers,
    parse_query,
)

CONNECTION_ID = "TXzPWdnOjoECGjA="
REQUEST_ID = "TXzPWFkkjoEF92g="
MESSAGE_ID = "PJqCFfHyKRcCHlw="
HOST = "abcde12345.execute-api.us-east-1.amazonaws.com"
TRACE_ID = "Root=1-65d2ff2e-718990494fd688f062bf1571"
CONNECTED_AT = 1708326702789
CONNECT_HEADERS = (
    ("Host", HOST),
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("Cookie", "sid=1"),
    ("User-Agent", "client/1.0"),
)


def entry(user_agent: str | None = "client/1.0") -> ConnectionEntry:
    return ConnectionEntry(
        key=ConnectionKey("abcde12345", "prod", CONNECTION_ID),
        connected_at_ms=CONNECTED_AT,
        domain_name=HOST,
        source_ip="192.0.2.10",
        user_agent=user_agent,
    )


def handshake(
    *headers: tuple[str, str], target: str = "/prod", scheme: str = "https", port: int = 443
) -> Handshake:
    return Handshake(
        target=target,
        headers=headers,
        host=HOST,
        source_ip="192.0.2.10",
        scheme=scheme,
        port=port,
        received_at_ms=CONNECTED_AT,
    )


def connect_request(
    *headers: tuple[str, str],
    target: str = "/prod",
    stage_variables: dict[str, str] | None = None,
    user_agent: str | None = "client/1.0",
) -> ConnectRequest:
    return ConnectRequest(
        entry=entry(user_agent),
        route_key="$connect",
        request_id=REQUEST_ID,
        requested_at_ms=1708326702790,
        stage_variables=stage_variables or {},
        handshake=handshake(*headers, target=target),
        trace_id=TRACE_ID,
    )


def message_request(
    body: str = '{"action":"sendmessage","data":"hi"}',
    *,
    stage_variables: dict[str, str] | None = None,
    user_agent: str | None = "client/1.0",
) -> MessageRequest:
    return MessageRequest(
        entry=entry(user_agent),
        route_key="sendmessage",
        request_id=REQUEST_ID,
        requested_at_ms=1708326703417,
        stage_variables=stage_variables or {},
        message_id=MESSAGE_ID,
        body=body,
    )


def disconnect_request(
    *, stage_variables: dict[str, str] | None = None, user_agent: str | None = "client/1.0"
) -> DisconnectRequest:
    return DisconnectRequest(
        entry=entry(user_agent),
        route_key="$disconnect",
        request_id=REQUEST_ID,
        requested_at_ms=1708326704314,
        stage_variables=stage_variables or {},
        status_code=1005,
        reason="Client-side close frame status not set",
    )


def as_json(event: dict[str, Any]) -> str:
    """Return an event with the order of its keys made visible."""
    return json.dumps(event, indent=1)


def test_the_event_of_connect() -> None:
    event = event_for(
        connect_request(
            *CONNECT_HEADERS, target="/prod?room=a&room=b", stage_variables={"table": "conns"}
        )
    )

    expected = {
        "headers": {
            "Cookie": "sid=1",
            "Host": HOST,
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
            "Sec-WebSocket-Version": "13",
            "User-Agent": "client/1.0",
            "X-Amzn-Trace-Id": TRACE_ID,
            "X-Forwarded-For": "192.0.2.10",
            "X-Forwarded-Port": "443",
            "X-Forwarded-Proto": "https",
        },
        "multiValueHeaders": {
            "Cookie": ["sid=1"],
            "Host": [HOST],
            "Sec-WebSocket-Key": ["dGhlIHNhbXBsZSBub25jZQ=="],
            "Sec-WebSocket-Version": ["13"],
            "User-Agent": ["client/1.0"],
            "X-Amzn-Trace-Id": [TRACE_ID],
            "X-Forwarded-For": ["192.0.2.10"],
            "X-Forwarded-Port": ["443"],
            "X-Forwarded-Proto": ["https"],
        },
        "queryStringParameters": {"room": "b"},
        "multiValueQueryStringParameters": {"room": ["a", "b"]},
        "stageVariables": {"table": "conns"},
        "requestContext": {
            "routeKey": "$connect",
            "eventType": "CONNECT",
            "extendedRequestId": REQUEST_ID,
            "requestTime": "19/Feb/2024:07:11:42 +0000",
            "messageDirection": "IN",
            "stage": "prod",
            "connectedAt": 1708326702789,
            "requestTimeEpoch": 1708326702790,
            "identity": {"userAgent": "client/1.0", "sourceIp": "192.0.2.10"},
            "requestId": REQUEST_ID,
            "domainName": HOST,
            "connectionId": CONNECTION_ID,
            "apiId": "abcde12345",
        },
        "isBase64Encoded": False,
    }
    assert as_json(event) == as_json(expected)


def test_the_event_of_a_message() -> None:
    event = event_for(message_request(stage_variables={"table": "conns"}))

    expected = {
        "requestContext": {
            "routeKey": "sendmessage",
            "messageId": MESSAGE_ID,
            "eventType": "MESSAGE",
            "extendedRequestId": REQUEST_ID,
            "requestTime": "19/Feb/2024:07:11:43 +0000",
            "messageDirection": "IN",
            "stage": "prod",
            "connectedAt": 1708326702789,
            "requestTimeEpoch": 1708326703417,
            "identity": {"userAgent": "client/1.0", "sourceIp": "192.0.2.10"},
            "requestId": REQUEST_ID,
            "domainName": HOST,
            "connectionId": CONNECTION_ID,
            "apiId": "abcde12345",
        },
        "body": '{"action":"sendmessage","data":"hi"}',
        "isBase64Encoded": False,
        "stageVariables": {"table": "conns"},
    }
    assert as_json(event) == as_json(expected)


def test_the_event_of_disconnect() -> None:
    event = event_for(disconnect_request(stage_variables={"table": "conns"}))

    expected = {
        "headers": {"Host": HOST, "x-api-key": "", "X-Forwarded-For": "", "x-restapi": ""},
        "multiValueHeaders": {
            "Host": [HOST],
            "x-api-key": [""],
            "X-Forwarded-For": [""],
            "x-restapi": [""],
        },
        "stageVariables": {"table": "conns"},
        "requestContext": {
            "routeKey": "$disconnect",
            "disconnectStatusCode": 1005,
            "eventType": "DISCONNECT",
            "extendedRequestId": REQUEST_ID,
            "requestTime": "19/Feb/2024:07:11:44 +0000",
            "messageDirection": "IN",
            "disconnectReason": "Client-side close frame status not set",
            "stage": "prod",
            "connectedAt": 1708326702789,
            "requestTimeEpoch": 1708326704314,
            "identity": {"userAgent": "client/1.0", "sourceIp": "192.0.2.10"},
            "requestId": REQUEST_ID,
            "domainName": HOST,
            "connectionId": CONNECTION_ID,
            "apiId": "abcde12345",
        },
        "isBase64Encoded": False,
    }
    assert as_json(event) == as_json(expected)


@pytest.mark.parametrize(
    ("request_", "keys"),
    [
        (
            connect_request(*CONNECT_HEADERS),
            {"headers", "multiValueHeaders", "requestContext", "isBase64Encoded"},
        ),
        (message_request(), {"requestContext", "body", "isBase64Encoded"}),
        (
            disconnect_request(),
            {"headers", "multiValueHeaders", "requestContext", "isBase64Encoded"},
        ),
    ],
)
def test_query_and_stage_variables_are_absent_without_a_value(
    request_: RouteRequest, keys: set[str]
) -> None:
    assert event_for(request_).keys() == keys


@pytest.mark.parametrize(
    "request_",
    [
        connect_request(user_agent=None),
        message_request(user_agent=None),
        disconnect_request(user_agent=None),
    ],
)
def test_the_user_agent_is_absent_when_the_client_sent_none(request_: RouteRequest) -> None:
    context: Any = event_for(request_)["requestContext"]

    assert context["identity"] == {"sourceIp": "192.0.2.10"}


@pytest.mark.parametrize(
    "request_",
    [
        connect_request(*CONNECT_HEADERS, target="/prod?a=1", stage_variables={"table": "conns"}),
        message_request(stage_variables={"table": "conns"}),
        disconnect_request(stage_variables={"table": "conns"}),
    ],
)
def test_a_function_may_change_its_event_as_it_likes(request_: RouteRequest) -> None:
    before = as_json(event_for(request_))

    event: Any = event_for(request_)
    for value in event.values():
        if isinstance(value, dict):
            for member in value.values():
                if isinstance(member, list | dict):
                    member.clear()
            value.clear()
    event.clear()

    assert as_json(event_for(request_)) == before


@pytest.mark.parametrize("body", ["", " \r\n\t{} ", "é😀\x00\u2028", "null", "x" * 131072])
def test_the_body_is_the_exact_text(body: str) -> None:
    assert event_for(message_request(body))["body"] == body


def test_a_request_of_no_known_kind_is_a_bug() -> None:
    with pytest.raises(AssertionError):
        event_for(RouteRequest(entry(), "a", REQUEST_ID, 0, {}))


class TestHeadersOfConnect:
    def merged(self, *headers: tuple[str, str], **options: Any) -> dict[str, list[str]]:
        """Return what becomes of the client's headers, without the gateway's own four."""
        every = forwarded_headers(handshake(*headers, **options), trace_id=TRACE_ID)
        own = ("X-Amzn-Trace-Id", "X-Forwarded-For", "X-Forwarded-Port", "X-Forwarded-Proto")
        return {name: values for name, values in every.items() if name not in own}

    def test_casing_is_kept_and_the_order_is_that_of_the_names_in_any_case(self) -> None:
        merged = self.merged(("b", "1"), ("C", "2"), ("a-B", "3"), ("A-c", "4"))

        assert list(merged.items()) == [
            ("a-B", ["3"]),
            ("A-c", ["4"]),
            ("b", ["1"]),
            ("C", ["2"]),
        ]

    def test_the_gateways_own_headers_are_sorted_in(self) -> None:
        headers = forwarded_headers(
            handshake(("x-zebra", "1"), ("x-ant", "2"), ("Host", HOST)), trace_id=TRACE_ID
        )

        assert list(headers) == [
            "Host",
            "X-Amzn-Trace-Id",
            "x-ant",
            "X-Forwarded-For",
            "X-Forwarded-Port",
            "X-Forwarded-Proto",
            "x-zebra",
        ]

    def test_one_name_in_two_casings_is_one_header_under_the_first(self) -> None:
        request = connect_request(("Foo", "1"), ("foo", "2"), ("FOO", "3"))
        event: Any = event_for(request)

        assert event["multiValueHeaders"]["Foo"] == ["1", "2", "3"]
        assert event["headers"]["Foo"] == "3"
        assert event["headers"].keys() == event["multiValueHeaders"].keys()
        assert not {"foo", "FOO"} & event["headers"].keys()

    @pytest.mark.parametrize("name", ["Connection", "Upgrade", "Content-Length", "UPGRADE"])
    def test_connection_upgrade_and_content_length_are_hidden(self, name: str) -> None:
        assert self.merged((name, "0"), ("A", "1")) == {"A": ["1"]}

    def test_the_peer_is_appended_to_what_the_client_says_it_forwards_for(self) -> None:
        def forwarded_for(*values: str) -> list[str]:
            sent = [("x-forwarded-for", value) for value in values]
            headers = forwarded_headers(handshake(*sent), trace_id=TRACE_ID)
            assert "x-forwarded-for" not in headers
            return headers["X-Forwarded-For"]

        assert forwarded_for() == ["192.0.2.10"]
        assert forwarded_for("203.0.113.7") == ["203.0.113.7, 192.0.2.10"]
        assert forwarded_for("a, b", "c") == ["a, b, c, 192.0.2.10"]
        assert forwarded_for("") == ["192.0.2.10"]

    def test_port_and_scheme_are_the_connections_own(self) -> None:
        sent = handshake(
            ("X-Forwarded-Proto", "gopher"),
            ("x-forwarded-port", "70"),
            scheme="http",
            port=8080,
        )

        headers = forwarded_headers(sent, trace_id=TRACE_ID)

        assert headers["X-Forwarded-Proto"] == ["http"]
        assert headers["X-Forwarded-Port"] == ["8080"]
        assert not {"x-forwarded-port"} & headers.keys()

    @pytest.mark.parametrize(
        "sent",
        [
            "Root=1-6374f33e-0f3721a17111942153e57600",
            "Self=1-6374f33e-0f3721a17111942153e57601;Root=1-6374f33e-0f3721a17111942153e57600",
            "Root=1-6374f33e-0f3721a17111942153e57600;Parent=53995c3f42cd8ad8;Sampled=1",
        ],
    )
    def test_a_well_formed_trace_id_of_the_client_is_kept(self, sent: str) -> None:
        headers = forwarded_headers(handshake(("x-amzn-trace-id", sent)), trace_id=TRACE_ID)

        assert headers["X-Amzn-Trace-Id"] == [sent]
        assert "x-amzn-trace-id" not in headers

    @pytest.mark.parametrize(
        "sent",
        [
            "",
            "x",
            "Root=1-6374f33e-0f3721a17111942153e5760",
            "Root=1-6374f33e-0f3721a17111942153e57600a",
            "Root=2-6374f33e-0f3721a17111942153e57600",
            "XRoot=1-6374f33e-0f3721a17111942153e57600",
            "Root=1-6374f33g-0f3721a17111942153e57600",
        ],
    )
    def test_any_other_trace_id_is_replaced(self, sent: str) -> None:
        headers = forwarded_headers(handshake(("X-Amzn-Trace-Id", sent)), trace_id=TRACE_ID)

        assert headers["X-Amzn-Trace-Id"] == [TRACE_ID]


@pytest.mark.parametrize(
    ("query", "parameters"),
    [
        ("", {}),
        ("&", {}),
        ("a=1", {"a": ["1"]}),
        ("a=1&a=2&b=3", {"a": ["1", "2"], "b": ["3"]}),
        ("a", {"a": [""]}),
        ("a=", {"a": [""]}),
        ("a&a=", {"a": ["", ""]}),
        ("=1", {"": ["1"]}),
        ("a=b=c", {"a": ["b=c"]}),
        ("&&a=1&", {"a": ["1"]}),
        ("a=1+2%2B3", {"a": ["1 2+3"]}),
        ("a+b=1", {"a b": ["1"]}),
        ("%61=%C3%A9", {"a": ["é"]}),
        ("a=%ff", {"a": ["\ufffd"]}),
        ("a=%zz%4", {"a": ["%zz%4"]}),
        ("a=%26b%3D1", {"a": ["&b=1"]}),
        ("a;b=1", {"a;b": ["1"]}),
        ("A=1&a=2", {"A": ["1"], "a": ["2"]}),
        ("a=?", {"a": ["?"]}),
    ],
)
def test_query_strings(query: str, parameters: dict[str, list[str]]) -> None:
    assert parse_query(query) == parameters


def test_the_single_value_map_of_a_query_string_keeps_the_last_value() -> None:
    event = event_for(connect_request(target="/prod?a=1&b=&a=2"))

    assert event["queryStringParameters"] == {"a": "2", "b": ""}
    assert event["multiValueQueryStringParameters"] == {"a": ["1", "2"], "b": [""]}


@pytest.mark.parametrize("target", ["/prod", "/prod?", "/prod/?", "/prod?&"])
def test_there_are_no_query_maps_without_a_parameter(target: str) -> None:
    event = event_for(connect_request(target=target))

    assert "queryStringParameters" not in event
    assert "multiValueQueryStringParameters" not in event


@pytest.mark.parametrize(
    ("epoch_s", "text"),
    [
        (0, "01/Jan/1970:00:00:00 +0000"),
        (1701245043, "29/Nov/2023:08:04:03 +0000"),
        (1709251199, "29/Feb/2024:23:59:59 +0000"),
        (253402300799, "31/Dec/9999:23:59:59 +0000"),
    ],
)
def test_the_request_time_is_clf_in_utc(epoch_s: int, text: str) -> None:
    assert clf_time(epoch_s) == text


@given(st.text("ab=&+%0f9;\xff", max_size=30))
def test_query_strings_are_read_as_forms_are(query: str) -> None:
    assert parse_query(query) == parse_qs(query, keep_blank_values=True)


# What a parser of HTTP lets through: tokens, and latin-1 without controls.
header_names = st.text("!#$%&'*+-.^_`|~aAbBxX09", min_size=1, max_size=4) | st.sampled_from(
    ["Connection", "upgrade", "X-Forwarded-For", "x-forwarded-for", "X-Amzn-Trace-Id"]
)
header_values = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF), max_size=5)


@pytest.mark.slow
@given(st.lists(st.tuples(header_names, header_values)))
def test_whatever_headers_come_the_event_is_in_order_and_json(
    headers: list[tuple[str, str]],
) -> None:
    event: Any = event_for(connect_request(*headers))

    names = list(event["headers"])
    folded = [name.lower() for name in names]
    assert folded == sorted(set(folded))
    assert not {"connection", "upgrade", "content-length"} & set(folded)
    assert list(event["multiValueHeaders"]) == names
    assert orjson.loads(orjson.dumps(event)) == event
