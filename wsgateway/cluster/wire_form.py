"""What nodes write to each other: commands, replies and pings, as bytes.

All integers are big-endian; each text is UTF-8, its length is in the head.

    command  version 1  kind 1  correlation 8  reply-to tag 3  lengths 4 x 1
             incarnation  api  stage  connection id  payload (a post's message, to the end)
    reply    version 1  kind 1  correlation 8  outcome 1  length 1  incarnation  body
    ping     version 1  kind 1  token 8  incarnation (to the end)

The body of a reply is empty but for `Outcome.INFO`: connected-at 8, last-active-at 8, length of the
source IP 1, whether there is a user agent 1, source IP, user agent (to the end).

What cannot be read is refused as a whole. Nothing here reads a clock or awaits.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

from wsgateway.connection import ConnectionKey
from wsgateway.connection_id import TAG_SIZE
from wsgateway.contracts import ConnectionInfo
from wsgateway.errors import GatewayError
from wsgateway.limits import MESSAGE_SIZE_MAX

if TYPE_CHECKING:
    from typing import Final

VERSION: Final = 1
"""Changes with every change of the form: a node does not guess at what another version means."""
INCARNATION_SIZE_MAX: Final = 64
"""Bytes of the text that tells one life of a node from another with the same tag."""

_TEXT_SIZE_MAX = 255
_COMMAND = Struct("!BBQ3sBBBB")
_REPLY = Struct("!BBQBB")
_PING = Struct("!BBQ")
_INFO = Struct("!qqB?")
SIZE_MAX: Final = _COMMAND.size + INCARNATION_SIZE_MAX + 3 * _TEXT_SIZE_MAX + MESSAGE_SIZE_MAX
"""Bytes of the longest thing that one node writes to another."""


class Kind(IntEnum):
    """What a message between nodes is."""

    POST = 1
    GET = 2
    DELETE = 3
    REPLY = 16
    PING = 17


class Outcome(IntEnum):
    """What the owner of a connection says came of a command."""

    WRITTEN = 1
    """Handed to the connection; for a delete, the closing has begun."""
    INFO = 2
    GONE = 3
    FULL = 4
    """The client does not read."""
    FAILED = 5
    """The owner itself failed; what came of it is not known."""


# Calling an IntEnum costs three times a look-up.
_COMMANDS = {int(kind): kind for kind in (Kind.POST, Kind.GET, Kind.DELETE)}
_OUTCOMES = {int(outcome): outcome for outcome in Outcome}


class Command(NamedTuple):
    """What one node asks of the owner of a connection.

    Attributes:
        kind: `POST`, `GET` or `DELETE`.
        correlation: Repeated by the reply.
        reply_tag: The tag of the node that asks.
        incarnation: Which life of it asks; repeated by the reply.
        key: The connection.
        payload: A post's message, UTF-8; otherwise empty.
    """

    kind: Kind
    correlation: int
    reply_tag: bytes
    incarnation: str
    key: ConnectionKey
    payload: bytes = b""


class Reply(NamedTuple):
    """What the owner answers; `info` is there exactly when the outcome is `INFO`."""

    correlation: int
    incarnation: str
    outcome: Outcome
    info: ConnectionInfo | None = None


class Ping(NamedTuple):
    """What a node writes to its own inbox to see whether it arrives."""

    token: int
    incarnation: str


class Unreadable(GatewayError):
    """Bytes in an inbox that are no message of this version."""


class UnknownVersion(Unreadable):
    """A message of a node that runs another version."""


def encode_command(command: Command) -> bytes:
    """Write a command.

    Raises:
        ValueError: A part is longer than the form allows.
    """
    kind, correlation, reply_tag, text, key, payload = command
    incarnation = text.encode()
    api_id, stage, connection_id = key[0].encode(), key[1].encode(), key[2].encode()
    if len(payload) > MESSAGE_SIZE_MAX or len(incarnation) > INCARNATION_SIZE_MAX:
        raise ValueError("a command does not fit into its form")
    lengths = len(incarnation), len(api_id), len(stage), len(connection_id)
    if max(lengths) > _TEXT_SIZE_MAX or len(reply_tag) != TAG_SIZE:
        raise ValueError("a command does not fit into its form")
    head = _COMMAND.pack(VERSION, kind, correlation, reply_tag, *lengths)
    return b"".join((head, incarnation, api_id, stage, connection_id, payload))


def encode_reply(reply: Reply) -> bytes:
    """Write a reply.

    Raises:
        ValueError: A part is longer than the form allows.
    """
    correlation, text, outcome, info = reply
    incarnation = text.encode()
    if len(incarnation) > INCARNATION_SIZE_MAX:
        raise ValueError("a reply does not fit into its form")
    head = _REPLY.pack(VERSION, Kind.REPLY, correlation, outcome, len(incarnation))
    if info is None:
        return head + incarnation
    source_ip = info.source_ip.encode()
    user_agent = None if info.user_agent is None else info.user_agent.encode()
    if len(source_ip) > _TEXT_SIZE_MAX or len(user_agent or b"") > MESSAGE_SIZE_MAX:
        raise ValueError("a reply does not fit into its form")
    body = _INFO.pack(
        info.connected_at_ms, info.last_active_at_ms, len(source_ip), user_agent is not None
    )
    return b"".join((head, incarnation, body, source_ip, user_agent or b""))


def encode_ping(ping: Ping) -> bytes:
    """Write a ping."""
    return _PING.pack(VERSION, Kind.PING, ping.token) + ping.incarnation.encode()


def decode(data: bytes) -> Command | Reply | Ping:
    """Read what another node, or this one, wrote.

    Raises:
        UnknownVersion: It is of another version.
        Unreadable: It is nothing that a node writes.
    """
    if len(data) < _PING.size or len(data) > SIZE_MAX:
        raise Unreadable(f"{len(data)} bytes")
    if data[0] != VERSION:
        raise UnknownVersion(f"version {data[0]}")
    kind = data[1]
    try:
        if kind == Kind.REPLY:
            return _decode_reply(data)
        if kind == Kind.PING:
            return _decode_ping(data)
        return _decode_command(data)
    # A ValueError is text that is not UTF-8.
    except (ValueError, _Cut) as error:
        raise Unreadable(str(error)) from error


class _Cut(Exception):
    """A length that leads beyond the end, or bytes behind the end."""


def _decode_command(data: bytes) -> Command:
    kind = _COMMANDS.get(data[1])
    if kind is None or len(data) < _COMMAND.size:
        raise _Cut("no whole head of a known kind")
    _, _, correlation, reply_tag, *lengths = _COMMAND.unpack_from(data)
    if lengths[0] > INCARNATION_SIZE_MAX:
        raise _Cut("too long an incarnation")
    start = _COMMAND.size
    in_reply = start + lengths[0]
    api_end = in_reply + lengths[1]
    stage_end = api_end + lengths[2]
    id_end = stage_end + lengths[3]
    payload = data[id_end:]
    if id_end > len(data) or len(payload) > MESSAGE_SIZE_MAX or (payload and kind != Kind.POST):
        raise _Cut("parts that do not add up")
    # Only text may be sent on.
    payload.decode()
    key = ConnectionKey(
        data[in_reply:api_end].decode(),
        data[api_end:stage_end].decode(),
        data[stage_end:id_end].decode(),
    )
    return Command(kind, correlation, reply_tag, data[start:in_reply].decode(), key, payload)


def _decode_reply(data: bytes) -> Reply:
    if len(data) < _REPLY.size:
        raise _Cut("no whole head")
    _, _, correlation, number, length = _REPLY.unpack_from(data)
    outcome = _OUTCOMES.get(number)
    if outcome is None:
        raise _Cut("an unknown outcome")
    end = _REPLY.size + length
    if length > INCARNATION_SIZE_MAX or end > len(data):
        raise _Cut("parts that do not add up")
    if (outcome == Outcome.INFO) != (end < len(data)):
        raise _Cut("a body where there is none, or none where there is one")
    info = _decode_info(data[end:]) if outcome == Outcome.INFO else None
    return Reply(correlation, data[_REPLY.size : end].decode(), outcome, info)


def _decode_info(body: bytes) -> ConnectionInfo:
    if len(body) < _INFO.size or body[_INFO.size - 1] > 1:
        raise _Cut("no whole body")
    connected_at_ms, last_active_at_ms, length, has_user_agent = _INFO.unpack_from(body)
    end = _INFO.size + length
    if end > len(body) or (end < len(body) and not has_user_agent):
        raise _Cut("parts that do not add up")
    source_ip = body[_INFO.size : end].decode()
    user_agent = body[end:].decode() if has_user_agent else None
    return ConnectionInfo(connected_at_ms, last_active_at_ms, source_ip, user_agent)


def _decode_ping(data: bytes) -> Ping:
    if len(data) > _PING.size + INCARNATION_SIZE_MAX:
        raise _Cut("too long an incarnation")
    return Ping(_PING.unpack_from(data)[2], data[_PING.size :].decode())
