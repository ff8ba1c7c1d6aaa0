"""What a container engine is told, tried without one: variables, networks, the health check."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.e2e.client import open_client
from tests.e2e.process import serving, until, write_app
from wsgateway.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.e2e.process import GatewayProcess
    from wsgateway.settings import Settings

ROOT = Path(__file__).parents[2]
HAPROXY = ROOT / "deploy" / "haproxy.cfg"
GATEWAYS = ("gateway-1", "gateway-2")
HANDLERS = {
    "connect.py": "async def handler(event, context): return {'statusCode': 200}\n",
    "slow.py": """\
        import asyncio

        async def handler(event, context):
            await asyncio.sleep(2)
            return {"statusCode": 200}
    """,
}


def instructions(name: str) -> list[str]:
    """Return the arguments of one of the Dockerfile's instructions, wherever it stands."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", "")
    return re.findall(rf"^{name} +(.*)$", text, re.MULTILINE)


def variables() -> dict[str, str]:
    """Return what the final image sets for the gateway."""
    words = " ".join(instructions("ENV")).split()
    return dict(word.split("=", 1) for word in words if word.startswith("WSGATEWAY_"))


def settings_of(variables: Mapping[str, str]) -> Settings:
    """Return the settings of a gateway that is told no more than this, which is no fault."""
    settings, faults = load_settings({}, variables, None)
    assert faults == []
    return settings


def compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
    return document


def composed(service: str) -> Settings:
    """Return the settings of one of Compose's gateways."""
    return settings_of(variables() | compose()["services"][service]["environment"])


def seconds(text: str) -> float:
    """Read a time as Compose and HAProxy write it."""
    match = re.fullmatch(r"(\d+)(s|m)", text)
    assert match is not None, text
    return int(match[1]) * {"s": 1, "m": 60}[match[2]]


def haproxy(directive: str) -> str:
    """Return the arguments of a directive that the load balancer's configuration has once."""
    text = HAPROXY.read_text(encoding="utf-8")
    [arguments] = re.findall(rf"^ +{directive} +(.*)$", text, re.MULTILINE)
    return str(arguments)


def test_the_image_serves_clients_from_everywhere_and_callbacks_from_itself() -> None:
    settings = settings_of(variables())

    assert (settings.host, settings.port) == ("0.0.0.0", 8080)
    assert (settings.management_host, settings.management_port) == ("127.0.0.1", 8081)
    assert not settings.insecure_callbacks
    assert instructions("EXPOSE") == ["8080"]


def test_compose_runs_two_gateways_behind_a_load_balancer() -> None:
    services = compose()["services"]

    assert services.keys() == {"load-balancer", *GATEWAYS, "valkey", "backend"}
    assert {name: one["ports"] for name, one in services.items() if "ports" in one} == {
        "load-balancer": ["8080:8080"]
    }
    # Pulled from nowhere, and built once.
    built = [name for name, service in services.items() if "build" in service]
    assert (len(built), services[built[0]]["build"]) == (1, ".")
    assert {services[name]["image"] for name in (*GATEWAYS, "backend")} == {"wsgateway"}


def test_who_is_on_which_network_of_compose() -> None:
    document = compose()
    on = {name: set(service["networks"]) for name, service in document["services"].items()}

    assert on == {
        "load-balancer": {"public"},
        "gateway-1": {"public", "private", "registry"},
        "gateway-2": {"public", "private", "registry"},
        "valkey": {"registry"},
        "backend": {"private"},
    }
    assert document["networks"] == {
        "public": None,
        "private": {"internal": True},
        "registry": {"internal": True},
    }


def test_compose_binds_callbacks_to_a_name_of_the_private_network_alone() -> None:
    services = compose()["services"]
    names = {composed(gateway).management_host for gateway in GATEWAYS}
    known_on = {
        name: {
            (service, network)
            for service, options in services.items()
            if isinstance(options["networks"], dict)
            for network, attached in options["networks"].items()
            if name in (attached or {}).get("aliases", [])
        }
        for name in names
    }

    assert known_on == {
        "callbacks-1": {("gateway-1", "private")},
        "callbacks-2": {("gateway-2", "private")},
    }
    # Nothing else in the file is called so.
    assert not names & services.keys()


def test_the_gateways_of_compose_are_one_gateway_and_their_rooms_one_chat() -> None:
    services = compose()["services"]

    for gateway in GATEWAYS:
        assert composed(gateway).redis == "redis://valkey:6379"
        assert services[gateway]["environment"]["CHAT_REDIS"] == "redis://valkey:6379"
        assert services[gateway]["depends_on"] == {"valkey": {"condition": "service_healthy"}}


