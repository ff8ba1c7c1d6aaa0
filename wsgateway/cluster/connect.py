"""How Redis is reached: what the setting says, and clients for it.

    redis://[user[:password]@]host[:port][/db]         rediss:// speaks TLS
    unix://[user[:password]@]/path/to/socket[?db=1]
    redis+cluster://[...@]host[:port][,host[:port]...]  any of its nodes; rediss+cluster://
    redis+sentinel://[...@]host[:port][,...]/service[/db][?sentinel_user=..&sentinel_password=..]

Percent-encode what user names and passwords have of `@ : / ? #`.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from redis.asyncio import (
    BlockingConnectionPool,
    Connection,
    Redis,
    RedisCluster,
    Sentinel,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.backoff import NoBackoff

if TYPE_CHECKING:
    from pathlib import Path
    from urllib.parse import SplitResult

PORT = 6379
SENTINEL_PORT = 26379
DB_MAX = 65_535


class Address(NamedTuple):
    """Where one server listens; a path and port 0 for a Unix socket."""

    host: str
    port: int

    def __str__(self) -> str:
        """As in a URL."""
        if self.is_path:
            return self.host
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_path(self) -> bool:
        """Whether it is a Unix socket."""
        return not self.port


class Topology(StrEnum):
    """What stands behind the addresses."""

    SINGLE = "single"
    CLUSTER = "cluster"
    SENTINEL = "sentinel"


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who the gateway is to a server; no password is an unprotected one."""

    username: str | None = None
    password: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long one waits for Redis.

    Attributes:
        connect_s: For a connection, TLS and greeting included.
        answer_s: For the answer to a command, and for a place in the pool.
    """

    connect_s: float = 2.0
    answer_s: float = 2.0


@dataclass(frozen=True, slots=True)
class Tls:
    """With whom one speaks TLS.

    Attributes:
        context: For connections of our own.
        ca_file: Authorities to trust instead of the system's.
        certificate: The gateway's own, if the server asks for one.
        key: Its key.
    """

    context: ssl.SSLContext = field(repr=False)
    ca_file: Path | None = None
    certificate: Path | None = None
    key: Path | None = None


@dataclass(frozen=True, slots=True)
class Location:
    """Where Redis is, and how to speak to it. Making one opens no connection.

    Attributes:
        topology: What stands behind the addresses.
        addresses: The server; some nodes of the cluster; the sentinels.
        credentials: For the servers.
        db: The number of the database.
        tls: None speaks plain TCP.
        service: What the sentinels call the master.
        sentinel_credentials: For the sentinels.
    """

    topology: Topology
    addresses: tuple[Address, ...]
    credentials: Credentials
    db: int = 0
    tls: Tls | None = None
    service: str = ""
    sentinel_credentials: Credentials = field(default_factory=Credentials)

    def __str__(self) -> str:
        """For logs and messages: no user, no password."""
        scheme = "rediss" if self.tls else "redis"
        places = ",".join(map(str, self.addresses))
        match self.topology:
            case Topology.CLUSTER:
                return f"{scheme}+cluster://{places}"
            case Topology.SENTINEL:
                return f"{scheme}+sentinel://{places}/{self.service}"
            case Topology.SINGLE:
                scheme = "unix" if self.addresses[0].is_path else scheme
                return f"{scheme}://{places}"


def parse_location(
    url: str,
    *,
    ca_file: Path | None = None,
    certificate: Path | None = None,
    key: Path | None = None,
    username: str | None = None,
    password: str | None = None,
) -> Location:
    """Read the settings.

    Args:
        url: In one of the forms above.
        ca_file: PEM file of the authorities to trust; the system's when unset.
        certificate: PEM file of the gateway's own certificate.
        key: PEM file of its key.
        username: Instead of the URL's, which others may see in a list of processes.
        password: Instead of the URL's.

    Raises:
        ValueError: Something cannot be used; the message says what would be right, and no password.
    """
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise ValueError(f"not a URL ({error}); write redis://host:6379") from error
    scheme, _, kind = parts.scheme.partition("+")
    topology = {"": Topology.SINGLE, "cluster": Topology.CLUSTER, "sentinel": Topology.SENTINEL}
    if (
        kind not in topology
        or scheme not in {"redis", "rediss", "unix"}
        or (scheme == "unix" and kind)
    ):
        raise ValueError(
            f"{parts.scheme or 'no scheme'}:// is not known; write redis://, rediss://, unix://, "
            "redis+cluster:// or redis+sentinel://"
        )
    if parts.fragment:
        raise ValueError("a URL of Redis has no #; write it as %23 in a password")
    tls = _tls(ca_file, certificate, key) if scheme == "rediss" else None
    if tls is None and (ca_file or certificate or key):
        raise ValueError("certificates are for TLS only; write rediss://")
    userinfo, _, hosts = parts.netloc.rpartition("@")
    credentials = _credentials(userinfo, username, password)
    query = _query(parts, topology[kind], is_path=scheme == "unix")
    if scheme == "unix":
        return _unix(parts, hosts, credentials, query)
    port = SENTINEL_PORT if kind == "sentinel" else PORT
    addresses = tuple(_address(text, port) for text in hosts.split(","))
    if kind == "" and len(addresses) > 1:
        raise ValueError("several hosts are a cluster or sentinels; write redis+cluster://")
    path = [unquote(part) for part in parts.path.split("/") if part]
    service = ""
    if kind == "sentinel":
        if not path:
            raise ValueError("sentinels need the name of the master; write .../service behind them")
        service = path.pop(0)
    if kind == "cluster" and path not in ([], ["0"]):
        raise ValueError("a cluster has database 0 only; leave the path away")
    if len(path) > 1:
        raise ValueError("the path is the number of a database; write /0")
    return Location(
        topology[kind],
        addresses,
        credentials,
        _db(path[0]) if path else 0,
        tls,
        service,
        _known("the sentinels'", query.get("sentinel_user"), query.get("sentinel_password")),
    )


def _unix(
    parts: SplitResult, host: str, credentials: Credentials, query: dict[str, str]
) -> Location:
    if host or not parts.path.startswith("/"):
        raise ValueError("a Unix socket is an absolute path; write unix:///run/redis.sock")
    address = Address(unquote(parts.path), 0)
    return Location(Topology.SINGLE, (address,), credentials, _db(query.get("db", "0")))


def _query(parts: SplitResult, topology: Topology, *, is_path: bool) -> dict[str, str]:
    known = {"sentinel_user", "sentinel_password"} if topology is Topology.SENTINEL else set()
    if is_path:
        known = {"db"}
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    if unknown := sorted(query.keys() - known):
        remedy = f"there is {', '.join(sorted(known))}" if known else "leave it away"
        raise ValueError(f"?{unknown[0]} is not known here; {remedy}")
    return query


def _credentials(userinfo: str, username: str | None, password: str | None) -> Credentials:
    in_url, _, secret = userinfo.partition(":")
    return _known("the", username or unquote(in_url) or None, password or unquote(secret) or None)


def _known(whose: str, username: str | None, password: str | None) -> Credentials:
    if username and not password:
        # redis://secret@host is what one means by it now and then.
        raise ValueError(f"{whose} user has no password; write user:password@ or :password@")
    return Credentials(username, password)


def _address(text: str, default_port: int) -> Address:
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"{text} is no host and port; write host:{default_port}") from error
    if not host or port == 0:
        raise ValueError(f"{text or 'nothing'} is no host and port; write host:{default_port}")
    return Address(host, default_port if port is None else port)


def _db(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) > DB_MAX:
        raise ValueError(f"{text} is not the number of a database; write 0 or one that Redis has")
    return int(text)


def _tls(ca_file: Path | None, certificate: Path | None, key: Path | None) -> Tls:
    if (certificate is None) != (key is None):
        raise ValueError("a certificate needs its key, and a key its certificate; name both")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        if ca_file is None:
            context.load_default_certs()
        else:
            context.load_verify_locations(ca_file)
    # ssl.SSLError is one too.
    except OSError as error:
        raise ValueError(f"{ca_file} cannot be used ({error}); name a PEM file") from error
    if certificate is not None and key is not None:
        try:
            # The password of a locked key would be asked for on the terminal.
            context.load_cert_chain(certificate, key, password="")
        except OSError as error:
            raise ValueError(
                f"{certificate} and {key} cannot be used ({error}); name a PEM certificate and its "
                "key, without a password"
            ) from error
    return Tls(context, ca_file, certificate, key)


AnyRedis = Redis | RedisCluster


class _SentinelPool(SentinelConnectionPool):
    """Closes also what asks the sentinels, which redis-py leaves open."""

    async def aclose(self) -> None:
        await super().aclose()
        for client in self.sentinel_manager.sentinels:
            await client.aclose()


def make_client(
    location: Location,
    *,
    connections_max: int = 16,
    timeouts: Timeouts | None = None,
    client_name: str | None = None,
) -> AnyRedis:
    """Return a client for keys and scripts; the inboxes have connections of their own (`link`).

    It connects when it is first used, and repeats nothing by itself: whether a command that was
    not answered may be sent again, only its caller knows. When `connections_max` are in use (per
    node, on a cluster), a single server's client waits `timeouts.answer_s` for one; the others
    raise at once.
    """
    timeouts = timeouts or Timeouts()
    common: dict[str, Any] = {
        "username": location.credentials.username,
        "password": location.credentials.password,
        "socket_timeout": timeouts.answer_s,
        "socket_connect_timeout": timeouts.connect_s,
        "client_name": client_name,
        # Redis has CLIENT SETINFO from 7.2 on only, nobody looks at it, and it is a round trip.
        "driver_info": None,
    }
    tls = _tls_arguments(location.tls)
    match location.topology:
        case Topology.CLUSTER:
            return RedisCluster(
                startup_nodes=[ClusterNode(*address) for address in location.addresses],
                max_connections=connections_max,
                # One shard that fails over must not stop the others.
                require_full_coverage=False,
                retry=_no_retry(),
                ssl=location.tls is not None,
                **tls,
                **common,
            )
        case Topology.SENTINEL:
            sentinel_arguments = {
                **common,
                "username": location.sentinel_credentials.username,
                "password": location.sentinel_credentials.password,
                "retry": _no_retry(),
                "ssl": location.tls is not None,
                **tls,
            }
            sentinels = Sentinel(  # type: ignore[no-untyped-call]
                list(location.addresses), sentinel_kwargs=sentinel_arguments
            )
            client: Redis = sentinels.master_for(
                location.service,
                connection_pool_class=_SentinelPool,
                db=location.db,
                max_connections=connections_max,
                retry=_no_retry(),
                ssl=location.tls is not None,
                **tls,
                **common,
            )
            return client
        case Topology.SINGLE:
            address = location.addresses[0]
            connection_class: type[Connection | UnixDomainSocketConnection] = Connection
            if address.is_path:
                where: dict[str, Any] = {"path": address.host}
                connection_class = UnixDomainSocketConnection
            else:
                where = {"host": address.host, "port": address.port}
                if location.tls is not None:
                    connection_class = SSLConnection
            return Redis.from_pool(
                BlockingConnectionPool(
                    connection_class=connection_class,
                    max_connections=connections_max,
                    timeout=timeouts.answer_s,
                    db=location.db,
                    retry=_no_retry(),
                    **where,
                    **tls,
                    **common,
                )
            )


def _no_retry() -> Retry:
    return Retry(NoBackoff(), 0)


def _tls_arguments(tls: Tls | None) -> dict[str, Any]:
    if tls is None:
        return {}
    named = {"ssl_ca_certs": tls.ca_file, "ssl_certfile": tls.certificate, "ssl_keyfile": tls.key}
    return {name: str(path) for name, path in named.items() if path is not None}
