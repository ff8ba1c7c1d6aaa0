"""Handlers in this process: how they are called, and what comes of what they do."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import re
import threading
from collections import OrderedDict
from decimal import Decimal
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from tests.listener.raw import eventually
from wsgateway.errors import FunctionFailed, IntegrationTimeout, InvokeRefused
from wsgateway.functions.python import FunctionHost, PythonFunction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from wsgateway.functions.python import LambdaContext

Event = dict[str, object]
LONG_S = 10.0
SHORT_S = 0.01


@pytest.fixture
def host() -> Iterator[FunctionHost]:
    host = FunctionHost(
        threads_max=2, concurrency_max=3, region="eu-west-1", account_id="123456789012"
    )
    yield host
    host.close()


class Blocked:
    """A synchronous handler that runs until it is released."""

    def __init__(self) -> None:
        self.started = 0
        self.release = threading.Event()

    def __call__(self, event: Event, context: LambdaContext) -> str:
        self.started += 1
        self.release.wait(LONG_S)
        return "released"


@pytest.fixture
def blocked() -> Iterator[Blocked]:
    blocked = Blocked()
    yield blocked
    blocked.release.set()


async def invoke(
    host: FunctionHost,
    handler: Callable[[Event, LambdaContext], Any],
    *,
    timeout_s: float = LONG_S,
) -> Any:
    return await PythonFunction("join", handler, host).invoke({"a": 1}, timeout_s=timeout_s)


def returning(result: object) -> Callable[[Event, LambdaContext], Any]:
    async def handler(event: Event, context: LambdaContext) -> object:
        return result

    return handler


# --- calling


async def test_a_coroutine_function_runs_on_the_event_loop(host: FunctionHost) -> None:
    async def handler(event: Event, context: LambdaContext) -> object:
        return [event, threading.current_thread() is threading.main_thread()]

    assert await invoke(host, handler) == [{"a": 1}, True]


async def test_any_other_function_runs_in_a_thread(host: FunctionHost) -> None:
    def handler(event: Event, context: LambdaContext) -> object:
        return [event, threading.current_thread().name]

    event, thread = await invoke(host, handler)

    assert event == {"a": 1}
    assert re.fullmatch(r"handler_\d", thread)


async def test_a_handler_may_be_any_callable(host: FunctionHost) -> None:
    class Sync:
        def __call__(self, event: Event, context: LambdaContext) -> str:
            return "sync"

    class Async:
        async def __call__(self, event: Event, context: LambdaContext) -> str:
            return "async"

        async def method(self, event: Event, context: LambdaContext) -> str:
            return "method"

    async def with_more(more: str, event: Event, context: LambdaContext) -> str:
        return more

    assert await invoke(host, Sync()) == "sync"
    assert await invoke(host, Async()) == "async"
    assert await invoke(host, Async().method) == "method"
    assert await invoke(host, functools.partial(with_more, "partial")) == "partial"


async def test_a_decorated_coroutine_function_is_awaited(host: FunctionHost) -> None:
    """Its decorator may not know of coroutines, and be a plain function itself."""

    async def handler(event: Event, context: LambdaContext) -> object:
        return threading.current_thread() is threading.main_thread()

    @functools.wraps(handler)
    def decorated(event: Event, context: LambdaContext) -> object:
        return handler(event, context)

    assert await invoke(host, decorated) is True


# --- results


@pytest.mark.parametrize(
    ("result", "value"),
    [
        (None, None),
        ("hi", "hi"),
        ({"statusCode": 200, "body": "é\ud800"}, {"statusCode": 200, "body": "é\ud800"}),
        ({"statusCode": HTTPStatus.OK}, {"statusCode": 200}),
        ({"statusCode": Decimal(200)}, {"statusCode": 200}),
        ({"n": Decimal("1.5")}, {"n": 1.5}),
        ({"n": Decimal("1E+2")}, {"n": 100}),
        ({"n": [Decimal(1)]}, {"n": [1]}),
        ({2: 3, None: 4, True: 5}, {"2": 3, "null": 4, "true": 5}),
        (OrderedDict(a=(1, 2)), {"a": [1, 2]}),
    ],
    ids=repr,
)
async def test_a_result_comes_back_as_json_would_carry_it(
    host: FunctionHost, result: object, value: object
) -> None:
    got = await invoke(host, returning(result))

    assert got == value
    assert repr(got) == repr(value)


def circular() -> dict[str, object]:
    result: dict[str, object] = {}
    result["self"] = result
    return result


def deep() -> list[object]:
    result: list[object] = []
    for _ in range(100_000):
        result = [result]
    return result


class BrokenDict(dict[str, object]):
    def items(self) -> Any:
        raise RuntimeError("no items today")


NOT_COMPLIANT = "Out of range float values are not JSON compliant"
NO_JSON = {
    "bytes": (b"hi", "bytes is not JSON serializable"),
    "bytes inside": ({"body": b"hi"}, "bytes is not JSON serializable"),
    "set": ({"body": {1, 2}}, "set is not JSON serializable"),
    "key": ({(1, 2): 3}, "keys must be str, int, float, bool or None, not tuple"),
    "NaN": (float("nan"), NOT_COMPLIANT),
    "infinity inside": ({"headers": {"a": float("inf")}}, NOT_COMPLIANT),
    "decimal NaN": ({"a": Decimal("NaN")}, NOT_COMPLIANT),
    "decimal infinity": ({"a": Decimal("-Infinity")}, NOT_COMPLIANT),
    "circular": (circular(), "Circular reference detected"),
    "deep": (deep(), "maximum recursion depth exceeded"),
    "broken": (BrokenDict(a=1), "no items today"),
    "long integer": ([1 << 20_000], "Exceeds the limit"),
}


@pytest.mark.parametrize("case", NO_JSON)
async def test_a_result_that_json_cannot_hold_is_a_failure(host: FunctionHost, case: str) -> None:
    result, problem = NO_JSON[case]

    with pytest.raises(FunctionFailed) as caught:
        await invoke(host, returning(result))

    assert str(caught.value).startswith("the result of join is not JSON: ")
    assert problem in str(caught.value)


# --- exceptions


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError

    __repr__ = __str__


class CustomBase(BaseException):
    pass


RAISED = [
    ValueError("no"),
    TimeoutError("mine"),
    SystemExit(3),
    KeyboardInterrupt(),
    asyncio.CancelledError(),
    concurrent.futures.CancelledError(),
    concurrent.futures.InvalidStateError(),
    CustomBase(),
    BaseExceptionGroup("several", [CustomBase()]),
    Unprintable(),
]


def name_of(error: BaseException) -> str:
    return f"{type(error).__module__}.{type(error).__name__}"


@pytest.mark.parametrize("error", RAISED, ids=name_of)
async def test_whatever_a_coroutine_function_raises_is_its_failure(
    host: FunctionHost, error: BaseException
) -> None:
    async def handler(event: Event, context: LambdaContext) -> None:
        raise error

    with pytest.raises(FunctionFailed) as caught:
        await invoke(host, handler)

    assert caught.value.__cause__ is error
    assert host.running == 0


@pytest.mark.parametrize(
    "error", [*RAISED, StopIteration(), StopAsyncIteration(), GeneratorExit()], ids=name_of
)
async def test_whatever_a_function_raises_in_its_thread_is_its_failure(
    host: FunctionHost, error: BaseException
) -> None:
    def handler(event: Event, context: LambdaContext) -> None:
        raise error

    with pytest.raises(FunctionFailed) as caught:
        await invoke(host, handler)

    assert caught.value.__cause__ is error
    assert host.running == 0


async def test_a_failure_says_what_was_raised(host: FunctionHost) -> None:
    def handler(event: Event, context: LambdaContext) -> None:
        raise KeyError("room")

    with pytest.raises(FunctionFailed, match=r"join raised KeyError\('room'\)"):
        await invoke(host, handler)


@pytest.mark.parametrize("asynchronous", [False, True], ids=["thread", "coroutine"])
async def test_a_failure_has_what_lambdas_runtime_would_answer(
    host: FunctionHost, *, asynchronous: bool
) -> None:
    ids: list[str] = []

    def fail(event: Event, context: LambdaContext) -> None:
        ids.append(context.aws_request_id)
        raise KeyError("no such room")

    async def fail_later(event: Event, context: LambdaContext) -> None:
        fail(event, context)

    with pytest.raises(FunctionFailed) as caught:
        await invoke(host, fail_later if asynchronous else fail)

    error = dict(caught.value.error or {})
    stack_trace = error.pop("stackTrace")
    assert error == {
        "errorMessage": "'no such room'",
        "errorType": "KeyError",
        "requestId": ids[0],
    }
    assert isinstance(stack_trace, list)
    assert all(__file__ in frame for frame in stack_trace)
    assert stack_trace[-1].endswith('in fail\n    raise KeyError("no such room")\n')
    assert len(stack_trace) == 1 + asynchronous


async def test_what_cannot_be_printed_has_no_message(host: FunctionHost) -> None:
    def handler(event: Event, context: LambdaContext) -> None:
        raise Unprintable

    with pytest.raises(FunctionFailed) as caught:
        await invoke(host, handler)

    error = caught.value.error or {}
    assert (error["errorMessage"], error["errorType"]) == ("", "Unprintable")


async def test_a_stack_without_end_is_cut(host: FunctionHost) -> None:
    def handler(event: Event, context: LambdaContext) -> None:
        handler(event, context)

    with pytest.raises(FunctionFailed) as caught:
        await invoke(host, handler)

    stack_trace = (caught.value.error or {})["stackTrace"]
    assert isinstance(stack_trace, list)
    assert len(stack_trace) < 100


async def test_a_result_that_is_no_json_has_what_lambdas_runtime_would_answer(
    host: FunctionHost,
) -> None:
    with pytest.raises(FunctionFailed) as caught:
        await invoke(host, returning(b"hi"))

    error = dict(caught.value.error or {})
    assert UUID(str(error.pop("requestId"))).version == 4
    assert error == {
        "errorMessage": "Unable to marshal response: bytes is not JSON serializable",
        "errorType": "Runtime.MarshalError",
        "stackTrace": [],
    }


async def test_cancelling_the_call_itself_is_no_failure_of_the_function(
    host: FunctionHost,
) -> None:
    async def handler(event: Event, context: LambdaContext) -> None:
        await asyncio.Event().wait()

    call = asyncio.create_task(invoke(host, handler))
    await eventually(lambda: host.running)
    call.cancel()

    with pytest.raises(asyncio.CancelledError):
        await call
    assert host.running == 0


async def test_a_call_that_nobody_waits_for_any_more_ends(host: FunctionHost) -> None:
    async def handler(event: Event, context: LambdaContext) -> None:
        await asyncio.sleep(0)

    call = invoke(host, handler)
    call.send(None)
    assert host.running == 1

    call.close()

    assert host.running == 0


# --- time-outs


async def test_a_coroutine_function_that_is_too_slow_is_cancelled(host: FunctionHost) -> None:
    cancelled = False

    async def handler(event: Event, context: LambdaContext) -> None:
        nonlocal cancelled
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled = True
            raise

    with pytest.raises(IntegrationTimeout, match=r"join took longer than 0\.01 s"):
        await invoke(host, handler, timeout_s=SHORT_S)
    assert cancelled
    assert host.running == 0


@pytest.mark.parametrize("end", [None, ValueError("late"), SystemExit(1)], ids=repr)
async def test_what_a_function_does_about_its_cancellation_changes_nothing(
    host: FunctionHost, end: BaseException | None
) -> None:
    async def handler(event: Event, context: LambdaContext) -> object:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if end is not None:
                raise end from None
        return {"statusCode": 200}

    with pytest.raises(IntegrationTimeout):
        await invoke(host, handler, timeout_s=SHORT_S)


async def test_a_function_in_a_thread_that_is_too_slow_is_answered_for_and_goes_on(
    host: FunctionHost, blocked: Blocked
) -> None:
    with pytest.raises(IntegrationTimeout):
        await invoke(host, blocked, timeout_s=SHORT_S)
    assert host.running == 0
    assert host.running_threads == 1

    blocked.release.set()
    await eventually(lambda: host.running_threads == 0)


async def test_a_function_without_a_thread_waits_on_its_own_time_and_is_never_called_late(
    host: FunctionHost, blocked: Blocked
) -> None:
    called = []

    def late(event: Event, context: LambdaContext) -> None:
        called.append(event)

    for _ in range(2):
        with pytest.raises(IntegrationTimeout):
            await invoke(host, blocked, timeout_s=SHORT_S)
    assert host.running_threads == 2

    for _ in range(5):
        with pytest.raises(IntegrationTimeout):
            await invoke(host, late, timeout_s=SHORT_S)
    assert host.running_threads == 2

    blocked.release.set()
    await eventually(lambda: host.running_threads == 0)
    assert await invoke(host, lambda event, context: "next") == "next"
    assert called == []


# --- bounds


async def test_a_call_beyond_the_concurrency_is_refused(
    host: FunctionHost, blocked: Blocked
) -> None:
    calls = [asyncio.create_task(invoke(host, blocked)) for _ in range(3)]
    await eventually(lambda: host.running == 3)

    with pytest.raises(InvokeRefused) as caught:
        await invoke(host, blocked)
    assert str(caught.value) == "3 calls are running (setting function_concurrency_max)"
    # Two threads; the third call waits for one.
    await eventually(lambda: blocked.started == 2)

    blocked.release.set()
    assert await asyncio.gather(*calls) == ["released"] * 3
    assert await invoke(host, returning("again")) == "again"


async def test_a_closed_host_refuses(host: FunctionHost) -> None:
    host.close()

    with pytest.raises(FunctionFailed):
        await invoke(host, lambda event, context: None)


# --- the context object


async def contexts(host: FunctionHost, *, timeout_s: float = LONG_S) -> LambdaContext:
    seen: list[LambdaContext] = []

    async def handler(event: Event, context: LambdaContext) -> None:
        seen.append(context)

    await invoke(host, handler, timeout_s=timeout_s)
    [context] = seen
    return context


async def test_the_context_has_the_fields_of_lambda(host: FunctionHost) -> None:
    context = await contexts(host)

    assert context.function_name == "join"
    assert context.function_version == "$LATEST"
    assert context.invoked_function_arn == "arn:aws:lambda:eu-west-1:123456789012:function:join"
    assert context.memory_limit_in_mb == "128"
    assert context.log_group_name == "/aws/lambda/join"
    assert re.fullmatch(r"\d{4}/\d\d/\d\d/\[\$LATEST\][0-9a-f]{32}", context.log_stream_name)
    assert context.client_context is None
    assert context.identity.cognito_identity_id is None
    assert context.identity.cognito_identity_pool_id is None


async def test_the_request_id_is_a_uuid_of_its_own_for_each_call(host: FunctionHost) -> None:
    one, other = await contexts(host), await contexts(host)

    assert UUID(one.aws_request_id).version == 4
    assert one.aws_request_id == one.aws_request_id
    assert one.aws_request_id != other.aws_request_id


async def test_the_remaining_time_runs_from_the_time_out_to_zero(host: FunctionHost) -> None:
    context = await contexts(host, timeout_s=29.0)
    assert 28_000 < context.get_remaining_time_in_millis() <= 29_000

    over = await contexts(host, timeout_s=SHORT_S)
    assert over.get_remaining_time_in_millis() <= 10
    await eventually(lambda: over.get_remaining_time_in_millis() == 0)
    assert isinstance(over.get_remaining_time_in_millis(), int)
