r"""Who is in which room, and what was said there in the last minutes.

In the memory of this process; in DynamoDB when `CHAT_TABLE` names a table; in Redis or Valkey when
`CHAT_REDIS` is the URL of one. Several gateways, and Lambda, need one of the latter two: each process
has a memory of its own. On Lambda, Redis also needs the package `redis`. A table is made with

    aws dynamodb create-table --table-name chat --billing-mode PAY_PER_REQUEST \
        --attribute-definitions AttributeName=pk,AttributeType=S AttributeName=sk,AttributeType=S \
        --key-schema AttributeName=pk,KeyType=HASH AttributeName=sk,KeyType=RANGE
    aws dynamodb update-time-to-live --table-name chat \
        --time-to-live-specification Enabled=true,AttributeName=expires_at

and the handlers need dynamodb:Query, GetItem, PutItem, UpdateItem and DeleteItem on it.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections import defaultdict, deque
from contextlib import suppress
from dataclasses import asdict, dataclass
from threading import RLock
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import boto3

if TYPE_CHECKING:
    from collections.abc import Iterable

SAID_MAX = 50
"""How much of what was said in a room is kept, and for how long."""
SAID_S = 600
PEOPLE_MAX = min(int(os.environ.get("CHAT_PEOPLE_MAX", "100")), 300)
"""In one room: each message is posted to all of them, and a newcomer is told all their names."""

# Rooms whose messages are kept in memory, and rooms that a list of them names.
_ROOMS_REMEMBERED_MAX = 500
_ROOMS_LISTED_MAX = 50
# DynamoDB cancels transactions that meet on an item; the last of so many waits half a second.
_ATTEMPTS_MAX = 10
_ATTEMPT_WAIT_S = 0.05
# Of Redis, for each of two attempts.
_ANSWER_TIMEOUT_S = 2.0


class AlreadyIn(Exception):
    """The connection has a place in the room."""


class NameTaken(Exception):
    """Somebody in the room is called like this."""


class RoomFull(Exception):
    """There are as many people in the room as there can be."""


@dataclass(frozen=True, slots=True)
class Member:
    """One connection in one room.

    Attributes:
        connection_id: Where to post.
        room: Where it is.
        name: Unique in the room, whatever the case of its letters.
        author: Tells others who this is, also when somebody else had the name before.
        session: Known to this client only, who proves with it that a lost connection was its own.
        joined_at_ms: When it came in.
    """

    connection_id: str
    room: str
    name: str
    author: str
    session: str
    joined_at_ms: int


class Table(Protocol):
    """What handlers ask; each call is atomic."""

    def add(self, member: Member) -> None:
        """Let somebody in.

        Raises:
            AlreadyIn: This connection has to be removed first.
            NameTaken: The name is not free.
            RoomFull: Nobody else fits in.
        """

    def remove(self, room: str, connection_id: str) -> Member | None:
        """Return who was taken out of the room, to one of several callers; None if nobody was."""

    def members(self, room: str) -> list[Member]:
        """Return who is in a room, in the order they came."""

    def rooms_of(self, connection_id: str) -> list[Member]:
        """Return a connection's places, the last one last."""

    def rooms(self) -> list[tuple[str, int]]:
        """Return rooms with their number of people, the fullest first."""

    def say(self, room: str, at_ms: int, message: dict[str, Any]) -> None:
        """Keep what was said for those who come later."""

    def said(self, room: str, now_ms: int) -> list[dict[str, Any]]:
        """Return what was said in the last minutes, the last message last."""


