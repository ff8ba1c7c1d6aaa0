"""Ids: AWS's shape, what each byte says, and what is no id."""

from __future__ import annotations

from base64 import urlsafe_b64decode

import pytest
from hypothesis import given, strategies as st

from wsgateway.connection_id import (
    ENTROPY_SIZE,
    TAG_SIZE,
    has_shape_of_id,
    new_connection_id,
    new_message_id,
    new_request_id,
    orphan_request_id,
    owner_tag,
)

tags = st.binary(min_size=TAG_SIZE, max_size=TAG_SIZE)
entropies = st.binary(min_size=ENTROPY_SIZE, max_size=ENTROPY_SIZE)


def test_a_connection_id_is_tag_randomness_two_and_randomness() -> None:
    connection_id = new_connection_id(b"\x01\x02\x03", bytes(range(0x10, 0x1A)))

    assert connection_id == "AQIDEBESExQCFRY="
    assert urlsafe_b64decode(connection_id).hex(" ") == "01 02 03 10 11 12 13 14 02 15 16"


def test_a_request_id_has_five_at_byte_eight() -> None:
    request_id = new_request_id(bytes(range(0x10, 0x1A)))

    assert request_id == "EBESExQVFhcFGBk="
    assert urlsafe_b64decode(request_id).hex(" ") == "10 11 12 13 14 15 16 17 05 18 19"


def test_a_message_id_ends_in_the_last_three_bytes_of_its_connection_id() -> None:
    message_id = new_message_id("AQIDEBESExQCFRY=", bytes(range(0x20, 0x2A)))

    assert message_id == "ICEiIyQlJicCFRY="
    assert urlsafe_b64decode(message_id).hex(" ") == "20 21 22 23 24 25 26 27 02 15 16"


def test_the_id_of_an_orphans_disconnect_is_the_same_on_every_node() -> None:
    request_id = orphan_request_id("AQIDEBESExQCFRY=")

    assert request_id == "1WDG62OWv_QFBEk="
    assert urlsafe_b64decode(request_id)[8] == 0x05
    assert orphan_request_id("AQIDEBESExQCFRc=") != request_id


def test_ids_use_the_url_safe_alphabet() -> None:
    ones = b"\xff" * ENTROPY_SIZE

    assert new_connection_id(b"\xfb\xff\xfe", ones) == "-__-______8C__8="
    assert new_request_id(b"\xfb\xff\xfe" + ones) == "-__-______8F__8="
    assert new_message_id("-__-______8C__8=", b"\xfb\xff\xfe" + ones) == "-__-______8C__8="


@given(tags, entropies)
def test_every_connection_id_names_its_owner(tag: bytes, entropy: bytes) -> None:
    connection_id = new_connection_id(tag, entropy)

    assert owner_tag(connection_id) == tag
    assert urlsafe_b64decode(connection_id)[8] == 0x02


@given(tags, entropies, entropies)
def test_every_id_has_the_shape_of_the_others(tag: bytes, one: bytes, other: bytes) -> None:
    connection_id = new_connection_id(tag, one)

    for each in (connection_id, new_request_id(other), new_message_id(connection_id, other)):
        assert len(each) == 16
        assert owner_tag(each) is not None


@pytest.mark.parametrize(
    ("captured", "byte_8"),
    [
        ("BFaT_fALIAMCKug=", 0x02),
        ("TXzPWdnOjoECGjA=", 0x02),
        ("PJqB0fHsqRcCHlw=", 0x02),
        ("PJqCFfHyKRcCHlw=", 0x02),
        ("BFbOeE87IAMF31w=", 0x05),
        ("TXzPWFkkjoEF92g=", 0x05),
        ("PJqCOG4zqRcFcPw=", 0x05),
    ],
)
def test_ids_captured_from_api_gateway_have_this_shape(captured: str, byte_8: int) -> None:
    assert owner_tag(captured) == urlsafe_b64decode(captured)[:3]
    assert urlsafe_b64decode(captured)[8] == byte_8


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "=",
        "AQIDEBESExQCFRY",
        "AQIDEBESExQCFRY==",
        "AQIDEBESExQCFRYA",
        "AQIDEBESExQCFR==",
        "AQIDEBESExQCFRYAA=",
        "AQIDEBESExQCFR/=",
        "AQIDEBESExQCFR+=",
        "AQIDEBESExQCFR%=",
        "AQIDEBESExQCFR é=",
        "AQIDEBESExQCFRé=",
        "AQIDEBESExQCFR٣=",
        "AQIDEBESExQCFRY=\n",
        " AQIDEBESExQCFRY=",
        "AQIDEBESExQCFRY%3D",
    ],
)
def test_what_has_another_shape_is_no_id(text: str) -> None:
    assert owner_tag(text) is None
    assert not has_shape_of_id(text)
