"""HTTP and HTTP_PROXY against a real backend: what it receives, and what becomes of its answer."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, closing
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from tests.integrations.backends import ANSWER, http_backend, raw_backend, refusing_url
from tests.integrations.requests import connect, disconnect, integration, message
from wsgateway.contracts import IntegrationResponse
from wsgateway.errors import (
    BackendUnreachable,
    IntegrationTimeout,
    TransformationFailed,
    UnsupportedMediaType,
)
from wsgateway.integrations.client import AioHttpClient
from wsgateway.integrations.http import HttpIntegration

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.integrations.backends import Backend, RawBackend, Received
    from wsgateway.events import RouteRequest

# Of a message or `$disconnect`; the trace id is of the request's own time and id.
GATEWAY_HEADERS = [
    ("User-Agent", "AmazonAPIGateway_abcde12345"),
    ("x-amzn-apigateway-api-id", "abcde12345"),
    ("X-Forwarded-For", "192.0.2.10"),
    ("X-Amzn-Trace-Id", "Root=1-65d2ff2e-457851564668634647426b3d"),
]
CONTENT_TYPE = ("Content-Type", "application/json")


@asynccontextmanager
async def calling(
    url: str, integration_type: str = "HTTP_PROXY", **members: Any
) -> AsyncIterator[HttpIntegration]:
    """Yield an integration for a backend."""
    client = AioHttpClient()
    declared = {"integrationMethod": "POST", "integrationUri": url, **members}
    try:
        yield HttpIntegration(integration(integration_type, **declared), client)
    finally:
        await client.close()


@asynccontextmanager
async def proxying(
    path: str = "", **members: Any
) -> AsyncIterator[tuple[Backend, HttpIntegration]]:
    async with (
        http_backend() as backend,
        calling(backend.url + path, **members) as integration_,
    ):
        yield backend, integration_


async def received(request: RouteRequest, path: str = "", **members: Any) -> Received:
    """Return what a backend gets."""
    async with proxying(path, **members) as (backend, integration_):
        await integration_.handle(request)
    [one] = backend.received
    return one


# --- 5.3: what a backend receives


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"])
@pytest.mark.parametrize("request_", [connect(), message(), disconnect()])
async def test_method_and_url_are_the_integrations(method: str, request_: RouteRequest) -> None:
    request = await received(request_, "/ws/v1?a=b%20c", integrationMethod=method)

    assert request.line == f"{method} /ws/v1?a=b%20c"


async def test_on_connect_the_clients_headers_are_forwarded_and_there_is_no_body() -> None:
    request = await received(connect())

    assert request.without_host() == [
        ("User-Agent", "AmazonAPIGateway_abcde12345"),
        ("x-amzn-apigateway-api-id", "abcde12345"),
        ("Cookie", "a=b"),
        ("Sec-WebSocket-Extensions", "permessage-deflate"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("Sec-WebSocket-Protocol", "chat1, chat2"),
        ("Sec-WebSocket-Version", "13"),
        ("X-Amzn-Trace-Id", "Root=1-65d2ff2e-0102030405060708090a0b0c"),
        ("X-Forwarded-For", "192.0.2.10"),
        ("X-Forwarded-Port", "443"),
        ("X-Forwarded-Proto", "https"),
        ("X-Token", "one"),
        ("X-Token", "two"),
        ("Content-Length", "0"),
    ]
    assert request.body == b""


async def test_host_is_the_backends() -> None:
    async with proxying() as (backend, integration_):
        await integration_.handle(connect())

    assert backend.received[0].header("Host") == backend.url.removeprefix("http://")


async def test_the_clients_query_string_is_appended_as_it_was_sent() -> None:
    request = await received(connect("/dev?b=1&b=%C3%A9+x&c"), "/ws?a=0")

    assert request.line == "POST /ws?a=0&b=1&b=%C3%A9+x&c"


async def test_what_a_url_cannot_hold_is_escaped_in_it() -> None:
    request = await received(connect('/dev?a="<é>{\\&b=%zz'))

    assert request.line == "POST /?a=%22%3C%C3%A9%3E%7B%5C&b=%zz"


async def test_a_client_cannot_pass_for_the_gateway() -> None:
    """X-Forwarded-For is added to, the others are the connection's own."""
    headers = (
        ("x-amzn-apigateway-api-id", "zzz"),
        ("X-Forwarded-For", "203.0.113.9"),
        ("X-Forwarded-Proto", "gopher"),
        ("X-Forwarded-Port", "1"),
        ("Transfer-Encoding", "chunked"),
        ("Content-Length", "0"),
        ("Expect", "100-continue"),
        ("Keep-Alive", "timeout=1"),
        ("TE", "trailers"),
        ("Proxy-Authorization", "Basic x"),
    )
    request = await received(connect(headers=headers))

    assert request.without_host() == [
        ("User-Agent", "AmazonAPIGateway_abcde12345"),
        ("x-amzn-apigateway-api-id", "abcde12345"),
        ("X-Amzn-Trace-Id", "Root=1-65d2ff2e-0102030405060708090a0b0c"),
        ("X-Forwarded-For", "203.0.113.9, 192.0.2.10"),
        ("X-Forwarded-Port", "443"),
        ("X-Forwarded-Proto", "https"),
        ("Content-Length", "0"),
    ]


