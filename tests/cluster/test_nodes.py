"""What becomes of connections, posts and `$disconnect`s when a node or Redis dies or stands still.

Processes, Redis and clients are real. `docs/reliability.md` says what these tests show.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import TYPE_CHECKING

import pytest
from websockets.exceptions import InvalidStatus

from tests.cluster.load import Load
from tests.cluster.nodes import (
    DEADLINE_S,
    FAILED,
    GOING_AWAY,
    GONE,
    LEASE_S,
    OK,
    UNAVAILABLE,
    Fleet,
    once,
    report,
)
from tests.cluster.valkey import cluster
from tests.e2e.process import until
from wsgateway.cluster.keys import Keys

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cluster.nodes import Node
    from tests.cluster.valkey import Server

pytestmark = [pytest.mark.slow, pytest.mark.redis, pytest.mark.timeout(90)]

RECOVERED_WITHIN_S = 10.0


async def test_a_killed_nodes_connections_are_told_of_once_each(
    tmp_path: Path, valkey: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    async with Fleet(tmp_path, valkey.url) as fleet:
        survivor, victim = await fleet.start(2)
        lost, kept = await fleet.connect(victim, 500), await fleet.connect(survivor, 20)
        before = fleet.disconnects()

        async with Load(fleet, [*lost, *kept], [survivor]) as load:
            await load.flows(time.monotonic())
            killed_at = time.monotonic()
            victim.process.signal(signal.SIGKILL)
            await fleet.told_of(lost)
            took_s = time.monotonic() - killed_at
            load.clients = kept
            await load.flows(time.monotonic())
        fleet.remove(victim)

        assert await fleet.post_each(survivor, lost, "too late") == {GONE: 500}
        events = fleet.disconnects()[len(before) :]
        assert once(events, lost)
        assert {(event.code, event.pid) for event in events} == {(1006, survivor.pid)}
        assert took_s < RECOVERED_WITHIN_S
        assert load.statuses(kept).keys() == {OK}
        unseen = await load.balances()
        await fleet.settle()
    report(
        capsys,
        f"500 of 500 after {took_s:.2f} s; posts {dict(load.statuses())}, "
        f"{unseen} answered 200 died with the node",
    )


async def test_a_node_that_stood_still_closes_its_connections_and_goes_on_with_another_tag(
    tmp_path: Path, valkey: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    async with Fleet(tmp_path, valkey.url) as fleet:
        survivor, sleeper = await fleet.start(2)
        lost, kept = await fleet.connect(sleeper, 100), await fleet.connect(survivor, 20)
        before = fleet.disconnects()

        async with Load(fleet, kept, [survivor]) as load:
            sleeper.process.signal(signal.SIGSTOP)
            await asyncio.sleep(2 * LEASE_S)
            await fleet.told_of(lost)
            sleeper.process.signal(signal.SIGCONT)
            woken_at = time.monotonic()
            codes = {await client.close_code() for client in lost}
            closed_s = time.monotonic() - woken_at
            await until(sleeper.accepts)
            [again] = await fleet.connect(sleeper, 1)
            load.clients = [*kept, again]
            load.through.append(sleeper)
            await load.flows(time.monotonic())

        assert codes == {GOING_AWAY}
        events = fleet.disconnects()[len(before) :]
        assert once(events, lost)
        assert {(event.code, event.pid) for event in events} == {(1006, survivor.pid)}
        assert again.tag not in {client.tag for client in lost}
        assert await fleet.post_each(survivor, lost, "too late") == {GONE: 100}
        # It has to watch for a lease time before it says of a node that it is gone.
        await until(lambda: fleet.answers(sleeper, lost[0], GONE))
        assert await fleet.post_each(sleeper, lost, "too late") == {GONE: 100}
        assert load.statuses(kept).keys() == {OK}
        await load.balances()
        await fleet.settle(
            complaints=[
                "this node was given up by the others; it closes its connections and joins anew"
            ]
        )
    report(capsys, f"closed {closed_s:.2f} s after it woke")


async def test_while_redis_stands_still_nobody_is_given_up(
    tmp_path: Path, valkey: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    async with Fleet(tmp_path, valkey.url) as fleet:
        one, other = await fleet.start(2)
        ones, others = await fleet.connect(one, 100), await fleet.connect(other, 100)
        before = fleet.disconnects()
        clients = [*ones, *others]

        async with (
            Load(fleet, clients, [one, other], tries=3) as load,
            Load(fleet, ones, [one], posters=2) as local,
        ):
            await load.flows(time.monotonic())
            valkey.pause()
            paused_at = time.monotonic()
            newcomer, refused = await fleet.connect_again(one)
            while time.monotonic() < paused_at + 2 * LEASE_S:
                assert await fleet.post_each(other, others[:10], "meanwhile") == {OK: 10}
            valkey.resume()
            resumed_at = time.monotonic()
            load.clients = [*clients, newcomer]
            took_s = await load.flows(resumed_at)
            # As long as it takes to give up those that do not come back.
            await until(lambda: time.monotonic() > resumed_at + 3 * LEASE_S)

        # Who was refused was let in by `$connect`, and is told of.
        assert len(fleet.disconnects()) == len(before) + refused
        assert not fleet.disconnects([*clients, newcomer])
        assert all(client.is_open for client in [*clients, newcomer])
        assert took_s < RECOVERED_WITHIN_S
        assert local.statuses().keys() == {OK}
        assert load.statuses().keys() <= {OK, FAILED}
        await load.balances()
        await local.balances()
        await fleet.settle()
    report(
        capsys,
        f"posts flow {took_s:.2f} s after; {dict(load.statuses())}; {refused} handshakes refused",
    )


async def test_redis_comes_back_empty(
    tmp_path: Path, valkey: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the nodes know is in it again, as is seen when one of them is killed after that."""
    async with Fleet(tmp_path, valkey.url) as fleet:
        one, other = await fleet.start(2)
        ones, others = await fleet.connect(one, 100), await fleet.connect(other, 100)
        before = fleet.disconnects()
        clients = [*ones, *others]

        async with Load(fleet, clients, [one, other], tries=3) as load:
            await load.flows(time.monotonic())
            killed_at = time.monotonic()
            os.kill(valkey.pid, signal.SIGKILL)
            await asyncio.to_thread(valkey.restart)
            took_s = await load.flows(killed_at)
            await until(lambda: time.monotonic() > killed_at + 4 * LEASE_S)

        assert fleet.disconnects() == before
        assert all(client.is_open for client in clients)
        assert took_s < RECOVERED_WITHIN_S
        assert load.statuses().keys() <= {OK, FAILED}
        await load.balances()

        other.process.signal(signal.SIGKILL)
        await fleet.told_of(others)
        fleet.remove(other)
        assert once(fleet.disconnects()[len(before) :], others)
        await fleet.settle()
    report(capsys, f"posts flow {took_s:.2f} s after; {dict(load.statuses())}")


