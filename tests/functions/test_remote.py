"""Functions behind Lambda's Invoke API: what they are sent, and what comes of what they answer."""

from __future__ import annotations

import asyncio
import io
import json
import re
import zipfile
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from tests.aws.servers import BARE, KEYS, http, lambda_endpoint, moto
from tests.integrations.requests import message
from tests.listener.raw import eventually
from wsgateway.arns import parse_function_uri
from wsgateway.aws.client import Aws
from wsgateway.errors import (
    BackendUnreachable,
    FunctionFailed,
    IntegrationTimeout,
    InvokeRefused,
    MalformedResponse,
)
from wsgateway.functions.remote import LambdaFunction

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from tests.aws.servers import LambdaEndpoint
    from wsgateway.integrations.client import AioHttpClient

    MakeFunction = Callable[[str], LambdaFunction]

__all__ = ["http", "lambda_endpoint", "moto"]

LONG_S = 10.0
SHORT_S = 0.2
ARN = "arn:aws:lambda:eu-west-1:123456789012:function:"
FULL_URI = "arn:aws-cn:apigateway:cn-north-1:lambda:path/2015-03-31/functions/{}/invocations"
IN_CHINA = "arn:aws-cn:lambda:cn-north-1:123456789012:function:hello:live"
EVENT: dict[str, object] = {
    "requestContext": {
        "apiId": "abcde12345",
        "stage": "prod",
        "routeKey": "größe?",
        "requestId": "PJqCFEqHqRcFd0w=",
    },
    "body": '{"a":"é"}',
    "isBase64Encoded": False,
}


@pytest.fixture
async def aws(lambda_endpoint: LambdaEndpoint, http: AioHttpClient) -> AsyncIterator[Aws]:
    lambda_endpoint.calls()
    aws = Aws(
        KEYS | BARE | {"AWS_ENDPOINT_URL_LAMBDA": lambda_endpoint.url},
        http=http,
        account_id="123456789012",
        region="us-west-2",
    )
    yield aws
    await aws.close()


@pytest.fixture
def function(aws: Aws) -> MakeFunction:
    def made(name: str) -> LambdaFunction:
        uri = name if ":" in name else ARN + name
        return LambdaFunction(parse_function_uri(uri), aws)

    return made


async def invoke(function: LambdaFunction, *, timeout_s: float = LONG_S) -> Any:
    return await function.invoke(dict(EVENT), timeout_s=timeout_s)


async def call(function: LambdaFunction, payload: bytes, *headers: tuple[str, str]) -> bytes:
    return await function.call(payload, request=message(), headers=headers, timeout_s=LONG_S)


# --- invoking


async def test_a_function_gets_the_event_and_its_result_comes_back(function: MakeFunction) -> None:
    assert await invoke(function("echo")) == EVENT
    assert await invoke(function("hello")) == {"statusCode": 200, "body": "hi"}


async def test_what_lambda_is_sent(function: MakeFunction, lambda_endpoint: LambdaEndpoint) -> None:
    await invoke(function("hello"))

    [call] = lambda_endpoint.calls()
    headers = call["headers"]
    authorization = headers.pop("authorization")
    assert re.fullmatch(r"\d{8}T\d{6}Z", headers.pop("x-amz-date"))
    assert headers == {
        "accept": "application/json",
        "content-length": str(len(call["payload"].encode())),
        "host": lambda_endpoint.url.removeprefix("http://"),
        "user-agent": "AmazonAPIGateway_abcde12345",
        "x-amz-source-arn": (
            "arn:aws:execute-api:us-west-2:123456789012:abcde12345/prod/gr%C3%B6%C3%9Fe?"
        ),
        "x-amzn-apigateway-api-id": "abcde12345",
        "x-amzn-lambda-integration-tag": "PJqCFEqHqRcFd0w=",
    }
    assert re.fullmatch(
        r"AWS4-HMAC-SHA256 Credential=AKIAGATEWAY/\d{8}/eu-west-1/lambda/aws4_request, "
        r"SignedHeaders=accept;host;x-amz-date;x-amz-source-arn;x-amzn-apigateway-api-id;"
        r"x-amzn-lambda-integration-tag, Signature=[0-9a-f]{64}",
        authorization,
    )


