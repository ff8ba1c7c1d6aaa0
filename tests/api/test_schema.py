"""The published JSON Schema: up to date, and of one mind with what reads definitions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.loaders.test_file import EXAMPLE
from wsgateway.api.checks import check
from wsgateway.api.definition import ApiDefinition
from wsgateway.api.schema import json_schema

ROOT = Path(__file__).parents[2]
SCHEMA = json_schema()


def refusals(document: Any) -> list[str]:
    return [error.json_path for error in jsonschema.Draft7Validator(SCHEMA).iter_errors(document)]


def test_it_is_a_schema() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)


def properties(schema: Any) -> list[tuple[str, Any]]:
    return [
        (f"{name}.{key}", member)
        for name, definition in [("", schema), *schema["definitions"].items()]
        for key, member in definition.get("properties", {}).items()
    ]


def test_every_property_says_what_it_is() -> None:
    missing = [name for name, member in properties(SCHEMA) if not member.get("description")]

    assert missing == []


def test_it_says_nothing_twice() -> None:
    assert '"title"' not in json.dumps(SCHEMA["definitions"])
    assert "$defs" not in json.dumps(SCHEMA)


DEFINITIONS = [
    *ROOT.glob("routes/*.yaml"),
    *ROOT.glob("examples/**/api.yaml"),
]


@pytest.mark.parametrize("file", DEFINITIONS, ids=lambda file: str(file.relative_to(ROOT)))
def test_it_accepts_the_definitions_of_this_repository(file: Path) -> None:
    assert refusals(yaml.safe_load(file.read_text(encoding="utf-8"))) == []


INTEGRATION = {"integrationType": "MOCK", "requestTemplates": {"$default": "{}"}}


@pytest.mark.parametrize(
    "document",
    [
        {},
        yaml.safe_load(EXAMPLE),
        {"$schema": "api.schema.json", "name": "chat", "protocolType": "WEBSOCKET"},
        {"routes": {"$connect": {}, "a b/c.\u00e9": {}, "1": {"operationName": "x"}}},
        {"routes": {"$connect": {"authorizationType": "NONE", "apiKeyRequired": False}}},
        {"routes": {"a": {"requestParameters": {"route.request.header.X-A": {"required": True}}}}},
        {"integrations": {"i": INTEGRATION | {"contentHandlingStrategy": "CONVERT_TO_TEXT"}}},
        {
            "integrations": {
                "i": INTEGRATION | {"integrationResponses": {"$default": {}, "/4../": {}}}
            }
        },
        {"models": {"m": {"schema": {}}, "text": {"schema": "{}"}}},
        {"stages": {"dev": {"defaultRouteSettings": {"loggingLevel": "OFF"}, "extensions": {}}}},
        {"stages": {"dev": {"stageVariables": {"a_9": "http://b/?c=d"}}}},
    ],
)
def test_it_accepts_what_is_accepted(document: Any) -> None:
    assert refusals(document) == []
    ApiDefinition.model_validate(document)


@pytest.mark.parametrize(
    ("document", "place"),
    [
        ([], "$"),
        ({"naem": "x"}, "$"),
        ({"name": ""}, "$.name"),
        ({"name": 5}, "$.name"),
        ({"name": None}, "$.name"),
        ({"protocolType": "HTTP"}, "$.protocolType"),
        ({"authorizers": {}}, "$"),
        ({"routes": []}, "$.routes"),
        ({"routes": {"$foo": {}}}, "$.routes"),
        ({"routes": {"": {}}}, "$.routes"),
        ({"routes": {"x" * 129: {}}}, "$.routes"),
        ({"routes": {"a": {"authorizationType": "CUSTOM"}}}, "$.routes.a.authorizationType"),
        ({"routes": {"a": {"apiKeyRequired": True}}}, "$.routes.a.apiKeyRequired"),
        ({"routes": {"a": {"requestParameters": {"a": {}}}}}, "$.routes.a.requestParameters"),
        (
            {"routes": {"a": {"routeResponseSelectionExpression": "x"}}},
            "$.routes.a.routeResponseSelectionExpression",
        ),
        ({"integrations": {"i": {}}}, "$.integrations.i"),
        ({"integrations": {"a/b": INTEGRATION}}, "$.integrations"),
        ({"integrations": {"i": {"integrationType": "FTP"}}}, "$.integrations.i.integrationType"),
        ({"integrations": {"i": {"integrationType": "MOCK"}}}, "$.integrations.i"),
        (
            {"integrations": {"i": INTEGRATION | {"integrationUri": "http://h/"}}},
            "$.integrations.i",
        ),
        (
            {
                "integrations": {
                    "i": {"integrationType": "HTTP_PROXY", "integrationUri": "http://h"}
                }
            },
            "$.integrations.i",
        ),
        ({"integrations": {"i": {"integrationType": "AWS_PROXY"}}}, "$.integrations.i"),
        (
            {
                "integrations": {
                    "i": {
                        "integrationType": "AWS_PROXY",
                        "integrationUri": "python:_a.b",
                        "requestTemplates": {"$default": ""},
                    }
                }
            },
            "$.integrations.i",
        ),
        (
            {"integrations": {"i": INTEGRATION | {"timeoutInMillis": 49}}},
            "$.integrations.i.timeoutInMillis",
        ),
        (
            {"integrations": {"i": INTEGRATION | {"integrationResponses": {"200": {}}}}},
            "$.integrations.i.integrationResponses",
        ),
        ({"models": {"a-b": {"schema": {}}}}, "$.models"),
        ({"models": {"a": {}}}, "$.models.a"),
        ({"models": {"a": {"schema": 5}}}, "$.models.a.schema"),
        ({"stages": {"a.b": {}}}, "$.stages"),
        ({"stages": {"dev": {"extensions": {"a": 1}}}}, "$.stages.dev.extensions"),
        ({"stages": {"dev": {"stageVariables": {"a-b": "c"}}}}, "$.stages.dev.stageVariables"),
        ({"stages": {"dev": {"stageVariables": {"a": "b c"}}}}, "$.stages.dev.stageVariables.a"),
        (
            {"stages": {"dev": {"defaultRouteSettings": {"throttlingRateLimit": -1}}}},
            "$.stages.dev.defaultRouteSettings.throttlingRateLimit",
        ),
    ],
)
def test_it_refuses_what_is_refused(document: Any, place: str) -> None:
    assert place in refusals(document)
    try:
        findings = check(ApiDefinition.model_validate(document))
    except ValueError:
        return
    # None is as good as nothing where it is read, but a slip in an editor.
    assert findings
