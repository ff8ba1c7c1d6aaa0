"""The facts most often implemented wrong, one test each (contract, appendix A).

Rows 5, 15 to 17, 23 and the signatures of 24 wait for models, authorizers, custom domains and IAM.
"""

from __future__ import annotations

import asyncio
import json
import re
from base64 import urlsafe_b64decode
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.harness import echo, recording, serving
from tests.listener.raw import Response, close_frame, eventually, exchange, raw_client, request

if TYPE_CHECKING:
    from tests.contract.conftest import Api
    from tests.harness import Event, Running

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROUTES = ("$connect", "$disconnect", "one", "two")
TWO_WAY = ("two",)
ONE, TWO = '{"action":"one"}', '{"action":"two"}'
ID = "[A-Za-z0-9_-]{15}="
UNKNOWN = "AQIDBAUGBwgCCQo="


async def turned_away(running: Running, **options: Any) -> Response:
    """Return the response to a handshake that is refused."""
    with pytest.raises(InvalidStatus) as caught:
        async with running.connect(**options):
            pass
    response = caught.value.response
    return Response(
        response.status_code, list(response.headers.raw_items()), bytes(response.body or b"")
    )


async def callback(api: Api, method: str, path: str, body: bytes = b"") -> Response:
    line = f"{method} {path}".encode()
    length = b"Content-Length: %d" % len(body)
    return await exchange(api.port, request(line, b"Host: gateway", length, body=body))


async def test_01_without_a_route_response_the_body_is_dropped(api: Api) -> None:
    for route in ("one", "two"):
        api.answer(route, {"statusCode": 200, "body": route})
    async with api.connect() as client:
        await client.send(ONE)
        await eventually(lambda: api.of_type("MESSAGE") and not api.running.shared.tasks)
        await client.send(TWO)
        assert await client.recv() == "two"


async def test_02_error_frames_go_out_on_one_way_routes_and_never_close(api: Api) -> None:
    api.answer("one", None)
    async with api.connect() as client:
        for _ in range(3):
            await client.send(ONE)
            assert json.loads(await client.recv())["message"] == "Internal server error"
        await client.send(TWO)
        assert await client.recv() == ""


async def test_03_error_frames_have_three_members_and_irregular_spacing(api: Api) -> None:
    async with api.connect() as client:
        await client.send("{}")
        text = str(await client.recv())

    assert re.fullmatch(
        rf'\{{"message": "Forbidden", "connectionId":"{api.connection_id}", "requestId":"{ID}"\}}',
        text,
    )


async def test_04_no_route_is_forbidden_not_not_found(api: Api) -> None:
    async with api.connect() as client:
        for message in ('{"action":"nowhere"}', "no JSON", ""):
            await client.send(message)
            assert json.loads(await client.recv())["message"] == "Forbidden"


@pytest.mark.slow
async def test_06_a_timeout_is_told_in_a_frame_and_is_504_in_a_handshake() -> None:
    async def wait(event: Event, context: Any) -> None:
        await asyncio.Event().wait()

    with capture_logs():
        async with (
            serving({"one": wait}, integration_timeout_ms=50) as running,
            running.connect() as client,
        ):
            await client.send(ONE)
            assert json.loads(await client.recv())["message"] == "Endpoint request timed out"
        async with serving({"$connect": wait}, integration_timeout_ms=50) as running:
            response = await turned_away(running)

    assert response.status == 504
    assert json.loads(response.body)["message"] == "Endpoint request timed out"


async def test_07_absent_keys_are_absent_not_null(api: Api) -> None:
    async with api.connect() as client:
        await client.send(ONE)
        await eventually(lambda: api.of_type("MESSAGE"))
    await eventually(lambda: api.of_type("DISCONNECT"))

    headers_too = {"headers", "multiValueHeaders", "requestContext", "isBase64Encoded"}
    assert [set(event) for event in api.events] == [
        headers_too,
        {"requestContext", "body", "isBase64Encoded"},
        headers_too,
    ]
    assert "null" not in json.dumps(api.events)


async def test_08_disconnect_has_exactly_four_headers(api: Api) -> None:
    async with api.connect():
        pass
    await eventually(lambda: api.of_type("DISCONNECT"))

    host = api.running.authority
    assert api.events[1]["headers"] == {
        "Host": host,
        "x-api-key": "",
        "X-Forwarded-For": "",
        "x-restapi": "",
    }
    assert api.events[1]["multiValueHeaders"] == {
        "Host": [host],
        "x-api-key": [""],
        "X-Forwarded-For": [""],
        "x-restapi": [""],
    }


