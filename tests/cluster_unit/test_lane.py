"""Commands of one turn, sent together."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError, NoScriptError

from wsgateway.cluster.lane import Lane, Script
from wsgateway.cluster.store import ContactLost
from wsgateway.cluster.tasks import end

ECHO = Script("return ARGV[1]")


class FakeClient:
    """Answers with the last argument, or as told."""

    def __init__(self) -> None:
        self.sent: list[list[tuple[Any, ...]]] = []
        self.answers: list[Any] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def execute_command(self, *args: Any) -> Any:
        (answer,) = await self._run([args])
        if isinstance(answer, Exception):
            raise answer
        return answer

    def pipeline(self, transaction: bool = True) -> FakePipeline:
        assert not transaction
        return FakePipeline(self)

    async def _run(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        self.sent.append(commands)
        await self.gate.wait()
        return [self.answers.pop(0) if self.answers else each[-1] for each in commands]


class FakePipeline:
    def __init__(self, client: FakeClient) -> None:
        self._client = client
        self._commands: list[tuple[Any, ...]] = []

    def execute_command(self, *args: Any) -> object:
        self._commands.append(args)
        return self

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        assert not raise_on_error
        return await self._client._run(self._commands)


@pytest.fixture
def client() -> FakeClient:
    return FakeClient()


def echo(lane: Lane, text: str) -> asyncio.Task[object]:
    return asyncio.create_task(lane.run(ECHO, ("k",), (text,)))


async def test_commands_of_one_turn_share_a_pipeline(client: FakeClient) -> None:
    lane = Lane(client, 1.0)

    assert await asyncio.gather(*(echo(lane, str(n)) for n in range(3))) == ["0", "1", "2"]
    whole, short = ("EVAL", ECHO.source, 1, "k"), ("EVALSHA", ECHO.sha, 1, "k")
    assert client.sent == [[(*whole, "0"), (*short, "1"), (*short, "2")]]
    assert lane.is_idle


async def test_what_is_asked_meanwhile_goes_into_the_next(client: FakeClient) -> None:
    # 600 tasks take their time where asyncio's debug mode is on.
    lane = Lane(client, 10.0)
    client.gate.clear()
    asked = [echo(lane, "0")]
    await asyncio.sleep(0.001)
    asked += [asyncio.create_task(lane.send("PING", str(n))) for n in range(600)]
    await asyncio.sleep(0.001)
    client.gate.set()

    assert await asyncio.gather(*asked) == ["0", *map(str, range(600))]
    assert [len(each) for each in client.sent] == [1, 512, 88]


async def test_a_failure_is_everybodys(client: FakeClient) -> None:
    lane = Lane(client, 1.0)
    await echo(lane, "0")
    client.gate.clear()
    client._run = _raising(RedisConnectionError("gone"))  # type: ignore[method-assign]

    answers = await asyncio.gather(echo(lane, "1"), echo(lane, "2"), return_exceptions=True)
    assert [str(answer) for answer in answers] == ["ConnectionError: gone"] * 2
    assert all(isinstance(answer, ContactLost) for answer in answers)


async def test_an_error_is_its_commands(client: FakeClient) -> None:
    lane = Lane(client, 1.0)
    client.answers = ["0", NoScriptError("NOSCRIPT"), "2"]

    answers = await asyncio.gather(*(echo(lane, str(n)) for n in range(3)), return_exceptions=True)
    assert answers[::2] == ["0", "2"]
    assert isinstance(answers[1], ContactLost)
    # Whatever the server has forgotten is sent again.
    await echo(lane, "3")
    assert client.sent[-1] == [("EVAL", ECHO.source, 1, "k", "3")]


async def test_an_answer_too_late_is_none(client: FakeClient) -> None:
    lane = Lane(client, 0.005)
    client.gate.clear()

    with pytest.raises(ContactLost, match="TimeoutError"):
        await echo(lane, "0")


async def test_who_is_cancelled_does_not_disturb_the_others(client: FakeClient) -> None:
    lane = Lane(client, 1.0)
    client.gate.clear()
    first, second = echo(lane, "0"), echo(lane, "1")
    await asyncio.sleep(0.001)
    first.cancel()
    await asyncio.sleep(0)
    client.gate.set()

    assert await second == "1"
    assert first.cancelled()


async def test_closing_answers_what_waits(client: FakeClient) -> None:
    lane = Lane(client, 1.0)
    client.gate.clear()
    asked = [echo(lane, "0")]
    await asyncio.sleep(0.001)
    asked.append(echo(lane, "1"))
    await asyncio.sleep(0)
    await lane.close()

    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert [str(answer) for answer in answers] == ["stopped", "stopped"]
    await lane.close()


async def test_a_task_that_loses_its_cancellation_is_cancelled_again() -> None:
    lost = 0

    async def stubborn() -> None:
        nonlocal lost
        while True:
            try:
                await asyncio.sleep(10)
            except asyncio.CancelledError:
                lost += 1
                if lost > 1:
                    raise

    task = asyncio.create_task(stubborn())
    await asyncio.sleep(0)
    await end([task])
    assert task.cancelled()
    assert lost == 2


def _raising(error: Exception) -> Any:
    async def run(commands: object) -> list[Any]:
        raise error

    return run
