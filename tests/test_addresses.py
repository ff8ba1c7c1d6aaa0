"""Which part of a URL names an address."""

from __future__ import annotations

import pytest

from wsgateway.addresses import authority


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", "127.0.0.1:8080"),
        ("gateway.example", "gateway.example:8080"),
        ("2001:db8::7", "[2001:db8::7]:8080"),
        ("0.0.0.0", "127.0.0.1:8080"),
        ("::", "[::1]:8080"),
        ("", "127.0.0.1:8080"),
    ],
)
def test_a_url_names_an_address_that_a_client_can_use(host: str, expected: str) -> None:
    assert authority(host, 8080) == expected
