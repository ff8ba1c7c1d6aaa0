"""AWS: functions with a payload of a template's making, actions and paths of services."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from tests.aws.servers import BARE, KEYS, http, lambda_endpoint, moto
from tests.integrations.backends import http_backend
from tests.integrations.requests import connect, disconnect, integration, message
from wsgateway.arns import parse_function_uri
from wsgateway.aws.client import Aws
from wsgateway.contracts import IntegrationResponse
from wsgateway.errors import (
    BackendUnreachable,
    FunctionFailed,
    IntegrationTimeout,
    InvokeRefused,
    TransformationFailed,
    UnsupportedMediaType,
)
from wsgateway.functions.remote import LambdaFunction
from wsgateway.integrations.aws import ActionIntegration, FromText, LambdaIntegration

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from tests.aws.servers import LambdaEndpoint
    from tests.integrations.backends import Backend
    from wsgateway.events import RouteRequest
    from wsgateway.integrations.client import AioHttpClient

    MakeAws = Callable[..., Aws]

__all__ = ["http", "lambda_endpoint", "moto"]

REGION = "eu-west-1"
ARN = f"arn:aws:lambda:{REGION}:123456789012:function:"
ROLE = "arn:aws:iam::123456789012:role/gateway"
FORM = {"integration.request.header.Content-Type": "'application/x-www-form-urlencoded'"}
ECHO: dict[str, Any] = {"$default": {}}


def uri(rest: str) -> str:
    return f"arn:aws:apigateway:{REGION}:{rest}"


@pytest.fixture
async def make_aws(http: AioHttpClient) -> AsyncIterator[MakeAws]:
    made: list[Aws] = []

    def make(**environ: str) -> Aws:
        aws = Aws(KEYS | BARE | environ, http=http, account_id="123456789012", region="us-east-1")
        made.append(aws)
        return aws

    yield make
    for aws in made:
        await aws.close()


# --- functions


@pytest.fixture
def function(
    make_aws: MakeAws, lambda_endpoint: LambdaEndpoint
) -> Callable[..., LambdaIntegration]:
    lambda_endpoint.calls()
    aws = make_aws(AWS_ENDPOINT_URL_LAMBDA=lambda_endpoint.url)

    def made(name: str, **members: Any) -> LambdaIntegration:
        definition = integration("AWS", **({"integrationResponses": ECHO} | members))
        return LambdaIntegration(definition, LambdaFunction(parse_function_uri(ARN + name), aws))

    return made


async def test_a_function_gets_what_the_template_makes_and_its_text_comes_back(
    function: Callable[..., LambdaIntegration], lambda_endpoint: LambdaEndpoint
) -> None:
    send = function(
        "echo",
        requestTemplates={"$default": '{"from": "$context.connectionId", "n": 1.0}'},
    )

    response = await send.handle(message())

    text = '{"from": "AQIDBAUGBwgCCQo=", "n": 1.0}'
    assert response == IntegrationResponse(200, None, text.encode())
    [call] = lambda_endpoint.calls()
    assert call["payload"] == text
    assert call["headers"]["x-amz-source-arn"] == (
        "arn:aws:execute-api:us-east-1:123456789012:abcde12345/dev/send"
    )


async def test_without_a_template_it_gets_the_message(
    function: Callable[..., LambdaIntegration],
) -> None:
    assert (await function("echo").handle(message('{"a": [1 ]}'))).payload == b'{"a": [1 ]}'


@pytest.mark.parametrize("request_", [connect(), disconnect()], ids=["connect", "disconnect"])
async def test_without_a_body_it_gets_an_empty_object(
    function: Callable[..., LambdaIntegration], request_: RouteRequest
) -> None:
    assert await function("echo").handle(request_) == IntegrationResponse(200, None, b"{}")


async def test_a_result_goes_through_the_response_template(
    function: Callable[..., LambdaIntegration],
) -> None:
    send = function(
        "hello",
        integrationResponses={
            "/.*/": {"responseTemplates": {"$default": "never: it has no errorMessage"}},
            "$default": {"responseTemplates": {"$default": "said $input.path('$.body')"}},
        },
    )

    assert (await send.handle(message())).payload == b"said hi"


FAILURES = {
    "/no such .*/": {
        "responseTemplates": {"$default": "$input.path('$.errorType') of $context.routeKey"}
    },
    "$default": {"responseTemplates": {"$default": "$input.json('$.errorMessage')"}},
}


@pytest.mark.parametrize(
    ("name", "payload"), [("unhandled", b"KeyError of send"), ("handled", b'"denied: you"')]
)
async def test_a_failures_message_selects_its_response(
    function: Callable[..., LambdaIntegration], name: str, payload: bytes
) -> None:
    response = await function(name, integrationResponses=FAILURES).handle(message())

    assert response.payload == payload


async def test_a_function_that_fails_lets_nobody_in(
    function: Callable[..., LambdaIntegration],
) -> None:
    response = await function("unhandled", integrationResponses=FAILURES).handle(connect())

    assert response.status_code == 502


async def test_a_failure_that_no_response_is_for(
    function: Callable[..., LambdaIntegration],
) -> None:
    send = function("handled", integrationResponses={"/no such .*/": {}})

    with pytest.raises(TransformationFailed):
        await send.handle(message())


async def test_a_failure_without_an_error_selects_nothing(
    function: Callable[..., LambdaIntegration],
) -> None:
    with pytest.raises(FunctionFailed):
        await function("exited").handle(message())


@pytest.mark.parametrize("name", ["throttled", "denied", "missing"])
async def test_an_invocation_that_is_refused(
    function: Callable[..., LambdaIntegration], name: str
) -> None:
    with pytest.raises(InvokeRefused):
        await function(name).handle(message())


async def test_a_function_may_be_left_to_run_later(
    function: Callable[..., LambdaIntegration], lambda_endpoint: LambdaEndpoint
) -> None:
    send = function(
        "hang",
        requestParameters={
            "integration.request.header.X-Amz-Invocation-Type": "'Event'",
            "integration.request.header.Host": "'elsewhere'",
            "integration.request.header.X-Amz-Security-Token": "'mine'",
        },
    )

    assert await send.handle(message()) == IntegrationResponse(200, None, b"")

    [call] = lambda_endpoint.calls()
    assert call["headers"]["x-amz-invocation-type"] == "Event"
    assert call["headers"]["host"] == lambda_endpoint.url.removeprefix("http://")
    assert "x-amz-security-token" not in call["headers"]


async def test_a_function_that_takes_too_long(
    function: Callable[..., LambdaIntegration],
) -> None:
    with pytest.raises(IntegrationTimeout):
        await function("hang", timeoutInMillis=50).handle(message())


async def test_a_message_that_is_not_to_be_passed(
    function: Callable[..., LambdaIntegration],
) -> None:
    with pytest.raises(UnsupportedMediaType):
        await function("echo", passthroughBehavior="NEVER").handle(message())


class Invoker:
    """A function of this process."""

    def __init__(self, result: object = None) -> None:
        self.result = result
        self.events: list[object] = []

    async def invoke(self, event: dict[str, object], *, timeout_s: float) -> object:
        self.events.append(event)
        return self.result


@pytest.mark.parametrize(
    ("result", "text"),
    [
        ({"big": 1 << 70, "é": None}, '{"big": 1180591620717411303424, "é": null}'),
        ({"é": "\ud800"}, '{"\\u00e9": "\\ud800"}'),
    ],
)
async def test_a_function_of_this_process_gets_values(result: object, text: str) -> None:
    invoker = Invoker(result)
    local = LambdaIntegration(integration("AWS", integrationResponses=ECHO), FromText(invoker))

    response = await local.handle(message('[1, "é"]'))

    assert invoker.events == [[1, "é"]]
    assert response.payload == text.encode()


async def test_a_function_of_this_process_is_not_called_with_what_is_no_json() -> None:
    invoker = Invoker()
    local = LambdaIntegration(integration("AWS", integrationResponses=ECHO), FromText(invoker))

    with pytest.raises(InvokeRefused, match=r"^what the template makes is no JSON: "):
        await local.handle(message("hi"))
    assert not invoker.events


# --- what services are sent


@pytest.fixture
async def service() -> AsyncIterator[Backend]:
    async with http_backend() as backend:
        yield backend


@pytest.fixture
def action(make_aws: MakeAws, service: Backend) -> Callable[..., ActionIntegration]:
    aws = make_aws(AWS_ENDPOINT_URL=service.url)

    def made(rest: str, **members: Any) -> ActionIntegration:
        definition = integration(
            "AWS",
            **({"integrationMethod": "POST", "integrationResponses": ECHO} | members),
            integrationUri=uri(rest),
        )
        return ActionIntegration(definition, aws)

    return made


def sent_headers(service: Backend) -> dict[str, str]:
    [received] = service.received
    headers = {name.lower(): value for name, value in received.headers}
    for name in ("host", "content-length", "x-amz-date"):
        headers.pop(name, None)
    return headers


COMMON = {
    "accept": "application/json",
    "user-agent": "AmazonAPIGateway_abcde12345",
    "x-amzn-apigateway-api-id": "abcde12345",
}


@pytest.mark.parametrize(
    ("name", "target", "version"),
    [
        ("dynamodb", "DynamoDB_20120810.PutItem", "1.0"),
        ("kinesis", "Kinesis_20131202.PutRecord", "1.1"),
        ("states", "AWSStepFunctions.StartExecution", "1.0"),
        ("states", "AWSStepFunctions.StartSyncExecution", "1.0"),
        ("events", "AWSEvents.PutEvents", "1.1"),
        ("sqs", "AmazonSQS.SendMessage", "1.0"),
        ("firehose", "Firehose_20150804.PutRecord", "1.1"),
        ("logs", "Logs_20140328.PutLogEvents", "1.1"),
    ],
)
async def test_an_action_of_a_service_that_speaks_json(
    action: Callable[..., ActionIntegration], service: Backend, name: str, target: str, version: str
) -> None:
    service.body = b'{"ok":true}'

    response = await action(f"{name}:action/{target.partition('.')[2]}").handle(message("{}"))

    assert response == IntegrationResponse(200, None, b'{"ok":true}')
    [received] = service.received
    assert (received.line, received.body) == ("POST /", b"{}")
    headers = sent_headers(service)
    assert f"/{REGION}/{name}/aws4_request" in headers.pop("authorization")
    assert headers == COMMON | {
        "content-type": f"application/x-amz-json-{version}",
        "x-amz-target": target,
    }


FORM_TYPE = "application/x-www-form-urlencoded"
PUBLISH = "Action=Publish&Version=2010-03-31"


@pytest.mark.parametrize(
    ("rest", "template", "body"),
    [
        (
            "sns:action/Publish",
            "TopicArn=a&Message=$util.urlEncode($input.body)",
            f"{PUBLISH}&TopicArn=a&Message=a%26b+%C3%A9",
        ),
        ("sns:action/Publish", f"{PUBLISH}&Message=a", f"{PUBLISH}&Message=a"),
        (
            "sns:action/Publish",
            "Message=a&Action=Publish",
            "Version=2010-03-31&Message=a&Action=Publish",
        ),
        ("monitoring:action/PutMetricData", "a=b", "Action=PutMetricData&Version=2010-08-01&a=b"),
        (
            "sqs:action/SendMessage",
            "MessageBody=a",
            "Action=SendMessage&Version=2012-11-05&MessageBody=a",
        ),
    ],
)
async def test_an_action_of_a_service_that_takes_forms(
    action: Callable[..., ActionIntegration], service: Backend, rest: str, template: str, body: str
) -> None:
    # Only SQS, which speaks JSON too, has to be told.
    mapped = FORM if rest.startswith("sqs") else {}

    await action(rest, requestTemplates={"$default": template}, requestParameters=mapped).handle(
        message("a&b é")
    )

    [received] = service.received
    assert (received.line, received.body.decode()) == ("POST /", body)
    assert sent_headers(service)["content-type"] == FORM_TYPE
    assert "x-amz-target" not in sent_headers(service)


@pytest.mark.parametrize(
    "body",
    [
        "Action=DeleteTopic",
        "Message=a&%41ction=DeleteTopic",
        "Action=Publish&Action=DeleteTopic",
        "Action",
    ],
)
async def test_a_message_does_not_choose_the_action(
    action: Callable[..., ActionIntegration], service: Backend, body: str
) -> None:
    with pytest.raises(TransformationFailed, match=r"^the request names another action than Pub"):
        await action("sns:action/Publish").handle(message(body))
    assert not service.received


async def test_an_action_may_be_all_query_string(
    action: Callable[..., ActionIntegration], service: Backend
) -> None:
    publish = action(
        "sns:action/Publish&TopicArn=arn:aws:sns:x",
        integrationMethod="GET",
        requestParameters={"integration.request.querystring.Message": "route.request.body"},
    )

    await publish.handle(message("a&b é"))

    [received] = service.received
    assert received.body == b""
    assert received.line == (f"GET /?TopicArn=arn%3Aaws%3Asns%3Ax&{PUBLISH}&Message=a%26b%20%C3%A9")
    assert "content-type" not in sent_headers(service)


async def test_a_path_of_a_service(
    action: Callable[..., ActionIntegration], service: Backend
) -> None:
    send = action(
        "sqs:path/{account}/{queue}?debug=a:{queue}",
        requestParameters=FORM
        | {
            "integration.request.path.account": "'123456789012'",
            "integration.request.path.queue": "route.request.body.queue",
            "integration.request.querystring.x": "context.routeKey",
        },
        requestTemplates={"$default": "Action=SendMessage&MessageBody=$input.path('$.text')"},
    )

    await send.handle(message('{"queue": "a/b é", "text": "hi"}'))

    [received] = service.received
    assert received.line == ("POST /123456789012/a%2Fb%20%C3%A9?debug=a%3Aa%2Fb%20%C3%A9&x=send")
    assert received.body == b"Action=SendMessage&MessageBody=hi"
    assert sent_headers(service)["content-type"] == FORM_TYPE


async def test_a_key_of_s3_has_slashes(
    action: Callable[..., ActionIntegration], service: Backend
) -> None:
    put = action(
        "s3:path/bucket/{key}",
        integrationMethod="PUT",
        requestParameters={"integration.request.path.key": "route.request.body.key"},
    )

    await put.handle(message('{"key": "rooms/1 +é"}'))

    [received] = service.received
    assert received.line == "PUT /bucket/rooms/1%20%2B%C3%A9"
    headers = sent_headers(service)
    assert "/s3/aws4_request" in headers["authorization"]
    assert len(headers["x-amz-content-sha256"]) == 64
    assert headers["content-type"] == "application/json"


@pytest.mark.parametrize("key", ["..", "a/../b", "."])
async def test_a_path_parameter_leads_nowhere_else(
    action: Callable[..., ActionIntegration], service: Backend, key: str
) -> None:
    put = action(
        "s3:path/bucket/{key}",
        requestParameters={"integration.request.path.key": "route.request.body.key"},
    )

    with pytest.raises(TransformationFailed, match=r"^a path parameter leads elsewhere"):
        await put.handle(message(json.dumps({"key": key})))
    with pytest.raises(TransformationFailed, match=r"^the path parameter key has no value"):
        await put.handle(message("{}"))
    assert not service.received


async def test_mapped_headers_are_signed_too_but_not_those_of_the_connection(
    action: Callable[..., ActionIntegration], service: Backend
) -> None:
    send = action(
        "dynamodb:action/PutItem",
        requestParameters={
            "integration.request.header.X-Amz-Target": "'DynamoDB_20120810.GetItem'",
            "integration.request.header.content-type": "'application/json'",
            "integration.request.header.X-Room": "route.request.body.room",
            "integration.request.header.Authorization": "'mine'",
            "integration.request.header.Content-Length": "'1'",
        },
    )

    await send.handle(message('{"room": "größe"}'))

    headers = sent_headers(service)
    authorization = headers.pop("authorization")
    assert "SignedHeaders=accept;content-type;host;x-amz-date;x-amz-target;" in authorization
    assert ";x-room," in authorization
    assert headers.pop("x-room").encode("latin-1").decode() == "größe"
    assert headers == COMMON | {
        "content-type": "application/json",
        "x-amz-target": "DynamoDB_20120810.GetItem",
    }


async def test_a_service_without_actions(
    action: Callable[..., ActionIntegration], service: Backend
) -> None:
    with pytest.raises(InvokeRefused, match=r"^s3 has paths, not actions: write path/\.\.\. in "):
        await action("s3:action/GetObject").handle(message())
    assert not service.received


async def test_a_service_that_is_unknown(action: Callable[..., ActionIntegration]) -> None:
    with pytest.raises(InvokeRefused, match=r"^AWS cannot be called: there is no AWS service 'dyn"):
        await action("dynamo:action/PutItem").handle(message())


@pytest.mark.parametrize(("status", "payload"), [(200, b"done"), (400, b"failed"), (500, b"")])
async def test_the_status_selects_the_response(
    action: Callable[..., ActionIntegration], service: Backend, status: int, payload: bytes
) -> None:
    service.status, service.body = status, b""
    put = action(
        "dynamodb:action/PutItem",
        integrationResponses={
            "/4../": {"responseTemplates": {"$default": "failed"}},
            "/200/": {"responseTemplates": {"$default": "done"}},
            "$default": {},
        },
    )

    assert await put.handle(message()) == IntegrationResponse(status, None, payload)


async def test_an_answer_that_no_response_is_for_lets_nobody_in(
    action: Callable[..., ActionIntegration], service: Backend
) -> None:
    """AWS's own sample has a `$connect` that puts an item, with one response for 200."""
    put = action(
        "dynamodb:action/PutItem",
        requestTemplates={"$default": "{}"},
        integrationResponses={"/200/": {}},
    )

    assert (await put.handle(connect())).status_code == 200
    service.status = 400
    with pytest.raises(TransformationFailed):
        await put.handle(connect())


