"""Which functions were called, with which events, and what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from reprlib import Repr
from typing import TYPE_CHECKING, Any, Protocol, overload

from wsgateway.api.definition import CONNECT, DISCONNECT
from wsgateway.contracts import Accepted
from wsgateway.errors import FunctionFailed
from wsgateway.observer import Observer
from wsgateway.testing.errors import TimedOut

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from wsgateway.connection import Handshake
    from wsgateway.contracts import Dispatch, Invoker, Rejected
    from wsgateway.testing.environment import HandlerEnvironment

Event = dict[str, Any]

_EVENT_TYPES = ("CONNECT", "MESSAGE", "DISCONNECT")
# A story has the last calls only, each on a line that can be read.
_STORY_SIZE_MAX = 20
_in_short = Repr()
_in_short.maxstring = _in_short.maxother = 120


@dataclass(slots=True, eq=False)
class Call:
    """One call of a function.

    Attributes:
        event: What the function received, before it could change it.
        finished: Whether it has returned or raised.
        result: What it returned, once it has.
        error: What it raised; or why it was not called or its result could not be used.
    """

    event: Event = field(repr=False)
    finished: bool = False
    result: Any = None
    error: BaseException | None = None

    @property
    def route_key(self) -> str:
        """The route: `$connect`, `join`."""
        return str(self.event["requestContext"]["routeKey"])

    @property
    def event_type(self) -> str:
        """CONNECT, MESSAGE or DISCONNECT."""
        return str(self.event["requestContext"]["eventType"])

    @property
    def connection_id(self) -> str:
        """Whose event it is."""
        return str(self.event["requestContext"]["connectionId"])

    def __str__(self) -> str:
        """What happened, in a line."""
        body = self.event.get("body")
        text = self.route_key if body is None else f"{self.route_key} {_in_short.repr(body)}"
        if not self.finished:
            return f"{text} is still running"
        if self.error is not None:
            return f"{text} raised {_in_short.repr(self.error)}"
        return f"{text} returned {_in_short.repr(self.result)}"


class HasConnectionId(Protocol):
    """What stands for a connection beside its id: a client, a call."""

    @property
    def connection_id(self) -> str:
        """The connection's id."""
        ...


def connection_id_of(connection: HasConnectionId | str) -> str:
    """Return the id of a connection that is named by what stands for it."""
    return connection if isinstance(connection, str) else connection.connection_id


