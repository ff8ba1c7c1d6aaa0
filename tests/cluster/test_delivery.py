"""Posts between nodes over a real Redis: order, outcomes, and everything that Redis can do."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from redis import Redis
from structlog.testing import capture_logs

from tests.cluster import valkey
from tests.cluster.peers import (
    KEYS,
    PING_INTERVAL_S,
    TIMEOUTS,
    Nodes,
    Peer,
    flows,
    reason_of_loss,
    until,
)
from wsgateway.cluster.bus import (
    BusLimits,
    NotSent,
    TooManyCalls,
    Unanswered,
)
from wsgateway.cluster.connect import make_client, parse_location
from wsgateway.cluster.link import Unreachable
from wsgateway.cluster.servers import check
from wsgateway.connection_id import new_connection_id
from wsgateway.errors import DeliveryFailed, Gone, LimitExceeded
from wsgateway.limits import MESSAGE_SIZE_MAX

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from wsgateway.connection import ConnectionKey
    from wsgateway.contracts import Callbacks, ConnectionInfo

pytestmark = [pytest.mark.redis, pytest.mark.timeout(90)]


@pytest.fixture(scope="module")
def shared_server() -> Iterator[valkey.Server]:
    """For tests that leave it as it was."""
    with valkey.Server() as server:
        yield server


@pytest.fixture
async def nodes(shared_server: valkey.Server) -> AsyncIterator[Nodes]:
    nodes = Nodes(shared_server.url)
    yield nodes
    await nodes.close()


@pytest.fixture
def server() -> Iterator[valkey.Server]:
    """For tests that break it."""
    with valkey.Server() as server:
        yield server


@pytest.fixture
async def frail(server: valkey.Server) -> AsyncIterator[Nodes]:
    nodes = Nodes(server.url)
    yield nodes
    await nodes.close()


class TestOutcomes:
    async def test_the_owner_writes_it(self, nodes: Nodes) -> None:
        owner, asker = await nodes.start(), await nodes.start()
        connection = owner.connect()

        await asker.remote.post(connection.entry.key, "grüezi".encode())
        await asker.remote.post(connection.entry.key, b"")
        info = await asker.remote.get(connection.entry.key)
        await asker.remote.delete(connection.entry.key)

        assert connection.sent == ["grüezi".encode(), b""]
        assert info == connection.info()
        assert connection.closed == (1000, "Connection Closed Normally")

    async def test_a_message_of_the_full_size(self, nodes: Nodes) -> None:
        owner, asker = await nodes.start(), await nodes.start()
        connection = owner.connect()
        payload = b"x" * MESSAGE_SIZE_MAX

        await asyncio.gather(*(asker.remote.post(connection.entry.key, payload) for _ in range(10)))

        assert connection.sent == [payload] * 10

    async def test_a_node_can_ask_itself(self, nodes: Nodes) -> None:
        owner = await nodes.start()
        connection = owner.connect()

        await owner.remote.post(connection.entry.key, b"hi")

        assert connection.sent == [b"hi"]

    async def test_the_owner_does_not_have_it(self, nodes: Nodes) -> None:
        owner, asker = await nodes.start(), await nodes.start()
        key = owner.connect().entry.key

        for gone in (
            key._replace(stage="prod"),
            key._replace(api_id="other"),
            key._replace(connection_id=new_connection_id(owner.tag, bytes(10))),
        ):
            with pytest.raises(Gone):
                await asker.remote.post(gone, b"hi")
            with pytest.raises(Gone):
                await asker.remote.get(gone)
            with pytest.raises(Gone):
                await asker.remote.delete(gone)

    async def test_the_client_does_not_read(self, nodes: Nodes) -> None:
        owner, asker = await nodes.start(), await nodes.start()
        connection = owner.connect()
        connection.refusal = LimitExceeded()

        with pytest.raises(LimitExceeded):
            await asker.remote.post(connection.entry.key, b"hi")

    async def test_nobody_receives_and_the_owner_lives(self, nodes: Nodes) -> None:
        owner, asker = await nodes.start(), await nodes.start()
        connection = owner.connect()
        await owner.bus.close()

        with pytest.raises(DeliveryFailed) as caught:
            await asker.remote.post(connection.entry.key, b"hi")

        assert not caught.value.may_duplicate

    async def test_nobody_receives_and_the_owner_is_dead(self, nodes: Nodes) -> None:
        owner, asker = await nodes.start(), await nodes.start()
        connection = owner.connect()
        await owner.bus.close()
        nodes.facts.live.clear()

        with pytest.raises(Gone):
            await asker.remote.post(connection.entry.key, b"hi")
        nodes.facts.is_whole = False
        with pytest.raises(DeliveryFailed) as caught:
            await asker.remote.post(connection.entry.key, b"hi")
        assert not caught.value.may_duplicate

    async def test_the_owner_gets_it_and_does_not_answer_in_time(self, nodes: Nodes) -> None:
        owner = await nodes.start()
        asker = await nodes.start(BusLimits(delivery_timeout_s=0.05))
        connection = owner.connect()
        gate = asyncio.Event()
        owner.callbacks = Slow(owner.callbacks, gate)

        with pytest.raises(Unanswered) as caught:
            await asker.remote.post(connection.entry.key, b"hi")
        gate.set()
        await until(lambda: asker.bus.counts.replies_late)

        assert caught.value.may_duplicate
        assert connection.sent == [b"hi"]

    async def test_the_owner_is_of_another_version(
        self, nodes: Nodes, shared_server: valkey.Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        owner = await nodes.start()
        asker = await nodes.start(BusLimits(delivery_timeout_s=0.05))
        connection = owner.connect()
        # Pings are what both versions are to have in common here.
        monkeypatch.setattr("wsgateway.cluster.bus.wire_form.encode_command", next_version)

        with pytest.raises(Unanswered):
            await asker.remote.post(connection.entry.key, b"hi")

        await until(lambda: owner.bus.counts.unknown_version)
        assert owner.bus.counts.unknown_version == 1
        assert connection.sent == []

    async def test_what_others_publish_is_refused_and_counted(
        self, nodes: Nodes, shared_server: valkey.Server
    ) -> None:
        owner = await nodes.start()
        inbox = KEYS.inbox(owner.tag)

        for nonsense in (b"", b"\x80\x04\x95.", b"\x01\xff" * 20, b"x" * (2 * MESSAGE_SIZE_MAX)):
            await asyncio.to_thread(shared_server.ask, "PUBLISH", inbox, nonsense)
        await until(lambda: owner.bus.counts.unreadable + owner.bus.counts.unknown_version == 4)

        assert owner.bus.subscription.lost_count == 0

    async def test_what_is_far_too_large_is_not_even_taken_in(
        self, nodes: Nodes, shared_server: valkey.Server
    ) -> None:
        owner = await nodes.start()

        size = 100 * MESSAGE_SIZE_MAX
        with capture_logs() as logs:
            await asyncio.to_thread(shared_server.ask, "PUBLISH", KEYS.inbox(owner.tag), "x" * size)
            await owner.lost()

        assert "a message of more than a node writes" in reason_of_loss(logs)
        await owner.healthy()


class Slow:
    """Callbacks that wait."""

    def __init__(self, callbacks: Callbacks, gate: asyncio.Event) -> None:
        self._callbacks = callbacks
        self._gate = gate

    async def post(self, key: ConnectionKey, payload: bytes) -> None:
        await self._gate.wait()
        await self._callbacks.post(key, payload)

    async def get(self, key: ConnectionKey) -> ConnectionInfo:
        return await self._callbacks.get(key)

    async def delete(self, key: ConnectionKey) -> None:
        await self._callbacks.delete(key)


def next_version(command: object) -> bytes:
    return b"\x02 whatever this may be"


class TestOrder:
    async def test_sequential_posts_arrive_in_order(self, nodes: Nodes) -> None:
        owner = await nodes.start()
        askers = [await nodes.start(), await nodes.start()]
        connection = owner.connect()
        payloads = [b"%d" % number for number in range(200)]

        for number, payload in enumerate(payloads):
            await askers[number % 2].remote.post(connection.entry.key, payload)

        assert connection.sent == payloads

    async def test_posts_of_one_turn_share_a_write(self, nodes: Nodes) -> None:
        owner, asker = await nodes.start(), await nodes.start()
        connections = [owner.connect() for _ in range(100)]

        await asyncio.gather(
            *(asker.remote.post(c.entry.key, b"%d" % n) for n, c in enumerate(connections))
        )

        assert [c.sent for c in connections] == [[b"%d" % n] for n in range(100)]


class TestRedisTrouble:
    async def test_the_subscribers_connection_is_killed(
        self, frail: Nodes, server: valkey.Server
    ) -> None:
        owner, asker = await frail.start(), await frail.start()
        connection = owner.connect()

        await asyncio.to_thread(server.kill_subscribers)
        await owner.lost()
        await flows(asker, connection)

        assert owner.bus.subscription.lost_count == 1

    async def test_only_the_publishers_connections_are_killed(
        self, frail: Nodes, server: valkey.Server
    ) -> None:
        owner, asker = await frail.start(), await frail.start()
        connection = owner.connect()

        await asyncio.to_thread(server.ask, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await flows(asker, connection)

        assert owner.bus.subscription.lost_count == asker.bus.subscription.lost_count == 0

    @pytest.mark.slow
    async def test_redis_is_restarted_empty(self, frail: Nodes, server: valkey.Server) -> None:
        owner, asker = await frail.start(), await frail.start()
        connection = owner.connect()

        await asyncio.to_thread(server.kill)
        await asker.lost()
        with pytest.raises(NotSent) as caught:
            await asker.remote.post(connection.entry.key, b"lost")
        assert not caught.value.may_duplicate
        await asyncio.to_thread(server.start)
        await flows(asker, connection)

        assert connection.sent == [b"again"]

    @pytest.mark.slow
    async def test_redis_is_paused(self, frail: Nodes, server: valkey.Server) -> None:
        owner = await frail.start()
        asker = await frail.start(BusLimits(delivery_timeout_s=0.2))
        connection = owner.connect()

        server.pause()
        with pytest.raises(DeliveryFailed) as caught:
            await asker.remote.post(connection.entry.key, b"late")
        assert caught.value.may_duplicate
        # Nothing but the ping tells.
        await asker.lost()
        await owner.lost()
        assert asker.bus.subscription.problem.startswith(f"no ping within {PING_INTERVAL_S:g} s")
        with pytest.raises(NotSent):
            await asker.remote.post(connection.entry.key, b"not sent")
        server.resume()
        await owner.healthy()
        await flows(asker, connection)

        assert b"not sent" not in connection.sent

    @pytest.mark.slow
    async def test_redis_is_slow_and_nothing_grows(
        self, frail: Nodes, server: valkey.Server
    ) -> None:
        owner = await frail.start()
        limits = BusLimits(delivery_timeout_s=0.2, calls_max=500, queue_size_max=MESSAGE_SIZE_MAX)
        asker = await frail.start(limits)
        connection = owner.connect()
        server.pause()

        async def post(size: int) -> type[BaseException] | None:
            try:
                await asker.remote.post(connection.entry.key, b"x" * size)
            except (DeliveryFailed, LimitExceeded) as error:
                return type(error)
            return None

        small = set(await asyncio.gather(*(post(1) for _ in range(1000))))
        large = set(await asyncio.gather(*(post(100_000) for _ in range(200))))

        assert small == {Unanswered, TooManyCalls}
        assert TooManyCalls in large
        assert asker.bus.calls_under_way == 0
        server.resume()
        await owner.healthy()
        await flows(asker, connection)

    @pytest.mark.slow
    async def test_the_output_buffer_of_a_slow_receiver_is_killed(self) -> None:
        with valkey.Server(valkey.cutting_off_at("1mb")) as server:
            nodes = Nodes(server.url)
            owner, asker = await nodes.start(), await nodes.start()
            connection = owner.connect()
            inbox = KEYS.inbox(owner.tag)

            # The loop stands still meanwhile, as a node does that is busy for too long.
            with Redis(port=server.port) as client:
                while client.pubsub_numsub(inbox) == [(inbox.encode(), 1)]:
                    pipeline = client.pipeline(transaction=False)
                    for _ in range(100):
                        pipeline.publish(inbox, "x" * 100_000)
                    pipeline.execute()
            await owner.lost()
            await flows(asker, connection)

            assert owner.bus.subscription.lost_count == 1
            assert owner.bus.counts.unknown_version > 0
            await nodes.close()

    @pytest.mark.slow
    async def test_redis_is_down_at_the_start(self) -> None:
        server = valkey.Server()
        nodes = Nodes(server.url)
        with pytest.raises(Unreachable, match="Connect"):
            await check(parse_location(server.url), TIMEOUTS, client_name="wsgateway")
        peer = Peer(parse_location(server.url), nodes.facts, BusLimits())
        nodes.all.append(peer)
        peer.bus.start()
        await until(lambda: "127.0.0.1" in peer.bus.subscription.problem)

        with server:
            await peer.healthy()
            greeting = await check(parse_location(server.url), TIMEOUTS, client_name="wsgateway")
            await nodes.close()

        assert (greeting.mode, greeting.role) == ("standalone", "master")

    async def test_closed_it_leaves_nothing_in_redis(
        self, frail: Nodes, server: valkey.Server
    ) -> None:
        owner, asker = await frail.start(), await frail.start()
        await asker.remote.post(owner.connect().entry.key, b"hi")

        await frail.close()
        clients = await asyncio.to_thread(server.ask, "CLIENT", "LIST")

        assert b"name=wsgateway" not in bytes(clients)  # type: ignore[call-overload]


class TestSecurity:
    async def test_a_user_with_few_rights(self) -> None:
        user = "gateway on >s3cret resetchannels &wsgateway:* +hello +publish +subscribe"
        with valkey.Server({"user": user}) as server:
            url = f"redis://gateway:s3cret@127.0.0.1:{server.port}"
            nodes = Nodes(url)
            owner, asker = await nodes.start(), await nodes.start()
            connection = owner.connect()

            await asker.remote.post(connection.entry.key, b"hi")
            await nodes.close()

            assert connection.sent == [b"hi"]
            with pytest.raises(Unreachable, match="WRONGPASS"):
                await check(
                    parse_location(f"redis://gateway:wrong@127.0.0.1:{server.port}"),
                    TIMEOUTS,
                    client_name="wsgateway",
                )

    async def test_a_unix_socket(self, tmp_path: Path) -> None:
        path = tmp_path / "redis.sock"
        with valkey.Server({"unixsocket": str(path)}):
            nodes = Nodes(f"unix://{path}?db=1")
            owner, asker = await nodes.start(), await nodes.start()
            connection = owner.connect()
            client = make_client(nodes.location, timeouts=TIMEOUTS)

            await asker.remote.post(connection.entry.key, b"hi")
            assert await client.ping() is True

            await client.aclose()
            await nodes.close()
            assert connection.sent == [b"hi"]

    async def test_what_is_no_redis(self) -> None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            writer.close()

        async with await asyncio.start_server(answer, "127.0.0.1", 0) as other:
            port = other.sockets[0].getsockname()[1]
            with pytest.raises(Unreachable):
                await check(
                    parse_location(f"redis://127.0.0.1:{port}"), TIMEOUTS, client_name="wsgateway"
                )

    async def test_a_client_for_keys(self, shared_server: valkey.Server) -> None:
        client = make_client(parse_location(shared_server.url), timeouts=TIMEOUTS)

        assert await client.set("wsgateway:key", "value") is True
        assert await client.get("wsgateway:key") == b"value"
        await client.aclose()
