"""What the gateway checks before it serves, where it says it is, and what a new deployment changes."""

from __future__ import annotations

import asyncio
import socket
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from tests.harness import echo, serving
from tests.ports import free_port
from wsgateway.api.definition import ApiDefinition
from wsgateway.errors import OperatorFaults
from wsgateway.gateway import Gateway, stages_to_serve
from wsgateway.loaders.source import LoadedApi
from wsgateway.ports import bind_ports, callback_url, tls_context
from wsgateway.settings import Settings, derived_api_id, load_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def settings(**values: Any) -> Settings:
    return Settings(**{"port": 0, "grace_period_s": 5, **values})


def faults(act: Callable[[], object]) -> list[str]:
    with pytest.raises(OperatorFaults) as caught:
        act()
    return [str(fault) for fault in caught.value.faults]


# Which stages


def served(only: str | None, **stages: Any) -> list[str]:
    definition = ApiDefinition.model_validate({"stages": stages})
    return list(stages_to_serve(definition, settings(stage=only)))


def test_without_stages_there_is_one() -> None:
    assert served(None) == ["dev"]
    assert served("prod") == ["prod"]
    assert served("blue,green") == ["blue", "green"]


def test_of_several_stages_some_or_all_are_served() -> None:
    assert served(None, dev={}, prod={}) == ["dev", "prod"]
    assert served("test,dev", dev={}, prod={}, test={}) == ["test", "dev"]
    assert served("prod", dev={}, prod={}) == ["prod"]


def test_a_stage_that_is_not_declared() -> None:
    assert faults(lambda: served("prdo", dev={}, prod={})) == [
        "--stage: the stage 'prdo' is not declared; declared are: dev, prod"
    ]
    assert faults(lambda: served("a,dev,b", dev={})) == [
        "--stage: the stage 'a' is not declared; declared are: dev",
        "--stage: the stage 'b' is not declared; declared are: dev",
    ]


@pytest.mark.parametrize("name", ["a/b", "", "_wsgateway", "é", "a b"])
def test_a_stage_that_no_client_could_ask_for(name: str) -> None:
    [fault] = faults(lambda: served(name))

    assert fault.startswith("--stage: ")
    assert fault.endswith(f"; got {name!r}")


def test_a_fault_names_where_the_stage_was_set() -> None:
    merged, _ = load_settings({}, {"WSGATEWAY_STAGE": "x"}, None)
    definition = ApiDefinition.model_validate({"stages": {"dev": {}}})

    [fault] = faults(lambda: stages_to_serve(definition, merged))

    assert fault.startswith("WSGATEWAY_STAGE: ")


# Which ports


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def test_all_ports_that_are_taken_are_told(taken: int) -> None:
    bound = settings(port=taken, management_port=taken, management_host="127.0.0.1")

    assert faults(lambda: bind_ports(bound)) == [
        (
            f"--port: cannot listen on 127.0.0.1:{taken}: Address already in use; "
            "stop what uses it, or choose another"
        ),
        (
            f"--management-port: cannot listen on 127.0.0.1:{taken}: Address already in use; "
            "stop what uses it, or choose another"
        ),
    ]


def test_a_port_that_is_free_is_let_go_when_another_is_taken(taken: int) -> None:
    free = free_port()

    assert len(faults(lambda: bind_ports(settings(port=free, management_port=taken)))) == 1

    socket.create_server(("127.0.0.1", free)).close()


@pytest.mark.parametrize("host", ["203.0.113.1", "no.such.host.invalid", "a..b", "x" * 70])
def test_a_host_that_is_not_this_machine(host: str) -> None:
    [fault] = faults(lambda: bind_ports(settings(host=host)))

    assert fault.startswith(f"--port: cannot listen on {host}:0: ")
    assert fault.endswith("; name an address of this machine")
    assert "\n" not in fault


async def test_a_port_that_is_taken_after_all() -> None:
    """Until one of them listens, two can bind a port with SO_REUSEADDR."""
    one = bind_ports(settings())
    port = one.public[0].getsockname()[1]
    other = bind_ports(settings(port=port))
    one.public[0].listen()
    gateway = Gateway(settings(port=port), LoadedApi(ApiDefinition(), {}, {}), other)

    with pytest.raises(OperatorFaults) as caught:
        await gateway.start()

    assert str(caught.value) == (
        f"--port: cannot listen on 127.0.0.1:{port}: Address already in use; "
        "stop what uses it, or choose another"
    )
    one.close()


# TLS


