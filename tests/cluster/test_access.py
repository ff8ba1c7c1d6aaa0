"""Who may use Redis, and how it is reached: a user with few rights, TLS."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from asyncio.subprocess import PIPE
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from redis import Redis
from redis.exceptions import NoPermissionError

from tests.cluster.nodes import DEADLINE_S, GOING_AWAY, GONE, OK, SETTINGS, Fleet, once
from tests.cluster.proxies import tls_server
from tests.cluster.valkey import cluster, tls_binary, version
from tests.e2e.process import COMMAND, bare_environ, until, write_app
from tests.listener.certificate import make_certificate
from wsgateway.cluster.connect import Timeouts, parse_location
from wsgateway.cluster.link import Unreachable
from wsgateway.cluster.servers import check

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.cluster.valkey import Server

pytestmark = [pytest.mark.slow, pytest.mark.redis, pytest.mark.timeout(120)]

DOCUMENT = Path(__file__).parents[2] / "docs" / "scaling.md"
OPERATOR_FAULT = 2
Protected = tuple[str, list["Server"], dict[str, str]]
# redis-py asks for it when it joins a cluster.
NOT_TRIED = {"command"}


# --- as docs/scaling.md says


def documented_user(*, clustered: bool) -> list[str]:
    """Return the command of docs/scaling.md that makes a user, for one server or for a cluster's."""
    commands = re.findall(r"^ACL SETUSER .*$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    [command] = [each for each in commands if ("+spublish" in each) == clustered]
    return str(command).split()


def credentials(command: list[str]) -> dict[str, str]:
    [password] = [part[1:] for part in command if part.startswith(">")]
    return {"redis_username": command[2], "redis_password": password}


def protect(servers: list[Server], command: list[str]) -> None:
    """Let nobody in but this user, and who asks on the test's behalf."""
    for server in servers:
        server.ask(*command)
        server.ask("ACL", "SETUSER", "admin", "on", ">of the test", "~*", "&*", "+@all")
        server.admin = "admin", "of the test"
        server.ask("ACL", "SETUSER", "default", "off")
        server.ask("ACL", "LOG", "RESET")


@pytest.fixture(params=["one server", "cluster"])
def protected(
    request: pytest.FixtureRequest,
) -> Iterator[Protected]:
    """A Redis with the user of docs/scaling.md: its URL, its servers, and the settings for it."""
    with ExitStack() as stack:
        if request.param == "cluster":
            group = stack.enter_context(cluster(replicated=False))
            url, servers = group.url, group.masters
        else:
            server = request.getfixturevalue("valkey")
            url, servers = server.url, [server]
        command = documented_user(clustered=request.param == "cluster")
        protect(servers, command)
        yield url, servers, credentials(command)


async def test_the_documented_user_may_do_all_that_a_node_does_and_nothing_else_is_tried(
    tmp_path: Path, protected: Protected
) -> None:
    url, servers, settings = protected
    ids = {"api_id": SETTINGS["api_id"], "stage": "dev", "redis": url}

    async with Fleet(tmp_path, url, settings=settings) as fleet:
        survivor, victim = await fleet.start(2)
        kept, lost = await fleet.connect(survivor, 20), await fleet.connect(victim, 20)
        for through, clients in ((survivor, lost), (victim, kept)):
            assert await fleet.post_each(through, clients, "hello") == {OK: 20}
            callback = f"{through.process.callback_url}/@connections/{clients[0].connection_id}"
            async with fleet.session.get(callback) as response:
                assert (response.status, "connectedAt" in await response.json()) == (OK, True)
            async with fleet.session.delete(callback) as response:
                assert response.status == 204
            await clients[1].connection.close()
            assert len(await fleet.told_of(clients[:2])) == 2
        kept, lost = kept[2:], lost[2:]

        assert await command(tmp_path, "count", **ids, **settings) == (0, "36\n", "")
        code, output, errors = await command(tmp_path, "list", "--json", **ids, **settings)
        listed = {json.loads(line)["connectionId"] for line in output.splitlines()}
        assert (code, errors) == (0, "")
        assert listed == {client.connection_id for client in [*kept, *lost]}
        closed = kept.pop().connection_id
        code, output, errors = await command(tmp_path, "close", closed, **ids, **settings)
        assert (code, output, errors) == (0, f"{closed} is closed\n", "")

        victim.process.signal(signal.SIGKILL)
        fleet.remove(victim)
        assert once(await fleet.told_of(lost), lost)
        await until(lambda: fleet.answers(survivor, lost[0], GONE), DEADLINE_S)
        await until(lambda: _is_count(tmp_path, f"{len(kept)}\n", **ids, **settings), DEADLINE_S)

        survivor.process.signal(signal.SIGTERM)
        assert {await client.close_code() for client in kept} == {GOING_AWAY}
        assert await survivor.process.ended(DEADLINE_S) == 0
        assert once(await fleet.told_of(kept), kept)
        assert survivor.complaints == []

    assert [server.ask("ACL", "LOG") for server in servers] == [[]] * len(servers)
    # What is not allowed would stand there.
    for server in servers:
        name, password = settings["redis_username"], settings["redis_password"]
        client = Redis(port=server.port, username=name, password=password)
        with client, pytest.raises(NoPermissionError):
            client.flushall()
        assert server.ask("ACL", "LOG") != []


async def _is_count(folder: Path, output: str, **variables: object) -> bool:
    return (await command(folder, "count", **variables))[1] == output


async def command(folder: Path, *arguments: str, **settings: object) -> tuple[int, str, str]:
    """Run `wsgateway connections`, and return exit code, output and errors."""
    return await run(folder, "connections", *arguments, settings=settings)


async def run(
    folder: Path, *arguments: str, settings: Mapping[str, object]
) -> tuple[int, str, str]:
    variables = {f"WSGATEWAY_{name.upper()}": str(value) for name, value in settings.items()}
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        *arguments,
        stdout=PIPE,
        stderr=PIPE,
        cwd=folder,
        env=bare_environ(folder) | variables,
    )
    try:
        async with asyncio.timeout(DEADLINE_S):
            output, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, output.decode(), errors.decode()


