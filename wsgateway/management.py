"""Plain HTTP requests: the `@connections` callback API, and what answers the rest.

A plain ASGI callable, for a post is as frequent as a message. Requests are not authenticated.
https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-how-to-call-websocket-api-connections.html
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import unquote

import structlog

from wsgateway.answers import error_body, id_headers
from wsgateway.api.endpoints import INTERNAL, connection_of, split_target
from wsgateway.connection import ConnectionKey
from wsgateway.connection_id import has_shape_of_id
from wsgateway.errors import (
    BadRequest,
    DeliveryFailed,
    Forbidden,
    IntegrationFault,
    InvalidConnectionId,
    MethodNotFound,
    PayloadTooLarge,
    RequestRefused,
    UpgradeRequired,
)
from wsgateway.limits import MESSAGE_SIZE_MAX
from wsgateway.telemetry.metrics import CALLBACKS

if TYPE_CHECKING:
    from collections.abc import Callable, Container

    from starlette.types import ASGIApp, Receive, Scope, Send

    from wsgateway.contracts import Callbacks, Clock, ConnectionInfo
    from wsgateway.telemetry.access_log import AccessLog
    from wsgateway.telemetry.metrics import Metrics

log = structlog.stdlib.get_logger(__name__)

_METHODS = frozenset({"POST", "GET", "DELETE"})
_JSON = (b"content-type", b"application/json")


class ClientLeft(Exception):
    """The sender closed its connection before its request was complete."""


class Management:
    """Answers every request that is no WebSocket handshake.

    Args:
        api_id: The API's id, part of every key.
        stages: The names of the stages.
        callbacks: Does what a backend asks for; None where `@connections` is not served.
        internal: Serves `/_wsgateway/`.
        has_page: Whether `internal` also answers `GET /`, which leads to the page.
    """

    def __init__(
        self,
        *,
        api_id: str,
        stages: Container[str],
        callbacks: Callbacks | None,
        internal: ASGIApp,
        clock: Clock,
        entropy: Callable[[int], bytes],
        metrics: Metrics,
        access_log: AccessLog,
        has_page: bool = False,
    ) -> None:
        self._api_id = api_id
        self._stages = stages
        self._callbacks = callbacks
        self._internal = internal
        self._clock = clock
        self._entropy = entropy
        self._metrics = metrics
        self._access_log = access_log
        self._has_page = has_page

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        target = scope["raw_path"].decode("ascii")
        stage, path = split_target(target)
        if stage == INTERNAL or (self._has_page and _asks_for_root(scope)):
            # Nobody else looks at it, and the listener leaves it out.
            scope["path"] = unquote(target)
            await self._internal(scope, receive, send)
            return
        started_s = self._clock.monotonic_s()
        connection_id = connection_of(path)
        error: str | None = None
        headers = id_headers(self._entropy)
        body = b""
        try:
            status, body = await self._answer(scope, receive, stage, path, connection_id)
        except ClientLeft:
            return
        except RequestRefused as refused:
            metrics = self._metrics.route(stage if stage in self._stages else "", CALLBACKS)
            metrics.client_error += 1
            status, error = refused.status, refused.message or refused.error_type
            body = _refusal(headers, refused.error_type, refused.message)
            if isinstance(refused, UpgradeRequired):
                headers += [(b"connection", b"upgrade"), (b"upgrade", b"websocket")]
        except DeliveryFailed as failed:
            log.warning(
                "not delivered",
                connection_id=connection_id,
                may_duplicate=failed.may_duplicate,
                error=str(failed),
            )
            status, error = failed.status, failed.message
            body = _refusal(headers, failed.error_type, error)
        except Exception:
            log.exception("callback failed", connection_id=connection_id)
            status, error = IntegrationFault.status, IntegrationFault.message
            body = _refusal(headers, IntegrationFault.error_type, error)
        if body:
            headers.append(_JSON)
        if status != 204:  # noqa: PLR2004 - RFC 9110, 8.6: 204 has no Content-Length
            headers.append((b"content-length", b"%d" % len(body)))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})
        self._access_log.write(
            "callback",
            {
                "stage": stage,
                "connection_id": connection_id,
                "request_id": headers[0][1].decode(),
                "route": CALLBACKS,
                "method": scope["method"],
                "status": status,
                "latency_ms": round((self._clock.monotonic_s() - started_s) * 1000, 3),
                "error": error,
            },
        )

    async def _answer(
        self, scope: Scope, receive: Receive, stage: str, path: str, connection_id: str | None
    ) -> tuple[int, bytes]:
        """Do what is asked of one connection.

        Returns:
            Status and body.

        Raises:
            RequestRefused: What the contract's table of errors says.
        """
        callbacks, method = self._callbacks, scope["method"]
        if stage not in self._stages:
            raise Forbidden
        if connection_id is None or callbacks is None or method not in _METHODS:
            raise _nothing_here(path, method)
        if not has_shape_of_id(connection_id):
            raise InvalidConnectionId(connection_id)
        key = ConnectionKey(self._api_id, stage, connection_id)
        match method:
            case "POST":
                payload = await _read_message(scope, receive)
                await callbacks.post(key, payload)
                self._metrics.route(stage, CALLBACKS).message_count += 1
                return 200, b""
            case "GET":
                return 200, _info_body(await callbacks.get(key))
            case _:
                await callbacks.delete(key)
                return 204, b""


def _asks_for_root(scope: Scope) -> bool:
    return scope["raw_path"] == b"/" and scope["method"] in {"GET", "HEAD"}


async def _read_message(scope: Scope, receive: Receive) -> bytes:
    for name, value in scope["headers"]:
        if name == b"content-length" and int(value) > MESSAGE_SIZE_MAX:
            raise PayloadTooLarge
    payload = b""
    more_body = True
    while more_body:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientLeft
        payload += message["body"]
        more_body = message["more_body"]
        if len(payload) > MESSAGE_SIZE_MAX:
            raise PayloadTooLarge
    try:
        payload.decode()
    except UnicodeDecodeError as error:
        # Messages are text; AWS's answer is not known, and this loses nothing silently.
        raise BadRequest from error
    return payload


def _refusal(headers: list[tuple[bytes, bytes]], error_type: str, message: str) -> bytes:
    """Name an error in the headers of its answer, and return the body."""
    headers.append((b"x-amzn-ErrorType", error_type.encode()))
    return error_body(message) if message else b""


def _nothing_here(path: str, method: str) -> RequestRefused:
    if not path and method == "GET":
        return UpgradeRequired()
    return MethodNotFound(path, method)


def _info_body(info: ConnectionInfo) -> bytes:
    # Keys, order and spacing as in https://docs.aws.amazon.com/apigateway/latest/developerguide/websocket-api-chat-app.html
    return json.dumps(
        {
            "connectedAt": _iso(info.connected_at_ms),
            "identity": {"sourceIp": info.source_ip, "userAgent": info.user_agent},
            "lastActiveAt": _iso(info.last_active_at_ms),
        }
    ).encode()


def _iso(epoch_ms: int) -> str:
    at = datetime.fromtimestamp(epoch_ms // 1000, UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{epoch_ms % 1000:03}Z"
