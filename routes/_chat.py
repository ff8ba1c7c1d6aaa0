"""What the chat's handlers share: reading what clients ask, and telling rooms.

A handler runs once per message, many at a time, and forgets everything but the table.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from threading import Lock
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from _table import TABLE, Member

if TYPE_CHECKING:
    from collections.abc import Iterable

Event = dict[str, Any]
Message = dict[str, Any]

# In characters.
NAME_SIZE_MAX = 32
ROOM_SIZE_MAX = 32
TEXT_SIZE_MAX = 2000
_TOKEN_SIZE_MAX = 64

# AWS takes 128 KiB in a post. A welcome holds messages up to this, and as much again for the rest.
_SAID_SIZE_MAX = 64 * 1024
_POSTS_MAX = 16

# One for all calls of handlers: each thread has a connection in the client's pool.
_POSTERS = ThreadPoolExecutor(_POSTS_MAX)
_MAKING_A_CLIENT = Lock()

OK = {"statusCode": 200}
MISTAKE = {"statusCode": 400}


class Mistake(Exception):
    """What a client asks for cannot be done; `str()` tells its user why."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


# --- what clients ask


def asked(event: Event) -> Message:
    """Return a message from a client.

    Raises:
        Mistake: It is not JSON; the gateway reads more leniently than Python.
    """
    try:
        message: Message = json.loads(event["body"])
    except ValueError as error:
        raise Mistake("json", "That is not JSON.") from error
    return message


def name_in(message: Message, key: str, size_max: int) -> str:
    """Return a name of one line, without what cannot be seen.

    Raises:
        Mistake: Nothing is left of it, or it is too long.
    """
    text = unicodedata.normalize("NFKC", _text(message.get(key)))
    kept = (" " if letter.isspace() else letter for letter in text)
    name = " ".join("".join(filter(_visible, kept)).split())
    if not name:
        raise Mistake(key, f"The {key} is missing.")
    if len(name) > size_max:
        raise Mistake(key, f"The {key} is too long: {len(name)} of {size_max} characters.")
    return name


def room_in(message: Message) -> str:
    """Return the name of a room; the case of its letters does not matter.

    Raises:
        Mistake: There is none, or it cannot be one.
    """
    return name_in(message, "room", ROOM_SIZE_MAX).lower()


def text_in(message: Message) -> str:
    """Return a text of several lines.

    Raises:
        Mistake: It is empty or too long.
    """
    text = _text(message.get("text")).replace("\r\n", "\n")
    text = "".join(letter for letter in text if letter in "\n\t" or _category(letter) != "Cc")
    if not text.strip():
        raise Mistake("text", "The text is missing.")
    if len(text) > TEXT_SIZE_MAX:
        raise Mistake("text", f"The text is too long: {len(text)} of {TEXT_SIZE_MAX} characters.")
    return text.strip("\n")


def token_in(message: Message, key: str) -> str:
    """Return what a client made up for itself; empty if it is missing or too long."""
    token = _text(message.get(key))
    return token if len(token) <= _TOKEN_SIZE_MAX else ""


def place_in(event: Event, message: Message) -> Member:
    """Return the sender as a member of the room it names, or of the one it joined last.

    Raises:
        Mistake: It is not there.
    """
    places = TABLE.rooms_of(event["requestContext"]["connectionId"])
    if message.get("room") is not None:
        room = room_in(message)
        places = [place for place in places if place.room == room]
    if not places:
        raise Mistake("nowhere", "Join a room first.")
    return places[-1]


def _text(value: object) -> str:
    # JSON can hold halves of characters, which nothing else can.
    text = value if isinstance(value, str) else ""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _category(letter: str) -> str:
    return unicodedata.category(letter)


def _visible(letter: str) -> bool:
    return not _category(letter).startswith("C")


# --- what clients are told


def now_ms(event: Event) -> int:
    """Return when the gateway received the event."""
    return int(event["requestContext"]["requestTimeEpoch"])


def author_of(connection_id: str, session: str) -> str:
    """Return what a client is known by, and what does not tell its session."""
    return hashlib.sha256((session or connection_id).encode()).hexdigest()[:12]


def joined(event: Event, member: Member) -> Message:
    return {"type": "joined", **_about(event, member)}


def left(event: Event, member: Member) -> Message:
    return {"type": "left", **_about(event, member)}


def _about(event: Event, member: Member) -> Message:
    return {
        "room": member.room,
        "name": member.name,
        "author": member.author,
        "at": now_ms(event),
    }


