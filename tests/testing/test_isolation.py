"""What gateways of one process share with each other, with the test and with those that follow."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import resource
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from wsgateway.errors import OperatorFaults
from wsgateway.testing import serve

if TYPE_CHECKING:
    from wsgateway.testing import RunningGateway

Event = dict[str, Any]

# boto3 takes its time to make a client.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]

OK = {"statusCode": 200}


def post_by_sdk(event: Event, message: str) -> None:
    """Post as handlers on Lambda do, with what the environment says."""
    client = boto3.client(
        "apigatewaymanagementapi", endpoint_url=os.environ["WSGATEWAY_CALLBACK_URL"]
    )
    connection_id = event["requestContext"]["connectionId"]
    client.post_to_connection(ConnectionId=connection_id, Data=message.encode())
    client.close()


def in_thread(event: Event, context: Any) -> Any:
    post_by_sdk(event, "from a thread")
    return OK


async def on_the_loop(event: Event, context: Any) -> Any:
    # boto3 blocks, and the gateway runs on this loop.
    await asyncio.to_thread(post_by_sdk, event, "from the loop")
    return OK


def from_a_pool(event: Event, context: Any) -> Any:
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda message: post_by_sdk(event, message), ["one", "two"]))
    return OK


def decorated(event: Event, context: Any) -> Any:
    return on_the_loop(event, context)


HANDLERS = {
    "in_thread": in_thread,
    "on_the_loop": on_the_loop,
    "from_a_pool": from_a_pool,
    "decorated": decorated,
}


def environment(event: Event, context: Any) -> Any:
    return {"statusCode": 200, "body": json.dumps(dict(os.environ))}


async def environment_in(gateway: RunningGateway) -> dict[str, str]:
    async with gateway.connect() as client:
        await client.send("?")
        value: dict[str, str] = await client.receive_json()
        return value


class TestBoto3:
    @pytest.mark.parametrize(
        ("action", "messages"),
        [
            ("in_thread", {"from a thread"}),
            ("on_the_loop", {"from the loop"}),
            ("from_a_pool", {"one", "two"}),
            ("decorated", {"from the loop"}),
        ],
    )
    async def test_handlers_post_to_their_own_gateway(self, action, messages) -> None:
        async with serve(HANDLERS) as one, serve(HANDLERS) as other:
            async with one.connect() as a, other.connect() as b:
                for client in (a, b):
                    await client.send({"action": action})
                for client in (a, b):
                    assert {await client.receive() for _ in messages} == messages

            for gateway in (one, other):
                assert (await gateway.events.finished(action)).error is None

    async def test_a_folder_posts_too(self, tmp_path) -> None:
        write_app(tmp_path, "hello")
        async with serve(tmp_path) as gateway, gateway.connect() as client:
            await client.send("?")

            assert await client.receive() == f"hello {gateway.callback_url}"


class TestEnvironment:
    async def test_handlers_see_what_serve_sets_and_the_test_does_not(self, monkeypatch) -> None:
        for name in list(os.environ):
            if name.startswith("AWS_"):
                monkeypatch.delenv(name)
        monkeypatch.setenv("HOME", "/nonexistent")
        monkeypatch.setenv("WSGATEWAY_CALLBACK_URL", "https://elsewhere.example/prod")
        outside = dict(os.environ)

        async with serve({"$default": environment}, two_way=["$default"]) as gateway:
            seen = await environment_in(gateway)
            during = dict(os.environ)

        assert during == dict(os.environ) == outside
        assert {name: seen[name] for name in seen if outside.get(name) != seen[name]} == {
            "AWS_ACCESS_KEY_ID": "WSGATEWAYPLACEHOLDER",
            "AWS_SECRET_ACCESS_KEY": "placeholder",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_REGION": "us-east-1",
            "LAMBDA_TASK_ROOT": str(Path.cwd()),
            "WSGATEWAY_CALLBACK_URL": gateway.callback_url,
        }

    async def test_what_the_test_sets_they_see(self, monkeypatch) -> None:
        async with serve({"$default": environment}, two_way=["$default"]) as gateway:
            monkeypatch.setenv("TABLE", "of the test")

            assert (await environment_in(gateway))["TABLE"] == "of the test"

    async def test_each_has_its_own(self, monkeypatch) -> None:
        monkeypatch.setenv("TABLE", "of the process")
        monkeypatch.setenv("OTHER", "of the process")
        handlers, two_way = {"$default": environment}, ["$default"]

        async with (
            serve(handlers, two_way=two_way, environ={"TABLE": "one", "OTHER": None}) as one,
            serve(handlers, two_way=two_way, environ={"TABLE": "two"}, region="eu-west-1") as two,
        ):
            seen = await asyncio.gather(environment_in(one), environment_in(two))

        assert [each["TABLE"] for each in seen] == ["one", "two"]
        assert [each.get("OTHER") for each in seen] == [None, "of the process"]
        assert [each["WSGATEWAY_CALLBACK_URL"] for each in seen] == [
            one.callback_url,
            two.callback_url,
        ]

    async def test_given_credentials_are_not_mixed_with_placeholders(self, monkeypatch) -> None:
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY", raising=False)
        handlers, two_way = {"$default": environment}, ["$default"]

        async with serve(handlers, two_way=two_way, environ={"AWS_PROFILE": "tests"}) as gateway:
            seen = await environment_in(gateway)

        assert seen["AWS_PROFILE"] == "tests"
        assert "AWS_SECRET_ACCESS_KEY" not in seen

    async def test_what_is_hidden_is_what_serve_sets_then(self, monkeypatch) -> None:
        monkeypatch.setenv("AWS_REGION", "eu-west-1")
        monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)

        async with serve(
            {"$default": environment}, two_way=["$default"], environ={"AWS_REGION": None}
        ) as gateway:
            seen = await environment_in(gateway)

        assert (seen["AWS_REGION"], seen["AWS_DEFAULT_REGION"]) == ("us-east-1", "us-east-1")

    async def test_a_callback_url_that_is_set_is_what_they_see(self) -> None:
        async with serve(
            {"$default": environment}, two_way=["$default"], callback_url="http://proxy/x"
        ) as gateway:
            seen = await environment_in(gateway)

        assert seen["WSGATEWAY_CALLBACK_URL"] == "http://proxy/x"

    async def test_with_several_stages_there_is_no_one_url(self, tmp_path, monkeypatch) -> None:
        monkeypatch.setenv("WSGATEWAY_CALLBACK_URL", "https://elsewhere.example/prod")
        write_app(tmp_path, "", stages="{one: {}, two: {}}")

        async with serve(tmp_path) as gateway:
            with gateway.environment():
                assert "WSGATEWAY_CALLBACK_URL" not in os.environ

    async def test_what_a_handler_sets_is_its_gateways(self) -> None:
        def handler(event: Event, context: Any) -> Any:
            calls = int(os.environ.get("CALLS", "0")) + 1
            os.environ["CALLS"] = str(calls)
            return {"statusCode": 200, "body": str(calls)}

        handlers, two_way = {"$default": handler}, ["$default"]
        async with serve(handlers, two_way=two_way) as one, serve(handlers, two_way=two_way) as two:
            for gateway, expected in ((one, "1"), (one, "2"), (two, "1")):
                async with gateway.connect() as client:
                    await client.send("?")
                    assert await client.receive() == expected
            with one.environment():
                assert os.environ["CALLS"] == "2"

        assert "CALLS" not in os.environ

    async def test_a_handler_that_connects_to_another_gateway_stays_itself(self) -> None:
        async with serve({"$default": environment}, two_way=["$default"]) as inner:

            async def ask(event: Event, context: Any) -> Any:
                seen = await environment_in(inner)
                urls = [seen["WSGATEWAY_CALLBACK_URL"], os.environ["WSGATEWAY_CALLBACK_URL"]]
                return {"statusCode": 200, "body": json.dumps(urls)}

            async with (
                serve({"$default": ask}, two_way=["$default"]) as outer,
                outer.connect() as client,
            ):
                await client.send("?")

                assert await client.receive_json() == [inner.callback_url, outer.callback_url]


def write_app(folder: Path, text: str, *, stages: str = "{}") -> None:
    (folder / "api.yaml").write_text(f"stages: {stages}\n")
    (folder / "_post.py").write_text(
        "import os, boto3\n"
        "url = os.environ.get('WSGATEWAY_CALLBACK_URL')\n"
        "root = os.environ['LAMBDA_TASK_ROOT']\n"
        "calls = []\n"
        "def post(event, text):\n"
        "    calls.append(text)\n"
        "    client = boto3.client('apigatewaymanagementapi', endpoint_url=url)\n"
        "    connection_id = event['requestContext']['connectionId']\n"
        "    client.post_to_connection(ConnectionId=connection_id, Data=text.encode())\n"
        "    client.close()\n"
    )
    (folder / "default.py").write_text(
        "from _post import post, url\n"
        "def handler(event, context):\n"
        f"    post(event, f'{text} {{url}}')\n"
        "    return {'statusCode': 200}\n"
    )


class TestModules:
    async def test_they_are_imported_in_the_gateways_environment(self, tmp_path) -> None:
        write_app(tmp_path, "")
        async with serve(tmp_path) as gateway:
            module = gateway.module("_post")

            assert module.url == gateway.callback_url
            assert module.root == str(tmp_path)

    async def test_each_serve_has_fresh_ones(self, tmp_path) -> None:
        for text in ("first", "second"):
            write_app(tmp_path, text)
            async with serve(tmp_path) as gateway, gateway.connect() as client:
                await client.send("?")

                assert await client.receive() == f"{text} {gateway.callback_url}"
                assert len(gateway.module("_post").calls) == 1

    async def test_same_names_in_two_folders_are_two_modules(self, tmp_path) -> None:
        gateways, texts = [], ["one", "two"]
        for text in texts:
            (tmp_path / text).mkdir()
            write_app(tmp_path / text, text)
        async with serve(tmp_path / "one") as one, serve(tmp_path / "two") as two:
            gateways = [one, two]
            for gateway, text in zip(gateways, texts, strict=True):
                async with gateway.connect() as client:
                    await client.send("?")
                    assert await client.receive() == f"{text} {gateway.callback_url}"

            assert one.module("_post") is not two.module("_post")
            assert one.module("default").__name__ != two.module("default").__name__

    async def test_what_is_patched_in_one_is_what_its_handlers_use(
        self, tmp_path, monkeypatch
    ) -> None:
        write_app(tmp_path, "hello")
        posted: list[str] = []
        async with serve(tmp_path) as gateway, gateway.connect() as client:
            monkeypatch.setattr(
                gateway.module("default"), "post", lambda event, text: posted.append(text)
            )
            await client.send("?")
            await gateway.events.finished("$default")

        assert posted == [f"hello {gateway.callback_url}"]

    async def test_a_module_may_run_a_loop_while_it_is_imported(self, tmp_path) -> None:
        (tmp_path / "default.py").write_text(
            "import asyncio\n"
            "VALUE = asyncio.run(asyncio.sleep(0, 'loaded'))\n"
            "def handler(event, context): ...\n"
        )
        async with serve(tmp_path) as gateway:
            assert gateway.module("default").VALUE == "loaded"

    async def test_a_dictionary_has_none(self) -> None:
        async with serve({"$default": environment}) as gateway:
            with pytest.raises(TypeError, match="only a folder or a file has modules"):
                gateway.module("default")


def state() -> dict[str, object]:
    """What a test run shares, as far as a gateway could touch it."""
    gc.collect()
    return {
        "environ": (os.environ, type(os.environ), dict(os.environ)),
        "modules": sorted(name for name in sys.modules if name.startswith("wsgateway_app")),
        "finders": list(sys.meta_path),
        "path": list(sys.path),
        "functions": (threading.Thread.start, ThreadPoolExecutor.submit),
        "session": boto3.DEFAULT_SESSION,
        "limit": resource.getrlimit(resource.RLIMIT_NOFILE),
        "tasks": len(asyncio.all_tasks()),
        "handler threads": [
            thread.name for thread in threading.enumerate() if thread.name.startswith("handler")
        ],
        "descriptors": sorted(
            target
            for entry in Path("/proc/self/fd").iterdir()
            if (target := _target(entry)).startswith("socket")
        ),
    }


def _target(entry: Path) -> str:
    try:
        return str(entry.readlink())
    except OSError:  # the one that lists them
        return ""


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="descriptors are listed in /proc")
class TestNothingIsLeft:
    async def test_of_a_gateway(self, tmp_path) -> None:
        write_app(tmp_path, "hello")
        before = state()

        async with serve(tmp_path) as gateway, serve(HANDLERS) as other:
            closed = await gateway.connect()
            await closed.send("?")
            assert await closed.receive()
            await closed.close()
            left_open = await other.connect()
            await left_open.send({"action": "from_a_pool"})
            await left_open.receive()
            await left_open.receive()
            vanished = await other.connect()
            vanished.vanish()
            assert state() != before
        del gateway, other, closed, left_open, vanished

        await until(lambda: state() == before)
        assert state() == before

    async def test_of_a_gateway_that_could_not_start(self, tmp_path) -> None:
        (tmp_path / "default.py").write_text("import os\nos.environ['X'] = '1'\nraise OSError\n")
        before = state()

        for source, options in (
            (tmp_path, {}),
            (tmp_path / "nowhere", {}),
            ({"$open": in_thread}, {}),
            ({"$default": in_thread}, {"stage": "a b"}),
            ({"$default": in_thread}, {"port": -1}),
        ):
            with pytest.raises(OperatorFaults):
                async with serve(source, **options):
                    pytest.fail("it is served")
            assert state() == before

    async def test_of_a_test_that_fails(self, tmp_path) -> None:
        write_app(tmp_path, "hello")
        before = state()

        async def fail() -> None:
            async with serve(tmp_path) as gateway:
                client = await gateway.connect()
                await client.send("?")
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await fail()

        await until(lambda: state() == before)
        assert state() == before


async def until(condition: Any) -> None:
    """Give what is ending a moment: a thread, a socket that libuv closes in its next turn."""
    until_s = time.monotonic() + 10
    while not condition() and time.monotonic() < until_s:  # noqa: ASYNC110 - nobody tells of it
        await asyncio.sleep(0.02)
