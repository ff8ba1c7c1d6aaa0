"""How cost grows with nodes and with connections.

Fleets of one, two and four nodes, each with a Redis of its own (Valkey), hold idle connections,
spread evenly over the nodes: 1,000, then 5,000, then 15,000. Meanwhile other connections carry load,
as many on each node: they connect and disconnect; send messages that are replied to; receive posts
that were sent to another node, or to the same one where there is but one.

The first cell of the table is held throughout by a fleet more, the reference. Every round measures
all fleets and the reference, one after the other, and a ratio is that of a round to the reference's
in the same round. So the first cell is measured twice, and its ratios show how much is chance.

All nodes and all Redis have one core, the load generators another. So what a fleet could carry on
cores of its own is not measured: CPU time per operation is, with what sharing a core adds to it.
A full run takes about 8 minutes.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import resource
import signal
import statistics
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

from redis import Redis, RedisError
from rich.console import Console
from rich.table import Table

from bench import report
from bench.__main__ import PLAIN_WIDTH, at_least_one, positive
from bench.measure import BenchError
from bench.rows import SPARE_DESCRIPTORS, Load, Plan, Round
from bench.servers import HOST, GatewaysOnRedis

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

NODES = (1, 2, 4)
CONNECTIONS = (1_000, 5_000, 15_000)
FULL = Plan(rounds=9, seconds=1.0, warm_up_s=1.5, idle_rounds=3, idle_s=5.0)
QUICK = Plan(rounds=3, seconds=0.5, warm_up_s=0.5, idle_rounds=1, idle_s=4.0)
JOBS = ("connect", "message", "post")
# What is held longest is older than these by default, and must stay as it is.
PATIENCE = {"WSGATEWAY_IDLE_TIMEOUT_S": "3600", "WSGATEWAY_KEEP_ALIVE_TIMEOUT_S": "3600"}


@dataclass(frozen=True, slots=True)
class Column:
    """A figure of each cell."""

    key: str
    heading: str
    what: str
    unit: str
    digits: int = 0


COLUMNS = (
    Column(
        "connect",
        "connect and\ndisconnect, µs",
        "connect, $connect, close, $disconnect, with the registry in Redis",
        "µs",
    ),
    Column(
        "message",
        "message and\nreply, µs",
        "a message to an async in-process handler and its reply",
        "µs",
        1,
    ),
    Column(
        "post",
        "post to another\nnode, µs",
        "POST @connections to a connection of another node (one node: of its own)",
        "µs",
        1,
    ),
    Column(
        "memory",
        "memory per\nconnection, KB",
        "resident memory that the held connections added to the nodes, each; memory that a node "
        "has freed before is used first, and shows where a node holds few",
        "KB",
        1,
    ),
    Column(
        "redis-memory",
        "in Redis,\nbytes",
        "MEMORY USAGE of the nodes' entries, each",
        "bytes",
    ),
    Column(
        "background",
        "nothing to do,\nµs a second",
        "CPU time of all nodes and Redis while nothing is asked of them, leases above all",
        "µs/s",
    ),
)


@dataclass(slots=True)
class Figure:
    """The rounds of one cell's column, and the reference's beside them."""

    rounds: list[Round] = field(default_factory=list)
    reference: list[Round] = field(default_factory=list)

    @property
    def ratios(self) -> list[float]:
        pairs = zip(self.rounds, self.reference, strict=True)
        return [mine.value / beside.value for mine, beside in pairs if beside.value]


@dataclass(frozen=True, slots=True)
class Cell:
    """So many nodes that hold so many connections."""

    nodes: int
    connections: int
    figures: dict[str, Figure] = field(
        default_factory=lambda: {column.key: Figure() for column in COLUMNS}
    )

    @property
    def is_measured(self) -> bool:
        return all(figure.rounds for figure in self.figures.values())


class Nodes(GatewaysOnRedis):
    """Nodes each of which has its share of the load; posts arrive at the next one."""

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self.sink_ports = self.ports[1:] + self.ports[:1]

    @property
    def load_ports(self) -> Sequence[int]:
        return self.ports

    def environment(self) -> dict[str, str]:
        return super().environment() | PATIENCE


class Fleet:
    """Nodes and the load generators that work on them, a process for each job."""

    def __init__(self, nodes: int, plan: Plan) -> None:
        self.nodes = nodes
        self.server = Nodes(nodes)
        self._warm_up_s = plan.warm_up_s
        # As much for each node to do at once: what travels together is what makes it cheap.
        plan = dataclasses.replace(plan, connections=plan.connections * nodes)
        self._loads = {job: Load(self.server, job, plan) for job in ("idle", *JOBS)}
        self._stack = ExitStack()
        # What has been read of the connections that are held now.
        self.held: dict[str, Round] = {}

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self.server)
            for load in self._loads.values():
                stack.enter_context(load)
            for job in JOBS:
                self._loads[job].ask("open")
                self._loads[job].ask(f"run {self._warm_up_s}")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def hold(self, connections: int) -> None:
        """Opens the idle connections that lack, and weighs them."""
        raw = self._loads["idle"].ask(f"open {connections}")
        added = (raw["rss_after"] - raw["rss_before"]) / raw["connections"]
        entries = self._entries()
        self.held = {
            "memory": Round(added / 1024, raw),
            "redis-memory": Round(entries["bytes"] / entries["entries"], entries),
        }

    def watch(self, seconds: float) -> None:
        """Begins to; `watched` has what was seen."""
        self._loads["idle"].send(f"run {seconds}")

    def watched(self) -> Round:
        raw = self._loads["idle"].receive()
        return Round(raw["server_us"] / raw["seconds"], raw)

    def run(self, job: str, seconds: float) -> Round:
        raw = self._loads[job].ask(f"run {seconds}")
        if not raw["operations"]:
            raise BenchError(f"{self.server.name}: nothing was answered")
        return Round(raw["server_us"] / raw["operations"], raw)

    def _entries(self) -> dict[str, float]:
        """How many connections stand in Redis, and what memory they take there."""
        found = {"entries": 0.0, "bytes": 0.0}
        try:
            with Redis(HOST, self.server.redis_port) as redis:
                for key in redis.scan_iter("wsgateway:*:entries"):
                    found["entries"] += cast("int", redis.hlen(key))
                    found["bytes"] += cast("int", redis.memory_usage(key, samples=0))
                memory = cast("dict[str, Any]", redis.info("memory"))
        except RedisError as error:
            raise BenchError(f"{self.server.name}: Redis could not be asked: {error}") from error
        if not found["entries"]:
            raise BenchError(f"{self.server.name}: there are no entries in Redis")
        return found | {"used_memory": float(memory["used_memory"])}


class Growth:
    """One run. Cells are measured level by level: first all fleets with the fewest connections."""

    def __init__(self, nodes: Sequence[int], connections: Sequence[int], plan: Plan) -> None:
        self.connections = connections
        self.plan = plan
        self.reference = Fleet(nodes[0], plan)
        self.fleets = [Fleet(count, plan) for count in nodes]
        self.cells = {(n, held): Cell(n, held) for n in nodes for held in connections}

    @property
    def faults(self) -> list[str]:
        fleets = [self.reference, *self.fleets]
        return [fleet.server.fault for fleet in fleets if fleet.server.fault]

    def measure(self, progress: Callable[[str], None]) -> None:
        """Fills the cells.

        Raises:
            BenchError: Something ended or answered wrongly; cells before it are measured.
        """
        # One node holds them all, and beside them what carries load: four kinds of connections.
        needed = max(self.connections) + 4 * self.plan.connections + SPARE_DESCRIPTORS
        if needed > (allowed := resource.getrlimit(resource.RLIMIT_NOFILE)[1]):
            raise BenchError(
                f"{max(self.connections):,} connections need {needed:,} open files in a process, "
                f"the hard limit is {allowed:,} (ulimit -Hn)"
            )
        with ExitStack() as stack:
            for fleet in (self.reference, *self.fleets):
                progress(f"starting and warming up {fleet.server.name}")
                stack.enter_context(fleet)
            self.reference.hold(self.connections[0])
            for held in self.connections:
                self.measure_level(held, progress)
            progress("stopping")

    def measure_level(self, held: int, progress: Callable[[str], None]) -> None:
        for fleet in self.fleets:
            progress(f"{held:,} connections: opening those of {fleet.server.name}")
            fleet.hold(held)
            cell, beside = self.cells[fleet.nodes, held], self.reference.held
            for key, weighed in fleet.held.items():
                cell.figures[key] = Figure([weighed], [beside[key]])
        for number in range(self.plan.idle_rounds):
            progress(
                f"{held:,} connections: nothing to do, {number + 1} of {self.plan.idle_rounds}"
            )
            self.note("background", held, self.watch())
        for number in range(self.plan.rounds):
            for job in JOBS:
                progress(f"{held:,} connections: round {number + 1} of {self.plan.rounds}, {job}")
                everyone = (self.reference, *self.fleets)
                self.note(job, held, [fleet.run(job, self.plan.seconds) for fleet in everyone])

    def watch(self) -> list[Round]:
        """They have next to nothing to do, so they can be watched at the same time."""
        everyone = (self.reference, *self.fleets)
        for fleet in everyone:
            fleet.watch(self.plan.idle_s)
        return [fleet.watched() for fleet in everyone]

    def note(self, key: str, held: int, rounds: Sequence[Round]) -> None:
        """Keeps a round of all fleets; the first is the reference's."""
        for fleet, measured in zip(self.fleets, rounds[1:], strict=True):
            figure = self.cells[fleet.nodes, held].figures[key]
            figure.rounds.append(measured)
            figure.reference.append(rounds[0])


