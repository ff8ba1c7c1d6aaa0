"""What an API can declare, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from wsgateway.api.definition import (
    ApiDefinition,
    IntegrationDefinition,
    IntegrationResponseDefinition,
    stage_name,
)


def refusal(definition: dict[str, Any]) -> tuple[tuple[int | str, ...], str]:
    with pytest.raises(ValidationError) as caught:
        ApiDefinition.model_validate(definition)
    [error] = caught.value.errors()
    return error["loc"], error["msg"]


def test_nothing_declared_is_an_api_that_selects_by_action() -> None:
    definition = ApiDefinition.model_validate({})

    assert definition.name == "wsgateway"
    assert definition.route_selection_expression == "$request.body.action"
    assert definition.routes == {}
    assert definition.stages == {}


def test_names_are_those_of_apigatewayv2() -> None:
    definition = ApiDefinition.model_validate(
        {
            "name": "chat",
            "description": "A chat.",
            "routeSelectionExpression": "${request.body.kind}",
            "routes": {
                "echo": {"routeResponseSelectionExpression": "$default", "operationName": "Echo"}
            },
            "stages": {"dev": {"stageVariables": {"table": "conns"}, "description": "Mine."}},
        }
    )

    assert definition.route_selection_expression == "${request.body.kind}"
    assert definition.routes["echo"].two_way is True
    assert definition.stages["dev"].stage_variables == {"table": "conns"}


@pytest.mark.parametrize("key", ["a", "a b", "a/b", "a.b", "é", "x" * 128, "1", " "])
def test_a_route_key_may_be_nearly_anything(key: str) -> None:
    assert list(ApiDefinition.model_validate({"routes": {key: {}}}).routes) == [key]


@pytest.mark.parametrize("key", ["$connect", "$disconnect", "$default"])
def test_three_route_keys_begin_with_a_dollar(key: str) -> None:
    assert list(ApiDefinition.model_validate({"routes": {key: {}}}).routes) == [key]


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (
            "$other",
            "Value error, a route key that begins with $ is one of $connect, $disconnect, $default",
        ),
        (
            "$",
            "Value error, a route key that begins with $ is one of $connect, $disconnect, $default",
        ),
        ("", "Value error, a route key has 1 to 128 characters"),
        ("x" * 129, "Value error, a route key has 1 to 128 characters"),
    ],
)
def test_other_route_keys_are_refused(key: str, message: str) -> None:
    assert refusal({"routes": {key: {}}}) == (("routes", key, "[key]"), message)


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("", "column 1: it is empty; write $request.body.action"),
        ("${request.body.a", "column 1: this brace is not closed; put } after the variable"),
    ],
)
def test_a_selection_expression_that_cannot_be_compiled_is_refused(
    expression: str, problem: str
) -> None:
    assert refusal({"routeSelectionExpression": expression}) == (
        ("routeSelectionExpression",),
        f'Value error, the selection expression "{expression}" goes wrong at {problem}',
    )


def test_the_only_route_response_selection_expression_is_default() -> None:
    loc, message = refusal({"routes": {"a": {"routeResponseSelectionExpression": "$other"}}})

    assert loc == ("routes", "a", "routeResponseSelectionExpression")
    assert message == "Input should be '$default'"


@pytest.mark.parametrize(
    ("definition", "loc"),
    [
        ({"nmae": "x"}, ("nmae",)),
        ({"route_selection_expression": "$request.body.a"}, ("route_selection_expression",)),
        ({"routes": {"a": {"twoWay": True}}}, ("routes", "a", "twoWay")),
        ({"stages": {"dev": {"variables": {}}}}, ("stages", "dev", "variables")),
    ],
)
def test_what_is_not_known_is_refused(
    definition: dict[str, Any], loc: tuple[int | str, ...]
) -> None:
    assert refusal(definition) == (loc, "Extra inputs are not permitted")


@pytest.mark.parametrize("name", ["dev", "a-b_C9", "x" * 128, "_wsgateway_"])
def test_a_stage_name_has_letters_digits_hyphens_and_underscores(name: str) -> None:
    assert stage_name(name) == name


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "a stage name has 1 to 128 letters, digits, hyphens and underscores"),
        ("x" * 129, "a stage name has 1 to 128 letters, digits, hyphens and underscores"),
        ("a.b", "a stage name has 1 to 128 letters, digits, hyphens and underscores"),
        ("é", "a stage name has 1 to 128 letters, digits, hyphens and underscores"),
        ("dev\n", "a stage name has 1 to 128 letters, digits, hyphens and underscores"),
        ("$default", "a stage name has 1 to 128 letters, digits, hyphens and underscores"),
        ("_wsgateway", "_wsgateway is reserved for the gateway's own paths"),
    ],
)
def test_other_stage_names_are_refused(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        stage_name(name)
    assert refusal({"stages": {name: {}}}) == (("stages", name, "[key]"), f"Value error, {message}")


@pytest.mark.parametrize(
    "variables",
    [{}, {"table": "conns"}, {"a_9": "Az09-._~:/?#&=,"}, {"x" * 64: "y" * 512}],
)
def test_stage_variables_have_the_characters_of_aws(variables: dict[str, str]) -> None:
    definition = {"stages": {"dev": {"stageVariables": variables}}}

    stages = ApiDefinition.model_validate(definition).stages

    assert stages["dev"].stage_variables == variables


@pytest.mark.parametrize(
    "variables",
    [
        {"a-b": "x"},
        {"": "x"},
        {"a\n": "x"},
        {"a": ""},
        {"a": "b c"},
        {"a": "b\n"},
        {"a": "é"},
        {"a": "x" * 513},
        {"x" * 65: "y"},
        {"a": 1},
        {f"v{number}": "x" for number in range(101)},
    ],
)
def test_other_stage_variables_are_refused(variables: dict[str, Any]) -> None:
    loc, _ = refusal({"stages": {"dev": {"stageVariables": variables}}})

    assert loc[:3] == ("stages", "dev", "stageVariables")


@pytest.mark.parametrize(
    "source",
    [
        "route.request.body",
        "route.request.body.data.items[0]",
        "route.request.body.$.a",
        "route.request.header.X-A",
        "route.request.multivalueheader.X-A",
        "route.request.querystring.token",
        "route.request.multivaluequerystring.token",
        "context.connectionId",
        "context.authorizer.principalId",
        "stageVariables.version",
        "'constant'",
        "''",
        "'it's'",
    ],
)
def test_sources_of_request_parameters(source: str) -> None:
    definition = {
        "integrationType": "HTTP_PROXY",
        "requestParameters": {
            "integration.request.header.A": source,
            "integration.request.querystring.a.b": source,
            "integration.request.path.a_b-c": source,
        },
    }

    assert set(IntegrationDefinition.model_validate(definition).request_parameters.values()) == {
        source
    }


@pytest.mark.parametrize(
    "source",
    [
        "integration.response.header.Sec-WebSocket-Protocol",
        "integration.response.body.protocol",
        "'chat'",
    ],
)
def test_sources_of_response_parameters(source: str) -> None:
    parameters = {
        "route.response.header.Sec-WebSocket-Protocol": source,
        "method.response.header.a": source,
    }

    response = IntegrationResponseDefinition.model_validate({"responseParameters": parameters})

    assert response.response_parameters == parameters


def test_a_template_has_at_most_300_kib() -> None:
    def declared(size: int) -> dict[str, Any]:
        return {
            "integrations": {
                "i": {"integrationType": "MOCK", "requestTemplates": {"a": "é" * size}}
            }
        }

    ApiDefinition.model_validate(declared(150 * 1024))
    loc, message = refusal(declared(150 * 1024 + 1))

    assert loc == ("integrations", "i", "requestTemplates", "a")
    assert message == (
        "Value error, a template has at most 307200 bytes, not 307202; write a shorter one"
    )
