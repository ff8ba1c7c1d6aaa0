"""rooms: {"action": "rooms"}."""

from typing import Any

from _chat import OK, answer, rooms


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Tell the client which rooms there are. A page also asks to see whether anybody answers."""
    answer(event, {"type": "rooms", "rooms": rooms()})
    return OK
