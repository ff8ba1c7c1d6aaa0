"""The `wsgateway` command."""

from __future__ import annotations

import inspect
import logging
import os
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import structlog
import typer
import uvloop

import wsgateway
from wsgateway.addresses import authority
from wsgateway.backends import check_ca_file
from wsgateway.connections_command.commands import connections
from wsgateway.errors import Fault, OperatorFaults
from wsgateway.exits import OPERATOR_FAULT, give_up, giving_up
from wsgateway.functions.environment import handler_environment
from wsgateway.gateway import Gateway, check_redis, stages_to_serve
from wsgateway.invocation import invoke_route
from wsgateway.loaders.faults import collecting
from wsgateway.loaders.file import open_source
from wsgateway.loaders.summary import summary
from wsgateway.page import static_folder
from wsgateway.ports import bind_ports, callback_url, tls_context
from wsgateway.serving import serve_until_stopped
from wsgateway.settings import Settings, load_settings
from wsgateway.telemetry.logs import configure_logging

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from wsgateway.loaders.source import ApiSource, LoadedApi
    from wsgateway.ports import Ports
    from wsgateway.workers import Worker

log = structlog.stdlib.get_logger(__name__)

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help=wsgateway.__doc__,
    epilog=(
        "Documents: docs/getting-started.md, docs/handlers.md, docs/definition.md, "
        "docs/callbacks.md, docs/testing.md, docs/configuration.md, docs/operating.md, "
        "docs/compatibility.md."
    ),
)


app.add_typer(connections, name="connections")


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


_PATH = "Folder of handlers, or definition file."
_FLAGS = {
    "path",
    "host",
    "port",
    "stage",
    "management_port",
    "management_host",
    "insecure_callbacks",
    "node_name",
    "redis",
    "redis_wait",
    "reload",
    "workers",
}


