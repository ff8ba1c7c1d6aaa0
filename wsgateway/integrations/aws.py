"""AWS: a template's text to a function or to an action of a service, and its answer back.

A function is invoked with what the request template makes; what integration responses are matched
with is the `errorMessage` of a function that failed. A service is sent the template's text as the
body of its own protocol, and the answer's status is what is matched:

| `integrationUri` | what is added to the request |
| --- | --- |
| `...:dynamodb:action/PutItem` and other services that speak JSON | `X-Amz-Target` |
| `...:sns:action/Publish` and others with forms; any with a mapped form `Content-Type` | `Action` and `Version`, where they are not there |
| `...:sqs:path/ACCOUNT/QUEUE`, `...:s3:path/{bucket}/{key}` | nothing: the template says it all |

Every request is signed, with the gateway's own credentials or with those of `credentialsArn`.

https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-websocket-api-integration-requests.html
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final, Protocol, cast
from urllib.parse import quote, unquote, unquote_plus

import orjson

from wsgateway.arns import parse_service_uri
from wsgateway.contracts import HttpResponse
from wsgateway.errors import FunctionFailed, InvokeRefused, TransformationFailed
from wsgateway.integrations.requests import RequestTransformation
from wsgateway.integrations.responses import ResponseTransformation
from wsgateway.integrations.uri_parameters import UriText, check_path, escaped, query_pairs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from wsgateway.api.definition import IntegrationDefinition
    from wsgateway.aws.client import Aws
    from wsgateway.aws.services import Service
    from wsgateway.contracts import IntegrationResponse, Invoker
    from wsgateway.events import RouteRequest

    Headers = Sequence[tuple[str, str]]

_OK: Final = 200
_FORM: Final = "application/x-www-form-urlencoded"
_WITHOUT_BODY: Final = frozenset({"GET", "HEAD"})


class TextInvoker(Protocol):
    """What runs a function with JSON text; `functions.remote.LambdaFunction` does."""

    async def call(
        self, payload: bytes, *, request: RouteRequest, headers: Headers, timeout_s: float
    ) -> bytes:
        """Run the function once and return the text of its result.

        Raises:
            IntegrationFault: It refused, failed or took longer than `timeout_s`.
        """
        ...


class FromText:
    """Runs a function of this process with JSON text."""

    def __init__(self, invoker: Invoker) -> None:
        self._invoker = invoker

    async def call(
        self,
        payload: bytes,
        *,
        request: RouteRequest,  # noqa: ARG002 - it is nobody's business here
        headers: Headers,  # noqa: ARG002 - Lambda's; there is no other way to run it than this
        timeout_s: float,
    ) -> bytes:
        """Run the function with the text's value and return its result's text."""
        try:
            event = orjson.loads(payload)
        except orjson.JSONDecodeError as error:
            # As Lambda does: 400 InvalidRequestContentException.
            raise InvokeRefused(f"what the template makes is no JSON: {error}") from error
        # A template may make any JSON; a function expects what its template makes.
        result = await self._invoker.invoke(cast("dict[str, object]", event), timeout_s=timeout_s)
        return _json_text(result)


class LambdaIntegration:
    """Invokes a function with a payload of the template's making."""

    def __init__(self, definition: IntegrationDefinition, function: TextInvoker) -> None:
        self._function = function
        self._timeout_s = definition.timeout_in_millis / 1000
        self._request = RequestTransformation(definition)
        self._response = ResponseTransformation(definition)

    async def handle(self, request: RouteRequest) -> IntegrationResponse:
        """Invoke the function and transform its result.

        Raises:
            UnsupportedMediaType: No request template is for the message.
            TransformationFailed: A template failed, or nothing is for the result.
            IntegrationFault: The function was not invoked, or took too long.
        """
        body = self._request.body(request)
        headers = self._request.parameters(request).headers
        try:
            result = await self._function.call(
                # As API Gateway does where there is no body, and functions cannot do with less.
                body or b"{}",
                request=request,
                headers=headers,
                timeout_s=self._timeout_s,
            )
        except FunctionFailed as failure:
            if failure.error is None:
                raise
            # The status keeps a client out whose `$connect` failed, whatever the response says.
            answer = HttpResponse(failure.status, (), _json_text(failure.error))
            matched = failure.error.get("errorMessage")
            return self._response.apply(
                request, answer, matched=matched if isinstance(matched, str) else ""
            )
        return self._response.apply(request, HttpResponse(_OK, (), result), matched="")


