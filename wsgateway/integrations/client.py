"""How HTTP backends are called: aiohttp's connections and parser, one pool for all integrations.

What is sent is what the caller gave, and `Host` and `Content-Length`: no cookies, no redirects, no
proxies from the environment, no headers of aiohttp's own. What comes back is what the backend
wrote: a compressed body stays compressed. API Gateway asks for no compression, so a body is
compressed only where a mapping sends `Accept-Encoding`.

`aiohttp.ClientSession` is not used. On Python 3.11 it takes 61 µs for a request whose bytes are
already known: it copies the headers four times, starts a task to write the body, and sends again
what it takes for idempotent. Without it the same request takes 40 µs, with all that is done here.
What is used instead, a connector's `connect` and its connections' protocol, has no documentation;
the tests of this module are about nothing else, and aiohttp's minor version is pinned.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, NamedTuple

import aiohttp
from aiohttp.http import HttpProcessingError
from yarl import URL

from wsgateway.contracts import HttpResponse
from wsgateway.errors import BackendUnreachable, IntegrationTimeout
from wsgateway.integrations.resending import Delivery, NoAnswer, Unreceived
from wsgateway.limits import BACKEND_KEEP_ALIVE_S, RESPONSE_SIZE_MAX

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from aiohttp.client_proto import ResponseHandler
    from aiohttp.connector import Connection
    from aiohttp.http import RawResponseMessage
    from aiohttp.streams import StreamReader

# As many as functions run at once. Beyond it a request waits for another to end, in its own time.
CONNECTIONS_MAX: Final = 1000
# No backend that hangs takes the connections of all the others.
CONNECTIONS_PER_BACKEND_MAX: Final = 250

# A backend that restarts closes all its connections at once; the event loop may see that one by one.
_ATTEMPTS_MAX: Final = 3
# More than the integrations of a deployment ever name.
_BACKENDS_MAX: Final = 1024

_TARGET = re.compile(r"(https?://[^/?#\s]+)([^#\s]*)", re.IGNORECASE)
# RFC 9110, 8.6: of a request whose method gives content no meaning, nothing says that there is none.
_WITHOUT_CONTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
# `send` has one time-out for everything, exact to the millisecond. aiohttp rounds those over 5 s up
# to whole seconds.
_NO_TIMEOUT: Final = aiohttp.ClientTimeout()


class _Backend(NamedTuple):
    """Where requests go.

    Attributes:
        host: The value of `Host`.
        key: What aiohttp's connector finds a connection by, and opens one with.
    """

    host: str
    key: aiohttp.ClientRequest


class AioHttpClient:
    """Sends requests to backends over kept-open connections.

    The pool is opened by the first request, on its event loop; `close` ends it.

    Args:
        ca_file: Certificates of authorities to trust besides the system's, in PEM form.
        response_size_max: The largest body of an answer, in bytes.
        connections_max: Open connections to all backends together.
        connections_per_backend_max: Open connections to one host and port.
        keep_alive_s: How long an idle connection is used again.

    Raises:
        OSError: `ca_file` cannot be read, or (`ssl.SSLError`) holds no certificate.
    """

    def __init__(
        self,
        *,
        ca_file: Path | None = None,
        response_size_max: int = RESPONSE_SIZE_MAX,
        connections_max: int = CONNECTIONS_MAX,
        connections_per_backend_max: int = CONNECTIONS_PER_BACKEND_MAX,
        keep_alive_s: float = BACKEND_KEEP_ALIVE_S,
    ) -> None:
        self._ssl = ssl.create_default_context()
        if ca_file is not None:
            self._ssl.load_verify_locations(ca_file)
        self._ssl.set_alpn_protocols(["http/1.1"])
        self._response_size_max = response_size_max
        self._connections_max = connections_max
        self._connections_per_backend_max = connections_per_backend_max
        self._keep_alive_s = keep_alive_s
        self._connector: aiohttp.TCPConnector | None = None
        self._backend = lru_cache(_BACKENDS_MAX)(_backend)

    async def close(self) -> None:
        """Close all connections; requests in flight fail."""
        if self._connector is not None:
            await self._connector.close()

    async def send(
        self,
        method: str,
        url: str,
        *,
        headers: Sequence[tuple[str, str]],
        body: bytes,
        timeout_s: float,
    ) -> HttpResponse:
        """Send one request and read the whole answer.

        Args:
            method: In capitals.
            url: Absolute, and percent-encoded: it is not encoded again.
            headers: In the order in which they are sent. `Host` and `Content-Length` are added if
                they are not given.
            body: With an empty one a GET, HEAD or OPTIONS has no `Content-Length`.
            timeout_s: For everything: name, connection, request and answer.

        Raises:
            IntegrationTimeout: It took longer than `timeout_s`.
            BackendUnreachable: There is no answer, one that is cut short, or one that is too large.
            ValueError: It cannot be written as a request of HTTP.
        """
        target = _TARGET.fullmatch(url)
        if target is None:
            raise ValueError(f"{url!r} is no URL of HTTP")
        backend = self._backend(target[1])
        request = _written(method, target[2], backend.host, headers, body)
        try:
            async with asyncio.timeout(timeout_s):
                return await self._send(backend.key, request, has_body=method != "HEAD")
        # Before TimeoutError, which some of aiohttp's are too.
        except (
            aiohttp.ClientError,
            HttpProcessingError,
            NoAnswer,
            OSError,
            UnicodeError,
        ) as error:
            if type(error) is TimeoutError:
                raise IntegrationTimeout(f"no answer in {timeout_s:g} s") from error
            raise BackendUnreachable(f"{type(error).__name__}: {error}") from error

    async def _send(
        self, key: aiohttp.ClientRequest, request: bytes, *, has_body: bool
    ) -> HttpResponse:
        attempt = 1
        while True:
            try:
                return await self._exchange(key, request, has_body=has_body)
            except Unreceived:
                if attempt == _ATTEMPTS_MAX:
                    raise
            attempt += 1
            # Let the event loop see what else has ended.
            await asyncio.sleep(0)

    async def _exchange(
        self, key: aiohttp.ClientRequest, request: bytes, *, has_body: bool
    ) -> HttpResponse:
        connector = self._connector or self._open()
        connection = await connector.connect(key, [], _NO_TIMEOUT)
        try:
            protocol, transport = _ends(connection)
            protocol.set_response_params(
                skip_payload=not has_body, read_until_eof=True, auto_decompress=False
            )
            with Delivery(transport):
                transport.write(request)
                head, content = await _answer(protocol)
            body = await self._read(head, content) if has_body else b""
        except BaseException:
            connection.close()
            raise
        if transport.get_write_buffer_size():
            # The backend has answered before it had all of the request, and may never read it.
            connection.close()
        else:
            connection.release()
        return HttpResponse(
            head.code,
            [(name.decode("latin-1"), value.decode("latin-1")) for name, value in head.raw_headers],
            body,
        )

    async def _read(self, head: RawResponseMessage, content: StreamReader) -> bytes:
        if head.code == HTTPStatus.SWITCHING_PROTOCOLS:
            raise BackendUnreachable("the backend switched to another protocol")
        size_max = self._response_size_max
        size = head.headers.get("Content-Length")
        # The parser takes nothing but digits.
        if size is not None and not head.chunked:
            if int(size) <= size_max:
                return await content.read()
        else:
            body = bytearray()
            while len(body) <= size_max:
                part = await content.readany()
                if not part:
                    return bytes(body)
                body += part
        raise BackendUnreachable(f"the answer has more than {size_max} bytes")

    def _open(self) -> aiohttp.TCPConnector:
        self._connector = aiohttp.TCPConnector(
            ssl=self._ssl,
            limit=self._connections_max,
            limit_per_host=self._connections_per_backend_max,
            keepalive_timeout=self._keep_alive_s,
        )
        return self._connector


def _backend(origin: str) -> _Backend:
    url = URL(origin, encoded=True)
    host = url.host_port_subcomponent
    if host is None or url.raw_user is not None:
        raise ValueError(f"{origin!r} is no origin of HTTP")
    key = aiohttp.ClientRequest("GET", url, loop=asyncio.get_running_loop())
    return _Backend(host, key)


def _written(
    method: str, target: str, host: str, headers: Sequence[tuple[str, str]], body: bytes
) -> bytes:
    """Return a request's bytes.

    Raises:
        ValueError: Something in it would end its line.
    """
    names = {name.lower() for name, _ in headers}
    lines = [f"{method} {target if target.startswith('/') else f'/{target}'} HTTP/1.1"]
    if "host" not in names:
        lines.append(f"Host: {host}")
    lines += [f"{name}: {value}" for name, value in headers]
    if (body or method not in _WITHOUT_CONTENT) and "content-length" not in names:
        lines.append(f"Content-Length: {len(body)}")
    head = "\r\n".join(lines)
    ends = len(lines) - 1
    if head.count("\n") != ends or head.count("\r") != ends or "\0" in head:
        raise ValueError("a header does not stay on its line")
    return b"%b\r\n\r\n%b" % (head.encode(), body)


def _ends(connection: Connection) -> tuple[ResponseHandler, asyncio.Transport]:
    protocol, transport = connection.protocol, connection.transport
    if protocol is None or transport is None:
        raise Unreceived("the connection ended as soon as it was there")
    return protocol, transport


async def _answer(protocol: ResponseHandler) -> tuple[RawResponseMessage, StreamReader]:
    while True:
        head, content = await protocol.read()
        if head.code >= HTTPStatus.OK or head.code == HTTPStatus.SWITCHING_PROTOCOLS:
            return head, content
