"""$disconnect: tell the rooms who left."""

from typing import Any

from _chat import OK, forget


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Forget the client and tell its rooms."""
    forget(event, event["requestContext"]["connectionId"])
    return OK
