"""MOCK: an answer without a backend.

The request template says which status there would be, `{"statusCode": 200}`; the integration
response for that status makes the reply.

https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-websocket-api-integration-requests.html
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from wsgateway.api.lenient_json import NotJson, NumberText, parse
from wsgateway.contracts import HttpResponse, IntegrationResponse
from wsgateway.errors import TransformationFailed
from wsgateway.integrations.requests import RequestTransformation
from wsgateway.integrations.responses import ResponseTransformation

if TYPE_CHECKING:
    from wsgateway.api.definition import IntegrationDefinition
    from wsgateway.events import RouteRequest

# As many digits as a function's `statusCode` may have.
_INTEGER = re.compile(r"-?[0-9]{1,9}", re.ASCII)


class MockIntegration:
    """Answers what its templates say."""

    def __init__(self, definition: IntegrationDefinition) -> None:
        self._request = RequestTransformation(definition)
        # API Gateway takes a MOCK without integration responses, and accepts connections with it.
        self._response = (
            ResponseTransformation(definition) if definition.integration_responses else None
        )

    async def handle(self, request: RouteRequest) -> IntegrationResponse:
        """Answer.

        Raises:
            UnsupportedMediaType: No request template is for the message.
            TransformationFailed: A template failed, there is no `statusCode`, or no integration
                response is for it.
        """
        status = _status(self._request.body(request) or b"")
        if self._response is None:
            return IntegrationResponse(status, None, b"")
        return self._response.apply(request, HttpResponse(status, (), b""), matched=str(status))


def _status(body: bytes) -> int:
    try:
        answer = parse(body.decode(errors="replace"))
    except NotJson as error:
        raise TransformationFailed(f"the template of a MOCK makes no JSON: {error}") from error
    status = answer.get("statusCode") if isinstance(answer, dict) else None
    if isinstance(status, NumberText) and _INTEGER.fullmatch(status):
        return int(status)
    raise TransformationFailed("the template of a MOCK makes no object with an integer statusCode")
