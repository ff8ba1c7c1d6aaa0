"""What an API declares, in apigatewayv2's own property names.

Where API Gateway has ids, names stand: a route's target is the name of its integration. What the
value of one property can be is in `rules`, what has to fit together is in `checks`. The
descriptions here are those of the published JSON Schema.

https://docs.aws.amazon.com/apigatewayv2/latest/api-reference/
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
)
from pydantic.alias_generators import to_camel

from wsgateway.api import rules

CONNECT = "$connect"
DISCONNECT = "$disconnect"
DEFAULT = "$default"

stage_name = rules.stage_name

_Why: TypeAlias = tuple[str, str]
# What a property of API Gateway's that is not declared here is refused with.
_NOT_AN_INPUT: _Why = ("is given by API Gateway, and means nothing here", "remove it")
_HTTP_APIS_ONLY: _Why = ("is for HTTP APIs, not for WebSocket APIs", "remove it")


class _Declared(BaseModel):
    """What all parts of a definition have in common.

    Attributes:
        not_declared: What is said of a property that API Gateway has and this class has not.
    """

    model_config = ConfigDict(
        alias_generator=to_camel, extra="forbid", frozen=True, validate_by_alias=True, strict=True
    )
    not_declared: ClassVar[dict[str, _Why]] = {}


class IntegrationType(StrEnum):
    """What a route does with a message."""

    AWS_PROXY = "AWS_PROXY"
    AWS = "AWS"
    HTTP_PROXY = "HTTP_PROXY"
    HTTP = "HTTP"
    MOCK = "MOCK"

    @property
    def is_proxy(self) -> bool:
        """Whether messages and answers pass as they are, without templates."""
        return self in {IntegrationType.AWS_PROXY, IntegrationType.HTTP_PROXY}

    @property
    def is_http(self) -> bool:
        """Whether the backend is a URL."""
        return self in {IntegrationType.HTTP, IntegrationType.HTTP_PROXY}


class PassthroughBehavior(StrEnum):
    """What happens to a message that no request template is for."""

    WHEN_NO_MATCH = "WHEN_NO_MATCH"
    WHEN_NO_TEMPLATES = "WHEN_NO_TEMPLATES"
    NEVER = "NEVER"


class ContentHandling(StrEnum):
    """How base64 text and bytes are turned into each other."""

    CONVERT_TO_BINARY = "CONVERT_TO_BINARY"
    CONVERT_TO_TEXT = "CONVERT_TO_TEXT"


def _pattern(pattern: str) -> Any:
    """Return what tells editors of a rule that a function checks."""
    return Field(json_schema_extra={"pattern": pattern})


_Description = Annotated[str | None, Field(max_length=1024)]
_TemplateKey = Annotated[str, StringConstraints(min_length=1, max_length=128)]
_Template = Annotated[str, AfterValidator(rules.template)]
_RequestParameter = Annotated[
    str, AfterValidator(rules.request_parameter), _pattern(rules.REQUEST_PARAMETER)
]
_RequestSource = Annotated[str, AfterValidator(rules.request_source)]
_RouteParameter = Annotated[
    str, AfterValidator(rules.route_parameter), _pattern(rules.ROUTE_PARAMETER)
]
_ResponseParameter = Annotated[
    str, AfterValidator(rules.response_parameter), _pattern(rules.RESPONSE_PARAMETER)
]
_ResponseSource = Annotated[str, AfterValidator(rules.response_source)]
_ResponseKey = Annotated[str, AfterValidator(rules.response_key), _pattern(r"^(\$default|/.+/)$")]
_ContentHandling = Annotated[ContentHandling | None, Field(strict=False)]


class IntegrationResponseDefinition(_Declared):
    """What becomes of a backend's answer whose status or error message a key matches."""

    not_declared = {
        "integrationResponseKey": ("is the key that this is under", "remove it"),
        "integrationResponseId": _NOT_AN_INPUT,
    }

    template_selection_expression: Annotated[
        str | None, AfterValidator(rules.optional(rules.response_selection))
    ] = Field(
        default=None,
        description=(
            "Selects one of `responseTemplates`: `$default`, text, `${request.body.NAME}`, "
            "`${integration.response.statuscode}`, `${integration.response.header.NAME}` or "
            "`${integration.response.multivalueheader.NAME}`. What it does not find is `$default`."
        ),
    )
    response_templates: dict[_TemplateKey, _Template] = Field(
        default={},
        description=(
            "Mapping templates (VTL) that make the reply of the backend's answer. "
            "Without one for it, the answer is the reply."
        ),
    )
    response_parameters: dict[_ResponseParameter, _ResponseSource] = Field(
        default={},
        description=(
            "Headers of the handshake's answer, of which `Sec-WebSocket-Protocol` is sent: "
            "from `integration.response.header.NAME`, `integration.response.body.PATH` or `'text'`."
        ),
    )
    content_handling_strategy: _ContentHandling = Field(
        default=None,
        description="`CONVERT_TO_TEXT` encodes the backend's bytes in base64 before they are sent.",
    )


