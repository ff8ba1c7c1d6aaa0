"""HTTP and HTTP_PROXY: a request to a backend, and its answer back.

What is sent besides the mapped parameters:

| | `$connect` | message | `$disconnect` |
| --- | --- | --- | --- |
| body | what a template makes (HTTP) | the message, or what a template makes | as `$connect` |
| the client's headers | HTTP_PROXY: all but hop-by-hop ones, `Host` and `User-Agent` | none | none |
| the client's query string | HTTP_PROXY: as it was sent | none | none |
| `User-Agent`, `x-amzn-apigateway-api-id` | yes | yes | yes |
| `X-Forwarded-For`, `X-Amzn-Trace-Id` | yes | yes | yes |
| `X-Forwarded-Port`, `X-Forwarded-Proto` | yes | no | no |
| `Content-Type: application/json` | with a body | yes | with a body |

A mapped parameter takes the place of the client's of that name, also when it has no value: a
backend can rely on what it was mapped.
"""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, unquote_plus

from wsgateway.api.definition import IntegrationType
from wsgateway.api.unmapped_headers import CONNECTION_HEADERS
from wsgateway.contracts import IntegrationResponse
from wsgateway.events import ConnectRequest, forwarded_headers
from wsgateway.integrations.parameters import header_value
from wsgateway.integrations.requests import RequestTransformation
from wsgateway.integrations.responses import ResponseTransformation
from wsgateway.integrations.uri_parameters import UriText, check_path, query_pairs

if TYPE_CHECKING:
    from collections.abc import Container, Mapping, Sequence

    from wsgateway.api.definition import IntegrationDefinition
    from wsgateway.contracts import HttpClient, HttpResponse
    from wsgateway.events import RouteRequest
    from wsgateway.integrations.parameters import Parameters

_SUBPROTOCOL: Final = "sec-websocket-protocol"
_CONTENT_TYPE: Final = ("Content-Type", "application/json")

_NOT_FORWARDED: Final = CONNECTION_HEADERS | {"host", "user-agent", "x-amzn-apigateway-api-id"}
_OF_THE_HANDSHAKE: Final = (
    "X-Forwarded-For",
    "X-Forwarded-Port",
    "X-Forwarded-Proto",
    "X-Amzn-Trace-Id",
)
_OWN: Final = frozenset(
    {"content-type", "user-agent", "x-amzn-apigateway-api-id"}
    | {name.lower() for name in _OF_THE_HANDSHAKE}
)

_ORIGIN = re.compile(r"https?://[^/?#{}\s]+", re.IGNORECASE)
# RFC 3986, 3.3 and 3.4, and escapes that are there already.
_PATH_SAFE: Final = "/%:@!$&'()*+,;=-._~"
_QUERY_SAFE: Final = f"{_PATH_SAFE}?"


