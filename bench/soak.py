"""Breaks a cluster at random for minutes, and counts what came of it: `make soak`.

Nodes, Redis and clients are real, on this machine. Clients whose connection ends connect again to
another node, posts go to clients through all nodes, and every 20 seconds something breaks. In the
end all clients leave, and the counts must balance: exit code 1 says that they do not.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import uvloop
from rich.console import Console
from rich.table import Table
from websockets.exceptions import WebSocketException

from bench.measure import cpu_model, load_average, raise_file_limit
from tests.cluster.load import Load
from tests.cluster.nodes import (
    DEADLINE_S,
    FAILED,
    GONE,
    NO_ANSWER,
    OK,
    Client,
    Event,
    Fleet,
    Node,
)
from tests.cluster.valkey import Server
from tests.e2e.process import until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

NODES = 3
FAULT_EVERY_S = 20.0
RETRY_PAUSE_S = 0.2
CONCURRENCY_MAX = 100
NORMAL_CLOSURE = 1000


class Row(NamedTuple):
    """A count, and what it must be; None where it is only told."""

    what: str
    number: int
    must_be: str | None = None
    is_met: bool = True


def must_be(what: str, number: int, expected: int = 0) -> Row:
    return Row(what, number, f"{expected:,}", number == expected)


class Soak:
    """One run."""

    def __init__(self, fleet: Fleet, redis: Server, options: argparse.Namespace) -> None:
        self.fleet = fleet
        self.redis = redis
        self.lease_s: float = options.lease
        self.count: int = options.clients
        self.posters: int = options.posters
        self.faults: Counter[str] = Counter()
        self.say = Console(stderr=True, highlight=False).print
        # Nodes to which a load balancer would send.
        self.serving: list[Node] = []
        self.open: list[Client] = []
        self.every: list[Client] = []
        self.hit: set[Node] = set()
        self.refused: Counter[str] = Counter()
        self.stopping = False

    # --- clients

    async def keep_connected(self) -> None:
        """Be one client: connect, and connect again whenever the connection ends."""
        while not self.stopping:
            node = random.choice(self.serving)  # noqa: S311 - no secret
            try:
                async with asyncio.timeout(DEADLINE_S):
                    [client] = await self.fleet.connect(node, 1)
            except (OSError, TimeoutError, EOFError, WebSocketException) as error:
                self.refused[type(error).__name__] += 1
                await asyncio.sleep(RETRY_PAUSE_S)
                continue
            self.every.append(client)
            self.open.append(client)
            assert client.reading is not None
            await asyncio.shield(client.reading)
            self.open.remove(client)

    # --- faults

    async def kill_a_node(self) -> None:
        node = self.take_out()
        node.process.signal(signal.SIGKILL)
        await node.process.ended()
        self.fleet.remove(node)
        await self.put_in()

    async def restart_a_node(self) -> None:
        node = self.take_out()
        node.process.signal(signal.SIGTERM)
        if code := await node.process.ended(2 * DEADLINE_S):
            raise AssertionError(f"a node ended with {code} after SIGTERM")
        self.fleet.remove(node)
        await self.put_in()

    async def stop_a_node_for_two_leases(self) -> None:
        node = self.take_out()
        node.process.signal(signal.SIGSTOP)
        await asyncio.sleep(2 * self.lease_s)
        node.process.signal(signal.SIGCONT)
        await until(node.accepts, DEADLINE_S)
        self.serving.append(node)

    async def stop_redis_for_two_leases(self) -> None:
        self.redis.pause()
        await asyncio.sleep(2 * self.lease_s)
        self.redis.resume()

    async def replace_redis_by_an_empty_one(self) -> None:
        os.kill(self.redis.pid, signal.SIGKILL)
        await asyncio.to_thread(self.redis.restart)

    def take_out(self) -> Node:
        node = random.choice(self.serving)  # noqa: S311 - no secret
        self.serving.remove(node)
        self.hit.add(node)
        return node

    async def put_in(self) -> None:
        self.serving += await self.fleet.start()

    async def break_things(self, minutes: float) -> None:
        """Let every fault happen once before any happens twice."""
        ends_at = time.monotonic() + 60 * minutes
        kinds: list[Callable[[], Awaitable[None]]] = []
        while (began_at := time.monotonic()) + FAULT_EVERY_S < ends_at:
            if not kinds:
                kinds = [
                    self.kill_a_node,
                    self.restart_a_node,
                    self.stop_a_node_for_two_leases,
                    self.stop_redis_for_two_leases,
                    self.replace_redis_by_an_empty_one,
                ]
                random.shuffle(kinds)
            fault = kinds.pop()
            name = fault.__name__.replace("_", " ")
            await fault()
            self.faults[name] += 1
            self.say(
                f"{name}: {len(self.open)} of {self.count} clients are connected",
                f"after {time.monotonic() - began_at:.1f} s",
            )
            await asyncio.sleep(max(0, began_at + FAULT_EVERY_S - time.monotonic()))

    # --- the run

    async def run(self, minutes: float) -> list[Row]:
        """Run, and return what is to balance."""
        self.serving += await self.fleet.start(NODES)
        keepers = [asyncio.create_task(self.keep_connected()) for _ in range(self.count)]
        await until(lambda: len(self.open) == self.count, 120)
        self.say(f"{self.count} clients are connected")
        # These lists change while posts go on.
        async with Load(self.fleet, self.open, self.serving, posters=self.posters, tries=3) as load:
            await self.break_things(minutes)
            await until(lambda: len(self.open) == self.count, 120)
            await load.flows(time.monotonic())
        self.stopping = True
        stayed = list(self.open)
        load.clients = self.every
        lost_with_connection, missing = await self.undelivered(load)
        await asyncio.gather(*(client.connection.close() for client in stayed))
        await asyncio.gather(*keepers)
        with suppress(TimeoutError):
            await self.fleet.told_of(self.every)
        return [
            *self.connection_rows(stayed),
            *self.post_rows(load, stayed, lost_with_connection, missing),
            *await self.leak_rows(),
        ]

    async def undelivered(self, load: Load) -> tuple[int, int]:
        """Return how many posts that were answered 200 were not received.

        Returns:
            By clients whose connection has ended, and by those whose connection has not.
        """
        with suppress(TimeoutError):
            await until(lambda: not load.missing(of_gone=False), DEADLINE_S)
        return len(load.missing(of_gone=True)), len(load.missing(of_gone=False))

    def connection_rows(self, stayed: list[Client]) -> list[Row]:
        events: dict[str, list[Event]] = {}
        for event in self.fleet.disconnects():
            events.setdefault(event.connection_id, []).append(event)
        none: list[Event] = []
        calls = {client: events.get(client.connection_id, none) for client in self.every}
        stayers = set(stayed)
        unharmed = [c for c in self.every if c not in stayers and c.node not in self.hit]
        known = {client.connection_id for client in self.every}
        let_in = {event.connection_id for event in self.fleet.connects()}
        unknown = let_in - known - self.fleet.probes
        deaths = self.faults["kill a node"]
        twice = sum(len(of) > 1 for of in calls.values())
        return [
            Row("connections", len(self.every)),
            Row("  handshakes that failed, and were tried again", self.refused.total()),
            must_be("  that ended although nothing was done to their node", len(unharmed)),
            must_be("  with the same id as another", len(self.every) - len(known)),
            must_be(
                "$disconnect: connections with one", sum(map(bool, calls.values())), len(known)
            ),
            Row(
                "  connections with a second call",
                twice,
                f"at most {CONCURRENCY_MAX} per kill",
                twice <= CONCURRENCY_MAX * deaths,
            ),
            must_be(
                "  connections with a second requestId",
                sum(len({event.request_id for event in of}) > 1 for of in calls.values()),
            ),
            must_be(
                "  before the client left",
                sum(any(e.code != NORMAL_CLOSURE for e in calls[client]) for client in stayed),
            ),
            Row(
                "$connect: let in, and the handshake failed",
                len(unknown),
            ),
            Row("  of these without a $disconnect", len(unknown - events.keys())),
            must_be("$disconnect of a connection that never was", len(events.keys() - let_in)),
        ]

    def post_rows(
        self, load: Load, stayed: list[Client], lost_with_connection: int, missing: int
    ) -> list[Row]:
        of_stayed = load.statuses(stayed)
        answers = load.statuses()
        return [
            Row("posts", len(load.posts)),
            Row("  answered 200", answers[OK]),
            must_be("    not received, client still connected", missing),
            Row("    not received, connection has ended since", lost_with_connection),
            Row("  answered 410", answers[GONE]),
            must_be("    client still connected", of_stayed[GONE]),
            Row("  answered 500", answers[FAILED]),
            Row("  without an answer", answers[NO_ANSWER]),
            must_be(
                "  answered otherwise",
                answers.total() - sum(answers[s] for s in (OK, GONE, FAILED, NO_ANSWER)),
            ),
            must_be("  received more often than 200 and 500 allow", len(load.too_often())),
        ]

    async def leak_rows(self) -> list[Row]:
        await self.fleet.session.close()
        leaks, complaints = [], []
        for node in self.fleet.nodes:
            try:
                await self.fleet.is_idle(node)
            except AssertionError as error:
                leaks.append(str(error))
            complaints += [line for line in node.complaints if "given up by" not in line]
        for text in {*leaks, *complaints}:
            self.say(text)
        return [
            must_be("nodes with connections, calls, tasks or descriptors left", len(leaks)),
            must_be("errors in their logs", len(complaints)),
        ]


def show(rows: list[Row], soak: Soak, options: argparse.Namespace) -> None:
    faults = ", ".join(f"{count} x {name}" for name, count in sorted(soak.faults.items()))
    table = Table(
        title=f"{options.minutes:g} minutes, {NODES} nodes, {options.clients:,} clients, "
        f"lease {options.lease:g} s\n{faults}",
        title_justify="left",
    )
    table.add_column("count of")
    table.add_column("is", justify="right")
    table.add_column("must be", justify="right")
    table.add_column("")
    for row in rows:
        verdict = "" if row.must_be is None else "ok" if row.is_met else "WRONG"
        table.add_row(row.what, f"{row.number:,}", row.must_be or "", verdict)
    console = Console(width=None if sys.stdout.isatty() else 110)
    console.print(table)
    console.print(f"{cpu_model()}, {os.cpu_count()} cores, load {load_average()}", highlight=False)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.soak",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="how long (default 10)")
    parser.add_argument("--clients", type=int, default=3000, help="how many (default 3000)")
    parser.add_argument("--posters", type=int, default=8, help="posts at once (default 8)")
    parser.add_argument(
        "--lease", type=float, default=2.0, help="lease time in seconds (default 2)"
    )
    return parser.parse_args(arguments)


async def measure(options: argparse.Namespace) -> int:
    settings = {
        "lease_s": options.lease,
        "redis_timeout_s": options.lease / 2,
        "delivery_timeout_s": options.lease,
        "disconnect_concurrency_max": CONCURRENCY_MAX,
    }
    with tempfile.TemporaryDirectory(prefix="soak-") as folder, Server() as redis:
        async with Fleet(Path(folder), redis.url, settings=settings) as fleet:
            soak = Soak(fleet, redis, options)
            rows = await soak.run(options.minutes)
    show(rows, soak, options)
    return 0 if all(row.is_met for row in rows) else 1


def main() -> None:
    options = parse()
    raise_file_limit()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        sys.exit(runner.run(measure(options)))


if __name__ == "__main__":
    main()
