"""sendmessage: {"action": "sendmessage", "text": "hello"}; `room` names another than the last one.

A `ref` of the client's own comes back with its message, to tell it from those of others.
"""

from typing import Any

from _chat import OK, Mistake, answer_mistake, asked, now_ms, place_in, tell, text_in, token_in
from _table import TABLE


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Send a text to everybody in a room, and keep it for those who come later."""
    ref = ""
    try:
        message = asked(event)
        ref = token_in(message, "ref")
        place, text = place_in(event, message), text_in(message)
    except Mistake as mistake:
        return answer_mistake(event, mistake, ref=ref)
    said = {
        "type": "message",
        "room": place.room,
        "name": place.name,
        "text": text,
        "author": place.author,
        "at": now_ms(event),
        "id": event["requestContext"]["messageId"],
    }
    if ref:
        said["ref"] = ref
    TABLE.say(place.room, now_ms(event), said)
    tell(event, place.room, said)
    return OK