class HttpIntegration:
    """Sends requests to one URL.

    Args:
        definition: HTTP or HTTP_PROXY; its URI refers to no stage variables any more.
        client: What sends them.

    Raises:
        ValueError: The URI is not one of HTTP's.
    """

    def __init__(self, definition: IntegrationDefinition, client: HttpClient) -> None:
        assert definition.integration_method is not None, "checked with the definition"
        assert definition.integration_uri is not None, "checked with the definition"
        self._proxy = definition.integration_type is IntegrationType.HTTP_PROXY
        self._method = definition.integration_method.upper()
        self._uri = _Uri(definition.integration_uri)
        self._timeout_s = definition.timeout_in_millis / 1000
        self._request = RequestTransformation(definition)
        self._response = None if self._proxy else ResponseTransformation(definition)
        self._client = client

    async def handle(self, request: RouteRequest) -> IntegrationResponse:
        """Send a request and wait for the answer.

        Raises:
            UnsupportedMediaType: No request template is for the message.
            TransformationFailed: A template failed, or nothing is for the answer.
            BackendUnreachable: There is no answer.
            IntegrationTimeout: It takes too long.
        """
        body = self._request.body(request)
        parameters = self._request.parameters(request)
        response = await self._client.send(
            self._method,
            self._url(request, parameters),
            headers=self._headers(request, parameters, with_body=body is not None),
            body=body or b"",
            timeout_s=self._timeout_s,
        )
        if self._response is not None:
            return self._response.apply(request, response, matched=str(response.status))
        return IntegrationResponse(
            response.status,
            _subprotocol(response) if isinstance(request, ConnectRequest) else None,
            response.body,
        )

    def _url(self, request: RouteRequest, parameters: Parameters) -> str:
        query = query_pairs(parameters.querystring)
        if self._proxy and isinstance(request, ConnectRequest):
            mapped = self._request.mapped.querystring_names | self._uri.querystring_names
            query = [*_client_query(request, but=mapped), *query]
        return self._uri.filled(parameters.path, query)

    def _headers(
        self, request: RouteRequest, parameters: Parameters, *, with_body: bool
    ) -> Sequence[tuple[str, str]]:
        api_id = request.entry.key.api_id
        headers = [
            ("User-Agent", f"AmazonAPIGateway_{api_id}"),
            ("x-amzn-apigateway-api-id", api_id),
        ]
        if isinstance(request, ConnectRequest):
            headers += self._handshake_headers(request)
        else:
            headers += (
                ("X-Forwarded-For", request.entry.source_ip),
                ("X-Amzn-Trace-Id", _trace_id(request)),
            )
        if with_body:
            headers.append(_CONTENT_TYPE)
        if not parameters.headers:
            return headers
        if not self._request.mapped.header_names.isdisjoint(_OWN):
            mapped = {name.lower() for name, _ in parameters.headers}
            headers = [header for header in headers if header[0].lower() not in mapped]
        headers += parameters.headers
        return headers

    def _handshake_headers(self, request: ConnectRequest) -> Sequence[tuple[str, str]]:
        headers = forwarded_headers(request.handshake, trace_id=request.trace_id)
        if not self._proxy:
            return [(name, headers[name][-1]) for name in _OF_THE_HANDSHAKE]
        left_out = set(_NOT_FORWARDED | self._request.mapped.header_names)
        for name, value in request.handshake.headers:
            if name.lower() == "connection":
                left_out.update(option.strip().lower() for option in value.split(","))
        return [
            (name, header_value(_as_sent(value)))
            for name, values in headers.items()
            if name.lower() not in left_out
            for value in values
        ]


class _Uri:
    """A URL whose path may have placeholders; all but them is percent-encoded once for all.

    Attributes:
        querystring_names: Of its own query string.
    """

    def __init__(self, uri: str) -> None:
        origin = _ORIGIN.match(uri)
        if origin is None:
            raise ValueError(f"{uri} is not a URL of http or https")
        path, _, query = uri[origin.end() :].partition("#")[0].partition("?")
        self._origin = origin[0]
        self._path = UriText(path or "/", partial(quote, safe=_PATH_SAFE))
        self._query = [quote(query, safe=_QUERY_SAFE)] if query else []
        self.querystring_names = frozenset(_name(pair) for pair in query.split("&") if pair)
        constant = self._path.constant
        self._constant = (
            None if constant is None else "?".join([self._origin + constant, *self._query])
        )

    def filled(self, path_parameters: Mapping[str, str], query: Sequence[str]) -> str:
        """Return the URL of one request.

        Args:
            path_parameters: What stands for the placeholders.
            query: Encoded pairs to add.

        Raises:
            TransformationFailed: A placeholder has no value, or one that leads to another path.
        """
        if self._constant is not None and not query:
            return self._constant
        path = self._path.filled(path_parameters)
        if self._path.constant is None:
            check_path(path)
        url = self._origin + path
        all_query = "&".join([*self._query, *query])
        return f"{url}?{all_query}" if all_query else url


def _client_query(request: ConnectRequest, *, but: Container[str]) -> list[str]:
    query = request.handshake.target.partition("?")[2]
    return [
        quote(pair, safe=_QUERY_SAFE)
        for pair in query.split("&")
        if pair and _name(pair) not in but
    ]


def _name(pair: str) -> str:
    return unquote_plus(pair.partition("=")[0])


def _as_sent(value: str) -> str:
    """Return a header's value such that its UTF-8 is what the client sent, where that is UTF-8.

    Handshakes are read as latin-1, and aiohttp writes UTF-8.
    """
    if value.isascii():
        return value
    try:
        return value.encode("latin-1").decode()
    except UnicodeDecodeError:
        return value


def _trace_id(request: RouteRequest) -> str:
    """Return an id in X-Ray's form: the request's own time, and its id but for the node's tag."""
    digits = request.request_id[-12:].encode().hex()
    return f"Root=1-{request.requested_at_ms // 1000:08x}-{digits}"


def _subprotocol(response: HttpResponse) -> str | None:
    values = [value for name, value in response.headers if name.lower() == _SUBPROTOCOL]
    return values[-1] if values else None