# --- what is printed


def shown(column: Column, rounds: Sequence[Round], ratios: Sequence[float] = ()) -> str:
    """The median, what of it was the nodes' and Redis', and the spread of the ratios or values."""
    values = [r.value for r in rounds]
    median, _, middle_half = report.spread(values, column.digits).partition(" ")
    lines = [median]
    if all("redis_us" in r.raw for r in rounds):
        redis = [r.value * r.raw["redis_us"] / r.raw["server_us"] for r in rounds]
        nodes = [value - part for value, part in zip(values, redis, strict=True)]
        parts = [f"{statistics.median(part):,.{column.digits}f}" for part in (nodes, redis)]
        lines.append(" + ".join(parts))
    if ratios:
        ratio, _, middle_half = report.spread(ratios, 2).partition(" ")
        lines.append(f"{ratio} x" + (f" {middle_half}" if len(ratios) > 1 else ""))
    elif len(values) > 1:
        lines.append(middle_half)
    return "\n".join(lines)


def table(growth: Growth) -> Table:
    made = Table(
        title="Median of the rounds; of it the nodes + Redis; beside the reference (middle half)",
        show_lines=True,
    )
    made.add_column("nodes", justify="right", no_wrap=True)
    made.add_column("connections", justify="right", no_wrap=True)
    for column in COLUMNS:
        made.add_column(column.heading, justify="right", no_wrap=True)
    cells = [cell for cell in growth.cells.values() if cell.is_measured]
    if cells:
        made.add_row(
            f"{growth.reference.nodes}\nreference",
            f"{growth.connections[0]:,}\nthroughout",
            *(shown(column, reference_rounds(cells, column)) for column in COLUMNS),
        )
    for cell in cells:
        figures = [(column, cell.figures[column.key]) for column in COLUMNS]
        made.add_row(
            f"{cell.nodes}",
            f"{cell.connections:,}",
            *(shown(column, figure.rounds, figure.ratios) for column, figure in figures),
        )
    return made


