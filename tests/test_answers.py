"""Errors on the wire, byte for byte."""

from __future__ import annotations

import json
import re
from itertools import count
from uuid import UUID

import pytest
from hypothesis import given, strategies as st

from wsgateway.answers import REQUEST_ID_ENTROPY_SIZE, error_body, id_headers

CONNECTION_ID = "BFaT_fALIAMCKug="
REQUEST_ID = "BFbOeE87IAMF31w="


def test_an_error_frame_has_the_irregular_spacing_of_api_gateway() -> None:
    assert error_body("Forbidden", CONNECTION_ID, REQUEST_ID) == (
        b'{"message": "Forbidden", '
        b'"connectionId":"BFaT_fALIAMCKug=", "requestId":"BFbOeE87IAMF31w="}'
    )


@pytest.mark.parametrize(
    ("message", "body"),
    [
        ("Forbidden", b'{"message":"Forbidden"}'),
        ('a"b\\c', rb'{"message":"a\"b\\c"}'),
        ("a\nb\x00\x1f", rb'{"message":"a\nb\u0000\u001f"}'),
        ("é😀", rb'{"message":"\u00e9\ud83d\ude00"}'),
        ("\ud800", rb'{"message":"\ud800"}'),
    ],
)
def test_an_error_without_a_connection_is_the_message_alone(message: str, body: bytes) -> None:
    assert error_body(message) == body


@given(st.text(st.characters(exclude_categories=())))
def test_every_message_comes_back_from_its_json(message: str) -> None:
    assert json.loads(error_body(message)) == {"message": message}
    assert json.loads(error_body(message, CONNECTION_ID, REQUEST_ID)) == {
        "message": message,
        "connectionId": CONNECTION_ID,
        "requestId": REQUEST_ID,
    }


def test_the_headers_of_an_answer_are_a_uuid_and_an_extended_request_id() -> None:
    asked = []

    def entropy(size: int) -> bytes:
        asked.append(size)
        return bytes(range(size))

    assert id_headers(entropy) == [
        (b"x-amzn-RequestId", b"00010203-0405-4607-a809-0a0b0c0d0e0f"),
        (b"x-amz-apigw-id", b"EBESExQVFhcFGBk="),
    ]
    assert asked == [REQUEST_ID_ENTROPY_SIZE]


def test_a_request_that_has_an_id_keeps_it_in_its_answer() -> None:
    headers = dict(id_headers(bytes, REQUEST_ID))

    assert headers[b"x-amz-apigw-id"] == REQUEST_ID.encode()


def test_every_request_id_is_a_random_uuid() -> None:
    numbers = count()

    for _ in range(256):
        value = dict(id_headers(lambda size: bytes([next(numbers) % 256]) * size))
        uuid = UUID(value[b"x-amzn-RequestId"].decode())
        assert uuid.version == 4
        assert re.fullmatch(r"[89ab]", str(uuid)[19])