# --- what is refused at the start


async def refusal(folder: Path, url: str, **settings: object) -> str:
    """Start a gateway that gives up, and return the one line that says why."""
    app = write_app(folder / "refused", {"default.py": "def handler(event, context): ..."})
    settings = {**SETTINGS, "redis_timeout_s": DEADLINE_S / 3, **settings}
    code, output, errors = await run(
        folder, "serve", str(app), "--port", "0", "--redis", url, settings=settings
    )
    assert (code, output) == (OPERATOR_FAULT, ""), errors
    [line] = errors.splitlines()
    return line


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"redis_password": "wrong"}, "WRONGPASS"),
        ({"redis_username": "nobody"}, "WRONGPASS"),
        ({"redis_username": "", "redis_password": ""}, "NOAUTH"),
        ({"redis_prefix": "elsewhere"}, "the user lacks ~elsewhere:"),
    ],
)
async def test_who_is_not_let_in_is_told_at_the_start(
    tmp_path: Path,
    protected: Protected,
    settings: dict[str, object],
    told: str,
) -> None:
    url, _, known = protected

    line = await refusal(tmp_path, url, **{**known, **settings})

    assert line.startswith("--redis: ")
    assert told in line
    assert "secret" not in line


@pytest.mark.parametrize("right", ["publish", "evalsha", "hdel", "~", "&"])
async def test_a_right_that_is_missing_is_told_at_the_start(
    tmp_path: Path, protected: Protected, right: str
) -> None:
    url, servers, settings = protected
    if right == "publish" and len(servers) > 1:
        right = "spublish"
    take(servers, settings["redis_username"], right)

    line = await refusal(tmp_path, url, **settings)

    assert line.startswith("--redis: 127.0.0.1:")
    assert line.endswith("; docs/scaling.md has what a node needs")
    lacking = f"{right}wsgateway:abcde12345:{{00000000}}:inbox" if len(right) == 1 else f"+{right}"
    assert f"the user lacks {lacking};" in line


async def test_each_of_the_documented_rights_is_missed(
    protected: Protected,
) -> None:
    url, servers, settings = protected
    command = documented_user(clustered=len(servers) > 1)
    user = command[2]
    location = parse_location(url, username=user, password=settings["redis_password"])
    timeouts = Timeouts(DEADLINE_S, DEADLINE_S)
    inbox = b"wsgateway:%s:{00000000}:inbox" % str(SETTINGS["api_id"]).encode()
    rights = [part[1:] for part in command if part.startswith("+")]
    assert len(rights) > 15

    for right in rights:
        if right in NOT_TRIED:
            continue
        take(servers, user, right)
        with pytest.raises(Unreachable, match=re.escape(right)):
            await check(location, timeouts, client_name="wsgateway", inbox=inbox)
        for server in servers:
            server.ask("ACL", "SETUSER", user, f"+{right}")

    await check(location, timeouts, client_name="wsgateway", inbox=inbox)
    assert [server.ask("DBSIZE") for server in servers] == [0] * len(servers)


def take(servers: list[Server], user: str, right: str) -> None:
    """Take a right from a user: a command, all keys, or all channels."""
    rules = {"~": ["resetkeys", "~elsewhere:*"], "&": ["resetchannels", "&elsewhere:*"]}
    for server in servers:
        server.ask("ACL", "SETUSER", user, *rules.get(right, [f"-{right}"]))


# --- TLS


async def test_nodes_reach_each_other_through_a_redis_that_speaks_tls(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    certificate, key = make_certificate(tmp_path)
    async with tls_server(certificate, key) as (server, port):
        # A handshake takes a busy machine longer than a quarter of the usual lease.
        settings = {"redis_ca_file": certificate, "lease_s": 4.0, "redis_timeout_s": 2.0}
        async with Fleet(tmp_path, f"rediss://127.0.0.1:{port}", settings=settings) as fleet:
            one, other = await fleet.start(2)
            clients = [*await fleet.connect(one, 10), *await fleet.connect(other, 10)]

            assert await fleet.post_each(one, clients, "hello") == {OK: 20}
            assert await fleet.post_each(other, clients, "hello") == {OK: 20}
            keys = server.ask("KEYS", "wsgateway:*:entries")
            assert isinstance(keys, list)
            assert [server.ask("HLEN", each) for each in keys] == [10, 10]
            await until(lambda: all(client.received == ["hello"] * 2 for client in clients))
            await fleet.settle()
    speaker = tls_binary()
    with capsys.disabled():
        by = f"spoken by {version(speaker)}" if speaker else "ended by a proxy: NO REAL TLS SERVER"
        print(f" [TLS {by}]", end="")  # noqa: T201 - what was tested


async def test_a_redis_whose_authority_is_unknown_is_refused_at_the_start(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    (tmp_path / "other").mkdir()
    other, _ = make_certificate(tmp_path / "other")
    async with tls_server(certificate, key) as (_, port):
        url = f"rediss://127.0.0.1:{port}"
        for settings in ({}, {"redis_ca_file": other}):
            line = await refusal(tmp_path, url, **settings)

            assert line.startswith("--redis: ")
            assert "certificate verify failed" in line
            assert "redis_ca_file" in line
