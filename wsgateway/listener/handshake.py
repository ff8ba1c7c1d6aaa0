"""The opening handshake without its verdict: is this an upgrade, and how are answers written.

Pure: bytes in, bytes out (RFC 6455, section 4.2; RFC 9112).
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode, b64encode
from hashlib import sha1
from http import HTTPStatus
from typing import TYPE_CHECKING

import httptools

from wsgateway.answers import error_body, id_headers
from wsgateway.errors import BadRequest, UpgradeRequired

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from wsgateway.contracts import Rejected
    from wsgateway.errors import RequestRefused

RawHeaders = list[tuple[bytes, bytes]]

_ACCEPT_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3
_KEY_SIZE = 16  # RFC 6455, 4.1: a nonce of 16 bytes
# RFC 3986, 3.2.2 and 3.2.3: what a host and its port are made of.
_HOST = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=%:\[\]-]+")


def wants_websocket(headers: RawHeaders) -> bool:
    """Whether the request asks for an upgrade to a WebSocket (RFC 9110, 7.8).

    `Connection` may come on several lines and list other options too.
    """
    return (
        b"upgrade" in tokens(headers, b"connection")
        and tokens(headers, b"upgrade") == [b"websocket"]
    )  # fmt: skip


def tokens(headers: RawHeaders, name: bytes) -> list[bytes]:
    """Return the lower-case members of a comma-separated header, over all its lines."""
    return [
        member
        for header, value in headers
        if header.lower() == name
        for token in value.split(b",")
        if (member := token.strip().lower())
    ]


def only_host(headers: RawHeaders) -> bytes:
    """Return the value of the one `Host` header (RFC 9112, 3.2).

    Raises:
        BadRequest: There is none, more than one, or it is no host.
    """
    hosts = [value for name, value in headers if name.lower() == b"host"]
    if len(hosts) != 1 or not _HOST.fullmatch(hosts[0]):
        raise BadRequest
    return hosts[0]


def has_body(headers: RawHeaders) -> bool:
    """Whether the request announces a body (RFC 9112, 6)."""
    return any(
        name.lower() == b"transfer-encoding"
        or (name.lower() == b"content-length" and value != b"0")
        for name, value in headers
    )


def origin_form(target: bytes) -> str:
    """Return a request target as path and query (RFC 9112, 3.2.1 and 3.2.2).

    Raises:
        BadRequest: It has no path, or bytes that no URL can have.
    """
    try:
        if not target.startswith(b"/"):
            url = httptools.parse_url(target)
            if not (url.path or b"").startswith(b"/"):
                raise BadRequest
            target = url.path + (b"?" + url.query if url.query else b"")
        return target.decode("ascii")
    except (httptools.HttpParserInvalidURLError, UnicodeDecodeError) as error:
        raise BadRequest from error


def accept_key(method: bytes, headers: RawHeaders) -> bytes:
    """Return the `Sec-WebSocket-Accept` of an upgrade request.

    Raises:
        BadRequest: It is not a GET, or `Sec-WebSocket-Key` is missing, doubled or malformed.
        UpgradeRequired: It asks for another version of the protocol than 13.
    """
    if method != b"GET":
        raise BadRequest
    if tokens(headers, b"sec-websocket-version") != [b"13"]:
        raise UpgradeRequired
    keys = [value for name, value in headers if name.lower() == b"sec-websocket-key"]
    try:
        if len(keys) != 1 or len(b64decode(keys[0], validate=True)) != _KEY_SIZE:
            raise BadRequest
    except binascii.Error as error:
        raise BadRequest from error
    return b64encode(sha1(keys[0] + _ACCEPT_GUID, usedforsecurity=False).digest())


def switching_protocols(accept: bytes, subprotocol: str | None, date: bytes) -> bytes:
    """Return the response that opens the connection, in API Gateway's header order and casing."""
    chosen = f"Sec-WebSocket-Protocol: {subprotocol}\r\n".encode() if subprotocol else b""
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nDate: " + date + b"\r\nConnection: upgrade\r\n"
        b"upgrade: websocket\r\nsec-websocket-accept: " + accept + b"\r\n" + chosen + b"\r\n"
    )


def refusal(error: RequestRefused, date: bytes, entropy: Callable[[int], bytes]) -> bytes:
    """Return the response to a request that reached no API; the connection is closed after it."""
    extra: list[tuple[bytes, bytes]] = []
    if isinstance(error, UpgradeRequired):
        # RFC 9110, 7.8: `Upgrade` is named in `Connection`, also where that says close.
        extra = [
            (b"Connection", b"upgrade"),
            (b"Upgrade", b"websocket"),
            (b"Sec-WebSocket-Version", b"13"),
        ]
    return _response(
        error.status,
        [*id_headers(entropy), (b"x-amzn-ErrorType", error.error_type.encode()), *extra],
        error_body(error.message),
        date,
    )


def rejection(verdict: Rejected, date: bytes, entropy: Callable[[int], bytes]) -> bytes:
    """Return the response to a handshake that was turned down."""
    headers = id_headers(entropy, verdict.request_id)
    if verdict.error_type is not None:
        headers.append((b"x-amzn-ErrorType", verdict.error_type.encode()))
    return _response(verdict.status, headers, verdict.body, date)


def _response(
    status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes, date: bytes
) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    lines: Sequence[bytes] = [
        f"HTTP/1.1 {status} {phrase}".encode(),
        b"Date: " + date,
        *([b"Content-Type: application/json"] if body else []),
        b"Content-Length: %d" % len(body),
        b"Connection: close",
        *(name + b": " + value for name, value in headers),
        b"",
        body,
    ]
    return b"\r\n".join(lines)
