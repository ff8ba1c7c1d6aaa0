"""The table on the terminal and the JSON with every round."""

from __future__ import annotations

import dataclasses
import platform
import statistics
from importlib import metadata
from typing import TYPE_CHECKING, Any

from rich.table import Table

from bench.jobs import MESSAGE_SIZE
from bench.measure import cores, cpu_model, load_average

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.rows import Plan, Result, Round, Row

PACKAGES = ("wsgateway", "websockets", "uvicorn", "httptools", "uvloop", "picows")


def spread(values: Sequence[float], digits: int) -> str:
    """Median, and in brackets between what the middle half of the rounds was."""
    values = [*values, *values] if len(values) == 1 else values
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return f"{middle:,.{digits}f} ({low:,.{digits}f}-{high:,.{digits}f})"


def figure(rounds: Sequence[Round]) -> str:
    values = [r.value for r in rounds]
    return spread(values, digits=1 if statistics.median(values) >= 2 else 3)  # noqa: PLR2004


def generator(rounds: Sequence[Round]) -> str:
    """What the load generator spent per operation, and how much of its core that was."""
    use = f"{statistics.median(r.share('load_us') for r in rounds):.0%}"
    if not all(r.raw["operations"] for r in rounds):
        return use
    each = statistics.median(r.raw["load_us"] / r.raw["operations"] for r in rounds)
    return f"{each:.1f} µs, {use}"


def bars(row: Row) -> str:
    found = [f"≤ {row.bound:g} {row.unit}"] if row.bound is not None else []
    found += [f"≤ {row.bar:g} x"] if row.bar is not None else []
    return "\n".join(found)


def verdict(result: Result) -> str:
    if not bars(result.row):
        return "-"
    return "\n".join(f"[red]missed[/] {by}" for by in result.misses()) or "[green]met[/]"


def table(results: Sequence[Result]) -> Table:
    made = Table(
        title="Median (and middle half) of the rounds. Load generator: for the gateway, the reference"
    )
    for column in ("row", "unit", "gateway", "reference", "ratio", "bar", "verdict"):
        made.add_column(column, no_wrap=True)
    made.add_column("load generator", no_wrap=True)
    for result in results:
        row = result.row
        if result.error:
            made.add_row(
                row.key, row.unit, "-", "-", "-", bars(row), "[yellow]not measured[/]", "-"
            )
            continue
        made.add_row(
            row.key,
            row.unit,
            figure(result.gateway),
            figure(result.reference),
            spread(result.ratios, digits=2) if result.ratios else "-",
            bars(row),
            verdict(result),
            f"{generator(result.gateway)}\n{generator(result.reference)}",
        )
    return made


def legend(results: Sequence[Result]) -> str:
    return "\n".join(f"{r.row.key}: {r.row.what}, beside {r.row.beside}" for r in results)


def notes(results: Sequence[Result]) -> list[str]:
    """What the table leaves open, a line each."""
    found = []
    for result in results:
        remarks = [f"not measured: {result.error}"] if result.error else []
        remarks += result.faults + result.notes
        found += [f"{result.row.key}: {remark}" for remark in remarks]
    return found


def conditions(plan: Plan) -> dict[str, Any]:
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    server, load = cores()
    return {
        "cpu": cpu_model(),
        "server core": server,
        "load generator core": load if load != server else f"{load}, shared with the server",
        "python": platform.python_version(),
        "versions": versions,
        "machine load before": load_average(),
        "message size": MESSAGE_SIZE,
        "logs": "gateway: its default, into a file; references: none",
        "unit": "CPU µs (user and system, all processes of the server) per operation; 1 KB is 1024",
        "plan": dataclasses.asdict(plan),
    }


def as_json(results: Sequence[Result], said: dict[str, Any]) -> dict[str, Any]:
    rows = {}
    for result in results:
        measured = not result.error
        rows[result.row.key] = {
            "what": result.row.what,
            "beside": result.row.beside,
            "unit": result.row.unit,
            "bar": result.row.bar,
            "bound": result.row.bound,
            "ratio": result.ratio if measured else None,
            "met": not result.misses() if measured else None,
            "error": result.error,
            "faults": result.faults,
            "notes": result.notes,
            "gateway": [dataclasses.asdict(r) for r in result.gateway],
            "reference": [dataclasses.asdict(r) for r in result.reference],
        }
    return {"conditions": said, "rows": rows}


def machine(said: dict[str, Any]) -> str:
    """What it was measured on and with, in two lines."""
    versions = said["versions"]
    load = ", ".join(f"{value:.2f}" for value in said["machine load before"].values())
    return (
        f"{said['cpu']}, server on core {said['server core']}, load generator on core "
        f"{said['load generator core']}, load average before {load}\n"
        f"Python {said['python']}, {', '.join(f'{k} {v}' for k, v in versions.items())}"
    )


def summary(said: dict[str, Any]) -> str:
    """The conditions in a few lines."""
    plan = said["plan"]
    return (
        f"{machine(said)}\n"
        f"{plan['rounds']} alternating rounds of {plan['seconds']:g} s after "
        f"{plan['warm_up_s']:g} s of warm-up, messages of {said['message size']} bytes, "
        f"{plan['connections']} connections, {plan['window']} messages under way on each; "
        f"{plan['idle_rounds']} rounds of {plan['idle_connections']:,} idle connections watched "
        f"for {plan['idle_s']:g} s\n"
        f"Logs: {said['logs']}. Unit: {said['unit']}."
    )