def reference_rounds(cells: Sequence[Cell], column: Column) -> list[Round]:
    """The reference's rounds of all levels, each once."""
    rounds = [r for cell in cells for r in cell.figures[column.key].reference]
    return list({id(r): r for r in rounds}.values())


def legend() -> str:
    lines = [f"{column.heading.replace(chr(10), ' ')}: {column.what}" for column in COLUMNS]
    return "\n".join(lines)


def load_note(growth: Growth) -> str:
    """What the load generators used of their core, and what others took of it."""
    rounds = [r for cell in growth.cells.values() for job in JOBS for r in cell.figures[job].rounds]
    used = max(r.share("load_us") for r in rounds)
    kept = statistics.median(r.share("load_delay_us") for r in rounds)
    return (
        f"A load generator used at most {used:.0%} of its core in a round, and others kept it from "
        f"that core for {kept:.0%} of the time (median)."
    )


def conditions(growth: Growth) -> dict[str, Any]:
    return report.conditions(growth.plan) | {
        "nodes": [fleet.nodes for fleet in growth.fleets],
        "held connections": growth.connections,
        "settings": PATIENCE,
    }


def summary(said: dict[str, Any]) -> str:
    plan = said["plan"]
    return (
        f"{report.machine(said)}\n"
        f"{plan['rounds']} rounds of {plan['seconds']:g} s over all fleets, each after "
        f"{plan['warm_up_s']:g} s of warm-up; messages of {said['message size']} bytes, "
        f"{plan['connections']} connections of each node that carry load, {plan['window']} messages "
        f"under way on each; nothing to do: {plan['idle_rounds']} x {plan['idle_s']:g} s.\n"
        "All nodes and Redis share one core; what is measured is CPU time (user and system) per "
        "operation. 1 KB is 1024."
    )


