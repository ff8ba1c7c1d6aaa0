"""How the process runs: flags, then `WSGATEWAY_*` variables, then a TOML file, then defaults."""

from __future__ import annotations

import ipaddress
import platform
import re
import sys
import tomllib
from collections.abc import Mapping  # noqa: TC003 - pydantic reads the annotations
from difflib import get_close_matches
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError

from wsgateway import limits
from wsgateway.errors import Fault

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic_core import ErrorDetails

_PREFIX = "WSGATEWAY_"
# What Kubernetes sets in pods for a service that is called wsgateway, or wsgateway-*.
# https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
_IPV4, _IPV6 = r"\d+(\.\d+){3}", r"[\da-f:]+:[\da-f:.]*"
_SERVICE_LINK = re.compile(
    rf"""
    {_PREFIX} (\w+_)?
    ( SERVICE_HOST                    = ({_IPV4}|{_IPV6})
    | SERVICE_PORT (_\w+)?            = \d+
    | PORT (_\d+_(TCP|UDP|SCTP))?     = (tcp|udp|sctp)://({_IPV4}|\[{_IPV6}\]):\d+
    | PORT_\d+_(TCP|UDP|SCTP)_PROTO   = (tcp|udp|sctp)
    | PORT_\d+_(TCP|UDP|SCTP)_PORT    = \d+
    | PORT_\d+_(TCP|UDP|SCTP)_ADDR    = ({_IPV4}|{_IPV6})
    )""",
    re.ASCII | re.VERBOSE,
)
_API_ID_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"

_PORT_MAX = 65535
# More than a machine has cores; a slip of the finger must not start a million processes.
_WORKERS_MAX = 512