async def test_09_connection_and_upgrade_are_hidden_from_connect(api: Api) -> None:
    async with raw_client(api.port) as client:
        await client.open_websocket(b"/dev", b"content-length: 0")

    names = {name.lower() for name in api.events[0]["multiValueHeaders"]}
    assert not names & {"connection", "upgrade", "content-length"}
    assert "sec-websocket-key" in names


async def test_10_query_maps_are_absent_without_a_query(api: Api) -> None:
    for rest in ("", "?", "?a=1"):
        async with api.connect(rest=rest):
            pass

    maps = ("queryStringParameters", "multiValueQueryStringParameters")
    seen = [[name in event for name in maps] for event in api.of_type("CONNECT")]
    assert seen == [[False, False], [False, False], [True, True]]


async def test_11_an_extra_key_is_malformed_and_200_may_be_a_string(api: Api) -> None:
    async with api.connect() as client:
        api.answer("two", {"statusCode": 200, "ConnectionId": "x", "Data": "y"})
        await client.send(TWO)
        assert json.loads(await client.recv())["message"] == "Internal server error"

        api.answer("two", {"statusCode": "200", "body": "hi"})
        await client.send(TWO)
        assert await client.recv() == "hi"


async def test_12_no_body_is_an_empty_frame_and_a_body_is_sent_whatever_the_status(
    api: Api,
) -> None:
    async with api.connect() as client:
        for response, text in (
            ({"statusCode": 200}, ""),
            ({"statusCode": 500}, ""),
            ({"statusCode": 404, "body": "no such room"}, "no such room"),
        ):
            api.answer("two", response)
            await client.send(TWO)
            assert await client.recv() == text


async def test_13_connect_decides_by_its_status(api: Api) -> None:
    for status in (200, 201, 204, 299):
        api.answer("$connect", {"statusCode": status})
        async with api.connect():
            pass
    for status in (301, 400, 401, 403, 500, 501):
        api.answer("$connect", {"statusCode": status, "body": "not sent"})
        response = await turned_away(api.running)
        assert (response.status, response.body) == (status, b"")
    api.answer("$connect", None)
    response = await turned_away(api.running)
    assert response.status == 502
    assert response.header("x-amzn-ErrorType") == "InternalServerErrorException"
    assert json.loads(response.body)["message"] == "Internal server error"


async def test_13_a_refused_invocation_of_connect_is_500(api: Api) -> None:
    responses: list[Response] = []

    async def connect_once_more(event: Event, context: Any) -> Any:
        if not responses:
            responses.append(await turned_away(running))
        return {"statusCode": 200}

    with capture_logs():
        async with (
            serving({"$connect": connect_once_more}, function_concurrency_max=1) as running,
            running.connect(),
        ):
            pass

    [response] = responses
    assert response.status == 500
    assert response.header("x-amzn-ErrorType") == "InternalServerErrorException"
    assert json.loads(response.body)["message"] == "Internal server error"


async def test_13_a_function_error_in_connect_is_502(api: Api) -> None:
    async def fail(event: Event, context: Any) -> None:
        raise ValueError("no")

    api.handlers["$connect"] = fail
    response = await turned_away(api.running)

    assert response.status == 502
    assert json.loads(response.body)["message"] == "Internal server error"


async def test_14_only_connect_chooses_a_subprotocol_and_its_other_headers_are_dropped(
    api: Api,
) -> None:
    async with api.connect(subprotocols=["chat1", "chat2"]) as client:
        assert client.subprotocol is None
        assert client.response is not None
        assert "Sec-WebSocket-Protocol" not in client.response.headers

    chosen = {"Sec-Websocket-Protocol": "chat2", "Set-Cookie": "a=b", "X-Y": "z"}
    api.answer("$connect", {"statusCode": 200, "headers": chosen, "body": "dropped"})
    async with api.connect(subprotocols=["chat1", "chat2"]) as client:
        assert client.subprotocol == "chat2"
        assert client.response is not None
        names = {name.lower() for name in client.response.headers}
        await client.send(TWO)
        assert await client.recv() == ""
    assert names == {
        "date",
        "connection",
        "upgrade",
        "sec-websocket-accept",
        "sec-websocket-protocol",
    }


@pytest.mark.slow
async def test_18_routing_parses_leniently_and_what_is_no_json_takes_the_default() -> None:
    events: list[Event] = []
    handlers = {key: recording(events) for key in ("$default", "join", "join-", "-")}
    for expression, message, route in (
        ("$request.body.action", '{action: "join", data: "x"}', "join"),
        ("$request.body.action", "hello", "$default"),
        ("${request.body.action}-${request.body.nope}", '{"action":"join"}', "join-"),
        ("${request.body.action}-${request.body.nope}", "{}", "-"),
        ("${request.body.action}-${request.body.nope}", "hello", "$default"),
    ):
        events.clear()
        definition = {"routeSelectionExpression": expression}
        async with serving(handlers, definition=definition) as running, running.connect() as client:
            await client.send(message)
            await eventually(lambda: events)
        assert events[0]["requestContext"]["routeKey"] == route


