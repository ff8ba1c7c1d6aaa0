"""A subscription that is lost, in every way, comes back by itself."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from tests.cluster_unit.fake_redis import FakeRedis, until
from wsgateway.cluster.publisher import Backoff, Publisher
from wsgateway.cluster.subscription import Subscription
from wsgateway.cluster.wire_form import Ping, encode_ping

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

INBOX = b"wsgateway:api:{010203}:inbox"


@pytest.fixture
def redis() -> FakeRedis:
    return FakeRedis()


@pytest.fixture
def received() -> list[bytes]:
    return []


@pytest.fixture
async def subscription(redis: FakeRedis, received: list[bytes]) -> AsyncIterator[Subscription]:
    publisher = Publisher(redis)
    subscription = Subscription(
        redis,
        publisher,
        channel=INBOX,
        incarnation="life",
        on_message=received.append,
        ping_interval_s=0.02,
    )
    yield subscription
    await subscription.close()
    await publisher.close()
    assert redis.channels.get(INBOX, []) == []
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def until_lost(subscription: Subscription) -> None:
    await until(lambda: subscription.healthy_since is None)


async def until_healthy(subscription: Subscription) -> None:
    async with asyncio.timeout(5):
        await subscription.wait_healthy()


async def test_it_is_healthy_when_a_ping_has_come_back(
    redis: FakeRedis, subscription: Subscription
) -> None:
    before = time.monotonic()
    assert (subscription.lost_since or 0) <= before

    subscription.start()
    await until_healthy(subscription)

    assert redis.published == [encode_ping(Ping(1, "life"))]
    assert before <= (subscription.healthy_since or 0) <= time.monotonic()
    assert (subscription.lost_count, subscription.problem) == (0, "")


async def test_what_is_no_ping_is_handed_on(
    redis: FakeRedis, subscription: Subscription, received: list[bytes]
) -> None:
    subscription.start()
    await until_healthy(subscription)

    redis.take([b"PUBLISH", INBOX, b"\x01\x01post"], None)
    redis.take([b"PUBLISH", INBOX, b"\x01\x11no"], None)
    redis.take([b"PUBLISH", INBOX, b""], None)
    redis.take([b"PUBLISH", INBOX, encode_ping(Ping(1, "another"))], None)
    await until(lambda: len(received) == 3)

    assert received == [b"\x01\x01post", b"\x01\x11no", b""]


async def test_an_ended_connection_is_replaced(
    redis: FakeRedis, subscription: Subscription
) -> None:
    subscription.start()
    await until_healthy(subscription)

    redis.cut()
    await until_lost(subscription)
    assert subscription.problem == "redis:6379: the connection has ended"
    assert subscription.lost_since is not None

    await until_healthy(subscription)
    assert subscription.lost_count == 1
    assert redis.refreshed_count >= 2


async def test_a_ping_that_does_not_come_back_ends_it(
    redis: FakeRedis, subscription: Subscription
) -> None:
    subscription.start()
    await until_healthy(subscription)
    links = list(redis.links)

    redis.is_losing = True
    await until_lost(subscription)
    assert subscription.problem == "no ping within 0.02 s: it did not come back"
    assert all(link.lost.done() for link in links), "neither way is used again"

    redis.is_losing = False
    await until_healthy(subscription)


async def test_a_ping_without_a_receiver_ends_it(
    redis: FakeRedis, subscription: Subscription
) -> None:
    subscription.start()
    await until_healthy(subscription)

    redis.channels.clear()
    await until_lost(subscription)

    assert subscription.problem == "a ping has no receiver"
    await until_healthy(subscription)


async def test_a_refused_ping_ends_it_only_in_the_long_run(
    redis: FakeRedis, subscription: Subscription
) -> None:
    subscription.start()
    await until_healthy(subscription)

    redis.refusal = "NOPERM no permissions"
    await until_lost(subscription)

    assert subscription.problem == "no ping within 0.02 s: NOPERM no permissions"
    redis.refusal = None
    await until_healthy(subscription)


async def test_it_goes_on_trying_while_redis_is_down(
    redis: FakeRedis, subscription: Subscription
) -> None:
    redis.is_down = True
    subscription.start()
    await until(lambda: redis.refreshed_count >= 2)
    assert subscription.problem == "redis:6379: Connection refused"
    assert subscription.lost_count == 0, "it has never been healthy"

    redis.is_down = False
    await until_healthy(subscription)


async def test_a_server_that_does_not_answer_the_subscription(
    redis: FakeRedis, subscription: Subscription
) -> None:
    redis.is_silent = True
    subscription.start()
    await until(lambda: "no answer" in subscription.problem)

    redis.is_silent = False
    await until_healthy(subscription)


async def test_closed_it_is_lost(redis: FakeRedis, subscription: Subscription) -> None:
    subscription.start()
    await until_healthy(subscription)

    await subscription.close()

    assert subscription.healthy_since is None
    assert subscription.problem == "it is closed"


def test_pauses_double_up_to_a_bound_and_are_never_the_same() -> None:
    backoff = Backoff(0.1, 1.0)

    pauses = [backoff.failed() for _ in range(40)]

    for pause, most in zip(pauses, [0.1, 0.2, 0.4, 0.8, *[1.0] * 36], strict=True):
        assert most / 2 <= pause <= most
    assert len(set(pauses)) > 30
    backoff.succeeded()
    assert backoff.failed() <= 0.1
