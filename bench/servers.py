"""Server processes: the gateway and what it is compared with, each pinned to the server's core.

A new row needs a subclass of `Server` here (or a name in `references.py`) and a line in `rows.py`.
"""

from __future__ import annotations

import http.client
import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

from bench.measure import BenchError, cores

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

ROOT = Path(__file__).parents[1]
HOST = "127.0.0.1"
START_TIMEOUT_S = 20.0
LAST_WORDS_IN = 64 * 1024
LAST_WORDS_MAX = 160
FAULT = re.compile(r'Error\b|"exception"')
STOP_TIMEOUT_S = 45.0  # longer than the gateway's own grace period of 30 s
# Below the range that clients' own ports come from: one of those may be taken at any moment, and
# a probe of a port there that nobody listens on yet can end up connected to itself.
PORTS = itertools.count(20_000 + os.getpid() % 10_000)
# Settings of the caller's shell that would make the server under test another one.
FOREIGN_SETTINGS = ("WSGATEWAY_", "PYTHONASYNCIODEBUG", "PYTHONDEVMODE", "PYTHONMALLOC")


def clean_environment() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith(FOREIGN_SETTINGS)}


def free_port() -> int:
    """A port that no other server of this run is given."""
    for port in PORTS:
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise AssertionError("counting never ends")


class Server:
    """A server process: entering starts it and waits until it is ready, leaving stops it."""

    name: str
    ready_path = "/"
    ready_statuses: Collection[int] = range(100, 600)
    has_connections = False  # whether a POST arrives as a frame at a WebSocket client
    quiet = False  # whether a log line means that something is wrong
    generator = "bench.load"  # the module that puts it under load
    job: str | None = None  # what that does, where it is not what the row does
    is_crowd = False  # whether several processes share its core, and wait for each other
    sink_ports: Sequence[int] = ()  # where posts arrive, if not at the server that is posted to
    exit_codes: Collection[int] = (0, -signal.SIGTERM, 128 + signal.SIGTERM)

    def __init__(self) -> None:
        self.port = free_port()
        self.fault: str | None = None
        # Appended to, so that `trim_log` can cut it while the server writes.
        self._log = tempfile.NamedTemporaryFile("a+", prefix="bench-", suffix=".log")  # noqa: SIM115
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> Sequence[str]:
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        return clean_environment()

    @property
    def load_ports(self) -> Sequence[int]:
        """Where the load goes, in turn."""
        return [self.port]

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(  # noqa: S603
            [sys.executable, *self.command()],
            cwd=ROOT,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            process_group=0,  # an interrupt at the terminal is for the bench, which stops it
        )
        os.sched_setaffinity(self.pid, {cores()[0]})
        try:
            self._wait_until_ready()
        except BaseException:
            self._kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.terminate()
        try:
            code = self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._kill()
            self.fault = f"{self.name} did not stop within {STOP_TIMEOUT_S:g} s of SIGTERM"
        else:
            if code not in self.exit_codes:
                self.fault = f"{self.name} ended with {code}{self.last_words()}"
        self._log.close()

    def _kill(self) -> None:
        assert self._process is not None
        with suppress(ProcessLookupError):  # when all of them have ended
            os.killpg(self.pid, signal.SIGKILL)  # its children too
        self._process.wait()

    def trim_log(self) -> None:
        """Drops what was logged so far: a log line per message fills a disk between two rounds.

        Raises:
            BenchError: A server that should have nothing to say has said something.
        """
        if self.quiet and Path(self._log.name).stat().st_size:
            raise BenchError(f"{self.name} complained{self.last_words()}")
        os.truncate(self._log.name, 0)

    def check(self) -> None:
        assert self._process is not None
        if (code := self._process.poll()) is not None:
            raise BenchError(f"{self.name} ended with {code}{self.last_words()}")

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        answer = "no answer"
        while time.monotonic() < deadline:
            self.check()
            try:
                probe = http.client.HTTPConnection(HOST, self.port, timeout=1)
                probe.request("GET", self.ready_path)
                status = probe.getresponse().status
                probe.close()
            except (OSError, http.client.HTTPException):
                pass
            else:
                if status in self.ready_statuses:
                    return
                answer = f"GET {self.ready_path} answers {status}"
            time.sleep(0.02)
        raise BenchError(
            f"{self.name} was not ready in {START_TIMEOUT_S:g} s: {answer}{self.last_words()}"
        )

    def last_words(self) -> str:
        """The end of the last line of the log that tells of an error, or of the last line."""
        with Path(self._log.name).open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - LAST_WORDS_IN))
            lines = [line.strip() for line in log.read().decode(errors="replace").splitlines()]
        faults = [line for line in lines if FAULT.search(line)]
        last = next((line for line in reversed(faults or lines) if line), "")
        return f" ({last[-LAST_WORDS_MAX:]})" if last else ""