@pytest.mark.parametrize(
    ("sent", "forwarded"),
    [("é".encode(), "é".encode()), (b"\xe9", "é".encode())],
    ids=["UTF-8", "latin-1"],
)
async def test_a_header_beyond_ascii_arrives_as_utf8(sent: bytes, forwarded: bytes) -> None:
    request = await received(connect(headers=(("X-Name", sent.decode("latin-1")),)))

    assert request.header("X-Name").encode("latin-1") == forwarded


async def test_a_message_is_the_body_and_only_the_gateways_headers_are_sent() -> None:
    text = '{"action":"send",\r\n\t"text":"é😀"}'
    request = await received(message(text))

    assert request.without_host() == [
        *GATEWAY_HEADERS,
        CONTENT_TYPE,
        ("Content-Length", str(len(text.encode()))),
    ]
    assert request.body == text.encode()


async def test_an_empty_message_is_an_empty_body() -> None:
    request = await received(message(""))

    assert request.without_host() == [*GATEWAY_HEADERS, CONTENT_TYPE, ("Content-Length", "0")]
    assert request.body == b""


async def test_on_disconnect_there_is_no_body_and_no_content_type() -> None:
    request = await received(disconnect(), "/ws?a=b")

    assert request.line == "POST /ws?a=b"
    assert request.without_host() == [*GATEWAY_HEADERS, ("Content-Length", "0")]
    assert request.body == b""


async def test_templates_are_none_of_a_proxys() -> None:
    request = await received(message("hi"), requestTemplates={"$default": "x"})

    assert request.body == b"hi"


@pytest.mark.parametrize("request_", [connect(), message(), disconnect()])
async def test_the_connection_id_is_sent_only_if_it_is_mapped(request_: RouteRequest) -> None:
    plain = await received(request_)
    mapped = await received(
        request_,
        requestParameters={"integration.request.header.connectionId": "context.connectionId"},
    )

    assert "AQIDBAUGBwgCCQo=" not in repr(plain)
    assert mapped.header("connectionId") == "AQIDBAUGBwgCCQo="


async def test_sec_websocket_version_can_be_mapped_away() -> None:
    """Servers that know WebSockets answer 400 to version 13 without `Upgrade`."""
    request = await received(
        connect(),
        requestParameters={"integration.request.header.Sec-WebSocket-Version": "'0'"},
    )

    assert request.header("Sec-WebSocket-Version") == "0"


async def test_a_mapped_header_takes_the_place_of_the_gateways() -> None:
    request = await received(
        message(),
        requestParameters={
            "integration.request.header.content-type": "'text/plain'",
            "integration.request.header.User-Agent": "'mine'",
            "integration.request.header.Host": "'other.example'",
        },
    )

    assert request.header("Content-Type") == "text/plain"
    assert request.header("User-Agent") == "mine"
    assert request.header("Host") == "other.example"


