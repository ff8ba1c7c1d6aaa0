"""A live stage: what it selects, and how it is deployed anew."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wsgateway.api.definition import ApiDefinition
from wsgateway.api.deployment import Deployment, compile_deployment
from wsgateway.stage import LiveRoute, Stage

if TYPE_CHECKING:
    from wsgateway.contracts import IntegrationResponse
    from wsgateway.events import RouteRequest


class Nothing:
    """An integration nobody calls."""

    async def handle(self, request: RouteRequest) -> IntegrationResponse:
        raise NotImplementedError


ONE, OTHER = Nothing(), Nothing()


def deployment(*keys: str, two_way: str = "") -> Deployment:
    routes = {
        key: {"routeResponseSelectionExpression": "$default"} if key == two_way else {}
        for key in keys
    }
    return compile_deployment(ApiDefinition.model_validate({"routes": routes}))


def test_a_message_is_served_by_its_route_and_its_integration() -> None:
    stage = Stage(
        "dev", {}, deployment("join", "$default", two_way="join"), {"join": ONE, "$default": OTHER}
    )

    assert stage.select('{"action":"join"}') == LiveRoute("join", True, ONE)
    assert stage.select("hello") == LiveRoute("$default", False, OTHER)


def test_a_message_without_a_route_is_served_by_none() -> None:
    stage = Stage("dev", {}, deployment("join"), {"join": ONE})

    assert stage.select("hello") is None


def test_connect_and_disconnect_are_routes_of_their_own() -> None:
    stage = Stage(
        "dev", {}, deployment("$connect", "$disconnect"), {"$connect": ONE, "$disconnect": OTHER}
    )

    assert stage.connect_route == LiveRoute("$connect", False, ONE)
    assert stage.disconnect_route == LiveRoute("$disconnect", False, OTHER)
    assert stage.select('{"action":"$connect"}') is None


def test_they_need_not_exist() -> None:
    stage = Stage("dev", {}, deployment("join"), {"join": ONE})

    assert stage.connect_route is None
    assert stage.disconnect_route is None


def test_a_new_deployment_replaces_everything_at_once() -> None:
    stage = Stage("dev", {"a": "1"}, deployment("$connect", "join"), {"$connect": ONE, "join": ONE})

    stage.deploy({"b": "2"}, deployment("join", "leave"), {"join": OTHER, "leave": OTHER})

    assert stage.variables == {"b": "2"}
    assert stage.select('{"action":"join"}') == LiveRoute("join", False, OTHER)
    assert stage.select('{"action":"leave"}') == LiveRoute("leave", False, OTHER)
    assert stage.connect_route is None
