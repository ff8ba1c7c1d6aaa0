from __future__ import annotations

import asyncio
from typing import Any

import pytest

from wsgateway.errors import FunctionFailed, IntegrationTimeout
from wsgateway.testing.calls import Call, Events, Recorder
from wsgateway.testing.environment import HandlerEnvironment
from wsgateway.testing.errors import TimedOut

KEYS = {"$connect", "$disconnect", "join"}


def event(route_key: str, connection_id: str = "a=", body: str | None = None) -> dict[str, Any]:
    event_type = {"$connect": "CONNECT", "$disconnect": "DISCONNECT"}.get(route_key, "MESSAGE")
    context = {"routeKey": route_key, "eventType": event_type, "connectionId": connection_id}
    return {"requestContext": context} | ({} if body is None else {"body": body})


def events_of(*received: dict[str, Any], keys: set[str] = KEYS) -> tuple[Events, list[Call]]:
    events = Events(keys, timeout_s=0.01)
    return events, [events.begin(one) for one in received]


class TestRecord:
    def test_a_call_tells_its_route_type_and_connection(self) -> None:
        _, [call] = events_of(event("$connect", "b="))

        assert (call.route_key, call.event_type, call.connection_id) == (
            "$connect",
            "CONNECT",
            "b=",
        )
        assert not call.finished

    def test_calls_are_in_the_order_in_which_they_began(self) -> None:
        events, calls = events_of(event("$connect"), event("join"))
        events.end(calls[1], result=1)
        events.end(calls[0], result=2)

        assert list(events) == calls
        assert len(events) == 2
        assert events[-1] is calls[1]
        assert events[:1] == [calls[0]]

    def test_an_event_is_kept_as_it_came(self) -> None:
        given = event("join")
        _, [call] = events_of(given)

        given["requestContext"]["routeKey"] = "changed"

        assert call.event == event("join")

    def test_calls_are_found_by_route_type_and_connection(self) -> None:
        events, calls = events_of(event("$connect"), event("join"), event("join", "b="))

        assert events.of("join") == calls[1:]
        assert events.of("MESSAGE") == calls[1:]
        assert events.of("CONNECT") == [calls[0]]
        assert events.of("join", connection="b=") == [calls[2]]
        assert events.of("join", connection=calls[2]) == [calls[2]]

    def test_what_is_no_route_is_told_at_once(self) -> None:
        events, _ = events_of()

        with pytest.raises(ValueError, match="'jion' is neither a route"):
            events.of("jion")

    def test_what_nobody_is_told_of_is_told_at_once(self) -> None:
        events, _ = events_of(keys={"join"})

        with pytest.raises(ValueError, match="no function is told of a DISCONNECT: there is no ro"):
            events.of("DISCONNECT")
        with pytest.raises(ValueError, match=r"'\$connect' is neither"):
            events.of("$connect")
        assert events.of("MESSAGE") == []

    def test_the_story_has_a_line_per_call(self) -> None:
        events, calls = events_of(
            event("$connect"), event("join", body="{}"), event("join", "b=", "x"), event("join")
        )
        events.end(calls[0], result={"statusCode": 200})
        events.end(calls[1], error=KeyError("room"))

        assert events.story() == (
            "functions were called:\n"
            "  $connect returned {'statusCode': 200}\n"
            "  join '{}' raised KeyError('room')\n"
            "  join 'x' is still running\n"
            "  join is still running"
        )
        assert events.story("b=") == "functions were called:\n  join 'x' is still running"
        assert events.story("c=") == "no function was called"
        assert repr(events) == f"<Events: {events.story()}>"

    def test_a_long_story_is_cut(self) -> None:
        events, _ = events_of(*(event("join", body=str(number) * 999) for number in range(25)))

        lines = events.story().splitlines()
        assert lines[1] == "  (5 earlier calls)"
        assert len(lines) == 22
        assert max(map(len, lines)) < 160

    def test_the_last_error_is_that_of_the_latest_call_that_failed(self) -> None:
        events, calls = events_of(event("join"), event("join", "b="), event("join"))
        for call, name in zip(calls[:2], "xy", strict=True):
            events.end(call, error=KeyError(name))

        assert repr(events.last_error()) == "KeyError('y')"
        assert repr(events.last_error("a=")) == "KeyError('x')"
        assert events.last_error("c=") is None