async def test_a_mapping_without_a_value_leaves_the_gateways_header() -> None:
    request = await received(
        message("{}"),
        requestParameters={"integration.request.header.Content-Type": "route.request.body.type"},
    )

    assert request.header("Content-Type") == "application/json"


async def test_a_mapped_parameter_is_never_the_clients_own() -> None:
    """Not even when the mapping has no value."""
    parameters = {
        "integration.request.header.X-User": "route.request.header.X-Verified",
        "integration.request.querystring.user": "route.request.querystring.verified",
    }
    request = await received(
        connect("/dev?user=admin&us%65r=admin&a=b", headers=(("x-user", "admin"),)),
        requestParameters=parameters,
    )

    assert request.line == "POST /?a=b"
    assert "x-user" not in {name.lower() for name, _ in request.headers}


async def test_the_clients_query_string_does_not_double_the_uris_own() -> None:
    request = await received(connect("/dev?key=theirs&a=b"), "/?key=ours")

    assert request.line == "POST /?key=ours&a=b"


@pytest.mark.parametrize(
    "name", ["Connection", "Content-Length", "Expect", "Transfer-Encoding", "Upgrade", "TE"]
)
async def test_headers_of_the_connection_cannot_be_mapped(name: str) -> None:
    request = await received(
        message("hi"), requestParameters={f"integration.request.header.{name}": "'5'"}
    )

    assert request.without_host() == [*GATEWAY_HEADERS, CONTENT_TYPE, ("Content-Length", "2")]
    assert request.body == b"hi"


async def test_no_value_can_end_its_header() -> None:
    request = await received(
        message('{"name": "a\\r\\nX-Admin: 1\\u0000\\u007f\\ud800 é"}'),
        requestParameters={"integration.request.header.X-Name": "route.request.body.name"},
    )

    assert request.header("X-Name").encode("latin-1").decode() == "a  X-Admin: 1  ? é"
    assert "X-Admin" not in {name for name, _ in request.headers}


async def test_query_string_parameters_are_escaped() -> None:
    request = await received(
        message('{"name": "a b&c=d#?/%+é\\r\\n\\ud800"}'),
        "/x?a=1",
        requestParameters={
            "integration.request.querystring.na$me": "route.request.body.name",
            "integration.request.querystring.stage": "context.stage",
        },
    )

    assert request.line == (
        "POST /x?a=1&na%24me=a%20b%26c%3Dd%23%3F%2F%25%2B%C3%A9%0D%0A%3F&stage=dev"
    )


async def test_placeholders_in_the_path_are_filled_and_escaped() -> None:
    request = await received(
        message('{"room": "a/b?c#d%e é"}'),
        "/ws/{room}/{conn}.json?x=y",
        requestParameters={
            "integration.request.path.room": "route.request.body.room",
            "integration.request.path.conn": "context.connectionId",
        },
    )

    assert request.line == ("POST /ws/a%2Fb%3Fc%23d%25e%20%C3%A9/AQIDBAUGBwgCCQo%3D.json?x=y")


@pytest.mark.parametrize("room", ['".."', '"."', '""', "null", "[]..", "1, room: '..'"])
async def test_no_value_leads_to_another_path(room: str) -> None:
    async with proxying(
        "/ws/{room}/x",
        requestParameters={"integration.request.path.room": "route.request.body.room"},
    ) as (backend, integration_):
        with pytest.raises(TransformationFailed):
            await integration_.handle(message(f'{{"room": {room}}}'))

    assert backend.received == []


async def test_a_message_in_base64_can_be_sent_as_bytes() -> None:
    request = await received(message("/wCq"), contentHandlingStrategy="CONVERT_TO_BINARY")

    assert request.body == b"\xff\x00\xaa"


# --- what becomes of the answer


@pytest.mark.parametrize("status", [200, 201, 204, 302, 400, 401, 500, 503])
async def test_on_connect_the_backends_status_is_the_answer(status: int) -> None:
    async with proxying() as (backend, integration_):
        backend.status, backend.body = status, b""

        response = await integration_.handle(connect())

    assert response == IntegrationResponse(status, None, b"")


