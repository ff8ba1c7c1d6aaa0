"""What a URL of Redis means, and clients that open nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from redis.asyncio import BlockingConnectionPool, Redis, RedisCluster
from redis.asyncio.sentinel import SentinelConnectionPool

from wsgateway.cluster.connect import (
    Address,
    Credentials,
    Location,
    Timeouts,
    Topology,
    make_client,
    parse_location,
)

if TYPE_CHECKING:
    from pathlib import Path

NOBODY = Credentials()


class TestForms:
    @pytest.mark.parametrize(
        ("url", "location"),
        [
            ("redis://redis", Location(Topology.SINGLE, (Address("redis", 6379),), NOBODY)),
            (
                "redis://gateway:s%40cret@[::1]:7000/3",
                Location(
                    Topology.SINGLE, (Address("::1", 7000),), Credentials("gateway", "s@cret"), 3
                ),
            ),
            (
                "redis://:secret@redis:6379/",
                Location(Topology.SINGLE, (Address("redis", 6379),), Credentials(None, "secret")),
            ),
            (
                "unix:///run/redis.sock",
                Location(Topology.SINGLE, (Address("/run/redis.sock", 0),), NOBODY),
            ),
            (
                "unix://gateway:secret@/run/redis.sock?db=2",
                Location(
                    Topology.SINGLE,
                    (Address("/run/redis.sock", 0),),
                    Credentials("gateway", "secret"),
                    2,
                ),
            ),
            (
                "redis+cluster://one:7001,two,[::1]:7003/0",
                Location(
                    Topology.CLUSTER,
                    (Address("one", 7001), Address("two", 6379), Address("::1", 7003)),
                    NOBODY,
                ),
            ),
            (
                "redis+sentinel://g:pw@one,two:26380/mymaster/1?sentinel_user=s&sentinel_password=t",
                Location(
                    Topology.SENTINEL,
                    (Address("one", 26379), Address("two", 26380)),
                    Credentials("g", "pw"),
                    1,
                    service="mymaster",
                    sentinel_credentials=Credentials("s", "t"),
                ),
            ),
        ],
    )
    def test_a_location_is_read(self, url: str, location: Location) -> None:
        assert parse_location(url) == location

    def test_tls_checks_the_server(self) -> None:
        tls = parse_location("rediss+cluster://one").tls

        assert tls is not None
        assert tls.context.check_hostname

    def test_settings_come_before_the_url(self) -> None:
        location = parse_location("redis://a:b@redis", username="gateway", password="secret")

        assert location.credentials == Credentials("gateway", "secret")

    @pytest.mark.parametrize(
        "url",
        [
            "redis://g:secret@redis:7000/3",
            "unix://g:secret@/run/redis.sock",
            "redis+cluster://g:secret@one:7001,two:7002",
            "redis+sentinel://g:secret@one:7001/mymaster?sentinel_password=secret",
        ],
    )
    def test_no_password_is_shown(self, url: str) -> None:
        location = parse_location(url)

        assert "secret" not in f"{location} {location!r}"


class TestFaults:
    @pytest.mark.parametrize(
        ("url", "problem"),
        [
            ("", r"no scheme:// is not known; write redis://"),
            ("localhost:6379", r"localhost:// is not known; write redis://"),
            ("http://redis", r"http:// is not known"),
            ("unix+cluster:///run/redis.sock", r"is not known"),
            ("redis+other://redis", r"is not known"),
            ("redis://", r"nothing is no host and port; write host:6379"),
            ("redis://redis:port", r"redis:port is no host and port"),
            ("redis://redis:0", r"is no host and port"),
            ("redis://[::1", r"not a URL"),
            ("redis://redis/x", r"x is not the number of a database"),
            ("redis://redis/0/1", r"the path is the number of a database"),
            ("redis://one,two", r"several hosts .* write redis\+cluster://"),
            ("redis://secret@redis", r"the user has no password; write user:password@"),
            ("redis://redis?ssl=true", r"\?ssl is not known here; leave it away"),
            ("redis://:a#b@redis", r"no #; write it as %23"),
            ("redis+cluster://one/1", r"a cluster has database 0 only"),
            ("redis+sentinel://one", r"sentinels need the name of the master"),
            ("redis+sentinel://one/m?x=1", r"there is sentinel_password, sentinel_user"),
            ("redis+sentinel://one/m?sentinel_user=x", r"the sentinels' user has no password"),
            ("unix://run/redis.sock", r"a Unix socket is an absolute path"),
        ],
    )
    def test_what_is_wrong_is_said_with_its_remedy(self, url: str, problem: str) -> None:
        with pytest.raises(ValueError, match=problem):
            parse_location(url)

    def test_no_message_tells_the_password(self) -> None:
        for url in (
            "redis://g:secret@redis:port",
            "http://g:secret@redis",
            "redis://g:secret@[::1",
        ):
            with pytest.raises(ValueError, match=r".") as caught:
                parse_location(url)
            assert "secret" not in str(caught.value)

    def test_certificates_need_tls(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"write rediss://"):
            parse_location("redis://redis", ca_file=tmp_path / "ca.pem")

    def test_files_that_cannot_be_used(self, tmp_path: Path) -> None:
        file = tmp_path / "no.pem"
        with pytest.raises(ValueError, match=r"no.pem cannot be used"):
            parse_location("rediss://redis", ca_file=file)
        with pytest.raises(ValueError, match="name both"):
            parse_location("rediss://redis", certificate=file)
        with pytest.raises(ValueError, match=r"no.pem and .* cannot be used"):
            parse_location("rediss://redis", certificate=file, key=file)


class TestClients:
    async def test_a_bounded_pool_that_repeats_nothing(self) -> None:
        client = make_client(
            parse_location("redis://g:pw@redis:7000/3"),
            connections_max=5,
            timeouts=Timeouts(1.5, 2.5),
        )

        assert isinstance(client, Redis)
        pool = client.connection_pool
        assert isinstance(pool, BlockingConnectionPool)
        assert (pool.max_connections, pool.timeout) == (5, 2.5)
        connection = pool.make_connection()  # type: ignore[no-untyped-call]
        assert connection.retry.get_retries() == 0
        assert (connection.socket_timeout, connection.socket_connect_timeout) == (2.5, 1.5)
        assert (connection.username, connection.password, connection.db) == ("g", "pw", 3)
        await client.aclose()

    async def test_tls_and_unix_sockets(self) -> None:
        for url, kind in (
            ("rediss://redis", "SSLConnection"),
            ("unix:///run/redis.sock", "UnixDomainSocketConnection"),
        ):
            client = make_client(parse_location(url))
            assert isinstance(client, Redis)
            assert client.connection_pool.connection_class.__name__ == kind
            await client.aclose()

    async def test_a_cluster(self) -> None:
        client = make_client(parse_location("redis+cluster://one:7001,two:7002"))

        assert isinstance(client, RedisCluster)
        nodes = client.nodes_manager.startup_nodes
        assert sorted(nodes) == ["one:7001", "two:7002"]
        assert client.retry.get_retries() == 0
        await client.aclose()

    async def test_sentinels(self) -> None:
        client = make_client(parse_location("redis+sentinel://one/mymaster/1"), connections_max=5)

        assert isinstance(client, Redis)
        pool = client.connection_pool
        assert isinstance(pool, SentinelConnectionPool)
        assert (pool.service_name, pool.max_connections) == ("mymaster", 5)
        await client.aclose()
