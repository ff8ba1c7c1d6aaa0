"""AWS_PROXY: an event to a function, a proxy response back.

https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-websocket-api-routes-integrations.html
"""

from __future__ import annotations

import re
from base64 import b64decode
from typing import TYPE_CHECKING

from wsgateway.contracts import IntegrationResponse
from wsgateway.errors import MalformedResponse
from wsgateway.events import MessageRequest, event_for
from wsgateway.integrations.requests import decoded

if TYPE_CHECKING:
    from wsgateway.contracts import Invoker
    from wsgateway.events import RouteRequest

_KEYS = frozenset({"statusCode", "headers", "multiValueHeaders", "body", "isBase64Encoded"})
_SUBPROTOCOL = "sec-websocket-protocol"
_DIGITS = re.compile(r"[0-9]{1,9}", re.ASCII)
# Far more than any status, and no more digits than a log or a metric can take.
_STATUS_BOUND = 10**9


class ProxyIntegration:
    """Passes the whole event to one function.

    Args:
        invoker: Runs it.
        timeout_s: The bound of one call.
        to_binary: Messages are base64 text (`CONVERT_TO_BINARY`), and the event says so.
    """

    __slots__ = ("_invoker", "_timeout_s", "_to_binary")

    def __init__(self, invoker: Invoker, *, timeout_s: float, to_binary: bool = False) -> None:
        self._invoker = invoker
        self._timeout_s = timeout_s
        self._to_binary = to_binary

    async def handle(self, request: RouteRequest) -> IntegrationResponse:
        """Run the function.

        Raises:
            IntegrationFault: It refused, failed, took too long or answered something else; or the
                message should be base64 and is not.
        """
        event = event_for(request)
        if self._to_binary and isinstance(request, MessageRequest):
            decoded(request.body)
            event["isBase64Encoded"] = True
        result = await self._invoker.invoke(event, timeout_s=self._timeout_s)
        return parse_proxy_response(result)


def parse_proxy_response(result: object) -> IntegrationResponse:
    """Read a function's result.

    What counts in one place only is looked at there: the subprotocol and the bounds of the status
    where a handshake is answered, whether the payload is text where it is sent.

    Raises:
        MalformedResponse: It is not an object, has another key than the five of the format, no
            usable `statusCode`, or a member of the wrong type.
    """
    if not isinstance(result, dict):
        raise MalformedResponse(f"the function returned {_kind(result)}, not an object")
    if not result.keys() <= _KEYS:
        extra = ", ".join(sorted(map(str, result.keys() - _KEYS)))
        raise MalformedResponse(f"the function's result has unknown keys: {extra}")
    headers = result.get("headers")
    multi_value_headers = result.get("multiValueHeaders")
    return IntegrationResponse(
        _status_code(result.get("statusCode")),
        None
        if headers is None and multi_value_headers is None
        else _subprotocol(headers, multi_value_headers),
        _payload(result.get("body"), result.get("isBase64Encoded")),
    )


def _status_code(value: object) -> int:
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        return int(value)
    # JSON has one kind of number, so 200.0 is 200; a bool is an int in Python only.
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < _STATUS_BOUND:
        return value
    raise MalformedResponse(
        f"statusCode is {_kind(value)}, not a whole number of up to nine digits"
    )


def _payload(body: object, is_base64_encoded: object) -> bytes | None:
    match is_base64_encoded:
        case None | False | "false":
            encoded = False
        case True | "true":
            encoded = True
        case _:
            raise MalformedResponse(f"isBase64Encoded is {_kind(is_base64_encoded)}, not a boolean")
    if body is None:
        return None
    if not isinstance(body, str):
        raise MalformedResponse(f"body is {_kind(body)}, not a string")
    if not encoded:
        return body.encode(errors="surrogatepass")
    try:
        return b64decode(body, validate=True)
    except ValueError as error:
        raise MalformedResponse(f"body is not base64: {error}") from error


def _subprotocol(headers: object, multi_value_headers: object) -> str | None:
    found: object = None
    for name, value in _members(headers, "headers").items():
        if name.lower() == _SUBPROTOCOL:
            found = value
    for name, values in _members(multi_value_headers, "multiValueHeaders").items():
        if not isinstance(values, list):
            raise MalformedResponse(f"multiValueHeaders.{name} is {_kind(values)}, not a list")
        if name.lower() == _SUBPROTOCOL and values:
            found = values[-1]
    if found is None or isinstance(found, str):
        return found
    raise MalformedResponse(f"Sec-WebSocket-Protocol is {_kind(found)}, not a string")


def _members(value: object, name: str) -> dict[str, object]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise MalformedResponse(f"{name} is {_kind(value)}, not an object")
    return value


def _kind(value: object) -> str:
    return "null" if value is None else type(value).__name__
