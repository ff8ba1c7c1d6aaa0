"""What becomes of a call to a connection, wherever it is?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wsgateway.errors import DeliveryFailed, GatewayError, Gone, LimitExceeded

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from wsgateway.connection import ConnectionKey


async def problem_of(
    keys: Iterable[ConnectionKey], call: Callable[[ConnectionKey], Awaitable[None]]
) -> str | None:
    """Call with one key after the other until there is such a connection.

    Args:
        keys: Of one connection, for each stage that may have it.
        call: Posts or closes, and raises what `Callbacks` do.

    Returns:
        Why it was not done, with the status that a backend would get; None if it was.
    """
    try:
        for key in keys:
            try:
                await call(key)
            except Gone:
                continue
            return None
    except LimitExceeded:
        return "429, the client does not read, or too much is under way"
    except GatewayError as error:
        may_have_happened = isinstance(error, DeliveryFailed) and error.may_duplicate
        return f"500, {error}{'; it may have happened' if may_have_happened else ''}"
    return "410, there is no such connection"
