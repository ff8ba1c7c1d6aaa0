from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.listener.raw import ACCEPT, KEY
from wsgateway.contracts import Rejected
from wsgateway.errors import BadRequest, Forbidden, HeadTooLarge, ShuttingDown, UpgradeRequired
from wsgateway.listener.handshake import (
    accept_key,
    has_body,
    only_host,
    origin_form,
    refusal,
    rejection,
    switching_protocols,
    tokens,
    wants_websocket,
)

if TYPE_CHECKING:
    from wsgateway.errors import RequestRefused

DATE = b"Wed, 06 Oct 2021 17:57:43 GMT"
UPGRADE = (b"Upgrade", b"websocket")
VERSION = (b"Sec-WebSocket-Version", b"13")


def entropy(size: int) -> bytes:
    return bytes(range(size))


# --- what a request asks for


@pytest.mark.parametrize(
    "headers",
    [
        [(b"Connection", b"Upgrade"), UPGRADE],
        [(b"connection", b"upgrade"), (b"upgrade", b"WebSocket")],
        [(b"Connection", b"keep-alive, Upgrade"), UPGRADE],
        [(b"Connection", b"Upgrade,keep-alive"), UPGRADE],
        [(b"Connection", b"Upgrade"), (b"Connection", b"keep-alive"), UPGRADE],
        [(b"Connection", b"keep-alive"), UPGRADE, (b"CONNECTION", b" , upgrade")],
    ],
)
def test_an_upgrade_is_asked_for(headers: list[tuple[bytes, bytes]]) -> None:
    assert wants_websocket(headers)


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [UPGRADE],
        [(b"Connection", b"Upgrade")],
        [(b"Connection", b"keep-alive"), UPGRADE],
        [(b"Connection", b"Upgraded"), UPGRADE],
        [(b"Connection", b"Upgrade"), (b"Upgrade", b"h2c")],
        [(b"Connection", b"Upgrade"), (b"Upgrade", b"h2c, websocket")],
        [(b"Connection", b"Upgrade"), (b"X-Upgrade", b"websocket")],
    ],
)
def test_no_websocket_is_asked_for(headers: list[tuple[bytes, bytes]]) -> None:
    assert not wants_websocket(headers)


def test_tokens_are_the_lower_case_members_of_all_lines() -> None:
    headers = [(b"A", b"One, TWO"), (b"b", b"x"), (b"a", b"\tthree ,")]

    assert tokens(headers, b"a") == [b"one", b"two", b"three"]
    assert tokens(headers, b"c") == []


@pytest.mark.parametrize("host", [b"localhost", b"gateway.example:8080", b"[::1]:8080", b"a_b-c.d"])
def test_the_one_host_is_returned_as_sent(host: bytes) -> None:
    assert only_host([(b"Accept", b"*/*"), (b"hOST", host)]) == host


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"Host", b"")],
        [(b"Host", b"a"), (b"Host", b"a")],
        [(b"Host", b"a"), (b"host", b"b")],
        [(b"Host", b"a b")],
        [(b"Host", b"a/b")],
        [(b"Host", b"user@a")],
        [(b"Host", b"a\xe9")],
    ],
)
def test_no_host_two_hosts_or_what_is_no_host_is_a_bad_request(
    headers: list[tuple[bytes, bytes]],
) -> None:
    with pytest.raises(BadRequest):
        only_host(headers)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], False),
        ([(b"Content-Length", b"0")], False),
        ([(b"Content-Length", b"5")], True),
        ([(b"content-length", b"00")], True),
        ([(b"Transfer-Encoding", b"chunked")], True),
    ],
)
def test_a_body_is_announced(headers: list[tuple[bytes, bytes]], expected: bool) -> None:
    assert has_body(headers) is expected


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (b"/dev", "/dev"),
        (b"/dev/?a=1&b=%3D", "/dev/?a=1&b=%3D"),
        (b"//dev", "//dev"),
        (b"/d%65v?", "/d%65v?"),
        (b"http://gateway:8080/dev?a=1", "/dev?a=1"),
        (b"ws://gateway/dev", "/dev"),
    ],
)
def test_a_target_becomes_path_and_query(target: bytes, expected: str) -> None:
    assert origin_form(target) == expected


@pytest.mark.parametrize(
    "target",
    [b"", b"*", b"gateway:443", b"http://gateway", b"/d\xe9v", b"http://gateway/\xff", b"dev"],
)
def test_a_target_without_a_path_or_with_other_bytes_is_a_bad_request(target: bytes) -> None:
    with pytest.raises(BadRequest):
        origin_form(target)


def test_the_accept_key_is_the_one_of_the_rfc() -> None:
    assert accept_key(b"GET", [VERSION, (b"sec-websocket-KEY", KEY)]) == ACCEPT


@pytest.mark.parametrize(
    ("method", "keys"),
    [
        (b"POST", [KEY]),
        (b"HEAD", [KEY]),
        (b"GET", []),
        (b"GET", [KEY, KEY]),
        (b"GET", [b""]),
        (b"GET", [b"c2hvcnQ="]),
        (b"GET", [KEY[:-1]]),
        (b"GET", [KEY + b"="]),
        (b"GET", [b" " + KEY]),
        (b"GET", [b"\xff" * 24]),
        (b"GET", [b"AAECAwQFBgcICQoLDA0ODxA="]),
    ],
)
def test_a_bad_key_or_another_method_is_a_bad_request(method: bytes, keys: list[bytes]) -> None:
    with pytest.raises(BadRequest):
        accept_key(method, [VERSION, *((b"Sec-WebSocket-Key", key) for key in keys)])


