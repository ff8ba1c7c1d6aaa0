"""A gateway that is tested: in the test's process and event loop, on a free port."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from reprlib import repr as in_short
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from wsgateway.api.definition import ApiDefinition, RouteDefinition
from wsgateway.clock import SystemClock
from wsgateway.errors import Fault, OperatorFaults
from wsgateway.functions.environment import handler_environment
from wsgateway.gateway import Gateway, stages_to_serve
from wsgateway.loaders.file import open_source
from wsgateway.loaders.source import LoadedApi
from wsgateway.page import static_folder
from wsgateway.ports import bind_ports, callback_url
from wsgateway.settings import load_settings
from wsgateway.testing import callbacks, client, process
from wsgateway.testing.calls import Events, Recorder, connection_id_of
from wsgateway.testing.environment import HandlerEnvironment

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from types import ModuleType

    from wsgateway.loaders.source import ApiSource
    from wsgateway.ports import Ports
    from wsgateway.settings import Settings
    from wsgateway.testing.calls import HasConnectionId

Handler = Callable[..., Any]
Source = Path | str | Mapping[str, Handler]

# Long enough for a machine that is busy with other tests: only what fails takes so long.
_TIMEOUT_S = 10.0
# Settings of the command, which mean nothing here.
_NOT_SETTINGS = frozenset({"path", "reload", "log_format", "log_level"})
_DEFAULTS: Mapping[str, object] = {"port": 0, "drain_close_rate": 1e6, "grace_period_s": 5.0}
# What the last close frames may take after the gateway has stopped.
_END_TIMEOUT_S = 1.0


class MovableClock(SystemClock):
    """The machine's time, and what a test adds to it."""

    def __init__(self) -> None:
        super().__init__()
        self.ahead_s = 0.0

    def epoch_ms(self) -> int:
        """Tell the wall clock."""
        return super().epoch_ms() + int(self.ahead_s * 1000)

    def monotonic_s(self) -> float:
        """Tell seconds from an arbitrary start."""
        return super().monotonic_s() + self.ahead_s


class RunningGateway:
    """A gateway while it serves; `serve` makes one.

    Attributes:
        events: Every call of a function so far.
        stages: The names of what it serves; methods mean the first one if they are not told.
    """

    def __init__(
        self,
        gateway: Gateway,
        *,
        recorder: Recorder,
        clock: MovableClock,
        environment: HandlerEnvironment,
        source: ApiSource | None,
        stages: Sequence[str],
        timeout_s: float,
    ) -> None:
        self.events = recorder.events
        self.stages = tuple(stages)
        self._gateway = gateway
        self._recorder = recorder
        self._clock = clock
        self._environment = environment
        self._source = source
        self._timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()
        self._clients: list[client.Client] = []
        self._websocket_urls = dict(zip(self.stages, gateway.websocket_urls, strict=True))
        self._callback_urls = dict(zip(self.stages, gateway.callback_urls, strict=True))

    def __repr__(self) -> str:
        return f"<RunningGateway {self.websocket_url}>"

    # --- where

    @property
    def websocket_url(self) -> str:
        """Where clients connect."""
        return self._websocket_urls[self.stages[0]]

    @property
    def callback_url(self) -> str:
        """Where backends post: the `endpoint_url` of an SDK."""
        return self._callback_urls[self.stages[0]]

    @property
    def page_url(self) -> str | None:
        """What to open in a browser, if the folder has a page in `static/`."""
        return self._gateway.page_url

    # --- as a client

    def connect(
        self,
        *,
        query: Mapping[str, str | Sequence[str]] | None = None,
        headers: Mapping[str, str] | None = None,
        subprotocols: Sequence[str] = (),
        stage: str | None = None,
        timeout_s: float | None = None,
    ) -> client.Connecting:
        """Connect a client: `async with gateway.connect() as client`, or `await` it.

        Args:
            query: The query string; a list of values repeats a name.
            headers: Added to the handshake, or sent instead of the client's own.
            subprotocols: What the client offers.
            stage: One of `stages`.
            timeout_s: For the answer, and as the default of the client's own waits.

        Raises:
            ConnectRefused: `$connect` or the gateway said no.
            TimedOut: There was no answer.
        """
        stage = self._known(stage)

        async def opened() -> client.Client:
            self._must_run_here()
            connected = await client.connect(
                self._websocket_urls[stage],
                self._recorder,
                stage=stage,
                query=query or {},
                headers=headers or {},
                subprotocols=subprotocols,
                timeout_s=self._timeout_s if timeout_s is None else timeout_s,
            )
            self._clients.append(connected)
            return connected

        return client.Connecting(opened)

    # --- as a backend

    async def post(
        self, connection: HasConnectionId | str, message: Any, *, stage: str | None = None
    ) -> None:
        """Post a message to a connection.

        Args:
            connection: A client or a connection id.
            message: Text or bytes as they are, anything else as JSON.
            stage: Where the connection is; a client knows it.

        Raises:
            CallbackRefused: It was answered with an error, such as 410 for who has left.
        """
        if not isinstance(message, str | bytes):
            message = json.dumps(message)
        body = message.encode() if isinstance(message, str) else message
        await self._request("POST", connection, body, stage)

    async def get(
        self, connection: HasConnectionId | str, *, stage: str | None = None
    ) -> dict[str, Any]:
        """Return what the callback API tells of a connection.

        Raises:
            CallbackRefused: It was answered with an error.
        """
        value: dict[str, Any] = await self._request("GET", connection, None, stage)
        return value

    async def delete(self, connection: HasConnectionId | str, *, stage: str | None = None) -> None:
        """Close a connection.

        Raises:
            CallbackRefused: It was answered with an error.
        """
        await self._request("DELETE", connection, None, stage)

    async def _request(
        self, method: str, connection: HasConnectionId | str, body: bytes | None, stage: str | None
    ) -> Any:
        self._must_run_here()
        stage = self._known(stage or getattr(connection, "stage", None))
        return await callbacks.request(
            method, self._callback_urls[stage], connection_id_of(connection), body, self._timeout_s
        )

    # --- time

    def advance(self, seconds: float) -> None:
        """Move the gateway's clock, and close what is due by then.

        The clock decides on idle and old connections and on every time in events and answers. What
        a handler may take is real time, and what handlers themselves read is not moved.
        """
        if seconds < 0:
            raise ValueError("time does not go back")
        self._must_run_here()
        self._clock.ahead_s += seconds
        self._gateway.visit_due()

    # --- inside the handlers

    def module(self, name: str) -> ModuleType:
        """Return a module of the folder, as the handlers import it: to look at, or to patch.

        Args:
            name: The file's, without `.py`.
        """
        if self._source is None:
            raise TypeError(
                "only a folder or a file has modules, and this gateway serves a dictionary"
            )
        with self.environment():
            return self._source.module(name)

    def environment(self) -> AbstractContextManager[None]:
        """Let `os.environ` be what handlers see in a `with` block, for the current task."""
        return self._environment.active()

    # --- checks

    def _known(self, stage: str | None) -> str:
        if stage is None:
            return self.stages[0]
        if stage not in self.stages:
            raise ValueError(f"there is no stage {stage!r}; there is {', '.join(self.stages)}")
        return stage

    def _must_run_here(self) -> None:
        if asyncio.get_running_loop() is not self._loop:
            raise RuntimeError(
                "this gateway runs on another event loop than the test: give the fixture and the "
                "test the same loop_scope, or call serve() in the test"
            )

    # --- for `serve`

    def hurry(self) -> None:
        """Let the end wait for nothing."""
        self._gateway.hurry()

    async def end(self) -> None:
        """Stop the gateway, and see its clients off."""
        await self._gateway.stop()
        for connected in self._clients:
            await connected.end(_END_TIMEOUT_S)


