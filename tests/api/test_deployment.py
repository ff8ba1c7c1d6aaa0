"""What a message selects from a compiled definition."""

from __future__ import annotations

import pytest

from wsgateway.api.definition import ApiDefinition
from wsgateway.api.deployment import Deployment, compile_deployment


def deployment(*route_keys: str, **definition: object) -> Deployment:
    routes: dict[str, object] = {key: {} for key in route_keys}
    return compile_deployment(ApiDefinition.model_validate({"routes": routes, **definition}))


def selected(deployed: Deployment, message: str) -> str | None:
    route = deployed.select(message)
    return None if route is None else route.key


ALL = deployment("$connect", "$disconnect", "$default", "join", "1", "a b/c.d")
WITHOUT_DEFAULT = deployment("$connect", "$disconnect", "join")


@pytest.mark.parametrize(
    ("message", "key"),
    [
        ('{"action":"join"}', "join"),
        ('{"action":1}', "1"),
        ('{"action":"a b/c.d"}', "a b/c.d"),
        ("{action: join}", "join"),
        ('{"action":"Join"}', "$default"),
        ('{"action":" join"}', "$default"),
        ('{"action":"$default"}', "$default"),
        ('{"action":"$connect"}', "$default"),
        ('{"action":"$disconnect"}', "$default"),
        ('{"action":null}', "$default"),
        ('{"action":"\\ud800"}', "$default"),
        ('{"other":"join"}', "$default"),
        ("[]", "$default"),
        ("join", "$default"),
        ("", "$default"),
    ],
)
def test_a_key_that_equals_a_route_key_selects_it_and_any_other_the_default(
    message: str, key: str
) -> None:
    assert selected(ALL, message) == key


@pytest.mark.parametrize(
    "message",
    ['{"action":"leave"}', '{"action":"$connect"}', '{"action":"$disconnect"}', "join", ""],
)
def test_without_a_default_route_nothing_is_selected(message: str) -> None:
    assert selected(WITHOUT_DEFAULT, message) is None


def test_a_route_is_two_way_by_its_route_response_selection_expression() -> None:
    definition = {
        "routes": {"echo": {"routeResponseSelectionExpression": "$default"}, "post": {}},
    }
    routes = compile_deployment(ApiDefinition.model_validate(definition)).routes

    assert routes["echo"].two_way is True
    assert routes["post"].two_way is False


def test_a_deployment_does_not_change() -> None:
    with pytest.raises(TypeError):
        ALL.routes["new"] = ALL.routes["join"]  # type: ignore[index]
