"""What servers say to a user who may not, and what a node makes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cluster_unit.test_connect_servers import INBOX, TIMEOUTS, at, hello, server
from wsgateway.cluster.connect import Timeouts
from wsgateway.cluster.link import Unreachable, pack
from wsgateway.cluster.servers import check

if TYPE_CHECKING:
    from collections.abc import Mapping

INBOX_NAME = INBOX.decode()
# As of Redis 7.0.15 and of Valkey 9.1.2.
RUN_70 = "-NOPERM this user has no permissions to run the '{}' command\r\n"
RUN_91 = "-NOPERM User u has no permissions to run the '{}' command\r\n"
KEY_70 = "-NOPERM this user has no permissions to access one of the keys used as arguments\r\n"
KEY_91 = "-NOPERM No permissions to access a key\r\n"
CHANNEL_70 = (
    "-NOPERM this user has no permissions to access one of the channels used as arguments\r\n"
)
CHANNEL_91 = "-NOPERM No permissions to access a channel\r\n"
SCRIPT_70 = b"ERR The user executing the script can't run this command or subcommand"
SCRIPT_91 = b"ERR ACL failure in script: User u has no permissions to run the 'hdel' command"
USUAL = {
    "eval": "*0\r\n",
    "evalsha": "-NOSCRIPT No matching script. Please use EVAL.\r\n",
    "client": "+OK\r\n",
    "publish": ":0\r\n",
    "subscribe": f"*3\r\n$9\r\nsubscribe\r\n${len(INBOX)}\r\n{INBOX_NAME}\r\n:1\r\n",
}


async def told(answers: Mapping[str, str | None], timeouts: Timeouts = TIMEOUTS) -> str:
    """Return what a node says that gets these answers; nothing if it is content."""

    def answer(command: list[bytes]) -> bytes | None:
        name = command[0].decode().lower()
        if name == "hello":
            return hello()
        said = {**USUAL, **answers}[name]
        return None if said is None else said.encode()

    async with server(answer) as address:
        try:
            await check(at(address), timeouts, client_name="wsgateway", inbox=INBOX)
        except Unreachable as error:
            return str(error).removeprefix(f"{address}: ")
    return ""


@pytest.mark.parametrize(
    ("answers", "lacking"),
    [
        ({"publish": RUN_70.format("publish")}, "+publish"),
        ({"publish": RUN_91.format("publish")}, "+publish"),
        ({"client": RUN_70.format("client|setname")}, "+client|setname"),
        ({"evalsha": RUN_91.format("evalsha")}, "+evalsha"),
        ({"eval": KEY_70, "evalsha": KEY_70}, f"~{INBOX_NAME}"),
        ({"eval": KEY_91, "evalsha": KEY_91}, f"~{INBOX_NAME}"),
        ({"publish": CHANNEL_70, "subscribe": CHANNEL_70}, f"&{INBOX_NAME}"),
        ({"publish": CHANNEL_91, "subscribe": CHANNEL_91}, f"&{INBOX_NAME}"),
        ({"eval": pack([b"HDEL", SCRIPT_70, b"DEL", SCRIPT_70]).decode()}, "+hdel, +del"),
        ({"eval": pack([b"HDEL", SCRIPT_91]).decode()}, "+hdel"),
        (
            {"eval": RUN_70.format("eval"), "subscribe": RUN_70.format("subscribe")},
            "+eval, +subscribe",
        ),
    ],
)
async def test_what_is_missing_is_told_as_one_grants_it(
    answers: dict[str, str | None], lacking: str
) -> None:
    assert await told(answers) == (
        f"the user lacks {lacking}; docs/scaling.md has what a node needs"
    )


@pytest.mark.parametrize(
    "answers",
    [
        {},
        {"publish": "-MOVED 1 127.0.0.1:7001\r\n"},
        {"eval": "-OOM command not allowed when used memory > 'maxmemory'.\r\n"},
        {"eval": pack([b"HSET", b"OOM command not allowed"]).decode()},
    ],
)
async def test_what_has_nothing_to_do_with_rights_passes(answers: dict[str, str | None]) -> None:
    assert await told(answers) == ""


async def test_a_server_that_says_nothing_of_them_is_not_reached() -> None:
    assert "ended" in await told({"subscribe": None})
    short = Timeouts(connect_s=2.0, answer_s=0.1)
    assert await told({"subscribe": ""}, short) == "no answer within 0.1 s"