class IntegrationDefinition(_Declared):
    """A backend and how it is spoken to."""

    not_declared = {
        "connectionId": (
            "is for VPC_LINK, which is not served yet",
            "write the address of its Network Load Balancer into integrationUri",
        ),
        "integrationResponseSelectionExpression": (
            "is fixed by the type: the error message of a function, else the status",
            "remove it",
        ),
        "responseParameters": (
            "is for HTTP APIs, not for WebSocket APIs",
            "write it into one of integrationResponses",
        ),
        "integrationSubtype": _HTTP_APIS_ONLY,
        "tlsConfig": _HTTP_APIS_ONLY,
        "integrationId": _NOT_AN_INPUT,
        "apiGatewayManaged": _NOT_AN_INPUT,
    }

    integration_type: Annotated[IntegrationType, Field(strict=False)] = Field(
        description=(
            "`AWS_PROXY`: a function gets API Gateway's event. `AWS`: a function or an action of a "
            "service gets what a template makes. `HTTP_PROXY`: a URL gets the message as it is. "
            "`HTTP`: a URL gets what a template makes. `MOCK`: nobody is asked."
        ),
        examples=["HTTP_PROXY"],
    )
    integration_method: Annotated[
        str | None, AfterValidator(rules.optional(rules.integration_method))
    ] = Field(
        default=None,
        description=(
            "The HTTP method of requests. Required for `HTTP`, `HTTP_PROXY` and actions of services; "
            "functions are always invoked with `POST`."
        ),
        json_schema_extra={"enum": [*rules.METHODS]},
    )
    integration_uri: str | None = Field(
        default=None,
        description=(
            "A URL; the ARN of a function, bare or as "
            "`arn:aws:apigateway:REGION:lambda:path/2015-03-31/functions/ARN/invocations`; an action "
            "of a service, `arn:aws:apigateway:REGION:SERVICE:action/ACTION`; or "
            "`python:_module.handler`, a function in `_module.py` beside this file. "
            "`${stageVariables.NAME}` stands for a stage variable."
        ),
    )
    description: _Description = Field(default=None, description="For people.")
    connection_type: Annotated[Literal["INTERNET"], BeforeValidator(rules.connection_type)] = Field(
        default="INTERNET", description="How the backend is reached."
    )
    credentials_arn: str | None = Field(
        default=None,
        description=(
            "The role that calls of `AWS` and `AWS_PROXY` are made with, "
            "`arn:aws:iam::ACCOUNT:role/NAME`; without one, the gateway's own credentials. "
            "`${stageVariables.NAME}` stands for a stage variable."
        ),
    )
    payload_format_version: Annotated[
        Literal["1.0"], BeforeValidator(rules.payload_format_version)
    ] = Field(default="1.0", description="The format of events; there is one.")
    timeout_in_millis: Annotated[int, AfterValidator(rules.timeout_in_millis)] = Field(
        default=rules.TIMEOUT_MS_MAX,
        description="How long the backend may take: 50 to 29000 milliseconds.",
        json_schema_extra={"minimum": rules.TIMEOUT_MS_MIN, "maximum": rules.TIMEOUT_MS_MAX},
    )
    request_parameters: dict[_RequestParameter, _RequestSource] = Field(
        default={},
        description=(
            "Headers, query string parameters and parts of the path of requests: from "
            "`route.request.body.PATH`, `context.NAME`, `stageVariables.NAME`, `'text'`, and for `$connect` "
            "`route.request.header.NAME` and `route.request.querystring.NAME`. Headers of the "
            "connection are not sent, nor to AWS those of signatures; the log warns of them."
        ),
    )
    template_selection_expression: Annotated[
        str | None, AfterValidator(rules.optional(rules.template_selection))
    ] = Field(
        default=None,
        description=(
            "Selects one of `requestTemplates`: `$default`, text or `${request.body.NAME}`. "
            "What it does not find is `$default`, then `application/json`."
        ),
    )
    request_templates: dict[_TemplateKey, _Template] = Field(
        default={},
        description="Mapping templates (VTL) that make the request of the message.",
    )
    passthrough_behavior: Annotated[PassthroughBehavior, Field(strict=False)] = Field(
        default=PassthroughBehavior.WHEN_NO_MATCH,
        description=(
            "What happens to a message that no request template is for. `WHEN_NO_MATCH`: it is sent "
            "as it is. `WHEN_NO_TEMPLATES`: so if there is no template at all, else it is refused. "
            "`NEVER`: it is refused."
        ),
    )
    content_handling_strategy: _ContentHandling = Field(
        default=None,
        description="`CONVERT_TO_BINARY` decodes a message in base64 before it is sent.",
    )
    integration_responses: dict[_ResponseKey, IntegrationResponseDefinition] = Field(
        default={},
        description=(
            "What becomes of answers, for `AWS`, `HTTP` and `MOCK`: by `$default` or by a regular "
            r"expression between slashes such as `/4\d\d/`, which has to match all of the status, or "
            "of a function's error message. The first that matches is taken, then `$default`."
        ),
    )


