"""The requests that integrations are tested with, and definitions as they are written."""

from __future__ import annotations

import json
from typing import Any

from wsgateway.api.definition import IntegrationDefinition
from wsgateway.connection import ConnectionEntry, ConnectionKey, Handshake
from wsgateway.events import ConnectRequest, DisconnectRequest, MessageRequest

ENTRY = ConnectionEntry(
    key=ConnectionKey("abcde12345", "dev", "AQIDBAUGBwgCCQo="),
    connected_at_ms=1708326702789,
    domain_name="gateway.example",
    source_ip="192.0.2.10",
    user_agent="client/1.0",
)
COMMON: dict[str, Any] = {
    "entry": ENTRY,
    "request_id": "EBESExQVFhcFGBk=",
    "requested_at_ms": 1708326702790,
    "stage_variables": {"version": "v1"},
}
TRACE_ID = "Root=1-65d2ff2e-0102030405060708090a0b0c"

HANDSHAKE_HEADERS = (
    ("Host", "gateway.example"),
    ("Connection", "keep-alive, Upgrade, X-Hop"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Extensions", "permessage-deflate"),
    ("Sec-WebSocket-Protocol", "chat1, chat2"),
    ("User-Agent", "client/1.0"),
    ("Cookie", "a=b"),
    ("X-Hop", "1"),
    ("X-Token", "one"),
    ("x-token", "two"),
)


def connect(
    target: str = "/dev", headers: tuple[tuple[str, str], ...] = HANDSHAKE_HEADERS
) -> ConnectRequest:
    return ConnectRequest(
        **COMMON,
        route_key="$connect",
        handshake=Handshake(
            target=target,
            headers=headers,
            host="gateway.example",
            source_ip="192.0.2.10",
            scheme="https",
            port=443,
            received_at_ms=1708326702789,
        ),
        trace_id=TRACE_ID,
    )


def message(body: str = '{"action":"send"}') -> MessageRequest:
    return MessageRequest(**COMMON, route_key="send", message_id="ICEiIyQlJicCFRY=", body=body)


def disconnect() -> DisconnectRequest:
    return DisconnectRequest(**COMMON, route_key="$disconnect", status_code=1001, reason="")


def integration(integration_type: str, **members: Any) -> IntegrationDefinition:
    """Return a definition of apigatewayv2's own names."""
    return IntegrationDefinition.model_validate_json(
        json.dumps({"integrationType": integration_type, **members})
    )
