"""What becomes of a backend's answer."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integrations.requests import connect, disconnect, integration, message
from wsgateway.contracts import HttpResponse, IntegrationResponse
from wsgateway.errors import TransformationFailed
from wsgateway.integrations.responses import ResponseTransformation


def apply(
    responses: dict[str, Any],
    *,
    status: int = 200,
    body: bytes = b"ok",
    headers: tuple[tuple[str, str], ...] = (),
    matched: str | None = None,
    request: Any = None,
) -> IntegrationResponse:
    transformation = ResponseTransformation(
        integration(
            "HTTP",
            integrationMethod="POST",
            integrationUri="http://backend/",
            integrationResponses=responses,
        )
    )
    return transformation.apply(
        message() if request is None else request,
        HttpResponse(status, headers, body),
        matched=str(status) if matched is None else matched,
    )


def template(text: str, **members: Any) -> dict[str, Any]:
    return {"responseTemplates": {"$default": text}, **members}


# --- which integration response


@pytest.mark.parametrize(
    ("matched", "reply"),
    [
        ("200", b"2xx"),
        ("299", b"2xx"),
        ("404", b"404"),
        ("4040", b"default"),
        ("1200", b"default"),
        ("500", b"default"),
    ],
)
def test_the_first_key_that_matches_all_of_it_wins_then_default(matched: str, reply: bytes) -> None:
    responses = {
        "$default": template("default"),
        r"/2\d\d/": template("2xx"),
        "/404/": template("404"),
        "/40[0-9]/": template("40x"),
    }

    assert apply(responses, matched=matched).payload == reply


@pytest.mark.parametrize(
    ("matched", "reply"),
    [
        ("not found: 7", b"missing"),
        ("It was not found", b"default"),
        # A function's success has no message, and matches nothing but `$default`.
        ("", b"default"),
    ],
)
def test_a_functions_error_message_is_matched_likewise(matched: str, reply: bytes) -> None:
    responses = {"/not found.*/": template("missing"), "$default": template("default")}

    assert apply(responses, matched=matched).payload == reply


def test_success_is_not_what_a_key_for_any_error_is_for() -> None:
    responses = {"/.*/": template("error"), "$default": template("default")}

    assert apply(responses, matched="").payload == b"default"


@pytest.mark.parametrize("responses", [{}, {"/200/": {}}])
def test_without_a_match_and_default_it_is_a_fault(responses: dict[str, Any]) -> None:
    with pytest.raises(TransformationFailed) as caught:
        apply(responses, status=404)

    assert (caught.value.status, caught.value.message) == (500, "Internal server error")


def test_a_long_message_is_cut_in_the_log() -> None:
    with pytest.raises(TransformationFailed) as caught:
        apply({}, matched="x" * 100_000)

    assert str(caught.value) == f"no integration response is for '{'x' * 100}'"


# --- templates


def test_without_a_template_the_body_is_the_reply() -> None:
    assert apply({"$default": {}}, body=b"\xff") == IntegrationResponse(200, None, b"\xff")


def test_an_empty_template_is_none() -> None:
    assert apply({"$default": template("")}).payload == b"ok"


def test_a_template_makes_the_reply_of_the_answer() -> None:
    text = "$input.json('$.a') $context.connectionId $stageVariables.version"

    assert apply({"$default": template(text)}, body=b'{"a": {"b": 1}}').payload == (
        b'{"b":1} AQIDBAUGBwgCCQo= v1'
    )


@pytest.mark.parametrize(
    ("expression", "reply"),
    [
        ("${integration.response.statuscode}", b"by status"),
        ("${integration.response.header.X-Kind}", b"by header"),
        ("${integration.response.multivalueheader.x-kind}", b"by header"),
        ("${request.body.action}", b"by message"),
        ("${request.body.none}", b"default"),
        ("text", b"by text"),
    ],
)
def test_the_template_that_the_expression_selects(expression: str, reply: bytes) -> None:
    response = {
        "templateSelectionExpression": expression,
        "responseTemplates": {
            "200": "by status",
            "k": "by header",
            "[k]": "by header",
            "send": "by message",
            "text": "by text",
            "$default": "default",
        },
    }

    assert apply({"$default": response}, headers=(("X-Kind", "k"),)).payload == reply


def test_a_template_of_another_key_is_not_taken() -> None:
    responses = {"$default": {"responseTemplates": {"application/json": "J"}}}

    assert apply(responses).payload == b"ok"


def test_a_template_is_for_text() -> None:
    with pytest.raises(TransformationFailed, match="a template is for text"):
        apply({"$default": template("x")}, body=b"\xff")


def test_a_template_that_fails() -> None:
    with pytest.raises(TransformationFailed, match="the mapping template fails at line 1"):
        apply({"$default": template("$util.parseJson('{')")})


# --- content handling


def test_bytes_can_be_answered_as_base64() -> None:
    response = {"contentHandlingStrategy": "CONVERT_TO_TEXT"}

    assert apply({"$default": response}, body=b"\xff\x00\xaa").payload == b"/wCq"
    assert apply({"$default": {**template("<$input.body>"), **response}}, body=b"\xff\x00\xaa") == (
        IntegrationResponse(200, None, b"</wCq>")
    )


def test_base64_can_be_answered_as_what_it_says() -> None:
    response = {"contentHandlingStrategy": "CONVERT_TO_BINARY"}

    assert apply({"$default": response}, body=b"aGk=").payload == b"hi"
    with pytest.raises(TransformationFailed, match="what is answered as binary is not base64"):
        apply({"$default": response}, body=b"hi!")


# --- parameters


@pytest.mark.parametrize("owner", ["method", "route"])
@pytest.mark.parametrize(
    ("source", "subprotocol"),
    [
        ("'chat1'", "chat1"),
        ("integration.response.header.X-Chosen", "chat2"),
        ("integration.response.header.none", None),
        ("integration.response.body.chosen[0]", "chat3"),
        ("integration.response.body.$.chosen[0]", "chat3"),
        ("integration.response.body.none", None),
    ],
)
def test_the_subprotocol_of_a_handshake(owner: str, source: str, subprotocol: str | None) -> None:
    response = {"responseParameters": {f"{owner}.response.header.Sec-WebSocket-Protocol": source}}

    assert apply(
        {"$default": response},
        body=b'{"chosen": ["chat3"]}',
        headers=(("x-chosen", "chat2"),),
        request=connect(),
    ) == IntegrationResponse(200, subprotocol, b'{"chosen": ["chat3"]}')


@pytest.mark.parametrize("body", [b"\xff", b"no JSON", b""])
def test_a_body_that_is_no_json_chooses_no_subprotocol(body: bytes) -> None:
    key = "route.response.header.sec-websocket-protocol"
    response = {"responseParameters": {key: "integration.response.body.chosen"}}

    assert apply({"$default": response}, body=body, request=connect()).subprotocol is None


def test_other_headers_and_other_routes_have_no_use_for_it() -> None:
    key = "route.response.header.Sec-WebSocket-Protocol"
    chosen = {"responseParameters": {key: "'chat1'"}}
    other = {"responseParameters": {"route.response.header.X-Other": "'x'"}}

    assert apply({"$default": chosen}, request=message()).subprotocol is None
    assert apply({"$default": chosen}, request=disconnect()).subprotocol is None
    assert apply({"$default": other}, request=connect()).subprotocol is None


def test_without_a_mapping_the_backends_own_is_not_the_answers() -> None:
    headers = (("Sec-WebSocket-Protocol", "chat1"),)

    assert apply({"$default": {}}, headers=headers, request=connect()).subprotocol is None
