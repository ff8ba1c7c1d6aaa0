"""Commands of one turn of the event loop, sent together.

A round trip costs the event loop a hundred times what a command in it costs. A lane has one
pipeline under way at a time: what is asked meanwhile goes into the next, so the busier the node,
the larger its pipelines. Commands of one lane reach the server in the order in which they were
asked.
"""

from __future__ import annotations

import asyncio
from collections import deque
from hashlib import sha1
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from redis.asyncio import Redis, RedisCluster
from redis.exceptions import RedisClusterException, RedisError

from wsgateway.cluster.store import ContactLost
from wsgateway.cluster.tasks import end

if TYPE_CHECKING:
    from collections.abc import Sequence

# Enough that a larger pipeline would not be cheaper, and few enough for the server to answer them
# within a millisecond or two.
_PIPELINE_MAX = 512

Argument = str | bytes | int
"""What a command is made of."""


class Pipeline(Protocol):
    """What is used of redis-py's pipelines, of one server and of a cluster."""

    def execute_command(self, *args: Argument) -> object:
        """Put a command in."""
        ...

    async def execute(self, raise_on_error: bool = ...) -> list[object]:  # noqa: FBT001 - redis-py's
        """Send all; the answers may be exceptions."""
        ...


class Client(Protocol):
    """What is used of `redis.asyncio.Redis` and `redis.asyncio.RedisCluster`.

    It is to answer in bytes (`decode_responses=False`), and not to try again by itself: what is
    sent twice may overtake what was sent later.
    """

    async def execute_command(self, *args: Argument) -> object:
        """Send one command."""
        ...

    def pipeline(self, transaction: bool = ...) -> Pipeline:  # noqa: FBT001 - redis-py's
        """Begin a pipeline."""
        ...


class Script:
    """A Lua script. It is sent whole once per contact with a server, and by its hash after that."""

    __slots__ = ("sha", "source")

    def __init__(self, source: str) -> None:
        self.source = source
        # The name that Redis gives it (https://redis.io/docs/latest/commands/script-load/).
        self.sha = sha1(source.encode(), usedforsecurity=False).hexdigest()

    def command(
        self, keys: Sequence[str], args: Sequence[Argument], *, whole: bool
    ) -> tuple[Argument, ...]:
        """Return the command that runs it."""
        if whole:
            return ("EVAL", self.source, len(keys), *keys, *args)
        return ("EVALSHA", self.sha, len(keys), *keys, *args)


class _Asked(NamedTuple):
    """A command, or a script and what it is run with."""

    script: Script | None
    keys: Sequence[str]
    args: Sequence[Argument]
    answer: asyncio.Future[object]


class Lane:
    """One pipeline at a time to one server.

    Args:
        client: How to reach it.
        timeout_s: For each pipeline.
        open_timeout_s: For a connection; the same when it is None. Who waits for one waits no longer
            than `timeout_s`, so that no command is sent later than that; but whoever comes next finds
            what has been opened meanwhile.
    """

    def __init__(
        self, client: Client, timeout_s: float, open_timeout_s: float | None = None
    ) -> None:
        self._client = client
        self._timeout_s = timeout_s
        self._open_timeout_s = timeout_s if open_timeout_s is None else open_timeout_s
        self._is_open = False
        self._opening: asyncio.Task[None] | None = None
        # As long as its callers' tasks are many: each waits for its answer.
        self._waiting: deque[_Asked] = deque()
        self._known_there: set[str] = set()
        self._sending: asyncio.Task[None] | None = None

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits or is under way."""
        return self._sending is None and self._opening is None

    async def run(self, script: Script, keys: Sequence[str], args: Sequence[Argument]) -> object:
        """Run a script once.

        Raises:
            ContactLost: There was no good answer; whether it ran is not known.
        """
        return await self._ask(script, keys, args)

    async def send(self, *command: Argument) -> object:
        """Send a command once.

        Raises:
            ContactLost: There was no good answer; whether it was carried out is not known.
        """
        return await self._ask(None, (), command)

    async def _ask(
        self, script: Script | None, keys: Sequence[str], args: Sequence[Argument]
    ) -> object:
        # Callers wait for a future and never inside redis-py, where they could not be cancelled
        # for certain (see `tasks.end`), and where that would cost the connection.
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[object] = loop.create_future()
        self._waiting.append(_Asked(script, keys, args, answer))
        if self._sending is None:
            # It begins in the next turn, when all of this one have asked.
            self._sending = loop.create_task(self._send_all())
        return await answer

    async def close(self) -> None:
        """Send nothing more; what waits is answered with `ContactLost`."""
        asked = list(self._waiting)
        self._waiting.clear()
        _tell(asked, [ContactLost("stopped")] * len(asked))
        await end([task for task in (self._sending, self._opening) if task is not None])

    async def _send_all(self) -> None:
        try:
            while self._waiting:
                size = min(len(self._waiting), _PIPELINE_MAX)
                asked = [self._waiting.popleft() for _ in range(size)]
                answers: list[object] = [ContactLost("stopped")] * size
                try:
                    answers = await self._send(asked)
                except ContactLost as error:
                    answers = [error] * size
                finally:
                    _tell(asked, answers)
        finally:
            self._sending = None
            _tell(self._waiting, [ContactLost("stopped")] * len(self._waiting))
            self._waiting.clear()

    async def _send(self, asked: list[_Asked]) -> list[object]:
        commands = [self._command(one) for one in asked]
        try:
            if not self._is_open:
                async with asyncio.timeout(self._timeout_s):
                    await self._opened()
            async with asyncio.timeout(self._timeout_s):
                if len(commands) == 1:
                    return [await self._client.execute_command(*commands[0])]
                pipeline = self._client.pipeline(transaction=False)
                for command in commands:
                    pipeline.execute_command(*command)
                answers = await pipeline.execute(raise_on_error=False)
        # A cluster none of whose nodes is there is an error of another family.
        except (RedisError, RedisClusterException, OSError, TimeoutError) as error:
            self._known_there.clear()
            self._is_open = False
            raise ContactLost(_told(error)) from error
        if any(isinstance(answer, Exception) for answer in answers):
            # Also when the server has forgotten a script: to send it again behind those that
            # followed would change their order.
            self._known_there.clear()
            return [
                ContactLost(_told(answer)) if isinstance(answer, Exception) else answer
                for answer in answers
            ]
        return answers

    async def _opened(self) -> None:
        """Wait until there is a connection in the client's pool.

        Raises:
            RedisError, RedisClusterException, OSError, TimeoutError: There is none.
        """
        if self._opening is None:
            self._opening = asyncio.create_task(self._open())
        opening = self._opening
        await asyncio.wait({opening})
        self._opening = None
        opening.result()
        self._is_open = True

    async def _open(self) -> None:
        async with asyncio.timeout(self._open_timeout_s):
            client: object = self._client
            if isinstance(client, RedisCluster):
                opened: Any = client.initialize()
                await opened
            elif isinstance(client, Redis):
                pool: Any = client.connection_pool
                await pool.release(await pool.get_connection())

    def _command(self, one: _Asked) -> Sequence[Argument]:
        script = one.script
        if script is None:
            return one.args
        whole = script.sha not in self._known_there
        self._known_there.add(script.sha)
        return script.command(one.keys, one.args, whole=whole)


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _tell(asked: Sequence[_Asked] | deque[_Asked], answers: Sequence[object]) -> None:
    for one, answer in zip(asked, answers, strict=True):
        # Who asked may have been cancelled.
        if one.answer.done():
            continue
        if isinstance(answer, Exception):
            one.answer.set_exception(answer)
        else:
            one.answer.set_result(answer)