def as_json(growth: Growth, said: dict[str, Any]) -> dict[str, Any]:
    cells = []
    for cell in growth.cells.values():
        figures = {}
        for column in COLUMNS:
            figure = cell.figures[column.key]
            ratios = figure.ratios
            figures[column.key] = {
                "what": column.what,
                "unit": column.unit,
                "median": statistics.median(r.value for r in figure.rounds)
                if figure.rounds
                else None,
                "ratio": statistics.median(ratios) if ratios else None,
                "rounds": [dataclasses.asdict(r) for r in figure.rounds],
                "reference": [dataclasses.asdict(r) for r in figure.reference],
            }
        cells.append({"nodes": cell.nodes, "connections": cell.connections, "figures": figures})
    return {"conditions": said, "cells": cells}


# --- the command


def ascending(text: str) -> list[int]:
    return sorted({at_least_one(part) for part in text.split(",")})


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.growth",
        description=__doc__,
        epilog="Exit code: 0 when every cell was measured, and every server stopped as it should; "
        "otherwise 1.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--quick", action="store_true", help="under a minute: 1 and 2 nodes, 1,000 connections"
    )
    parser.add_argument(
        "--nodes",
        type=ascending,
        metavar="N,N",
        help=f"of the fleets (default {','.join(map(str, NODES))})",
    )
    parser.add_argument(
        "--connections",
        type=ascending,
        metavar="N,N",
        help=f"that are held (default {','.join(map(str, CONNECTIONS))})",
    )
    parser.add_argument(
        "--load",
        type=at_least_one,
        metavar="N",
        help=f"connections of each node that carry load (default {FULL.connections})",
    )
    parser.add_argument(
        "--rounds", type=at_least_one, metavar="N", help=f"per cell (default {FULL.rounds})"
    )
    parser.add_argument(
        "--seconds", type=positive, metavar="S", help=f"per round (default {FULL.seconds:g})"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every round to FILE")
    options = parser.parse_args(arguments)
    if options.json and not options.json.parent.is_dir():
        parser.error(f"no such directory: {options.json.parent}")
    options.nodes = options.nodes or ((1, 2) if options.quick else NODES)
    options.connections = options.connections or CONNECTIONS[: 1 if options.quick else None]
    return options


def main() -> int:
    options = parse()
    # So that the servers are stopped too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    plan = QUICK if options.quick else FULL
    plan = dataclasses.replace(
        plan,
        rounds=options.rounds or plan.rounds,
        seconds=options.seconds or plan.seconds,
        connections=options.load or plan.connections,
        idle_connections=max(options.connections),
    )
    console = Console()
    if not console.is_terminal:
        console = Console(width=PLAIN_WIDTH)
    growth = Growth(options.nodes, options.connections, plan)
    said = conditions(growth)
    wrong = []
    try:
        with console.status("starting") as status:
            growth.measure(progress=status.update)
    except BenchError as error:
        wrong.append(f"not measured: {error}")
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    wrong += [fault for fault in growth.faults if not any(fault in said for said in wrong)]
    if any(cell.is_measured for cell in growth.cells.values()):
        console.print(table(growth))
        console.print(legend(), style="dim", markup=False, highlight=False)
        console.print(load_note(growth), markup=False, highlight=False)
    console.print(summary(said), style="dim", markup=False, highlight=False)
    for fault in wrong:
        console.print(fault, style="yellow", markup=False)
    if options.json:
        options.json.write_text(json.dumps(as_json(growth, said), indent=1) + "\n")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
