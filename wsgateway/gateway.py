"""Builds a gateway from its parts, starts it, and stops it in order."""

from __future__ import annotations

import asyncio
import math
import time
from functools import partial
from typing import IO, TYPE_CHECKING

import structlog
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from wsgateway.api.definition import StageDefinition, stage_name
from wsgateway.api.deployment import compile_deployment
from wsgateway.api.endpoints import INTERNAL
from wsgateway.backends import Backends
from wsgateway.clock import SystemClock
from wsgateway.cluster.hub import Hub
from wsgateway.cluster.node import DELIVERIES, Everywhere, Node
from wsgateway.cluster.registry import MemoryRegistry
from wsgateway.connection_id import TAG_SIZE
from wsgateway.dispatch import Dispatcher
from wsgateway.drain import Drain
from wsgateway.entropy import random_bytes
from wsgateway.errors import Fault, OperatorFaults
from wsgateway.listener.server import Descriptors, Listener, keep_time
from wsgateway.listener.shared import ListenerLimits, Shared
from wsgateway.management import Management
from wsgateway.observer import Observer
from wsgateway.page import Page
from wsgateway.ports import Ports, authority_of, callback_url, tls_context
from wsgateway.settings import derived_api_id
from wsgateway.stage import Stage
from wsgateway.telemetry.access_log import AccessLog
from wsgateway.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from starlette.requests import Request
    from starlette.routing import BaseRoute

    from wsgateway.api.definition import ApiDefinition
    from wsgateway.cluster.engine import Engine
    from wsgateway.connection import ConnectionEntry
    from wsgateway.contracts import Callbacks, Clock, Registry
    from wsgateway.loaders.source import LoadedApi
    from wsgateway.settings import Settings

log = structlog.stdlib.get_logger(__name__)

# What an HTTP request may take after everything else has ended.
_HTTP_TIMEOUT_S = 0.5
_GOING_AWAY = (1001, "Going away")


def check_redis(settings: Settings) -> None:
    """See whether the settings of Redis can be.

    Raises:
        OperatorFaults: They cannot.
    """
    if settings.redis is not None:
        from wsgateway.cluster.engine import redis_location  # noqa: PLC0415 - as in Gateway

        redis_location(settings)


def stages_to_serve(definition: ApiDefinition, settings: Settings) -> dict[str, StageDefinition]:
    """Return the stages: all that are declared, or those that were asked for.

    Raises:
        OperatorFaults: One is not among those declared, or has a name that no stage can have.
    """
    if settings.stage is None:
        return dict(definition.stages) or {"dev": StageDefinition()}
    names = list(dict.fromkeys(settings.stage.split(",")))
    faults = []
    for name in names:
        if definition.stages:
            if name not in definition.stages:
                problem = f"the stage {name!r} is not declared"
                remedy = f"declared are: {', '.join(definition.stages)}"
                faults.append(Fault(settings.place("stage"), problem, remedy))
            continue
        try:
            stage_name(name)
        except ValueError as error:
            faults.append(Fault(settings.place("stage"), str(error), f"got {name!r}"))
    if faults:
        raise OperatorFaults(faults)
    return {name: definition.stages.get(name, StageDefinition()) for name in names}


