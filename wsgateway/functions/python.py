"""Python functions in this process, called as Lambda's Python runtime calls them.

https://docs.aws.amazon.com/lambda/latest/dg/python-handler.html
"""

from __future__ import annotations

import asyncio
import inspect
import json
import time
import traceback
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from decimal import Decimal
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from wsgateway.errors import FunctionFailed, IntegrationTimeout, InvokeRefused
from wsgateway.functions.time_limit import TimeLimit

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    Handler = Callable[[dict[str, object], "LambdaContext"], Any]
    # What a handler returned, or what it raised.
    Outcome = tuple[object, BaseException | None]

# A recursion without end has a thousand frames, which nobody reads.
_STACK_TRACE_MAX = 100

_PLAIN = frozenset({str, int, bool, type(None)})


class FunctionHost:
    """What all functions of this process share: threads and a bound on calls at once.

    Args:
        threads_max: Synchronous handlers that run at once; the others wait for a thread, and the
            time they wait counts.
        concurrency_max: Calls at once, waiting ones included. Beyond it a call is refused, as
            Lambda throttles.
        region: For the functions' ARNs.
        account_id: For the functions' ARNs.

    Attributes:
        running: Calls that are not answered yet.
        running_threads: Handlers in threads, those whose call has timed out included.
    """

    def __init__(
        self, *, threads_max: int, concurrency_max: int, region: str, account_id: str
    ) -> None:
        self.concurrency_max = concurrency_max
        self.region = region
        self.account_id = account_id
        self.running = 0
        self.running_threads = 0
        self._threads = ThreadPoolExecutor(threads_max, thread_name_prefix="handler")
        # The pool's own queue has no bound, and keeps calls whose time is over.
        self._free_threads = asyncio.Semaphore(threads_max)
        self._time_limits: dict[float, TimeLimit] = {}

    def time_limit(self, limit_s: float) -> TimeLimit:
        """Return the limit that all calls of this duration share."""
        limit = self._time_limits.get(limit_s)
        if limit is None:
            limit = self._time_limits[limit_s] = TimeLimit(limit_s)
        return limit

    async def run_in_thread(
        self, handler: Handler, event: dict[str, object], context: LambdaContext
    ) -> Outcome:
        """Call a handler in one of the threads; cancelling this leaves the handler running."""
        await self._free_threads.acquire()
        call = self._threads.submit(_outcome, handler, event, context)
        self.running_threads += 1
        try:
            return await asyncio.wrap_future(call)
        finally:
            if call.done():
                self._thread_is_free()
            else:
                call.add_done_callback(partial(self._late, asyncio.get_running_loop()))

    def _late(self, loop: asyncio.AbstractEventLoop, _: Future[Outcome]) -> None:
        # In the handler's thread, which may outlive the loop.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(self._thread_is_free)

    def _thread_is_free(self) -> None:
        self.running_threads -= 1
        self._free_threads.release()

    def close(self) -> None:
        """Give up the threads; a handler that still runs in one is not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _outcome(handler: Handler, event: dict[str, object], context: LambdaContext) -> Outcome:
    """Call a handler in its thread; what it raises is returned, for a future refuses some."""
    try:
        return handler(event, context), None
    except BaseException as error:  # noqa: BLE001 - it is told where the call is awaited
        return None, error


class PythonFunction:
    """One handler. A coroutine function runs on the event loop, any other one in a thread."""

    def __init__(self, name: str, handler: Handler, host: FunctionHost) -> None:
        self.name = name
        self._handler = handler
        self._host = host
        self._is_async = inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(
            getattr(handler, "__call__", None)  # noqa: B004 - the method itself is looked at
        )

    async def invoke(self, event: dict[str, object], *, timeout_s: float) -> object:
        """Call the handler.

        A handler in a thread cannot be stopped: after its time-out it is answered for and goes on.
        A coroutine is cancelled; one that does not end then is not answered for before it does.

        Raises:
            InvokeRefused: Too many calls are running.
            IntegrationTimeout: The handler took longer than `timeout_s`.
            FunctionFailed: It raised, or returned what JSON cannot hold.
        """
        host = self._host
        if host.running >= host.concurrency_max:
            raise InvokeRefused(
                f"{host.running} calls are running (setting function_concurrency_max)"
            )
        context = LambdaContext(self.name, host, time.monotonic() + timeout_s)
        limit = host.time_limit(timeout_s)
        call = limit.start()
        host.running += 1
        result: object = None
        error: BaseException | None = None
        try:
            if self._is_async:
                result = await self._handler(event, context)
            else:
                result, error = await host.run_in_thread(self._handler, event, context)
                if inspect.isawaitable(result):
                    # A coroutine function whose decorator is a plain function.
                    result = await result
        except GeneratorExit:
            # Nobody waits for this call any more.
            raise
        # A handler may raise anything; SystemExit would otherwise end the gateway.
        except BaseException as raised:  # noqa: BLE001 - raised again below
            error = raised
        finally:
            host.running -= 1
            limit.end(call)
        if call.expired and call.task.uncancel() == 0:
            # Whatever the handler did about being cancelled.
            raise IntegrationTimeout(f"{self.name} took longer than {timeout_s} s")
        if isinstance(error, asyncio.CancelledError) and call.task.cancelling():
            raise error
        if error is not None:
            raise FunctionFailed(
                f"{self.name} raised {_printed(error)}", _answer(error, context)
            ) from error
        try:
            return _json_value(result)
        # The result's own methods are called, which may raise anything too.
        except Exception as fault:
            raise FunctionFailed(
                f"the result of {self.name} is not JSON: {_printed(fault)}",
                {
                    "errorMessage": f"Unable to marshal response: {_text(fault)}",
                    "errorType": "Runtime.MarshalError",
                    "requestId": context.aws_request_id,
                    "stackTrace": [],
                },
            ) from fault


class LambdaContext:
    """The context object of Lambda's Python runtime.

    https://docs.aws.amazon.com/lambda/latest/dg/python-context.html
    """

    function_version = "$LATEST"
    # A string in Lambda's runtime too: it is read from an environment variable.
    memory_limit_in_mb = "128"
    client_context = None

    def __init__(self, function_name: str, host: FunctionHost, deadline_s: float) -> None:
        self.function_name = function_name
        self._host = host
        self._deadline_s = deadline_s

    @cached_property
    def aws_request_id(self) -> str:
        """The id of this invocation."""
        return str(uuid.uuid4())

    @cached_property
    def identity(self) -> CognitoIdentity:
        """Empty: only mobile SDKs that invoke Lambda themselves fill it."""
        return CognitoIdentity()

    @property
    def invoked_function_arn(self) -> str:
        """The ARN that this function would have."""
        host = self._host
        return f"arn:aws:lambda:{host.region}:{host.account_id}:function:{self.function_name}"

    @property
    def log_group_name(self) -> str:
        """Where Lambda would log."""
        return f"/aws/lambda/{self.function_name}"

    @cached_property
    def log_stream_name(self) -> str:
        """The stream that Lambda would log to."""
        day = time.strftime("%Y/%m/%d", time.gmtime())
        return f"{day}/[{self.function_version}]{uuid.uuid4().hex}"

    def get_remaining_time_in_millis(self) -> int:
        """Tell the milliseconds until this invocation times out."""
        return max(0, int((self._deadline_s - time.monotonic()) * 1000))


class CognitoIdentity:
    """The `identity` of a context."""

    cognito_identity_id = None
    cognito_identity_pool_id = None


def _json_value(result: object) -> object:
    """Return a result as it would come back from Lambda: through JSON."""
    if type(result) is dict:
        for key, value in result.items():
            if type(key) is not str or type(value) not in _PLAIN:
                break
        else:
            # What most handlers return is what JSON would give back.
            return result
    return json.loads(json.dumps(result, default=_decimal_as_number, allow_nan=False))


def _decimal_as_number(value: object) -> object:
    # Lambda's runtime writes Decimal, which boto3 returns from DynamoDB, as a number.
    if isinstance(value, Decimal):
        if value.is_finite() and value == value.to_integral_value():
            return int(value)
        return float(value)
    raise TypeError(f"{type(value).__name__} is not JSON serializable")


def _answer(error: BaseException, context: LambdaContext) -> dict[str, object]:
    """Return what Lambda's Python runtime answers when a handler raises."""
    frames = traceback.extract_tb(error.__traceback__, limit=_STACK_TRACE_MAX)
    return {
        "errorMessage": _text(error),
        "errorType": type(error).__name__,
        "requestId": context.aws_request_id,
        # The runtime leaves its own frames out, too.
        "stackTrace": traceback.format_list(
            [frame for frame in frames if frame.filename != __file__]
        ),
    }


def _text(error: BaseException) -> str:
    """Return an exception's `str`, which may raise one of its own."""
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - it is the handler's code
        return ""


def _printed(error: BaseException) -> str:
    """Return an exception's `repr`, which may raise one of its own."""
    try:
        return repr(error)
    except Exception:  # noqa: BLE001 - it is the handler's code
        return type(error).__name__