async def test_a_service_that_does_not_answer(make_aws: MakeAws, service: Backend) -> None:
    definition = integration(
        "AWS", integrationUri=uri("dynamodb:action/PutItem"), integrationResponses=ECHO
    )

    with pytest.raises(BackendUnreachable):
        await ActionIntegration(definition, make_aws(AWS_ENDPOINT_URL="http://127.0.0.1:1")).handle(
            message()
        )


# --- services that are there


@pytest.fixture
def client(moto: str) -> Iterator[Callable[[str], Any]]:
    """Makes second clients, which see what has come of a request."""
    made: list[Any] = []

    def make(name: str) -> Any:
        one: Any = boto3.client(
            name,  # type: ignore[call-overload]
            region_name=REGION,
            endpoint_url=moto,
            aws_access_key_id="x",
            aws_secret_access_key="x",
        )
        made.append(one)
        return one

    yield make
    for one in made:
        one.close()


@pytest.fixture
def real(make_aws: MakeAws, moto: str) -> Callable[..., ActionIntegration]:
    aws = make_aws(AWS_ENDPOINT_URL=moto)

    def made(rest: str, template: str, **members: Any) -> ActionIntegration:
        definition = integration(
            "AWS",
            **({"integrationResponses": ECHO} | members),
            integrationMethod="POST",
            integrationUri=uri(rest),
            requestTemplates={"$default": template},
        )
        return ActionIntegration(definition, aws)

    return made


