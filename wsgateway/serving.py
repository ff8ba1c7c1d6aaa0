"""How does a process serve, from its start to its end?"""

from __future__ import annotations

import asyncio
import atexit
import gc
import itertools
import os
import signal
import sys
from typing import TYPE_CHECKING

import structlog
import watchfiles

from wsgateway.errors import OperatorFaults

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType

    from wsgateway.gateway import Gateway
    from wsgateway.loaders.source import ApiSource
    from wsgateway.workers import Worker

log = structlog.stdlib.get_logger(__name__)

# What the end may take after the gateway has stopped, and after a second signal.
_END_TIMEOUT_S = 1.0
_HURRY_TIMEOUT_S = 5.0


async def serve_until_stopped(
    gateway: Gateway,
    source: ApiSource,
    *,
    on_ready: Callable[[Sequence[str]], None],
    worker: Worker | None = None,
) -> None:
    """Start a gateway, serve until a signal, and stop it; the process is to end then.

    Args:
        gateway: Not started yet. Its settings say whether changes are swapped in.
        source: What it serves.
        on_ready: Called with the URLs of what is served.
        worker: What this process is to a supervisor, which says by it when to stop.

    Raises:
        OperatorFaults: It cannot be started.
    """
    stopping = asyncio.Event()
    _stop_at_signals(stopping, gateway)
    if worker is not None:
        _stop_at_orders(worker, stopping, gateway)
    if not await _start(gateway, stopping):
        return
    watching: asyncio.Task[None] | None = None
    if gateway.settings.reload:
        watching = asyncio.create_task(reload_changes(source, gateway, stopping))
        # Its first step begins to watch; what was edited since the start would not be noticed.
        await asyncio.sleep(0)
        gateway.deploy(source.reload())
    # What lives as long as the process need not be visited by each collection.
    gc.collect()
    gc.freeze()
    on_ready(served_urls(gateway))
    await stopping.wait()
    await gateway.stop()
    _end_within(_END_TIMEOUT_S)
    if watching is not None:
        await watching


async def _start(gateway: Gateway, stopping: asyncio.Event) -> bool:
    """Start the gateway; False when it was to stop before it had, as while it waits for Redis."""
    starting = asyncio.create_task(gateway.start())
    stopped = asyncio.create_task(stopping.wait())
    await asyncio.wait({starting, stopped}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if not starting.done():
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        return False
    starting.result()
    return True


def _stop_at_signals(stopping: asyncio.Event, gateway: Gateway) -> None:
    """Set the event at SIGTERM or SIGINT, and cut the waiting short at a second one.

    Not with the loop's own handlers: those are gone before the process is, and a signal that comes
    in between would end it with another exit code. Nor do they run while a handler blocks the loop.
    """
    loop = asyncio.get_running_loop()
    numbers = itertools.count(1)

    def stop(_: int, __: FrameType | None) -> None:
        if loop.is_closed():
            return
        loop.call_soon_threadsafe(stopping.set)
        if next(numbers) > 1:
            loop.call_soon_threadsafe(gateway.hurry)
            _end_within(_HURRY_TIMEOUT_S)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)


def _stop_at_orders(worker: Worker, stopping: asyncio.Event, gateway: Gateway) -> None:
    """Do the same when the supervisor says so, and drain when it is gone.

    Orders are counted apart from signals: one of each is no second one.
    """
    numbers = itertools.count(1)

    def stop() -> None:
        stopping.set()
        if next(numbers) > 1:
            gateway.hurry()
            _end_within(_HURRY_TIMEOUT_S)

    worker.follow(asyncio.get_running_loop(), stop, stopping.set)


def _end_within(seconds: float) -> None:
    """End the process by then, also if threads or tasks of handlers do not.

    Python waits for them for ever, and a signal's handler is the one thing that still runs then.
    """

    def end(_: int, __: FrameType | None) -> None:
        try:
            log.warning("handlers are still running, and are given up")
            sys.stdout.flush()
        finally:
            os._exit(0)

    signal.signal(signal.SIGALRM, end)
    # Python puts signals back to their defaults while it ends, and this one's is to kill: the
    # alarm is for the threads, which are waited for before this is called.
    atexit.register(signal.setitimer, signal.ITIMER_REAL, 0)
    signal.setitimer(signal.ITIMER_REAL, seconds)


def served_urls(gateway: Gateway) -> list[str]:
    """Return where clients connect, backends post, orchestrators ask and browsers begin."""
    urls = [
        *gateway.websocket_urls,
        *(f"{url}/@connections/ID" for url in gateway.callback_urls),
        gateway.health_url,
    ]
    if gateway.page_url is not None:
        urls.append(gateway.page_url)
    return urls


async def reload_changes(source: ApiSource, gateway: Gateway, stopping: asyncio.Event) -> None:
    """Swap in what is changed, until it is to stop or changes cannot be watched."""
    try:
        changes = watchfiles.awatch(
            source.folder,
            watch_filter=lambda _, path: source.is_source(path),
            stop_event=stopping,
        )
        async for _ in changes:
            await _reload_once(source, gateway)
    # The system's bound on watches, a folder that is gone.
    except Exception:
        log.exception("changes are no longer watched", folder=str(source.folder))


async def _reload_once(source: ApiSource, gateway: Gateway) -> None:
    try:
        # In a thread: an import may take its time, or run an event loop of its own.
        gateway.deploy(await asyncio.to_thread(source.reload))
    except OperatorFaults as error:
        for fault in error.faults:
            log.error("not reloaded", fault=str(fault))  # noqa: TRY400 - the fault says it all
    else:
        log.info("reloaded", path=str(source.path))
