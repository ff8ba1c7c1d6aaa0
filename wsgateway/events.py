"""The events that functions receive: CONNECT, MESSAGE and DISCONNECT.

Field sets, order and odd values follow events captured from API Gateway; a key without a value is
absent, never null. Each call makes fresh dictionaries, which the function may change.
https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-websocket-api-mapping-template-reference.html
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import unquote_plus

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from wsgateway.connection import ConnectionEntry, Handshake

# Visible to an authorizer, hidden from the CONNECT event.
_HIDDEN_HEADERS = frozenset({"connection", "upgrade", "content-length"})
_TRACE_ID = re.compile(r"(?:^|;)Root=1-[0-9a-f]{8}-[0-9a-f]{24}(?:;|$)", re.ASCII)
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

Event = dict[str, object]


@dataclass(slots=True)
class RouteRequest:
    """One event on its way to an integration.

    Attributes:
        entry: The connection.
        route_key: The key of the selected route.
        request_id: Also the extended request id: they are equal in every captured event.
        requested_at_ms: Epoch in milliseconds.
        stage_variables: Empty when the stage has none.
    """

    # Not frozen, and one is made per message: a frozen dataclass costs 1 µs more to make.
    entry: ConnectionEntry
    route_key: str
    request_id: str
    requested_at_ms: int
    stage_variables: Mapping[str, str]


@dataclass(slots=True)
class ConnectRequest(RouteRequest):
    """A handshake for `$connect`; `trace_id` is used where the client sent none."""

    handshake: Handshake
    trace_id: str


@dataclass(slots=True)
class MessageRequest(RouteRequest):
    """A message for its route; `body` is its exact text."""

    message_id: str
    body: str


@dataclass(slots=True)
class DisconnectRequest(RouteRequest):
    """The end of a connection for `$disconnect`."""

    status_code: int
    reason: str


def event_for(request: RouteRequest) -> Event:
    """Return the event of a request, as AWS_PROXY passes it to a function."""
    match request:
        case MessageRequest():
            return message_event(request)
        case ConnectRequest():
            return connect_event(request)
        case DisconnectRequest():
            return disconnect_event(request)
        case _:
            raise AssertionError(request)


def connect_event(request: ConnectRequest) -> Event:
    """Return the event of `$connect`: headers, query string, no body."""
    entry = request.entry
    event = _headers(forwarded_headers(request.handshake, trace_id=request.trace_id))
    query = parse_query(request.handshake.target.partition("?")[2])
    if query:
        event["queryStringParameters"] = {name: values[-1] for name, values in query.items()}
        event["multiValueQueryStringParameters"] = query
    if request.stage_variables:
        event["stageVariables"] = dict(request.stage_variables)
    event["requestContext"] = {
        "routeKey": request.route_key,
        "eventType": "CONNECT",
        "extendedRequestId": request.request_id,
        "requestTime": clf_time(request.requested_at_ms // 1000),
        "messageDirection": "IN",
        "stage": entry.key.stage,
        "connectedAt": entry.connected_at_ms,
        "requestTimeEpoch": request.requested_at_ms,
        "identity": _identity(request),
        "requestId": request.request_id,
        "domainName": entry.domain_name,
        "connectionId": entry.key.connection_id,
        "apiId": entry.key.api_id,
    }
    event["isBase64Encoded"] = False
    return event


def message_event(request: MessageRequest) -> Event:
    """Return the event of a message: its exact text, no headers and no query string."""
    entry = request.entry
    api_id, stage, connection_id = entry.key
    event: Event = {
        "requestContext": {
            "routeKey": request.route_key,
            "messageId": request.message_id,
            "eventType": "MESSAGE",
            "extendedRequestId": request.request_id,
            "requestTime": clf_time(request.requested_at_ms // 1000),
            "messageDirection": "IN",
            "stage": stage,
            "connectedAt": entry.connected_at_ms,
            "requestTimeEpoch": request.requested_at_ms,
            "identity": _identity(request),
            "requestId": request.request_id,
            "domainName": entry.domain_name,
            "connectionId": connection_id,
            "apiId": api_id,
        },
        "body": request.body,
        "isBase64Encoded": False,
    }
    if request.stage_variables:
        event["stageVariables"] = dict(request.stage_variables)
    return event


def disconnect_event(request: DisconnectRequest) -> Event:
    """Return the event of `$disconnect`, with the four odd headers that API Gateway sends."""
    entry = request.entry
    event = _headers(
        {
            "Host": [entry.domain_name],
            "x-api-key": [""],
            "X-Forwarded-For": [""],
            "x-restapi": [""],
        }
    )
    if request.stage_variables:
        event["stageVariables"] = dict(request.stage_variables)
    event["requestContext"] = {
        "routeKey": request.route_key,
        "disconnectStatusCode": request.status_code,
        "eventType": "DISCONNECT",
        "extendedRequestId": request.request_id,
        "requestTime": clf_time(request.requested_at_ms // 1000),
        "messageDirection": "IN",
        "disconnectReason": request.reason,
        "stage": entry.key.stage,
        "connectedAt": entry.connected_at_ms,
        "requestTimeEpoch": request.requested_at_ms,
        "identity": _identity(request),
        "requestId": request.request_id,
        "domainName": entry.domain_name,
        "connectionId": entry.key.connection_id,
        "apiId": entry.key.api_id,
    }
    event["isBase64Encoded"] = False
    return event


def forwarded_headers(handshake: Handshake, *, trace_id: str) -> dict[str, list[str]]:
    """Return the client's headers and the gateway's own, sorted by name whatever the case.

    Names that differ only in case are one header under its first spelling, with all values.
    """
    merged: dict[str, tuple[str, list[str]]] = {}
    for name, value in handshake.headers:
        folded = name.lower()
        if folded in _HIDDEN_HEADERS:
            continue
        if folded in merged:
            merged[folded][1].append(value)
        else:
            merged[folded] = (name, [value])
    _, forwarded_for = merged.pop("x-forwarded-for", ("", []))
    _, trace_ids = merged.pop("x-amzn-trace-id", ("", []))
    if not (trace_ids and _TRACE_ID.search(trace_ids[-1])):
        trace_ids = [trace_id]
    merged |= {
        "x-amzn-trace-id": ("X-Amzn-Trace-Id", trace_ids[-1:]),
        "x-forwarded-for": (
            "X-Forwarded-For",
            [", ".join([*filter(None, forwarded_for), handshake.source_ip])],
        ),
        "x-forwarded-port": ("X-Forwarded-Port", [str(handshake.port)]),
        "x-forwarded-proto": ("X-Forwarded-Proto", [handshake.scheme]),
    }
    return dict(merged[folded] for folded in sorted(merged))


def missing_parameters(request: ConnectRequest, required: Iterable[str]) -> list[str]:
    """Return the names of the required parameters that a handshake lacks.

    They are required as `route.request.querystring.NAME` or `route.request.header.NAME`.
    """
    given = {
        "querystring": parse_query(request.handshake.target.partition("?")[2]),
        "header": {name.lower(): [value] for name, value in request.handshake.headers},
    }
    missing = []
    for parameter in required:
        _, _, kind, name = parameter.split(".", 3)
        is_header = kind.removeprefix("multivalue") == "header"
        found = given["header"].get(name.lower()) if is_header else given["querystring"].get(name)
        if not found or not any(found):
            missing.append(name)
    return missing


def parse_query(query: str) -> dict[str, list[str]]:
    """Return every name of a query string with all its values, in the order sent.

    `+` is a space, `%xx` UTF-8 with replacement, a bad escape stays as it is; `a` and `a=` are
    empty strings.
    """
    parameters: dict[str, list[str]] = {}
    for pair in query.split("&"):
        if pair:
            name, _, value = pair.partition("=")
            parameters.setdefault(unquote_plus(name), []).append(unquote_plus(value))
    return parameters


@lru_cache(maxsize=16)
def clf_time(epoch_s: int) -> str:
    """Format an instant as `dd/MMM/yyyy:HH:mm:ss +0000`, with English months in any locale."""
    at = datetime.fromtimestamp(epoch_s, UTC)
    return f"{at.day:02}/{_MONTHS[at.month - 1]}/{at.year:04}:{at:%H:%M:%S} +0000"


def _headers(multi_value: dict[str, list[str]]) -> Event:
    return {
        "headers": {name: values[-1] for name, values in multi_value.items()},
        "multiValueHeaders": multi_value,
    }


def _identity(request: RouteRequest) -> dict[str, str]:
    entry = request.entry
    if entry.user_agent is None:
        return {"sourceIp": entry.source_ip}
    return {"userAgent": entry.user_agent, "sourceIp": entry.source_ip}
