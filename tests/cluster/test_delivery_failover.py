"""Posts between nodes while a cluster's slots move, its masters die, or Sentinel names another."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from tests.cluster import valkey
from tests.cluster.peers import BACK_WITHIN_S, KEYS, TIMEOUTS, Nodes, flows, reason_of_loss
from tests.cluster.proxies import tls_server
from tests.listener.certificate import make_certificate
from wsgateway.cluster.bus import NoReceiver
from wsgateway.cluster.connect import make_client, parse_location
from wsgateway.cluster.link import Unreachable
from wsgateway.cluster.servers import check
from wsgateway.entropy import random_bytes
from wsgateway.errors import DeliveryFailed, Gone

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from tests.cluster.valkey import Cluster

pytestmark = [pytest.mark.redis, pytest.mark.slow]


def tag_at(cluster: Cluster, number: int) -> bytes:
    """Return a tag whose inbox is on that master."""
    while cluster.master_of(KEYS.inbox(tag := random_bytes(3))) is not cluster.masters[number]:
        pass
    return tag


class TestWhole:
    """On a cluster that stays as it is."""

    @pytest.fixture
    async def nodes(self, shared_valkey_cluster: Cluster) -> AsyncIterator[Nodes]:
        nodes = Nodes(shared_valkey_cluster.url)
        yield nodes
        await nodes.close()

    async def test_posts_reach_every_shard(
        self, nodes: Nodes, shared_valkey_cluster: Cluster
    ) -> None:
        peers = [await nodes.start(tag=tag_at(shared_valkey_cluster, n)) for n in (0, 1, 2)]

        for owner in peers:
            connection = owner.connect()
            payloads = [b"%d" % number for number in range(30)]
            for number, payload in enumerate(payloads):
                await peers[number % 3].remote.post(connection.entry.key, payload)
            assert connection.sent == payloads
            assert await peers[0].remote.get(connection.entry.key) == connection.info()

    async def test_nobody_receives(self, nodes: Nodes) -> None:
        owner, asker = await nodes.start(), await nodes.start()
        key = owner.connect().entry.key
        await owner.bus.close()

        with pytest.raises(NoReceiver):
            await asker.remote.post(key, b"hi")
        nodes.facts.live.clear()
        with pytest.raises(Gone):
            await asker.remote.post(key, b"hi")

    async def test_messages_go_to_one_server_only(
        self, nodes: Nodes, shared_valkey_cluster: Cluster
    ) -> None:
        """Classic pub/sub would send each to every server of the cluster."""
        owner = await nodes.start(tag=tag_at(shared_valkey_cluster, 1))
        masters, inbox = shared_valkey_cluster.masters, KEYS.inbox(owner.tag)

        shards = [await asyncio.to_thread(m.ask, "PUBSUB", "SHARDNUMSUB", inbox) for m in masters]
        classic = [await asyncio.to_thread(m.ask, "PUBSUB", "NUMSUB", inbox) for m in masters]

        assert shards == [[inbox.encode(), number] for number in (0, 1, 0)]
        assert classic == [[inbox.encode(), 0]] * 3

    async def test_a_cluster_has_to_be_called_one(self, shared_valkey_cluster: Cluster) -> None:
        url = shared_valkey_cluster.masters[0].url
        with pytest.raises(Unreachable, match=r"write redis\+cluster://"):
            await check(parse_location(url), TIMEOUTS, client_name="wsgateway")
        location = parse_location(shared_valkey_cluster.url)
        assert (await check(location, TIMEOUTS, client_name="wsgateway")).mode == "cluster"

    async def test_a_client_for_keys(self, shared_valkey_cluster: Cluster) -> None:
        client = make_client(parse_location(shared_valkey_cluster.url), timeouts=TIMEOUTS)

        assert await client.set("wsgateway:key", "value") is True
        await client.aclose()


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with valkey.cluster() as cluster:
        yield cluster


@pytest.fixture
async def nodes(cluster: Cluster) -> AsyncIterator[Nodes]:
    nodes = Nodes(cluster.url)
    yield nodes
    await nodes.close()


@pytest.mark.timeout(120)
class TestFailover:
    @pytest.mark.parametrize("asker_at", [0, 1], ids=["only the owner", "both"])
    async def test_the_master_of_an_inbox_dies(
        self, nodes: Nodes, cluster: Cluster, asker_at: int
    ) -> None:
        owner = await nodes.start(tag=tag_at(cluster, 1))
        asker = await nodes.start(tag=tag_at(cluster, asker_at))
        connection = owner.connect()
        await asker.remote.post(connection.entry.key, b"before")

        await asyncio.to_thread(cluster.masters[1].kill)
        with pytest.raises(DeliveryFailed):
            await asker.remote.post(connection.entry.key, b"lost")
        took_s = await flows(asker, connection)

        print(f"\nposts flow again after {took_s:.1f} s")  # noqa: T201 - for `make test -s`
        assert took_s < BACK_WITHIN_S
        assert connection.sent == [b"before", b"again"]

    async def test_the_master_of_an_inbox_hangs(self, nodes: Nodes, cluster: Cluster) -> None:
        """Its connections stay open, and only pings tell."""
        owner = await nodes.start(tag=tag_at(cluster, 1))
        asker = await nodes.start(tag=tag_at(cluster, 0))
        connection = owner.connect()

        cluster.masters[1].pause()
        took_s = await flows(asker, connection)

        print(f"\nposts flow again after {took_s:.1f} s")  # noqa: T201 - for `make test -s`
        # When it comes back as a replica, it gets nobody's attention.
        cluster.masters[1].resume()
        await asker.remote.post(connection.entry.key, b"after")
        assert connection.sent[-1] == b"after"

    async def test_a_master_gives_its_slots_to_its_replica(
        self, nodes: Nodes, cluster: Cluster
    ) -> None:
        owner = await nodes.start(tag=tag_at(cluster, 1))
        asker = await nodes.start(tag=tag_at(cluster, 0))
        connection = owner.connect()
        await asker.remote.post(connection.entry.key, b"before")

        with capture_logs() as logs:
            await asyncio.to_thread(cluster.replicas[1].ask, "CLUSTER", "FAILOVER")
            await owner.lost()
        assert "slot" in reason_of_loss(logs)
        took_s = await flows(asker, connection)

        assert took_s < BACK_WITHIN_S
        assert connection.sent == [b"before", b"again"]

    async def test_a_slot_moves(self, nodes: Nodes, cluster: Cluster) -> None:
        owner = await nodes.start(tag=tag_at(cluster, 1))
        asker = await nodes.start(tag=tag_at(cluster, 0))
        connection = owner.connect()
        await asker.remote.post(connection.entry.key, b"before")

        await asyncio.to_thread(move_slot, cluster, KEYS.inbox(owner.tag), 1, 2)
        await owner.healthy()
        await flows(asker, connection)

        assert connection.sent == [b"before", b"again"]


def move_slot(cluster: Cluster, channel: str, source: int, target: int) -> None:
    slot = cluster.masters[0].ask("CLUSTER", "KEYSLOT", channel)
    assert isinstance(slot, int)
    new_owner = cluster.masters[target].ask("CLUSTER", "MYID")
    assert isinstance(new_owner, bytes)
    for server in (cluster.masters[target], cluster.masters[source], *cluster.masters):
        server.ask("CLUSTER", "SETSLOT", slot, "NODE", new_owner)


@pytest.mark.timeout(120)
class TestSentinel:
    async def test_the_master_dies(self) -> None:
        with valkey.sentinel() as group:
            nodes = Nodes(group.url)
            owner, asker = await nodes.start(), await nodes.start()
            connection = owner.connect()
            await asker.remote.post(connection.entry.key, b"before")
            client = make_client(nodes.location, timeouts=TIMEOUTS)
            assert await client.set("wsgateway:key", "value") is True
            await client.aclose()

            await asyncio.to_thread(group.master.kill)
            with pytest.raises(DeliveryFailed):
                await asker.remote.post(connection.entry.key, b"lost")
            took_s = await flows(asker, connection)

            print(f"\nposts flow again after {took_s:.1f} s")  # noqa: T201 - for `make test -s`
            assert connection.sent == [b"before", b"again"]
            await nodes.close()


class TestTls:
    async def test_the_server_is_checked(self, tmp_path: Path) -> None:
        certificate, key = make_certificate(tmp_path)
        async with tls_server(certificate, key) as (_, port):
            url = f"rediss://127.0.0.1:{port}"
            nodes = Nodes(parse_location(url, ca_file=certificate))
            owner, asker = await nodes.start(), await nodes.start()
            connection = owner.connect()

            await asker.remote.post(connection.entry.key, b"hi")
            client = make_client(nodes.location, timeouts=TIMEOUTS)
            assert await client.ping() is True
            await client.aclose()
            with pytest.raises(Unreachable, match="certificate verify failed"):
                await check(parse_location(url), TIMEOUTS, client_name="wsgateway")
        # Where a proxy speaks TLS, it has tasks too, and they have ended by now.
        await nodes.close()

        assert connection.sent == [b"hi"]
