"""AWS on this machine: Lambda's Invoke API in a process of its own, moto for everything else."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from moto.server import ThreadedMotoServer

from wsgateway.integrations.client import AioHttpClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

TIMEOUT_S = 10.0
MEBIBYTE = 1024 * 1024

# What the gateway finds where it runs: credentials, and no files of whoever runs the tests.
KEYS = {"AWS_ACCESS_KEY_ID": "AKIAGATEWAY", "AWS_SECRET_ACCESS_KEY": "secret"}
NO_FILES = {"AWS_CONFIG_FILE": "/nowhere/config", "AWS_SHARED_CREDENTIALS_FILE": "/nowhere/keys"}
NO_METADATA = {"AWS_EC2_METADATA_DISABLED": "true"}
BARE = NO_FILES | NO_METADATA


class LambdaEndpoint:
    """Lambda's Invoke API in a process of its own."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("lambda_endpoint.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()

    def calls(self) -> list[dict[str, Any]]:
        """Return what was asked since the last time."""
        with urllib.request.urlopen(f"{self.url}/calls", timeout=TIMEOUT_S) as answer:
            calls: list[dict[str, Any]] = json.load(answer)
        return calls

    def close(self) -> None:
        self._process.communicate(timeout=TIMEOUT_S)


@pytest.fixture(scope="module")
def lambda_endpoint() -> Iterator[LambdaEndpoint]:
    endpoint = LambdaEndpoint()
    yield endpoint
    endpoint.close()


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    """The URL of moto's server."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
async def http() -> AsyncIterator[AioHttpClient]:
    client = AioHttpClient(response_size_max=8 * MEBIBYTE)
    yield client
    await client.close()