class TestWaiting:
    async def test_what_is_there_already_is_returned(self) -> None:
        events, calls = events_of(event("join"), event("join"))

        assert await events.arrived("join") is calls[0]
        assert await events.arrived("join", count=2) is calls[1]

    async def test_a_call_is_waited_for(self) -> None:
        events, _ = events_of(event("$connect"))
        waiting = asyncio.create_task(events.arrived("join", connection="b=", timeout_s=5))
        await asyncio.sleep(0)

        events.begin(event("join", "a="))
        await asyncio.sleep(0)
        call = events.begin(event("join", "b="))

        assert await waiting is call

    async def test_its_end_is_waited_for(self) -> None:
        events, calls = events_of(event("join"), event("join"))
        waiting = asyncio.create_task(events.finished("MESSAGE", count=2, timeout_s=5))

        for call in calls:
            await asyncio.sleep(0)
            assert not waiting.done()
            events.end(call, result=call.route_key)

        assert await waiting is calls[1]
        assert calls[1].result == "join"

    async def test_the_time_out_tells_what_happened(self) -> None:
        events, [call] = events_of(event("join", body="hello"))
        events.end(call, error=KeyError("room"))

        with pytest.raises(TimedOut) as timed_out:
            await events.arrived("$disconnect")

        assert str(timed_out.value) == (
            "no event for $disconnect arrived within 0.01 s; functions were called:\n"
            "  join 'hello' raised KeyError('room')"
        )
        assert timed_out.value.__cause__ is call.error

    async def test_the_time_out_of_an_end_tells_how_many_were_waited_for(self) -> None:
        events, _ = events_of(event("join"))

        with pytest.raises(TimedOut, match=r"^no call for join finished 2 times within 0\.02 s"):
            await events.finished("join", count=2, timeout_s=0.02)

    async def test_a_time_out_is_a_failure_of_the_test(self) -> None:
        events, _ = events_of()

        with pytest.raises(AssertionError, match="no function was called"):
            await events.arrived("join")

    async def test_the_time_out_of_the_test_is_the_tests(self) -> None:
        events, _ = events_of()

        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await events.arrived("join", timeout_s=5)


class Function:
    def __init__(self, outcome: object) -> None:
        self.outcome = outcome

    async def invoke(self, event: dict[str, object], *, timeout_s: float) -> object:
        event["touched"] = timeout_s
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome


class TestRecorder:
    async def test_a_result_is_recorded_and_returned(self) -> None:
        events, _ = events_of()
        function = Recorder(events, HandlerEnvironment({})).function("join", Function({"a": []}))

        result = await function.invoke(event("join"), timeout_s=3)
        assert isinstance(result, dict)
        result["a"].append("changed later")

        [call] = events
        assert (call.event, call.finished, call.result, call.error) == (
            event("join"),
            True,
            {"a": []},
            None,
        )

    async def test_what_the_handler_raised_is_recorded(self) -> None:
        events, _ = events_of()
        failed, raised = FunctionFailed("join raised"), KeyError("room")
        failed.__cause__ = raised
        function = Recorder(events, HandlerEnvironment({})).function("join", Function(failed))

        with pytest.raises(FunctionFailed):
            await function.invoke(event("join"), timeout_s=3)

        assert events[0].error is raised

    async def test_what_the_gateway_has_against_a_call_is_recorded(self) -> None:
        events, _ = events_of()
        late = IntegrationTimeout("join took longer than 3 s")
        function = Recorder(events, HandlerEnvironment({})).function("join", Function(late))

        with pytest.raises(IntegrationTimeout):
            await function.invoke(event("join"), timeout_s=3)

        assert events[0].error is late
        assert str(events[0]) == "join raised IntegrationTimeout('join took longer than 3 s')"