@app.command(
    help=_unwrapped(
        """Serve an API: a folder of handlers, or a definition file.

        In a folder a file is a route: connect.py, disconnect.py and default.py are the routes $connect, $disconnect and $default;
        any other file is the route of its name, and a file that begins with _ is a helper. Each
        route defines handler(event, context), as on Lambda; async ones work too. An api.yaml beside
        them sets the route selection expression, two-way routes, integrations and stages.

        A definition file (.yaml, .yml, .json) declares all of an API, as docs/definition.md tells;
        no Python is needed. `wsgateway validate` checks it.

        Clients connect to ws://HOST:PORT/STAGE, and backends post to
        http://HOST:PORT/STAGE/@connections/ID. Handlers find the URL to post to, without
        /@connections/ID, in WSGATEWAY_CALLBACK_URL. Health is at /_wsgateway/health, Prometheus
        metrics are at /_wsgateway/metrics. A folder static/ beside the handlers is served at
        /_wsgateway/, for everybody.

        Every setting is a flag or listed below; each is also a variable
        (WSGATEWAY_IDLE_TIMEOUT_S=60) and a line of the TOML file (idle_timeout_s = 60). Flags win
        over variables, variables over the file. What is wrong with settings or handlers is listed,
        all at once, and ends with exit code 2.

        With --workers N that many processes share the port, each a node of its own; they need a
        Redis. One that dies is started again. The metrics of a shared port are those of one worker,
        another one each time: with --management-port 9090 the first has 9090 to itself, the second
        9091, and so on. Each has its own health there too; on the shared port one of them answers.

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
    node_name: Annotated[str | None, typer.Option(metavar="NAME", help=_help("node_name"))] = None,
    redis: Annotated[str | None, typer.Option(metavar="URL", help=_help("redis"))] = None,
    redis_wait: Annotated[
        bool | None, typer.Option("--redis-wait", help=_help("redis_wait"))
    ] = None,
    reload: Annotated[bool | None, typer.Option("--reload", help=_help("reload"))] = None,
    workers: Annotated[str | None, typer.Option(metavar="N", help=_help("workers"))] = None,
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
    environ = dict(os.environ)
    worker = _fork_workers(merged, faults) if merged.workers > 1 and not faults else None
    if worker is not None:
        merged = worker.settings(merged)
    served = _prepare(merged, faults, None if worker is None else worker.ports)
    if served is None:
        _give_up(faults, worker)
    try:
        uvloop.run(_serve(merged, *served, environ, worker))
    except OperatorFaults as error:
        _give_up(error.faults, worker)


@app.command(
    help=_unwrapped(
        """Check a definition file or a folder of handlers without serving it.

        Prints what would be served. Every fault is told, one a line with its place, and ends with
        exit code 2. docs/definition.md tells what can be declared.
        """
    )
)
def validate(
    path: Annotated[Path, typer.Argument(metavar="PATH", help=_PATH)],
    settings: Annotated[
        Path | None, typer.Option(metavar="FILE", help="TOML file of settings.")
    ] = None,
) -> None:
    merged, api = _loaded_for_a_command({"path": path}, settings)
    scheme = "wss" if merged.tls_certificate else "ws"
    stages = stages_to_serve(api.definition, merged)
    at = authority(merged.host, merged.port)
    urls = {name: f"{scheme}://{at}/{name}" for name in stages}
    for line in summary(api, urls):
        print(line)


@app.command(
    help=_unwrapped(
        """Run one route once, without a client, and show what crosses.

        Prints what the function or backend gets, what it answers, and what the client would get.
        The route is run as it is declared, with real calls: what it changes is changed. The exit
        code is 1 when the client would get an error.

        $connect takes --header and --query, messages take --body or --body-file.
        """
    )
)
def invoke(
    path: Annotated[Path, typer.Argument(metavar="PATH", help=_PATH)],
    route: Annotated[str, typer.Argument(metavar="ROUTE", help="Route key, such as $connect.")],
    body: Annotated[str, typer.Option(metavar="TEXT", help="The message.")] = "",
    body_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="File with the message.")
    ] = None,
    header: Annotated[
        list[str] | None, typer.Option(metavar="NAME:VALUE", help="Header of the handshake.")
    ] = None,
    query: Annotated[
        str, typer.Option(metavar="A=B&C=D", help="Query string of the handshake.")
    ] = "",
    stage: Annotated[str | None, typer.Option(metavar="STAGE", help="The stage.")] = None,
    settings: Annotated[
        Path | None, typer.Option(metavar="FILE", help="TOML file of settings.")
    ] = None,
) -> None:
    environ = dict(os.environ)
    flags: dict[str, object] = {"path": path} | ({} if stage is None else {"stage": stage})
    merged, api = _loaded_for_a_command(flags, settings)
    try:
        message = body if body_file is None else body_file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        give_up([Fault("--body-file", f"cannot be read: {error}", "name a file of UTF-8 text")])
    headers = [tuple(part.strip() for part in text.split(":", 1)) for text in header or ()]
    if wrong := [text for text in header or () if ":" not in text]:
        give_up([Fault("--header", f"got {wrong[0]!r}", "write Name:value")])
    with giving_up():
        answered = uvloop.run(
            invoke_route(
                api,
                merged,
                environ,
                route,
                body=message,
                headers=[(name, value) for name, value in headers],
                query=query,
                tell=print,
            )
        )
        if not answered:
            raise typer.Exit(1)


def _loaded_for_a_command(
    flags: Mapping[str, object], file: Path | None
) -> tuple[Settings, LoadedApi]:
    """Load what a command is about, or end with its faults."""
    settings, faults = load_settings(flags, os.environ, file)
    configure_logging(pretty=_pretty(settings), level=logging.WARNING)
    api: LoadedApi | None = None
    with collecting(faults):
        check_ca_file(settings)
    if not settings.at_fault & {"path", "stage"}:
        with collecting(faults):
            source = open_source(settings.path)
            api = _load(source, settings, settings.callback_url)
            stages_to_serve(api.definition, settings)
    if api is None or faults:
        give_up(faults)
    return settings, api


def _give_up(faults: Iterable[Fault], worker: Worker | None) -> NoReturn:
    """End with faults, which of all workers' the supervisor prints once."""
    if worker is None:
        give_up(faults)
    worker.give_up(dict.fromkeys(faults))
    raise typer.Exit(OPERATOR_FAULT)


def _fork_workers(settings: Settings, faults: list[Fault]) -> Worker | None:
    """Become the supervisor of workers, until their end.

    Args:
        settings: Without faults.
        faults: Those of the ports are added.

    Returns:
        In each worker its part. None if there are faults.
    """
    # It brings Redis' client, which a single node may not need.
    from wsgateway.workers import Supervisor, Worker, reserve_ports  # noqa: PLC0415

    try:
        ports = reserve_ports(settings)
    except OperatorFaults as error:
        faults += error.faults
        return None

    try:
        outcome = Supervisor(settings.workers, ports, on_ready=_print_ready).run()
    except OperatorFaults as error:
        give_up(error.faults)
    if isinstance(outcome, Worker):
        return outcome
    raise typer.Exit(outcome)


def _prepare(
    settings: Settings, faults: list[Fault], ports: Ports | None
) -> tuple[ApiSource, LoadedApi, Ports] | None:
    """Do all that can go wrong, so that every fault is told at once.

    Args:
        settings: With defaults for those at fault, which are not tried.
        faults: Of the settings; those found here are added.
        ports: Those of a worker, which are bound already.

    Returns:
        None if there are faults.
    """
    source: ApiSource | None = None
    api: LoadedApi | None = None
    url = settings.callback_url
    with collecting(faults):
        tls_context(settings)
    with collecting(faults):
        check_ca_file(settings)
    with collecting(faults):
        check_redis(settings)
    of_ports = {"host", "port", "management_host", "management_port"}
    if ports is None and not settings.at_fault & of_ports:
        with collecting(faults):
            ports = bind_ports(settings)
    if "path" not in settings.at_fault:
        with collecting(faults):
            source = open_source(settings.path)
            stages = list(stages_to_serve(source.definition(), settings))
            if url is None and ports is not None and len(stages) == 1:
                url = callback_url(settings, ports, stages[0])
    if source is not None:
        with collecting(faults):
            api = _load(source, settings, url)
    if ports is None or source is None or api is None or faults:
        return None
    return source, api, ports


def _load(source: ApiSource, settings: Settings, url: str | None) -> LoadedApi:
    """Load an API whose handlers may read their variables as soon as they are imported."""
    os.environ.update(
        handler_environment(
            os.environ, region=settings.region, folder=source.folder, callback_url=url
        )
    )
    return source.load()


async def _serve(
    settings: Settings,
    source: ApiSource,
    api: LoadedApi,
    ports: Ports,
    environ: Mapping[str, str],
    worker: Worker | None,
) -> None:
    """Serve until a signal; `environ` is as it was before handlers got their variables."""
    gateway = Gateway(
        settings,
        api,
        ports,
        access_log=sys.stderr.buffer if log.isEnabledFor(logging.INFO) else None,
        pretty=_pretty(settings),
        environ=environ,
        static=static_folder(source.folder),
    )
    on_ready = _print_ready if worker is None else worker.ready
    await serve_until_stopped(gateway, source, on_ready=on_ready, worker=worker)


def _print_ready(urls: Sequence[str]) -> None:
    print("wsgateway is ready: " + "  ".join(urls), flush=True)


def _pretty(settings: Settings) -> bool:
    if settings.log_format == "auto":
        return sys.stderr.isatty()
    return settings.log_format == "console"


if __name__ == "__main__":
    main()
