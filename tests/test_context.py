"""`$context`: what templates, parameter mappings and logs can say of a request."""

from __future__ import annotations

import json

import pytest

from wsgateway.connection import ConnectionEntry, ConnectionKey, Handshake
from wsgateway.context import context_for, lookup
from wsgateway.events import ConnectRequest, DisconnectRequest, MessageRequest, RouteRequest
from wsgateway.vtl import compile_template, mapping_variable

HOST = "abcde12345.execute-api.us-east-1.amazonaws.com"
ENTRY = ConnectionEntry(
    key=ConnectionKey("abcde12345", "prod", "TXzPWdnOjoECGjA="),
    connected_at_ms=1708326702789,
    domain_name=HOST,
    source_ip="192.0.2.10",
    user_agent="client/1.0",
)
UNKNOWN = {
    "accountId": "",
    "apiKey": "",
    "apiKeyId": "",
    "caller": "",
    "cognitoAuthenticationProvider": "",
    "cognitoAuthenticationType": "",
    "cognitoIdentityId": "",
    "cognitoIdentityPoolId": "",
    "principalOrgId": "",
    "user": "",
    "userArn": "",
}


def connect(entry: ConnectionEntry = ENTRY) -> ConnectRequest:
    return ConnectRequest(
        entry=entry,
        route_key="$connect",
        request_id="TXzPWFkkjoEF92g=",
        requested_at_ms=1708326702790,
        stage_variables={},
        handshake=Handshake(
            target="/prod",
            headers=(("Host", HOST),),
            host=HOST,
            source_ip="192.0.2.10",
            scheme="https",
            port=443,
            received_at_ms=1708326702789,
        ),
        trace_id="Root=1-65d2ff2e-718990494fd688f062bf1571",
    )


def message() -> MessageRequest:
    return MessageRequest(
        entry=ENTRY,
        route_key="join",
        request_id="TXzPWFkkjoEF92g=",
        requested_at_ms=1708326702790,
        stage_variables={},
        message_id="PJqCFfHyKRcCHlw=",
        body="{}",
    )


def disconnect() -> DisconnectRequest:
    return DisconnectRequest(
        entry=ENTRY,
        route_key="$disconnect",
        request_id="TXzPWFkkjoEF92g=",
        requested_at_ms=1708326702790,
        stage_variables={},
        status_code=1000,
        reason="bye",
    )


@pytest.mark.parametrize(
    ("request_", "event_type", "route_key", "message_id"),
    [
        (connect(), "CONNECT", "$connect", {}),
        (message(), "MESSAGE", "join", {"messageId": "PJqCFfHyKRcCHlw="}),
        (disconnect(), "DISCONNECT", "$disconnect", {}),
    ],
)
def test_the_context_of_a_request(
    request_: RouteRequest, event_type: str, route_key: str, message_id: dict[str, str]
) -> None:
    assert context_for(request_) == {
        "apiId": "abcde12345",
        "connectedAt": 1708326702789,
        "connectionId": "TXzPWdnOjoECGjA=",
        "domainName": HOST,
        "eventType": event_type,
        "extendedRequestId": "TXzPWFkkjoEF92g=",
        "identity": {**UNKNOWN, "sourceIp": "192.0.2.10", "userAgent": "client/1.0"},
        "requestId": "TXzPWFkkjoEF92g=",
        "requestTime": "19/Feb/2024:07:11:42 +0000",
        "requestTimeEpoch": 1708326702790,
        "routeKey": route_key,
        "stage": "prod",
        **message_id,
    }


def test_an_error_is_there_when_there_is_one() -> None:
    context = context_for(
        message(), error_message='Invalid "body"', validation_error="[object has missing required]"
    )

    assert context["error"] == {
        "message": 'Invalid "body"',
        "messageString": '"Invalid \\"body\\""',
        "validationErrorString": "[object has missing required]",
    }
    assert context_for(message(), error_message="x")["error"] == {
        "message": "x",
        "messageString": '"x"',
        "validationErrorString": "",
    }


def test_a_client_without_user_agent_has_an_empty_one() -> None:
    entry = ConnectionEntry(ENTRY.key, ENTRY.connected_at_ms, HOST, "192.0.2.10", None)

    assert lookup(context_for(connect(entry)), "identity.userAgent") == ""


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("connectionId", "TXzPWdnOjoECGjA="),
        ("connectedAt", "1708326702789"),
        ("identity.sourceIp", "192.0.2.10"),
        ("identity.user", ""),
        ("messageId", "PJqCFfHyKRcCHlw="),
        ("error.message", ""),
        ("authorizer.principalId", ""),
        ("nope", ""),
        ("connectionId.nope", ""),
        ("identity", ""),
        ("identity.", ""),
        ("", ""),
        ("__class__", ""),
    ],
)
def test_a_name_maps_to_its_text(name: str, value: str) -> None:
    assert lookup(context_for(message()), name) == value


def test_what_is_mapped_prints_as_in_a_template() -> None:
    context = {"authorizer": {"ok": True, "no": False, "number": 1.5}}

    assert lookup(context, "authorizer.ok") == "true"
    assert lookup(context, "authorizer.no") == "false"
    assert lookup(context, "authorizer.number") == "1.5"


def test_a_template_can_write_it_into_json() -> None:
    template = compile_template(
        '{"at": $context.connectedAt, "ip": "$context.identity.sourceIp", '
        '"error": $context.error.messageString, "key": "$context.identity.apiKey"}'
    )
    context = context_for(message(), error_message='say "no"')

    assert json.loads(template.render({"context": mapping_variable(context)})) == {
        "at": 1708326702789,
        "ip": "192.0.2.10",
        "error": 'say "no"',
        "key": "",
    }


def test_other_requests_have_no_context() -> None:
    request = RouteRequest(
        entry=ENTRY, route_key="x", request_id="x", requested_at_ms=0, stage_variables={}
    )

    with pytest.raises(AssertionError):
        context_for(request)
