"""The `wsgateway` command."""

from __future__ import annotations

import asyncio
import atexit
import gc
import inspect
import itertools
import logging
import os
import signal
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import structlog
import typer
import uvloop
import watchfiles

import wsgateway
from wsgateway.errors import OperatorFaults
from wsgateway.functions.environment import handler_environment
from wsgateway.gateway import Gateway, bind_ports, callback_url, stages_to_serve, tls_context
from wsgateway.loaders.faults import collecting
from wsgateway.loaders.folder import DEFINITION_FILE, HandlerFolder
from wsgateway.page import static_folder
from wsgateway.settings import Settings, load_settings
from wsgateway.telemetry.logs import configure_logging

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import FrameType

    from wsgateway.errors import Fault
    from wsgateway.gateway import Ports
    from wsgateway.loaders.folder import LoadedApi

log = structlog.stdlib.get_logger(__name__)

OPERATOR_FAULT = 2
"""The exit code when nothing was served because of settings, definition or ports."""

# What the end may take after the gateway has stopped, and after a second signal.
_END_TIMEOUT_S = 1.0
_HURRY_TIMEOUT_S = 5.0

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help=wsgateway.__doc__,
)


def main() -> None:
    """Run the command."""
    app()


@app.callback(invoke_without_command=True)
def version(
    *, version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False
) -> None:
    """A self-hosted gateway that speaks Amazon API Gateway's WebSocket API contract."""
    if version:
        print(wsgateway.__version__)
        raise typer.Exit


def _help(name: str) -> str:
    field = Settings.model_fields[name]
    default = field.default
    if default is None or default is False:
        return f"{field.description}"
    told = f"{default:g}" if isinstance(default, float) else default
    return f"{field.description} Default {told}."


def _unwrapped(text: str) -> str:
    """Return paragraphs without their line breaks, for a terminal of any width."""
    return "\n\n".join(" ".join(part.split()) for part in inspect.cleandoc(text).split("\n\n"))


def _more_settings() -> str:
    """Return what `serve --help` ends with: the settings that have no flag."""
    lines = ["Settings without a flag:", ""]
    for name in Settings.model_fields:
        if name not in _FLAGS:
            lines += textwrap.wrap(f"{name:<28}{_help(name)}", 78, subsequent_indent=" " * 28)
    return "\n".join(lines)


_FLAGS = {
    "path",
    "host",
    "port",
    "stage",
    "management_port",
    "management_host",
    "insecure_callbacks",
    "reload",
}


@app.command(
    help=_unwrapped(
        """Serve a folder of handlers: one file, one route.

        connect.py, disconnect.py and default.py are the routes $connect, $disconnect and $default;
        any other file is the route of its name, and a file that begins with _ is a helper. Each
        route defines handler(event, context), as on Lambda; async ones work too. An api.yaml beside
        them sets the route selection expression, two-way routes and stages.

        Clients connect to ws://HOST:PORT/STAGE, and backends post to
        http://HOST:PORT/STAGE/@connections/ID. Handlers find the URL to post to, without
        /@connections/ID, in WSGATEWAY_CALLBACK_URL. Health is at /_wsgateway/health, Prometheus
        metrics are at /_wsgateway/metrics. A folder static/ beside the handlers is served at
        /_wsgateway/, for everybody.

        Every setting is a flag or listed below; each is also a variable
        (WSGATEWAY_IDLE_TIMEOUT_S=60) and a line of the TOML file (idle_timeout_s = 60). Flags win
        over variables, variables over the file. What is wrong with settings or handlers is listed,
        all at once, and ends with exit code 2.

        SIGTERM and SIGINT drain: health says 503, connections are closed with 1001, work in flight
        is finished, and the exit code is 0. A second signal cuts the waiting short.
        """
    ),
    epilog=_more_settings(),
)
def serve(
    path: Annotated[Path | None, typer.Argument(metavar="PATH", help=_help("path"))] = None,
    host: Annotated[str | None, typer.Option(metavar="HOST", help=_help("host"))] = None,
    port: Annotated[str | None, typer.Option(metavar="PORT", help=_help("port"))] = None,
    stage: Annotated[str | None, typer.Option(metavar="STAGE", help=_help("stage"))] = None,
    management_port: Annotated[
        str | None, typer.Option(metavar="PORT", help=_help("management_port"))
    ] = None,
    management_host: Annotated[
        str | None, typer.Option(metavar="HOST", help=_help("management_host"))
    ] = None,
    insecure_callbacks: Annotated[
        bool | None, typer.Option("--insecure-callbacks", help=_help("insecure_callbacks"))
    ] = None,
    reload: Annotated[bool | None, typer.Option("--reload", help=_help("reload"))] = None,
    settings: Annotated[
        Path | None, typer.Option(metavar="FILE", help="TOML file of settings.")
    ] = None,
) -> None:
    flags = {name: value for name, value in locals().items() if name in _FLAGS}
    given = {name: value for name, value in flags.items() if value is not None}
    merged, faults = load_settings(given, os.environ, settings)
    configure_logging(
        pretty=_pretty(merged),
        level=logging.getLevelNamesMapping()[merged.log_level.upper()],
    )
    served = _prepare(merged, faults)
    if served is None:
        _give_up(faults)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(merged, *served))
    except OperatorFaults as error:
        _give_up(error.faults)


