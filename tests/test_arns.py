"""What ARNs and URIs of API Gateway name, and what is said of those that name nothing."""

from __future__ import annotations

import pytest

from wsgateway.arns import (
    FunctionArn,
    ServiceUri,
    check_role_arn,
    parse_function_uri,
    parse_integration_uri,
    parse_service_uri,
    route_arn,
)

SEND = "arn:aws:lambda:us-east-1:123456789012:function:send"
GATEWAY = "arn:aws:apigateway:us-east-1:"


def invocations(arn: str) -> str:
    return f"{GATEWAY}lambda:path/2015-03-31/functions/{arn}/invocations"


@pytest.mark.parametrize(
    ("uri", "arn"),
    [
        (SEND, FunctionArn(SEND, "us-east-1", "send", None)),
        (f"{SEND}:live", FunctionArn(f"{SEND}:live", "us-east-1", "send", "live")),
        (f"{SEND}:12", FunctionArn(f"{SEND}:12", "us-east-1", "send", "12")),
        (f"{SEND}:$LATEST", FunctionArn(f"{SEND}:$LATEST", "us-east-1", "send", "$LATEST")),
        (invocations(SEND), FunctionArn(SEND, "us-east-1", "send", None)),
        (invocations(f"{SEND}:live"), FunctionArn(f"{SEND}:live", "us-east-1", "send", "live")),
        (
            "123456789012:function:send",
            FunctionArn("123456789012:function:send", None, "send", None),
        ),
        (
            invocations("123456789012:function:send:live"),
            FunctionArn("123456789012:function:send:live", "us-east-1", "send", "live"),
        ),
        (
            "arn:aws-us-gov:lambda:us-gov-west-1:123456789012:function:send",
            FunctionArn(
                "arn:aws-us-gov:lambda:us-gov-west-1:123456789012:function:send",
                "us-gov-west-1",
                "send",
                None,
            ),
        ),
    ],
)
def test_functions(uri: str, arn: FunctionArn) -> None:
    assert parse_function_uri(uri) == arn
    assert parse_integration_uri(uri) == arn


@pytest.mark.parametrize(
    "arn",
    [
        "",
        "send",
        "arn:aws:lambda:us-east-1:123456789012:layer:send",
        "arn:aws:lambda:us-east-1:12345:function:send",
        "arn:aws:lambda::123456789012:function:send",
        "arn:aws:lambda:us-east-1:123456789012:function:",
        "arn:aws:lambda:us-east-1:123456789012:function:send:",
        "arn:aws:lambda:us-east-1:123456789012:function:se/nd",
        "arn:aws:lambda:us-east-1:123456789012:function:send\n",
        "arn:aws:sqs:us-east-1:123456789012:queue",
        "arn:aws:lambda:us-east-1:123456789012:function:${stageVariables.name}",
    ],
)
def test_what_is_not_the_arn_of_a_function(arn: str) -> None:
    for uri in (arn, invocations(arn)):
        with pytest.raises(ValueError, match="is not the ARN of a function: that is arn:aws:l"):
            parse_function_uri(uri)


def test_a_function_is_called_where_it_is() -> None:
    uri = invocations("arn:aws:lambda:eu-west-1:123456789012:function:send")

    with pytest.raises(ValueError, match=r"calls us-east-1, but the function is in eu-west-1$"):
        parse_integration_uri(uri)


@pytest.mark.parametrize(
    "uri", [f"{GATEWAY}lambda:path/2015-03-31/functions/{SEND}", f"{GATEWAY}sqs:path/1/q"]
)
def test_a_uri_of_another_kind_invokes_no_function(uri: str) -> None:
    with pytest.raises(ValueError, match="does not invoke a function: that is arn:aws:apigateway"):
        parse_function_uri(uri)


@pytest.mark.parametrize(
    ("uri", "parsed"),
    [
        ("dynamodb:action/PutItem", ("dynamodb", "action", "PutItem", "")),
        ("states:action/StartSyncExecution", ("states", "action", "StartSyncExecution", "")),
        ("sns:action/Publish&TopicArn=a", ("sns", "action", "Publish", "TopicArn=a")),
        ("sns:action/Publish?TopicArn=a", ("sns", "action", "Publish", "TopicArn=a")),
        ("sqs:path/123456789012/{queue}", ("sqs", "path", "123456789012/{queue}", "")),
        ("sqs:path/", ("sqs", "path", "", "")),
        ("s3:path/bucket/a?versionId=1", ("s3", "path", "bucket/a", "versionId=1")),
        ("runtime.sagemaker:path//endpoints/x", ("runtime.sagemaker", "path", "endpoints/x", "")),
        ("aB1.execute-api:path/prod/x", ("aB1.execute-api", "path", "prod/x", "")),
        ("lambda:path/2015-03-31/functions", ("lambda", "path", "2015-03-31/functions", "")),
    ],
)
def test_actions_and_paths_of_services(uri: str, parsed: tuple[str, str, str, str]) -> None:
    service, kind, target, query = parsed

    assert kind in {"action", "path"}
    expected = ServiceUri("us-east-1", service, "path", target, query)
    if kind == "action":
        expected = ServiceUri("us-east-1", service, "action", target, query)
    assert parse_integration_uri(GATEWAY + uri) == expected


@pytest.mark.parametrize(
    "uri",
    [
        f"{GATEWAY}dynamodb:PutItem",
        f"{GATEWAY}:action/PutItem",
        "arn:aws:apigateway::dynamodb:action/PutItem",
        "arn:aws:apigateway:us-east-1:dynamodb:table/PutItem",
    ],
)
def test_what_is_not_a_uri_of_a_service(uri: str) -> None:
    for parse in (parse_service_uri, parse_integration_uri):
        with pytest.raises(ValueError, match="is not a URI of an AWS service: those are arn:aws"):
            parse(uri)


def test_an_action_has_a_name() -> None:
    with pytest.raises(ValueError, match="names no action: 'Put Item' is not the name of one"):
        parse_integration_uri(f"{GATEWAY}dynamodb:action/Put Item")


@pytest.mark.parametrize(
    "arn",
    [
        "arn:aws:iam::123456789012:role/gateway",
        "arn:aws-cn:iam::123456789012:role/service-role/a/gateway@example.com",
    ],
)
def test_roles(arn: str) -> None:
    check_role_arn(arn)


@pytest.mark.parametrize(
    ("arn", "said"),
    [
        ("arn:aws:iam::*:user/*", "stands for the caller's own credentials"),
        ("arn:aws:iam::123456789012:user/me", "is not the ARN of a role: that is arn:aws:iam::"),
        ("arn:aws:iam::123456789012:role/", "is not the ARN of a role"),
        ("gateway", "is not the ARN of a role"),
    ],
)
def test_what_is_not_a_role(arn: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        check_role_arn(arn)


@pytest.mark.parametrize(
    ("region", "route_key", "arn"),
    [
        ("us-east-1", "$connect", "arn:aws:execute-api:us-east-1:1:api/prod/$connect"),
        ("cn-north-1", "a b", "arn:aws-cn:execute-api:cn-north-1:1:api/prod/a b"),
        (
            "us-gov-west-1",
            "é%\n",
            "arn:aws-us-gov:execute-api:us-gov-west-1:1:api/prod/%C3%A9%25%0A",
        ),
    ],
)
def test_a_route_as_a_source(region: str, route_key: str, arn: str) -> None:
    assert route_arn(region, "1", "api", "prod", route_key) == arn
