"""join: {"action": "join", "room": "lobby", "name": "Ada"}.

The answer is a `welcome`, or `refused` with the reason. Where somebody else has the name, the
newcomer is called `Ada 2`; the welcome says so. A `session`, which a client makes up and keeps to
itself, lets it come back in the place of a connection that it has lost.
"""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any

from _chat import (
    MISTAKE,
    NAME_SIZE_MAX,
    OK,
    Mistake,
    answer,
    asked,
    author_of,
    joined,
    left,
    name_in,
    now_ms,
    room_in,
    tell,
    token_in,
    welcome,
)
from _table import PEOPLE_MAX, TABLE, AlreadyIn, Member, NameTaken, RoomFull

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOMS_MAX = 8
"""Of one connection."""


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Put the client into a room under a name, and tell the room."""
    room = None
    try:
        message = asked(event)
        room = room_in(message)
        name, session = name_in(message, "name", NAME_SIZE_MAX), token_in(message, "session")
        member, replaced = _enter(event, room, name, session)
    except Mistake as mistake:
        answer(
            event, {"type": "refused", "room": room, "reason": mistake.reason, "text": str(mistake)}
        )
        return MISTAKE
    # To the others it is the same person, who never left, if the name is the same.
    if [person.name for person in replaced] != [member.name]:
        for person in replaced:
            tell(event, room, left(event, person), but=member.connection_id)
        tell(event, room, joined(event, member), but=member.connection_id)
    # After the others: who of them is gone has been forgotten by now.
    answer(event, welcome(event, member))
    return OK


def _enter(
    event: dict[str, Any], room: str, name: str, session: str
) -> tuple[Member, list[Member]]:
    """Find a place.

    Returns:
        It, and those that were given up for it.

    Raises:
        Mistake: There is none.
    """
    connection_id = event["requestContext"]["connectionId"]
    author = author_of(connection_id, session)
    rooms = {place.room for place in TABLE.rooms_of(connection_id)}
    if len(rooms - {room}) >= ROOMS_MAX:
        raise Mistake("rooms", f"You are in {ROOMS_MAX} rooms. Leave one first.")
    replaced: list[Member] = []
    names = _names(name)
    candidate = next(names)
    while True:
        replaced += [
            person
            for person in TABLE.members(room)
            if (person.connection_id == connection_id or (session and person.session == session))
            and TABLE.remove(room, person.connection_id)
        ]
        member = Member(connection_id, room, candidate, author, session, now_ms(event))
        try:
            TABLE.add(member)
        except AlreadyIn:
            # The same client joins twice at once.
            continue
        except NameTaken:
            candidate = next(names)
        except RoomFull as full:
            raise Mistake(
                "full", f"The room is full (limit: {PEOPLE_MAX}). Try another one."
            ) from full
        else:
            return member, replaced


def _names(name: str) -> Iterator[str]:
    yield name
    for number in count(2):
        suffix = f" {number}"
        yield name[: NAME_SIZE_MAX - len(suffix)] + suffix
