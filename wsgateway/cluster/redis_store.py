"""A `Store` on Redis 7 or Valkey, on one server or a cluster.

Each step is one Lua script over the keys of one tag, which share a slot. Scripts write by effects,
so replicas and append-only files hold what they did, not what they would do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from redis.asyncio import RedisCluster

from wsgateway.cluster.lane import Lane, Script
from wsgateway.cluster.store import (
    FENCE_TTL_S,
    Batch,
    Fence,
    Lease,
    Reading,
    Standing,
    Taken,
)
from wsgateway.connection_id import TAG_SIZE

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from wsgateway.cluster.keys import Keys
    from wsgateway.cluster.lane import Argument, Client
    from wsgateway.cluster.store import Hold, Session

# Lanes of a cluster: one per tag that entries are written under. More than a handful at once means
# that as many nodes died together.
_LANES_MAX = 64

# KEYS: lease, fence, entries. ARGV: holder.
_CLAIM_TAG = Script("""
if redis.call('HGET', KEYS[1], 'holder') == ARGV[1] then return 1 end
if redis.call('EXISTS', KEYS[1], KEYS[2], KEYS[3]) > 0 then return 0 end
redis.call('HSET', KEYS[1], 'holder', ARGV[1], 'beat', 1)
return 1
""")
# KEYS: lease, fence. ARGV: incarnation, number, whether opening.
_RENEW = Script("""
if redis.call('EXISTS', KEYS[2]) == 1 then return 'fenced' end
local mine = ARGV[1] .. '/' .. ARGV[2]
local holder = redis.call('HGET', KEYS[1], 'holder')
if not holder then
  if ARGV[3] ~= '1' then return 'absent' end
  redis.call('HSET', KEYS[1], 'holder', mine, 'beat', 1)
  return 'created'
end
local incarnation, number = string.match(holder, '^([^/]*)/(%d+)$')
if incarnation ~= ARGV[1] then return 'taken' end
number = tonumber(number)
if number > tonumber(ARGV[2]) then return 'absent' end
if number < tonumber(ARGV[2]) then
  if ARGV[3] ~= '1' then return 'absent' end
  redis.call('HSET', KEYS[1], 'holder', mine)
end
redis.call('HINCRBY', KEYS[1], 'beat', 1)
return 'held'
""")
# KEYS: lease, fence, entries. ARGV: holder, incarnation, time to live in seconds.
_RELEASE = Script("""
if redis.call('HGET', KEYS[1], 'holder') ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[2], 'of', ARGV[2], 'holder', '', 'beat', 1)
redis.call('EXPIRE', KEYS[2], ARGV[3])
return 1 - redis.call('EXISTS', KEYS[3])
""")
# KEYS: lease, fence, entries.
_READ = Script("""
return {redis.call('HMGET', KEYS[1], 'holder', 'beat'),
  redis.call('HMGET', KEYS[2], 'of', 'holder', 'beat'),
  redis.call('HLEN', KEYS[3])}
""")
# KEYS: lease, fence. ARGV: holder and beat of the lease, holder and beat of the fence, each empty
# when there is none; incarnation that is fenced, that fences; time to live in seconds.
_FENCE = Script("""
local lease = redis.call('HMGET', KEYS[1], 'holder', 'beat')
local fence = redis.call('HMGET', KEYS[2], 'holder', 'beat')
if (lease[1] or '') ~= ARGV[1] or (lease[2] or '') ~= ARGV[2]
  or (fence[1] or '') ~= ARGV[3] or (fence[2] or '') ~= ARGV[4] then return 0 end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[2], 'of', ARGV[5], 'holder', ARGV[6])
redis.call('HINCRBY', KEYS[2], 'beat', 1)
redis.call('EXPIRE', KEYS[2], ARGV[7])
return 1
""")
# KEYS: fence. ARGV: holder, time to live in seconds.
_BEAT = Script("""
if redis.call('HGET', KEYS[1], 'holder') ~= ARGV[1] then return 0 end
redis.call('HINCRBY', KEYS[1], 'beat', 1)
redis.call('EXPIRE', KEYS[1], ARGV[2])
return 1
""")
# KEYS: fence. ARGV: holder.
_HAND_BACK = Script("""
if redis.call('HGET', KEYS[1], 'holder') == ARGV[1] then
  redis.call('HSET', KEYS[1], 'holder', '')
  redis.call('HINCRBY', KEYS[1], 'beat', 1)
