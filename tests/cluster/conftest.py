"""Valkey servers, and clients that answer in bytes and try nothing twice."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from tests.cluster.valkey import Server, binary, cluster, tls_binary, version

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.cluster.valkey import Cluster


def pytest_report_header() -> list[str]:
    speaker = tls_binary()
    return [
        f"REDIS: {version(binary())}, {binary()}",
        f"REDIS WITH TLS: {version(speaker)}, {speaker}"
        if speaker
        else "REDIS WITH TLS: none is installed; a proxy ends TLS in front of the one above",
    ]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say it at the end too, where it is seen without scrolling."""
    terminalreporter.write_line("; ".join(pytest_report_header()))


@pytest.fixture(scope="session")
def shared_valkey() -> Iterator[Server]:
    """One server for tests that leave it as it is; clients find it empty."""
    with Server() as server:
        yield server


@pytest.fixture
def valkey() -> Iterator[Server]:
    """A server for one test, which may do to it what it wants."""
    with Server() as server:
        yield server


@pytest.fixture(scope="session")
def shared_valkey_cluster() -> Iterator[Cluster]:
    """Three masters for tests that leave them as they are."""
    with cluster(replicated=False) as servers:
        yield servers


@asynccontextmanager
async def connected(server: Server) -> AsyncIterator[Redis]:
    """A client of a server."""
    client = Redis(port=server.port, retry=Retry(NoBackoff(), 0))
    try:
        yield client
    finally:
        await client.aclose()


@asynccontextmanager
async def connected_to_cluster(servers: Cluster) -> AsyncIterator[RedisCluster]:
    """A client of a cluster, which is empty."""
    client = RedisCluster("127.0.0.1", servers.masters[0].port, retry=Retry(NoBackoff(), 0))
    try:
        await client.flushall(target_nodes=RedisCluster.PRIMARIES)
        yield client
    finally:
        await client.aclose()


@pytest.fixture
async def redis(shared_valkey: Server) -> AsyncIterator[Redis]:
    """A client of the shared server, which is empty."""
    async with connected(shared_valkey) as client:
        await client.flushall()
        await client.script_flush()
        yield client