def _give_up(faults: Iterable[Fault]) -> NoReturn:
    for fault in dict.fromkeys(faults):
        print(fault, file=sys.stderr)
    raise typer.Exit(OPERATOR_FAULT)


def _prepare(
    settings: Settings, faults: list[Fault]
) -> tuple[HandlerFolder, LoadedApi, Ports] | None:
    """Do all that can go wrong, so that every fault is told at once.

    Args:
        settings: With defaults for those at fault, which are not tried.
        faults: Of the settings; those found here are added.

    Returns:
        None if there are faults.
    """
    ports: Ports | None = None
    folder: HandlerFolder | None = None
    api: LoadedApi | None = None
    url = settings.callback_url
    with collecting(faults):
        tls_context(settings)
    if not settings.at_fault & {"host", "port", "management_host", "management_port"}:
        with collecting(faults):
            ports = bind_ports(settings)
    if "path" not in settings.at_fault:
        with collecting(faults):
            folder = HandlerFolder(settings.path)
            stages = list(stages_to_serve(folder.definition(), settings))
            if url is None and ports is not None and len(stages) == 1:
                url = callback_url(settings, ports, stages[0])
    if folder is not None:
        # Handlers may read them as soon as they are imported.
        os.environ.update(
            handler_environment(
                os.environ, region=settings.region, folder=settings.path, callback_url=url
            )
        )
        with collecting(faults):
            api = folder.load()
    if ports is None or folder is None or api is None or faults:
        return None
    return folder, api, ports


async def _serve(settings: Settings, folder: HandlerFolder, api: LoadedApi, ports: Ports) -> None:
    """Serve until a signal."""
    gateway = Gateway(
        settings,
        api,
        ports,
        access_log=sys.stderr.buffer if log.isEnabledFor(logging.INFO) else None,
        pretty=_pretty(settings),
        static=static_folder(folder.path),
    )
    stopping = asyncio.Event()
    _stop_at_signals(stopping, gateway)
    await gateway.start()
    watching: asyncio.Task[None] | None = None
    if settings.reload:
        watching = asyncio.create_task(_reload(folder, gateway, stopping))
        # Its first step begins to watch; what was edited since the start would not be noticed.
        await asyncio.sleep(0)
        gateway.deploy(folder.reload())
    # What lives as long as the process need not be visited by each collection.
    gc.collect()
    gc.freeze()
    print(_ready_line(gateway), flush=True)
    await stopping.wait()
    await gateway.stop()
    _end_within(_END_TIMEOUT_S)
    if watching is not None:
        await watching


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


def _ready_line(gateway: Gateway) -> str:
    urls = [
        *gateway.websocket_urls,
        *(f"{url}/@connections/ID" for url in gateway.callback_urls),
        gateway.health_url,
    ]
    if gateway.page_url is not None:
        urls.append(gateway.page_url)
    return "wsgateway is ready: " + "  ".join(urls)


async def _reload(folder: HandlerFolder, gateway: Gateway, stopping: asyncio.Event) -> None:
    try:
        async for _ in watchfiles.awatch(folder.path, watch_filter=_is_source, stop_event=stopping):
            await _reload_once(folder, gateway)
    # The system's bound on watches, a folder that is gone.
    except Exception:
        log.exception("changes are no longer watched", folder=str(folder.path))


async def _reload_once(folder: HandlerFolder, gateway: Gateway) -> None:
    try:
        # In a thread: an import may take its time, or run an event loop of its own.
        gateway.deploy(await asyncio.to_thread(folder.reload))
    except OperatorFaults as error:
        for fault in error.faults:
            log.error("not reloaded", fault=str(fault))  # noqa: TRY400 - the fault says it all
    else:
        log.info("reloaded", folder=str(folder.path))


def _is_source(_: watchfiles.Change, path: str) -> bool:
    # Handlers may well write other files beside themselves.
    return path.endswith((".py", f"{os.sep}{DEFINITION_FILE}"))


def _pretty(settings: Settings) -> bool:
    if settings.log_format == "auto":
        return sys.stderr.isatty()
    return settings.log_format == "console"


if __name__ == "__main__":
    main()
