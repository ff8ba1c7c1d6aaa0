"""The order of things for a connect, a message and a disconnect, written once.

Every error a client sees in a frame, and the body of every refused handshake, is made here.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

import structlog

from wsgateway.answers import error_body
from wsgateway.api.definition import CONNECT, DEFAULT, DISCONNECT
from wsgateway.api.endpoints import split_target
from wsgateway.connection import ConnectionEntry, ConnectionKey
from wsgateway.connection_id import (
    ENTROPY_SIZE,
    new_connection_id,
    new_message_id,
    new_request_id,
    orphan_request_id,
)
from wsgateway.contracts import Accepted, Rejected
from wsgateway.errors import (
    Forbidden,
    FunctionFailed,
    Gone,
    IntegrationFault,
    InvalidRequestBody,
    LimitExceeded,
    MalformedResponse,
    MissingParameters,
    RequestRefused,
    Unavailable,
)
from wsgateway.events import (
    ConnectRequest,
    DisconnectRequest,
    MessageRequest,
    missing_parameters,
)
from wsgateway.limits import MESSAGE_SIZE_MAX

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from wsgateway.connection import Handshake
    from wsgateway.contracts import Clock, Connection, IntegrationResponse, Registry
    from wsgateway.events import RouteRequest
    from wsgateway.stage import LiveRoute, Stage
    from wsgateway.telemetry.access_log import AccessLog
    from wsgateway.telemetry.metrics import Metrics, RouteMetrics

log = structlog.stdlib.get_logger(__name__)

# What one header line can hold, for `Sec-WebSocket-Protocol` is copied (RFC 9110, 5.5).
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e]*", re.ASCII)
# As CloudWatch has it for entries of an execution log.
_ERROR_SIZE_MAX = 1024
# RFC 6455, 7.4.1: the connection ended without a close frame.
_ABNORMAL_CLOSURE = 1006


class Dispatcher:
    """Takes what the listener received to the integrations and their answers back.

    Args:
        api_id: The API's id, in every key and event.
        tag: This node's, in every connection id it gives; None until it has one.
        stages: The live stages by name.
        open_here: Tells whether a key belongs to an open connection of this node.
        registry: Where accepted connections are recorded.
        clock: The time of events and latencies.
        entropy: Returns that many random bytes.
        disconnect_concurrency_max: `$disconnect` calls at once.

    Attributes:
        tag: Another one when others have given this node up.
    """

    def __init__(
        self,
        *,
        api_id: str,
        tag: bytes | None,
        stages: Mapping[str, Stage],
        open_here: Callable[[ConnectionKey], bool],
        registry: Registry,
        clock: Clock,
        entropy: Callable[[int], bytes],
        metrics: Metrics,
        access_log: AccessLog,
        disconnect_concurrency_max: int,
    ) -> None:
        self._api_id = api_id
        self.tag = tag
        self._stages = stages
        self._open_here = open_here
        self._registry = registry
        self._clock = clock
        self._entropy = entropy
        self._metrics = metrics
        self._access_log = access_log
        self._disconnects = asyncio.Semaphore(disconnect_concurrency_max)

    async def connect(self, handshake: Handshake) -> Accepted | Rejected:
        """Decide on a handshake: stage, `$connect`, registry."""
        started_s = self._clock.monotonic_s()
        stage_name, rest = split_target(handshake.target)
        stage = self._stages.get(stage_name)
        if stage is None or rest:
            return self._refuse(Forbidden(), handshake)
        if self.tag is None or not self._registry.is_accepting:
            return self._refuse(Unavailable(), handshake)
        entry = self._new_entry(stage_name, handshake)
        request_id = new_request_id(self._entropy(ENTROPY_SIZE))
        verdict: Accepted | Rejected = Accepted(entry, None)
        error: str | None = None
        integration_latency_ms: float | None = None
        route = stage.connect_route
        if route is not None:
            metrics = self._metrics.route(stage_name, CONNECT)
            metrics.connect_count += 1
            request = ConnectRequest(
                entry=entry,
                route_key=CONNECT,
                request_id=request_id,
                requested_at_ms=max(entry.connected_at_ms, self._clock.epoch_ms()),
                stage_variables=stage.variables,
                handshake=handshake,
                trace_id=self._new_trace_id(),
            )
            if missing := missing_parameters(request, route.required_parameters):
                metrics.client_error += 1
                refusal = MissingParameters(missing)
                verdict, error = _rejected(entry, refusal, request_id), refusal.message
            else:
                outcome, integration_latency_ms = await self._call(
                    route, request, metrics, check=_check_verdict
                )
                verdict = _verdict(entry, outcome, request_id)
                error = _told(outcome)
        if isinstance(verdict, Accepted):
            try:
                await self._registry.add(entry)
            except RequestRefused as refusal:
                # `$connect` has let it in, so its end is told.
                orphan_id = orphan_request_id(entry.key.connection_id)
                await self.orphaned(entry, orphan_id, _ABNORMAL_CLOSURE, "")
                verdict, error = _rejected(entry, refusal, request_id), refusal.message
        self._access_log.write(
            "connect",
            {
                "stage": stage_name,
                "connection_id": entry.key.connection_id,
                "request_id": request_id,
                "route": CONNECT,
                "status": verdict.status if isinstance(verdict, Rejected) else 101,
                "source_ip": entry.source_ip,
                "integration_latency_ms": integration_latency_ms,
                "latency_ms": _ms(self._clock.monotonic_s() - started_s),
                "error": error,
            },
        )
        return verdict

    async def message(self, connection: Connection, body: str) -> None:
        """Route one message; the reply or an error frame goes out on the connection."""
        started_s = self._clock.monotonic_s()
        entry = connection.entry
        _, stage_name, connection_id = entry.key
        entropy = self._entropy(2 * ENTROPY_SIZE)
        request_id = new_request_id(entropy)
        stage = self._stages[stage_name]
        route = stage.select(body)
        metrics = self._metrics.route(stage_name, DEFAULT if route is None else route.key)
        metrics.message_count += 1
        refusal = _refusal(route, body)
        if refusal is not None:
            metrics.client_error += 1
            self._send_error(connection, refusal.message, request_id, metrics)
            self._log_message(
                entry=entry,
                request_id=request_id,
                route_key=None if route is None else route.key,
                status=refusal.status,
                started_s=started_s,
                integration_latency_ms=None,
                error=str(refusal)[:_ERROR_SIZE_MAX] or None,
            )
            return
        assert route is not None
        request = MessageRequest(
            entry=entry,
            route_key=route.key,
            request_id=request_id,
            requested_at_ms=max(entry.connected_at_ms, self._clock.epoch_ms()),
            stage_variables=stage.variables,
            message_id=new_message_id(connection_id, entropy[ENTROPY_SIZE:]),
            body=body,
        )
        outcome, integration_latency_ms = await self._call(
            route, request, metrics, check=_check_reply if route.two_way else None
        )
        if isinstance(outcome, IntegrationFault):
            status = outcome.status
            self._send_error(connection, outcome.message, request_id, metrics)
        else:
            status = outcome.status_code
            if route.two_way:
                self._send(connection, outcome.payload or b"", metrics)
        self._log_message(
            entry=entry,
            request_id=request_id,
            route_key=route.key,
            status=status,
            started_s=started_s,
            integration_latency_ms=integration_latency_ms,
            error=_told(outcome),
        )

    async def disconnect(self, entry: ConnectionEntry, code: int, reason: str) -> None:
        """Run `$disconnect` once for a connection that is gone; its result is ignored."""
        request_id = new_request_id(self._entropy(ENTROPY_SIZE))
        async with self._disconnects:
            if await self._registry.claim(entry.key, request_id, code, reason):
                await self._run_disconnect(entry, request_id, code, reason)
                await self._registry.finish(entry.key)

    async def orphaned(
        self, entry: ConnectionEntry, request_id: str, code: int, reason: str
    ) -> None:
        """Run `$disconnect` for a connection whose end no registry entry of this node tells.

        Its node is gone, or this node could not record it.

        Args:
            entry: As that node recorded it.
            request_id: The event's; the same each time it is delivered.
            code: `disconnectStatusCode`.
            reason: `disconnectReason`.
        """
        async with self._disconnects:
            await self._run_disconnect(entry, request_id, code, reason)

    async def _run_disconnect(
        self, entry: ConnectionEntry, request_id: str, code: int, reason: str
    ) -> None:
        # No request is older than its connection, also when the clock is set back.
        now_ms = max(entry.connected_at_ms, self._clock.epoch_ms())
        stage = self._stages.get(entry.key.stage)
        route = None if stage is None else stage.disconnect_route
        error: str | None = None
        integration_latency_ms: float | None = None
        if stage is not None and route is not None:
            request = DisconnectRequest(
                entry=entry,
                route_key=DISCONNECT,
                request_id=request_id,
                requested_at_ms=now_ms,
                stage_variables=stage.variables,
                status_code=code,
                reason=reason,
            )
            metrics = self._metrics.route(entry.key.stage, DISCONNECT)
            outcome, integration_latency_ms = await self._call(route, request, metrics)
            error = _told(outcome)
        self._access_log.write(
            "disconnect",
            {
                "stage": entry.key.stage,
                "connection_id": entry.key.connection_id,
                "request_id": request_id,
                "route": DISCONNECT,
                "status": code,
                "reason": reason,
                "integration_latency_ms": integration_latency_ms,
                "connected_ms": now_ms - entry.connected_at_ms,
                "error": error,
            },
        )

    def refused(self, error: RequestRefused) -> None:
        """Count a request that was refused before a stage was known."""
        self._metrics.route("", "").client_error += 1
        self._access_log.write("refused", {"status": error.status, "error": error.error_type})

    def _refuse(self, error: RequestRefused, handshake: Handshake) -> Rejected:
        self._metrics.route("", CONNECT).client_error += 1
        self._access_log.write(
            "connect",
            {
                "status": error.status,
                # Without the query string, which is where browsers have to put their tokens.
                "path": handshake.target.partition("?")[0],
                "source_ip": handshake.source_ip,
            },
        )
        return Rejected(
            error.status,
            error.error_type,
            error_body(error.message),
            new_request_id(self._entropy(ENTROPY_SIZE)),
        )

    def _new_entry(self, stage_name: str, handshake: Handshake) -> ConnectionEntry:
        assert self.tag is not None, "asked before"
        while True:
            connection_id = new_connection_id(self.tag, self._entropy(ENTROPY_SIZE))
            key = ConnectionKey(self._api_id, stage_name, connection_id)
            if not self._open_here(key):
                break
        user_agents = [v for name, v in handshake.headers if name.lower() == "user-agent"]
        return ConnectionEntry(
            key=key,
            connected_at_ms=handshake.received_at_ms,
            domain_name=handshake.host,
            source_ip=handshake.source_ip,
            user_agent=user_agents[-1] if user_agents else None,
        )

    def _new_trace_id(self) -> str:
        # https://docs.aws.amazon.com/xray/latest/devguide/xray-api-sendingdata.html#xray-api-traceids
        return f"Root=1-{self._clock.epoch_ms() // 1000:08x}-{self._entropy(12).hex()}"

    async def _call(
        self,
        route: LiveRoute,
        request: RouteRequest,
        metrics: RouteMetrics,
        *,
        check: Callable[[IntegrationResponse], None] | None = None,
    ) -> tuple[IntegrationResponse | IntegrationFault, float]:
        """Call an integration, count what comes of it, log what went wrong.

        An answer that does not pass `check`, which raises an `IntegrationFault`, is none.

        Returns:
            The answer or the fault, and the latency in milliseconds.
        """
        started_s = self._clock.monotonic_s()
        outcome: IntegrationResponse | IntegrationFault
        try:
            outcome = await route.integration.handle(request)
            if check is not None:
                check(outcome)
            if outcome.status_code >= 400:  # noqa: PLR2004 - RFC 9110, 15: 4xx and 5xx are errors
                metrics.integration_error += 1
        except IntegrationFault as fault:
            outcome = fault
        # A bug of the gateway; the client is told all the same.
        except Exception as bug:  # noqa: BLE001 - logged below
            outcome = IntegrationFault(f"{bug!r}")
            outcome.__cause__ = bug
        latency_ms = _ms(self._clock.monotonic_s() - started_s)
        metrics.integration_took(latency_ms)
        if isinstance(outcome, IntegrationFault):
            metrics.execution_error += 1
            log.error(
                "integration failed",
                connection_id=request.entry.key.connection_id,
                request_id=request.request_id,
                route=request.route_key,
                error=_told(outcome),
                exc_info=_traceback(outcome),
            )
        return outcome, latency_ms

    def _send_error(
        self, connection: Connection, message: str, request_id: str, metrics: RouteMetrics
    ) -> None:
        body = error_body(message, connection.entry.key.connection_id, request_id)
        self._send(connection, body, metrics)

    def _send(self, connection: Connection, payload: bytes, metrics: RouteMetrics) -> None:
        try:
            connection.send(payload)
        except (Gone, LimitExceeded) as error:
            self._metrics.replies_dropped[error.error_type] += 1
            log.warning(
                "reply dropped",
                connection_id=connection.entry.key.connection_id,
                reason=error.error_type,
            )
        else:
            metrics.message_count += 1

    def _log_message(
        self,
        *,
        entry: ConnectionEntry,
        request_id: str,
        route_key: str | None,
        status: int,
        started_s: float,
        integration_latency_ms: float | None,
        error: str | None,
    ) -> None:
        self._access_log.write(
            "message",
            {
                "stage": entry.key.stage,
                "connection_id": entry.key.connection_id,
                "request_id": request_id,
                "route": route_key,
                "status": status,
                "integration_latency_ms": integration_latency_ms,
                "latency_ms": _ms(self._clock.monotonic_s() - started_s),
                "error": error,
            },
        )


def _check_verdict(response: IntegrationResponse) -> None:
    if not 200 <= response.status_code <= 599:  # noqa: PLR2004 - what a response can have
        raise MalformedResponse(f"no HTTP response can have statusCode {response.status_code}")
    if response.subprotocol is not None and not _HEADER_VALUE.fullmatch(response.subprotocol):
        raise MalformedResponse(
            f"no header line can hold the Sec-WebSocket-Protocol {response.subprotocol!r}"
        )


def _check_reply(response: IntegrationResponse) -> None:
    payload = response.payload
    if payload is None:
        return
    if len(payload) > MESSAGE_SIZE_MAX:
        raise IntegrationFault(f"the reply has {len(payload)} bytes, over {MESSAGE_SIZE_MAX}")
    try:
        payload.decode()
    except UnicodeDecodeError as error:
        raise MalformedResponse(f"the reply is no text: {error}") from error


def _refusal(route: LiveRoute | None, body: str) -> RequestRefused | None:
    """Return why a message does not get to an integration."""
    if route is None:
        return Forbidden()
    if route.validator is not None:
        problem = route.validator.check(body)
        if problem is not None:
            return InvalidRequestBody(problem)
    return None


def _verdict(
    entry: ConnectionEntry, outcome: IntegrationResponse | IntegrationFault, request_id: str
) -> Accepted | Rejected:
    if isinstance(outcome, IntegrationFault):
        return _rejected(entry, outcome, request_id)
    if outcome.status_code < 300:  # noqa: PLR2004 - RFC 9110, 15.3: 2xx is success
        return Accepted(entry, outcome.subprotocol)
    return Rejected(outcome.status_code, None, b"", request_id)


def _rejected(
    entry: ConnectionEntry, error: RequestRefused | IntegrationFault, request_id: str
) -> Rejected:
    return Rejected(
        error.status,
        error.error_type,
        error_body(error.message, entry.key.connection_id, request_id),
        request_id,
    )


def _told(outcome: IntegrationResponse | IntegrationFault) -> str | None:
    """Return what to log of an outcome; None when nothing is wrong with it."""
    return str(outcome)[:_ERROR_SIZE_MAX] if isinstance(outcome, IntegrationFault) else None


def _traceback(fault: IntegrationFault) -> BaseException | None:
    """Return what to log with its traceback: where a handler raised, or a bug of the gateway.

    How the connection to a backend failed is said by the fault itself.
    """
    is_code = isinstance(fault, FunctionFailed) or type(fault) is IntegrationFault
    return fault.__cause__ if is_code else None


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