@pytest.mark.slow
@pytest.mark.parametrize("role", [None, ROLE], ids=["own", "role"])
async def test_dynamodb(
    real: Callable[..., ActionIntegration], client: Callable[[str], Any], role: str | None
) -> None:
    dynamodb = client("dynamodb")
    dynamodb.create_table(
        TableName="connections",
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
    )
    put = real(
        "dynamodb:action/PutItem",
        '{"TableName": "connections", "Item": {"id": {"S": "$context.connectionId"}}}',
        credentialsArn=role,
        integrationResponses={"/200/": {}},
    )
    missing = real(
        "dynamodb:action/GetItem",
        '{"TableName": "nowhere", "Key": {"id": {"S": "1"}}}',
        integrationResponses={
            "/400/": {"responseTemplates": {"$default": "$input.path('$.message')"}}
        },
    )

    assert (await put.handle(connect())).status_code == 200
    refused = await missing.handle(message())

    assert dynamodb.scan(TableName="connections")["Items"] == [{"id": {"S": "AQIDBAUGBwgCCQo="}}]
    assert refused == IntegrationResponse(400, None, b"Requested resource not found")
    dynamodb.delete_table(TableName="connections")


QUEUE = "https://sqs.eu-west-1.amazonaws.com/123456789012/rooms"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rest", "template", "parameters"),
    [
        ("sqs:action/SendMessage", f'{{"QueueUrl": "{QUEUE}", "MessageBody": "hi"}}', {}),
        (
            "sqs:action/SendMessage",
            f"QueueUrl=$util.urlEncode('{QUEUE}')&MessageBody=hi",
            FORM,
        ),
        ("sqs:path/123456789012/rooms", "Action=SendMessage&MessageBody=hi", FORM),
    ],
    ids=["json", "form", "path"],
)
async def test_sqs(
    real: Callable[..., ActionIntegration],
    client: Callable[[str], Any],
    rest: str,
    template: str,
    parameters: dict[str, str],
) -> None:
    sqs = client("sqs")
    url = sqs.create_queue(QueueName="rooms")["QueueUrl"]

    response = await real(rest, template, requestParameters=parameters).handle(message())

    assert response.status_code == 200
    assert [one["Body"] for one in sqs.receive_message(QueueUrl=url)["Messages"]] == ["hi"]
    sqs.delete_queue(QueueUrl=url)


