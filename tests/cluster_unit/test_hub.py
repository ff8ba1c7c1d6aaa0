"""The table of open connections, and what a post comes to."""

from __future__ import annotations

import pytest

from tests.fakes import FakeConnection
from wsgateway.cluster.hub import Hub
from wsgateway.cluster.node import Node
from wsgateway.cluster.registry import MemoryRegistry
from wsgateway.connection import ConnectionEntry, ConnectionKey
from wsgateway.contracts import ConnectionInfo
from wsgateway.errors import Gone, LimitExceeded

CONNECTION_ID = "AQIDEBESExQCFRY="
KEY = ConnectionKey("abcde12345", "dev", CONNECTION_ID)


def connection(key: ConnectionKey = KEY) -> FakeConnection:
    return FakeConnection(
        ConnectionEntry(
            key=key,
            connected_at_ms=1708326702789,
            domain_name="localhost",
            source_ip="192.0.2.10",
            user_agent="client/1.0",
        )
    )


class TestHub:
    def test_a_connection_is_found_by_its_whole_key(self) -> None:
        hub, open_here = Hub(), connection()
        hub.add(open_here)

        assert hub.find(KEY) is open_here
        assert KEY in hub
        for other in (
            KEY._replace(api_id="other"),
            KEY._replace(stage="prod"),
            KEY._replace(connection_id="AQIDEBESExQCFRc="),
        ):
            assert hub.find(other) is None
            assert other not in hub

    def test_an_id_with_other_spare_bits_is_another_connection(self) -> None:
        """`RY=` and `RZ=` are the same bytes; ids are compared as the strings they are."""
        hub = Hub()
        hub.add(connection())

        assert hub.find(KEY._replace(connection_id="AQIDEBESExQCFRZ=")) is None

    def test_a_connection_can_be_discarded_twice(self) -> None:
        hub = Hub()
        hub.add(connection())

        hub.discard(KEY)
        hub.discard(KEY)

        assert hub.find(KEY) is None
        assert len(hub) == 0

    def test_a_snapshot_stays_as_it_is(self) -> None:
        hub, one = Hub(), connection()
        other = connection(KEY._replace(stage="prod"))
        hub.add(one)
        hub.add(other)

        snapshot = hub.snapshot()
        hub.discard(KEY)

        assert snapshot == [one, other]
        assert len(hub) == 1


class TestNode:
    async def test_post_hands_the_payload_to_the_connection(self) -> None:
        hub, open_here = Hub(), connection()
        hub.add(open_here)

        await Node(hub).post(KEY, b"hi")
        await Node(hub).post(KEY, b"")

        assert open_here.sent == [b"hi", b""]

    async def test_get_tells_what_the_connection_knows(self) -> None:
        hub = Hub()
        hub.add(connection())

        assert await Node(hub).get(KEY) == ConnectionInfo(
            connected_at_ms=1708326702789,
            last_active_at_ms=1708326705758,
            source_ip="192.0.2.10",
            user_agent="client/1.0",
        )

    async def test_delete_closes_with_1000(self) -> None:
        hub, open_here = Hub(), connection()
        hub.add(open_here)

        await Node(hub).delete(KEY)

        assert open_here.closed == (1000, "Connection Closed Normally")

    async def test_a_connection_that_is_not_open_is_gone(self) -> None:
        node = Node(Hub())

        with pytest.raises(Gone):
            await node.post(KEY, b"hi")
        with pytest.raises(Gone):
            await node.get(KEY)
        with pytest.raises(Gone):
            await node.delete(KEY)

    @pytest.mark.parametrize("refusal", [Gone(), LimitExceeded()], ids=repr)
    async def test_what_the_connection_refuses_is_refused(
        self, refusal: Gone | LimitExceeded
    ) -> None:
        hub, open_here = Hub(), connection()
        open_here.refusal = refusal
        hub.add(open_here)

        with pytest.raises(type(refusal)):
            await Node(hub).post(KEY, b"hi")


class TestMemoryRegistry:
    async def test_a_connection_can_be_claimed_once(self) -> None:
        registry = MemoryRegistry()
        await registry.add(connection().entry)

        assert await registry.claim(KEY, "one") is True
        assert await registry.claim(KEY, "other") is False

    async def test_a_connection_that_was_never_added_cannot_be_claimed(self) -> None:
        registry = MemoryRegistry()
        await registry.add(connection().entry)

        assert await registry.claim(KEY._replace(stage="prod"), "one") is False
        assert await registry.claim(KEY, "one") is True
