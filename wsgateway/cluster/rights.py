"""What is a node's user in Redis not allowed? Tried before a node relies on it.

A user that may connect and not publish makes a node that seems to run and that no other one
reaches; one that may write and not remove makes one that fills Redis.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from wsgateway.cluster.link import Refused

if TYPE_CHECKING:
    from wsgateway.cluster.link import Link

# What the scripts of `redis_store` do, and what it sends besides them, on a key of nobody's. It is
# one script, so that nothing is left behind, or for seconds where nothing may be removed.
_TRY_EACH = b"""
local lacking = {}
for _, command in ipairs({
  {'HSET', KEYS[1], 'f', '1'}, {'EXPIRE', KEYS[1], '5'}, {'HINCRBY', KEYS[1], 'f', '1'},
  {'HGET', KEYS[1], 'f'}, {'HMGET', KEYS[1], 'f'}, {'HEXISTS', KEYS[1], 'f'}, {'HLEN', KEYS[1]},
  {'HSCAN', KEYS[1], '0'}, {'HDEL', KEYS[1], 'f'}, {'EXISTS', KEYS[1]}, {'DEL', KEYS[1]},
  {'SADD', KEYS[1], 'm'}, {'EXPIRE', KEYS[1], '5'}, {'SMEMBERS', KEYS[1]}, {'SREM', KEYS[1], 'm'},
}) do
  local answer = redis.pcall(unpack(command))
  if type(answer) == 'table' and answer.err then
    table.insert(lacking, command[1])
    table.insert(lacking, answer.err)
  end
end
return lacking
"""
_NO_SCRIPT = b"0" * 40
# What Redis 7.0, and later ones and Valkey, say of a command in a script. Other errors are of other
# kinds, such as those of a server that is full.
_SAID_IN_SCRIPTS = "can't run this command", "ACL failure"


async def lacking(link: Link, inbox: bytes, *, client_name: str, sharded: bool) -> list[str]:
    """Return the rights that the user of a link lacks, as `ACL SETUSER` has them.

    Args:
        link: To the server that holds the inbox; it is of no more use for anything else.
        inbox: Of nobody; a key of that name is used too.
        client_name: What `CLIENT LIST` shows.
        sharded: Whether channels belong to slots.

    Raises:
        LinkLost: There was no answer.
    """
    shard = b"s" if sharded else b""
    commands = (
        (b"eval", _TRY_EACH, b"1", inbox),
        (b"evalsha", _NO_SCRIPT, b"1", inbox),
        (b"client", b"setname", client_name.encode()),
        (shard + b"publish", inbox, b""),
        (shard + b"subscribe", inbox),
    )
    # All at once: a server that is far away answers them in the time of one.
    asked = (link.ask(*command) for command in commands)
    answers = await asyncio.gather(*asked, return_exceptions=True)
    rights: list[str] = []
    for command, answer in zip(commands, answers, strict=True):
        match answer:
            case Refused(code="NOPERM"):
                rights.append(_right(command, str(answer), inbox))
            case Refused():
                # That a slot moves, or that there is no such script.
                continue
            case BaseException():
                raise answer
            case list() if command[0] == b"eval":
                rights += _tried(answer)
    return list(dict.fromkeys(rights))


def _right(command: tuple[bytes, ...], said: str, inbox: bytes) -> str:
    """Return what was missing: the command, or the name that it was about."""
    if "to run" in said:
        name = b"|".join(command[:2]) if command[0] == b"client" else command[0]
        return f"+{name.decode()}"
    return f"{'&' if 'channel' in said else '~'}{inbox.decode()}"


def _tried(answer: list[object]) -> list[str]:
    pairs = zip(answer[::2], answer[1::2], strict=True)
    return [
        f"+{name.decode().lower()}"
        for name, said in pairs
        if isinstance(name, bytes)
        and isinstance(said, bytes)
        and any(words in said.decode(errors="replace") for words in _SAID_IN_SCRIPTS)
    ]
