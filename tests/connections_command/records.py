"""Connections as they stand in Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wsgateway.cluster.entries import Record
from wsgateway.connection import ConnectionEntry, ConnectionKey
from wsgateway.connection_id import new_connection_id

if TYPE_CHECKING:
    from wsgateway.cluster.entries import Claim

API = "abcde12345"
ONE, TWO = b"\x00\x00\x01", b"\xf8\x00\x02"
CONNECTED_MS = 1_700_000_000_000
NOW_MS = CONNECTED_MS + 100_000
BROWSER = "Mozilla/5.0 (X11; Linux x86_64)"


def record(
    number: int = 0,
    *,
    tag: bytes = ONE,
    stage: str = "dev",
    source_ip: str = "192.0.2.7",
    user_agent: str | None = BROWSER,
    claim: Claim | None = None,
) -> Record:
    key = ConnectionKey(API, stage, new_connection_id(tag, number.to_bytes(7)))
    return Record(ConnectionEntry(key, CONNECTED_MS, "host", source_ip, user_agent), claim)