@pytest.mark.parametrize(
    ("uri", "asked", "region"),
    [
        (f"{ARN}hello", f"{ARN}hello", "eu-west-1"),
        (f"{ARN}hello:live", f"{ARN}hello:live", "eu-west-1"),
        (f"{ARN}hello:7", f"{ARN}hello:7", "eu-west-1"),
        (f"{ARN}hello:$LATEST", f"{ARN}hello:$LATEST", "eu-west-1"),
        ("123456789012:function:hello", "123456789012:function:hello", "us-west-2"),
        (FULL_URI.format(IN_CHINA), IN_CHINA, "cn-north-1"),
    ],
)
async def test_every_form_of_arn_reaches_its_function(
    function: MakeFunction, lambda_endpoint: LambdaEndpoint, uri: str, asked: str, region: str
) -> None:
    await invoke(function(uri))

    [call] = lambda_endpoint.calls()
    escaped = asked.replace(":", "%3A").replace("$", "%24")
    assert call["path"] == f"/2015-03-31/functions/{escaped}/invocations"
    assert f"/{region}/lambda/aws4_request" in call["headers"]["authorization"]


async def test_an_event_without_a_context_is_sent_without_its_headers(
    function: MakeFunction, lambda_endpoint: LambdaEndpoint
) -> None:
    assert await function("echo").invoke({"a": 1}, timeout_s=LONG_S) == {"a": 1}

    [call] = lambda_endpoint.calls()
    assert "x-amz-source-arn" not in call["headers"]


async def test_a_payload_and_its_result_are_text_as_it_was_written(
    function: MakeFunction, lambda_endpoint: LambdaEndpoint
) -> None:
    payload = b'{"n": 1.0, "big": 12345678901234567890123}'

    assert await call(function("echo"), payload) == payload
    assert (
        await call(function("exact"), b"[]")
        == b'{"b": 1.0, "a": 12345678901234567890123, "b": "\\u00e9"}'
    )
    first, _ = lambda_endpoint.calls()
    assert first["payload"] == payload.decode()


async def test_a_payload_comes_with_the_headers_of_its_caller(
    function: MakeFunction, lambda_endpoint: LambdaEndpoint
) -> None:
    await call(function("echo"), b"{}", ("X-Amz-Log-Type", "None"), ("accept", "text/plain"))

    [called] = lambda_endpoint.calls()
    headers = called["headers"]
    assert headers["x-amz-log-type"] == "None"
    assert headers["accept"] == "text/plain"
    assert headers["user-agent"] == "AmazonAPIGateway_abcde12345"
    assert headers["x-amzn-lambda-integration-tag"] == message().request_id
    assert headers["x-amz-source-arn"] == (
        "arn:aws:execute-api:us-west-2:123456789012:abcde12345/dev/send"
    )


async def test_an_invocation_may_be_left_to_lambda(function: MakeFunction) -> None:
    assert await call(function("hang"), b"{}", ("X-Amz-Invocation-Type", "Event")) == b""


async def test_a_lone_surrogate_in_a_result_is_what_json_allows(function: MakeFunction) -> None:
    assert await invoke(function("surrogate")) == {"statusCode": 200, "body": "\ud800"}


# --- failures


@pytest.mark.parametrize(
    ("name", "said", "error"),
    [
        (
            "unhandled",
            "unhandled failed: KeyError: no such room",
            {
                "errorMessage": "no such room",
                "errorType": "KeyError",
                "requestId": "4c1a",
                "stackTrace": ['  File "/var/task/app.py", line 3, in handler\n'],
            },
        ),
        (
            "handled",
            "handled failed: Denied: denied: you",
            {"errorMessage": "denied: you", "errorType": "Denied"},
        ),
        ("exited", 'exited failed (Unhandled): "RequestId: 4c1a Process exited"', None),
        ("broken-error", "broken-error failed (Unhandled): {", None),
        ("large", "the result of large has 7340034 bytes, and Lambda allows 6291456", None),
    ],
)
async def test_a_function_that_fails(
    function: MakeFunction, name: str, said: str, error: dict[str, object] | None
) -> None:
    with pytest.raises(FunctionFailed) as caught:
        await invoke(function(name))

    assert str(caught.value) == said
    assert caught.value.error == error


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("throttled", "429 TooManyRequestsException: Rate Exceeded."),
        ("denied", "403 AccessDeniedException: User: arn:aws:iam::1:user/me is not authorized"),
        ("missing", "404 ResourceNotFoundException: Function not found: missing"),
        ("locked", "502 KMSAccessDeniedException: Lambda was unable to decrypt the variables"),
        ("down", "503 <html>Service Unavailable</html>"),
    ],
)
async def test_an_invocation_that_is_refused(
    function: MakeFunction, lambda_endpoint: LambdaEndpoint, name: str, said: str
) -> None:
    with pytest.raises(InvokeRefused) as caught:
        await invoke(function(name))

    assert str(caught.value) == f"{name} was not invoked: {said}"
    assert len(lambda_endpoint.calls()) == 1


