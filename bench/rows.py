"""The rows: what is compared with what, how it is measured, and which bar it has to meet.

Both servers of a row stay up while rounds alternate between them, each with a load generator of its
own that does the same to it. Memory needs fresh processes, so its rounds start their servers anew.
"""

from __future__ import annotations

import json
import resource
import select
import statistics
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from bench.measure import BenchError
from bench.servers import (
    ROOT,
    Caller,
    Gateway,
    GatewayBefore,
    GatewaysOnRedis,
    Reference,
    Server,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ANSWER_TIMEOUT_S = 180.0  # opening 10,000 connections on a busy machine takes its time
STOP_TIMEOUT_S = 15.0
SPARE_DESCRIPTORS = 200
BUSY = 0.95  # of a core: as good as all of it
DISTURBED = 0.05  # of the time: enough to spread the rounds


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how hard to measure.

    Many short rounds rather than a few long ones: on a shared machine the same server's cost drifts
    by a third within seconds. Beside themselves, references came out between 0.89 and 1.04 with 5
    rounds of 4 s, between 0.98 and 1.05 with 15 of 1.25 s, while others used the machine too.
    """

    rounds: int = 15
    seconds: float = 1.25
    warm_up_s: float = 2.0
    connections: int = 32
    window: int = 4
    idle_rounds: int = 5
    idle_connections: int = 10_000
    idle_s: float = 10.0


QUICK = Plan(
    rounds=5, seconds=0.6, warm_up_s=0.5, idle_rounds=3, idle_connections=2_000, idle_s=3.0
)


@dataclass(frozen=True, slots=True)
class Row:
    """One comparison. `bar` bounds gateway / reference, `bound` the gateway's own figure."""

    key: str
    what: str
    beside: str
    unit: str
    job: str  # of bench.jobs
    reference: Callable[[], Server]
    gateway: Callable[[], Server] = Gateway
    bar: float | None = None
    bound: float | None = None


ROWS = (
    Row(
        key="message",
        what="a message to an async in-process handler and its reply",
        beside="a bare echo on the websockets asyncio server",
        unit="µs",
        job="message",
        reference=lambda: Reference("websockets-echo"),
        bar=1.5,
    ),
    Row(
        key="http",
        what="a message to an HTTP_PROXY backend and its reply",
        beside="an aiohttp client that calls the same backend by itself",
        unit="µs",
        job="message",
        gateway=lambda: GatewayBefore("http"),
        reference=lambda: Caller("aiohttp"),
        bar=1.6,
    ),
    Row(
        key="lambda",
        what="a message to a Lambda function (AWS_PROXY) and its reply",
        beside="an aioboto3 client that invokes the same function by itself",
        unit="µs",
        job="message",
        gateway=lambda: GatewayBefore("lambda"),
        reference=lambda: Caller("aioboto3"),
    ),
    Row(
        key="post",
        what="POST @connections to a connection of this process",
        beside="uvicorn and raw ASGI, the same body read, an empty 200",
        unit="µs",
        job="post",
        reference=lambda: Reference("uvicorn-post"),
        bar=2.0,
    ),
    Row(
        key="memory",
        what="resident memory per idle connection",
        beside="the websockets asyncio server",
        unit="KB",
        job="idle",
        reference=lambda: Reference("websockets-idle"),
        bar=0.7,
        bound=8.0,
    ),
    Row(
        key="cpu",
        what="CPU time per second and idle connection",
        beside="the websockets asyncio server",
        unit="µs/s",
        job="idle",
        reference=lambda: Reference("websockets-idle"),
        bound=1.0,
    ),
    Row(
        key="connect",
        what="connect, $connect handler, close, $disconnect handler",
        beside="connect and close on the websockets asyncio server",
        unit="µs",
        job="connect",
        reference=lambda: Reference("websockets-echo"),
        bar=1.5,
    ),
    Row(
        key="remote",
        what="POST @connections to a connection of another node, both nodes and Redis",
        beside="the same to a connection of this node, and Redis",
        unit="µs",
        job="post",
        gateway=lambda: GatewaysOnRedis(2),
        reference=lambda: GatewaysOnRedis(1),
        bar=6.0,
    ),
    Row(
        key="connect-redis",
        what="connect, $connect, close, $disconnect with the registry in Redis, and Redis",
        beside="the same with the registry in memory",
        unit="µs",
        job="connect",
        gateway=lambda: GatewaysOnRedis(1),
        reference=Gateway,
        bar=1.5,
    ),
    Row(
        key="message-workers",
        what="a message to an async in-process handler and its reply, two workers, and Redis",
        beside="the same with one worker, and Redis",
        unit="µs",
        job="message",
        gateway=lambda: GatewaysOnRedis(1, workers=2),
        reference=lambda: GatewaysOnRedis(1),
        bar=1.1,
    ),
)


@dataclass(frozen=True, slots=True)
class Round:
    """One measurement of one server: the row's figure, and the numbers that it was made from."""

    value: float
    raw: dict[str, float]

    def share(self, name: str) -> float:
        """What part of the round's time a time was: 1.0 is a whole core."""
        return self.raw.get(name, 0.0) / self.raw["seconds"] / 1e6


@dataclass(slots=True)
class Result:
    """A row's rounds, or why there are none."""

    row: Row
    gateway: list[Round] = field(default_factory=list)
    reference: list[Round] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)  # measured, but something went wrong
    error: str | None = None  # not measured

    @property
    def ratios(self) -> list[float]:
        """Round by round, because what the machine does to one it does to the next."""
        pairs = zip(self.gateway, self.reference, strict=True)
        return [gateway.value / reference.value for gateway, reference in pairs if reference.value]

    @property
    def ratio(self) -> float | None:
        """The row's ratio; None where the reference costs nothing."""
        return statistics.median(self.ratios) if self.ratios else None

    def misses(self) -> list[str]:
        """By how much each bar is missed."""
        found = []
        median, ratio = statistics.median(r.value for r in self.gateway), self.ratio
        if self.row.bound is not None and median > self.row.bound:
            over = median / self.row.bound - 1
            found.append(f"by {median - self.row.bound:.2f} {self.row.unit} ({over:.0%})")
        if self.row.bar is not None and ratio is not None and ratio > self.row.bar:
            found.append(f"by {ratio - self.row.bar:.2f} x ({ratio / self.row.bar - 1:.0%})")
        return found


