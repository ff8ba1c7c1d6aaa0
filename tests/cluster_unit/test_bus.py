"""Calls between nodes: every end that one can have, and every bound."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from tests.cluster_unit.fake_redis import FakeLink, FakeRedis, until
from wsgateway.cluster.bus import (
    Bus,
    BusLimits,
    NoReceiver,
    NotSent,
    OwnerFailed,
    TooManyCalls,
    Unanswered,
)
from wsgateway.cluster.keys import Keys
from wsgateway.cluster.remote import Remote
from wsgateway.cluster.wire_form import (
    Command,
    Kind,
    Outcome,
    Reply,
    encode_command,
    encode_reply,
)
from wsgateway.connection import ConnectionKey
from wsgateway.connection_id import new_connection_id
from wsgateway.contracts import ConnectionInfo
from wsgateway.errors import DeliveryFailed, GatewayError, Gone, LimitExceeded

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Iterator, MutableMapping

OWNER, ASKER = b"own", b"ask"
KEYS = Keys("wsgateway", "abcde12345")
KEY = ConnectionKey("abcde12345", "dev", new_connection_id(OWNER, b"0123456789"))
INFO = ConnectionInfo(1708326702789, 1708326705758, "192.0.2.10", "client/1.0")


class FakeCallbacks:
    """The connections of a node; `refusal` is raised, `gate` is waited for."""

    def __init__(self) -> None:
        self.posts: list[tuple[ConnectionKey, bytes]] = []
        self.deleted: list[ConnectionKey] = []
        self.refusal: Exception | None = None
        self.gate: asyncio.Event | None = None
        self.info = INFO

    async def post(self, key: ConnectionKey, payload: bytes) -> None:
        await self._begin()
        self.posts.append((key, payload))

    async def get(self, key: ConnectionKey) -> ConnectionInfo:
        await self._begin()
        return self.info

    async def delete(self, key: ConnectionKey) -> None:
        await self._begin()
        self.deleted.append(key)

    async def _begin(self) -> None:
        if self.gate is not None:
            await self.gate.wait()
        if self.refusal is not None:
            raise self.refusal


@pytest.fixture
def redis() -> FakeRedis:
    return FakeRedis()


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[MutableMapping[str, Any]]]:
    """Rendering a traceback for nobody takes longer than the test."""
    with capture_logs() as logs:
        yield logs


@pytest.fixture
def callbacks() -> FakeCallbacks:
    """Those of the owner."""
    return FakeCallbacks()


class Start:
    """Starts nodes, and closes them."""

    def __init__(self, redis: FakeRedis) -> None:
        self._redis = redis
        self._buses: list[Bus] = []

    async def __call__(
        self,
        tag: bytes,
        callbacks: FakeCallbacks | None = None,
        limits: BusLimits | None = None,
    ) -> Bus:
        bus = Bus(
            self._redis,
            inbox_of=KEYS.inbox,
            tag=tag,
            incarnation=f"life of {tag.decode()}",
            local=callbacks or FakeCallbacks(),
            ping_interval_s=5,
            limits=limits,
        )
        bus.start()
        self._buses.append(bus)
        async with asyncio.timeout(5):
            await bus.subscription.wait_healthy()
        return bus

    async def close(self) -> None:
        for bus in self._buses:
            await bus.close()
            assert bus.calls_under_way == 0


@pytest.fixture
async def start(redis: FakeRedis) -> AsyncIterator[Start]:
    start = Start(redis)
    yield start
    await start.close()
    assert asyncio.all_tasks() == {asyncio.current_task()}


class TestCall:
    async def test_the_owner_carries_it_out_and_replies(
        self, start: Start, callbacks: FakeCallbacks
    ) -> None:
        owner, asker = await start(OWNER, callbacks), await start(ASKER)

        posted = await asker.call(OWNER, Kind.POST, KEY, b"hi")
        got = await asker.call(OWNER, Kind.GET, KEY)
        deleted = await asker.call(OWNER, Kind.DELETE, KEY)

        assert posted == Reply(1, "life of ask", Outcome.WRITTEN)
        assert got == Reply(2, "life of ask", Outcome.INFO, INFO)
        assert deleted == Reply(3, "life of ask", Outcome.WRITTEN)
        assert (callbacks.posts, callbacks.deleted) == ([(KEY, b"hi")], [KEY])
        assert (asker.counts.calls, asker.counts.answered, owner.counts.served) == (3, 3, 3)

    @pytest.mark.parametrize(
        ("refusal", "outcome"),
        [
            (Gone(), Outcome.GONE),
            (LimitExceeded(), Outcome.FULL),
            (RuntimeError("a bug"), Outcome.FAILED),
        ],
        ids=repr,
    )
    async def test_what_the_owner_refuses_is_its_reply(
        self, start: Start, callbacks: FakeCallbacks, refusal: Exception, outcome: Outcome
    ) -> None:
        callbacks.refusal = refusal
        owner, asker = await start(OWNER, callbacks), await start(ASKER)

        assert (await asker.call(OWNER, Kind.POST, KEY, b"hi")).outcome is outcome
        assert owner.counts.failed == (outcome is Outcome.FAILED)

    async def test_an_answer_that_does_not_fit_is_a_failure_of_the_owner(
        self, start: Start, callbacks: FakeCallbacks
    ) -> None:
        callbacks.info = INFO._replace(source_ip="x" * 256)
        await start(OWNER, callbacks)
        asker = await start(ASKER)

        assert (await asker.call(OWNER, Kind.GET, KEY)).outcome is Outcome.FAILED

    async def test_calls_of_one_connection_arrive_in_order(
        self, start: Start, callbacks: FakeCallbacks
    ) -> None:
        await start(OWNER, callbacks)
        asker = await start(ASKER)
        payloads = [b"%d" % number for number in range(100)]

        await asyncio.gather(*(asker.call(OWNER, Kind.POST, KEY, each) for each in payloads))

        assert [payload for _, payload in callbacks.posts] == payloads

    async def test_nobody_receives(self, start: Start) -> None:
        asker = await start(ASKER)

        with pytest.raises(NoReceiver):
            await asker.call(OWNER, Kind.POST, KEY, b"hi")
        assert asker.counts.no_receiver == 1

    async def test_redis_refuses(self, start: Start, redis: FakeRedis) -> None:
        asker = await start(ASKER)
        redis.refusal = "LOADING Redis is loading the dataset in memory"

        with pytest.raises(NotSent, match="LOADING"):
            await asker.call(OWNER, Kind.POST, KEY, b"hi")
        assert asker.counts.not_sent == 1

    async def test_nobody_answers_in_time(self, start: Start, redis: FakeRedis) -> None:
        asker = await start(ASKER, limits=BusLimits(delivery_timeout_s=0.02))
        redis.channels[KEYS.inbox(OWNER).encode()] = [FakeLink(redis)]

        with pytest.raises(Unanswered, match=r"no reply within 0.02 s"):
            await asker.call(OWNER, Kind.POST, KEY, b"hi")
        with pytest.raises(Unanswered):
            await asker.call(OWNER, Kind.POST, KEY, b"hi")
        assert (asker.counts.unanswered, asker.calls_under_way) == (2, 0)

    async def test_without_an_inbox_for_the_reply_nothing_is_sent(
        self, start: Start, redis: FakeRedis, callbacks: FakeCallbacks
    ) -> None:
        await start(OWNER, callbacks)
        asker = await start(ASKER)
        redis.is_down = True
        redis.cut()
        await until(lambda: asker.subscription.healthy_since is None)

        with pytest.raises(NotSent, match="the inbox for the reply is lost"):
            await asker.call(OWNER, Kind.POST, KEY, b"hi")
        assert callbacks.posts == []

    async def test_a_lost_connection_leaves_open_what_came_of_it(
        self, start: Start, redis: FakeRedis
    ) -> None:
        asker = await start(ASKER, limits=BusLimits(delivery_timeout_s=0.05))
        redis.is_silent = True
        call = asyncio.create_task(asker.call(OWNER, Kind.POST, KEY, b"hi"))
        await until(lambda: asker.calls_under_way)

        redis.cut()

        with pytest.raises(Unanswered):
            await call
        redis.is_silent = False

    async def test_a_cancelled_call_leaves_nothing(self, start: Start, redis: FakeRedis) -> None:
        asker = await start(ASKER)
        redis.is_silent = True
        call = asyncio.create_task(asker.call(OWNER, Kind.POST, KEY, b"hi"))
        await until(lambda: asker.calls_under_way)

        call.cancel()
        await asyncio.gather(call, return_exceptions=True)

        assert asker.calls_under_way == 0

    async def test_closing_ends_calls_under_way(self, start: Start, redis: FakeRedis) -> None:
        asker = await start(ASKER)
        redis.is_silent = True
        call = asyncio.create_task(asker.call(OWNER, Kind.POST, KEY, b"hi"))
        await until(lambda: asker.calls_under_way)

        await asker.close()

        with pytest.raises(Unanswered, match="the node is stopping"):
            await call


class TestBounds:
    async def test_so_many_calls_under_way(self, start: Start, redis: FakeRedis) -> None:
        asker = await start(ASKER, limits=BusLimits(delivery_timeout_s=0.02, calls_max=2))
        redis.is_silent = True
        calls = [asyncio.create_task(asker.call(OWNER, Kind.GET, KEY)) for _ in range(2)]
        await until(lambda: asker.calls_under_way == 2)

        with pytest.raises(LimitExceeded) as caught:
            await asker.call(OWNER, Kind.GET, KEY)

        assert caught.type is TooManyCalls
        ends = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(end) for end in ends] == [Unanswered, Unanswered]
        assert asker.counts.too_many == 1

    async def test_so_many_bytes_under_way(self, start: Start) -> None:
        asker = await start(ASKER, limits=BusLimits(calls_size_max=1000))

        with pytest.raises(TooManyCalls):
            await asker.call(OWNER, Kind.POST, KEY, b"x" * 1000)

    async def test_so_many_bytes_that_redis_does_not_take(self, start: Start) -> None:
        asker = await start(ASKER, limits=BusLimits(queue_size_max=1000))

        with pytest.raises(TooManyCalls):
            await asker.call(OWNER, Kind.POST, KEY, b"x" * 1000)

    async def test_so_many_commands_that_wait_here(
        self, start: Start, callbacks: FakeCallbacks
    ) -> None:
        callbacks.gate = asyncio.Event()
        await start(OWNER, callbacks, BusLimits(serving_max=1))
        asker = await start(ASKER)
        first = asyncio.create_task(asker.call(OWNER, Kind.POST, KEY, b"hi"))
        await until(lambda: asker.calls_under_way)

        second = await asker.call(OWNER, Kind.POST, KEY, b"hi")
        callbacks.gate.set()

        assert second.outcome is Outcome.FULL
        assert (await first).outcome is Outcome.WRITTEN


class TestServing:
    async def test_a_command_that_waits_goes_on_in_a_task(
        self, start: Start, callbacks: FakeCallbacks
    ) -> None:
        callbacks.gate, callbacks.refusal = asyncio.Event(), Gone()
        await start(OWNER, callbacks)
        asker = await start(ASKER)
        call = asyncio.create_task(asker.call(OWNER, Kind.POST, KEY, b"hi"))
        await until(lambda: asker.calls_under_way)

        callbacks.gate.set()

        assert (await call).outcome is Outcome.GONE

    async def test_closing_cancels_it(self, start: Start, callbacks: FakeCallbacks) -> None:
        callbacks.gate = asyncio.Event()
        owner = await start(OWNER, callbacks)
        asker = await start(ASKER, limits=BusLimits(delivery_timeout_s=0.1))
        call = asyncio.create_task(asker.call(OWNER, Kind.POST, KEY, b"hi"))
        await until(lambda: len(asyncio.all_tasks()) > 4)

        await owner.close()

        with pytest.raises(Unanswered):
            await call
        assert callbacks.posts == []


class TestWhatArrives:
    async def test_another_version_is_counted_and_not_answered(
        self, start: Start, redis: FakeRedis, callbacks: FakeCallbacks
    ) -> None:
        owner = await start(OWNER, callbacks)
        command = Command(Kind.POST, 1, ASKER, "life", KEY, b"hi")
        published = len(redis.published)

        self.deliver(redis, b"\x02" + encode_command(command)[1:])
        self.deliver(redis, b"\x01nonsense that is long enough")
        self.deliver(redis, b"")
        await until(lambda: owner.counts.unreadable == 2)

        assert owner.counts.unknown_version == 1
        assert callbacks.posts == []
        assert len(redis.published) == published + 3

    async def test_a_reply_to_an_earlier_life_is_not_for_this_one(
        self, start: Start, redis: FakeRedis
    ) -> None:
        asker = await start(OWNER, limits=BusLimits(delivery_timeout_s=0.05))
        redis.is_silent = True
        call = asyncio.create_task(asker.call(b"xyz", Kind.GET, KEY))
        await until(lambda: asker.calls_under_way)
        redis.is_silent = False

        self.deliver(redis, encode_reply(Reply(1, "another life", Outcome.GONE)))
        self.deliver(redis, encode_reply(Reply(99, "life of own", Outcome.GONE)))

        with pytest.raises(Unanswered):
            await call
        assert asker.counts.replies_late == 2

    async def test_a_reply_that_nobody_waits_for_in_any_inbox_is_counted(
        self, start: Start, redis: FakeRedis
    ) -> None:
        owner = await start(OWNER)

        self.deliver(redis, encode_command(Command(Kind.GET, 1, ASKER, "life", KEY)))

        await until(lambda: owner.counts.replies_lost)

    async def test_moved_it_answers_under_another_tag(
        self, start: Start, redis: FakeRedis, callbacks: FakeCallbacks
    ) -> None:
        owner = await start(OWNER, callbacks)
        asker = await start(ASKER)

        await owner.move(b"new", "another life")
        await owner.subscription.wait_healthy()

        with pytest.raises(NoReceiver):
            await asker.call(OWNER, Kind.POST, KEY, b"hi")
        assert (await asker.call(b"new", Kind.POST, KEY, b"hi")).outcome is Outcome.WRITTEN
        assert (await owner.call(ASKER, Kind.GET, KEY)).incarnation == "another life"

    def deliver(self, redis: FakeRedis, data: bytes) -> None:
        redis.take([b"PUBLISH", KEYS.inbox(OWNER).encode(), data], None)


class Facts:
    """Leases and contact."""

    def __init__(self, *, is_live: bool | Exception, is_whole: bool) -> None:
        self._is_live = is_live
        self._is_whole = is_whole

    async def is_live(self, tag: bytes) -> bool:
        assert tag == OWNER
        if isinstance(self._is_live, Exception):
            raise self._is_live
        return self._is_live

    def whole(self) -> bool:
        return self._is_whole


async def end_of(call: Coroutine[object, object, object]) -> str:
    """Tell what a backend is answered: the status, and whether a retry is safe after a 500."""
    try:
        await call
    except DeliveryFailed as error:
        return f"{error.status} {'may duplicate' if error.may_duplicate else 'safe'}"
    except (Gone, LimitExceeded) as error:
        return str(error.status)
    return "200"


class TestRemote:
    @pytest.mark.parametrize(
        ("refusal", "end"),
        [
            (None, "200"),
            (Gone(), "410"),
            (LimitExceeded(), "429"),
            (RuntimeError("a bug"), "500 may duplicate"),
        ],
        ids=repr,
    )
    async def test_the_owner_decides(
        self, start: Start, callbacks: FakeCallbacks, refusal: Exception | None, end: str
    ) -> None:
        callbacks.refusal = refusal
        await start(OWNER, callbacks)
        facts = Facts(is_live=True, is_whole=True)
        remote = Remote(await start(ASKER), facts, facts)

        assert await end_of(remote.post(KEY, b"hi")) == end
        assert await end_of(remote.get(KEY)) == end
        assert await end_of(remote.delete(KEY)) == end

    async def test_get_tells_what_the_owner_knows(
        self, start: Start, callbacks: FakeCallbacks
    ) -> None:
        await start(OWNER, callbacks)
        facts = Facts(is_live=True, is_whole=True)

        assert await Remote(await start(ASKER), facts, facts).get(KEY) == INFO

    @pytest.mark.parametrize(
        ("is_live", "is_whole", "end"),
        [
            (True, True, "500 safe"),
            (True, False, "500 safe"),
            (False, True, "410"),
            (False, False, "500 safe"),
            (OSError("Redis is gone"), True, "500 safe"),
        ],
    )
    async def test_nobody_receives(
        self, start: Start, is_live: bool | Exception, is_whole: bool, end: str
    ) -> None:
        facts = Facts(is_live=is_live, is_whole=is_whole)
        remote = Remote(await start(ASKER), facts, facts)

        assert await end_of(remote.post(KEY, b"hi")) == end

    async def test_nobody_says_whether_the_owner_lives(self, start: Start) -> None:
        class Silent(Facts):
            async def is_live(self, tag: bytes) -> bool:
                await asyncio.get_running_loop().create_future()
                return False

        facts = Silent(is_live=False, is_whole=True)
        remote = Remote(await start(ASKER), facts, facts, lookup_timeout_s=0.01)

        assert await end_of(remote.post(KEY, b"hi")) == "500 safe"

    async def test_nobody_answers(self, start: Start, redis: FakeRedis) -> None:
        facts = Facts(is_live=True, is_whole=True)
        asker = await start(ASKER, limits=BusLimits(delivery_timeout_s=0.01))
        redis.is_silent = True

        assert await end_of(Remote(asker, facts, facts).post(KEY, b"hi")) == "500 may duplicate"

    async def test_too_much_is_under_way(self, start: Start) -> None:
        facts = Facts(is_live=True, is_whole=True)
        asker = await start(ASKER, limits=BusLimits(calls_size_max=10))

        assert await end_of(Remote(asker, facts, facts).post(KEY, b"hi")) == "429"

    async def test_what_is_no_id_is_gone(self, start: Start) -> None:
        facts = Facts(is_live=True, is_whole=True)
        remote = Remote(await start(ASKER), facts, facts)

        assert await end_of(remote.post(KEY._replace(connection_id="x"), b"hi")) == "410"

    def test_every_failure_is_one_of_the_gateway(self) -> None:
        for failure in (NotSent, NoReceiver, Unanswered, OwnerFailed):
            assert issubclass(failure, DeliveryFailed)
            assert issubclass(failure, GatewayError)
            assert failure.status == 500
