"""A live stage: the deployment that serves now, with its integrations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from wsgateway.api.definition import CONNECT, DISCONNECT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wsgateway.api.deployment import Deployment
    from wsgateway.api.models import RequestValidator
    from wsgateway.contracts import Integration


@dataclass(frozen=True, slots=True)
class LiveRoute:
    """A route with the integration that serves it."""

    key: str
    two_way: bool
    integration: Integration
    validator: RequestValidator | None = None
    required_parameters: tuple[str, ...] = ()


class Stage:
    """What connections of one stage are served by.

    Deploying is one assignment: connections stay open and use the new deployment for their next
    message; calls in flight finish on the old one.
    """

    __slots__ = ("_deployment", "_routes", "name", "variables")

    def __init__(
        self,
        name: str,
        variables: Mapping[str, str],
        deployment: Deployment,
        integrations: Mapping[str, Integration],
    ) -> None:
        self.name = name
        self.deploy(variables, deployment, integrations)

    def deploy(
        self,
        variables: Mapping[str, str],
        deployment: Deployment,
        integrations: Mapping[str, Integration],
    ) -> None:
        """Serve this deployment from now on.

        Args:
            variables: The stage variables.
            deployment: The routes.
            integrations: One for each route key of the deployment.
        """
        routes = {
            key: LiveRoute(
                key,
                route.two_way,
                integrations[key],
                route.validator,
                route.required_parameters,
            )
            for key, route in deployment.routes.items()
        }
        self.variables, self._deployment, self._routes = variables, deployment, routes

    def select(self, message: str) -> LiveRoute | None:
        """Return the route of a message; None is answered with `Forbidden`."""
        route = self._deployment.select(message)
        return None if route is None else self._routes[route.key]

    def route(self, key: str) -> LiveRoute | None:
        """Return the route of that key."""
        return self._routes.get(key)

    @property
    def connect_route(self) -> LiveRoute | None:
        """The route of handshakes; without one every client is let in."""
        return self.route(CONNECT)

    @property
    def disconnect_route(self) -> LiveRoute | None:
        """The route of closed connections."""
        return self.route(DISCONNECT)
