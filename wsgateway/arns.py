"""What does an ARN name: a function, an action or path of a service, a role?

https://docs.aws.amazon.com/apigatewayv2/latest/api-reference/apis-apiid-integrations.html
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote

_PARTITION = r"arn:(?P<partition>aws[a-z-]{0,20}):"
_REGION = r"(?P<region>[a-z0-9-]{1,32})"
# https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html, "FunctionName".
_FUNCTION = (
    r"(?P<account_id>[0-9]{12}):function:(?P<name>[A-Za-z0-9_-]{1,64})"
    r"(?::(?P<qualifier>\$LATEST(?:\.PUBLISHED)?|[A-Za-z0-9_-]{1,128}))?"
)
_FUNCTION_ARN = re.compile(f"(?:{_PARTITION}lambda:{_REGION}:)?{_FUNCTION}", re.ASCII)
_SERVICE_URI = re.compile(
    rf"{_PARTITION}apigateway:{_REGION}:(?P<service>[A-Za-z0-9.-]{{1,128}})"
    r":(?P<kind>action|path)/(?P<target>.*)",
    re.ASCII | re.DOTALL,
)
_INVOCATIONS = re.compile(r"2015-03-31/functions/(?P<function>.*)/invocations", re.DOTALL)
_ACTION = re.compile(r"(?P<name>[A-Za-z0-9_.]{1,128})(?:[?&](?P<query>.*))?", re.ASCII | re.DOTALL)
_ROLE_ARN = re.compile(
    # https://docs.aws.amazon.com/IAM/latest/APIReference/API_Role.html
    rf"{_PARTITION}iam::[0-9]{{12}}:role/(?:[!-\x7e]{{1,510}}/)?[A-Za-z0-9_+=,.@-]{{1,64}}",
    re.ASCII,
)

# What may stand in a header as it is: all of ASCII that is printed, but not what escapes.
_IN_HEADER = "!\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~ "

_FUNCTION_FORM = "arn:aws:lambda:REGION:ACCOUNT:function:NAME, with or without :ALIAS"
_SERVICE_FORM = "arn:aws:apigateway:REGION:SERVICE:action/ACTION, or :path/PATH"


@dataclass(frozen=True, slots=True)
class FunctionArn:
    """A function of Lambda.

    Attributes:
        arn: As it was written, which may be without partition and region.
        region: None where the ARN leaves it out.
        name: Without account and qualifier.
        qualifier: An alias, a version or `$LATEST`; None where the ARN leaves it out.
    """

    arn: str
    region: str | None
    name: str
    qualifier: str | None


@dataclass(frozen=True, slots=True)
class ServiceUri:
    """An action or a path of an AWS service.

    Attributes:
        region: Where it is called.
        service: As the URI names it, with its subdomain: `dynamodb`, `abc123.execute-api`.
        kind: Whether `target` is an action or a path.
        target: `PutItem`, or a path without its first slash; placeholders stay.
        query: The query string.
    """

    region: str
    service: str
    kind: Literal["action", "path"]
    target: str
    query: str


def parse_integration_uri(uri: str) -> FunctionArn | ServiceUri:
    """Read the URI of an AWS integration, whose stage variables are resolved.

    Raises:
        ValueError: It is none; the message says what one is.
    """
    match = _SERVICE_URI.fullmatch(uri)
    if match is None and ":apigateway:" in uri:
        raise ValueError(f"{uri} is not a URI of an AWS service: those are {_SERVICE_FORM}")
    if match is None or _is_invocation(match):
        return parse_function_uri(uri)
    return parse_service_uri(uri)


def parse_function_uri(uri: str) -> FunctionArn:
    """Read the ARN of a function, alone or within a URI of API Gateway.

    The ARN may be without partition and region, which are the gateway's own then.

    Raises:
        ValueError: It is none; the message says what one is.
    """
    arn, within = uri, _SERVICE_URI.fullmatch(uri)
    if within is not None:
        invocation = _INVOCATIONS.fullmatch(within["target"])
        if not _is_invocation(within) or invocation is None:
            raise ValueError(
                f"{uri} does not invoke a function: that is "
                "arn:aws:apigateway:REGION:lambda:path/2015-03-31/functions/ARN/invocations"
            )
        arn = invocation["function"]
    match = _FUNCTION_ARN.fullmatch(arn)
    if match is None:
        raise ValueError(f"{arn} is not the ARN of a function: that is {_FUNCTION_FORM}")
    region = match["region"]
    if within is not None:
        if region is not None and region != within["region"]:
            raise ValueError(f"{uri} calls {within['region']}, but the function is in {region}")
        region = within["region"]
    return FunctionArn(arn, region, match["name"], match["qualifier"])


def parse_service_uri(uri: str) -> ServiceUri:
    """Read the URI of an action or path of a service.

    Raises:
        ValueError: It is none; the message says what one is.
    """
    match = _SERVICE_URI.fullmatch(uri)
    if match is None:
        raise ValueError(f"{uri} is not a URI of an AWS service: those are {_SERVICE_FORM}")
    region, service, target = match["region"], match["service"], match["target"]
    if match["kind"] == "path":
        path, _, query = target.partition("?")
        return ServiceUri(region, service, "path", path.lstrip("/"), query)
    action = _ACTION.fullmatch(target)
    if action is None:
        raise ValueError(f"{uri} names no action: {target!r} is not the name of one")
    return ServiceUri(region, service, "action", action["name"], action["query"] or "")


def check_role_arn(arn: str) -> None:
    """Check that `credentialsArn` names a role that can be assumed.

    Raises:
        ValueError: It does not; the message says what would.
    """
    if _ROLE_ARN.fullmatch(arn) is not None:
        return
    if arn.endswith(":iam::*:user/*"):
        raise ValueError(f"{arn} stands for the caller's own credentials, which a client has none")
    raise ValueError(f"{arn} is not the ARN of a role: that is arn:aws:iam::ACCOUNT:role/NAME")


def route_arn(region: str, account_id: str, api_id: str, stage: str, route_key: str) -> str:
    """Return the ARN that a route has as the source of an invocation, fit for a header."""
    prefix = region.rsplit("-", 2)[0]
    partition = {"cn": "aws-cn", "us-gov": "aws-us-gov"}.get(prefix, "aws")
    route = f"{api_id}/{stage}/{quote(route_key, safe=_IN_HEADER)}"
    return f"arn:{partition}:execute-api:{region}:{account_id}:{route}"


def _is_invocation(match: re.Match[str]) -> bool:
    return (
        match["service"] == "lambda"
        and match["kind"] == "path"
        and _INVOCATIONS.fullmatch(match["target"]) is not None
    )