end
return 1
""")
# KEYS: lease or fence, entries. ARGV: holder, fields and values.
_PUT = Script("""
if redis.call('HGET', KEYS[1], 'holder') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[2], unpack(ARGV, 2))
return 1
""")
# KEYS: lease or fence, entries. ARGV: holder, field, value.
_TAKE = Script("""
if redis.call('HGET', KEYS[1], 'holder') ~= ARGV[1] then return 0 end
if redis.call('HEXISTS', KEYS[2], ARGV[2]) == 0 then return 2 end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
return 1
""")
# KEYS: lease or fence, entries. ARGV: holder, fields.
_REMOVE = Script("""
if redis.call('HGET', KEYS[1], 'holder') ~= ARGV[1] then return 0 end
redis.call('HDEL', KEYS[2], unpack(ARGV, 2))
return 1
""")
# KEYS: lease or fence, entries. ARGV: holder, cursor, size.
_SCAN = Script("""
if redis.call('HGET', KEYS[1], 'holder') ~= ARGV[1] then return false end
return redis.call('HSCAN', KEYS[2], ARGV[2], 'COUNT', ARGV[3])
""")
# KEYS: entries. ARGV: cursor, size. A script, so that the answer is raw.
_LOOK = Script("""
return redis.call('HSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2])
""")


class RedisStore:
    """A `Store` that other processes share.

    Args:
        client: `redis.asyncio.Redis` or `RedisCluster`, answering in bytes; stays the caller's.
        keys: The names.
        timeout_s: For each call, whatever the client's own time-outs are.
        open_timeout_s: For each connection; the same when it is None.
    """

    def __init__(
        self, client: Client, keys: Keys, *, timeout_s: float, open_timeout_s: float | None = None
    ) -> None:
        self._client = client
        self._keys = keys
        self._timeout_s = timeout_s
        self._open_timeout_s = open_timeout_s
        self._lanes: dict[bytes, Lane] = {}
        self._looks: dict[bytes, Lane] = {}
        # Renewals do not wait behind entries.
        self._urgent: dict[bytes, Lane] = {}
        # Shards of a cluster fail one by one, and must not wait for each other.
        self._by_tag = isinstance(client, RedisCluster)

    async def close(self) -> None:
        """Give up what is under way."""
        for lane in (*self._lanes.values(), *self._looks.values(), *self._urgent.values()):
            await lane.close()

    # --- the index

    async def tags(self) -> set[bytes]:
        """Return the tags that are in use."""
        members = await self._lane(self._urgent, b"").send("SMEMBERS", self._keys.nodes)
        return {tag for member in cast("Collection[bytes]", members) if (tag := _tag(member))}

    async def index(self, tags: Collection[bytes]) -> None:
        """Put tags into the index."""
        members = [tag.hex() for tag in tags]
        await self._lane(self._urgent, b"").send("SADD", self._keys.nodes, *members)

    async def unindex(self, tag: bytes) -> None:
        """Take a tag out."""
        await self._lane(self._urgent, b"").send("SREM", self._keys.nodes, tag.hex())

    # --- leases and fences

    async def claim_tag(self, session: Session) -> bool:
        """Take a tag if nothing stands under it."""
        return (
            await self._run(session.tag, _CLAIM_TAG, self._all(session.tag), session.hold.holder)
            == 1
        )

    async def renew(self, session: Session, *, opening: bool) -> Standing:
        """Renew a lease."""
        standing = await self._run(
            session.tag,
            _RENEW,
            self._all(session.tag)[:2],
            session.incarnation,
            session.number,
            int(opening),
        )
        assert isinstance(standing, bytes)
        return Standing(standing.decode())

    async def release(self, session: Session) -> bool:
        """Give a lease up."""
        keys = self._all(session.tag)
        holder, ttl_s = session.hold.holder, int(FENCE_TTL_S)
        return await self._run(session.tag, _RELEASE, keys, holder, session.incarnation, ttl_s) == 1

    async def read(self, tag: bytes) -> Reading:
        """Return what stands under a tag."""
        answer = await self._lane(self._looks, tag).run(_READ, self._all(tag), ())
        (holder, beat), (of, by, fence_beat), entry_count = cast(
            "tuple[tuple[bytes, bytes], tuple[bytes, bytes, bytes], int]", answer
        )
        return Reading(
            Lease(holder.decode(), int(beat)) if beat else None,
            Fence(of.decode(), by.decode(), int(fence_beat)) if fence_beat else None,
            entry_count,
        )

    async def fence(self, tag: bytes, expected: Reading, incarnation: str) -> bool:
        """Replace lease or fence by a fence of one's own."""
        lease, fence, _ = expected
        fenced = lease.incarnation if lease else fence.of if fence else ""
        answer = await self._run(
            tag,
            _FENCE,
            self._all(tag)[:2],
            *((lease.holder, lease.beat) if lease else ("", "")),
            *((fence.holder, fence.beat) if fence else ("", "")),
            fenced,
            incarnation,
            int(FENCE_TTL_S),
        )
        return answer == 1

    async def beat(self, hold: Hold) -> bool:
        """Show that a recovery goes on."""
        key = self._keys.fence(hold.tag)
        return await self._run(hold.tag, _BEAT, (key,), hold.holder, int(FENCE_TTL_S)) == 1

    async def hand_back(self, hold: Hold) -> None:
        """Leave a recovery to anybody."""
        await self._run(hold.tag, _HAND_BACK, (self._keys.fence(hold.tag),), hold.holder)

    # --- entries

    async def put(self, hold: Hold, items: Mapping[bytes, bytes]) -> bool:
        """Write entries."""
        args = [part for item in items.items() for part in item]
        return await self._run_held(_PUT, hold, *args) == 1

    async def take(self, hold: Hold, field: bytes, value: bytes) -> Taken:
        """Write one entry, if it is there."""
        return Taken(await self._run_held(_TAKE, hold, field, value))

    async def remove(self, hold: Hold, fields: Collection[bytes]) -> bool:
        """Remove entries."""
        return await self._run_held(_REMOVE, hold, *fields) == 1

    async def scan(self, hold: Hold, cursor: int, size: int) -> Batch | None:
        """Return about `size` entries, which in a small hash are all of them."""
        answer = await self._run_held(_SCAN, hold, cursor, size)
        return None if answer is None else _batch(answer)

    async def look(self, tag: bytes, cursor: int, size: int) -> Batch:
        """Return about `size` entries, whoever holds the tag."""
        lane = self._lane(self._looks, tag)
        return _batch(await lane.run(_LOOK, (self._keys.entries(tag),), (cursor, size)))

    def _all(self, tag: bytes) -> tuple[str, str, str]:
        keys = self._keys
        return keys.lease(tag), keys.fence(tag), keys.entries(tag)

    async def _run(
        self, tag: bytes, script: Script, keys: tuple[str, ...], *args: Argument
    ) -> object:
        return await self._lane(self._urgent, tag).run(script, keys, args)

    async def _run_held(self, script: Script, hold: Hold, *args: Argument) -> object:
        tag, keys = hold.tag, self._keys
        guard = keys.fence(tag) if hold.is_fence else keys.lease(tag)
        lane = self._lane(self._lanes, tag)
        return await lane.run(script, (guard, keys.entries(tag)), (hold.holder, *args))

    def _lane(self, lanes: dict[bytes, Lane], tag: bytes) -> Lane:
        name = tag if self._by_tag else b""
        lane = lanes.get(name)
        if lane is None:
            if len(lanes) >= _LANES_MAX:
                for idle in [other for other, lane in lanes.items() if lane.is_idle]:
                    del lanes[idle]
            lane = lanes[name] = Lane(self._client, self._timeout_s, self._open_timeout_s)
        return lane


def _batch(answer: object) -> Batch:
    cursor, flat = cast("tuple[bytes, list[bytes]]", answer)
    return Batch(int(cursor), list(zip(flat[::2], flat[1::2], strict=True)))


def _tag(member: bytes) -> bytes | None:
    """Return the tag that a member of the index names; None when it is no tag."""
    try:
        tag = bytes.fromhex(member.decode())
    except ValueError:
        return None
    return tag if len(tag) == TAG_SIZE else None
