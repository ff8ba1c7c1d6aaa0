"""$default: say what the chat understands."""

from typing import Any

from _chat import Mistake, answer_mistake

_USAGE = """Send one of these:
{"action": "join", "room": "lobby", "name": "Ada"}
{"action": "sendmessage", "text": "hello"}
{"action": "leave"}
{"action": "rooms"}"""


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Answer anything else with the actions there are."""
    return answer_mistake(event, Mistake("action", _USAGE))
