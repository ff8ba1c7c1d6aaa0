"""A deployment: a definition compiled into the immutable tables that messages are routed by."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from wsgateway.api.definition import CONNECT, DEFAULT, DISCONNECT
from wsgateway.api.expressions import compile_selection
from wsgateway.api.models import compile_validator

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wsgateway.api.definition import ApiDefinition
    from wsgateway.api.expressions import SelectionExpression
    from wsgateway.api.models import RequestValidator


@dataclass(frozen=True, slots=True)
class Route:
    """A compiled route.

    Attributes:
        key: Its route key.
        two_way: Whether what the integration answers is sent to the client.
        target: The name of its integration; None where a handler's file serves it.
        validator: What messages have to be like; None without a `modelSelectionExpression`.
        required_parameters: What a handshake must have, as `route.request.header.NAME` and so on.
    """

    key: str
    two_way: bool
    target: str | None
    validator: RequestValidator | None
    required_parameters: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Deployment:
    """What `compile_deployment` makes."""

    routes: Mapping[str, Route]
    _selection: SelectionExpression

    def select(self, message: str) -> Route | None:
        """Return the route of a message; None is answered with `Forbidden`.

        A message never selects `$connect` or `$disconnect`: they are events, not routes for
        messages.
        """
        key = self._selection.evaluate(message)
        if key is not None and key != CONNECT and key != DISCONNECT:  # noqa: PLR1714 - a tuple costs
            route = self.routes.get(key)
            if route is not None:
                return route
        return self.routes.get(DEFAULT)


def compile_deployment(definition: ApiDefinition) -> Deployment:
    """Compile what the data path needs of a definition."""
    return Deployment(
        routes=MappingProxyType(
            {
                key: Route(
                    key,
                    route.two_way,
                    route.target,
                    compile_validator(definition, route),
                    tuple(
                        name
                        for name, constraints in route.request_parameters.items()
                        if constraints.required
                    ),
                )
                for key, route in definition.routes.items()
            }
        ),
        _selection=compile_selection(definition.route_selection_expression),
    )
