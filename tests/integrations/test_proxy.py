"""AWS_PROXY: what is a proxy response, and what of it counts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, strategies as st

from wsgateway.connection import ConnectionEntry, ConnectionKey
from wsgateway.contracts import IntegrationResponse
from wsgateway.errors import IntegrationTimeout, MalformedResponse
from wsgateway.events import MessageRequest, event_for
from wsgateway.integrations.proxy import ProxyIntegration, parse_proxy_response

REQUEST = MessageRequest(
    entry=ConnectionEntry(
        key=ConnectionKey("abcde12345", "dev", "AQIDEBESExQCFRY="),
        connected_at_ms=1708326702789,
        domain_name="localhost",
        source_ip="127.0.0.1",
        user_agent=None,
    ),
    route_key="echo",
    request_id="EBESExQVFhcFGBk=",
    requested_at_ms=1708326702790,
    stage_variables={},
    message_id="ICEiIyQlJicCFRY=",
    body="hi",
)


class FakeInvoker:
    """Answers with what it was given, and remembers how it was called."""

    def __init__(self, result: object) -> None:
        self.result = result
        self.calls: list[tuple[dict[str, object], float]] = []

    async def invoke(self, event: dict[str, object], *, timeout_s: float) -> object:
        self.calls.append((event, timeout_s))
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


async def test_the_function_gets_the_event_and_its_result_is_read() -> None:
    invoker = FakeInvoker({"statusCode": 201, "body": "hi"})

    response = await ProxyIntegration(invoker, timeout_s=29.0).handle(REQUEST)

    assert invoker.calls == [(event_for(REQUEST), 29.0)]
    assert response == IntegrationResponse(status_code=201, subprotocol=None, payload=b"hi")


async def test_a_malformed_result_is_the_integrations_fault() -> None:
    with pytest.raises(MalformedResponse):
        await ProxyIntegration(FakeInvoker("hi"), timeout_s=29.0).handle(REQUEST)


async def test_faults_of_the_invoker_pass() -> None:
    with pytest.raises(IntegrationTimeout):
        await ProxyIntegration(FakeInvoker(IntegrationTimeout()), timeout_s=29.0).handle(REQUEST)


def test_all_five_members() -> None:
    result = {
        "statusCode": 200,
        "headers": {"Sec-WebSocket-Protocol": "chat1"},
        "multiValueHeaders": {},
        "body": "text",
        "isBase64Encoded": False,
    }

    assert parse_proxy_response(result) == IntegrationResponse(
        status_code=200, subprotocol="chat1", payload=b"text"
    )


@pytest.mark.parametrize(
    ("value", "status"),
    [
        (200, 200),
        (204, 204),
        (301, 301),
        (501, 501),
        ("200", 200),
        ("0200", 200),
        # JSON has one kind of number.
        (200.0, 200),
        # What no HTTP response can have matters to `$connect` only.
        (0, 0),
        (-1, -1),
        (99, 99),
        (600, 600),
        (999_999_999, 999_999_999),
    ],
    ids=repr,
)
def test_the_status_code_is_a_whole_number_or_its_digits(value: object, status: int) -> None:
    response = parse_proxy_response({"statusCode": value})

    assert response == IntegrationResponse(status_code=status, subprotocol=None, payload=None)
    assert type(response.status_code) is int


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (True, "statusCode is bool, not a whole number of up to nine digits"),
        (False, "statusCode is bool, not a whole number of up to nine digits"),
        (None, "statusCode is null, not a whole number of up to nine digits"),
        ("", "statusCode is str, not a whole number of up to nine digits"),
        ("2OO", "statusCode is str, not a whole number of up to nine digits"),
        ("200 ", "statusCode is str, not a whole number of up to nine digits"),
        ("200\n", "statusCode is str, not a whole number of up to nine digits"),
        ("200.0", "statusCode is str, not a whole number of up to nine digits"),
        ("+200", "statusCode is str, not a whole number of up to nine digits"),
        ("٢٠٠", "statusCode is str, not a whole number of up to nine digits"),
        ("1" * 10, "statusCode is str, not a whole number of up to nine digits"),
        ("1" * 10_000, "statusCode is str, not a whole number of up to nine digits"),
        (200.5, "statusCode is float, not a whole number of up to nine digits"),
        (float("nan"), "statusCode is float, not a whole number of up to nine digits"),
        (float("inf"), "statusCode is float, not a whole number of up to nine digits"),
        (1e300, "statusCode is int, not a whole number of up to nine digits"),
        (10**9, "statusCode is int, not a whole number of up to nine digits"),
        (-(10**9), "statusCode is int, not a whole number of up to nine digits"),
        ([200], "statusCode is list, not a whole number of up to nine digits"),
        ({}, "statusCode is dict, not a whole number of up to nine digits"),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_any_other_status_code_is_malformed(value: object, problem: str) -> None:
    with pytest.raises(MalformedResponse) as caught:
        parse_proxy_response({"statusCode": value})

    assert str(caught.value) == problem


def test_a_status_code_with_more_digits_than_python_prints_is_malformed() -> None:
    with pytest.raises(MalformedResponse):
        parse_proxy_response({"statusCode": 1 << 20_000})


def test_a_missing_status_code_is_malformed() -> None:
    with pytest.raises(MalformedResponse) as caught:
        parse_proxy_response({"body": "hi"})

    assert str(caught.value) == "statusCode is null, not a whole number of up to nine digits"


@pytest.mark.parametrize(
    ("result", "problem"),
    [
        (None, "the function returned null, not an object"),
        ("hi", "the function returned str, not an object"),
        (200, "the function returned int, not an object"),
        (True, "the function returned bool, not an object"),
        ([], "the function returned list, not an object"),
        ([{"statusCode": 200}], "the function returned list, not an object"),
    ],
)
def test_what_is_no_object_is_malformed(result: object, problem: str) -> None:
    with pytest.raises(MalformedResponse) as caught:
        parse_proxy_response(result)

    assert str(caught.value) == problem


@pytest.mark.parametrize(
    ("extra", "named"),
    [
        ({"ConnectionId": "x", "Data": "y"}, "ConnectionId, Data"),
        ({"statuscode": 200}, "statuscode"),
        ({"cookies": []}, "cookies"),
        ({"": None}, ""),
    ],
)
def test_an_extra_key_is_malformed(extra: dict[str, object], named: str) -> None:
    with pytest.raises(MalformedResponse) as caught:
        parse_proxy_response({"statusCode": 200, **extra})

    assert str(caught.value) == f"the function's result has unknown keys: {named}"


@pytest.mark.parametrize(
    ("body", "payload"),
    [
        ("", b""),
        ("hi", b"hi"),
        ("é😀", b"\xc3\xa9\xf0\x9f\x98\x80"),
        (" \r\n\x00", b" \r\n\x00"),
        ("x" * 200_000, b"x" * 200_000),
        (None, None),
    ],
    ids=["empty", "ascii", "unicode", "controls", "long", "null"],
)
def test_the_body_is_sent_as_it_is(body: str | None, payload: bytes | None) -> None:
    assert parse_proxy_response({"statusCode": 200, "body": body}).payload == payload


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (1, "int"),
        (1.5, "float"),
        (True, "bool"),
        (False, "bool"),
        ({}, "dict"),
        ({"a": 1}, "dict"),
        ([], "list"),
    ],
)
def test_a_body_that_is_no_string_is_malformed(body: object, kind: str) -> None:
    with pytest.raises(MalformedResponse) as caught:
        parse_proxy_response({"statusCode": 200, "body": body})

    assert str(caught.value) == f"body is {kind}, not a string"


@pytest.mark.parametrize("flag", [False, None, "false"])
def test_a_body_is_plain_text(flag: object) -> None:
    result = {"statusCode": 200, "body": "aGk=", "isBase64Encoded": flag}

    assert parse_proxy_response(result).payload == b"aGk="


@pytest.mark.parametrize("flag", [True, "true"])
def test_a_body_is_base64(flag: object) -> None:
    result = {"statusCode": 200, "body": "aGkgw6k=", "isBase64Encoded": flag}

    assert parse_proxy_response(result).payload == "hi é".encode()


def test_base64_of_nothing_is_an_empty_body() -> None:
    assert parse_proxy_response(
        {"statusCode": 200, "body": "", "isBase64Encoded": True}
    ) == IntegrationResponse(status_code=200, subprotocol=None, payload=b"")


@pytest.mark.parametrize("flag", [1, 0, 1.0, "True", "yes", "", [], {}], ids=repr)
def test_any_other_base64_flag_is_malformed(flag: object) -> None:
    with pytest.raises(MalformedResponse, match="isBase64Encoded is "):
        parse_proxy_response({"statusCode": 200, "body": "aGk=", "isBase64Encoded": flag})


@pytest.mark.parametrize("body", ["a", "aGk", "aG k=", "%%%%", "é", "aGk=\n"])
def test_a_body_that_is_no_base64_is_malformed(body: str) -> None:
    with pytest.raises(MalformedResponse, match="body is not base64"):
        parse_proxy_response({"statusCode": 200, "body": body, "isBase64Encoded": True})


@pytest.mark.parametrize(
    "result",
    [
        {"statusCode": 200, "body": "/w==", "isBase64Encoded": True},
        {"statusCode": 200, "body": "7aCA", "isBase64Encoded": True},
        {"statusCode": 200, "body": "\ud800"},
    ],
    ids=["no UTF-8", "a surrogate in base64", "a lone surrogate"],
)
def test_a_body_that_is_no_text_is_bytes_that_are_no_utf8(result: dict[str, Any]) -> None:
    """Whether it matters is for whoever sends it to say: on a one-way route nobody does."""
    payload = parse_proxy_response(result).payload

    assert payload is not None
    with pytest.raises(UnicodeDecodeError):
        payload.decode()


@pytest.mark.parametrize(
    ("members", "subprotocol"),
    [
        ({}, None),
        ({"headers": None, "multiValueHeaders": None}, None),
        ({"headers": {}, "multiValueHeaders": {}}, None),
        ({"headers": {"Content-Type": "text/plain"}}, None),
        ({"headers": {"Sec-WebSocket-Protocol": "chat"}}, "chat"),
        ({"headers": {"Sec-Websocket-Protocol": "chat"}}, "chat"),
        ({"headers": {"sec-websocket-protocol": "chat"}}, "chat"),
        ({"headers": {"Sec-WebSocket-Protocol": None}}, None),
        ({"headers": {"Sec-WebSocket-Protocol": ""}}, ""),
        ({"headers": {"Sec-WebSocket-Protocol": "a, b"}}, "a, b"),
        ({"multiValueHeaders": {"SEC-WEBSOCKET-PROTOCOL": ["a", "b"]}}, "b"),
        ({"multiValueHeaders": {"Sec-WebSocket-Protocol": []}}, None),
        (
            {
                "headers": {"Sec-WebSocket-Protocol": "a"},
                "multiValueHeaders": {"Sec-WebSocket-Protocol": ["b"]},
            },
            "b",
        ),
        # Other headers are dropped, whatever is in them.
        ({"headers": {"X": 1, "Y": None, "Z": [], "Set-Cookie": "\r\n"}}, None),
    ],
)
def test_the_subprotocol_is_the_only_header_that_counts(
    members: dict[str, object], subprotocol: str | None
) -> None:
    assert parse_proxy_response({"statusCode": 200, **members}).subprotocol == subprotocol


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        ({"headers": []}, "headers is list, not an object"),
        ({"headers": "x"}, "headers is str, not an object"),
        ({"multiValueHeaders": 1}, "multiValueHeaders is int, not an object"),
        (
            {"multiValueHeaders": {"X": "a"}},
            "multiValueHeaders.X is str, not a list",
        ),
        (
            {"headers": {"Sec-WebSocket-Protocol": 13}},
            "Sec-WebSocket-Protocol is int, not a string",
        ),
        (
            {"multiValueHeaders": {"Sec-WebSocket-Protocol": [{}]}},
            "Sec-WebSocket-Protocol is dict, not a string",
        ),
    ],
)
def test_headers_of_another_type_are_malformed(members: dict[str, object], problem: str) -> None:
    with pytest.raises(MalformedResponse) as caught:
        parse_proxy_response({"statusCode": 200, **members})

    assert str(caught.value) == problem


texts = st.text(st.characters(exclude_categories=()), max_size=10)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | texts
values = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=5
)
members = st.sampled_from(
    ["statusCode", "headers", "multiValueHeaders", "body", "isBase64Encoded", "more"]
)


@pytest.mark.slow
@given(values | st.dictionaries(members, values | st.integers(100, 599)))
def test_whatever_a_function_returns_is_a_response_or_malformed(result: object) -> None:
    try:
        response = parse_proxy_response(result)
    except MalformedResponse:
        return
    assert abs(response.status_code) < 10**9
    assert response.payload is None or isinstance(response.payload, bytes)
