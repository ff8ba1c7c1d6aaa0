"""Tells a client its connection id, which is what a backend posts to."""

from __future__ import annotations

from typing import Any


async def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    return {"statusCode": 200, "body": event["requestContext"]["connectionId"]}
