"""What holds when Redis answers slowly, and when it cuts off a node that listens slowly."""

from __future__ import annotations

import asyncio
import itertools
import signal
import time
from typing import TYPE_CHECKING

import pytest

from tests.cluster.load import Load
from tests.cluster.nodes import DEADLINE_S, FAILED, OK, Fleet, report
from tests.cluster.proxies import line_to
from tests.cluster.valkey import Server, cutting_off_at
from tests.e2e.process import until
from wsgateway.cluster.keys import Keys

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.redis, pytest.mark.timeout(120)]

KEYS = Keys("wsgateway", "abcde12345")
POST_SIZE = 100_000
POSTS_AT_ONCE = 50


async def redis_is(fleet: Fleet, state: str) -> bool:
    """Whether that is what all nodes say of Redis to who asks after their health."""
    told = []
    for node in fleet.nodes:
        async with fleet.session.get(node.process.health_url) as response:
            told.append((await response.json())["redis"])
    return set(told) == {state}


async def test_answers_that_take_200_ms_are_enough_and_those_beyond_the_time_out_cost_nobody(
    tmp_path: Path, valkey: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    lease_s = 6.0
    settings = {
        "lease_s": lease_s,
        # A new connection takes three answers, and all of them one time-out.
        "redis_timeout_s": lease_s / 4,
        # There and back is two messages, each of which comes late.
        "delivery_timeout_s": DEADLINE_S / 3,
    }
    async with (
        line_to(valkey) as line,
        Fleet(tmp_path, line.url, settings=settings) as fleet,
    ):
        one, other = await fleet.start(2)
        line.delay_s = 0.2
        ones = [(await fleet.connect_again(one))[0] for _ in range(10)]
        others = [(await fleet.connect_again(other))[0] for _ in range(10)]
        clients = [*ones, *others]

        async with (
            Load(fleet, clients, [one, other], tries=3) as load,
            Load(fleet, ones, [one], posters=2) as local,
        ):
            slow_at = time.monotonic()
            await load.flows(slow_at)
            # As long as it takes to give up who does not move its lease.
            await until(lambda: time.monotonic() > slow_at + 1.5 * lease_s, DEADLINE_S)
            slow = load.statuses()

            line.delay_s = 3.0
            lost_at = time.monotonic()
            await until(lambda: redis_is(fleet, "lost"), DEADLINE_S)
            assert await fleet.post_each(one, ones, "meanwhile") == {OK: 10}
            await until(lambda: time.monotonic() > lost_at + 1.5 * lease_s, DEADLINE_S)

            line.delay_s = 0.0
            back_at = time.monotonic()
            await until(lambda: redis_is(fleet, "reachable"), DEADLINE_S)
            took_s = await load.flows(back_at)
            await until(lambda: time.monotonic() > back_at + 1.5 * lease_s, DEADLINE_S)

        assert fleet.disconnects(clients) == []
        assert all(client.is_open for client in clients)
        assert local.statuses().keys() == {OK}
        assert load.statuses().keys() <= {OK, FAILED}
        await load.balances()
        await local.balances()
        await fleet.settle()
    report(
        capsys,
        f"200 ms: {dict(slow)}; all: {dict(load.statuses())}; posts flow {took_s:.2f} s after",
    )


async def test_a_connection_may_take_longer_to_open_than_a_command_may(
    tmp_path: Path, valkey: Server
) -> None:
    """It takes three answers, and a command that takes longer than a beat is given up."""
    lease_s = 4.0
    settings = {"lease_s": lease_s, "redis_timeout_s": 4.0, "delivery_timeout_s": DEADLINE_S / 3}
    async with (
        line_to(valkey) as line,
        Fleet(tmp_path, line.url, settings=settings) as fleet,
    ):
        # With the command's own that is more than a quarter of the lease time. Beyond a third,
        # nodes would not hear each other.
        line.delay_s = lease_s * 0.29 / 4
        one, other = await fleet.start(2)
        [client] = await fleet.connect(one, 1)

        valkey.ask("CLIENT", "KILL", "TYPE", "normal")
        killed_at = time.monotonic()
        await until(lambda: time.monotonic() > killed_at + 1.25 * lease_s, DEADLINE_S)
        await until(lambda: redis_is(fleet, "reachable"), DEADLINE_S)
        await until(lambda: fleet.answers(other, client, OK), DEADLINE_S)

        assert client.is_open
        assert fleet.disconnects([client]) == []
        await fleet.settle()


def subscriber_count(server: Server, inbox: str) -> int:
    answer = server.ask("PUBSUB", "NUMSUB", inbox)
    assert isinstance(answer, list)
    return int(answer[1])


async def test_a_node_whose_subscription_redis_has_cut_subscribes_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The node stands still for so short that nobody gives it up."""
    lease_s = 6.0
    settings = {"lease_s": lease_s, "redis_timeout_s": 2.0, "delivery_timeout_s": 0.5}
    with Server(cutting_off_at("1mb")) as server:
        async with Fleet(tmp_path, server.url, settings=settings) as fleet:
            sender, sleeper = await fleet.start(2)
            sleepers, others = await fleet.connect(sleeper, 20), await fleet.connect(sender, 5)
            before = fleet.disconnects()
            inbox = KEYS.inbox(sleepers[0].tag)
            answers: dict[str, int] = {}
            numbers = itertools.count()
            is_cut_off = asyncio.Event()

            async def post() -> None:
                text = f"{next(numbers)} ".ljust(POST_SIZE, "x")
                to = sleepers[len(answers) % len(sleepers)]
                answers[text] = await fleet.post(sender, to.connection_id, text)

            async def post_until_it_is_cut_off() -> None:
                while not is_cut_off.is_set() and time.monotonic() < stopped_at + lease_s:
                    await post()

            stopped_at = time.monotonic()
            sleeper.process.signal(signal.SIGSTOP)
            async with asyncio.TaskGroup() as group:
                for _ in range(POSTS_AT_ONCE):
                    group.create_task(post_until_it_is_cut_off())
                await until(lambda: subscriber_count(server, inbox) == 0, DEADLINE_S)
                is_cut_off.set()
                sleeper.process.signal(signal.SIGCONT)
                stopped_s = time.monotonic() - stopped_at
            assert stopped_s < lease_s / 2
            async with Load(fleet, [*sleepers, *others], [sender, sleeper], tries=3) as load:
                took_s = await load.flows(time.monotonic())
                lease_ends_at = time.monotonic() + 1.5 * lease_s
                await until(lambda: time.monotonic() > lease_ends_at, DEADLINE_S)

            assert [line["event"] for line in sleeper.process.log].count(
                "inbox is subscribed again"
            ) == 1
            assert fleet.disconnects() == before
            assert all(client.is_open for client in [*sleepers, *others])
            assert set(answers.values()) <= {OK, FAILED}
            assert FAILED in answers.values()
            received = [text for client in sleepers for text in client.received]
            arrived = {text: received.count(text) for text in answers}
            assert max(arrived.values()) == 1
            assert all(arrived[text] for text, answer in answers.items() if answer == OK)
            await load.balances()
            await fleet.settle()
    failed = list(answers.values()).count(FAILED)
    report(
        capsys,
        f"stopped for {stopped_s:.1f} s; {failed} of {len(answers)} posts failed, "
        f"{sum(arrived.values())} arrived; posts flow {took_s:.2f} s after",
    )