class Gateway:
    """One node.

    Args:
        settings: How it runs.
        api: What it serves.
        ports: Where it listens; closed with the gateway.
        access_log: Where lines per message go, in binary; None for nowhere.
        pretty: Lines for a person instead of JSON.
        clock: The time of everything but the event loop.
        observer: Sees connections and calls of functions.
        environ: The process's variables, without those that are set for handlers; for AWS.
        static: A folder of files for browsers.
    """

    def __init__(
        self,
        settings: Settings,
        api: LoadedApi,
        ports: Ports,
        *,
        access_log: IO[bytes] | None = None,
        pretty: bool = False,
        clock: Clock | None = None,
        observer: Observer | None = None,
        environ: Mapping[str, str] | None = None,
        static: Path | None = None,
    ) -> None:
        self.settings = settings
        self.api_id = settings.api_id or derived_api_id(api.definition.name)
        self.ready = False
        self._name = api.definition.name
        self._ports = ports
        self._clock = clock or SystemClock(settings.wall_clock_offset_s)
        self._observer = observer or Observer()
        self._backends = Backends(settings, environ or {}, self._observer)
        deployment = compile_deployment(api.definition)
        self._stages = {
            name: Stage(
                name,
                declared.stage_variables,
                deployment,
                self._backends.integrations(api, deployment, declared.stage_variables),
            )
            for name, declared in stages_to_serve(api.definition, settings).items()
        }
        self._page = Page(static, self._name, self._stages) if static else None
        self._hub = Hub()
        self._metrics = Metrics(self.api_id)
        self._metrics.gauge("wsgateway_connections", "Open connections.", self._hub.__len__)
        self._metrics.gauge(
            "wsgateway_functions_running",
            "Calls of functions.",
            lambda: self._backends.functions_running,
        )
        self._metrics.gauge("wsgateway_tasks", "Tasks of the event loop.", _count_tasks)
        here = Node(self._hub)
        callbacks: Callbacks = here
        registry: Registry = MemoryRegistry()
        self._engine = self._make_engine(here)
        if self._engine is not None:
            registry = self._engine.registry
            callbacks = Everywhere(here, self._engine, self._hub.__contains__)
            _count_cluster(self._metrics, self._engine)
            self._metrics.info("wsgateway_node", "Which node this is.", self._who)
        self._access_log = AccessLog(access_log, pretty=pretty, clock=self._clock)
        self._dispatcher = dispatcher = Dispatcher(
            api_id=self.api_id,
            tag=random_bytes(TAG_SIZE) if self._engine is None else None,
            stages=self._stages,
            open_here=self._hub.__contains__,
            registry=registry,
            clock=self._clock,
            entropy=random_bytes,
            metrics=self._metrics,
            access_log=self._access_log,
            disconnect_concurrency_max=settings.disconnect_concurrency_max,
        )
        self._shared = Shared(
            limits=_listener_limits(settings),
            dispatch=self._observer.dispatch(dispatcher),
            hub=self._hub,
            clock=self._clock,
            entropy=random_bytes,
        )
        self._drain = Drain(
            self._shared,
            close_rate=settings.drain_close_rate,
            close_jitter=settings.drain_close_jitter,
            grace_period_s=settings.grace_period_s,
        )
        self._listeners = self._build_listeners(callbacks)
        self._descriptors = Descriptors(self._listeners)
        self._shared.on_accept = self._descriptors.accepted
        self._running: list[asyncio.Task[None]] = []

    # --- what is served

    def deploy(self, api: LoadedApi) -> None:
        """Serve this from now on; connections stay open, calls in flight finish on the old code.

        The API's name and its list of stages stay what they were: ids and URLs are made of them.

        Raises:
            OperatorFaults: The one stage to serve is gone.
        """
        stages = stages_to_serve(api.definition, self.settings)
        if stages.keys() != self._stages.keys() or api.definition.name != self._name:
            log.warning("the API's name and its list of stages change with the next start only")
        deployment = compile_deployment(api.definition)
        served = {}
        for name, stage in self._stages.items():
            variables = stages[name].stage_variables if name in stages else stage.variables
            served[name] = variables, self._backends.integrations(api, deployment, variables)
        for name, (variables, integrations) in served.items():
            self._stages[name].deploy(variables, deployment, integrations)

    def visit_due(self) -> None:
        """Close what is due by the clock, which does so by itself once a second.

        Deadlines are kept in full seconds: those of the current one count as due.
        """
        self._shared.deadlines.sweep(math.ceil(self._clock.monotonic_s()))

    # --- where

    @property
    def websocket_urls(self) -> list[str]:
        """Where clients connect, by stage."""
        scheme = "wss" if self.settings.tls_certificate else "ws"
        at = authority_of(self._ports.public)
        return [f"{scheme}://{at}/{name}" for name in self._stages]

    @property
    def callback_urls(self) -> list[str]:
        """Where backends post, by stage."""
        return [callback_url(self.settings, self._ports, name) for name in self._stages]

    @property
    def health_url(self) -> str:
        """Where an orchestrator asks."""
        return callback_url(self.settings, self._ports, "_wsgateway/health")

    @property
    def page_url(self) -> str | None:
        """What to open in a browser, if there is a page."""
        if self._page is None or not self._page.has_index:
            return None
        scheme = "https" if self.settings.tls_certificate else "http"
        return f"{scheme}://{authority_of(self._ports.public)}/{INTERNAL}/"

    def _build_listeners(self, callbacks: Callbacks) -> list[Listener]:
        tls = tls_context(self.settings)
        separate = bool(self._ports.management)
        public = self._http_app(None if separate else callbacks, self._page, metrics=not separate)
        listeners = [Listener(public, self._shared, self._ports.public, tls)]
        if separate:
            management = self._http_app(callbacks, None, metrics=True)
            listeners.append(Listener(management, self._shared, self._ports.management, tls))
        return listeners

    def _http_app(
        self, callbacks: Callbacks | None, page: Page | None, *, metrics: bool
    ) -> Management:
        routes: list[BaseRoute] = [Route(f"/{INTERNAL}/health", self._health)]
        if metrics:
            routes.append(Route(f"/{INTERNAL}/metrics", self._metrics_page))
        if page is not None:
            routes += page.routes()
        return Management(
            api_id=self.api_id,
            stages=self._stages,
            callbacks=callbacks,
            internal=Starlette(routes=routes),
            has_page=page is not None and page.has_index,
            clock=self._clock,
            entropy=random_bytes,
            metrics=self._metrics,
            access_log=self._access_log,
        )

    async def _health(self, _: Request) -> Response:
        told = {"status": "ready" if self.ready else "stopping"}
        serving = self.ready
        if self._engine is not None:
            told["redis"] = "reachable" if self._engine.is_reachable else "lost"
            if serving and not self._engine.registry.is_accepting:
                serving, told["status"] = False, "unavailable"
        return JSONResponse(told, status_code=200 if serving else 503)

    async def _metrics_page(self, _: Request) -> Response:
        return Response(self._metrics.exposition(), media_type=CONTENT_TYPE_LATEST)

    # --- among other nodes

    def _make_engine(self, here: Node) -> Engine | None:
        """Return what joins other nodes, if the settings name a Redis."""
        if self.settings.redis is None:
            return None
        # A tenth of a second and 10 MB, for those who have several nodes.
        from wsgateway.cluster.engine import Engine, redis_location  # noqa: PLC0415

        return Engine(
            redis_location(self.settings),
            self.settings,
            api_id=self.api_id,
            local=here,
            orphan=self._orphaned,
            on_fenced=self._fenced,
            on_joined=self._joined,
            entropy=random_bytes,
        )

    async def _orphaned(
        self, entry: ConnectionEntry, request_id: str, code: int, reason: str
    ) -> None:
        await self._dispatcher.orphaned(entry, request_id, code, reason)

    def _fenced(self) -> None:
        """The others deliver the `$disconnect`s: close everything, and give no ids for now."""
        self._dispatcher.tag = None
        for connection in self._hub.snapshot():
            connection.close(*_GOING_AWAY)

    def _joined(self, tag: bytes) -> None:
        self._dispatcher.tag = tag
        log.info("this node gives ids of a new tag", **self._who())

    def _who(self) -> dict[str, str]:
        """Tell the node's name, and the tag that its connections' ids begin with."""
        tag = self._dispatcher.tag
        return {"node": self.settings.name_of_node, "tag": "" if tag is None else tag.hex()}

    # --- start and stop

    async def start(self) -> None:
        """Begin to serve.

        Raises:
            OperatorFaults: Somebody else has begun to listen on a port of ours, or there is no
                Redis.
        """
        if self._engine is not None:
            await self._engine.start()
        self._ports.listen(self.settings)
        self._running = [
            asyncio.create_task(keep_time(self._shared, self._descriptors)),
            *(asyncio.create_task(listener.serve()) for listener in self._listeners),
        ]
        for listener in self._listeners:
            await listener.started_accepting.wait()
        for task in self._running:
            task.add_done_callback(self._ended)
        self.ready = True

    def _ended(self, task: asyncio.Task[None]) -> None:
        if self.ready and not task.cancelled():
            # An orchestrator is to replace this node.
            self.ready = False
            log.critical("a part of the gateway has ended by itself", exc_info=task.exception())

    async def stop(self) -> None:
        """Drain and end: see `ARCHITECTURE.md`, "Stopping"."""
        started_s = time.monotonic()
        open_connections = len(self._hub)
        self.ready = False
        await self._drain.wait(self.settings.drain_delay_s)
        unfinished = await self._drain.run()
        if self._engine is not None:
            await self._engine.stop()
        keeping_time, *serving = self._running
        for listener in self._listeners:
            listener.end()
        await asyncio.wait(serving, timeout=_HTTP_TIMEOUT_S)
        for listener in self._listeners:
            # Requests that do not end; before uvicorn cancels and reports them.
            for connection in list(listener.server_state.connections):
                connection.transport.abort()
        # What ended by itself has been reported.
        await asyncio.gather(*serving, return_exceptions=True)
        keeping_time.cancel()
        await asyncio.gather(keeping_time, return_exceptions=True)
        await self._backends.close()
        self._access_log.flush()
        log.info(
            "stopped",
            connections_closed=open_connections,
            unfinished=unfinished,
            seconds=round(time.monotonic() - started_s, 3),
        )

    def hurry(self) -> None:
        """Cut the waiting of a stop short."""
        self._drain.hurry()


