"""How services are called, in every partition."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.aws.servers import BARE, KEYS
from tests.integrations.requests import integration, message
from wsgateway.arns import parse_service_uri
from wsgateway.aws.client import Aws
from wsgateway.aws.services import check_service, load_service
from wsgateway.aws.session import Session
from wsgateway.contracts import HttpResponse
from wsgateway.errors import IntegrationTimeout, InvokeRefused
from wsgateway.integrations.aws import ActionIntegration

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

AT_AWS = "https://{}.eu-west-1.amazonaws.com"


def load(name: str, region: str = "eu-west-1", **environ: str) -> Any:
    return load_service(Session(BARE | environ, region="us-east-1"), name, region)


@pytest.mark.parametrize(
    ("name", "endpoint", "signing_name"),
    [
        ("dynamodb", AT_AWS.format("dynamodb"), "dynamodb"),
        ("states", AT_AWS.format("states"), "states"),
        ("events", AT_AWS.format("events"), "events"),
        ("lambda", AT_AWS.format("lambda"), "lambda"),
        ("s3", AT_AWS.format("s3"), "s3"),
        ("email", AT_AWS.format("email"), "ses"),
        ("runtime.sagemaker", AT_AWS.format("runtime.sagemaker"), "sagemaker"),
        ("abc123.execute-api", AT_AWS.format("abc123.execute-api"), "execute-api"),
        ("abc-ats.iotdata", AT_AWS.format("abc-ats.iot"), "iotdata"),
        ("iotdata", AT_AWS.format("data-ats.iot"), "iotdata"),
        ("room.s3", AT_AWS.format("room.s3"), "s3"),
    ],
)
def test_services_are_named_as_their_hosts(name: str, endpoint: str, signing_name: str) -> None:
    service = load(name)

    assert (service.endpoint, service.signing_name) == (endpoint, signing_name)
    assert service.signing_region == "eu-west-1"


@pytest.mark.parametrize(
    ("name", "region", "environ", "endpoint", "signing_region"),
    [
        ("sqs", "cn-north-1", {}, "https://sqs.cn-north-1.amazonaws.com.cn", "cn-north-1"),
        ("sqs", "us-gov-west-1", {}, "https://sqs.us-gov-west-1.amazonaws.com", "us-gov-west-1"),
        ("iam", "eu-west-1", {}, "https://iam.amazonaws.com", "us-east-1"),
        (
            "sqs",
            "us-east-1",
            {"AWS_USE_FIPS_ENDPOINT": "true"},
            "https://sqs-fips.us-east-1.amazonaws.com",
            "us-east-1",
        ),
        (
            "sqs",
            "us-east-1",
            {"AWS_USE_DUALSTACK_ENDPOINT": "true"},
            "https://sqs.us-east-1.api.aws",
            "us-east-1",
        ),
        (
            "states",
            "anywhere",
            {"AWS_ENDPOINT_URL_SFN": "http://127.0.0.1:8083/"},
            "http://127.0.0.1:8083",
            "anywhere",
        ),
    ],
)
def test_endpoints(
    name: str, region: str, environ: dict[str, str], endpoint: str, signing_region: str
) -> None:
    service = load(name, region, **environ)

    assert (service.endpoint, service.signing_region) == (endpoint, signing_region)


def test_protocols() -> None:
    assert load("kinesis").content_type == "application/x-amz-json-1.1"
    assert load("kinesis").target_prefix == "Kinesis_20131202"
    assert load("sns").content_type == "application/x-www-form-urlencoded"
    assert load("sns").api_version == "2010-03-31"
    assert [load(name).has_actions for name in ("dynamodb", "sns", "s3")] == [True, True, False]


def test_few_actions_have_a_host_of_their_own() -> None:
    assert load("states").host_prefixes["StartSyncExecution"] == "sync-"
    assert "StartExecution" not in load("states").host_prefixes
    assert not load("states", AWS_ENDPOINT_URL="http://127.0.0.1:8083").host_prefixes


@pytest.mark.parametrize("name", ["dynamo", "a.b", "", "../lambda"])
def test_a_service_that_is_unknown(name: str) -> None:
    with pytest.raises(ValueError, match=rf"^there is no AWS service '{name}' that botocore 1\."):
        load(name)


@pytest.mark.parametrize(
    ("rest", "problem"),
    [
        ("dynamodb:action/PutItem", None),
        ("sns:action/Publish", None),
        ("s3:path/bucket", None),
        ("s3:action/GetObject", "s3 has a path for each of its actions, and no action/GetObject"),
        ("dynamo:path/x", "there is no AWS service 'dynamo'"),
    ],
)
def test_what_can_be_called(rest: str, problem: str | None) -> None:
    uri = parse_service_uri(f"arn:aws:apigateway:eu-west-1:{rest}")

    if problem is None:
        check_service(uri)
    else:
        with pytest.raises(ValueError, match=f"^{problem}"):
            check_service(uri)


class Recorder:
    """An HTTP client without a network.

    Attributes:
        sent: The requests.
    """

    def __init__(self) -> None:
        self.sent: list[tuple[str, str, dict[str, str], float]] = []

    async def send(
        self,
        method: str,
        url: str,
        *,
        headers: Sequence[tuple[str, str]],
        body: bytes,
        timeout_s: float,
    ) -> HttpResponse:
        self.sent.append((method, url, dict(headers), timeout_s))
        return HttpResponse(200, (), b"{}")


@pytest.fixture
async def aws() -> AsyncIterator[tuple[Aws, Recorder]]:
    recorder = Recorder()
    aws = Aws(
        KEYS | BARE | {"AWS_SESSION_TOKEN": "token"},
        http=recorder,
        account_id="123456789012",
        region="us-east-1",
    )
    yield aws, recorder
    await aws.close()


@pytest.mark.parametrize(
    ("rest", "url"),
    [
        ("states:action/StartSyncExecution", f"{AT_AWS.format('sync-states')}/"),
        ("states:action/StartExecution", f"{AT_AWS.format('states')}/"),
        ("abc123.execute-api:path/prod/@connections/a=", None),
    ],
)
async def test_a_request_to_aws_itself(
    aws: tuple[Aws, Recorder], rest: str, url: str | None
) -> None:
    definition = integration(
        "AWS",
        integrationUri=f"arn:aws:apigateway:eu-west-1:{rest}",
        integrationResponses={"$default": {}},
    )

    await ActionIntegration(definition, aws[0]).handle(message())

    [(method, sent_url, headers, _)] = aws[1].sent
    post = f"{AT_AWS.format('abc123.execute-api')}/prod/%40connections/a%3D"
    assert (method, sent_url) == ("POST", url or post)
    assert headers["X-Amz-Security-Token"] == "token"
    assert "x-amz-security-token" in headers["Authorization"]


async def test_once_it_is_known_a_service_is_reached_without_waiting(
    aws: tuple[Aws, Recorder],
) -> None:
    first = await aws[0].ready("sqs", None, role_arn=None, timeout_s=10.0)
    again = aws[0].ready("sqs", None, role_arn=None, timeout_s=10.0)

    with pytest.raises(StopIteration) as done:
        again.send(None)

    assert first.timeout_s < 10.0
    assert done.value.value == (first.service, first.credentials, 10.0)
    assert first.service.region == "us-east-1"


async def test_a_service_that_is_unknown_is_refused(aws: tuple[Aws, Recorder]) -> None:
    for _ in range(2):
        with pytest.raises(InvokeRefused, match=r"^AWS cannot be called: there is no AWS service"):
            await aws[0].ready("x", None, role_arn=None, timeout_s=10.0)


async def test_what_a_request_needs_counts_for_its_time(aws: tuple[Aws, Recorder]) -> None:
    with pytest.raises(IntegrationTimeout, match=r"^credentials and model of sqs took longer"):
        await aws[0].ready("sqs", None, role_arn=None, timeout_s=0.0)
    # What was begun is for the next.
    await aws[0].ready("sqs", None, role_arn=None, timeout_s=10.0)


async def test_a_profile_that_is_not_there_is_said() -> None:
    aws = Aws(
        KEYS | BARE | {"AWS_PROFILE": "typo"},
        http=Recorder(),
        account_id="123456789012",
        region="us-east-1",
    )

    with pytest.raises(InvokeRefused, match=r"^AWS cannot be called: The config profile \(typo\) "):
        await aws.ready("sqs", "eu-west-1", role_arn=None, timeout_s=10.0)
    await aws.close()
