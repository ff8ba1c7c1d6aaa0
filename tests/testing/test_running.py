"""A gateway that serves a dictionary or a folder, seen with the eyes of a test that uses it."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import boto3
import pytest

from tests.listener.certificate import make_certificate
from wsgateway.errors import IntegrationTimeout, OperatorFaults
from wsgateway.testing import (
    CallbackRefused,
    Closed,
    ConnectionEnded,
    ConnectRefused,
    TimedOut,
    serve,
)
from wsgateway.testing.callbacks import request

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from wsgateway.testing import Client, RunningGateway

Event = dict[str, Any]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]

OK = {"statusCode": 200}


def accept(event: Event, context: Any) -> Any:
    return OK


async def echo(event: Event, context: Any) -> Any:
    return {"statusCode": 200, "body": event["body"]}


async def never(event: Event, context: Any) -> Any:
    await asyncio.Event().wait()


def broken(event: Event, context: Any) -> Any:
    raise KeyError("room")


@asynccontextmanager
async def connected(source: Any, **options: Any) -> AsyncIterator[tuple[RunningGateway, Client]]:
    async with serve(source, **options) as gateway, gateway.connect() as client:
        yield gateway, client


class TestWhatIsServed:
    async def test_it_has_the_urls_of_its_stage(self) -> None:
        async with serve({"$default": accept}) as gateway:
            scheme, _, authority, stage = gateway.websocket_url.split("/")

            assert (scheme, stage) == ("ws:", "dev")
            assert gateway.callback_url == f"http://{authority}/dev"
            assert gateway.stages == ("dev",)
            assert repr(gateway) == f"<RunningGateway {gateway.websocket_url}>"

    async def test_two_way_routes_answer(self) -> None:
        handlers = {"$default": echo, "one-way": echo}
        async with serve(handlers, two_way=["$default"]) as gateway, gateway.connect() as client:
            await client.send({"action": "one-way"})
            await gateway.events.finished("one-way")
            await client.send("hello")

            assert await client.receive() == "hello"

    async def test_the_route_selection_expression_selects(self) -> None:
        async with (
            serve({"a": accept}, route_selection_expression="$request.body.type") as gateway,
            gateway.connect() as client,
        ):
            await client.send({"type": "a"})

            await gateway.events.finished("a")

    async def test_stage_and_variables_are_in_events(self) -> None:
        async with (
            serve({"$default": accept}, stage="prod", stage_variables={"t": "x"}) as gateway,
            gateway.connect() as client,
        ):
            await client.send("hello")
            event = (await gateway.events.arrived("$default")).event

        assert gateway.websocket_url.endswith("/prod")
        assert event["requestContext"]["stage"] == "prod"
        assert event["stageVariables"] == {"t": "x"}

    async def test_settings_are_those_of_the_command(self, monkeypatch) -> None:
        monkeypatch.setenv("WSGATEWAY_REGION", "is not read")
        seen = []

        def handler(event: Event, context: Any) -> Any:
            seen.append(context.invoked_function_arn)
            return OK

        async with (
            serve({"$default": handler}, region="eu-west-1", account_id="1" * 12) as gateway,
            gateway.connect() as client,
        ):
            await client.send("hello")
            await gateway.events.finished("$default")

        assert seen == ["arn:aws:lambda:eu-west-1:111111111111:function:default"]

    async def test_a_folder_is_served_with_its_definition(self, tmp_path) -> None:
        (tmp_path / "api.yaml").write_text(
            "routeSelectionExpression: $request.body.type\n"
            "routes:\n  a: {routeResponseSelectionExpression: $default}\n"
            "stages:\n"
            "  one: {stageVariables: {x: declared, y: declared}}\n"
            "  two: {stageVariables: {x: other}}\n"
        )
        (tmp_path / "a.py").write_text(
            "import json\n"
            "def handler(event, context):\n"
            "    return {'statusCode': 200, 'body': json.dumps(event['stageVariables'])}\n"
        )
        async with (
            serve(str(tmp_path), stage_variables={"y": "given"}) as gateway,
            gateway.connect() as one,
            gateway.connect(stage="two") as two,
        ):
            for client in (one, two):
                await client.send({"type": "a"})

            assert await one.receive_json() == {"x": "declared", "y": "given"}
            assert await two.receive_json() == {"x": "other", "y": "given"}
            assert (gateway.stages, two.stage) == (("one", "two"), "two")
            # An id belongs to its stage.
            await gateway.post(two, "hello")
            assert await two.receive() == "hello"
            with pytest.raises(CallbackRefused, match="410"):
                await gateway.post(two.connection_id, "hello")
            await gateway.post(two.connection_id, "again", stage="two")
            assert await two.receive() == "again"
            with pytest.raises(ValueError, match="there is no stage 'three'; there is one, two"):
                await gateway.connect(stage="three")

    async def test_one_stage_of_a_folder_is_served(self, tmp_path) -> None:
        (tmp_path / "api.yaml").write_text("stages: {one: {}, two: {}}\n")
        (tmp_path / "default.py").write_text("def handler(event, context): ...\n")

        async with serve(tmp_path, stage="two") as gateway:
            assert gateway.stages == ("two",)
            assert gateway.callback_url.endswith("/two")

    async def test_a_page_beside_the_handlers_is_served(self, tmp_path) -> None:
        (tmp_path / "default.py").write_text("def handler(event, context): ...\n")
        (tmp_path / "static").mkdir()
        (tmp_path / "static" / "index.html").write_text("<title>hello</title>")

        async with serve(tmp_path) as gateway:
            assert gateway.page_url is not None
            async with aiohttp.ClientSession() as browser, browser.get(gateway.page_url) as page:
                assert await page.text() == "<title>hello</title>"

    async def test_a_dictionary_has_no_page(self) -> None:
        async with serve({"$default": accept}) as gateway:
            assert gateway.page_url is None


class TestFaults:
    async def faults(self, source: Any, **options: Any) -> list[str]:
        with pytest.raises(OperatorFaults) as raised:
            async with serve(source, **options):
                pytest.fail("it is served")
        return [str(fault) for fault in raised.value.faults]

    async def test_of_settings_name_the_argument(self) -> None:
        assert await self.faults({"a": accept}, idle_timeout_s=0, prot=1) == [
            "idle_timeout_s: must be greater than 0; got 0",
            "prot: there is no setting 'prot'; did you mean port?",
        ]

    async def test_of_the_stage_name_the_argument(self, tmp_path) -> None:
        (tmp_path / "api.yaml").write_text("stages: {one: {}}\n")
        (tmp_path / "default.py").write_text("def handler(event, context): ...\n")

        assert await self.faults(tmp_path, stage="two") == [
            "stage: the stage 'two' is not declared; declared are: one"
        ]

    async def test_of_a_folder_are_told_all_at_once(self, tmp_path) -> None:
        (tmp_path / "api.yaml").write_text("stages: 1\n")
        (tmp_path / "a.py").write_text("raise OSError('no table')\n")
        (tmp_path / "b.py").write_text("")

        assert await self.faults(tmp_path) == [
            f"{tmp_path}/a.py:1: cannot be imported: OSError: no table; mend what is raised there",
            (
                f"{tmp_path}/b.py:1: there is no handler; define handler(event, context), or call "
                "the file _b.py if it is a helper"
            ),
            f"{tmp_path}/api.yaml:1: stages is not a mapping; got 1",
        ]

    async def test_of_a_folder_that_is_not_there(self, tmp_path) -> None:
        assert await self.faults(tmp_path / "x") == [
            f"{tmp_path}/x: there is no such folder; name a folder of handlers"
        ]

    async def test_of_a_dictionary(self) -> None:
        assert await self.faults({"a": "handler", "b": accept}) == [
            "handlers['a']: 'handler' is not callable; give a function"
        ]
        assert await self.faults({}) == ["handlers: there is no handler; give one such as $default"]

    async def test_of_the_definition(self) -> None:
        assert await self.faults(
            {"$open": accept}, two_way=["b"], stage_variables={"a b": "x"}
        ) == [
            "two_way: there is no route 'b'; there is $open",
            (
                "routes.$open.[key]: Value error, a route key that begins with $ is one of "
                "$connect, $disconnect, $default; got '$open'"
            ),
            (
                "stages.dev.stageVariables.a b.[key]: String should match pattern "
                "'^[A-Za-z0-9_]{1,64}$'; got 'a b'"
            ),
        ]

    async def test_of_a_port_that_is_taken(self) -> None:
        async with serve({"$default": accept}) as gateway:
            port = int(gateway.callback_url.split(":")[2].partition("/")[0])

            [fault] = await self.faults({"$default": accept}, port=port)

        assert fault.startswith(f"port: cannot listen on 127.0.0.1:{port}: Address already in use")

    async def test_settings_of_the_command_alone_are_refused(self) -> None:
        with pytest.raises(TypeError, match=r"serve\(\) does not take the setting reload"):
            async with serve({"a": accept}, reload=True):
                pass


class TestConnecting:
    async def test_the_handshake_has_what_was_asked_for(self) -> None:
        async with (
            serve({"$connect": accept, "$disconnect": accept}) as gateway,
            gateway.connect(
                query={"name": "Ada Lovelace", "tag": ["a", "b"]},
                headers={"Origin": "https://example.com", "User-Agent": "tests"},
            ) as client,
        ):
            call = await gateway.events.finished("$connect")

        assert call.result == OK
        assert call.connection_id == client.connection_id
        assert call.event["multiValueQueryStringParameters"] == {
            "name": ["Ada Lovelace"],
            "tag": ["a", "b"],
        }
        assert call.event["headers"]["Origin"] == "https://example.com"
        assert call.event["requestContext"]["identity"]["userAgent"] == "tests"
        assert repr(client) == f"<Client {client.connection_id}>"

    async def test_a_subprotocol_is_chosen_by_connect(self) -> None:
        def choose(event: Event, context: Any) -> Any:
            offered = event["headers"]["Sec-WebSocket-Protocol"]
            return {
                "statusCode": 200,
                "headers": {"Sec-WebSocket-Protocol": offered.split(",")[1].strip()},
            }

        async with (
            serve({"$connect": choose}) as gateway,
            gateway.connect(subprotocols=["a", "b"]) as client,
        ):
            assert client.subprotocol == "b"

    async def test_a_client_knows_its_id_without_a_connect_route(self) -> None:
        async with (
            serve({"$default": accept}) as gateway,
            gateway.connect() as one,
            gateway.connect() as other,
        ):
            await other.send("hello")
            call = await gateway.events.arrived("$default")

        assert call.connection_id == other.connection_id != one.connection_id

    async def test_a_refusal_tells_the_answer(self) -> None:
        async with serve({"$connect": lambda event, context: {"statusCode": 401}}) as gateway:
            with pytest.raises(ConnectRefused) as refused:
                async with gateway.connect():
                    pytest.fail("it is connected")

        error = refused.value
        assert (error.status, error.body) == (401, "")
        assert error.headers["content-length"] == "0"
        assert str(error) == "the handshake was answered 401"

    async def test_a_connect_that_fails_is_the_cause(self) -> None:
        async with serve({"$connect": broken}) as gateway:
            with pytest.raises(ConnectRefused, match=r'was answered 502 {"message"') as refused:
                await gateway.connect()

        assert isinstance(refused.value.__cause__, KeyError)

    async def test_a_connect_that_does_not_answer_is_told(self) -> None:
        async with serve({"$connect": never}, grace_period_s=0) as gateway:
            with pytest.raises(TimedOut) as timed_out:
                await gateway.connect(timeout_s=1)

        assert str(timed_out.value) == (
            "the handshake was not answered within 1 s; functions were called:\n"
            "  $connect is still running"
        )


class TestMessages:
    async def test_text_values_and_bytes_are_sent(self) -> None:
        async with connected({"$default": echo}, two_way=["$default"]) as (_, client):
            for message, expected in (
                ("text", "text"),
                ({"a": [1, "é"]}, json.dumps({"a": [1, "é"]})),
                (None, "null"),
            ):
                await client.send(message)
                assert await client.receive() == expected
            await client.send(b"binary is refused")

            assert await client.wait_closed() == Closed(1003, "")

    async def test_waiting_in_vain_tells_what_the_functions_did(self) -> None:
        async with connected({"join": broken, "other": accept}) as (gateway, client):
            await client.send({"action": "other"})
            await gateway.events.finished("other")
            await client.send({"action": "join"})
            assert (await client.receive_json())["message"] == "Internal server error"

            with pytest.raises(TimedOut) as timed_out:
                await client.receive(timeout_s=0.05)

        assert str(timed_out.value) == (
            f"no message came within 0.05 s on the connection {client.connection_id}; "
            "functions were called:\n"
            "  other '{\"action\": \"other\"}' returned {'statusCode': 200}\n"
            "  join '{\"action\": \"join\"}' raised KeyError('room')"
        )
        assert isinstance(timed_out.value.__cause__, KeyError)

    async def test_the_default_time_out_is_that_of_serve(self) -> None:
        async with connected({"a": accept}, timeout_s=1) as (gateway, client):
            waits = [client.receive(), client.wait_closed(), gateway.events.arrived("a")]

            for outcome in await asyncio.gather(*waits, return_exceptions=True):
                assert isinstance(outcome, TimedOut)
                assert " within 1 s" in str(outcome)

    async def test_a_client_can_have_its_own(self) -> None:
        async with serve({"a": accept}) as gateway, gateway.connect(timeout_s=1) as client:
            with pytest.raises(TimedOut, match=r"was not closed within 1 s"):
                await client.wait_closed()
            with pytest.raises(TimedOut, match=r"within 0\.05 s"):
                await client.receive(timeout_s=0.05)

    async def test_what_is_not_json_is_shown(self) -> None:
        async with connected({"$default": echo}, two_way=["$default"]) as (_, client):
            await client.send("hello")

            with pytest.raises(AssertionError, match="the message is not JSON: 'hello'"):
                await client.receive_json()

    async def test_a_connection_that_ends_says_how(self) -> None:
        async with connected({"$default": accept}) as (gateway, client):
            assert (client.close_code, client.close_reason) == (None, None)
            await gateway.delete(client)

            with pytest.raises(ConnectionEnded) as ended:
                await client.receive()
            with pytest.raises(ConnectionEnded, match="when a message was to be sent"):
                await client.send("hello")

        assert (ended.value.code, ended.value.reason) == (1000, "Connection Closed Normally")
        assert (client.close_code, client.close_reason) == (1000, "Connection Closed Normally")
        assert str(ended.value) == (
            f"the connection {client.connection_id} was closed with 1000 'Connection Closed Normally' when a "
            "message was waited for; no function was called"
        )

    async def test_messages_that_came_before_the_end_are_kept(self) -> None:
        async with connected({"$default": accept}) as (gateway, client):
            # More than the websockets library keeps by default before it stops reading.
            for number in range(20):
                await gateway.post(client, number)
            await gateway.delete(client)
            await client.wait_closed()

            assert [await client.receive_json() for _ in range(20)] == list(range(20))


class TestEnds:
    async def test_a_client_that_closes(self) -> None:
        async with serve({"$disconnect": accept}) as gateway:
            client = await gateway.connect()
            await client.close(4000, "bye")
            context = (await gateway.events.finished("$disconnect")).event["requestContext"]

        assert (context["disconnectStatusCode"], context["disconnectReason"]) == (4000, "bye")

    async def test_a_client_that_vanishes(self) -> None:
        async with serve({"$disconnect": accept}) as gateway:
            client = await gateway.connect()
            client.vanish()
            context = (await gateway.events.finished("DISCONNECT")).event["requestContext"]

            assert context["disconnectStatusCode"] == 1006
            assert await client.wait_closed() == (1006, "")

    async def test_the_end_of_the_gateway(self) -> None:
        async with serve({"$disconnect": accept}) as gateway:
            client = await gateway.connect()

        assert (client.close_code, client.close_reason) == (1001, "Going away")
        assert [call.event_type for call in gateway.events] == ["DISCONNECT"]
        assert gateway.events[0].finished

    async def test_a_client_that_is_not_closed_in_time_is_cut_off(self) -> None:
        async with serve({"$default": accept}) as gateway:
            client = await gateway.connect()
            await client.end(0)

        assert client.close_code == 1006

    async def test_work_in_flight_is_finished(self) -> None:
        go_on = asyncio.Event()

        async def slow(event: Event, context: Any) -> Any:
            await go_on.wait()
            return OK

        async with serve({"$default": slow}) as gateway:
            client = await gateway.connect()
            await client.send("hello")
            await gateway.events.arrived("$default")
            asyncio.get_running_loop().call_soon(go_on.set)

        assert gateway.events[0].result == OK

    async def test_a_test_that_fails_does_not_wait_for_it(self) -> None:
        async def fail() -> None:
            async with serve({"$default": never}, grace_period_s=600) as gateway:
                client = await gateway.connect()
                await client.send("hello")
                await gateway.events.arrived("$default")
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            async with asyncio.timeout(5):
                await fail()


class TestBackend:
    async def test_it_posts_gets_and_deletes(self) -> None:
        async with serve({"$default": accept}) as gateway, gateway.connect() as client:
            await gateway.post(client, "text")
            await gateway.post(client.connection_id, {"a": "é"})
            await gateway.post(client, "bytes é".encode())
            received = [await client.receive() for _ in range(3)]
            info = await gateway.get(client)
            await gateway.delete(client)

            assert received == ["text", '{"a": "\\u00e9"}', "bytes é"]
            assert info["identity"]["sourceIp"] == "127.0.0.1"
            assert info.keys() == {"connectedAt", "identity", "lastActiveAt"}
            assert await client.wait_closed() == (1000, "Connection Closed Normally")

    @pytest.mark.parametrize(
        ("connection_id", "status", "error_type", "message"),
        [
            ("AAAAAAAAAAACAAA=", 410, "GoneException", ""),
            ("no id", 400, "BadRequestException", "Invalid connectionId: no id"),
        ],
    )
    async def test_a_refusal_is_an_error(self, connection_id, status, error_type, message) -> None:
        async with serve({"$default": accept}) as gateway:
            with pytest.raises(CallbackRefused) as refused:
                await gateway.get(connection_id)

        error = refused.value
        assert (error.status, error.error_type, error.message) == (status, error_type, message)
        assert str(error) == f"the callback API answered {status} {error_type} {message}".rstrip()

    async def test_an_sdk_posts_too(self) -> None:
        async with serve({"$default": accept}) as gateway, gateway.connect() as client:
            sdk = boto3.client(
                "apigatewaymanagementapi",
                endpoint_url=gateway.callback_url,
                region_name="us-east-1",
                aws_access_key_id="test",
                aws_secret_access_key="test",
            )
            await asyncio.to_thread(
                sdk.post_to_connection, ConnectionId=client.connection_id, Data=b"hello"
            )
            sdk.close()

            assert await client.receive() == "hello"

    async def test_a_gateway_that_does_not_answer_is_told(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = f"http://127.0.0.1:{silent.getsockname()[1]}/dev"

            with pytest.raises(TimedOut, match=r"^GET http://.*/@connections/a%3D was not answ.*0"):
                await request("GET", url, "a=", None, 0.05)


class TestTime:
    @pytest.mark.parametrize("settings", [{}, {"idle_timeout_s": 1.5}])
    async def test_an_idle_connection_is_closed(self, settings) -> None:
        idle_s = settings.get("idle_timeout_s", 600)
        async with serve({"$disconnect": accept}, **settings) as gateway:
            async with gateway.connect() as client:
                gateway.advance(idle_s)

                assert await client.wait_closed() == (1001, "Going away")
            context = (await gateway.events.finished("$disconnect")).event["requestContext"]

        assert context["requestTimeEpoch"] - context["connectedAt"] >= idle_s * 1000
        assert context["disconnectStatusCode"] == 1001

    async def test_it_stays_open_until_then(self) -> None:
        async with connected({"$default": echo}, two_way=["$default"]) as (gateway, client):
            for _ in range(3):
                gateway.advance(9 * 60)
                await client.send("still here")
                assert await client.receive() == "still here"

    async def test_after_two_hours_it_is_closed_however_busy(self) -> None:
        async with connected({"$default": echo}, two_way=["$default"]) as (gateway, client):
            for _ in range(13):
                gateway.advance(9 * 60)
                await client.send("busy")
                assert await client.receive() == "busy"
            assert client.close_code is None
            gateway.advance(3 * 60)

            assert await client.wait_closed() == (1001, "Going away")

    async def test_it_decides_what_backends_are_told(self) -> None:
        async with serve({"$default": accept}) as gateway, gateway.connect() as client:
            before = await gateway.get(client)
            gateway.advance(60)
            await gateway.post(client, "hello")
            after = await gateway.get(client)

        assert after["connectedAt"] == before["connectedAt"]
        assert after["lastActiveAt"] > before["lastActiveAt"]

    async def test_it_moves_one_gateway_alone(self) -> None:
        async with (
            serve({"$default": accept}) as one,
            serve({"$default": accept}) as other,
            one.connect() as a,
            other.connect() as b,
        ):
            one.advance(600)

            assert await a.wait_closed() == (1001, "Going away")
            await other.post(b, "hello")
            assert await b.receive() == "hello"

    async def test_it_does_not_go_back(self) -> None:
        async with serve({"$default": accept}) as gateway:
            with pytest.raises(ValueError, match="time does not go back"):
                gateway.advance(-1)

    async def test_a_handlers_time_is_real(self) -> None:
        async with (
            serve({"$default": never}, integration_timeout_ms=50) as gateway,
            gateway.connect() as client,
        ):
            await client.send("hello")
            call = await gateway.events.finished("$default")

            assert isinstance(call.error, IntegrationTimeout)
            assert (await client.receive_json())["message"] == "Endpoint request timed out"


class TestTls:
    async def test_clients_and_backends_speak_it(self, tmp_path) -> None:
        certificate, key = await asyncio.to_thread(make_certificate, tmp_path)
        async with (
            serve({"$default": accept}, tls_certificate=certificate, tls_key=key) as gateway,
            gateway.connect() as client,
        ):
            assert gateway.websocket_url.startswith("wss://")
            await gateway.post(client, "hello")

            assert await client.receive() == "hello"


class TestTwoLoops:
    async def test_the_use_on_another_loop_is_told(self) -> None:
        async with serve({"$default": accept}) as gateway:

            async def elsewhere() -> None:
                with pytest.raises(RuntimeError, match="runs on another event loop than the test"):
                    await gateway.connect()
                with pytest.raises(RuntimeError, match="another event loop"):
                    await gateway.post("AAAAAAAAAAACAAA=", "hello")

            await asyncio.to_thread(asyncio.run, elsewhere())

    async def test_gateways_run_in_several_threads(self) -> None:
        async def round_trip() -> str:
            async with connected({"$default": echo}, two_way=["$default"]) as (_, client):
                await client.send("hello")
                return await client.receive()

        calls = [asyncio.to_thread(asyncio.run, round_trip()) for _ in range(4)]

        assert await asyncio.gather(*calls) == ["hello"] * 4


async def test_many_at_once() -> None:
    async with AsyncExitStack() as stack:
        gateways = [
            await stack.enter_async_context(serve({"$default": echo}, two_way=["$default"]))
            for _ in range(3)
        ]
        for number, gateway in enumerate(gateways):
            async with gateway.connect() as client:
                await client.send(number)
                assert await client.receive_json() == number
                assert len(gateway.events) == 1