Serve = Callable[..., Awaitable[RunningGateway]]
"""What the fixture `wsgateway_serve` is: `serve`, without the block."""


@asynccontextmanager
async def serve(
    source: Source,
    *,
    two_way: Iterable[str] = (),
    route_selection_expression: str | None = None,
    stage: str | None = None,
    stage_variables: Mapping[str, str] | None = None,
    environ: Mapping[str, str | None] | None = None,
    timeout_s: float = _TIMEOUT_S,
    **settings: object,
) -> AsyncIterator[RunningGateway]:
    """Run a gateway until the block ends, which closes its connections with 1001 and drains it.

    `WSGATEWAY_*` variables of the process are not read, so that tests are the same everywhere.

    Args:
        source: A folder of handlers or a definition file, each call with fresh modules; or
            handlers by route key.
        two_way: Route keys whose handlers' results are sent to the client.
        route_selection_expression: Instead of the folder's or `$request.body.action`.
        stage: Serve only this one; its name if none is declared (default `dev`).
        stage_variables: On top of those declared, for every stage.
        environ: Variables that handlers find in `os.environ` on top of the process's and of those
            that `wsgateway serve` sets; None hides one of the process's.
        timeout_s: The default of every wait.
        settings: Any setting of `wsgateway serve`, by name: `idle_timeout_s=60`.

    Raises:
        OperatorFaults: Something cannot be served; with all faults.
    """
    async with AsyncExitStack() as stack:
        with _arguments_as_places():
            merged = _settings(stage, settings)
            running = await _start(
                stack,
                source,
                settings=merged,
                environ=environ or {},
                timeout_s=timeout_s,
                with_more=partial(
                    _with_more,
                    two_way=tuple(two_way),
                    route_selection_expression=route_selection_expression,
                    stage_variables=stage_variables or {},
                    settings=merged,
                ),
            )
        try:
            yield running
        except BaseException:
            # What failed need not be drained in peace.
            running.hurry()
            raise


