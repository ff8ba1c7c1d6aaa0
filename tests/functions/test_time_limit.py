"""One timer for many calls: who is cancelled, and when."""

from __future__ import annotations

import asyncio

import pytest

from tests.listener.raw import eventually
from wsgateway.functions.time_limit import Call, TimeLimit


async def test_what_takes_too_long_is_cancelled_and_what_does_not_is_left_alone() -> None:
    limit = TimeLimit(0.01)
    calls: list[Call] = []

    async def work(done: asyncio.Event) -> None:
        call = limit.start()
        calls.append(call)
        try:
            await done.wait()
        finally:
            limit.end(call)

    quick, slow = asyncio.Event(), asyncio.Event()
    quick.set()
    results = await asyncio.gather(work(quick), work(slow), work(slow), return_exceptions=True)

    assert [call.expired for call in calls] == [False, True, True]
    assert results[0] is None
    assert all(isinstance(result, asyncio.CancelledError) for result in results[1:])


async def test_calls_expire_in_the_order_they_began_and_none_before_its_time() -> None:
    limit = TimeLimit(0.02)
    loop = asyncio.get_running_loop()
    calls: list[Call] = []
    ended: list[Call] = []

    async def work() -> None:
        call = limit.start()
        calls.append(call)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            assert loop.time() >= call.due_at
            ended.append(call)
        finally:
            limit.end(call)

    first = asyncio.create_task(work())
    await eventually(lambda: calls and loop.time() > calls[0].due_at - 0.015)
    second = asyncio.create_task(work())
    await asyncio.gather(first, second)

    assert calls[1].due_at > calls[0].due_at
    assert ended == calls


async def test_all_calls_share_one_timer() -> None:
    limit = TimeLimit(10)

    async def work() -> asyncio.TimerHandle | None:
        call = limit.start()
        limit.end(call)
        return limit._timer

    timers = await asyncio.gather(*(work() for _ in range(3)))

    assert timers[0] is not None
    assert len(set(timers)) == 1
    timers[0].cancel()


async def test_a_call_may_end_after_it_has_expired() -> None:
    limit = TimeLimit(0.001)
    call = limit.start()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.Event().wait()
    assert call.task.uncancel() == 0

    limit.end(call)

    assert call.expired
    assert limit._running == {}