@pytest.mark.slow
async def test_sns(real: Callable[..., ActionIntegration], client: Callable[[str], Any]) -> None:
    sns, sqs = client("sns"), client("sqs")
    topic = sns.create_topic(Name="rooms")["TopicArn"]
    url = sqs.create_queue(QueueName="subscribed")["QueueUrl"]
    sns.subscribe(
        TopicArn=topic,
        Protocol="sqs",
        Endpoint="arn:aws:sqs:eu-west-1:123456789012:subscribed",
        Attributes={"RawMessageDelivery": "true"},
    )

    response = await real(
        "sns:action/Publish",
        f"TopicArn=$util.urlEncode('{topic}')&Message=$util.urlEncode($input.path('$.text'))",
    ).handle(message('{"text": "a & b"}'))

    assert response.status_code == 200
    assert [one["Body"] for one in sqs.receive_message(QueueUrl=url)["Messages"]] == ["a & b"]
    sqs.delete_queue(QueueUrl=url)
    sns.delete_topic(TopicArn=topic)


@pytest.mark.slow
async def test_kinesis(
    real: Callable[..., ActionIntegration], client: Callable[[str], Any]
) -> None:
    kinesis = client("kinesis")
    kinesis.create_stream(StreamName="rooms", ShardCount=1)

    response = await real(
        "kinesis:action/PutRecord",
        '{"StreamName": "rooms", "PartitionKey": "1", "Data": "$util.base64Encode($input.body)"}',
        integrationResponses={
            "$default": {"responseTemplates": {"$default": "$input.path('$.ShardId')"}}
        },
    ).handle(message('{"a": 1}'))

    assert response == IntegrationResponse(200, None, b"shardId-000000000000")
    iterator = kinesis.get_shard_iterator(
        StreamName="rooms", ShardId="shardId-000000000000", ShardIteratorType="TRIM_HORIZON"
    )["ShardIterator"]
    [record] = kinesis.get_records(ShardIterator=iterator)["Records"]
    assert record["Data"] == b'{"a": 1}'
    kinesis.delete_stream(StreamName="rooms")


