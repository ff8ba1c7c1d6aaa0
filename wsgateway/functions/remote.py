"""Functions on AWS, or on whatever else speaks Lambda's Invoke API.

https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html

Invocations are signed requests over the same HTTP client as those of other services: less than half
of the CPU of aioboto3's `invoke`, headers of its own for each, the text of a result as it was
written, and no message lost on a connection that AWS has just closed.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, NoReturn
from urllib.parse import quote

import orjson

from wsgateway.errors import FunctionFailed, InvokeRefused, MalformedResponse
from wsgateway.limits import KIB

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wsgateway.arns import FunctionArn
    from wsgateway.aws.client import Aws
    from wsgateway.contracts import HttpResponse
    from wsgateway.events import RouteRequest

# Lambda: "Invocation payload (request and response) 6 MB each for synchronous", and what it answers
# when a function returns more.
RESULT_SIZE_MAX: Final = 6 * KIB * KIB
# What an answer's error is cut to where it is logged.
_TOLD_MAX: Final = 300


class LambdaFunction:
    """One function of Lambda.

    Args:
        arn: Which one.
        aws: How it is reached.
        role_arn: The role whose credentials invoke it; None for the gateway's own.
    """

    def __init__(self, arn: FunctionArn, aws: Aws, *, role_arn: str | None = None) -> None:
        self._arn = arn
        self._aws = aws
        self._role_arn = role_arn
        self._path = f"/2015-03-31/functions/{quote(arn.arn, safe='')}/invocations"

    async def invoke(self, event: dict[str, object], *, timeout_s: float) -> object:
        """Invoke it with an event, once.

        Raises:
            InvokeRefused: It was not invoked: no permission, throttled, missing, no credentials.
            FunctionFailed: It raised.
            MalformedResponse: Its result is no JSON.
            IntegrationTimeout: It took longer than `timeout_s`.
            IntegrationFault: Lambda could not be reached.
        """
        result = await self._send(orjson.dumps(event), self._caller(event), timeout_s)
        try:
            return _parsed(result)
        except (ValueError, RecursionError) as error:
            raise MalformedResponse(
                f"the result of {self._arn.name} is no JSON: {error}"
            ) from error

    async def call(
        self,
        payload: bytes,
        *,
        request: RouteRequest,
        headers: Sequence[tuple[str, str]],
        timeout_s: float,
    ) -> bytes:
        """Invoke it with JSON text, once, and return the text of its result.

        Args:
            payload: Lambda refuses what is no JSON.
            request: Whose payload it is.
            headers: Of the invocation. With `X-Amz-Invocation-Type: Event` the function runs when
                Lambda has time for it, and the result is empty.
            timeout_s: For all of it.

        Raises:
            InvokeRefused: It was not invoked: no permission, throttled, missing, no credentials.
            FunctionFailed: It raised.
            IntegrationTimeout: It took longer than `timeout_s`.
            IntegrationFault: Lambda could not be reached.
        """
        api_id, stage, _ = request.entry.key
        caller = self._aws.caller_headers(api_id, stage, request.route_key, request.request_id)
        if headers:
            mapped = {name.lower() for name, _ in headers}
            caller = [header for header in caller if header[0].lower() not in mapped]
        return await self._send(payload, [*caller, *headers], timeout_s)

    async def _send(
        self, payload: bytes, headers: Sequence[tuple[str, str]], timeout_s: float
    ) -> bytes:
        ready = await self._aws.ready(
            "lambda", self._arn.region, role_arn=self._role_arn, timeout_s=timeout_s
        )
        answer = await self._aws.send(ready, "POST", self._path, headers=headers, body=payload)
        if HTTPStatus.OK <= answer.status < HTTPStatus.MULTIPLE_CHOICES:
            kind = _header(answer, "x-amz-function-error")
            if kind is not None:
                self._raise_failed(kind, answer.body)
            if len(answer.body) > RESULT_SIZE_MAX:
                raise FunctionFailed(
                    f"the result of {self._arn.name} has {len(answer.body)} bytes, and Lambda "
                    f"allows {RESULT_SIZE_MAX}"
                )
            return answer.body
        raise InvokeRefused(f"{self._arn.name} was not invoked: {_refusal(answer)}")

    def _raise_failed(self, kind: str, payload: bytes) -> NoReturn:
        try:
            error = _parsed(payload)
        except (ValueError, RecursionError):
            error = None
        if not isinstance(error, dict):
            told = payload[:_TOLD_MAX].decode(errors="replace")
            raise FunctionFailed(f"{self._arn.name} failed ({kind}): {told}")
        told = f"{error.get('errorType', kind)}: {error.get('errorMessage', '')}"[:_TOLD_MAX]
        raise FunctionFailed(f"{self._arn.name} failed: {told}", error)

    def _caller(self, event: dict[str, object]) -> list[tuple[str, str]]:
        context = event.get("requestContext")
        if not isinstance(context, dict):
            return []
        return self._aws.caller_headers(
            *(str(context.get(name, "")) for name in ("apiId", "stage", "routeKey", "requestId"))
        )


def _parsed(text: bytes) -> object:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        # It refuses escaped lone surrogates, which JSON allows and JavaScript writes.
        return json.loads(text, parse_constant=_refuse)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


def _refusal(answer: HttpResponse) -> str:
    """Return what Lambda says: `429 TooManyRequestsException: Rate Exceeded.`."""
    kind = (_header(answer, "x-amzn-errortype") or "").partition(":")[0]
    try:
        body = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        body = None
    message = ""
    if isinstance(body, dict):
        message = str(body.get("Message") or body.get("message") or "")
    said = ": ".join(filter(None, (kind, message))) or answer.body[:_TOLD_MAX].decode(
        errors="replace"
    )
    return f"{answer.status} {said}"[:_TOLD_MAX]


def _header(answer: HttpResponse, folded: str) -> str | None:
    for name, value in answer.headers:
        if name.lower() == folded:
            return value
    return None
