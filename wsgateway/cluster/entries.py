"""How a connection's entry is written down: compact JSON with a version.

    field   the connection's id (16 characters) and behind it the stage's name
    value   [1, connected_at_ms, domain_name, source_ip, user_agent]
            or, from its claim on, with [request_id, code, reason] at the end

What is not understood is refused: a newer version's entries are left to nodes that know it.
"""

from __future__ import annotations

from typing import NamedTuple

import orjson

from wsgateway.connection import ConnectionEntry, ConnectionKey
from wsgateway.connection_id import has_shape_of_id
from wsgateway.errors import GatewayError

VERSION = 1
_ID_SIZE = 16


class Claim(NamedTuple):
    """The one `$disconnect` of a connection.

    Attributes:
        request_id: Of the event; a redelivery has the same.
        code: `disconnectStatusCode`.
        reason: `disconnectReason`.
    """

    request_id: str
    code: int
    reason: str


class Record(NamedTuple):
    """What the registry holds of a connection; `claim` is None for as long as it is open."""

    entry: ConnectionEntry
    claim: Claim | None


class EntryRefused(GatewayError):
    """What stands in Redis is no entry of a version that this node knows."""


def field_of(key: ConnectionKey) -> bytes:
    """Return the field of a connection in its node's hash."""
    return f"{key.connection_id}{key.stage}".encode()


def encode(entry: ConnectionEntry, claim: Claim | None = None) -> bytes:
    """Return the value of a connection's field."""
    value: list[object] = [
        VERSION,
        entry.connected_at_ms,
        entry.domain_name,
        entry.source_ip,
        entry.user_agent,
    ]
    if claim is not None:
        value.append(claim)
    return orjson.dumps(value, default=tuple, option=orjson.OPT_PASSTHROUGH_SUBCLASS)


def key_of(api_id: str, field: bytes) -> ConnectionKey:
    """Return whose field this is.

    Raises:
        EntryRefused: It is no connection's.
    """
    try:
        text = field.decode()
    except UnicodeDecodeError as error:
        raise EntryRefused("a field is no UTF-8") from error
    connection_id, stage = text[:_ID_SIZE], text[_ID_SIZE:]
    if not has_shape_of_id(connection_id) or not stage:
        raise EntryRefused("a field is no connection's")
    return ConnectionKey(api_id, stage, connection_id)


def decode(api_id: str, field: bytes, value: bytes) -> Record:
    """Return what a field and its value say.

    Raises:
        EntryRefused: Not this version, or not of its form.
    """
    key = key_of(api_id, field)
    try:
        values = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise EntryRefused("an entry is no JSON") from error
    match values:
        case [
            1,
            int(connected_at_ms),
            str(domain_name),
            str(source_ip),
            str() | None as user_agent,
            *rest,
        ]:
            entry = ConnectionEntry(key, connected_at_ms, domain_name, source_ip, user_agent)
        case [int(version), *_] if version != VERSION:
            raise EntryRefused(f"an entry has version {version}, this node knows {VERSION}")
        case _:
            raise EntryRefused("an entry has not the form of its version")
    match rest:
        case []:
            return Record(entry, None)
        case [[str(request_id), int(code), str(reason)]]:
            return Record(entry, Claim(request_id, code, reason))
        case _:
            raise EntryRefused("an entry has not the form of its version")