@pytest.mark.slow
async def test_step_functions(
    real: Callable[..., ActionIntegration], client: Callable[[str], Any]
) -> None:
    states = client("stepfunctions")
    machine = states.create_state_machine(
        name="rooms",
        definition='{"StartAt": "a", "States": {"a": {"Type": "Pass", "End": true}}}',
        roleArn=ROLE,
    )["stateMachineArn"]

    response = await real(
        "states:action/StartExecution",
        f'{{"stateMachineArn": "{machine}", "input": "$util.escapeJavaScript($input.body)"}}',
    ).handle(message('{"a":1}'))

    assert response.payload is not None
    execution = json.loads(response.payload)["executionArn"]
    assert states.describe_execution(executionArn=execution)["input"] == '{"a":1}'
    states.delete_state_machine(stateMachineArn=machine)


@pytest.mark.slow
async def test_eventbridge(
    real: Callable[..., ActionIntegration], client: Callable[[str], Any]
) -> None:
    events, sqs = client("events"), client("sqs")
    url = sqs.create_queue(QueueName="events")["QueueUrl"]
    events.put_rule(Name="rooms", EventPattern='{"source": ["chat"]}')
    events.put_targets(
        Rule="rooms", Targets=[{"Id": "1", "Arn": "arn:aws:sqs:eu-west-1:123456789012:events"}]
    )

    response = await real(
        "events:action/PutEvents",
        '{"Entries": [{"Source": "chat", "DetailType": "join", "Detail": "{}"}]}',
        integrationResponses={
            "$default": {"responseTemplates": {"$default": "$input.path('$.FailedEntryCount')"}}
        },
    ).handle(message())

    assert response == IntegrationResponse(200, None, b"0")
    [received] = sqs.receive_message(QueueUrl=url)["Messages"]
    assert json.loads(received["Body"])["detail-type"] == "join"
    sqs.delete_queue(QueueUrl=url)


