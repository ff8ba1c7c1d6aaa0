"""$connect: decide whether a page may come in.

Anybody may, unless `CHAT_ORIGINS` lists the addresses of pages that may (`https://chat.example,
https://www.example`). Clients that are no browsers send no `Origin`, and are not kept out by it.
"""

import os
from typing import Any

_ORIGINS = {origin.strip() for origin in os.environ.get("CHAT_ORIGINS", "").split(",")} - {""}


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Accept the client, or refuse a page from elsewhere."""
    headers = {name.lower(): value for name, value in event.get("headers", {}).items()}
    origin = headers.get("origin")
    if _ORIGINS and origin is not None and origin not in _ORIGINS:
        return {"statusCode": 403}
    return {"statusCode": 200}
