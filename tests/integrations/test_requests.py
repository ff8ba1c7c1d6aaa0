"""Bodies and parameters that backends are sent, per section of AWS's guide."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integrations.requests import connect, disconnect, integration, message
from wsgateway.errors import TransformationFailed, UnsupportedMediaType
from wsgateway.integrations.parameters import RequestParameters, ResponseParameters
from wsgateway.integrations.requests import RequestTransformation


def transformation(**members: Any) -> RequestTransformation:
    declared = {"integrationMethod": "POST", "integrationUri": "http://backend/", **members}
    return RequestTransformation(integration("HTTP", **declared))


def body(text: str, **members: Any) -> bytes | None:
    return transformation(**members).body(message(text))


# --- templates and passthrough


def test_the_template_that_the_expression_selects() -> None:
    members = {
        "templateSelectionExpression": "${request.body.kind}",
        "requestTemplates": {"a": "A", "b": "B", "$default": "D", "application/json": "J"},
    }

    assert body('{"kind": "a"}', **members) == b"A"
    assert body('{"kind": "b"}', **members) == b"B"
    assert body('{"kind": "c"}', **members) == b"D"
    assert body("no JSON", **members) == b"D"


def test_a_constant_expression_selects_default() -> None:
    assert (
        body(
            "{}",
            templateSelectionExpression=r"\$default",
            requestTemplates={"$default": "D", "application/json": "J"},
        )
        == b"D"
    )


def test_without_an_expression_default_then_json() -> None:
    assert body("{}", requestTemplates={"application/json": "J", "$default": "D"}) == b"D"
    assert body("{}", requestTemplates={"application/json": "J"}) == b"J"


@pytest.mark.parametrize("behavior", ["WHEN_NO_MATCH", None])
@pytest.mark.parametrize("templates", [{}, {"other": "O"}])
def test_when_no_match_passes_the_message(behavior: str | None, templates: dict[str, str]) -> None:
    members = {} if behavior is None else {"passthroughBehavior": behavior}

    assert body("hé\r\n", requestTemplates=templates, **members) == "hé\r\n".encode()


def test_when_no_templates_passes_the_message_only_if_there_are_none() -> None:
    members: dict[str, Any] = {"passthroughBehavior": "WHEN_NO_TEMPLATES"}

    assert body("hi", **members) == b"hi"
    with pytest.raises(UnsupportedMediaType):
        body("hi", requestTemplates={"other": "O"}, **members)


@pytest.mark.parametrize("templates", [{}, {"other": "O"}])
def test_never_refuses(templates: dict[str, str]) -> None:
    with pytest.raises(UnsupportedMediaType) as caught:
        body("hi", requestTemplates=templates, passthroughBehavior="NEVER")

    assert (caught.value.status, caught.value.message) == (415, "Unsupported Media Type")


@pytest.mark.parametrize("behavior", ["WHEN_NO_TEMPLATES", "NEVER"])
def test_what_matches_is_not_refused(behavior: str) -> None:
    assert body("hi", requestTemplates={"$default": "D"}, passthroughBehavior=behavior) == b"D"


@pytest.mark.parametrize("request_", [connect(), disconnect()])
def test_connect_and_disconnect_have_no_body_of_their_own(request_: Any) -> None:
    assert transformation().body(request_) is None
    assert transformation(requestTemplates={"$default": ""}).body(request_) == b""
    with pytest.raises(UnsupportedMediaType):
        transformation(passthroughBehavior="NEVER").body(request_)


def test_what_a_template_sees_of_a_message() -> None:
    template = (
        "$input.body|$input.json('$.a')|$input.path('$.b[0].c')|$context.connectionId|"
        "$context.routeKey|$stageVariables.version|$util.base64Encode('x')|"
    )

    assert (
        body('{"a": {"x": 1}, "b": [{"c": "é"}]}', requestTemplates={"$default": template})
        == ('{"a": {"x": 1}, "b": [{"c": "é"}]}|{"x":1}|é|AQIDBAUGBwgCCQo=|send|v1|eA==|').encode()
    )


def test_a_template_reads_json_as_routes_do() -> None:
    assert body(
        "{a: word, 'b': [-1.5, 2, null, true],}", requestTemplates={"$default": "$input.json('$')"}
    ) == (b'{"a":"word","b":[-1.5,2,null,true]}')


def test_a_template_sees_the_handshake_of_connect() -> None:
    template = "$input.params('q')|$input.params('X-Token')|$input.params().get('header').Cookie"

    assert transformation(requestTemplates={"$default": template}).body(
        connect("/dev?q=1&q=2")
    ) == (b"2|two|a=b")


def test_a_template_that_fails_is_the_integrations_fault() -> None:
    with pytest.raises(TransformationFailed) as caught:
        body("{}", requestTemplates={"$default": "x\n$util.parseJson('{')"})

    assert (caught.value.status, caught.value.message) == (500, "Internal server error")
    assert str(caught.value).startswith("the mapping template fails at line 2: ")


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_json_that_nests_too_deep_is_none(opening: str) -> None:
    deep = opening * 40 + "1" + {"[": "]", "{": "}"}[opening[0]] * 40

    assert body(deep, requestTemplates={"$default": "[$!input.path('$.a')]"}) == b"[]"


def test_invalid_json_is_no_fault_of_a_template() -> None:
    assert body("{", requestTemplates={"$default": "[$input.body]"}) == b"[{]"


def test_lone_surrogates_are_question_marks() -> None:
    assert body(r'{"a": "\ud800"}', requestTemplates={"$default": "$input.path('$.a')"}) == b"?"


def test_base64_text_is_sent_as_bytes() -> None:
    assert body("/wCq", contentHandlingStrategy="CONVERT_TO_BINARY") == b"\xff\x00\xaa"
    assert (
        body(
            "{}",
            contentHandlingStrategy="CONVERT_TO_BINARY",
            requestTemplates={"$default": "/wCq"},
        )
        == b"\xff\x00\xaa"
    )


@pytest.mark.parametrize("text", ["a", "é", "aGk=\n", "{}"])
def test_what_is_no_base64_is_a_fault(text: str) -> None:
    with pytest.raises(TransformationFailed, match="what is sent as binary is not base64"):
        body(text, contentHandlingStrategy="CONVERT_TO_BINARY")


def test_a_message_is_text_already() -> None:
    assert body("hi", contentHandlingStrategy="CONVERT_TO_TEXT") == b"hi"


# --- parameters


def parameter(source: str, request: Any) -> list[str]:
    """Return the values of a header that is mapped from a source."""
    mapped = transformation(requestParameters={"integration.request.header.X": source})
    return [value for name, value in mapped.parameters(request).headers if name == "X"]


@pytest.mark.parametrize(
    ("source", "values"),
    [
        ("route.request.querystring.q", ["2 é"]),
        ("route.request.multivaluequerystring.q", ["1", "2 é"]),
        ("route.request.header.X-TOKEN", ["two"]),
        ("route.request.multivalueheader.x-Token", ["one", "two"]),
        ("route.request.header.X-Forwarded-Proto", ["https"]),
        ("route.request.header.Upgrade", []),
        ("route.request.querystring.Q", []),
        ("route.request.header.none", []),
        ("route.request.body", []),
        ("route.request.body.a", []),
        ("stageVariables.version", ["v1"]),
        ("stageVariables.none", []),
        ("context.connectionId", ["AQIDBAUGBwgCCQo="]),
        ("context.identity.sourceIp", ["192.0.2.10"]),
        ("context.none", []),
        ("'value'", ["value"]),
        ("''", [""]),
        ("'it''s'", ["it''s"]),
    ],
)
def test_sources_on_connect(source: str, values: list[str]) -> None:
    assert parameter(source, connect("/dev?q=1&q=2+%C3%A9")) == values


@pytest.mark.parametrize(
    ("source", "values"),
    [
        ("route.request.querystring.q", []),
        ("route.request.multivaluequerystring.q", []),
        ("route.request.header.X-Token", []),
        ("route.request.multivalueheader.X-Token", []),
        ("route.request.body", ['{"a": {"b": [1.50, "x", null]}, "t": true, "n": null, "e": ""}']),
        ("route.request.body.a", ['{"b":[1.50,"x",null]}']),
        ("route.request.body.a.b[0]", ["1.50"]),
        ("route.request.body.$.a.b[1]", ["x"]),
        ("route.request.body.t", ["true"]),
        ("route.request.body.n", []),
        ("route.request.body.e", [""]),
        ("route.request.body.none", []),
        ("stageVariables.version", ["v1"]),
        ("context.routeKey", ["send"]),
        ("'value'", ["value"]),
    ],
)
def test_sources_on_a_message(source: str, values: list[str]) -> None:
    text = '{"a": {"b": [1.50, "x", null]}, "t": true, "n": null, "e": ""}'

    assert parameter(source, message(text)) == values


@pytest.mark.parametrize("source", ["route.request.body.a", "route.request.body.$..a"])
def test_a_body_that_is_no_json_has_no_members(source: str) -> None:
    assert parameter(source, message("no JSON")) == []


def test_bodies_are_read_as_routes_are_selected() -> None:
    assert parameter("route.request.body.a", message("{a: word,}")) == ["word"]


def test_parameters_keep_their_order_and_their_places() -> None:
    mapped = transformation(
        requestParameters={
            "integration.request.header.B": "'1'",
            "integration.request.querystring.y": "'2'",
            "integration.request.path.room": "'3'",
            "integration.request.header.A": "'4'",
            "integration.request.querystring.x": "route.request.multivaluequerystring.q",
        }
    )

    parameters = mapped.parameters(connect("/dev?q=5&q=6"))

    assert parameters.headers == [("B", "1"), ("A", "4")]
    assert parameters.querystring == [("y", "2"), ("x", "5"), ("x", "6")]
    assert parameters.path == {"room": "3"}


def test_a_value_has_a_bound() -> None:
    assert parameter("route.request.body", message("x" * 10_240)) == ["x" * 10_240]
    with pytest.raises(TransformationFailed, match="more than 10240 characters"):
        parameter("route.request.body", message("x" * 10_241))


def test_a_path_that_visits_too_much_is_a_fault() -> None:
    text = "[" * 30 + ",".join(["[]"] * 20_000) + "]" * 30
    with pytest.raises(TransformationFailed, match="visits too many values"):
        parameter("route.request.body.$..*..*", message(text))


def test_other_sources_are_refused_when_it_is_built() -> None:
    with pytest.raises(ValueError, match="is not a source"):
        RequestParameters({"integration.request.header.X": "request.header.X"}, ())
    with pytest.raises(ValueError, match="is not a source"):
        ResponseParameters({"route.response.header.Sec-WebSocket-Protocol": "context.stage"})