class Load:
    """A load generator that works on a server: entering starts it, leaving stops it."""

    def __init__(self, server: Server, job: str, plan: Plan) -> None:
        self.server = server
        self.job = job
        self.connections = plan.idle_connections if job == "idle" else plan.connections
        self.window = plan.window
        self._load: subprocess.Popen[str]

    def __enter__(self) -> Self:
        server = self.server
        command = [sys.executable, "-m", server.generator, server.job or self.job]
        command += ["--ports", *map(str, server.load_ports), "--pid", str(server.pid)]
        command += ["--connections", str(self.connections), "--window", str(self.window)]
        command += ["--sinks"] if server.has_connections else []
        command += ["--sink-ports", *map(str, server.sink_ports)] if server.sink_ports else []
        self._load = subprocess.Popen(  # noqa: S603
            command,
            cwd=ROOT,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            process_group=0,
        )
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._load.communicate(timeout=STOP_TIMEOUT_S)  # the end of its input ends it
        except subprocess.TimeoutExpired:
            self._load.kill()
            self._load.communicate()

    def send(self, command: str) -> None:
        assert self._load.stdin is not None
        self._load.stdin.write(command + "\n")
        self._load.stdin.flush()

    def receive(self) -> dict[str, float]:
        """The generator's answer.

        Raises:
            BenchError: The generator saw something wrong, ended, or is silent.
        """
        assert self._load.stdout is not None
        ready, _, _ = select.select([self._load.stdout], [], [], ANSWER_TIMEOUT_S)
        self.server.check()
        if not ready or not (line := self._load.stdout.readline()):
            self._load.kill()
            raise BenchError(f"the load generator {'ended' if ready else 'is stuck'}")
        answer = json.loads(line)
        if "error" in answer:
            raise BenchError(f"{self.server.name}: {answer['error']}{self.server.last_words()}")
        self.server.trim_log()
        if self.server.is_crowd and "server_delay_us" in answer:
            # Most of it is its own processes', and says nothing about others.
            answer["crowd_delay_us"] = answer.pop("server_delay_us")
        return {name: float(value) for name, value in answer.items()}

    def ask(self, command: str) -> dict[str, float]:
        self.send(command)
        return self.receive()


class Side(Load):
    """A server and the load generator that works on it."""

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self.server)
            super().__enter__()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        with self._stack:
            super().__exit__(*error)