class Events(Sequence[Call]):
    """Every call of a function, in the order in which they began.

    Where some are chosen, `which` is a route key (`$connect`, `join`) or an event type (`CONNECT`,
    `MESSAGE`, `DISCONNECT`), and `connection` keeps it to one client or connection id.
    """

    def __init__(self, route_keys: Collection[str], timeout_s: float) -> None:
        self._route_keys = route_keys
        self._timeout_s = timeout_s
        self._calls: list[Call] = []
        self._changed = asyncio.Event()

    @overload
    def __getitem__(self, index: int) -> Call: ...

    @overload
    def __getitem__(self, index: slice) -> list[Call]: ...

    def __getitem__(self, index: int | slice) -> Call | list[Call]:
        return self._calls[index]

    def __len__(self) -> int:
        return len(self._calls)

    def __repr__(self) -> str:
        return f"<Events: {self.story()}>"

    def of(self, which: str, *, connection: HasConnectionId | str | None = None) -> list[Call]:
        """Return the calls of a route or an event type so far."""
        self._must_be_known(which)
        return [
            call for call in self._with(connection) if which in {call.route_key, call.event_type}
        ]

    async def arrived(
        self,
        which: str,
        *,
        connection: HasConnectionId | str | None = None,
        count: int = 1,
        timeout_s: float | None = None,
    ) -> Call:
        """Wait until a function was called so many times, and return the last of these calls.

        Calls from before count too. The function may still be running.

        Raises:
            TimedOut: It was not.
        """

        def calls() -> list[Call]:
            return self.of(which, connection=connection)

        return await self._wait(calls, count, f"no event for {which} arrived", timeout_s)

    async def finished(
        self,
        which: str,
        *,
        connection: HasConnectionId | str | None = None,
        count: int = 1,
        timeout_s: float | None = None,
    ) -> Call:
        """Wait until so many calls of a function are over, and return the last of these calls.

        Calls from before count too. What the function raised is in the call's `error`.

        Raises:
            TimedOut: They are not.
        """

        def calls() -> list[Call]:
            return [call for call in self.of(which, connection=connection) if call.finished]

        return await self._wait(calls, count, f"no call for {which} finished", timeout_s)

    def story(self, connection: HasConnectionId | str | None = None) -> str:
        """Return what happened so far, a line per call."""
        calls = self._with(connection)
        if not calls:
            return "no function was called"
        left_out = len(calls) - _STORY_SIZE_MAX
        lines = [f"  ({left_out} earlier calls)"] if left_out > 0 else []
        lines += [f"  {call}" for call in calls[-_STORY_SIZE_MAX:]]
        return "\n".join(["functions were called:", *lines])

    def last_error(self, connection: HasConnectionId | str | None = None) -> BaseException | None:
        """Return what the latest call that failed raised."""
        errors = [call.error for call in self._with(connection) if call.error is not None]
        return errors[-1] if errors else None

    # --- for the recorder

    def begin(self, event: Event) -> Call:
        """Add a call."""
        call = Call(deepcopy(event))
        self._calls.append(call)
        self._notify()
        return call

    def end(self, call: Call, *, result: Any = None, error: BaseException | None = None) -> None:
        """Tell what came of a call."""
        call.result, call.error, call.finished = result, error, True
        self._notify()

    # --- inside

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _with(self, connection: HasConnectionId | str | None) -> list[Call]:
        if connection is None:
            return list(self._calls)
        connection_id = connection_id_of(connection)
        return [call for call in self._calls if call.connection_id == connection_id]

    async def _wait(
        self, calls: Callable[[], list[Call]], count: int, problem: str, timeout_s: float | None
    ) -> Call:
        timeout_s = self._timeout_s if timeout_s is None else timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                while len(found := calls()) < count:
                    await self._changed.wait()
        except TimeoutError:
            times = "" if count == 1 else f" {count} times"
            raise TimedOut(
                f"{problem}{times} within {timeout_s:g} s; {self.story()}"
            ) from self.last_error()
        return found[count - 1]

    def _must_be_known(self, which: str) -> None:
        if which in self._route_keys:
            return
        keys = ", ".join(sorted(self._route_keys))
        if which not in _EVENT_TYPES:
            types = ", ".join(_EVENT_TYPES)
            raise ValueError(f"{which!r} is neither a route ({keys}) nor an event type ({types})")
        lacking = {"CONNECT": CONNECT, "DISCONNECT": DISCONNECT}.get(which, which)
        if which != "MESSAGE" and lacking not in self._route_keys:
            raise ValueError(
                f"no function is told of a {which}: there is no route {lacking} among {keys}"
            )


class Recorder(Observer):
    """Records the calls of one gateway's functions, and makes them in their environment.

    Attributes:
        events: The record.
    """

    def __init__(self, events: Events, environment: HandlerEnvironment) -> None:
        self.events = events
        self._environment = environment
        self._accepted: dict[str, str] = {}

    def function(self, route_key: str, function: Invoker) -> Invoker:  # noqa: ARG002 - in the event
        """Return a function that records what another one does."""
        return _RecordedFunction(function, self.events, self._environment)

    def dispatch(self, dispatch: Dispatch) -> Dispatch:
        """Return a dispatcher that notes which handshake became which connection."""
        return _NotingDispatch(dispatch, self._accepted)

    def connection_id(self, websocket_key: str) -> str:
        """Return the id of the connection that began with this `Sec-WebSocket-Key`."""
        return self._accepted.pop(websocket_key)


class _RecordedFunction:
    def __init__(self, function: Invoker, events: Events, environment: HandlerEnvironment) -> None:
        self._function = function
        self._events = events
        self._environment = environment

    async def invoke(self, event: dict[str, object], *, timeout_s: float) -> object:
        call = self._events.begin(event)
        try:
            with self._environment.active():
                result = await self._function.invoke(event, timeout_s=timeout_s)
        except BaseException as error:
            cause = error.__cause__ if isinstance(error, FunctionFailed) else None
            self._events.end(call, error=cause or error)
            raise
        self._events.end(call, result=deepcopy(result))
        return result


class _NotingDispatch:
    def __init__(self, dispatch: Dispatch, accepted: dict[str, str]) -> None:
        self._dispatch = dispatch
        self._accepted = accepted
        self.message = dispatch.message
        self.disconnect = dispatch.disconnect
        self.refused = dispatch.refused

    async def connect(self, handshake: Handshake) -> Accepted | Rejected:
        verdict = await self._dispatch.connect(handshake)
        if isinstance(verdict, Accepted):
            headers = {name.lower(): value for name, value in handshake.headers}
            self._accepted[headers["sec-websocket-key"]] = verdict.entry.key.connection_id
        return verdict
