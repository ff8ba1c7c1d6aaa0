"""Measures servers of others beside the gateway, in the rows of `python -m bench`.

Same load generator, same payload, same figure: the CPU time that the operating system counts for
all the server's processes, per message. Each peer alternates with a gateway of its own, so that both
see the same machine. They do not do the same: what each does with a message is in the table.

Peers are installed into build/peers, with npm and from Debian's packages, which are unpacked there
and not installed. One that cannot be had is left out, with what is missing.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import signal
import statistics
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from bench import report
from bench.__main__ import PLAIN_WIDTH, at_least_one, positive
from bench.measure import BenchError
from bench.peers.installed import CACHE
from bench.peers.servers import PEERS, Absent, Peer, PeerServer, set_up
from bench.rows import QUICK, ROWS, Plan, Result, Row, measure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.rows import Round

NOTABLE = 0.01  # of a peer's CPU time
DELAYED = "kept the reference from its core"  # in a note of bench.rows
ROW_BY_KEY = {row.key: row for row in ROWS}


class Entry:
    """A peer and what came of it."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.versions: str | None = None
        self.absent: str | None = None
        self.result: Result | None = None
        self.servers: list[PeerServer] = []

    @property
    def failed(self) -> bool:
        return self.result is not None and bool(self.result.error or self.result.faults)

    @property
    def shares(self) -> dict[str, float]:
        return self.servers[-1].shares if self.servers else {}

    def set_up(self) -> None:
        try:
            self.versions = set_up(self.peer)
        except Absent as absent:
            self.absent = str(absent)
        except BenchError as error:
            self.result = Result(self.row(), error=str(error))

    def row(self) -> Row:
        kind = ROW_BY_KEY[self.peer.row]
        return dataclasses.replace(
            kind,
            key=self.peer.name,
            beside=f"{self.peer.title}: {self.peer.what}",
            reference=self.server,
            bar=None,
        )

    def server(self) -> PeerServer:
        self.servers.append(PeerServer(self.peer))
        return self.servers[-1]

    def notes(self) -> list[str]:
        if self.absent:
            return [f"{self.peer.title} was skipped: {self.absent}"]
        if self.result is None:
            return []
        found = [f"not measured: {self.result.error}"] if self.result.error else []
        found += [*self.result.faults, *self.result.notes]
        if self.peer.parallel:
            # What its own threads and processes wait for each other would count too.
            found = [note for note in found if DELAYED not in note]
        return [f"{self.peer.title}: {note}".replace("reference", "peer") for note in found]


def microseconds(rounds: Sequence[Round]) -> str:
    return report.spread([r.value for r in rounds], digits=1)


def markdown(entries: Sequence[Entry], said: dict[str, Any]) -> str:
    """The fragment for docs/performance.md."""
    lines: list[str] = []
    for kind in ROWS:
        members = [entry for entry in entries if entry.peer.row == kind.key]
        if not members:
            continue
        lines += [
            f"Gateway: {kind.what}.",
            "",
            "| Peer | What it does | Its µs | Gateway's µs | Less CPU |",
            "| --- | --- | --- | --- | --- |",
        ]
        lines += [markdown_row(entry) for entry in members]
        lines.append("")
    lines += [f"- {entry.peer.title}: {about(entry)}." for entry in entries if entry.versions]
    lines += [f"- {note.rstrip('.')}." for entry in entries for note in entry.notes()]
    lines += ["", conditions(said)]
    return "\n".join(lines) + "\n"


def markdown_row(entry: Entry) -> str:
    result, head = entry.result, f"| {entry.peer.title} | {entry.peer.what} |"
    if result is None or result.error or result.ratio is None:
        return f"{head} not measured | | |"
    # Round by round, as everywhere in the bench.
    cheaper, times = ("gateway", 1 / result.ratio) if result.ratio < 1 else ("peer", result.ratio)
    return (
        f"{head} {microseconds(result.reference)} | {microseconds(result.gateway)} | "
        f"{cheaper}, by {times:.3g} x |"
    )


def conditions(said: dict[str, Any]) -> str:
    """The conditions in a paragraph."""
    plan, versions, load = said["plan"], said["versions"], said["machine load before"]
    return (
        f"{said['cpu']}, server on core {said['server core']}, load generator on core "
        f"{said['load generator core']}, load average before {load['1 min']:.2f}. "
        f"Python {said['python']}, wsgateway {versions['wsgateway']}, uvloop {versions['uvloop']}. "
        f"Median (and middle half) of {plan['rounds']} alternating rounds of "
        f"{plan['seconds']:g} s after {plan['warm_up_s']:g} s of warm-up; messages of "
        f"{said['message size']} bytes, {plan['connections']} connections; messages under way on "
        f"each: {plan['window']}, posts: 1. CPU time is user and system, of all processes of the "
        "server; the ratio is that of each round to its neighbour."
    )


