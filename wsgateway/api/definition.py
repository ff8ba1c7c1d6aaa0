"""What an API declares, in apigatewayv2's own property names.

https://docs.aws.amazon.com/apigatewayv2/latest/api-reference/
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

from wsgateway.api.expressions import InvalidExpression, compile_selection

CONNECT = "$connect"
DISCONNECT = "$disconnect"
DEFAULT = "$default"

_PREDEFINED = (CONNECT, DISCONNECT, DEFAULT)
# Not documented for routes; the bound of stage names.
_ROUTE_KEY_SIZE_MAX = 128
_STAGE_NAME = re.compile(r"[A-Za-z0-9_-]{1,128}", re.ASCII)


def _route_key(key: str) -> str:
    if key.startswith("$") and key not in _PREDEFINED:
        raise ValueError(f"a route key that begins with $ is one of {', '.join(_PREDEFINED)}")
    if not 1 <= len(key) <= _ROUTE_KEY_SIZE_MAX:
        raise ValueError(f"a route key has 1 to {_ROUTE_KEY_SIZE_MAX} characters")
    return key


def stage_name(name: str) -> str:
    """Return the name if a stage can have it.

    Raises:
        ValueError: It cannot; the message says why.
    """
    if name == "_wsgateway":
        raise ValueError("_wsgateway is reserved for the gateway's own paths")
    if not _STAGE_NAME.fullmatch(name):
        raise ValueError("a stage name has 1 to 128 letters, digits, hyphens and underscores")
    return name


def _selection_expression(text: str) -> str:
    try:
        compile_selection(text)
    except InvalidExpression as error:
        raise ValueError(str(error)) from error
    return text


class _Declared(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_camel, extra="forbid", frozen=True, validate_by_alias=True, strict=True
    )


class RouteDefinition(_Declared):
    """A route; it is two-way when `routeResponseSelectionExpression` is set."""

    route_response_selection_expression: Literal["$default"] | None = None
    operation_name: Annotated[str, StringConstraints(min_length=1, max_length=64)] | None = None

    @property
    def two_way(self) -> bool:
        """Whether what the integration answers is sent to the client."""
        return self.route_response_selection_expression is not None


# DG: names are alphanumeric and underscore, up to 64; values up to 512 of these characters.
_VariableName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_]{1,64}$")]
_VariableValue = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9\-._~:/?#&=,]{1,512}$")]


class StageDefinition(_Declared):
    """A stage and its variables."""

    description: Annotated[str, StringConstraints(max_length=1024)] | None = None
    stage_variables: dict[_VariableName, _VariableValue] = Field(default={}, max_length=100)


class ApiDefinition(_Declared):
    """An API: how a message's route is selected, its routes, its stages."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=128)] = "wsgateway"
    description: Annotated[str, StringConstraints(max_length=1024)] | None = None
    route_selection_expression: Annotated[str, AfterValidator(_selection_expression)] = (
        "$request.body.action"
    )
    routes: dict[Annotated[str, AfterValidator(_route_key)], RouteDefinition] = {}
    stages: dict[Annotated[str, AfterValidator(stage_name)], StageDefinition] = {}
