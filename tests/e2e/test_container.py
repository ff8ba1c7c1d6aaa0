"""What a container engine is told, tried without one: variables, networks, the health check."""

from __future__ import annotations

import asyncio
import json
import re
import signal
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


def test_the_image_serves_clients_from_everywhere_and_callbacks_from_itself() -> None:
    settings = settings_of(variables())

    assert (settings.host, settings.port) == ("0.0.0.0", 8080)
    assert (settings.management_host, settings.management_port) == ("127.0.0.1", 8081)
    assert not settings.insecure_callbacks
    assert instructions("EXPOSE") == ["8080"]


def test_compose_binds_callbacks_to_a_name_of_the_private_network_alone() -> None:
    gateway = compose()["services"]["gateway"]
    settings = settings_of(variables() | gateway["environment"])
    networks = {
        network
        for network, options in gateway["networks"].items()
        if settings.management_host in (options or {}).get("aliases", [])
    }

    assert networks == {"private"}
    assert compose()["networks"]["private"] == {"internal": True}
    assert gateway["ports"] == ["8080:8080"]


def test_the_backend_of_compose_has_the_private_network_and_the_url_of_callbacks() -> None:
    backend = compose()["services"]["backend"]

    assert backend["networks"] == ["private"]
    assert backend["environment"]["AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI"] == (
        "http://callbacks:8081/dev"
    )


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
