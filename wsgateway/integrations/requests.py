"""What is a backend sent?

A proxy integration passes the message. Others render the template that the message selects; where
there is none, `passthroughBehavior` says whether the message is passed or refused. `$connect` and
`$disconnect` have no body of their own, only what a template makes.

https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-websocket-api-integration-requests.html
"""

from __future__ import annotations

from base64 import b64decode
from typing import TYPE_CHECKING

from wsgateway.api.definition import ContentHandling, IntegrationType, PassthroughBehavior
from wsgateway.api.expressions import DEFAULT_KEY, compile_template_selection
from wsgateway.api.unmapped_headers import unmapped_headers
from wsgateway.errors import TransformationFailed, UnsupportedMediaType
from wsgateway.events import MessageRequest
from wsgateway.integrations.parameters import RequestFacts, RequestParameters
from wsgateway.integrations.templates import render
from wsgateway.vtl import compile_template

if TYPE_CHECKING:
    from wsgateway.api.definition import IntegrationDefinition
    from wsgateway.events import RouteRequest
    from wsgateway.integrations.parameters import Parameters
    from wsgateway.vtl import Template

_PROXIES = frozenset({IntegrationType.AWS_PROXY, IntegrationType.HTTP_PROXY})
# The effective content type of a message: AWS's own example of a MOCK has only this key.
_FALLBACK_KEYS = (DEFAULT_KEY, "application/json")


class RequestTransformation:
    """Makes of a request what the backend is sent.

    Attributes:
        mapped: The parameters that the definition maps.
    """

    def __init__(self, definition: IntegrationDefinition) -> None:
        self.mapped = RequestParameters(
            definition.request_parameters, unmapped_headers(definition.integration_type)
        )
        self._proxy = definition.integration_type in _PROXIES
        self._to_binary = definition.content_handling_strategy is ContentHandling.CONVERT_TO_BINARY
        selection = definition.template_selection_expression
        self._selection = None if selection is None else compile_template_selection(selection)
        self._templates = {
            key: compile_template(text) for key, text in definition.request_templates.items()
        }
        match definition.passthrough_behavior:
            case PassthroughBehavior.WHEN_NO_MATCH:
                self._passes = True
            case PassthroughBehavior.WHEN_NO_TEMPLATES:
                self._passes = not self._templates
            case PassthroughBehavior.NEVER:
                self._passes = False

    def body(self, request: RouteRequest) -> bytes | None:
        """Return the body; None where there is none.

        Raises:
            UnsupportedMediaType: No template is for the message, and it is not to be passed.
            TransformationFailed: A template failed, or what should be base64 is not.
        """
        message = request.body if isinstance(request, MessageRequest) else None
        text: str | None
        if self._proxy:
            text = message
        else:
            template = self._template(message or "")
            if template is not None:
                text = render(template, RequestFacts(request), message or "")
            elif self._passes:
                text = message
            else:
                raise UnsupportedMediaType("no request template is for the message")
        if text is None:
            return None
        if self._to_binary:
            return decoded(text)
        # Java writes a question mark for a lone surrogate, which a template can find in JSON.
        return text.encode(errors="replace")

    def parameters(self, request: RouteRequest) -> Parameters:
        """Return the mapped parameters."""
        return self.mapped.evaluate(RequestFacts(request))

    def _template(self, message: str) -> Template | None:
        templates = self._templates
        if not templates:
            return None
        if self._selection is not None:
            key = self._selection.evaluate(message)
            if key is not None and key in templates:
                return templates[key]
        for key in _FALLBACK_KEYS:
            if key in templates:
                return templates[key]
        return None


def decoded(text: str) -> bytes:
    """Return the bytes that a message stands for where `CONVERT_TO_BINARY` is declared.

    Raises:
        TransformationFailed: It is no base64.
    """
    try:
        return b64decode(text, validate=True)
    except ValueError as error:
        raise TransformationFailed(f"what is sent as binary is not base64: {error}") from error