class MemoryTable:
    """For one process."""

    def __init__(self, people_max: int = PEOPLE_MAX) -> None:
        self._people_max = people_max
        self._lock = RLock()
        self._rooms: defaultdict[str, dict[str, Member]] = defaultdict(dict)
        self._connections: defaultdict[str, dict[str, Member]] = defaultdict(dict)
        self._said: dict[str, deque[tuple[int, dict[str, Any]]]] = {}

    def add(self, member: Member) -> None:
        with self._lock:
            people = self._rooms.get(member.room, {})
            if member.room in self._connections.get(member.connection_id, {}):
                raise AlreadyIn
            if member.name.casefold() in people:
                raise NameTaken
            if len(people) >= self._people_max:
                raise RoomFull
            self._rooms[member.room][member.name.casefold()] = member
            self._connections[member.connection_id][member.room] = member

    def remove(self, room: str, connection_id: str) -> Member | None:
        with self._lock:
            places = self._connections.get(connection_id, {})
            member = places.pop(room, None)
            if member is None:
                return None
            del self._rooms[room][member.name.casefold()]
            if not places:
                del self._connections[connection_id]
            if not self._rooms[room]:
                del self._rooms[room]
            return member

    def members(self, room: str) -> list[Member]:
        with self._lock:
            return list(self._rooms.get(room, {}).values())

    def rooms_of(self, connection_id: str) -> list[Member]:
        with self._lock:
            return list(self._connections.get(connection_id, {}).values())

    def rooms(self) -> list[tuple[str, int]]:
        with self._lock:
            return _fullest((room, len(people)) for room, people in self._rooms.items())

    def say(self, room: str, at_ms: int, message: dict[str, Any]) -> None:
        with self._lock:
            # The room goes to the end of the line of those that are forgotten.
            said = self._said.pop(room, None) or deque(maxlen=SAID_MAX)
            said.append((at_ms, message))
            self._said[room] = said
            if len(self._said) > _ROOMS_REMEMBERED_MAX:
                del self._said[next(iter(self._said))]

    def said(self, room: str, now_ms: int) -> list[dict[str, Any]]:
        with self._lock:
            since_ms = now_ms - SAID_S * 1000
            said = [(at_ms, text) for at_ms, text in self._said.get(room, ()) if at_ms > since_ms]
        return [message for _, message in sorted(said, key=lambda line: line[0])]


