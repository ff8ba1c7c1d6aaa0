"""uvicorn's server, accepting as we want it: our protocol, no signals, a pause without descriptors."""

from __future__ import annotations

import asyncio
import math
import os
import resource
import socket
from contextlib import AbstractContextManager, nullcontext, suppress
from email.utils import formatdate
from typing import TYPE_CHECKING

import structlog
import uvicorn

from wsgateway.limits import BACKLOG, DESCRIPTOR_RESERVE
from wsgateway.listener.http import Http

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence

    from starlette.types import ASGIApp

    from wsgateway.listener.shared import Shared

log = structlog.stdlib.get_logger(__name__)

_SWEEP_INTERVAL_S = 1.0


class Listener(uvicorn.Server):
    """Serves one application on some sockets.

    Args:
        app: What answers plain HTTP requests.
        shared: What the connections share.
        sockets: Bound, not yet listening; closed with the listener.
        tls: Speaks TLS when given.
    """

    def __init__(
        self,
        app: ASGIApp,
        shared: Shared,
        sockets: Sequence[socket.socket],
        tls: ssl.SSLContext | None,
    ) -> None:
        config = uvicorn.Config(
            app,
            http=Http,
            ws="none",
            interface="asgi3",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            # Tasks are waited for by the drain; what is left has had its time.
            timeout_graceful_shutdown=1,
        )
        super().__init__(config)
        self._shared = shared
        self._sockets = list(sockets)
        self._tls = tls
        self._accepting = False
        self.started_accepting = asyncio.Event()
        self._ending = asyncio.Event()

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]
        """Leave signals to the gateway: uvicorn raises them again when it is done."""
        return nullcontext()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept."""
        assert sockets is None
        self.servers = []
        await self.accept()
        self.started = True
        self.started_accepting.set()

    async def main_loop(self) -> None:
        """Renew uvicorn's headers once a second; its own loop looks ten times as often."""
        while not self.should_exit:
            await self.on_tick(0)
            with suppress(TimeoutError):
                async with asyncio.timeout(_SWEEP_INTERVAL_S):
                    await self._ending.wait()

    def end(self) -> None:
        """Have `serve` return."""
        self.should_exit = True
        self._ending.set()

    async def accept(self) -> None:
        """Accept connections.

        Raises:
            OSError: There are no descriptors; `pause` takes back what was begun.
        """
        if self._accepting or self.should_exit:
            return
        self._accepting = True
        limits = self._shared.limits
        for bound in self._sockets:
            # A duplicate, so that accepting can stop and go on without unbinding.
            duplicate = bound.dup()
            try:
                server = await self._shared.loop.create_server(
                    self._accepted,
                    sock=duplicate,
                    backlog=BACKLOG,
                    ssl=self._tls,
                    ssl_handshake_timeout=limits.head_timeout_s if self._tls else None,
                    ssl_shutdown_timeout=limits.close_timeout_s if self._tls else None,
                )
            except BaseException:
                duplicate.close()
                raise
            self.servers.append(server)

    def _accepted(self) -> Http:
        # Not connection_made(), which waits for the TLS handshake.
        self._shared.on_accept()
        return Http(self._shared, config=self.config, server_state=self.server_state)

    def fileno(self) -> int:
        """Return a descriptor that is open for as long as the listener."""
        return self._sockets[0].fileno()

    def pause(self) -> None:
        """Accept no more; the kernel keeps who comes waiting, up to its backlog."""
        self._accepting = False
        for server in self.servers:
            server.close()
        self.servers.clear()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting, close what is open."""
        await super().shutdown(sockets)
        remaining = [connection.transport for connection in self.server_state.connections]
        for transport in (*remaining, *self._shared.farewells):
            transport.abort()
        for bound in self._sockets:
            bound.close()


class Descriptors:
    """Keeps some descriptors free: accepting pauses before they run out.

    A new descriptor's number is the lowest that is free (POSIX), so it tells how many are in use,
    whoever uses them.
    """

    def __init__(self, listeners: Sequence[Listener]) -> None:
        _, hard_max = resource.getrlimit(resource.RLIMIT_NOFILE)
        # macOS calls its hard limit infinite, and refuses it as the soft one.
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard_max, hard_max))
        soft_max, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.in_use_max = max(soft_max - DESCRIPTOR_RESERVE, soft_max // 2)
        self._resume_below = self.in_use_max - min(DESCRIPTOR_RESERVE // 2, self.in_use_max // 8)
        self._listeners = listeners
        self._paused = False

    def accepted(self) -> None:
        """Pause if the socket just accepted was among the last."""
        if not self._paused and self._lowest_free() > self.in_use_max:
            self._paused = True
            # Not at once: uvloop, in whose accepting this is called, would lose the socket. It
            # accepts one in each turn (measured: libuv 1.52, 200 waiting clients, 200 turns), so
            # that at most one more comes by each listening socket.
            asyncio.get_running_loop().call_soon(self._pause)

    def _pause(self) -> None:
        for listener in self._listeners:
            listener.pause()
        log.error(
            "accepting is paused: too few file descriptors are free",
            limit=self.in_use_max,
            remedy="raise the limit of open files (ulimit -n)",
        )

    async def resume(self) -> None:
        """Accept again if enough are free."""
        if not self._paused or self._lowest_free() >= self._resume_below:
            return
        try:
            for listener in self._listeners:
                await listener.accept()
        except OSError:
            log.exception("accepting cannot go on")
            self._pause()
        else:
            self._paused = False
            log.warning("accepting again")

    def _lowest_free(self) -> float:
        try:
            descriptor = os.dup(self._listeners[0].fileno())
        except OSError:  # EMFILE: none is free
            return math.inf
        os.close(descriptor)
        return descriptor


async def keep_time(shared: Shared, descriptors: Descriptors) -> None:
    """Once a second: renew `Date`, visit what is due, see whether accepting can go on."""
    while True:
        shared.date = formatdate(shared.clock.epoch_ms() / 1000, usegmt=True).encode()
        shared.deadlines.sweep(shared.clock.monotonic_s())
        await descriptors.resume()
        await asyncio.sleep(_SWEEP_INTERVAL_S)


def bind(host: str, port: int) -> list[socket.socket]:
    """Bind a port on every address of a host.

    Args:
        host: A name or an address.
        port: 0 picks a free one, the same on every address.

    Raises:
        OSError: It cannot be bound, or the host has no address.
    """
    addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in dict.fromkeys(addresses):
            bound = socket.socket(family, kind, protocol)
            sockets.append(bound)
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            bound.bind((address[0], port, *address[2:]))
            port = bound.getsockname()[1]
    except OSError:
        for bound in sockets:
            bound.close()
        raise
    return sockets