@pytest.mark.parametrize(
    ("headers", "subprotocol"),
    [
        ([("Sec-WebSocket-Protocol", "chat1")], "chat1"),
        ([("sec-websocket-protocol", "chat2"), ("X", "y")], "chat2"),
        ([("Sec-WebSocket-Protocol", "a"), ("Sec-WebSocket-Protocol", "b")], "b"),
        ([], None),
    ],
)
async def test_on_connect_the_backend_chooses_the_subprotocol(
    headers: list[tuple[str, str]], subprotocol: str | None
) -> None:
    async with proxying() as (backend, integration_):
        backend.headers = headers

        response = await integration_.handle(connect())

    assert response == IntegrationResponse(200, subprotocol, b"ok")


@pytest.mark.parametrize("status", [200, 404, 500])
async def test_of_a_messages_answer_the_body_is_the_reply(status: int) -> None:
    async with proxying() as (backend, integration_):
        backend.status, backend.body = status, '{"a": "é"}\n'.encode()
        backend.headers = [("Sec-WebSocket-Protocol", "chat1")]

        response = await integration_.handle(message())

    assert response == IntegrationResponse(status, None, '{"a": "é"}\n'.encode())


async def test_bytes_that_are_no_text_are_passed_for_dispatch_to_judge() -> None:
    async with proxying() as (backend, integration_):
        backend.body = b"\xff\xfe"

        assert (await integration_.handle(message())).payload == b"\xff\xfe"


async def test_a_proxy_needs_no_integration_response_and_heeds_none() -> None:
    declared = {"$default": {"responseTemplates": {"$default": "x"}}}
    async with proxying(integrationResponses=declared) as (_, integration_):
        assert (await integration_.handle(message())).payload == b"ok"


async def test_concurrent_messages_get_their_own_answers() -> None:
    async with proxying() as (backend, integration_):

        async def echo(request: web.Request) -> web.Response:
            return web.Response(body=await request.read())

        backend.answer = echo
        replies = await asyncio.gather(*(integration_.handle(message(f"{n}")) for n in range(20)))

    assert [reply.payload for reply in replies] == [b"%d" % n for n in range(20)]


# --- faults


async def test_a_backend_that_is_down() -> None:
    async with calling(refusing_url()) as integration_:
        with pytest.raises(BackendUnreachable) as caught:
            await integration_.handle(message())

    assert (caught.value.status, caught.value.message) == (
        504,
        "Network error communicating with endpoint",
    )


async def test_a_backend_without_an_address() -> None:
    async with calling("http://backend.invalid/") as integration_:
        with pytest.raises(BackendUnreachable):
            await integration_.handle(message())


async def test_a_backend_that_hangs() -> None:
    with raw_backend(lambda backend: backend.wait()) as backend:
        async with calling(backend.url, timeoutInMillis=50) as integration_:
            with pytest.raises(IntegrationTimeout) as caught:
                await integration_.handle(message())

    assert (caught.value.status, caught.value.message) == (504, "Endpoint request timed out")


async def test_a_backend_that_answers_half() -> None:
    def script(backend: RawBackend) -> None:
        with closing(backend.accept()) as connection:
            backend.read(connection)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nha")

    with raw_backend(script) as backend:
        async with calling(backend.url) as integration_:
            with pytest.raises(BackendUnreachable):
                await integration_.handle(message())


async def test_a_backend_that_answers_five_megabytes() -> None:
    async with proxying() as (backend, integration_):
        backend.body = b"x" * 5 * 1024 * 1024
        with pytest.raises(BackendUnreachable):
            await integration_.handle(message())
        backend.body = b"ok"

        assert (await integration_.handle(message())).payload == b"ok"