@pytest.mark.parametrize(
    "versions", [[], [b"12"], [b"13, 8"], [b"13", b"13"], [b"0x13"], [b""], [b"013"]]
)
def test_another_version_needs_an_upgrade(versions: list[bytes]) -> None:
    headers = [(b"Sec-WebSocket-Version", version) for version in versions]
    with pytest.raises(UpgradeRequired):
        accept_key(b"GET", [*headers, (b"Sec-WebSocket-Key", KEY)])


# --- what is answered, byte for byte


def test_the_response_that_opens_a_connection() -> None:
    assert switching_protocols(ACCEPT, None, DATE) == (
        b"HTTP/1.1 101 Switching Protocols\r\n"
        b"Date: Wed, 06 Oct 2021 17:57:43 GMT\r\n"
        b"Connection: upgrade\r\n"
        b"upgrade: websocket\r\n"
        b"sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
        b"\r\n"
    )


def test_the_subprotocol_comes_last() -> None:
    assert switching_protocols(ACCEPT, "chat1", DATE) == (
        b"HTTP/1.1 101 Switching Protocols\r\n"
        b"Date: Wed, 06 Oct 2021 17:57:43 GMT\r\n"
        b"Connection: upgrade\r\n"
        b"upgrade: websocket\r\n"
        b"sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
        b"Sec-WebSocket-Protocol: chat1\r\n"
        b"\r\n"
    )


def test_the_status_that_connect_chose_has_no_body_and_no_error_type() -> None:
    verdict = Rejected(401, None, b"", "BFbOeE87IAMF31w=")

    assert rejection(verdict, DATE, entropy) == (
        b"HTTP/1.1 401 Unauthorized\r\n"
        b"Date: Wed, 06 Oct 2021 17:57:43 GMT\r\n"
        b"Content-Length: 0\r\n"
        b"Connection: close\r\n"
        b"x-amzn-RequestId: 00010203-0405-4607-a809-0a0b0c0d0e0f\r\n"
        b"x-amz-apigw-id: BFbOeE87IAMF31w=\r\n"
        b"\r\n"
    )


def test_a_rejection_by_the_gateway_has_body_and_error_type() -> None:
    verdict = Rejected(502, "InternalServerErrorException", b'{"message":"x"}', "BFbOeE87IAMF31w=")

    assert rejection(verdict, DATE, entropy) == (
        b"HTTP/1.1 502 Bad Gateway\r\n"
        b"Date: Wed, 06 Oct 2021 17:57:43 GMT\r\n"
        b"Content-Type: application/json\r\n"
        b"Content-Length: 15\r\n"
        b"Connection: close\r\n"
        b"x-amzn-RequestId: 00010203-0405-4607-a809-0a0b0c0d0e0f\r\n"
        b"x-amz-apigw-id: BFbOeE87IAMF31w=\r\n"
        b"x-amzn-ErrorType: InternalServerErrorException\r\n"
        b"\r\n"
        b'{"message":"x"}'
    )


def test_a_status_without_a_name_has_an_empty_phrase() -> None:
    """RFC 9112, 4: the space before the phrase stays."""
    response = rejection(Rejected(499, None, b"", "BFbOeE87IAMF31w="), DATE, entropy)

    assert response.startswith(b"HTTP/1.1 499 \r\nDate: ")


def test_a_refused_version_names_the_one_that_is_spoken() -> None:
    assert refusal(UpgradeRequired(), DATE, entropy) == (
        b"HTTP/1.1 426 Upgrade Required\r\n"
        b"Date: Wed, 06 Oct 2021 17:57:43 GMT\r\n"
        b"Content-Type: application/json\r\n"
        b"Content-Length: 30\r\n"
        b"Connection: close\r\n"
        b"x-amzn-RequestId: 00010203-0405-4607-a809-0a0b0c0d0e0f\r\n"
        b"x-amz-apigw-id: EBESExQVFhcFGBk=\r\n"
        b"x-amzn-ErrorType: UpgradeRequiredException\r\n"
        b"Connection: upgrade\r\n"
        b"Upgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\n"
        b"\r\n"
        b'{"message":"Upgrade Required"}'
    )


@pytest.mark.parametrize(
    ("error", "first_line", "body"),
    [
        (BadRequest(), b"HTTP/1.1 400 Bad Request", b'{"message":"Bad Request"}'),
        (Forbidden(), b"HTTP/1.1 403 Forbidden", b'{"message":"Forbidden"}'),
        (
            HeadTooLarge(),
            b"HTTP/1.1 431 Request Header Fields Too Large",
            b'{"message":"Request Header Fields Too Large"}',
        ),
        (
            ShuttingDown(),
            b"HTTP/1.1 503 Service Unavailable",
            b'{"message":"Service Unavailable"}',
        ),
    ],
)
def test_a_refusal_says_why_and_closes(
    error: RequestRefused, first_line: bytes, body: bytes
) -> None:
    head, _, rest = refusal(error, DATE, entropy).partition(b"\r\n\r\n")

    assert head.split(b"\r\n") == [
        first_line,
        b"Date: Wed, 06 Oct 2021 17:57:43 GMT",
        b"Content-Type: application/json",
        b"Content-Length: %d" % len(body),
        b"Connection: close",
        b"x-amzn-RequestId: 00010203-0405-4607-a809-0a0b0c0d0e0f",
        b"x-amz-apigw-id: EBESExQVFhcFGBk=",
        b"x-amzn-ErrorType: " + error.error_type.encode(),
    ]
    assert rest == body