@pytest.mark.parametrize("name", ["no-json", "nan", "no-text", "nothing", "deep"])
async def test_a_result_that_is_no_json(function: MakeFunction, name: str) -> None:
    with pytest.raises(MalformedResponse, match=f"^the result of {name} is no JSON: "):
        await invoke(function(name))


@pytest.mark.slow
async def test_a_function_that_takes_too_long_is_left(
    function: MakeFunction, lambda_endpoint: LambdaEndpoint
) -> None:
    # What the first request has to read and open does not take from the time of the second.
    await invoke(function("hello"))
    with pytest.raises(IntegrationTimeout):
        await invoke(function("hang"), timeout_s=SHORT_S)

    told: list[dict[str, Any]] = []

    def left() -> bool:
        told.extend(lambda_endpoint.calls())
        return {"left": f"{ARN}hang"} in told

    await eventually(left)


async def test_a_call_that_is_cancelled_is_left(
    function: MakeFunction, lambda_endpoint: LambdaEndpoint
) -> None:
    task = asyncio.create_task(invoke(function("hang")))
    told: list[dict[str, Any]] = []

    def count() -> int:
        told.extend(lambda_endpoint.calls())
        return len(told)

    await eventually(lambda: count() == 1)
    task.cancel()

    await eventually(lambda: count() == 2)
    assert task.cancelled()


async def test_an_endpoint_that_cannot_be_reached(http: AioHttpClient) -> None:
    aws = Aws(
        KEYS | BARE | {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"},
        http=http,
        account_id="123456789012",
        region="us-west-2",
    )

    with pytest.raises(BackendUnreachable):
        await invoke(LambdaFunction(parse_function_uri(f"{ARN}echo"), aws))
    await aws.close()


# --- a control plane, and functions that it has made


def _zip() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("app.py", "def handler(event, context): ...\n")
    return packed.getvalue()


@contextmanager
def second_client(name: str, url: str) -> Iterator[Any]:
    client: Any = boto3.client(
        name,  # type: ignore[call-overload]
        region_name="eu-west-1",
        endpoint_url=url,
        aws_access_key_id="x",
        aws_secret_access_key="x",
    )
    with closing(client):
        yield client


@pytest.mark.slow
async def test_functions_that_a_control_plane_has_made_are_invoked_by_name_and_alias(
    moto: str, http: AioHttpClient
) -> None:
    """moto runs no code; it answers what it was told to."""
    told = {"results": ['{"statusCode": 200, "body": "from moto"}'] * 2, "region": "eu-west-1"}
    for path, body in (
        ("reset", {}),
        ("config", {"lambda": {"use_docker": False}}),
        ("static/lambda-simple/response", told),
    ):
        await http.send(
            "POST",
            f"{moto}/moto-api/{path}",
            headers=[],
            body=json.dumps(body).encode(),
            timeout_s=LONG_S,
        )
    with second_client("iam", moto) as iam:
        role = iam.create_role(RoleName="lambda", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    with second_client("lambda", moto) as control:
        control.create_function(
            FunctionName="made",
            Runtime="python3.11",
            Role=role,
            Handler="app.handler",
            Code={"ZipFile": _zip()},
        )
        version = control.publish_version(FunctionName="made")["Version"]
        control.create_alias(FunctionName="made", Name="live", FunctionVersion=version)
    aws = Aws(
        KEYS | BARE | {"AWS_ENDPOINT_URL": moto},
        http=http,
        account_id="123456789012",
        region="eu-west-1",
    )

    for name in ("made", "made:live"):
        function = LambdaFunction(parse_function_uri(ARN + name), aws)
        assert await invoke(function) == {"statusCode": 200, "body": "from moto"}
    await aws.close()
