"""The load generator: one process, one job against one server, pinned to a core of its own.

It is driven by lines on stdin (`open`, `open CONNECTIONS`, `run SECONDS`) and answers each with a
line of JSON.
It also takes the measurements, so that counts and CPU times are read at the same instant. The end
of its input ends it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from typing import Any

import uvloop

from bench.jobs import JOBS, Job, Posts
from bench.measure import BenchError, cores, cpu_us, delay_us, raise_file_limit, redis_of


def times(server: int) -> dict[str, float]:
    """CPU time of the server and of this process, and how long each waited for its core.

    Of the server's time, what its Redis had is told again.
    """
    load = os.getpid()
    redis = redis_of(server)
    return ({} if redis is None else {"redis_us": cpu_us(redis)}) | {
        "server_us": cpu_us(server),
        "load_us": cpu_us(load),
        "server_delay_us": delay_us(server),
        "load_delay_us": delay_us(load),
    }


async def run(job: Job, server: int, seconds: float) -> dict[str, Any]:
    """Keeps the load up for some seconds, and what that was in operations and CPU time."""
    job.start()
    done, begun_at = job.done, time.perf_counter()
    before = times(server)
    await asyncio.sleep(seconds)
    window = {"operations": job.done - done, "seconds": time.perf_counter() - begun_at}
    window |= {name: value - before[name] for name, value in times(server).items()}
    await job.finish()
    return window | latencies(job)


def latencies(job: Job) -> dict[str, float]:
    """How long a post took: half of them at most, and all but one in a hundred."""
    taken = sorted(job.latencies) if isinstance(job, Posts) else []
    if not taken:
        return {}
    return {f"latency_p{p}_us": taken[len(taken) * p // 100] * 1e6 for p in (50, 99)}


async def serve(options: argparse.Namespace) -> None:
    job: Job = JOBS[options.job](options)
    while command := (await asyncio.to_thread(sys.stdin.readline)).split():
        answer: dict[str, Any]
        try:
            match command:
                case ["open", *connections]:
                    if connections:
                        options.connections = int(connections[0])
                    answer = await job.open()
                case ["run", seconds]:
                    answer = await run(job, options.pid, float(seconds))
                case _:
                    answer = {"error": f"no such command: {command}"}
        except BenchError as error:
            answer = {"error": str(error)}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.load", description=__doc__)
    parser.add_argument("job", choices=JOBS)
    parser.add_argument(
        "--ports", type=int, nargs="+", required=True, help="of the server, in turn, on 127.0.0.1"
    )
    parser.add_argument("--pid", type=int, required=True, help="the server's")
    parser.add_argument("--connections", type=int, required=True)
    parser.add_argument("--window", type=int, default=1, help="messages under way per connection")
    parser.add_argument("--sinks", action="store_true", help="posts go to WebSocket connections")
    parser.add_argument(
        "--sink-ports", type=int, nargs="+", help="of their servers, if they are others"
    )
    options = parser.parse_args()
    options.port = options.ports[0]
    raise_file_limit()
    os.sched_setaffinity(0, {cores()[1]})
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(options))


if __name__ == "__main__":
    main()
