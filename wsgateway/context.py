"""`$context`: what a request is, as one mapping for templates, parameter mappings and logs.

Names and values are AWS's. What API Gateway can know of a caller and we do not is the empty text.
https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-websocket-api-mapping-template-reference.html
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from wsgateway.events import (
    ConnectRequest,
    DisconnectRequest,
    MessageRequest,
    RouteRequest,
    clf_time,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

_UNKNOWN_IDENTITY: Final = dict.fromkeys(
    (
        "accountId",
        "apiKey",
        "apiKeyId",
        "caller",
        "cognitoAuthenticationProvider",
        "cognitoAuthenticationType",
        "cognitoIdentityId",
        "cognitoIdentityPoolId",
        "principalOrgId",
        "user",
        "userArn",
    ),
    "",
)


def context_for(
    request: RouteRequest,
    *,
    error_message: str | None = None,
    validation_error: str | None = None,
) -> Mapping[str, object]:
    """Return the context of a request: texts, numbers and mappings of them.

    Args:
        request: What came.
        error_message: What went wrong with it; there is no `error` without.
        validation_error: What its model does not allow.
    """
    entry = request.entry
    context: dict[str, object] = {
        "apiId": entry.key.api_id,
        "connectedAt": entry.connected_at_ms,
        "connectionId": entry.key.connection_id,
        "domainName": entry.domain_name,
        "eventType": _event_type(request),
        "extendedRequestId": request.request_id,
        "identity": {
            **_UNKNOWN_IDENTITY,
            "sourceIp": entry.source_ip,
            "userAgent": entry.user_agent or "",
        },
        "requestId": request.request_id,
        "requestTime": clf_time(request.requested_at_ms // 1000),
        "requestTimeEpoch": request.requested_at_ms,
        "routeKey": request.route_key,
        "stage": entry.key.stage,
    }
    if isinstance(request, MessageRequest):
        context["messageId"] = request.message_id
    if error_message is not None or validation_error is not None:
        message = error_message or ""
        context["error"] = {
            "message": message,
            # The quotes belong to it, so that templates can write it into JSON as it is.
            "messageString": json.dumps(message, ensure_ascii=False),
            "validationErrorString": validation_error or "",
        }
    return context


def lookup(context: Mapping[str, object], name: str) -> str:
    """Return what `context.<name>` maps to, as text; empty when it is not known.

    Args:
        context: From `context_for`.
        name: Names joined by dots, as in `identity.sourceIp`.
    """
    value: object = context
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    match value:
        case bool():
            return "true" if value else "false"
        case str() | int() | float():
            return str(value)
        case _:
            return ""


def _event_type(request: RouteRequest) -> str:
    match request:
        case MessageRequest():
            return "MESSAGE"
        case ConnectRequest():
            return "CONNECT"
        case DisconnectRequest():
            return "DISCONNECT"
        case _:
            raise AssertionError(request)