class ModelDefinition(_Declared):
    """A JSON Schema, draft 4, that messages are checked with."""

    not_declared = {
        "name": ("is the key that this is under", "remove it"),
        "modelId": _NOT_AN_INPUT,
    }

    content_type: Annotated[str, StringConstraints(min_length=1, max_length=256)] = Field(
        default="application/json", description="Kept; messages are JSON."
    )
    description: _Description = Field(default=None, description="For people.")
    schema_: Annotated[dict[str, object] | str, BeforeValidator(rules.schema)] = Field(
        alias="schema",
        examples=[{"type": "object", "required": ["text"]}],
        description=(
            "The schema, or its JSON text. It can refer to other models by "
            "`https://apigateway.amazonaws.com/restapis/API/models/NAME`."
        ),
    )


class ParameterConstraints(_Declared):
    """Whether a handshake must have a header or query string parameter."""

    required: bool = Field(
        default=False, description="Whether a handshake without it is answered with 400."
    )


class RouteDefinition(_Declared):
    """A route; it is two-way when `routeResponseSelectionExpression` is set.

    Attributes:
        target: The name of its integration; None where a handler's file serves it.
    """

    not_declared = {
        "authorizerId": (
            "is not served yet",
            "decide in the function of $connect, whose status is the answer",
        ),
        "authorizationScopes": (
            (
                "Authorization Scopes are only valid for COGNITO_USER_POOLS and JWT authorization "
                "type"
            ),
            "remove it",
        ),
        "routeKey": ("is the key that this is under", "remove it"),
        "routeId": _NOT_AN_INPUT,
        "apiGatewayManaged": _NOT_AN_INPUT,
    }

    target: Annotated[str | None, AfterValidator(rules.optional(rules.target))] = Field(
        default=None,
        description=(
            "The name of the integration, or `integrations/NAME`. "
            "Without one, the handler's file of the route's name serves it."
        ),
    )
    route_response_selection_expression: Literal["$default"] | None = Field(
        default=None, description="Makes the route two-way: what is answered is sent to the client."
    )
    operation_name: Annotated[str, StringConstraints(min_length=1, max_length=64)] | None = Field(
        default=None, description="For people."
    )
    model_selection_expression: Annotated[
        str | None, AfterValidator(rules.optional(rules.model_selection))
    ] = Field(
        default=None,
        description=(
            "Selects one of `requestModels`: `$default`, text or `${request.body.NAME}`. "
            "What it does not find is `$default`. Without it, messages are not checked."
        ),
    )
    request_models: dict[_TemplateKey, str] = Field(
        default={}, description="The names of the models that messages have to fit, by key."
    )
    request_parameters: dict[_RouteParameter, ParameterConstraints] = Field(
        default={},
        description="For `$connect`: the headers and query string parameters of handshakes.",
    )
    authorization_type: Annotated[Literal["NONE"], BeforeValidator(rules.authorization_type)] = (
        Field(default="NONE", description="Who may connect; there is no choice yet.")
    )
    api_key_required: Annotated[
        bool, AfterValidator(lambda required: rules.api_key_required(required=required))
    ] = Field(
        default=False,
        description="Whether an API key is needed; there is no choice yet.",
        json_schema_extra={"const": False},
    )

    @property
    def two_way(self) -> bool:
        """Whether what the integration answers is sent to the client."""
        return self.route_response_selection_expression is not None


class RouteSettings(_Declared):
    """A stage's settings of one route, or its defaults for all."""

    throttling_rate_limit: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = Field(
        default=None, description="Messages per second."
    )
    throttling_burst_limit: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = Field(
        default=None, description="Messages at once."
    )
    data_trace_enabled: bool = Field(default=False, description="Kept; nothing is traced yet.")
    detailed_metrics_enabled: bool = Field(
        default=False, description="Kept; metrics are by route in any case."
    )
    logging_level: Literal["OFF", "ERROR", "INFO"] | None = Field(
        default=None, description="Kept; there is no execution log yet."
    )