class DynamoTable:
    """For many processes.

    Its items, by `pk` and `sk`:

        room#lobby          name#ada                  a member; the key keeps the name unique
        room#lobby          said#1700000000000#ID     a message, until `expires_at`
        connection#ID       room#lobby                finds a connection's members
        rooms               lobby                     how many `people` are in the room
    """

    def __init__(self, name: str, client: Any, people_max: int = PEOPLE_MAX) -> None:
        self._name = name
        self._client = client
        self._people_max = people_max

    def add(self, member: Member) -> None:
        value = json.dumps(asdict(member))
        cancelled = self._write_all(
            {"Put": self._put(*_member_key(member), member=value)},
            {"Put": self._put(*_place_key(member.connection_id, member.room), member=value)},
            {
                "Update": {
                    **self._key("rooms", member.room),
                    "UpdateExpression": "ADD people :one",
                    "ConditionExpression": "attribute_not_exists(pk) OR people < :max",
                    "ExpressionAttributeValues": {
                        ":one": {"N": "1"},
                        ":max": {"N": str(self._people_max)},
                    },
                }
            },
        )
        name_taken, already_in, room_full = cancelled or (False, False, False)
        if already_in:
            raise AlreadyIn
        if name_taken:
            raise NameTaken
        if room_full:
            raise RoomFull

    def remove(self, room: str, connection_id: str) -> Member | None:
        place = self._client.get_item(
            **self._key(*_place_key(connection_id, room)), ConsistentRead=True
        ).get("Item")
        if place is None:
            return None
        member = _member(place)
        cancelled = self._write_all(
            {
                "Delete": {
                    **self._key(*_place_key(connection_id, room)),
                    "ConditionExpression": "attribute_exists(pk)",
                }
            },
            {"Delete": self._key(*_member_key(member))},
            {
                "Update": {
                    **self._key("rooms", room),
                    "UpdateExpression": "ADD people :one",
                    "ExpressionAttributeValues": {":one": {"N": "-1"}},
                }
            },
        )
        if cancelled:
            return None
        self._forget_if_empty(room)
        return member

    def _forget_if_empty(self, room: str) -> None:
        with suppress(self._client.exceptions.ConditionalCheckFailedException):
            self._client.delete_item(
                **self._key("rooms", room),
                ConditionExpression="people = :none",
                ExpressionAttributeValues={":none": {"N": "0"}},
            )

    def members(self, room: str) -> list[Member]:
        return _in_order(
            map(_member, self._query(f"room#{room}", "begins_with(sk, :a)", a="name#"))
        )

    def rooms_of(self, connection_id: str) -> list[Member]:
        return _in_order(map(_member, self._query(f"connection#{connection_id}")))

    def rooms(self) -> list[tuple[str, int]]:
        counts = ((item["sk"]["S"], int(item["people"]["N"])) for item in self._query("rooms"))
        return _fullest((room, people) for room, people in counts if people)

    def say(self, room: str, at_ms: int, message: dict[str, Any]) -> None:
        item = self._put(
            f"room#{room}", f"said#{at_ms:013}#{message['id']}", said=json.dumps(message)
        )
        item["Item"]["expires_at"] = {"N": str(at_ms // 1000 + SAID_S)}
        del item["ConditionExpression"]
        self._client.put_item(**item)

    def said(self, room: str, now_ms: int) -> list[dict[str, Any]]:
        since_ms = max(0, now_ms - SAID_S * 1000 + 1)
        items = self._query(
            f"room#{room}",
            "sk BETWEEN :a AND :b",
            a=f"said#{since_ms:013}",
            b="said#~",
            newest=SAID_MAX,
        )
        return [json.loads(item["said"]["S"]) for item in reversed(items)]

    def _key(self, pk: str, sk: str) -> dict[str, Any]:
        return {"TableName": self._name, "Key": {"pk": {"S": pk}, "sk": {"S": sk}}}

    def _put(self, pk: str, sk: str, **texts: str) -> dict[str, Any]:
        item = {name: {"S": text} for name, text in {"pk": pk, "sk": sk, **texts}.items()}
        return {
            "TableName": self._name,
            "Item": item,
            "ConditionExpression": "attribute_not_exists(pk)",
        }

    def _query(
        self, pk: str, condition: str = "", *, newest: int | None = None, **bounds: str
    ) -> list[dict[str, Any]]:
        values = {":pk": {"S": pk}, **{f":{name}": {"S": text} for name, text in bounds.items()}}
        question = {
            "TableName": self._name,
            "KeyConditionExpression": " AND ".join(filter(None, ("pk = :pk", condition))),
            "ExpressionAttributeValues": values,
            "ConsistentRead": True,
        }
        if newest is not None:
            page = self._client.query(**question, ScanIndexForward=False, Limit=newest)
            return list(page["Items"])
        pages = self._client.get_paginator("query").paginate(**question)
        return [item for page in pages for item in page["Items"]]

    def _write_all(self, *writes: dict[str, Any]) -> list[bool] | None:
        """Write everything or nothing.

        Returns:
            None when everything is written, else whose condition does not hold.
        """
        for attempt in range(_ATTEMPTS_MAX):
            try:
                self._client.transact_write_items(TransactItems=writes)
            except self._client.exceptions.TransactionCanceledException as error:
                reasons = [reason["Code"] for reason in error.response["CancellationReasons"]]
                if "ConditionalCheckFailed" in reasons:
                    return [reason == "ConditionalCheckFailed" for reason in reasons]
                if attempt + 1 == _ATTEMPTS_MAX:
                    raise
                time.sleep(random.uniform(0, _ATTEMPT_WAIT_S * (attempt + 1)))  # noqa: S311
            else:
                return None
        raise AssertionError("the last attempt returns or raises")


_ADD = """
local room, connection, rooms = unpack(KEYS)
local room_name, name, place, people_max = unpack(ARGV)
if redis.call('HEXISTS', connection, room_name) == 1 then return 'already in' end
if redis.call('HEXISTS', room, name) == 1 then return 'name taken' end
local people = redis.call('HLEN', room)
if people >= tonumber(people_max) then return 'room full' end
redis.call('HSET', room, name, place)
redis.call('HSET', connection, room_name, place)
redis.call('ZADD', rooms, -people - 1, room_name)
return 'added'
"""

_REMOVE = """
local room, connection, rooms = unpack(KEYS)
local room_name = ARGV[1]
local place = redis.call('HGET', connection, room_name)
if not place then return false end
redis.call('HDEL', connection, room_name)
redis.call('HDEL', room, cjson.decode(place)[1])
local people = redis.call('HLEN', room)
if people > 0 then
    redis.call('ZADD', rooms, -people, room_name)
else
    redis.call('ZREM', rooms, room_name)
end
return place
"""


class RedisTable:
    """For many processes.

    Its keys; a place is the name that is unique, and the member:

        chat:room:lobby         hash        ada: ["ada", {"name": "Ada", ...}]
        chat:connection:ID      hash        lobby: the same
        chat:rooms              sorted set  lobby: -2, as the fullest rooms come first
        chat:said:lobby         sorted set  a message: when it was said; expires
    """

    _REFUSALS: ClassVar = {
        b"already in": AlreadyIn,
        b"name taken": NameTaken,
        b"room full": RoomFull,
    }

    def __init__(self, client: Any, people_max: int = PEOPLE_MAX) -> None:
        self._client = client
        self._people_max = people_max
        self._add = client.register_script(_ADD)
        self._remove = client.register_script(_REMOVE)

    def add(self, member: Member) -> None:
        name = member.name.casefold()
        place = json.dumps([name, asdict(member)])
        outcome = self._add(
            keys=self._keys(member.room, member.connection_id),
            args=[member.room, name, place, self._people_max],
        )
        if outcome in self._REFUSALS:
            raise self._REFUSALS[outcome]

    def remove(self, room: str, connection_id: str) -> Member | None:
        place = self._remove(keys=self._keys(room, connection_id), args=[room])
        return None if place is None else _member_at(place)

    def members(self, room: str) -> list[Member]:
        return _in_order(map(_member_at, self._client.hvals(f"chat:room:{room}")))

    def rooms_of(self, connection_id: str) -> list[Member]:
        return _in_order(map(_member_at, self._client.hvals(f"chat:connection:{connection_id}")))

    def rooms(self) -> list[tuple[str, int]]:
        fullest = self._client.zrange("chat:rooms", 0, _ROOMS_LISTED_MAX - 1, withscores=True)
        return [(room.decode(), -int(score)) for room, score in fullest]

    def say(self, room: str, at_ms: int, message: dict[str, Any]) -> None:
        key = f"chat:said:{room}"
        with self._client.pipeline() as commands:
            commands.zadd(key, {json.dumps(message): at_ms})
            commands.zremrangebyrank(key, 0, -SAID_MAX - 1)
            commands.expire(key, SAID_S)
            commands.execute()

    def said(self, room: str, now_ms: int) -> list[dict[str, Any]]:
        after_ms = now_ms - SAID_S * 1000
        messages = self._client.zrangebyscore(f"chat:said:{room}", f"({after_ms}", "+inf")
        return [json.loads(message) for message in messages]

    def _keys(self, room: str, connection_id: str) -> list[str]:
        return [f"chat:room:{room}", f"chat:connection:{connection_id}", "chat:rooms"]


def _table() -> Table:
    if url := os.environ.get("CHAT_REDIS"):
        return RedisTable(_redis(url))
    name = os.environ.get("CHAT_TABLE")
    return DynamoTable(name, boto3.client("dynamodb")) if name else MemoryTable()


def _redis(url: str) -> Any:
    # Lambda's runtime does not have it, and the other tables do without.
    from redis import Redis  # noqa: PLC0415
    from redis.backoff import NoBackoff  # noqa: PLC0415
    from redis.retry import Retry  # noqa: PLC0415

    return Redis.from_url(
        url,
        socket_timeout=_ANSWER_TIMEOUT_S,
        socket_connect_timeout=_ANSWER_TIMEOUT_S,
        # A connection may have ended while nobody used it.
        retry=Retry(NoBackoff(), 1),
    )


def _member_key(member: Member) -> tuple[str, str]:
    return f"room#{member.room}", f"name#{member.name.casefold()}"


def _place_key(connection_id: str, room: str) -> tuple[str, str]:
    return f"connection#{connection_id}", f"room#{room}"


def _member(item: dict[str, Any]) -> Member:
    return Member(**json.loads(item["member"]["S"]))


def _member_at(place: bytes) -> Member:
    return Member(**json.loads(place)[1])


def _in_order(members: Iterable[Member]) -> list[Member]:
    # Who came in the same millisecond has an order too: always the same one.
    return sorted(members, key=lambda member: (member.joined_at_ms, member.room, member.name))


def _fullest(rooms: Any) -> list[tuple[str, int]]:
    return sorted(rooms, key=lambda room: (-room[1], room[0]))[:_ROOMS_LISTED_MAX]


# Made once: a handler runs in many threads at a time.
TABLE = _table()