def about(entry: Entry) -> str:
    found = [entry.versions or "", entry.peer.settings]
    notable = {name: share for name, share in entry.shares.items() if share >= NOTABLE}
    if len(notable) > 1:
        parts = sorted(notable.items(), key=lambda item: -item[1])
        found.append("of its CPU time " + ", ".join(f"{n} has {s:.0%}" for n, s in parts))
    return "; ".join(found)


def as_json(entries: Sequence[Entry], said: dict[str, Any]) -> dict[str, Any]:
    measured = [entry.result for entry in entries if entry.result is not None]
    found = report.as_json(measured, said)
    for entry in entries:
        found["rows"].setdefault(entry.peer.name, {})
        result = entry.result
        found["rows"][entry.peer.name] |= {
            "title": entry.peer.title,
            "bench row": entry.peer.row,
            "versions": entry.versions,
            "settings": entry.peer.settings,
            "skipped": entry.absent,
            "shares of cpu": entry.shares,
            "operations per second": result
            and {
                name: statistics.median(r.raw["operations"] / r.raw["seconds"] for r in rounds)
                for name, rounds in (("gateway", result.gateway), ("peer", result.reference))
                if rounds
            },
        }
    return found


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.peers",
        description=__doc__,
        epilog="Exit code: 0 when every peer that can be had was measured, whoever costs less.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = [peer.name for peer in PEERS]
    full = Plan()
    parser.add_argument("--peers", default=",".join(names), metavar="PEER,PEER", help="only these")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    parser.add_argument(
        "--rounds", type=at_least_one, metavar="N", help=f"per side (default {full.rounds})"
    )
    parser.add_argument(
        "--seconds", type=positive, metavar="S", help=f"per round (default {full.seconds:g})"
    )
    parser.add_argument(
        "--connections", type=at_least_one, metavar="N", help=f"(default {full.connections})"
    )
    parser.add_argument(
        "--window",
        type=at_least_one,
        metavar="N",
        help=f"messages under way on each of them (default {full.window})",
    )
    parser.add_argument("--set-up", action="store_true", help="install, and measure nothing")
    parser.add_argument(
        "--json", type=Path, default=CACHE / "result.json", metavar="FILE", help="(%(default)s)"
    )
    parser.add_argument(
        "--markdown", type=Path, default=CACHE / "result.md", metavar="FILE", help="(%(default)s)"
    )
    options = parser.parse_args()
    options.peers = options.peers.split(",")
    if unknown := [name for name in options.peers if name not in names]:
        parser.error(f"no such peer: {', '.join(unknown)} (there are {', '.join(names)})")
    return options


def planned(options: argparse.Namespace) -> Plan:
    chosen = {
        name: value
        for name in ("rounds", "seconds", "connections", "window")
        if (value := getattr(options, name)) is not None
    }
    return dataclasses.replace(QUICK if options.quick else Plan(), **chosen)


def main() -> int:
    options = parse()
    # So that the servers are stopped too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    console = Console()
    if not console.is_terminal:
        console = Console(width=PLAIN_WIDTH)
    by_name = {peer.name: peer for peer in PEERS}
    entries = [Entry(by_name[name]) for name in options.peers]
    plan = planned(options)
    with console.status("setting up") as status:
        for entry in entries:
            status.update(f"setting up {entry.peer.title}")
            entry.set_up()
        said = report.conditions(plan)
        if not options.set_up:
            there = [entry for entry in entries if entry.versions]
            rows = [entry.row() for entry in there]
            try:
                results = measure(rows, plan, progress=status.update)
            except KeyboardInterrupt:
                return 128 + signal.SIGINT
            for entry, result in zip(there, results, strict=True):
                entry.result = result
    if options.set_up:
        for entry in entries:
            console.print(f"{entry.peer.title}: {entry.versions or 'not here'}", markup=False)
    else:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(as_json(entries, said), indent=1) + "\n")
        options.markdown.parent.mkdir(parents=True, exist_ok=True)
        options.markdown.write_text(text := markdown(entries, said))
        console.print(text, markup=False, highlight=False, soft_wrap=True)
    for note in (note for entry in entries for note in entry.notes()):
        console.print(note, style="bold yellow", markup=False)
    return int(any(entry.failed for entry in entries))


if __name__ == "__main__":
    sys.exit(main())