def test_without_a_certificate_there_is_no_tls() -> None:
    assert tls_context(settings()) is None


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a certificate, its key, another key, and its key under a password."""
    folder = tmp_path_factory.mktemp("pem")
    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")
    for name in ("", "other-"):
        subprocess.run(
            [
                *("openssl", "req", "-x509", *new_key, "-nodes", "-days", "2"),
                *("-subj", "/CN=localhost"),
                *("-keyout", folder / f"{name}key.pem", "-out", folder / f"{name}cert.pem"),
            ],
            check=True,
            capture_output=True,
        )
    locked = ("-out", folder / "locked.pem", "-aes256", "-passout", "pass:secret")
    subprocess.run(
        ["openssl", "ec", "-in", folder / "key.pem", *locked], check=True, capture_output=True
    )
    (folder / "empty.pem").touch()
    return folder


def test_a_certificate_and_its_key(pem: Path) -> None:
    context = tls_context(settings(tls_certificate=pem / "cert.pem", tls_key=pem / "key.pem"))

    assert context is not None


@pytest.mark.parametrize(
    ("certificate", "key"),
    [
        ("cert.pem", "other-key.pem"),
        ("cert.pem", "locked.pem"),
        ("cert.pem", "empty.pem"),
        ("empty.pem", "key.pem"),
        ("key.pem", "cert.pem"),
    ],
)
def test_a_certificate_or_key_of_no_use(pem: Path, certificate: str, key: str) -> None:
    broken = settings(tls_certificate=pem / certificate, tls_key=pem / key)

    [fault] = faults(lambda: tls_context(broken))

    assert fault.startswith(
        f"--tls-certificate: {pem / certificate} and {pem / key} cannot be used: "
    )
    assert fault.endswith("; name a PEM certificate and its key, without a password")


def test_certificate_and_key_that_are_not_there(pem: Path) -> None:
    merged, _ = load_settings(
        {}, {"WSGATEWAY_TLS_CERTIFICATE": "nowhere", "WSGATEWAY_TLS_KEY": str(pem)}, None
    )

    assert faults(lambda: tls_context(merged)) == [
        (
            "WSGATEWAY_TLS_CERTIFICATE: nowhere cannot be read: No such file or directory; "
            "name a PEM file"
        ),
        f"WSGATEWAY_TLS_KEY: {pem} cannot be read: Is a directory; name a PEM file",
    ]


# URLs and ids


@pytest.mark.parametrize(
    ("host", "authority"), [("0.0.0.0", "127.0.0.1"), ("::1", "[::1]"), ("127.0.0.2", "127.0.0.2")]
)
def test_urls_can_be_used_on_this_machine(host: str, authority: str) -> None:
    bound = settings(host=host, insecure_callbacks=True)
    ports = bind_ports(bound)
    port = ports.public[0].getsockname()[1]

    assert callback_url(bound, ports, "dev") == f"http://{authority}:{port}/dev"
    ports.close()


async def test_callbacks_have_the_management_port_if_there_is_one() -> None:
    async with serving({"echo": echo}, management_port=0) as running:
        [websocket_url], [callback] = running.gateway.websocket_urls, running.gateway.callback_urls

        assert websocket_url.rpartition("/")[0].partition("//")[2] == running.authority
        assert running.authority not in callback


async def test_the_id_is_set_or_derived_from_the_name() -> None:
    async with serving({"echo": echo}, definition={"name": "chat"}) as running:
        assert running.gateway.api_id == derived_api_id("chat")
    async with serving({"echo": echo}, api_id="abc123") as running:
        assert running.gateway.api_id == "abc123"


# A new deployment


def loaded(answer: str, **definition: Any) -> LoadedApi:
    async def handler(event: Any, context: Any) -> Any:
        return {"statusCode": 200, "body": answer.format(event.get("stageVariables"))}

    routes = {"say": {"routeResponseSelectionExpression": "$default"}}
    api = ApiDefinition.model_validate({"routes": routes, **definition})
    return LoadedApi(api, {"say": handler}, {"say": "say"})


async def test_open_connections_use_a_new_deployment_for_their_next_message() -> None:
    async with serving({"echo": echo}, two_way=("echo",)) as running, running.connect() as client:
        await client.send('{"action":"echo"}')
        assert await client.recv() == '{"action":"echo"}'

        running.gateway.deploy(loaded("new {}", stages={"dev": {"stageVariables": {"a": "b"}}}))
        await client.send('{"action":"say"}')
        assert await client.recv() == "new {'a': 'b'}"
        await client.send('{"action":"echo"}')
        assert "Forbidden" in str(await client.recv())


async def test_stages_that_come_or_go_wait_for_the_next_start() -> None:
    stages = {"dev": {"stageVariables": {"a": "b"}}}
    definition = {"stages": stages}
    async with (
        serving({"echo": echo}, definition=definition) as running,
        running.connect() as client,
    ):
        with structlog.testing.capture_logs() as logs:
            running.gateway.deploy(loaded("{}", stages={"prod": {}}))

        assert [line["log_level"] for line in logs] == ["warning"]
        await client.send('{"action":"say"}')
        assert await client.recv() == "{'a': 'b'}"


async def test_the_one_stage_to_serve_must_not_go() -> None:
    async with serving(
        {"echo": echo}, definition={"stages": {"dev": {}, "prod": {}}}, stage="dev"
    ) as running:
        with pytest.raises(OperatorFaults):
            running.gateway.deploy(loaded("", stages={"prod": {}}))


# A part that ends by itself


async def test_a_gateway_that_has_lost_a_part_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: Any) -> None:
        await asyncio.sleep(0)
        raise OSError("no time")

    monkeypatch.setattr("wsgateway.gateway.keep_time", broken)
    with structlog.testing.capture_logs() as logs:
        async with serving({"echo": echo}) as running:
            await asyncio.wait(running.gateway._running[:1])
            assert not running.gateway.ready

    assert [line["event"] for line in logs if line["log_level"] == "critical"] == [
        "a part of the gateway has ended by itself"
    ]
