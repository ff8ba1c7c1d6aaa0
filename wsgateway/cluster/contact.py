"""The session that is open now, for all who write in it and those who wait for the next."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from wsgateway.cluster.store import Session


class Contact:
    """This node's contact with the store.

    Attributes:
        tag: The node's; None before it has one, and while it looks for another.
        session: None while contact is lost.
        opened_at_s: Since when there has been contact without a break, in monotonic seconds.
        wanted: Set when a session is to be opened soon.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self.tag: bytes | None = None
        self.session: Session | None = None
        self.opened_at_s: float | None = None
        self.wanted = asyncio.Event()
        self._opened = asyncio.Event()

    def open(self, session: Session) -> None:
        """Let everybody write in this session."""
        self.tag = session.tag
        self.session = session
        self.opened_at_s = self._now()
        self._opened.set()

    def lose(self, session: Session) -> None:
        """End a session: something sent in it had no good answer. It may have ended already."""
        if self.session is session:
            self.session = self.opened_at_s = None
            self._opened.clear()
            self.wanted.set()

    def leave(self) -> None:
        """Give the tag up."""
        if self.session is not None:
            self.lose(self.session)
        self.tag = None

    async def opened(self) -> Session:
        """Return the session, after the time it takes to have one."""
        while self.session is None:
            await self._opened.wait()
        return self.session