async def _start(
    stack: AsyncExitStack,
    source: Source,
    *,
    settings: Settings,
    environ: Mapping[str, str | None],
    timeout_s: float,
    with_more: Callable[[ApiDefinition], ApiDefinition],
) -> RunningGateway:
    """Start a gateway; the stack has all that is to be done at its end."""
    stack.enter_context(process.changed())
    ports = bind_ports(settings)
    stack.callback(ports.close)
    opened: ApiSource | None = None
    load: Callable[[], LoadedApi]
    if isinstance(source, Mapping):
        load = partial(_loaded, source)
    else:
        opened = open_source(Path(source))
        stack.callback(opened.close)
        load = opened.load
    environment = HandlerEnvironment(_variables(opened, settings, ports, environ))
    with environment.active():
        # In a thread: a module may run an event loop of its own while it is imported.
        loaded = await asyncio.to_thread(load)
    api = replace(loaded, definition=with_more(loaded.definition))
    clock = MovableClock()
    recorder = Recorder(Events(api.handlers.keys(), timeout_s), environment)
    gateway = Gateway(
        settings,
        api,
        ports,
        clock=clock,
        observer=recorder,
        environ=_present({**os.environ, **environ}),
        static=None if opened is None else static_folder(opened.folder),
    )
    await gateway.start()
    stages = stages_to_serve(api.definition, settings)
    running = RunningGateway(
        gateway,
        recorder=recorder,
        clock=clock,
        environment=environment,
        source=opened,
        stages=list(stages),
        timeout_s=timeout_s,
    )
    stack.push_async_callback(running.end)
    return running


def _settings(stage: str | None, given: Mapping[str, object]) -> Settings:
    if refused := sorted(_NOT_SETTINGS & given.keys()):
        raise TypeError(f"serve() does not take the setting {refused[0]}")
    flags = {**_DEFAULTS, **given} | ({} if stage is None else {"stage": stage})
    settings, faults = load_settings(flags, {}, None)
    if faults:
        raise OperatorFaults(faults)
    return settings


def _variables(
    source: ApiSource | None,
    settings: Settings,
    ports: Ports,
    environ: Mapping[str, str | None],
) -> dict[str, str | None]:
    """Return the variables that differ from the process's."""
    url = settings.callback_url
    # Its faults are told when everything is loaded.
    with suppress(OperatorFaults):
        declared = ApiDefinition() if source is None else source.definition()
        stages = list(stages_to_serve(declared, settings))
        if url is None and len(stages) == 1:
            url = callback_url(settings, ports, stages[0])
    # That of another gateway would be worse than none.
    own: dict[str, str | None] = {"WSGATEWAY_CALLBACK_URL": url, **environ}
    return own | handler_environment(
        _present({**os.environ, **own}),
        region=settings.region,
        folder=Path.cwd() if source is None else source.folder,
        callback_url=None,
    )


def _present(environ: Mapping[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if value is not None}


def _loaded(handlers: Mapping[str, Handler]) -> LoadedApi:
    given: Mapping[str, object] = handlers
    faults = [
        Fault(f"handlers[{key!r}]", f"{in_short(value)} is not callable", "give a function")
        for key, value in given.items()
        if not callable(value)
    ]
    if not handlers:
        faults.append(Fault("handlers", "there is no handler", "give one such as $default"))
    if faults:
        raise OperatorFaults(faults)
    # Route keys are looked at with the rest of the definition.
    definition = ApiDefinition.model_construct(routes=dict.fromkeys(handlers, RouteDefinition()))
    return LoadedApi(definition, dict(handlers), {key: key.lstrip("$") for key in handlers})


def _with_more(
    definition: ApiDefinition,
    *,
    two_way: Sequence[str],
    route_selection_expression: str | None,
    stage_variables: Mapping[str, str],
    settings: Settings,
) -> ApiDefinition:
    """Return a definition with what `serve` was told besides."""
    declared = definition.model_dump(by_alias=True, exclude_none=True)
    faults = [
        Fault("two_way", f"there is no route {key!r}", f"there is {', '.join(definition.routes)}")
        for key in two_way
        if key not in definition.routes
    ]
    for key in set(two_way) & definition.routes.keys():
        declared["routes"][key]["routeResponseSelectionExpression"] = "$default"
    if route_selection_expression is not None:
        declared["routeSelectionExpression"] = route_selection_expression
    for name, stage in stages_to_serve(definition, settings).items():
        declared["stages"].setdefault(name, {})["stageVariables"] = {
            **stage.stage_variables,
            **stage_variables,
        }
    try:
        definition = ApiDefinition.model_validate(declared)
    except ValidationError as error:
        faults += [
            Fault(".".join(map(str, detail["loc"])), detail["msg"], f"got {detail['input']!r}")
            for detail in error.errors()
        ]
    if faults:
        raise OperatorFaults(faults)
    return definition


@contextmanager
def _arguments_as_places() -> Iterator[None]:
    """Let faults name arguments where the command would name flags."""
    try:
        yield
    except OperatorFaults as error:
        raise OperatorFaults(
            [
                replace(fault, place=fault.place.removeprefix("--").replace("-", "_"))
                if fault.place.startswith("--")
                else fault
                for fault in error.faults
            ]
        ) from error.__cause__
