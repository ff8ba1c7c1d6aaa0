"""What the operating system says a process tree costs: CPU time and memory."""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path
from typing import Any

PROC = Path("/proc")
CPU_SCHED = 2  # CPUCLOCK_SCHED of the kernel's posix-timers.h: user + system, in nanoseconds
CHILDREN_TIMES = slice(13, 15)  # cutime and cstime in /proc/PID/stat, counted after the name
TICK_US = 1_000_000 / os.sysconf("SC_CLK_TCK")


class BenchError(Exception):
    """A row cannot be measured; the text says why."""


def process_tree(pid: int) -> list[int]:
    """`pid` and all its living descendants."""
    found = [pid]
    for parent in found:
        for children in PROC.glob(f"{parent}/task/*/children"):
            found.extend(int(child) for child in children.read_text().split())
    return found


def cpu_us(pid: int) -> float:
    """User and system time of a process tree so far, ended threads and children included.

    Living processes are read from their CPU clock, to the nanosecond; /proc/PID/stat counts in
    ticks of 10 ms, which is good enough for children that have ended.
    """
    total = 0.0
    for process in process_tree(pid):
        total += time.clock_gettime_ns(~process << 3 | CPU_SCHED) / 1000
        stat = (PROC / str(process) / "stat").read_text().rpartition(")")[2].split()
        total += sum(int(ticks) for ticks in stat[CHILDREN_TIMES]) * TICK_US
    return total


def delay_us(pid: int) -> float:
    """How long a process tree has waited for its core so far because others had it."""
    total = 0
    for process in process_tree(pid):
        for thread in PROC.glob(f"{process}/task/*/schedstat"):
            total += int(thread.read_text().split()[1])
    return total / 1000


def redis_of(pid: int) -> int | None:
    """The Redis in a process tree, which is Valkey here; None where there is none."""
    for process in process_tree(pid):
        if (PROC / str(process) / "comm").read_text().strip() == "valkey-server":
            return process
    return None


def rss_bytes(pid: int) -> int:
    """Resident memory of a process tree; pages that its processes share count in each."""
    total = 0
    for process in process_tree(pid):
        for line in (PROC / str(process) / "smaps_rollup").read_text().splitlines():
            if line.startswith("Rss:"):
                total += int(line.split()[1]) * 1024
    return total


def cores() -> tuple[int, int]:
    """A core for the server and one for the load generator; the same one where there is but one."""
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[0], allowed[-1]


def raise_file_limit() -> None:
    """Allows as many open files as may be; the gateway does this for itself."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def cpu_model() -> str:
    for line in (PROC / "cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return "unknown"


def load_average() -> dict[str, Any]:
    """How busy the machine was without us: other work makes rounds spread."""
    return dict(zip(("1 min", "5 min", "15 min"), os.getloadavg(), strict=True))
