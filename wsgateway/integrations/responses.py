"""What becomes of a backend's answer?

The first integration response whose key matches, in the order declared, else `$default`. Its
template makes the reply of the answer's body; without one the body is the reply.

https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-websocket-api-integration-responses.html
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from typing import TYPE_CHECKING

from wsgateway.api.definition import ContentHandling
from wsgateway.api.expressions import DEFAULT_KEY, compile_response_selection
from wsgateway.api.response_keys import ResponseKeys
from wsgateway.contracts import IntegrationResponse
from wsgateway.errors import TransformationFailed
from wsgateway.events import ConnectRequest, MessageRequest
from wsgateway.integrations.parameters import RequestFacts, ResponseParameters
from wsgateway.integrations.templates import render
from wsgateway.vtl import compile_template

if TYPE_CHECKING:
    from wsgateway.api.definition import IntegrationDefinition, IntegrationResponseDefinition
    from wsgateway.contracts import HttpResponse
    from wsgateway.events import RouteRequest
    from wsgateway.vtl import Template


class ResponseTransformation:
    """Makes of an answer what the client is told."""

    def __init__(self, definition: IntegrationDefinition) -> None:
        self._keys = ResponseKeys(definition.integration_responses)
        self._responses = {
            key: _Response(response) for key, response in definition.integration_responses.items()
        }

    def apply(
        self, request: RouteRequest, response: HttpResponse, *, matched: str
    ) -> IntegrationResponse:
        """Return the integration's answer.

        Args:
            request: What was asked.
            response: What the backend answered.
            matched: What keys are matched with: the status, or a function's `errorMessage`. Empty
                for a function's success, which only `$default` is for.

        Raises:
            TransformationFailed: No integration response is for it, or its template failed.
        """
        key = self._keys.select(matched or None)
        if key is None:
            raise TransformationFailed(f"no integration response is for {matched[:100]!r}")
        return self._responses[key].apply(request, response)


class _Response:
    """One compiled integration response."""

    def __init__(self, definition: IntegrationResponseDefinition) -> None:
        self._parameters = ResponseParameters(definition.response_parameters)
        self._content_handling = definition.content_handling_strategy
        selection = definition.template_selection_expression
        self._selection = None if selection is None else compile_response_selection(selection)
        # An empty template is none: what would it be there for?
        self._templates = {
            key: compile_template(text) if text else None
            for key, text in definition.response_templates.items()
        }

    def apply(self, request: RouteRequest, response: HttpResponse) -> IntegrationResponse:
        body = response.body
        if self._content_handling is ContentHandling.CONVERT_TO_TEXT:
            body = b64encode(body)
        template = self._template(request, response) if self._templates else None
        if template is not None:
            body = render(template, RequestFacts(request), _text(body)).encode(errors="replace")
        if self._content_handling is ContentHandling.CONVERT_TO_BINARY:
            body = _decoded(body)
        return IntegrationResponse(
            response.status,
            # Nothing else of a message's answer has headers.
            self._parameters.subprotocol(response) if isinstance(request, ConnectRequest) else None,
            body,
        )

    def _template(self, request: RouteRequest, response: HttpResponse) -> Template | None:
        if self._selection is not None:
            message = request.body if isinstance(request, MessageRequest) else ""
            key = self._selection.evaluate(message, response.status, response.headers)
            if key is not None and key in self._templates:
                return self._templates[key]
        return self._templates.get(DEFAULT_KEY)


def _text(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise TransformationFailed(
            f"a template is for text, and the answer is none: {error}"
        ) from error


def _decoded(body: bytes) -> bytes:
    try:
        return b64decode(body, validate=True)
    except ValueError as error:
        raise TransformationFailed(f"what is answered as binary is not base64: {error}") from error