def welcome(event: Event, member: Member) -> Message:
    """Return what a newcomer has to know."""
    people = TABLE.members(member.room)
    return {
        "type": "welcome",
        "room": member.room,
        "name": member.name,
        "author": member.author,
        "people": [{"name": person.name, "author": person.author} for person in people],
        "messages": _newest(TABLE.said(member.room, now_ms(event))),
        "rooms": rooms(),
    }


def rooms() -> list[Message]:
    """Return the rooms that there are."""
    return [{"room": room, "people": people} for room, people in TABLE.rooms()]


def _newest(messages: list[Message]) -> list[Message]:
    size = 0
    for count, message in enumerate(reversed(messages)):
        size += len(_encoded(message))
        if size > _SAID_SIZE_MAX:
            return messages[len(messages) - count :]
    return messages


def answer(event: Event, message: Message) -> None:
    """Post to whoever sent the event."""
    connection_id = event["requestContext"]["connectionId"]
    _tell_all(event, [(connection_id, message)])


def answer_mistake(event: Event, mistake: Mistake, **more: Any) -> dict[str, Any]:
    """Tell the sender what is wrong, and return what the handler returns."""
    answer(event, {"type": "error", "reason": mistake.reason, "text": str(mistake), **more})
    return MISTAKE


def tell(event: Event, room: str, message: Message, *, but: str | None = None) -> None:
    """Post to everybody in a room.

    Args:
        event: The one at hand.
        room: The room.
        message: What to post.
        but: A connection that is told nothing, not even who turns out to be gone.
    """
    members = [member.connection_id for member in TABLE.members(room)]
    _tell_all(event, [(member, message) for member in members if member != but], but=but)


def forget(event: Event, connection_id: str) -> None:
    """Take a connection out of its rooms, and tell those who are still there."""
    _tell_all(event, _take_out(event, [connection_id]))


def _tell_all(event: Event, posts: list[tuple[str, Message]], *, but: str | None = None) -> None:
    """Post, and forget connections that turn out to be gone.

    To forget them is to tell others, who may be gone too; it ends, for none is forgotten twice.
    """
    while posts:
        posts = [
            (connection_id, message)
            for connection_id, message in _take_out(event, _post_all(event, posts))
            if connection_id != but
        ]


def _take_out(event: Event, connection_ids: Iterable[str]) -> list[tuple[str, Message]]:
    """Take connections out of their rooms, and return what to post then."""
    taken_out = [
        place
        for connection_id in dict.fromkeys(connection_ids)
        for place in TABLE.rooms_of(connection_id)
        # Somebody else may have noticed at the same time, and has told the others.
        if TABLE.remove(place.room, connection_id)
    ]
    return [
        (member.connection_id, left(event, place))
        for place in taken_out
        for member in TABLE.members(place.room)
    ]


def _post_all(event: Event, posts: list[tuple[str, Message]]) -> Iterable[str]:
    """Post, and return connections that are gone."""
    url = _callback_url(event)
    if len(posts) <= 1:
        outcomes = [post_once(url, *post) for post in posts]
    else:
        outcomes = list(_POSTERS.map(lambda post: post_once(url, *post), posts))
    return [
        connection_id
        for (connection_id, _), there in zip(posts, outcomes, strict=True)
        if not there
    ]


def post_once(url: str, connection_id: str, message: Message) -> bool:
    """Post, and return whether the connection is still there."""
    client = _management(url)
    try:
        client.post_to_connection(ConnectionId=connection_id, Data=_encoded(message))
    except client.exceptions.GoneException:
        return False
    except (BotoCoreError, ClientError) as error:
        # One who cannot keep up, or a gateway that is stopping, must not keep it from the others.
        logging.getLogger(__name__).warning("not posted to %s: %s", connection_id, error)
    return True


def _encoded(message: Message) -> bytes:
    return json.dumps(message, ensure_ascii=False, separators=(", ", ": ")).encode()


def _callback_url(event: Event) -> str:
    context = event["requestContext"]
    return os.environ.get(
        "WSGATEWAY_CALLBACK_URL", f"https://{context['domainName']}/{context['stage']}"
    )


def _management(url: str) -> Any:
    # A client takes 50 MB and some time to make: those who come together wait for the first one.
    with _MAKING_A_CLIENT:
        return _client(url)


@cache
def _client(url: str) -> Any:
    # In a session of its own: the default one is not to be shared by threads.
    return boto3.session.Session().client(
        "apigatewaymanagementapi",
        endpoint_url=url,
        config=Config(
            max_pool_connections=_POSTS_MAX,
            connect_timeout=2,
            read_timeout=5,
            retries={"total_max_attempts": 2},
        ),
    )
