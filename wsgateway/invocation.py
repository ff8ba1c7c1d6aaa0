"""Runs one route once, without a socket, and tells what crossed each seam."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from wsgateway.api.definition import CONNECT, DISCONNECT
from wsgateway.api.deployment import compile_deployment
from wsgateway.backends import Backends
from wsgateway.clock import SystemClock
from wsgateway.cluster.registry import MemoryRegistry
from wsgateway.connection import ConnectionEntry, ConnectionKey, Handshake
from wsgateway.connection_id import ENTROPY_SIZE, TAG_SIZE, new_connection_id
from wsgateway.contracts import Accepted
from wsgateway.dispatch import Dispatcher
from wsgateway.entropy import random_bytes
from wsgateway.errors import Fault, OperatorFaults
from wsgateway.gateway import stages_to_serve
from wsgateway.observer import Observer
from wsgateway.settings import derived_api_id
from wsgateway.stage import Stage
from wsgateway.telemetry.access_log import AccessLog
from wsgateway.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from wsgateway.contracts import ConnectionInfo, HttpClient, HttpResponse, Invoker, Rejected
    from wsgateway.loaders.source import LoadedApi
    from wsgateway.settings import Settings
    from wsgateway.stage import LiveRoute

_HOST = "127.0.0.1"
_TAG = b"\0" * TAG_SIZE
# They would end up in terminals' histories and bug reports.
_SECRET_HEADERS = frozenset({"authorization", "x-amz-security-token"})
_NORMAL_CLOSURE = 1000


async def invoke_route(
    api: LoadedApi,
    settings: Settings,
    environ: Mapping[str, str],
    route_key: str,
    *,
    body: str,
    headers: Sequence[tuple[str, str]],
    query: str,
    tell: Callable[[str], None],
) -> bool:
    """Run a route of the first stage that is served.

    Args:
        api: What declares it.
        settings: As for `serve`.
        environ: The process's variables, without those that are set for handlers.
        route_key: The route; it is taken whatever the body would select.
        body: The message; not for `$connect` and `$disconnect`.
        headers: Of the handshake, for `$connect`.
        query: Query string of the handshake, for `$connect`.
        tell: Is given the lines, one by one.

    Returns:
        Whether the integration gave an answer that can be used.

    Raises:
        OperatorFaults: There is no such route.
    """
    stage_name, declared = next(iter(stages_to_serve(api.definition, settings).items()))
    if route_key not in api.definition.routes:
        known = ", ".join(api.definition.routes)
        raise OperatorFaults(
            [Fault("ROUTE", f"there is no route {route_key!r}", f"there is {known}")]
        )
    clock = SystemClock()
    backends = Backends(settings, environ, _Teller(tell))
    api_id = settings.api_id or derived_api_id(api.definition.name)
    deployment = compile_deployment(api.definition)
    stage = _OneRoute(
        stage_name,
        declared.stage_variables,
        deployment,
        backends.integrations(api, deployment, declared.stage_variables),
    )
    stage.chosen = route_key
    metrics = Metrics(api_id)
    registry = MemoryRegistry()
    dispatcher = Dispatcher(
        api_id=api_id,
        tag=_TAG,
        stages={stage_name: stage},
        open_here=lambda _: False,
        registry=registry,
        clock=clock,
        entropy=random_bytes,
        metrics=metrics,
        access_log=AccessLog(None, pretty=False, clock=clock),
        disconnect_concurrency_max=1,
    )
    connection_id = new_connection_id(_TAG, random_bytes(ENTROPY_SIZE))
    entry = ConnectionEntry(
        key=ConnectionKey(api_id, stage_name, connection_id),
        connected_at_ms=clock.epoch_ms(),
        domain_name=_HOST,
        source_ip=_HOST,
        user_agent=None,
    )
    try:
        if route_key == CONNECT:
            handshake = Handshake(
                target=f"/{stage_name}" + (f"?{query}" if query else ""),
                headers=[("Host", _HOST), *headers],
                host=_HOST,
                source_ip=_HOST,
                scheme="http",
                port=settings.port,
                received_at_ms=clock.epoch_ms(),
            )
            _tell_verdict(await dispatcher.connect(handshake), tell)
        elif route_key == DISCONNECT:
            await registry.add(entry)
            await dispatcher.disconnect(entry, _NORMAL_CLOSURE, "")
            tell("The client is gone and gets nothing.")
        else:
            client = _Client(entry)
            await dispatcher.message(client, body)
            _tell_frames(client.frames, tell)
    finally:
        await backends.close()
    counted = metrics.route(stage_name, route_key)
    return not counted.execution_error and not counted.client_error


def _tell_verdict(verdict: Accepted | Rejected, tell: Callable[[str], None]) -> None:
    if isinstance(verdict, Accepted):
        protocol = verdict.subprotocol
        tell(f"The client gets 101{f', subprotocol {protocol}' if protocol else ''}.")
    else:
        tell(f"The client gets {verdict.status}.")
        if verdict.body:
            tell(verdict.body.decode())


def _tell_frames(frames: Sequence[bytes], tell: Callable[[str], None]) -> None:
    if not frames:
        tell("The client gets nothing: the route is one-way.")
    for frame in frames:
        tell("The client gets:" if frame else "The client gets an empty message.")
        if frame:
            tell(frame.decode())


class _OneRoute(Stage):
    """A stage in which every message takes the same route."""

    __slots__ = ("chosen",)

    chosen: str

    def select(self, message: str) -> LiveRoute | None:  # noqa: ARG002 - whatever it says
        return self.route(self.chosen)


class _Client:
    """Keeps what is sent to it."""

    def __init__(self, entry: ConnectionEntry) -> None:
        self.entry = entry
        self.frames: list[bytes] = []

    def send(self, payload: bytes) -> None:
        self.frames.append(payload)

    def close(self, code: int, reason: str) -> None:
        raise NotImplementedError

    def leave(self) -> None:
        raise NotImplementedError

    def info(self) -> ConnectionInfo:
        raise NotImplementedError


class _Teller(Observer):
    """Tells what functions and backends are sent, and what they answer."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell

    def function(self, route_key: str, function: Invoker) -> Invoker:  # noqa: ARG002 - the only one
        return _ToldFunction(function, self._tell)

    def http(self, client: HttpClient) -> HttpClient:
        return _ToldHttp(client, self._tell)