@pytest.mark.slow
async def test_s3(make_aws: MakeAws, moto: str, client: Callable[[str], Any]) -> None:
    s3 = client("s3")
    s3.create_bucket(Bucket="rooms", CreateBucketConfiguration={"LocationConstraint": REGION})
    definition = integration(
        "AWS",
        integrationMethod="PUT",
        integrationUri=uri("s3:path/rooms/{key}"),
        requestParameters={"integration.request.path.key": "context.messageId"},
        contentHandlingStrategy="CONVERT_TO_BINARY",
        integrationResponses=ECHO,
    )

    response = await ActionIntegration(definition, make_aws(AWS_ENDPOINT_URL=moto)).handle(
        message(base64.b64encode(b"\x00\xff").decode())
    )

    assert response.status_code == 200
    assert s3.get_object(Bucket="rooms", Key="ICEiIyQlJicCFRY=")["Body"].read() == b"\x00\xff"
    s3.delete_object(Bucket="rooms", Key="ICEiIyQlJicCFRY=")
    s3.delete_bucket(Bucket="rooms")


@pytest.mark.slow
async def test_a_role_that_cannot_be_assumed(make_aws: MakeAws, service: Backend) -> None:
    service.status, service.body = (
        403,
        (
            b"<ErrorResponse><Error><Code>AccessDenied</Code><Message>not you</Message></Error>"
            b"</ErrorResponse>"
        ),
    )
    definition = integration(
        "AWS",
        integrationUri=uri("dynamodb:action/PutItem"),
        credentialsArn=ROLE,
        integrationResponses=ECHO,
    )

    with pytest.raises(InvokeRefused) as caught:
        await ActionIntegration(definition, make_aws(AWS_ENDPOINT_URL=service.url)).handle(
            message()
        )

    assert str(caught.value) == (
        f"{ROLE} cannot be assumed: ClientError: An error occurred (AccessDenied) when calling the "
        "AssumeRole operation: not you"
    )