class Extensions(_Declared):
    """What a stage does beyond API Gateway, by name; there is nothing yet."""


# DG: names are alphanumeric and underscore, up to 64; values up to 512 of these characters.
_VariableName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_]{1,64}$")]
_VariableValue = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9\-._~:/?#&=,]{1,512}$")]


class StageDefinition(_Declared):
    """A stage, its variables and its settings of routes."""

    not_declared = {
        "accessLogSettings": (
            "is not served yet",
            "remove it; each request is a line on standard error",
        ),
        "clientCertificateId": ("is not served yet", "remove it"),
        "autoDeploy": ("means nothing here: what is declared is deployed", "remove it"),
        "deploymentId": ("means nothing here: what is declared is deployed", "remove it"),
        "tags": ("means nothing here", "remove it"),
        "stageName": ("is the key that this is under", "remove it"),
        "createdDate": _NOT_AN_INPUT,
        "lastUpdatedDate": _NOT_AN_INPUT,
    }

    description: _Description = Field(default=None, description="For people.")
    stage_variables: dict[_VariableName, _VariableValue] = Field(
        default={},
        max_length=100,
        description=(
            "Values for `${stageVariables.NAME}` in URIs, for templates and for events. "
            "Letters, digits and -._~:/?#&=,"
        ),
    )
    default_route_settings: RouteSettings = Field(
        default=RouteSettings(), description="For routes that `routeSettings` does not name."
    )
    route_settings: dict[str, RouteSettings] = Field(default={}, description="By route key.")
    extensions: Extensions = Field(
        default=Extensions(), description="What API Gateway does not do, by name; nothing yet."
    )


class ApiDefinition(_Declared):
    """An API: how a message's route is selected, its routes, what serves them, its stages."""

    not_declared = {
        "apiKeySelectionExpression": ("is not served yet: there are no API keys", "remove it"),
        "authorizers": (
            "are not served yet",
            "decide in the function of $connect, whose status is the answer",
        ),
        "disableExecuteApiEndpoint": ("is not served yet: there is one endpoint", "remove it"),
        "corsConfiguration": ("Cors is not supported for WEBSOCKET protocolType", "remove it"),
        "target": _HTTP_APIS_ONLY,
        "routeKey": _HTTP_APIS_ONLY,
        "credentialsArn": ("belongs to an integration", "write it there"),
        "ipAddressType": ("is the operating system's to choose", "remove it"),
        "tags": ("means nothing here", "remove it"),
        "version": ("means nothing here", "write it into description"),
        "apiId": ("is a setting of the gateway, api_id", "remove it"),
        "apiEndpoint": _NOT_AN_INPUT,
        "createdDate": _NOT_AN_INPUT,
    }

    schema_url: str | None = Field(
        default=None, alias="$schema", description="Where an editor finds this schema."
    )
    name: Annotated[str, StringConstraints(min_length=1, max_length=128)] = Field(
        default="wsgateway", description="The API's name, of which its id is made."
    )
    description: _Description = Field(default=None, description="For people.")
    protocol_type: Literal["WEBSOCKET"] = Field(
        default="WEBSOCKET", description="The kind of API; there is one."
    )
    route_selection_expression: Annotated[str, AfterValidator(rules.route_selection)] = Field(
        default="$request.body.action",
        description=(
            "Makes the route key of a message: `$request.body.NAME`, "
            "`${request.body.NAME}/${request.body.OTHER}` or text."
        ),
    )
    disable_schema_validation: bool = Field(
        default=False,
        description=("Whether models may be no valid schemas; such a model lets no message pass."),
    )
    integrations: dict[
        Annotated[str, AfterValidator(rules.integration_name), _pattern("^[A-Za-z0-9_.-]{1,128}$")],
        IntegrationDefinition,
    ] = Field(default={}, description="What routes do with messages, by name.")
    models: dict[
        Annotated[str, AfterValidator(rules.model_name), _pattern("^[A-Za-z0-9]{1,128}$")],
        ModelDefinition,
    ] = Field(default={}, description="What messages have to be like, by name.")
    routes: dict[
        Annotated[
            str,
            AfterValidator(rules.route_key),
            _pattern(r"^(\$connect|\$disconnect|\$default|[^$][\s\S]{0,127})$"),
        ],
        RouteDefinition,
    ] = Field(
        default={},
        description=(
            "By route key: `$connect`, `$disconnect`, `$default`, or what "
            "`routeSelectionExpression` makes of a message."
        ),
    )
    stages: dict[
        Annotated[str, AfterValidator(rules.stage_name), _pattern("^[A-Za-z0-9_-]{1,128}$")],
        StageDefinition,
    ] = Field(default={}, description="By name, which is the path. Without any there is dev.")
