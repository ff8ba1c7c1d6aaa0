"""`$connect`: lets everybody in."""

from __future__ import annotations

from typing import Any


async def handler(_event: dict[str, Any], _context: object) -> dict[str, Any]:
    return {"statusCode": 200}