async def test_19_a_frame_of_33_kb_is_1009_a_message_of_128_kb_is_fine_and_binary_is_1003(
    api: Api,
) -> None:
    api.handlers["two"] = echo
    whole = '{"action":"two","data":"' + "x" * (131_072 - 26) + '"}'
    assert len(whole) == 131_072
    async with api.connect(max_size=None) as client:
        await client.send([whole[start : start + 32_768] for start in range(0, 131_072, 32_768)])
        assert await client.recv() == whole

    for message, code in ((whole[: 33 * 1024], 1009), (b"binary", 1003)):
        async with api.connect() as client:
            await client.send(message)
            with pytest.raises(ConnectionClosed):
                await client.recv()
            assert (client.close_code, client.close_reason) == (code, "")


async def test_20_disconnect_tells_how_the_connection_ended(api: Api) -> None:
    async def ended() -> tuple[int, str]:
        await eventually(lambda: api.of_type("DISCONNECT"))
        context = api.of_type("DISCONNECT")[0]["requestContext"]
        api.reset()
        return context["disconnectStatusCode"], context["disconnectReason"]

    for code, told in (
        (None, (1005, "Client-side close frame status not set")),
        (1001, (1001, "")),
    ):
        async with raw_client(api.port) as client:
            await client.open_websocket()
            await client.send(close_frame(code))
            assert await ended() == told

    async with api.connect():
        await callback(api, "DELETE", f"/dev/@connections/{api.connection_id}")
        assert await ended() == (1000, "Connection Closed Normally")

    async with api.connect() as connection:
        api.running.advance(601)
        assert await ended() == (1001, "Going away")
        await connection.wait_closed()
        assert (connection.close_code, connection.close_reason) == (1001, "Going away")


async def test_21_errors_of_the_callback_api_are_awss(api: Api) -> None:
    for path, status, error_type, body in (
        (f"/dev/@connections/{UNKNOWN}", 410, "GoneException", b""),
        (
            "/dev/@connections/X",
            400,
            "BadRequestException",
            b'{"message":"Invalid connectionId: X"}',
        ),
        (f"/@connections/{UNKNOWN}", 403, "ForbiddenException", b'{"message":"Forbidden"}'),
        (
            "/dev/x/y",
            404,
            "NotFoundException",
            b'{"message":"No method found matching route x/y for http method POST."}',
        ),
    ):
        response = await callback(api, "POST", path, b"hi")
        assert response.status == status
        assert response.header("x-amzn-ErrorType") == error_type
        assert response.body == body


async def test_22_a_post_from_inside_connect_is_410(api: Api) -> None:
    statuses: list[int] = []

    async def handler(event: Event, context: Any) -> Any:
        path = f"/dev/@connections/{event['requestContext']['connectionId']}"
        statuses.append((await callback(api, "POST", path, b"hi")).status)
        return {"statusCode": 200}

    api.handlers["$connect"] = handler
    async with api.connect():
        assert statuses == [410]


async def test_24_at_and_equals_arrive_encoded_and_raw(api: Api) -> None:
    async with api.connect() as client:
        for at in ("@", "%40"):
            for connection_id in (api.connection_id, api.connection_id.replace("=", "%3D")):
                path = f"/dev/{at}connections/{connection_id}"
                assert (await callback(api, "POST", path, path.encode())).status == 200
                assert await client.recv() == path


async def test_25_ids_are_16_characters_and_a_reconnect_gets_new_ones(api: Api) -> None:
    for _ in range(2):
        async with api.connect() as client:
            await client.send(ONE)
            await eventually(lambda: api.events[-1]["requestContext"]["eventType"] == "MESSAGE")
    await eventually(lambda: len(api.events) == 6)

    contexts = [event["requestContext"] for event in api.events]
    for context in contexts:
        for name in ("connectionId", "requestId"):
            assert re.fullmatch(ID, context[name])
            assert len(urlsafe_b64decode(context[name])) == 11
        assert context["requestId"] == context["extendedRequestId"]
    assert all(
        re.fullmatch(ID, context["messageId"]) for context in contexts if "messageId" in context
    )
    assert len({context["connectionId"] for context in contexts}) == 2
    assert len({context["requestId"] for context in contexts}) == 6