Port = Annotated[int, Field(ge=0, le=_PORT_MAX)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Delay = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


class Settings(BaseModel):
    """Every setting. The ones that AWS fixes default to AWS's value."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    _places: Mapping[str, str] = PrivateAttr({})
    _at_fault: frozenset[str] = PrivateAttr(frozenset())

    # What is served, and where.
    path: Path = Field(
        Path("routes"), description="Folder of handlers, or definition file (.yaml, .yml, .json)."
    )
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: Port = Field(8080, description="Port to listen on; 0 picks a free one.")
    management_port: Port | None = Field(
        None,
        description="Serve @connections, metrics and health on a port of their own; "
        "the main port then has only health.",
    )
    management_host: str | None = Field(
        None, description="Address of the management port; the same as host when unset."
    )
    stage: str | None = Field(
        None,
        description="Serve only these stages, comma-separated; where none is declared, their names "
        "(default dev).",
    )
    insecure_callbacks: bool = Field(
        default=False, description="Serve @connections off loopback without authentication."
    )
    callback_url: Annotated[str, Field(pattern="^https?://[^/]+")] | None = Field(
        None,
        description="What handlers find in WSGATEWAY_CALLBACK_URL; made from host, port and stage "
        "when unset.",
    )
    tls_certificate: Path | None = Field(None, description="PEM file; speaks TLS when set.")
    tls_key: Path | None = Field(None, description="PEM file of the certificate's key.")
    ca_file: Path | None = Field(
        None,
        description="PEM file of authorities to trust besides the system's, for HTTPS backends.",
    )
    reload: bool = Field(default=False, description="Swap changed handlers in while running.")
    workers: Annotated[int, Field(ge=1, le=_WORKERS_MAX)] = Field(
        1,
        description="Processes that share the port, each a node; more than one needs redis and "
        "Linux. Bounds are for each. The management port of the next one is one higher.",
    )

    # Who the gateway is, in ids, ARNs and events.
    api_id: Annotated[str, Field(pattern=r"^[a-z0-9]{1,32}$")] | None = Field(
        None, description="The API's id; ten characters derived from its name when unset."
    )
    account_id: Annotated[str, Field(pattern=r"^[0-9]{12}$")] = Field(
        "000000000000", description="AWS account in ARNs."
    )
    region: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,32}$")] = Field(
        "us-east-1", description="AWS region in ARNs."
    )

    # Logs.
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="auto is console on a terminal and json otherwise."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Lowest level to print; lines per message are info."
    )

    # Connections.
    idle_timeout_s: Seconds = Field(
        limits.IDLE_TIMEOUT_S, description="A connection without messages this long is closed."
    )
    connection_duration_max_s: Seconds = Field(
        limits.CONNECTION_DURATION_MAX_S, description="A connection this old is closed."
    )
    message_size_max: Annotated[int, Field(ge=1, le=limits.MESSAGE_SIZE_MAX)] = Field(
        limits.MESSAGE_SIZE_MAX, description="Bytes of a message from a client."
    )
    frame_size_max: Annotated[
        int, Field(ge=limits.CONTROL_FRAME_SIZE_MAX, le=limits.MESSAGE_SIZE_MAX)
    ] = Field(limits.FRAME_SIZE_MAX, description="Bytes of a frame, in both directions.")
    in_flight_max: Count = Field(
        limits.IN_FLIGHT_MAX,
        description="Messages of a connection handled at once; 1 keeps their order.",
    )
    waiting_size_max: Annotated[int, Field(ge=0)] = Field(
        limits.WAITING_SIZE_MAX,
        description="Bytes of messages that wait behind those; beyond it the socket is not read.",
    )
    send_buffer_max: Annotated[int, Field(ge=limits.MESSAGE_SIZE_MAX)] = Field(
        limits.SEND_BUFFER_MAX,
        description="Unsent bytes of a connection; beyond it posts are answered 429.",
    )
    close_timeout_s: Seconds = Field(
        limits.CLOSE_TIMEOUT_S, description="Time for the client's half of a closing handshake."
    )

    # HTTP.
    head_timeout_s: Seconds = Field(
        limits.HEAD_TIMEOUT_S,
        description="Time for a request's head; over TLS also for the TLS handshake.",
    )
    body_timeout_s: Seconds = Field(limits.BODY_TIMEOUT_S, description="Time for a request's body.")
    keep_alive_timeout_s: Seconds = Field(
        limits.KEEP_ALIVE_TIMEOUT_S, description="Time between requests of an HTTP connection."
    )
    head_size_max: Annotated[int, Field(ge=1024)] = Field(
        limits.HEAD_SIZE_MAX, description="Bytes of a request's head."
    )
    header_count_max: Count = Field(
        limits.HEADER_COUNT_MAX, description="Header lines of a request."
    )

    # Other nodes.
    node_name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,63}$")] | None = Field(
        None,
        description="What metrics and the log call this node; the machine's name when unset, "
        "and a number after it with several workers. Nodes may have the same name: what tells them "
        "apart is the tag that each draws.",
    )
    redis: str | None = Field(
        None,
        description="Redis that nodes share, so that they are one gateway: redis://HOST:PORT, "
        "rediss://, unix://, redis+cluster:// or redis+sentinel://.",
    )
    redis_username: str | None = Field(None, description="Instead of the one in the URL.")
    redis_password: str | None = Field(
        None, description="Instead of the one in the URL, which a list of processes shows."
    )
    redis_ca_file: Path | None = Field(
        None, description="PEM file of the authorities to trust for rediss://."
    )
    redis_prefix: str = Field("wsgateway", description="What the names of all keys begin with.")
    redis_wait: bool = Field(
        default=False, description="Wait for Redis at the start instead of giving up."
    )
    redis_timeout_s: Seconds = Field(2.0, description="Time for an answer of Redis.")
    redis_down: Literal["accept", "refuse"] = Field(
        "accept", description="What happens to new connections while Redis does not answer."
    )
    lease_s: Seconds = Field(
        5.0, description="A node that shows no life for so long is given up by the others."
    )
    delivery_timeout_s: Seconds = Field(
        2.0, description="Time for another node to take a post; beyond it the answer is 500."
    )
    recovery_rate: Seconds = Field(
        1000.0, description="$disconnects a second for nodes that are gone."
    )

    # Functions.
    integration_timeout_ms: Annotated[
        int, Field(ge=limits.INTEGRATION_TIMEOUT_MIN_MS, le=limits.INTEGRATION_TIMEOUT_MAX_MS)
    ] = Field(
        limits.INTEGRATION_TIMEOUT_MAX_MS,
        description="Time for a handler, and for an integration without a timeoutInMillis.",
    )
    handler_threads: Count = Field(
        limits.HANDLER_THREADS, description="Synchronous handlers that run at once."
    )
    function_concurrency_max: Count = Field(
        limits.FUNCTION_CONCURRENCY_MAX,
        description="Handlers that run or wait at once; beyond it calls are refused.",
    )
    disconnect_concurrency_max: Count = Field(
        limits.DISCONNECT_CONCURRENCY_MAX, description="$disconnect calls at once."
    )

    # Stopping.
    drain_delay_s: Delay = Field(
        0.0, description="Time between readiness off and the first closed connection."
    )
    drain_close_rate: Annotated[float, Field(gt=0)] = Field(
        limits.DRAIN_CLOSE_RATE, description="Connections closed a second while stopping."
    )
    drain_close_jitter: Annotated[float, Field(ge=0, le=1)] = Field(
        limits.DRAIN_CLOSE_JITTER,
        description="What part longer, at random, each pause between them is at most.",
    )
    grace_period_s: Delay = Field(
        limits.GRACE_PERIOD_S, description="Time for work in flight while stopping."
    )

    # Tests.
    wall_clock_offset_s: Annotated[float, Field(allow_inf_nan=False)] = Field(
        0.0,
        description="For tests: how wrong the clock of this node is. Durations do not depend on it.",
    )

    def place(self, name: str) -> str:
        """Return where a setting was set, or the flag that sets it."""
        return self._places.get(name, _flag(name))

    @property
    def name_of_node(self) -> str:
        """What people call this node."""
        return self.node_name or platform.node()

    @property
    def at_fault(self) -> frozenset[str]:
        """Settings that have their default because what was set could not be used."""
        return self._at_fault


def load_settings(
    flags: Mapping[str, object], environ: Mapping[str, str], file: Path | None
) -> tuple[Settings, list[Fault]]:
    """Merge the sources; each setting comes from the first one that has it.

    Args:
        flags: What was given on the command line, by setting.
        environ: The environment; `WSGATEWAY_PORT` sets `port`.
        file: A TOML file with settings at its top level.

    Returns:
        The settings, with the default for each one at fault; and all faults of all sources.
    """
    values: dict[str, object] = {}
    places: dict[str, str] = {}
    faults: list[Fault] = []
    unread = False
    if file is not None:
        try:
            text = file.read_text(encoding="utf-8-sig")
            for name, value in tomllib.loads(text).items():
                values[name], places[name] = value, f"{file}:{_line_of(name, text)}"
        except (OSError, ValueError) as error:
            unread = True
            faults.append(_file_fault(file, error))
    for variable, value in environ.items():
        name = variable.removeprefix(_PREFIX).lower()
        if variable.startswith(_PREFIX) and not _is_service_link(variable, value):
            values[name], places[name] = value, variable
    for name, value in flags.items():
        values[name], places[name] = value, _flag(name)
    at_fault = set(Settings.model_fields) - set(values) if unread else set()
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        details = {str(detail["loc"][0]): detail for detail in error.errors()}
        faults.extend(
            _fault(name, details[name], places[name]) for name in values if name in details
        )
        at_fault.update(details)
        values = {name: value for name, value in values.items() if name not in details}
        settings = Settings.model_validate(values)
    settings = settings.model_copy()
    settings._places = places  # noqa: SLF001 - what pydantic keeps out of its fields
    settings._at_fault = frozenset(at_fault)  # noqa: SLF001
    faults.extend(_conflicts(settings))
    return settings, faults


def derived_api_id(name: str) -> str:
    """Return the ten characters that an API of this name has as its id, on every node."""
    digest = int.from_bytes(sha256(name.encode()).digest()[:8])
    return "".join(_API_ID_ALPHABET[digest // 36**place % 36] for place in range(10))


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a socket bound to a host."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _conflicts(settings: Settings) -> Iterator[Fault]:
    """Yield what no single setting can tell."""
    place, unknown = settings.place, settings.at_fault
    own_port = settings.management_port is not None
    exposed = "management_host" if own_port and settings.management_host is not None else "host"
    host = getattr(settings, exposed)
    if not {"host", "management_port", "management_host", "insecure_callbacks"} & unknown:
        if not is_loopback(host) and not settings.insecure_callbacks:
            yield Fault(
                place(exposed),
                f"on {host or 'every address'} anyone who reaches the port could post to "
                "connections and close them, for @connections has no authentication",
                "keep @connections on this machine with --management-port and "
                "--management-host 127.0.0.1, or accept it with --insecure-callbacks; docs/operating.md "
                "tells what each means",
            )
        if own_port and settings.management_port == settings.port != 0:
            yield Fault(place("management_port"), "is the main port", "choose another")
    if settings.workers > 1:
        yield from _conflicts_of_workers(settings)
    for one, other, name in (
        ("management_host", "management_port", "management port"),
        ("tls_certificate", "tls_key", "tls_key"),
        ("tls_key", "tls_certificate", "tls_certificate"),
    ):
        missing = getattr(settings, other) is None and other not in unknown
        if getattr(settings, one) is not None and missing:
            yield Fault(place(one), f"there is no {name}", f"set {other} as well")


def _conflicts_of_workers(settings: Settings) -> Iterator[Fault]:
    place, unknown, count = settings.place, settings.at_fault, settings.workers
    if settings.redis is None and "redis" not in unknown:
        yield Fault(
            place("workers"),
            f"{count} workers know nothing of each other's connections without Redis: a post would "
            "be answered 410 by all but one",
            "name a Redis that they share with --redis, or leave --workers away",
        )
    if not sys.platform.startswith("linux"):
        yield Fault(
            place("workers"),
            "only Linux spreads a port's connections over processes",
            "start gateways on ports of their own behind a load balancer, or leave --workers away",
        )
    first = settings.management_port
    if not first or {"port", "management_port"} & unknown:
        return
    last = first + count - 1
    each = f"workers have the management ports {first} to {last}"
    if last > _PORT_MAX:
        yield Fault(place("management_port"), f"{each}, and {_PORT_MAX} is the last", "go lower")
    elif first < settings.port <= last:
        yield Fault(place("management_port"), f"{each}, one is the main port", "choose another")


def _fault(name: str, detail: ErrorDetails, place: str) -> Fault:
    if detail["type"] == "extra_forbidden":
        close = get_close_matches(name, Settings.model_fields, n=1)
        known = _PREFIX + close[0].upper() if close and place.startswith(_PREFIX) else close[:1]
        remedy = f"did you mean {''.join(known)}?" if close else "docs/configuration.md has all"
        return Fault(place, f"there is no setting {name!r}", remedy)
    # pydantic says: Input should be a valid integer, unable to parse string as an integer
    problem = re.sub(r"^\w+ should ", "must ", detail["msg"]).partition(", unable")[0]
    in_file = not place.startswith((_PREFIX, "--"))
    value = detail["input"]
    remedy = f"got {value!r}"
    if in_file and detail["type"] == "string_type":
        remedy = f'put it in quotes: "{value}"'
    return Fault(place, f"{name} {problem}" if in_file else problem, remedy)


def _file_fault(file: Path, error: OSError | ValueError) -> Fault:
    if isinstance(error, OSError):
        return Fault(str(file), f"cannot be read: {error.strerror}", "check the path")
    if isinstance(error, UnicodeDecodeError):
        line = error.object.count(b"\n", 0, error.start) + 1
        return Fault(f"{file}:{line}", f"is not UTF-8: {error.reason}", "save it as UTF-8")
    problem, _, at = str(error).partition(" (at ")
    found = re.match(r"line (\d+)", at)
    line = int(found[1]) if found else file.read_text(encoding="utf-8-sig").count("\n") + 1
    return Fault(f"{file}:{line}", f"is not TOML: {problem}", "see https://toml.io")


def _is_service_link(variable: str, value: str) -> bool:
    """Whether Kubernetes set a variable, for a service whose name begins with wsgateway.

    The value has to be one of its own: a setting that is misspelt, or has a URL as its port, is a
    fault to be told.
    """
    return _SERVICE_LINK.fullmatch(f"{variable}={value}") is not None


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _line_of(name: str, toml: str) -> int:
    for number, line in enumerate(toml.splitlines(), start=1):
        if re.match(rf"\s*\[?\s*[\"']?{re.escape(name)}[\"'\]\s.=]", line):
            return number
    return 1
