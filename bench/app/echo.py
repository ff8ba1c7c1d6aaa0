"""Answers with the message itself."""

from __future__ import annotations

from typing import Any


async def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    return {"statusCode": 200, "body": event["body"]}