async def test_the_recovering_node_is_killed_in_the_middle(
    tmp_path: Path, valkey: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    bound = 20
    settings = {"disconnect_concurrency_max": bound}
    async with Fleet(tmp_path, valkey.url, settings=settings, slow_s=0.2) as fleet:
        victim, *others = await fleet.start(3)
        lost = await fleet.connect(victim, 200)
        of = {node.pid: await fleet.connect(node, 10) for node in others}
        before = fleet.disconnects()

        victim.process.signal(signal.SIGKILL)
        fleet.remove(victim)
        await until(lambda: len(fleet.disconnects(lost)) >= 50, DEADLINE_S)
        recovering_pid = fleet.disconnects(lost)[-1].pid
        [recovering] = [node for node in others if node.pid == recovering_pid]
        recovering.process.signal(signal.SIGKILL)
        killed_at = time.monotonic()
        fleet.remove(recovering)
        [survivor] = fleet.nodes
        delivered = len(fleet.disconnects(lost))
        lost += of[recovering.pid]
        events = await fleet.told_of(lost)
        took_s = time.monotonic() - killed_at

        twice = len(events) - len(lost)
        assert delivered < 200
        assert fleet.disconnects()[len(before) :] == events
        assert {event.pid for event in events} == {recovering.pid, survivor.pid}
        assert {event.code for event in events} == {1006}
        assert len({(event.connection_id, event.request_id) for event in events}) == len(lost)
        assert 0 <= twice <= bound
        assert await fleet.post_each(survivor, lost, "too late") == {GONE: len(lost)}
        await fleet.settle()
    report(
        capsys,
        f"killed after {delivered} of 200; the rest {took_s:.2f} s after; {twice} twice, of {bound}",
    )


async def test_a_rolling_restart(
    tmp_path: Path, valkey: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    async with Fleet(tmp_path, valkey.url, settings={"drain_close_rate": 200}) as fleet:
        leaver, *stayers = await fleet.start(3)
        leaving = await fleet.connect(leaver, 100)
        staying = [client for node in stayers for client in await fleet.connect(node, 50)]

        async with Load(fleet, [*leaving, *staying], list(stayers)) as load:
            await load.flows(time.monotonic())
            leaver.process.signal(signal.SIGTERM)
            codes = {await client.close_code() for client in leaving}
            assert await leaver.process.ended(DEADLINE_S) == 0
            assert await fleet.post_each(stayers[0], leaving, "gone at once") == {GONE: 100}
            fleet.remove(leaver)
            [successor] = await fleet.start()
            newcomers = await fleet.connect(successor, 50)
            load.clients = [*staying, *newcomers]
            load.through.append(successor)
            await load.flows(time.monotonic())

        assert codes == {GOING_AWAY}
        events = fleet.disconnects(leaving)
        assert once(events, leaving)
        assert {(event.code, event.pid) for event in events} == {(GOING_AWAY, leaver.pid)}
        assert not fleet.disconnects([*staying, *newcomers])
        assert load.statuses([*staying, *newcomers]).keys() == {OK}
        assert load.statuses(leaving).keys() <= {OK, GONE}
        for node in stayers:
            assert await fleet.post_each(node, leaving, "too late") == {GONE: 100}
        unseen = await load.balances()
        await fleet.settle()
    report(capsys, f"{dict(load.statuses())}, {unseen} answered 200 crossed a close frame")


async def test_a_master_of_a_cluster_fails_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The one with the entries, the lease and the inbox of one of two nodes."""
    with cluster() as servers:
        async with Fleet(tmp_path, servers.url) as fleet:
            one, other = await fleet.start(2)
            clients = [*await fleet.connect(one, 50), *await fleet.connect(other, 50)]
            before = fleet.disconnects()

            async with Load(fleet, clients, [one, other], tries=3) as load:
                await load.flows(time.monotonic())
                inbox = Keys("wsgateway", "abcde12345").inbox(clients[0].tag)
                servers.master_of(inbox).kill()
                killed_at = time.monotonic()
                took_s = await load.flows(killed_at)
                await until(lambda: time.monotonic() > killed_at + took_s + 2 * LEASE_S)

            assert fleet.disconnects() == before
            assert all(client.is_open for client in clients)
            assert took_s < RECOVERED_WITHIN_S
            assert load.statuses().keys() <= {OK, FAILED}
            await load.balances()
            await fleet.settle()
    report(capsys, f"posts flow {took_s:.2f} s after; {dict(load.statuses())}")


async def test_two_nodes_of_one_name_are_two_nodes(
    tmp_path: Path, valkey: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    async with Fleet(tmp_path, valkey.url, settings={"node_name": "twin"}) as fleet:
        survivor, victim = await fleet.start(2)
        kept, lost = await fleet.connect(survivor, 50), await fleet.connect(victim, 50)
        before = fleet.disconnects()

        names = {(await node.who())["node"] for node in fleet.nodes}
        tags = {(await node.who())["tag"] for node in fleet.nodes}
        assert names == {"twin"}
        assert tags == {client.tag.hex() for client in [*kept, *lost]}
        assert len(tags) == 2
        async with Load(fleet, [*kept, *lost], [survivor, victim]) as load:
            await load.flows(time.monotonic())
            await until(lambda: len(load.posts) >= 200, DEADLINE_S)
        assert load.statuses().keys() == {OK}

        victim.process.signal(signal.SIGKILL)
        fleet.remove(victim)
        await fleet.told_of(lost)
        assert once(fleet.disconnects()[len(before) :], lost)
        assert all(client.is_open for client in kept)
        await load.balances()
        await fleet.settle()
    report(capsys, f"tags {' and '.join(sorted(tags))}; posts {dict(load.statuses())}")


async def test_wrong_wall_clocks_decide_nothing(
    tmp_path: Path, valkey: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    """One is an hour fast and the other an hour slow."""
    hour_s = 3600.0
    async with Fleet(tmp_path, valkey.url) as fleet:
        slow, fast = await fleet.start(
            2, each=[{"wall_clock_offset_s": -hour_s}, {"wall_clock_offset_s": hour_s}]
        )
        kept, lost = await fleet.connect(slow, 50), await fleet.connect(fast, 50)
        before = fleet.disconnects()

        async with Load(fleet, [*kept, *lost], [slow, fast]) as load:
            began_at = time.monotonic()
            await until(lambda: time.monotonic() > began_at + 3 * LEASE_S)
            await load.flows(began_at)
            assert fleet.disconnects() == before
            assert load.statuses().keys() == {OK}
            load.clients = kept
            load.through = [slow]
            killed_at = time.monotonic()
            fast.process.signal(signal.SIGKILL)
            events = await fleet.told_of(lost)
            took_s = time.monotonic() - killed_at
        fleet.remove(fast)

        assert once(fleet.disconnects()[len(before) :], lost)
        assert took_s < RECOVERED_WITHIN_S
        # By the clock of the node that tells of it they end two hours before they began.
        assert {event.age_ms for event in events} == {0}
        assert all(client.is_open for client in kept)
        await load.balances()
        await fleet.settle()
    report(capsys, f"recovered after {took_s:.2f} s")


async def test_without_redis_newcomers_are_refused_where_that_is_wanted(
    tmp_path: Path, valkey: Server
) -> None:
    """`redis_down = refuse`: readiness says so, `$connect` is not asked, and who is there stays."""
    async with Fleet(tmp_path, valkey.url, settings={"redis_down": "refuse"}) as fleet:
        [node] = await fleet.start()
        clients = await fleet.connect(node, 10)
        connects = fleet.connects()

        valkey.kill()
        await until(lambda: told(fleet, node, (503, "unavailable", "lost")), DEADLINE_S)
        assert await node.process.gauge("wsgateway_redis_reachable") == 0
        with pytest.raises(InvalidStatus) as refused:
            await fleet.connect(node, 1)
        assert refused.value.response.status_code == UNAVAILABLE
        assert fleet.connects() == connects
        assert await fleet.post_each(node, clients, "meanwhile") == {OK: 10}

        await asyncio.to_thread(valkey.start)
        await until(lambda: told(fleet, node, (200, "ready", "reachable")), DEADLINE_S)
        assert await node.process.gauge("wsgateway_redis_reachable") == 1
        await fleet.connect(node, 1)
        assert all(client.is_open for client in clients)
        await fleet.settle()


async def told(fleet: Fleet, node: Node, expected: tuple[int, str, str]) -> bool:
    """Whether a node says that of its health: status code, its own state, and Redis'."""
    async with fleet.session.get(node.process.health_url) as response:
        health = await response.json()
        return (response.status, health["status"], health["redis"]) == expected