def test_the_backend_of_compose_has_the_url_of_either_gateway() -> None:
    services = compose()["services"]

    assert services["backend"]["environment"]["AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI"] == (
        "http://callbacks:8081/dev"
    )
    for gateway in GATEWAYS:
        assert "callbacks" in services[gateway]["networks"]["private"]["aliases"]
        assert composed(gateway).management_port == 8081


def test_a_stop_under_compose_has_the_time_that_it_takes() -> None:
    services = compose()["services"]
    stop_s = {name: seconds(services[name]["stop_grace_period"]) for name in GATEWAYS}

    for gateway in GATEWAYS:
        settings = composed(gateway)
        assert stop_s[gateway] > settings.drain_delay_s + settings.grace_period_s + settings.lease_s
        # Else it would be stopped before them, and their clients would be told nothing.
        assert "depends_on" not in services["load-balancer"]
        assert seconds(haproxy("hard-stop-after")) > stop_s[gateway]
    assert seconds(services["load-balancer"]["stop_grace_period"]) > seconds(
        haproxy("hard-stop-after")
    )


def test_the_load_balancer_of_compose_does_what_one_must() -> None:
    text = HAPROXY.read_text(encoding="utf-8")
    servers = re.findall(r"^ +server +(\S+) +(\S+)$", text, re.MULTILINE)
    check = haproxy("default-server")
    every, falls = re.search(r"inter (\d+s) fall (\d+)", check).groups()  # type: ignore[union-attr]
    [mounted] = compose()["services"]["load-balancer"]["volumes"]

    assert servers == [(gateway, f"{gateway}:8080") for gateway in GATEWAYS]
    assert (ROOT / mounted.partition(":")[0]).resolve() == HAPROXY
    assert haproxy("option httpchk") == "GET /_wsgateway/health"
    for gateway in GATEWAYS:
        settings = composed(gateway)
        assert (settings.host, settings.port) == ("0.0.0.0", 8080)
        # A check that takes long is one that waits for `timeout connect`.
        assert settings.drain_delay_s > seconds(every) * int(falls) + seconds(
            haproxy("timeout connect")
        )
        assert seconds(haproxy("timeout tunnel")) > settings.idle_timeout_s
        assert seconds(haproxy("timeout server")) > settings.integration_timeout_ms / 1000


@pytest.mark.slow
async def test_haproxy_takes_its_configuration() -> None:
    program = shutil.which("haproxy", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        pytest.skip("NOT CHECKED: deploy/haproxy.cfg, as there is no haproxy on this machine")
    process = await asyncio.create_subprocess_exec(
        program, "-c", "-f", HAPROXY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    output, _ = await process.communicate()

    assert process.returncode == 0, output.decode()


def test_the_builder_is_sent_what_it_copies_and_nothing_else() -> None:
    copied = {
        source
        for arguments in instructions("COPY")
        if not arguments.startswith("--from=")
        for source in arguments.split()[:-1]
    }
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()

    assert {line.removeprefix("!") for line in ignored if line.startswith("!")} == copied
    assert [line for line in ignored if not line.startswith(("!", "#"))] == ["*", "**/__pycache__"]


@pytest.mark.slow
@pytest.mark.timeout(60)
async def test_the_health_check_tells_ready_from_stopping_and_from_gone(tmp_path: Path) -> None:
    folder = write_app(tmp_path / "app", HANDLERS)
    async with serving(folder, "--management-port", "0") as gateway:
        ready = await health_check(gateway)
        client = await open_client(gateway.port)
        client.send('{"action":"slow"}')
        await until(lambda: is_busy(gateway))
        gateway.signal(signal.SIGTERM)
        await until(lambda: is_stopping(gateway))

        stopping = await health_check(gateway)

        assert await gateway.ended() == 0
    gone = await health_check(gateway)

    assert (ready, stopping, gone) == (0, 1, 1)


async def is_busy(gateway: GatewayProcess) -> bool:
    return await gateway.functions_running() == 1


async def is_stopping(gateway: GatewayProcess) -> bool:
    return await gateway.health() == 503


async def health_check(gateway: GatewayProcess) -> int:
    """Do what the engine does, and return the exit code."""
    [check] = instructions("HEALTHCHECK")
    python, *arguments = json.loads(check.partition("CMD ")[2])
    assert python == "python"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        env={"WSGATEWAY_PORT": str(gateway.port)},
        stderr=asyncio.subprocess.DEVNULL,
    )
    return await process.wait()
