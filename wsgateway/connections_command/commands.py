"""The commands of `wsgateway connections`: their flags, and what they print."""

from __future__ import annotations

import logging
import sys
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
import uvloop

from wsgateway.clock import SystemClock
from wsgateway.cluster.store import ContactLost
from wsgateway.connection import ConnectionKey
from wsgateway.connection_id import has_shape_of_id
from wsgateway.connections_command.calls import problem_of
from wsgateway.connections_command.filters import make_filter
from wsgateway.connections_command.output import count, print_list
from wsgateway.connections_command.where import find_where
from wsgateway.errors import Fault, OperatorFaults
from wsgateway.exits import giving_up
from wsgateway.limits import MESSAGE_SIZE_MAX
from wsgateway.telemetry.logs import configure_logging

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from wsgateway.cluster.listing import Listing
    from wsgateway.connections_command.where import Where
    from wsgateway.contracts import Callbacks

REFUSED = 1
"""The exit code when something was not posted or not closed."""

LIMIT = 1000
"""How many connections are listed where nothing else is said."""

_Result = TypeVar("_Result")

connections = typer.Typer(
    no_args_is_help=True,
    help="List, count, post to and close the connections of all nodes that share a Redis.",
)


# --- flags that several commands take

_Path = Annotated[
    Path | None, typer.Option("--path", metavar="PATH", help="The API's folder or definition file.")
]
_Redis = Annotated[str | None, typer.Option(metavar="URL", help="Redis that the nodes share.")]
_ApiId = Annotated[
    str | None, typer.Option(metavar="ID", help="The API's id; from its name when unset.")
]
_Stage = Annotated[
    str | None, typer.Option(metavar="STAGE", help="Only these stages, comma-separated.")
]
_SourceIp = Annotated[
    str | None, typer.Option(metavar="ADDRESS", help="Only from this address or network.")
]
_OlderThan = Annotated[
    str | None, typer.Option(metavar="TIME", help="Only opened so long ago: 90s, 10m, 2h.")
]
_UserAgent = Annotated[
    str | None, typer.Option(metavar="TEXT", help="Only where User-Agent contains this.")
]
_Node = Annotated[
    str | None, typer.Option(metavar="TAG", help="Only of this node, as the list shows it.")
]
_File = Annotated[Path | None, typer.Option(metavar="FILE", help="TOML file of settings.")]
# An id may begin with a hyphen; what is no option is one.
_IDS_MAY_LOOK_LIKE_OPTIONS = {"ignore_unknown_options": True}
_Ids = Annotated[list[str], typer.Argument(metavar="ID...", help="Of connections.")]


@connections.command("list")
def list_command(
    *,
    path: _Path = None,
    redis: _Redis = None,
    api_id: _ApiId = None,
    stage: _Stage = None,
    source_ip: _SourceIp = None,
    older_than: _OlderThan = None,
    user_agent: _UserAgent = None,
    node: _Node = None,
    limit: Annotated[
        int, typer.Option(metavar="N", min=0, help="At most so many; 0 lists all.")
    ] = LIMIT,
    as_json: Annotated[
        bool, typer.Option("--json", help="A line of JSON for each, instead of a table.")
    ] = False,
    settings: _File = None,
) -> None:
    """List connections in no order, as they are read.

    A connection that comes or goes meanwhile may be missing, and may be there twice.
    """
    with _ending_at_faults():
        where = find_where(path=path, redis=redis, api_id=api_id, stage=stage, file=settings)
        wanted = make_filter(
            stage=where.settings.stage,
            source_ip=source_ip,
            older_than=older_than,
            user_agent=user_agent,
            node=node,
        )
        listed = partial(
            print_list,
            wanted=wanted,
            now_ms=SystemClock().epoch_ms(),
            as_json=as_json,
            limit=limit,
            tell=typer.echo,
        )
        if _on_listing(where, listed):
            typer.echo(f"There are more than {limit}; --limit 0 lists all.", err=True)


@connections.command("count")
def count_command(
    *,
    path: _Path = None,
    redis: _Redis = None,
    api_id: _ApiId = None,
    stage: _Stage = None,
    source_ip: _SourceIp = None,
    older_than: _OlderThan = None,
    user_agent: _UserAgent = None,
    node: _Node = None,
    settings: _File = None,
) -> None:
    """Count connections, those being disconnected included.

    Without a filter Redis knows their number; with one they are all read.
    """
    with _ending_at_faults():
        where = find_where(path=path, redis=redis, api_id=api_id, stage=stage, file=settings)
        wanted = make_filter(
            stage=where.settings.stage,
            source_ip=source_ip,
            older_than=older_than,
            user_agent=user_agent,
            node=node,
        )
        typer.echo(
            _on_listing(where, partial(count, wanted=wanted, now_ms=SystemClock().epoch_ms()))
        )


