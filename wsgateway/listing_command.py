"""`wsgateway connections`: which connections are there on all nodes, and to post to or close one.

What it lists stands in Redis, and is read in pages and printed as it comes, so that a million
entries fill neither Redis' answers nor this process. What it posts and closes goes through the
owner's inbox, as from any node; but it is no node: it takes no lease and stands in no index. It
subscribes to an inbox of a random tag for as long as it waits for replies, and nobody else knows
the tag.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import re
import sys
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn, TypeVar

import orjson
import typer
import uvloop

from wsgateway.connection import ConnectionKey
from wsgateway.connection_id import TAG_SIZE, has_shape_of_id, owner_tag
from wsgateway.entropy import random_bytes
from wsgateway.errors import Fault, GatewayError, Gone, LimitExceeded, OperatorFaults
from wsgateway.gateway import stages_to_serve
from wsgateway.limits import MESSAGE_SIZE_MAX
from wsgateway.loaders.file import open_source
from wsgateway.settings import Settings, derived_api_id, load_settings
from wsgateway.telemetry.logs import configure_logging, printable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Sequence

    from wsgateway.cluster.entries import Record
    from wsgateway.cluster.listing import Listing
    from wsgateway.cluster.redis_store import RedisStore
    from wsgateway.contracts import Callbacks

REFUSED = 1
"""The exit code when something was not posted or not closed."""
OPERATOR_FAULT = 2
"""The exit code when nothing was tried, because of what was given."""

LIMIT = 1000
"""How many connections are listed where nothing else is said."""

# One answer of Redis: some 100 KB, and less than a millisecond of its time.
_PAGE_SIZE = 500
_CLIENT_NAME = "wsgateway-connections"
_UNITS_S = {"": 1, "s": 1, "m": 60, "h": 3600}
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)([smh]?)", re.ASCII)
_COLUMNS = (
    "{connectionId:<17}{state:<8}{connectedAt:<21}{sourceIp:<16} {node:<7}{stage:<12} {userAgent}"
)

_Result = TypeVar("_Result")

connections = typer.Typer(
    no_args_is_help=True,
    help="List, count, post to and close the connections of all nodes that share a Redis.",
)


# --- which connections


@dataclass(frozen=True, slots=True)
class Filter:
    """What a connection has to be; None asks for nothing.

    Attributes:
        stages: One of their names.
        network: Its address is in there.
        older_than_s: It was opened so long ago.
        user_agent: Part of what the client says of itself, in any case.
        node: The tag of its owner.
    """

    stages: frozenset[str] | None = None
    network: ipaddress.IPv4Network | ipaddress.IPv6Network | None = None
    older_than_s: float | None = None
    user_agent: str | None = None
    node: bytes | None = None

    @property
    def takes_all(self) -> bool:
        """Whether nothing is asked for."""
        return self == Filter()

    def takes(self, record: Record, now_ms: int) -> bool:
        """Whether a connection is one of those."""
        entry = record.entry
        return (
            (self.stages is None or entry.key.stage in self.stages)
            and (self.node is None or owner_tag(entry.key.connection_id) == self.node)
            and (
                self.older_than_s is None
                or now_ms - entry.connected_at_ms >= self.older_than_s * 1000
            )
            and (
                self.user_agent is None
                or self.user_agent.casefold() in (entry.user_agent or "").casefold()
            )
            and (self.network is None or _is_in(entry.source_ip, self.network))
        )


def make_filter(
    *,
    stage: str | None = None,
    source_ip: str | None = None,
    older_than: str | None = None,
    user_agent: str | None = None,
    node: str | None = None,
) -> Filter:
    """Return what the flags ask for.

    Raises:
        OperatorFaults: They cannot be read; with all of them.
    """
    faults: list[Fault] = []
    network, age_s, tag = None, None, None
    try:
        network = None if source_ip is None else ipaddress.ip_network(source_ip, strict=False)
    except ValueError:
        remedy = "write 192.0.2.7, or 192.0.2.0/24"
        faults.append(Fault("--source-ip", f"{source_ip!r} is no address", remedy))
    if older_than is not None:
        if found := _DURATION.fullmatch(older_than):
            age_s = float(found[1]) * _UNITS_S[found[2]]
        else:
            faults.append(
                Fault("--older-than", f"{older_than!r} is no duration", "write 90s, 10m or 2h")
            )
    if node is not None:
        try:
            tag = bytes.fromhex(node)
        except ValueError:
            tag = b""
        if len(tag) != TAG_SIZE:
            remedy = "write six hexadecimal digits, as `connections list` shows them"
            faults.append(Fault("--node", f"{node!r} is no node", remedy))
    if faults:
        raise OperatorFaults(faults)
    stages = None if stage is None else frozenset(stage.split(","))
    return Filter(stages, network, age_s, user_agent, tag)


def _is_in(address: str, network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> bool:
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    # As a socket of IPv6 sees a client of IPv4.
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return ip in network or (mapped is not None and mapped in network)


async def matching(listing: Listing, wanted: Filter, now_ms: int) -> AsyncIterator[list[Record]]:
    """Yield the connections that are wanted, page by page.

    One that comes or goes meanwhile may be missing, and while Redis moves a table to a larger one
    it may give one twice.
    """
    cursor: str | None = None
    while True:
        records, cursor = await listing.page(cursor, _PAGE_SIZE)
        yield [record for record in records if wanted.takes(record, now_ms)]
        if cursor is None:
            return


def described(record: Record) -> dict[str, str | None]:
    """Return what is told of a connection."""
    entry = record.entry
    at = datetime.fromtimestamp(entry.connected_at_ms // 1000, UTC)
    return {
        "connectionId": entry.key.connection_id,
        "stage": entry.key.stage,
        "state": "open" if record.claim is None else "closing",
        "connectedAt": f"{at:%Y-%m-%dT%H:%M:%SZ}",
        "sourceIp": entry.source_ip,
        "userAgent": entry.user_agent,
        "domainName": entry.domain_name,
        "node": (owner_tag(entry.key.connection_id) or b"").hex(),
    }


def row(fields: dict[str, str | None]) -> str:
    """Return one line of the table; what clients say of themselves cannot steer a terminal."""
    told = {name: value or "" for name, value in fields.items()}
    return _COLUMNS.format_map(printable(None, "", dict(told))).rstrip()


HEADER = _COLUMNS.format(
    connectionId="ID",
    state="STATE",
    connectedAt="CONNECTED",
    sourceIp="SOURCE IP",
    node="NODE",
    stage="STAGE",
    userAgent="USER AGENT",
)


async def print_list(
    listing: Listing, wanted: Filter, *, as_json: bool, limit: int, tell: Callable[[str], object]
) -> bool:
    """Print connections as they are read.

    Args:
        listing: Where they are.
        wanted: Which ones.
        as_json: A line of JSON each instead of a table.
        limit: How many; 0 for all.
        tell: Takes some lines.

    Returns:
        Whether there are more.
    """
    left = limit or sys.maxsize
    if not as_json:
        tell(f"{HEADER}\n")
    async for records in matching(listing, wanted, _now_ms()):
        fields = map(described, records[:left])
        if as_json:
            lines = [orjson.dumps(of_one).decode() for of_one in fields]
        else:
            lines = [row(of_one) for of_one in fields]
        if lines:
            tell("\n".join(lines) + "\n")
        if len(records) > left:
            return True
        left -= len(records)
    return False


async def count(listing: Listing, wanted: Filter) -> int:
    """Return how many connections are wanted; only a filter has to read them."""
    if wanted.takes_all:
        return await listing.count()
    return sum([len(records) async for records in matching(listing, wanted, _now_ms())])


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


# --- posting and closing


@dataclass(frozen=True, slots=True)
class _Leases:
    """What `Remote` asks of a process that has only just come."""

    store: RedisStore

    async def is_live(self, tag: bytes) -> bool:
        """Whether a node holds the lease of a tag, or has left connections behind."""
        reading = await self.store.read(tag)
        return reading.lease is not None or reading.entry_count > 0

    def whole(self) -> bool:
        """Where there is neither lease nor entry, nobody else would find the connection either."""
        return True


async def at_one_of(stages: Sequence[str], call: Callable[[str], Awaitable[None]]) -> None:
    """Do something at the first stage that has the connection.

    Raises:
        Gone: None has.
    """
    for stage in stages:
        try:
            await call(stage)
        except Gone:
            continue
        return
    raise Gone


# --- what all commands begin with


@dataclass(frozen=True, slots=True)
class _Where:
    """Whose connections, and in which Redis.

    Attributes:
        stages: All of the API, or those that were asked for.
    """

    settings: Settings
    api_id: str
    stages: Sequence[str]


def _where(
    path: Path | None,
    redis: str | None,
    api_id: str | None,
    stage: str | None,
    file: Path | None,
) -> _Where:
    flags = {"path": path, "redis": redis, "api_id": api_id, "stage": stage}
    given = {name: value for name, value in flags.items() if value is not None}
    settings, faults = load_settings(given, os.environ, file)
    configure_logging(pretty=sys.stderr.isatty(), level=logging.WARNING)
    if settings.redis is None and "redis" not in settings.at_fault:
        faults.append(
            Fault(
                settings.place("redis"),
                "there is none, and a gateway without Redis tells nobody of its connections",
                "name the Redis that the nodes share: --redis redis://HOST:PORT, or WSGATEWAY_REDIS",
            )
        )
    stages: Sequence[str] = []
    name = ""
    try:
        if settings.api_id is None or path is not None:
            definition = open_source(settings.path).definition()
            name, stages = definition.name, list(stages_to_serve(definition, settings))
        elif settings.stage is not None:
            stages = settings.stage.split(",")
    except OperatorFaults as error:
        faults += error.faults
        if path is None:
            faults.append(
                Fault("--api-id", "whose connections?", "name the API's id, or its definition")
            )
    if faults:
        _give_up(faults)
    return _Where(settings, settings.api_id or derived_api_id(name), stages)


def _give_up(faults: Iterable[Fault]) -> NoReturn:
    for fault in dict.fromkeys(faults):
        typer.echo(str(fault), err=True)
    raise typer.Exit(OPERATOR_FAULT)


@asynccontextmanager
async def _store(where: _Where) -> AsyncIterator[RedisStore]:
    # Redis' client takes a tenth of a second, which other commands do without.
    from wsgateway.cluster.connect import Timeouts, make_client  # noqa: PLC0415
    from wsgateway.cluster.engine import redis_location  # noqa: PLC0415
    from wsgateway.cluster.keys import Keys  # noqa: PLC0415
    from wsgateway.cluster.link import RedisTrouble  # noqa: PLC0415
    from wsgateway.cluster.redis_store import RedisStore  # noqa: PLC0415
    from wsgateway.cluster.servers import check  # noqa: PLC0415

    settings = where.settings
    location = redis_location(settings)
    timeouts = Timeouts(connect_s=settings.redis_timeout_s, answer_s=settings.redis_timeout_s)
    try:
        await check(location, timeouts, client_name=_CLIENT_NAME)
    except RedisTrouble as error:
        place = settings.place("redis")
        raise OperatorFaults([Fault(place, str(error), "see whether it runs there")]) from error
    client = make_client(location, timeouts=timeouts, client_name=_CLIENT_NAME)
    keys = Keys(settings.redis_prefix, where.api_id)
    store = RedisStore(client, keys, timeout_s=settings.redis_timeout_s)
    try:
        yield store
    finally:
        await store.close()
        await client.aclose()


@asynccontextmanager
async def _listing(where: _Where) -> AsyncIterator[Listing]:
    from wsgateway.cluster.listing import Listing  # noqa: PLC0415 - as in _store()

    async with _store(where) as store:
        yield Listing(store, api_id=where.api_id)


@asynccontextmanager
async def _callbacks(where: _Where) -> AsyncIterator[Callbacks]:
    """Have an end of the bus for as long as a block lasts."""
    from wsgateway.cluster.bus import Bus, BusLimits  # noqa: PLC0415 - as in _store()
    from wsgateway.cluster.connect import Timeouts  # noqa: PLC0415
    from wsgateway.cluster.engine import redis_location  # noqa: PLC0415
    from wsgateway.cluster.hub import Hub  # noqa: PLC0415
    from wsgateway.cluster.keys import Keys  # noqa: PLC0415
    from wsgateway.cluster.node import Node  # noqa: PLC0415
    from wsgateway.cluster.remote import Remote  # noqa: PLC0415
    from wsgateway.cluster.servers import servers_of  # noqa: PLC0415

    settings = where.settings
    timeouts = Timeouts(connect_s=settings.redis_timeout_s, answer_s=settings.redis_timeout_s)
    async with _store(where) as store:
        tag = random_bytes(TAG_SIZE)
        # A node's commands would come here too, and find no connection: it has none.
        while (await store.read(tag)).lease is not None:
            tag = random_bytes(TAG_SIZE)
        bus = Bus(
            servers_of(redis_location(settings), timeouts, client_name=_CLIENT_NAME),
            inbox_of=Keys(settings.redis_prefix, where.api_id).inbox,
            tag=tag,
            incarnation=random_bytes(8).hex(),
            local=Node(Hub()),
            ping_interval_s=settings.redis_timeout_s,
            limits=BusLimits(delivery_timeout_s=settings.delivery_timeout_s),
        )
        bus.start()
        try:
            try:
                async with asyncio.timeout(settings.redis_timeout_s * 2):
                    await bus.subscription.wait_healthy()
            except TimeoutError as error:
                fault = Fault(
                    settings.place("redis"),
                    f"no subscription: {bus.subscription.problem}",
                    "allow this user the channels that begin with the prefix",
                )
                raise OperatorFaults([fault]) from error
            leases = _Leases(store)
            yield Remote(bus, leases, leases, lookup_timeout_s=settings.redis_timeout_s)
        finally:
            await bus.close()


def _run(coroutine: Coroutine[object, object, _Result]) -> _Result:
    from wsgateway.cluster.store import ContactLost  # noqa: PLC0415 - as in _store()

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(coroutine)
    except OperatorFaults as error:
        _give_up(error.faults)
    except ContactLost as error:
        _give_up([Fault("--redis", f"contact was lost: {error}", "try again")])


async def _each(
    where: _Where,
    ids: Sequence[str],
    do: Callable[[Callbacks, ConnectionKey], Awaitable[None]],
    done: str,
) -> bool:
    """Do something to connections, one after the other; return whether all went well."""
    went_well = True
    async with _callbacks(where) as callbacks:
        for connection_id in ids:

            async def call(stage: str, connection_id: str = connection_id) -> None:
                await do(callbacks, ConnectionKey(where.api_id, stage, connection_id))

            try:
                await at_one_of(where.stages, call)
            except Gone:
                problem = "410, there is no such connection"
            except LimitExceeded:
                problem = "429, the client does not read, or too much is under way"
            except GatewayError as error:
                again = "; it may have happened" if getattr(error, "may_duplicate", False) else ""
                problem = f"500, {error}{again}"
            else:
                typer.echo(f"{connection_id} {done}")
                continue
            went_well = False
            typer.echo(f"{connection_id}: {problem}", err=True)
    return went_well


def _check_ids(where: _Where, ids: Sequence[str]) -> None:
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
        _give_up(faults)


# --- the commands

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
    where = _where(path, redis, api_id, stage, settings)
    wanted = _wanted(where, source_ip, older_than, user_agent, node)

    async def run() -> bool:
        async with _listing(where) as listing:
            return await print_list(listing, wanted, as_json=as_json, limit=limit, tell=_write)

    if _run(run()):
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
    where = _where(path, redis, api_id, stage, settings)
    wanted = _wanted(where, source_ip, older_than, user_agent, node)

    async def run() -> int:
        async with _listing(where) as listing:
            return await count(listing, wanted)

    typer.echo(_run(run()))


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
    payload = _payload(data, data_file)
    where = _where(path, redis, api_id, stage, settings)
    _check_ids(where, ids)
    if not _run(_each(where, ids, lambda to, key: to.post(key, payload), "has got it")):
        raise typer.Exit(REFUSED)


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
    where = _where(path, redis, api_id, stage, settings)
    _check_ids(where, ids)
    if not _run(_each(where, ids, lambda to, key: to.delete(key), "is closed")):
        raise typer.Exit(REFUSED)


def _wanted(
    where: _Where,
    source_ip: str | None,
    older_than: str | None,
    user_agent: str | None,
    node: str | None,
) -> Filter:
    try:
        return make_filter(
            stage=where.settings.stage,
            source_ip=source_ip,
            older_than=older_than,
            user_agent=user_agent,
            node=node,
        )
    except OperatorFaults as error:
        _give_up(error.faults)


def _payload(data: str | None, file: Path | None) -> bytes:
    try:
        if (data is None) == (file is None):
            _give_up([Fault("--data", "there is not one message", "give --data or --data-file")])
        payload = file.read_bytes() if file is not None else (data or "").encode()
        payload.decode()
    except (OSError, UnicodeError) as error:
        place = "--data" if file is None else "--data-file"
        _give_up([Fault(place, f"cannot be read: {error}", "name a file of UTF-8 text")])
    if len(payload) > MESSAGE_SIZE_MAX:
        problem = f"has {len(payload)} bytes"
        _give_up([Fault("--data", problem, f"a message has at most {MESSAGE_SIZE_MAX}")])
    return payload


def _write(lines: str) -> None:
    sys.stdout.write(lines)
    sys.stdout.flush()
