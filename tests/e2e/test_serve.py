"""What a started gateway offers: its URLs, its ports, what handlers find, the example."""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import boto3
import orjson
import pytest
from botocore.config import Config
from websockets.asyncio.client import ClientConnection, connect

from tests.e2e.client import open_client
from tests.e2e.process import GatewayProcess, serving, until, write_app

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]

ROUTES = Path(__file__).parents[2] / "routes"
ECHO = "async def handler(event, context): return {'statusCode': 200, 'body': event['body']}\n"
# What a handler finds in its environment.
ENVIRON = """\
    import json, os

    def handler(event, context):
        names = json.loads(event["body"])["names"]
        return {"statusCode": 200, "body": json.dumps({n: os.environ.get(n) for n in names})}
"""


async def status(url: str, method: str = "GET") -> int:
    async with aiohttp.ClientSession() as session, session.request(method, url) as response:
        return response.status


async def found(gateway: GatewayProcess, *names: str) -> dict[str, str | None]:
    client = await open_client(gateway.port)
    client.send(orjson.dumps({"action": "environ", "names": names}).decode())
    await until(lambda: client.messages)
    answer: dict[str, str | None] = orjson.loads(client.messages[0])
    return answer


async def test_one_line_says_that_it_is_ready_and_where(tmp_path: Path) -> None:
    async with serving(write_app(tmp_path / "app", {"echo.py": ECHO})) as gateway:
        assert re.fullmatch(
            r"wsgateway is ready: ws://127\.0\.0\.1:(\d+)/dev  "
            r"http://127\.0\.0\.1:\1/dev/@connections/ID  "
            r"http://127\.0\.0\.1:\1/_wsgateway/health\n",
            gateway.ready_line,
        )
        assert await gateway.health() == 200
        client = await open_client(gateway.port)
        client.send('{"action":"echo"}')
        await until(lambda: client.messages == ['{"action":"echo"}'])


async def test_one_port_has_it_all(tmp_path: Path) -> None:
    async with serving(write_app(tmp_path / "app", {"echo.py": ECHO})) as gateway:
        origin = f"http://127.0.0.1:{gateway.port}"

        assert await status(f"{origin}/_wsgateway/health") == 200
        assert await status(f"{origin}/_wsgateway/metrics") == 200
        assert await status(f"{origin}/dev/@connections/L0SM9cOFvHcCIhw=") == 410


async def test_a_management_port_takes_callbacks_and_metrics_to_itself(tmp_path: Path) -> None:
    app = write_app(tmp_path / "app", {"echo.py": ECHO, "environ.py": ENVIRON})
    async with serving(app, "--management-port", "0") as gateway:
        public = f"http://127.0.0.1:{gateway.port}"
        management = gateway.health_url.removesuffix("/_wsgateway/health")
        gone = "dev/@connections/L0SM9cOFvHcCIhw="

        assert management != public
        assert gateway.callback_url == f"{management}/dev"
        assert (await found(gateway, "WSGATEWAY_CALLBACK_URL")).popitem()[1] == f"{management}/dev"
        assert [await status(f"{o}/_wsgateway/health") for o in (public, management)] == [200, 200]
        assert [await status(f"{o}/_wsgateway/metrics") for o in (public, management)] == [404, 200]
        for method in ("GET", "POST", "DELETE"):
            statuses = [await status(f"{o}/{gone}", method) for o in (public, management)]
            assert statuses == [404, 410]


async def test_only_the_stage_that_was_asked_for_is_served(tmp_path: Path) -> None:
    files = {"echo.py": ECHO, "api.yaml": "stages: {dev: {}, prod: {}}\n"}
    async with serving(write_app(tmp_path / "app", files), "--stage", "prod") as gateway:
        assert gateway.url.endswith("/prod")
        assert (await open_client(gateway.port, "/prod")).status.result() == 101
        assert (await open_client(gateway.port, "/dev")).status.result() == 403


