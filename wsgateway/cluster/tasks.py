"""Tasks that are to end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

# How long one may take to clean up before it is asked again.
_PATIENCE_S = 0.1


async def end(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel tasks and wait until they have ended, however.

    Each is cancelled again until it does: redis-py 8.1 loses a cancellation now and then, and its
    caller goes on as if there had been none.
    """
    pending = {task for task in tasks if not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=_PATIENCE_S)
