"""Measures what the gateway costs, beside what a bare server costs.

Every row runs the gateway and its reference in the same run, in alternating rounds, with the same
payload and the same number of connections. The server has one core, the load generator another,
whose use is reported too. The figure is the CPU time that the operating system counts for all the
server's processes, per operation, because that is what is scarce: it says how many operations a
core can carry, whether or not it was full. Operations and seconds of every round are in the JSON.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import signal
import sys
from pathlib import Path

from rich.console import Console

from bench import report
from bench.rows import QUICK, ROWS, Plan, measure

PLAIN_WIDTH = 140  # where the output is no terminal


def at_least_one(text: str) -> int:
    if (number := int(text)) < 1:
        raise ValueError(text)
    return number


def positive(text: str) -> float:
    if not (number := float(text)) > 0:
        raise ValueError(text)
    return number


def epilog() -> str:
    lines = ["rows, and what each is measured beside:"]
    lines += [f"  {row.key:16}{row.what}\n{'':18}{row.beside}" for row in ROWS]
    lines += [
        "",
        "Exit code: 0 when every row was measured, whether or not it met its bar, and every server",
        "stopped as it should; otherwise 1.",
        "",
        "An honest run needs two idle cores. When in doubt, look at the spread, and at",
        "`--self-check`: there the gateway's column is the reference once more, and every ratio must",
        "be about 1.0.",
        "",
        "How cost grows from 1 to 4 nodes and from 1,000 to 15,000 connections is a run of its own:",
        "`python -m bench.growth`, or `make bench-growth`. Servers of others: `python -m bench.peers`.",
    ]
    return "\n".join(lines)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description=__doc__,
        epilog=epilog(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    keys = [row.key for row in ROWS]
    parser.add_argument(
        "--quick",
        action="store_true",
        help=f"under a minute: {QUICK.rounds} rounds of {QUICK.seconds:g} s, "
        f"{QUICK.idle_connections:,} idle connections",
    )
    parser.add_argument(
        "--rows", default=",".join(keys), metavar="ROW,ROW", help="only these, in this order"
    )
    full = Plan()
    parser.add_argument(
        "--rounds",
        type=at_least_one,
        metavar="N",
        help=f"per side (default {full.rounds}; of memory and cpu at most {full.idle_rounds})",
    )
    parser.add_argument(
        "--seconds",
        type=positive,
        metavar="S",
        help=f"per round under load (default {full.seconds:g})",
    )
    parser.add_argument(
        "--connections",
        type=at_least_one,
        metavar="N",
        help=f"that carry load (default {full.connections})",
    )
    parser.add_argument(
        "--window",
        type=at_least_one,
        metavar="N",
        help=f"messages under way on each of them (default {full.window})",
    )
    parser.add_argument(
        "--idle-connections",
        type=at_least_one,
        metavar="N",
        help=f"for memory and cpu (default {full.idle_connections:,})",
    )
    parser.add_argument(
        "--self-check", action="store_true", help="measure each reference beside itself"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every round to FILE")
    options = parser.parse_args(arguments)
    options.rows = options.rows.split(",")
    if unknown := [key for key in options.rows if key not in keys]:
        parser.error(f"no such row: {', '.join(unknown)} (there are {', '.join(keys)})")
    if options.json and not options.json.parent.is_dir():
        parser.error(f"no such directory: {options.json.parent}")
    return options


def main() -> int:
    options = parse()
    # So that the servers are stopped too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    plan = QUICK if options.quick else Plan()
    chosen = {field.name: getattr(options, field.name, None) for field in dataclasses.fields(Plan)}
    plan = dataclasses.replace(plan, **{name: v for name, v in chosen.items() if v is not None})
    plan = dataclasses.replace(plan, idle_rounds=min(plan.rounds, plan.idle_rounds))
    by_key = {row.key: row for row in ROWS}
    rows = [by_key[key] for key in options.rows]
    if options.self_check:
        rows = [
            dataclasses.replace(row, gateway=row.reference, bar=None, bound=None) for row in rows
        ]

    console = Console()
    if not console.is_terminal:
        console = Console(width=PLAIN_WIDTH)
    said = report.conditions(plan)
    try:
        with console.status("starting") as status:
            results = measure(rows, plan, progress=status.update)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    console.print(report.table(results))
    console.print(report.legend(results), style="dim", markup=False, highlight=False)
    for note in report.notes(results):
        console.print(note, style="yellow", markup=False)
    console.print(report.summary(said), style="dim", markup=False, highlight=False)
    if options.json:
        options.json.write_text(json.dumps(report.as_json(results, said), indent=1) + "\n")
    return int(any(result.error or result.faults for result in results))


if __name__ == "__main__":
    sys.exit(main())
