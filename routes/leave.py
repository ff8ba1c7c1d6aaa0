"""leave: {"action": "leave", "room": "lobby"}; without a room, the one joined last."""

from typing import Any

from _chat import OK, Mistake, answer, answer_mistake, asked, left, place_in, tell
from _table import TABLE


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Take the client out of a room, and tell both."""
    try:
        place = place_in(event, asked(event))
    except Mistake as mistake:
        return answer_mistake(event, mistake)
    if TABLE.remove(place.room, place.connection_id):
        tell(event, place.room, left(event, place))
        answer(event, left(event, place))
    return OK