def measure(
    rows: Sequence[Row], plan: Plan, progress: Callable[[str], None] = lambda _: None
) -> list[Result]:
    """The rows' results in order; what one cannot measure does not keep the others from it."""
    results = {row.key: Result(row) for row in rows}
    # Memory and idle CPU are two readings of the same connections.
    idle = [row for row in rows if row.job == "idle"]
    groups = [[row] for row in rows if row.job != "idle"] + ([idle] if idle else [])
    for group in groups:
        measured = [results[row.key] for row in group]
        try:
            if group is idle:
                measure_idle(measured, plan, progress)
            else:
                measure_load(measured[0], plan, progress)
        except BenchError as error:
            for result in measured:
                result.error = str(error)
    for result in results.values():
        if not result.error:
            result.notes += latencies(result) + doubts(result, plan)
    return list(results.values())


def measure_load(result: Result, plan: Plan, progress: Callable[[str], None]) -> None:
    row = result.row
    pair = [Side(make(), row.job, plan) for make in (row.gateway, row.reference)]
    try:
        with pair[0], pair[1]:
            for side in pair:
                progress(f"{row.key}: warming up")
                side.ask("open")
                side.ask(f"run {plan.warm_up_s}")
            for number in range(plan.rounds):
                progress(f"{row.key}: round {number + 1} of {plan.rounds}")
                for side, rounds in zip(pair, (result.gateway, result.reference), strict=True):
                    raw = side.ask(f"run {plan.seconds}")
                    if not raw["operations"]:
                        raise BenchError(f"{side.server.name}: nothing was answered")
                    rounds.append(Round(raw["server_us"] / raw["operations"], raw))
    finally:
        result.faults += [side.server.fault for side in pair if side.server.fault]


def measure_idle(results: list[Result], plan: Plan, progress: Callable[[str], None]) -> None:
    needed = plan.idle_connections + SPARE_DESCRIPTORS
    if needed > (allowed := resource.getrlimit(resource.RLIMIT_NOFILE)[1]):
        raise BenchError(f"needs {needed} open files, the hard limit is {allowed}")
    row = results[0].row
    faults: set[str] = set()
    for number in range(plan.idle_rounds):
        progress(f"idle connections: round {number + 1} of {plan.idle_rounds}")
        pair = [Side(make(), row.job, plan) for make in (row.gateway, row.reference)]
        with pair[0], pair[1]:
            opened = [side.ask("open") for side in pair]
            # The servers have next to nothing to do, so they can be watched at the same time.
            for side in pair:
                side.send(f"run {plan.idle_s}")
            watched = [side.receive() for side in pair]
        faults |= {side.server.fault for side in pair if side.server.fault}
        for result in results:
            readings = [read_idle(result.row, *raws) for raws in zip(opened, watched, strict=True)]
            result.gateway.append(readings[0])
            result.reference.append(readings[1])
    for result in results:
        result.faults += sorted(faults)


def read_idle(row: Row, opened: dict[str, float], watched: dict[str, float]) -> Round:
    raw = opened | watched
    if row.key == "memory":
        value = (raw["rss_after"] - raw["rss_before"]) / raw["connections"] / 1024
    else:
        value = raw["server_us"] / raw["seconds"] / raw["connections"]
    return Round(value, raw)


def latencies(result: Result) -> list[str]:
    """How long posts took, under the load that fills the server's core."""
    found = []
    for name, rounds in (("gateway", result.gateway), ("reference", result.reference)):
        if all("latency_p50_us" in r.raw for r in rounds):
            half, most = (
                statistics.median(r.raw[f"latency_p{p}_us"] for r in rounds) / 1000
                for p in (50, 99)
            )
            found.append(f"posts to the {name} took {half:.2f} ms (p50) and {most:.2f} ms (p99)")
    return found


def doubts(result: Result, plan: Plan) -> list[str]:
    """What speaks against the figures: a generator that was too slow, a machine that was busy."""
    found = []
    usual = Plan().idle_connections
    if result.row.key == "cpu" and plan.idle_connections < usual:
        found.append(
            f"what a server does every second whatever is connected is shared by "
            f"{plan.idle_connections:,} connections here, by {usual:,} in a full run"
        )
    for name, rounds in (("gateway", result.gateway), ("reference", result.reference)):
        if result.row.key == "memory":
            continue
        load, server, load_delay, server_delay = (
            statistics.median(r.share(time) for r in rounds)
            for time in ("load_us", "server_us", "load_delay_us", "server_delay_us")
        )
        if load > BUSY > server:
            found.append(
                f"the load generator was the bottleneck for the {name}: it used {load:.0%} of its "
                f"core, the server {server:.0%}"
            )
        delays = ((name, server_delay), ("load generator", load_delay))
        kept = [f"the {who} for {delay:.0%}" for who, delay in delays if delay > DISTURBED]
        if kept:
            found.append(
                f"other processes kept {' and '.join(kept)} of the time from its core ({name})"
            )
    return found
