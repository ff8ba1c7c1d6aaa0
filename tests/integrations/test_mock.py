"""MOCK: answers that no backend gives."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integrations.requests import connect, disconnect, integration, message
from wsgateway.contracts import IntegrationResponse
from wsgateway.errors import TransformationFailed, UnsupportedMediaType
from wsgateway.integrations.mock import MockIntegration

OK = {"$default": '{"statusCode": 200}'}


def mock(templates: dict[str, str] | None = None, **members: Any) -> MockIntegration:
    return MockIntegration(
        integration("MOCK", requestTemplates=OK if templates is None else templates, **members)
    )


@pytest.mark.parametrize("request_", [connect(), message(), disconnect()])
async def test_without_integration_responses_it_answers_200_and_nothing(request_: Any) -> None:
    assert await mock().handle(request_) == IntegrationResponse(200, None, b"")


async def test_what_the_console_makes_accepts_connections() -> None:
    integration_ = MockIntegration(
        integration(
            "MOCK",
            passthroughBehavior="WHEN_NO_MATCH",
            timeoutInMillis=29000,
            connectionType="INTERNET",
            requestTemplates={"application/json": '{"statusCode":200}'},
        )
    )

    assert await integration_.handle(connect()) == IntegrationResponse(200, None, b"")


async def test_the_reply_is_the_response_template() -> None:
    integration_ = mock(
        integrationResponses={
            "$default": {"responseTemplates": {"$default": '{"pong": "$context.connectionId"}'}}
        }
    )

    assert await integration_.handle(message()) == IntegrationResponse(
        200, None, b'{"pong": "AQIDBAUGBwgCCQo="}'
    )


async def test_without_a_response_template_the_reply_is_empty() -> None:
    assert await mock(integrationResponses={"$default": {}}).handle(message()) == (
        IntegrationResponse(200, None, b"")
    )


async def test_the_status_selects_the_integration_response() -> None:
    integration_ = mock(
        {"$default": '{"statusCode": $input.path("$.status")}'},
        integrationResponses={
            r"/2\d\d/": {"responseTemplates": {"$default": "fine"}},
            "/404/": {"responseTemplates": {"$default": "missing"}},
        },
    )

    assert await integration_.handle(message('{"status": 201}')) == (
        IntegrationResponse(201, None, b"fine")
    )
    assert await integration_.handle(message('{"status": 404}')) == (
        IntegrationResponse(404, None, b"missing")
    )
    with pytest.raises(TransformationFailed):
        await integration_.handle(message('{"status": 500}'))


@pytest.mark.parametrize("status", [200, 201, 401, 500])
async def test_on_connect_the_status_is_the_answer(status: int) -> None:
    integration_ = mock({"$default": f'{{"statusCode": {status}}}'})

    assert (await integration_.handle(connect())).status_code == status


async def test_the_subprotocol_can_be_a_constant() -> None:
    key = "route.response.header.Sec-WebSocket-Protocol"
    integration_ = mock(integrationResponses={"$default": {"responseParameters": {key: "'chat1'"}}})

    assert await integration_.handle(connect()) == IntegrationResponse(200, "chat1", b"")


async def test_templates_are_often_written_without_quotes() -> None:
    assert (await mock({"$default": "{statusCode: 200}"}).handle(message())).status_code == 200


@pytest.mark.parametrize(
    "text",
    [
        "",
        "pong",
        "200",
        "[]",
        "{}",
        '{"statusCode": "200"}',
        '{"statusCode": 200.0}',
        '{"statusCode": null}',
        '{"statusCode": true}',
        '{"statusCode": 12345678901}',
        '{"status": 200}',
    ],
)
async def test_any_other_output_is_a_fault(text: str) -> None:
    with pytest.raises(TransformationFailed):
        await mock({"$default": text}).handle(message())


async def test_without_a_template_the_message_itself_has_to_be_one() -> None:
    assert (await mock({}).handle(message('{"statusCode": 204}'))).status_code == 204
    with pytest.raises(TransformationFailed):
        await mock({}).handle(message())
    with pytest.raises(TransformationFailed):
        await mock({}).handle(connect())


async def test_a_message_without_a_template_can_be_refused() -> None:
    with pytest.raises(UnsupportedMediaType):
        await mock({}, passthroughBehavior="NEVER").handle(message())