class ActionIntegration:
    """Sends requests to an action or a path of an AWS service.

    Args:
        definition: Its URI and credentials refer to no stage variables any more.
        aws: How services are reached.

    Raises:
        ValueError: The URI is not that of a service.
    """

    def __init__(self, definition: IntegrationDefinition, aws: Aws) -> None:
        assert definition.integration_uri is not None, "checked with the definition"
        self._uri = parse_service_uri(definition.integration_uri)
        self._path = UriText(self._uri.target, _encoded_again)
        self._query = _Query(self._uri.query)
        self._method = (definition.integration_method or "POST").upper()
        self._role_arn = definition.credentials_arn
        self._timeout_s = definition.timeout_in_millis / 1000
        self._request = RequestTransformation(definition)
        self._response = ResponseTransformation(definition)
        self._aws = aws

    async def handle(self, request: RouteRequest) -> IntegrationResponse:
        """Send a request and transform the answer.

        Raises:
            UnsupportedMediaType: No request template is for the message.
            TransformationFailed: A template failed, or nothing is for the answer.
            InvokeRefused: There are no credentials, or the service does not have such actions.
            BackendUnreachable: There is no answer.
            IntegrationTimeout: It takes too long.
        """
        body = self._request.body(request) or b""
        parameters = self._request.parameters(request)
        ready = await self._aws.ready(
            self._uri.service,
            self._uri.region,
            role_arn=self._role_arn,
            timeout_s=self._timeout_s,
        )
        if self._method in _WITHOUT_BODY:
            body = b""
        headers = _with_defaults(
            parameters.headers, request.entry.key.api_id, self._content_type(ready.service)
        )
        query = query_pairs(parameters.querystring)
        path, host_prefix = "/", ""
        if self._uri.kind == "path":
            path = "/" + self._path.filled(parameters.path, safe="/" if ready.service.is_s3 else "")
            check_path(path)
        else:
            host_prefix = ready.service.host_prefixes.get(self._uri.target, "")
            headers, query, body = self._action(ready.service, headers, query, body)
        query = [*self._query.filled(parameters.path), *query]
        response = await self._aws.send(
            ready,
            self._method,
            path,
            headers=headers,
            body=body,
            query="&".join(query),
            host_prefix=host_prefix,
        )
        return self._response.apply(request, response, matched=str(response.status))

    def _content_type(self, service: Service) -> str | None:
        if self._method in _WITHOUT_BODY:
            return None
        return service.content_type if self._uri.kind == "action" else "application/json"

    def _action(
        self, service: Service, headers: Headers, query: list[str], body: bytes
    ) -> tuple[Headers, list[str], bytes]:
        """Add what names the action, in the protocol that is spoken."""
        action = self._uri.target
        content_type = _value(headers, "content-type")
        if service.protocol == "json" and not content_type.startswith(_FORM):
            target = f"{service.target_prefix}.{action}" if service.target_prefix else action
            if not _value(headers, "x-amz-target"):
                headers = [*headers, ("X-Amz-Target", target)]
            return headers, query, body
        if not service.has_actions:
            raise InvokeRefused(
                f"{self._uri.service} has paths, not actions: write path/... in the URI"
            )
        pairs = [*query, *self._uri.query.split("&"), *body.decode(errors="replace").split("&")]
        given = [tuple(map(unquote_plus, pair.split("=", 1))) for pair in pairs]
        actions = [pair for pair in given if pair[0] == "Action"]
        # Else a message that is passed as it is could have any action done with these credentials.
        if actions not in ([], [("Action", action)]):
            raise TransformationFailed(f"the request names another action than {action}")
        names = {pair[0] for pair in given}
        added = [
            f"{name}={escaped(value)}"
            for name, value in (("Action", action), ("Version", service.api_version))
            if name not in names
        ]
        if query or not body:
            return headers, [*added, *query], body
        return headers, query, b"&".join([*(pair.encode() for pair in added), body])


class _Query:
    """The query string of a service's URI, whose values may have placeholders."""

    def __init__(self, query: str) -> None:
        pairs = [pair.partition("=") for pair in query.split("&")] if query else []
        self._pairs = [
            (escaped(unquote(name)), UriText(value, lambda text: escaped(unquote(text))))
            for name, _, value in pairs
        ]

    def filled(self, values: Mapping[str, str]) -> list[str]:
        return [f"{name}={value.filled(values)}" for name, value in self._pairs]


def _with_defaults(mapped: Headers, api_id: str, content_type: str | None) -> Headers:
    names = {name.lower() for name, _ in mapped}
    defaults = [
        # Services that answer XML by themselves, SQS and SNS, answer JSON to it.
        ("Accept", "application/json"),
        ("User-Agent", f"AmazonAPIGateway_{api_id}"),
        ("x-amzn-apigateway-api-id", api_id),
    ]
    if content_type is not None:
        defaults.append(("Content-Type", content_type))
    return [*(header for header in defaults if header[0].lower() not in names), *mapped]


def _encoded_again(path: str) -> str:
    """Return a part of a path, percent-encoded as signatures want it."""
    return quote(unquote(path), safe="/")


def _value(headers: Headers, folded: str) -> str:
    return next((value for name, value in headers if name.lower() == folded), "")


def _json_text(value: object) -> bytes:
    """Return what Lambda's Python runtime would write; any integer, and lone surrogates too."""
    try:
        return json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return json.dumps(value).encode()
