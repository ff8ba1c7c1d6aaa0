"""How a connection's entry is written down."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given, strategies as st

from wsgateway.cluster.entries import (
    Claim,
    EntryRefused,
    Record,
    decode,
    encode,
    field_of,
    key_of,
)
from wsgateway.connection import ConnectionEntry, ConnectionKey

KEY = ConnectionKey("abcde12345", "dev", "AQIDBAUGBwgCCQo=")
ENTRY = ConnectionEntry(KEY, 1708326702789, "example.com:8080", "192.0.2.10", "client/1.0")
FIELD = b"AQIDBAUGBwgCCQo=dev"

latin_1 = st.text(st.characters(max_codepoint=255))


def test_an_open_connection() -> None:
    assert field_of(KEY) == FIELD
    assert encode(ENTRY) == b'[1,1708326702789,"example.com:8080","192.0.2.10","client/1.0"]'


def test_one_whose_disconnect_is_claimed() -> None:
    entry = ConnectionEntry(KEY, 1, "h", "::1", None)

    value = encode(entry, Claim("AQIDBAUGBwgFCQo=", 1001, "Going away"))

    assert value == b'[1,1,"h","::1",null,["AQIDBAUGBwgFCQo=",1001,"Going away"]]'


@given(
    entry=st.builds(
        ConnectionEntry,
        key=st.builds(
            ConnectionKey,
            api_id=st.just("abcde12345"),
            stage=st.text(min_size=1),
            connection_id=st.just(KEY.connection_id),
        ),
        connected_at_ms=st.integers(0, 2**53),
        domain_name=latin_1,
        source_ip=latin_1,
        user_agent=st.none() | latin_1,
    ),
    claim=st.none() | st.builds(Claim, st.text(), st.integers(1000, 4999), st.text()),
)
def test_what_is_written_can_be_read(entry: ConnectionEntry, claim: Claim | None) -> None:
    value = encode(entry, claim)

    assert decode("abcde12345", field_of(entry.key), value) == Record(entry, claim)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"{}",
        b"[]",
        b"1",
        b'[2,1,"h","i",null]',
        b'["1",1,"h","i",null]',
        b'[1,"1","h","i",null]',
        b'[1,1,"h","i"]',
        b'[1,1,"h","i",5]',
        b'[1,1,"h","i",null,["r",1006]]',
        b'[1,1,"h","i",null,["r","1006",""]]',
        b'[1,1,"h","i",null,["r",1006,""],1]',
        b"\x80\x04K\x01.",
    ],
)
def test_what_is_not_understood_is_refused(value: bytes) -> None:
    with pytest.raises(EntryRefused):
        decode("abcde12345", FIELD, value)


@pytest.mark.parametrize("field", [b"", b"AQIDBAUGBwgCCQo=", b"short", b"\xff" * 20, b"." * 20])
def test_a_field_of_no_connection_is_refused(field: bytes) -> None:
    with pytest.raises(EntryRefused):
        key_of("abcde12345", field)


@given(st.binary(), st.binary())
def test_nothing_else_is_raised(field: bytes, value: bytes) -> None:
    for one in (field, FIELD):
        with suppress(EntryRefused):
            decode("abcde12345", one, value)
