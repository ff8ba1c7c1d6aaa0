"""What stands for a stage variable, and what does not."""

from __future__ import annotations

import pytest

from wsgateway.api.definition import IntegrationDefinition
from wsgateway.api.stage_variables import (
    MissingStageVariable,
    references,
    resolve,
    resolve_integration,
)

VARIABLES = {"host": "example.com", "alias": "v1", "again": "${stageVariables.host}"}


@pytest.mark.parametrize(
    ("text", "resolved"),
    [
        ("", ""),
        ("http://${stageVariables.host}/", "http://example.com/"),
        ("${stageVariables.host}${stageVariables.alias}", "example.comv1"),
        ("$stageVariables.host", "$stageVariables.host"),
        ("${stageVariables.}", "${stageVariables.}"),
        ("${stageVariables.host", "${stageVariables.host"),
        ("${context.stage}", "${context.stage}"),
        # One pass.
        ("${stageVariables.again}", "${stageVariables.host}"),
    ],
)
def test_references_are_replaced_in_one_pass(text: str, resolved: str) -> None:
    assert resolve(text, VARIABLES) == resolved


def test_each_reference_is_told_once() -> None:
    assert references("${stageVariables.a}/${stageVariables.b}/${stageVariables.a}") == ["a", "b"]


def test_a_missing_variable_is_told_by_name() -> None:
    with pytest.raises(MissingStageVariable) as caught:
        resolve("http://${stageVariables.hots}/", VARIABLES)

    assert (caught.value.name, caught.value.text) == ("hots", "http://${stageVariables.hots}/")
    assert str(caught.value) == (
        "there is no stage variable 'hots', which 'http://${stageVariables.hots}/' refers to"
    )


def test_an_integration_on_a_stage() -> None:
    declared = IntegrationDefinition.model_validate(
        {
            "integrationType": "AWS_PROXY",
            "integrationUri": "arn:aws:lambda:eu-west-1:123456789012:function:f:${stageVariables.alias}",
            "credentialsArn": "arn:aws:iam::123456789012:role/${stageVariables.alias}",
            "timeoutInMillis": 500,
        }
    )

    integration = resolve_integration(declared, VARIABLES)

    assert integration.integration_uri == "arn:aws:lambda:eu-west-1:123456789012:function:f:v1"
    assert integration.credentials_arn == "arn:aws:iam::123456789012:role/v1"
    assert integration.timeout_in_millis == 500
    assert declared.integration_uri != integration.integration_uri


def test_an_integration_without_either() -> None:
    declared = IntegrationDefinition.model_validate({"integrationType": "MOCK"})

    assert resolve_integration(declared, {}) == declared


def test_an_integration_on_a_stage_without_the_variable() -> None:
    declared = IntegrationDefinition.model_validate(
        {"integrationType": "HTTP", "integrationUri": "http://${stageVariables.host}/"}
    )

    with pytest.raises(MissingStageVariable):
        resolve_integration(declared, {})