class _ToldFunction:
    def __init__(self, function: Invoker, tell: Callable[[str], None]) -> None:
        self._function = function
        self._tell = tell

    async def invoke(self, event: dict[str, object], *, timeout_s: float) -> object:
        self._tell("The function gets:")
        self._tell(_indented(event))
        result = await self._function.invoke(event, timeout_s=timeout_s)
        self._tell("The function returns:")
        self._tell(_indented(result))
        return result


class _ToldHttp:
    def __init__(self, client: HttpClient, tell: Callable[[str], None]) -> None:
        self._client = client
        self._tell = tell

    async def send(
        self,
        method: str,
        url: str,
        *,
        headers: Sequence[tuple[str, str]],
        body: bytes,
        timeout_s: float,
    ) -> HttpResponse:
        self._tell("The backend gets:")
        self._tell(f"{method} {url}")
        self._tell_rest(headers, body)
        response = await self._client.send(
            method, url, headers=headers, body=body, timeout_s=timeout_s
        )
        self._tell(f"The backend answers {response.status}:")
        self._tell_rest(response.headers, response.body)
        return response

    def _tell_rest(self, headers: Sequence[tuple[str, str]], body: bytes) -> None:
        for name, value in headers:
            self._tell(f"{name}: {'...' if name.lower() in _SECRET_HEADERS else value}")
        if body:
            self._tell("")
            self._tell(body.decode(errors="replace"))


def _indented(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, default=repr)