async def test_a_backend_that_closes_between_two_messages() -> None:
    def script(backend: RawBackend) -> None:
        for _ in range(2):
            with closing(backend.accept()) as connection:
                backend.read(connection)
                connection.sendall(ANSWER)
                if not backend.done.is_set():
                    backend.wait()
            backend.done.set()

    with raw_backend(script) as backend:
        async with calling(backend.url) as integration_:
            first = await integration_.handle(message("1"))
            backend.proceed.set()
            assert backend.done.wait(5)
            second = await integration_.handle(message("2"))

    assert (first.payload, second.payload) == (b"ok", b"ok")
    assert backend.requests == [b"1", b"2"]


# --- HTTP: templates and integration responses


@asynccontextmanager
async def transforming(**members: Any) -> AsyncIterator[tuple[Backend, HttpIntegration]]:
    async with (
        http_backend() as backend,
        calling(backend.url, "HTTP", **members) as integration_,
    ):
        yield backend, integration_


async def test_http_sends_none_of_the_clients_headers_and_query() -> None:
    async with transforming(integrationResponses={"$default": {}}) as (backend, integration_):
        await integration_.handle(connect("/dev?a=b"))

    [request] = backend.received
    assert request.line == "POST /"
    assert request.without_host() == [
        ("User-Agent", "AmazonAPIGateway_abcde12345"),
        ("x-amzn-apigateway-api-id", "abcde12345"),
        ("X-Forwarded-For", "192.0.2.10"),
        ("X-Forwarded-Port", "443"),
        ("X-Forwarded-Proto", "https"),
        ("X-Amzn-Trace-Id", "Root=1-65d2ff2e-0102030405060708090a0b0c"),
        ("Content-Length", "0"),
    ]


@pytest.mark.parametrize("request_", [connect(), message(), disconnect()])
async def test_http_sends_what_its_template_makes(request_: RouteRequest) -> None:
    async with transforming(
        requestTemplates={"$default": '{"id": "$context.connectionId"}'},
        integrationResponses={"$default": {}},
    ) as (backend, integration_):
        await integration_.handle(request_)

    [request] = backend.received
    assert request.body == b'{"id": "AQIDBAUGBwgCCQo="}'
    assert request.header("Content-Type") == "application/json"


async def test_http_refuses_a_message_without_a_template() -> None:
    async with transforming(passthroughBehavior="NEVER", integrationResponses={"$default": {}}) as (
        backend,
        integration_,
    ):
        with pytest.raises(UnsupportedMediaType):
            await integration_.handle(message())

    assert backend.received == []


async def test_the_status_selects_the_integration_response() -> None:
    async with transforming(
        integrationResponses={
            "$default": {"responseTemplates": {"$default": "other"}},
            r"/2\d\d/": {},
            r"/4\d\d/": {"responseTemplates": {"$default": "refused: $input.body"}},
        }
    ) as (backend, integration_):
        replies = []
        for status in (201, 404, 500):
            backend.status = status
            replies.append(await integration_.handle(message()))

    assert replies == [
        IntegrationResponse(201, None, b"ok"),
        IntegrationResponse(404, None, b"refused: ok"),
        IntegrationResponse(500, None, b"other"),
    ]


async def test_on_connect_a_status_that_matches_is_the_answer() -> None:
    async with transforming(integrationResponses={"/200/": {}, "/403/": {}}) as (
        backend,
        integration_,
    ):
        accepted = await integration_.handle(connect())
        backend.status = 403
        refused = await integration_.handle(connect())
        backend.status = 400
        with pytest.raises(TransformationFailed) as caught:
            await integration_.handle(connect())

    assert (accepted.status_code, refused.status_code) == (200, 403)
    assert (caught.value.status, caught.value.message) == (500, "Internal server error")
    assert str(caught.value) == "no integration response is for '400'"


@pytest.mark.parametrize("uri", ["ftp://x/", "backend", "http:///x", "//x", ""])
async def test_what_is_no_url_is_refused_when_it_is_built(uri: str) -> None:
    client = AioHttpClient()
    definition = integration(
        "HTTP_PROXY", integrationMethod="POST", integrationUri="http://x/"
    ).model_copy(update={"integration_uri": uri})
    with pytest.raises(ValueError, match="is not a URL"):
        HttpIntegration(definition, client)