class Gateway(Server):
    """wsgateway with default settings and the handlers in `bench/app`."""

    name = "gateway"
    ready_path = "/_wsgateway/health"
    ready_statuses = (200,)
    has_connections = True
    exit_codes = (0,)

    def command(self) -> Sequence[str]:
        command = ("-m", "wsgateway.cli", "serve", "bench/app")
        return (*command, "--port", str(self.port), "--stage", "dev")


class GatewaysOnRedis(Gateway):
    """Nodes that share a Redis: the port is the first one's, posts arrive at the last one's."""

    is_crowd = True

    def __init__(self, count: int, workers: int = 1) -> None:
        super().__init__()
        self.name = f"gateway ({count} x {workers} on Redis)"
        self.workers = workers
        self.ports = [self.port, *(free_port() for _ in range(1, count))]
        self.sink_ports = self.ports[-1:]
        self.redis_port = free_port()

    def command(self) -> Sequence[str]:
        command = ("-m", "bench.redis", "--redis-port", str(self.redis_port))
        return (*command, "--workers", str(self.workers), *map(str, self.ports))

    def _wait_until_ready(self) -> None:
        super()._wait_until_ready()
        deadline = time.monotonic() + START_TIMEOUT_S
        while not all(map(self._is_reachable, self.ports)):
            self.check()
            if time.monotonic() > deadline:
                raise BenchError(f"the nodes do not reach each other{self.last_words()}")
            time.sleep(0.05)

    def _is_reachable(self, port: int) -> bool:
        """Whether what is posted elsewhere reaches this node."""
        try:
            probe = http.client.HTTPConnection(HOST, port, timeout=1)
            probe.request("GET", self.ready_path)
            health = json.loads(probe.getresponse().read())
            probe.close()
        except (OSError, http.client.HTTPException):
            return False
        return bool(health.get("redis") == "reachable")


class Backed(Server):
    """A server in front of a backend, which it is told the port of."""

    def __init__(self) -> None:
        super().__init__()
        self.backend_port = free_port()
        self._backend: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._backend = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "bench.backend", str(self.backend_port)],
            cwd=ROOT,
            env=clean_environment(),
            process_group=0,
        )
        try:
            return super().__enter__()
        except BaseException:
            self._stop_backend()
            raise

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        self._stop_backend()

    def _stop_backend(self) -> None:
        assert self._backend is not None
        self._backend.terminate()
        self._backend.wait()


class GatewayBefore(Backed, Gateway):
    """wsgateway with the routes of `bench/backed.yaml`, each of which calls the backend."""

    def __init__(self, action: str) -> None:
        super().__init__()
        self.action = action
        self._folder = tempfile.TemporaryDirectory(prefix="bench-")

    def command(self) -> Sequence[str]:
        declared = (ROOT / "bench" / "backed.yaml").read_text(encoding="utf-8")
        file = Path(self._folder.name) / "api.yaml"
        for name, value in (("PORT", str(self.backend_port)), ("ACTION", self.action)):
            declared = declared.replace(f"<{name}>", value)
        file.write_text(declared, encoding="utf-8")
        return ("-m", "wsgateway.cli", "serve", str(file), "--port", str(self.port))

    def environment(self) -> dict[str, str]:
        return clean_environment() | {
            "AWS_ENDPOINT_URL": f"http://{HOST}:{self.backend_port}",
            "AWS_ACCESS_KEY_ID": "access-key",
            "AWS_SECRET_ACCESS_KEY": "secret",
        }

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        self._folder.cleanup()


class Caller(Backed):
    """One of the clients in `callers.py`."""

    ready_statuses = (200,)
    quiet = True
    job = "calls"

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def command(self) -> Sequence[str]:
        return ("-m", "bench.callers", self.name, str(self.port), str(self.backend_port))


class Reference(Server):
    """One of the servers in `references.py`."""

    quiet = True

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def command(self) -> Sequence[str]:
        return ("-m", "bench.references", self.name, str(self.port))
