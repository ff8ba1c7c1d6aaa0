"""Which route a message of a real client takes (contract, section 3)."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest
from pydantic import ValidationError

from tests.harness import echo, recording, serving
from tests.listener.raw import eventually
from wsgateway.api.definition import ApiDefinition
from wsgateway.loaders.source import LoadedApi

if TYPE_CHECKING:
    from tests.contract.conftest import Api
    from tests.harness import Event

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROUTES = (
    "$connect",
    "$disconnect",
    "$default",
    "join",
    "a b/c.d",
    "é😀",
    "1",
    "1.50",
    "-0",
    "12345678901234567890123",
    "true",
    "[a, b, 1]",
    "{k=v}",
    "null",
)
ID = "[A-Za-z0-9_-]{15}="


async def route_of(api: Api, message: str) -> str:
    """Return the route key in the event of a message."""
    before = len(api.of_type("MESSAGE"))
    async with api.connect() as client:
        await client.send(message)
        await eventually(lambda: len(api.of_type("MESSAGE")) > before)
    return str(api.of_type("MESSAGE")[-1]["requestContext"]["routeKey"])


@pytest.mark.parametrize(
    ("message", "route"),
    [
        ('{"action":"join"}', "join"),
        ('{"action":"a b/c.d"}', "a b/c.d"),
        ('{"action":"\\u00e9\\ud83d\\ude00"}', "é😀"),
        # Exact, and in this case.
        ('{"action":"Join"}', "$default"),
        ('{"action":"join "}', "$default"),
        ('{"action":"leave"}', "$default"),
        # Values that are no strings are printed.
        ('{"action":1}', "1"),
        ('{"action":true}', "true"),
        ('{"action":["a", "b", 1]}', "[a, b, 1]"),
        ('{"action":{"k": "v"}}', "{k=v}"),
        # Numbers print as the client wrote them.
        ('{"action":12345678901234567890123}', "12345678901234567890123"),
        ('{"action":1.50}', "1.50"),
        ('{"action":-0}', "-0"),
        ('{"action":1.5}', "$default"),
        # null is as good as nothing.
        ('{"action":null}', "$default"),
        ('{"other":"join"}', "$default"),
        # The last of several members with one name counts.
        ('{"action":"leave","action":"join"}', "join"),
        ('{"action":"join","action":"leave"}', "$default"),
        # What names a predefined route selects none but $default.
        ('{"action":"$default"}', "$default"),
        ('{"action":"$connect"}', "$default"),
        ('{"action":"$disconnect"}', "$default"),
        # What is no object has no action.
        ('["join"]', "$default"),
        ('"join"', "$default"),
        ("1", "$default"),
        ("null", "$default"),
        # What is no JSON has none either.
        ("join", "$default"),
        ("ping", "$default"),
        ("", "$default"),
        ("{", "$default"),
        ('{"action":"join"', "$default"),
        ('{"action":"join"} x', "$default"),
        # The lenient rest of JSON.
        ("{action: join}", "join"),
        ('{action: "join", data: "x"}', "join"),
        ("{'action': 'join'}", "join"),
        ('{"action":"join",}', "join"),
        ('{"action":"join", body:"hi"}', "join"),
        # Surrogates that stand alone are no route's.
        ('{"action":"\\ud800"}', "$default"),
        # Nor is anything that nests too deep.
        ('{"action":"join","a":' + "[" * 31 + "]" * 31 + "}", "join"),
        ('{"action":"join","a":' + "[" * 32 + "]" * 32 + "}", "$default"),
        ('{"action":"join","a":' + "[" * 16_000 + "]" * 16_000 + "}", "$default"),
    ],
    ids=lambda value: f"{value[:30]}({len(value)})",
)
async def test_a_message_takes_the_route_that_its_action_names_or_the_default(
    api: Api, message: str, route: str
) -> None:
    assert await route_of(api, message) == route


@pytest.mark.slow
async def test_without_a_route_and_a_default_the_answer_is_forbidden_byte_for_byte() -> None:
    events: list[Event] = []
    handlers = {"$connect": recording(events), "$disconnect": echo, "join": echo}
    messages = (
        '{"action":"leave"}',
        '{"action":"$connect"}',
        '{"action":"$disconnect"}',
        '{"action":"$default"}',
        "not JSON",
        "",
    )
    async with serving(handlers, two_way=("join",)) as running, running.connect() as client:
        connection_id = events[0]["requestContext"]["connectionId"]
        for message in messages:
            await client.send(message)
            text = str(await client.recv())
            match = re.fullmatch(
                rf'\{{"message": "Forbidden", "connectionId":"{connection_id}", '
                rf'"requestId":"({ID})"\}}',
                text,
            )
            assert match is not None
            assert match[1] != connection_id
        # And the connection stays open.
        await client.send('{"action":"join"}')
        assert await client.recv() == '{"action":"join"}'


@pytest.mark.parametrize(
    ("expression", "route"),
    [
        ("$request.body.action", "join"),
        ("${request.body.action}", "join"),
        ("${request.body.service}/${request.body.action}", "chat/join"),
        ("${request.body.action}-${request.body.nope}", "join-"),
        ("$request.body.data.room", "r1"),
        ("$request.body.list[1]", "two"),
        ("$request.body.data['odd key']", "odd"),
        ("$request.body.action/v$request.body.n", "join/v2"),
        ("static", "static"),
        (r"\$default", "$default"),
    ],
)
async def test_expressions_select_routes(expression: str, route: str) -> None:
    events: list[Event] = []
    handlers = {
        key: recording(events)
        for key in (
            "$default",
            "join",
            "chat/join",
            "join-",
            "r1",
            "two",
            "odd",
            "join/v2",
            "static",
        )
    }
    definition = {"routeSelectionExpression": expression}
    message = {
        "service": "chat",
        "action": "join",
        "n": 2,
        "data": {"room": "r1", "odd key": "odd"},
        "list": ["one", "two"],
    }
    async with serving(handlers, definition=definition) as running, running.connect() as client:
        await client.send(json.dumps(message))
        await eventually(lambda: events)
        # What is no JSON is not evaluated at all.
        await client.send("static")
        await eventually(lambda: len(events) == 2)

    assert [event["requestContext"]["routeKey"] for event in events] == [route, "$default"]


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "$request.header.x",
        "$context.routeKey",
        "$request.body",
        "$request.body..action",
        "$request.body.*",
        "$request.body.list[*]",
        "$request.body.list[?(@.a)]",
        "$request.body.list[0:1]",
        "${request.body.action",
        "$",
    ],
)
async def test_other_expressions_are_refused_when_the_definition_is_read(expression: str) -> None:
    with pytest.raises(ValidationError, match="routeSelectionExpression"):
        ApiDefinition.model_validate({"routeSelectionExpression": expression})


async def test_a_redeployed_stage_serves_open_connections_with_what_it_is_now() -> None:
    events: list[Event] = []
    async with (
        serving({"join": echo, "gone": echo}, two_way=("join", "gone")) as running,
        running.connect() as client,
    ):
        await client.send('{"action":"gone"}')
        assert await client.recv() == '{"action":"gone"}'

        definition = ApiDefinition.model_validate(
            {
                "routeSelectionExpression": "$request.body.kind",
                "routes": {
                    "join": {},
                    "new": {"routeResponseSelectionExpression": "$default"},
                },
                "stages": {"dev": {"stageVariables": {"table": "b"}}},
            }
        )
        handlers = {"join": recording(events), "new": echo}
        running.gateway.deploy(LoadedApi(definition, handlers, {"join": "join", "new": "new"}))

        await client.send('{"kind":"join"}')
        await eventually(lambda: events)
        await client.send('{"kind":"new"}')
        assert await client.recv() == '{"kind":"new"}'
        await client.send('{"kind":"gone"}')
        assert str(await client.recv()).startswith('{"message": "Forbidden"')

    assert events[0]["stageVariables"] == {"table": "b"}


async def test_a_route_response_selection_expression_alone_makes_a_route_two_way() -> None:
    definition = {
        "routes": {"two": {"routeResponseSelectionExpression": "$default"}, "one": {}},
    }
    async with (
        serving({"one": echo, "two": echo}, definition=definition) as running,
        running.connect() as client,
    ):
        await client.send('{"action":"one"}')
        await client.send('{"action":"two"}')
        assert await client.recv() == '{"action":"two"}'