async def test_handlers_find_what_lambda_would_set(tmp_path: Path) -> None:
    app = write_app(tmp_path / "app", {"environ.py": ENVIRON})
    async with serving(app, settings={"region": "eu-west-1"}) as gateway:
        assert await found(
            gateway,
            "AWS_REGION",
            "AWS_DEFAULT_REGION",
            "AWS_ACCESS_KEY_ID",
            "LAMBDA_TASK_ROOT",
            "WSGATEWAY_CALLBACK_URL",
        ) == {
            "AWS_REGION": "eu-west-1",
            "AWS_DEFAULT_REGION": "eu-west-1",
            "AWS_ACCESS_KEY_ID": "WSGATEWAYPLACEHOLDER",
            "LAMBDA_TASK_ROOT": str(app),
            "WSGATEWAY_CALLBACK_URL": gateway.callback_url,
        }


async def test_what_the_user_has_set_is_left_alone(tmp_path: Path) -> None:
    mine = {
        "AWS_PROFILE": "mine",
        "AWS_REGION": "eu-central-1",
        "WSGATEWAY_CALLBACK_URL": "https://chat.example/dev",
    }
    app = write_app(tmp_path / "app", {"environ.py": ENVIRON})
    async with serving(app, environ=mine) as gateway:
        assert await found(gateway, *mine, "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY") == {
            **mine,
            "AWS_ACCESS_KEY_ID": None,
            "AWS_SECRET_ACCESS_KEY": None,
        }


async def test_a_file_with_credentials_is_enough(tmp_path: Path) -> None:
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "credentials").write_text("[default]\naws_access_key_id = mine\n")
    app = write_app(tmp_path / "app", {"environ.py": ENVIRON})
    async with serving(app) as gateway:
        assert await found(gateway, "AWS_ACCESS_KEY_ID") == {"AWS_ACCESS_KEY_ID": None}


async def test_with_several_stages_no_url_is_right_for_all(tmp_path: Path) -> None:
    files = {
        "environ.py": ENVIRON,
        "api.yaml": "routes: {environ: {routeResponseSelectionExpression: $default}}\n"
        "stages: {dev: {}, prod: {}}\n",
    }
    app = write_app(tmp_path / "app", files)
    async with serving(app, "--stage", "dev") as one:
        assert await found(one, "WSGATEWAY_CALLBACK_URL") == {
            "WSGATEWAY_CALLBACK_URL": one.callback_url
        }


@asynccontextmanager
async def chatting(gateway: GatewayProcess) -> AsyncIterator[ClientConnection]:
    async with connect(gateway.url, proxy=None) as client:
        yield client


async def say(client: ClientConnection, **message: Any) -> None:
    await client.send(orjson.dumps(message).decode())


async def heard(client: ClientConnection) -> dict[str, Any]:
    async with asyncio.timeout(15):
        message: dict[str, Any] = orjson.loads(await client.recv())
    return message


@pytest.mark.skipif(not ROUTES.is_dir(), reason="the example is not part of the package")
async def test_two_people_chat_in_the_example(tmp_path: Path) -> None:
    """Its handlers post with boto3, with no AWS settings on the machine."""
    app = tmp_path / "routes"
    app.symlink_to(ROUTES)
    async with serving(app) as gateway, chatting(gateway) as ada:
        await say(ada, action="join", room="lobby", name="Ada")
        assert (await heard(ada))["type"] == "welcome"
        async with chatting(gateway) as bob:
            await say(bob, action="join", room="lobby", name="Bob")
            assert (await heard(bob))["type"] == "welcome"
            joined = await heard(ada)
            assert (joined["type"], joined["name"]) == ("joined", "Bob")

            await say(bob, action="sendmessage", text="hello")
            for client in (ada, bob):
                message = await heard(client)
                assert (message["type"], message["name"], message["text"]) == (
                    "message",
                    "Bob",
                    "hello",
                )
        left = await heard(ada)
        assert (left["type"], left["name"]) == ("left", "Bob")

        await say(ada, action="dance")
        assert (await heard(ada))["type"] == "error"
        await post(gateway, b'{"type": "notice"}')
        assert await heard(ada) == {"type": "notice"}
    assert [line for line in gateway.log if line.get("level", "info") != "info"] == []


async def post(gateway: GatewayProcess, data: bytes) -> None:
    """Post to the connection that was opened first, as a backend would."""
    connected = next(line for line in gateway.log if line["event"] == "connect")
    backend = boto3.client(
        "apigatewaymanagementapi",
        endpoint_url=gateway.callback_url,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(retries={"total_max_attempts": 1}),
    )
    await asyncio.to_thread(
        backend.post_to_connection, ConnectionId=connected["connection_id"], Data=data
    )