def _count_tasks() -> int:
    return len(asyncio.all_tasks())


def _count_cluster(metrics: Metrics, engine: Engine) -> None:
    """Let metrics tell what happens among the nodes."""
    metrics.gauge(
        "wsgateway_redis_reachable",
        "Whether Redis answers and other nodes reach this one.",
        lambda: engine.is_reachable,
    )
    metrics.gauge(
        "wsgateway_nodes",
        "Nodes, this one and those included that are gone and not yet recovered.",
        lambda: 1 + engine.health().others,
    )
    metrics.gauge(
        "wsgateway_nodes_recovering",
        "Gone nodes whose $disconnects this node delivers.",
        lambda: engine.health().recovering,
    )
    metrics.gauge(
        "wsgateway_lease_certain",
        "Whether no other node can have given this one up.",
        lambda: engine.health().is_certain,
    )
    metrics.counter(
        "wsgateway_disconnects_recovered",
        "$disconnects delivered for nodes that are gone.",
        lambda: engine.health().recovered,
    )
    metrics.counter(
        "wsgateway_fenced",
        "How often the others have given this node up.",
        lambda: engine.health().fenced,
    )
    for name, documentation in DELIVERIES.items():
        metrics.counter(
            f"wsgateway_delivery_{name}", documentation, partial(engine.delivery_count, name)
        )


def _listener_limits(settings: Settings) -> ListenerLimits:
    values = {name: getattr(settings, name) for name in ListenerLimits.__dataclass_fields__}
    return ListenerLimits(**values)