@connections.command("post", context_settings=_IDS_MAY_LOOK_LIKE_OPTIONS)
def post_command(
    *,
    ids: _Ids,
    data: Annotated[str | None, typer.Option(metavar="TEXT", help="The message.")] = None,
    data_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="File with the message.")
    ] = None,
    path: _Path = None,
    redis: _Redis = None,
    api_id: _ApiId = None,
    stage: _Stage = None,
    settings: _File = None,
) -> None:
    """Send a message to connections, as POST @connections does.

    The exit code is 1 when one did not get it.
    """
    with _ending_at_faults():
        payload = _payload(data, data_file)
        where = find_where(path=path, redis=redis, api_id=api_id, stage=stage, file=settings)
        _on_each(where, ids, lambda to, key: to.post(key, payload), "has got it")


@connections.command("close", context_settings=_IDS_MAY_LOOK_LIKE_OPTIONS)
def close_command(
    *,
    ids: _Ids,
    path: _Path = None,
    redis: _Redis = None,
    api_id: _ApiId = None,
    stage: _Stage = None,
    settings: _File = None,
) -> None:
    """Close connections with 1000, as DELETE @connections does.

    The exit code is 1 when one was not there.
    """
    with _ending_at_faults():
        where = find_where(path=path, redis=redis, api_id=api_id, stage=stage, file=settings)
        _on_each(where, ids, lambda to, key: to.delete(key), "is closed")


# --- what they have in common


@contextmanager
def _ending_at_faults() -> Iterator[None]:
    """Say nothing but what went wrong, and end the command with what an operator can mend."""
    configure_logging(pretty=sys.stderr.isatty(), level=logging.WARNING)
    with giving_up():
        try:
            yield
        except ContactLost as error:
            fault = Fault("--redis", f"contact was lost: {error}", "try again")
            raise OperatorFaults([fault]) from error


def _on_listing(where: Where, read: Callable[[Listing], Awaitable[_Result]]) -> _Result:
    # Redis' client takes a tenth of a second, which other commands do without.
    from wsgateway.connections_command.reach import open_listing  # noqa: PLC0415

    async def run() -> _Result:
        async with open_listing(where.settings, where.api_id) as listing:
            return await read(listing)

    return uvloop.run(run())


def _on_each(
    where: Where,
    ids: Sequence[str],
    do: Callable[[Callbacks, ConnectionKey], Awaitable[None]],
    done: str,
) -> None:
    """Do something to connections, one after the other, and tell of each what came of it.

    Raises:
        typer.Exit: It did not go well with all.
    """
    from wsgateway.connections_command.reach import open_callbacks  # noqa: PLC0415 - as above

    _check_ids(where, ids)

    async def run() -> bool:
        went_well = True
        async with open_callbacks(where.settings, where.api_id) as callbacks:
            for connection_id in ids:
                keys = [ConnectionKey(where.api_id, stage, connection_id) for stage in where.stages]
                problem = await problem_of(keys, partial(do, callbacks))
                if problem is None:
                    typer.echo(f"{connection_id} {done}")
                else:
                    typer.echo(f"{connection_id}: {problem}", err=True)
                    went_well = False
        return went_well

    if not uvloop.run(run()):
        raise typer.Exit(REFUSED)


def _check_ids(where: Where, ids: Sequence[str]) -> None:
    faults = [
        Fault("ID", f"{text!r} is no connection's id", "write it as `connections list` shows it")
        for text in ids
        if not has_shape_of_id(text)
    ]
    if not where.stages:
        faults.append(
            Fault("--stage", "with --api-id alone the stage is not known", "add --stage NAME")
        )
    if faults:
        raise OperatorFaults(faults)


def _payload(data: str | None, file: Path | None) -> bytes:
    if (data is None) == (file is None):
        fault = Fault("--data", "there is not one message", "give --data or --data-file")
        raise OperatorFaults([fault])
    place = "--data" if file is None else "--data-file"
    try:
        payload = file.read_bytes() if file is not None else (data or "").encode()
        payload.decode()
    except (OSError, UnicodeError) as error:
        fault = Fault(place, f"cannot be read: {error}", "name a file of UTF-8 text")
        raise OperatorFaults([fault]) from error
    if len(payload) > MESSAGE_SIZE_MAX:
        remedy = f"a message has at most {MESSAGE_SIZE_MAX}"
        raise OperatorFaults([Fault(place, f"has {len(payload)} bytes", remedy)])
    return payload
