"""What `validate` prints of an API."""

from __future__ import annotations

from wsgateway.api.definition import ApiDefinition
from wsgateway.loaders.source import LoadedApi
from wsgateway.loaders.summary import summary


def handler(event: dict[str, object], context: object) -> None:
    pass


def test_routes_and_stages_stand_in_columns() -> None:
    definition = ApiDefinition.model_validate(
        {
            "name": "chat",
            "integrations": {
                "backend": {
                    "integrationType": "HTTP_PROXY",
                    "integrationMethod": "POST",
                    "integrationUri": "http://127.0.0.1:3000/${stageVariables.version}",
                },
                "pong": {"integrationType": "MOCK"},
                "local": {
                    "integrationType": "AWS_PROXY",
                    "integrationUri": "python:_local.handler",
                },
            },
            "routes": {
                "$connect": {},
                "$default": {
                    "target": "backend",
                    "routeResponseSelectionExpression": "$default",
                },
                "ping": {"target": "pong"},
                "a\x1b[31m": {"target": "local"},
            },
        }
    )
    api = LoadedApi(definition, {"$connect": handler}, {"$connect": "connect"}, {"local": handler})

    lines = summary(api, {"dev": "ws://127.0.0.1:8080/dev", "prod": "ws://127.0.0.1:8080/prod"})

    assert lines == [
        "chat: 4 routes, 2 stages",
        "",
        "route      replies  served by",
        "$connect   -        connect.py",
        "$default   two-way  backend HTTP_PROXY POST http://127.0.0.1:3000/${stageVariables.version}",
        "ping       -        pong MOCK",
        r"a\x1b[31m  -        local AWS_PROXY python:_local.handler",
        "",
        "stage  URL",
        "dev    ws://127.0.0.1:8080/dev",
        "prod   ws://127.0.0.1:8080/prod",
    ]


def test_one_of_each() -> None:
    definition = ApiDefinition.model_validate({"routes": {"join": {}}})
    api = LoadedApi(definition, {"join": handler}, {"join": "join"})

    assert summary(api, {"dev": "ws://h/dev"})[0] == "wsgateway: 1 route, 1 stage"
