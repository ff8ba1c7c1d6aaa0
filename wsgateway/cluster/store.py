"""What a cluster asks of its store: a few steps, each atomic for one tag.

The rules about leases are in `leases`; the store only compares and writes. Who writes names what
it holds, a `Hold`, and the store refuses when that is held no longer. So a command that was
delayed on its way, or that a paused process sends late, changes nothing.

    a tag     absent ──open──► lease ──fence──► fence ──(a day)──► absent
                                 │                │ ▲
                                 └──renew         └─┘ fence by another, when the recovering node
                                                      stands still
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, NamedTuple, Protocol

from wsgateway.errors import GatewayError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

FENCE_TTL_S = 86_400.0
"""How long a fence stands, so that a node which slept through its own end finds it. Connections
last two hours at most, so what sleeps longer has none left that a client would miss."""
NOBODY = ""
"""Holds the fence of a node that left in order: anybody may take it at once."""


class ContactLost(GatewayError):
    """The store did not answer, refused, or answered too late; what was asked may yet happen."""


class Session(NamedTuple):
    """A node's unbroken contact with the store.

    Each loss of contact ends a session, and the next has a higher number: what was sent in an
    earlier one and arrives late is refused.

    Attributes:
        tag: The node's, `TAG_SIZE` bytes.
        incarnation: Of the process; no other has the same.
        number: From 1 on.
    """

    tag: bytes
    incarnation: str
    number: int

    @property
    def hold(self) -> Hold:
        """What a write in this session names."""
        return Hold(self.tag, f"{self.incarnation}/{self.number}", is_fence=False)


class Hold(NamedTuple):
    """The right to change a tag's entries: by its lease, or by its fence.

    Attributes:
        holder: As the store has it.
    """

    tag: bytes
    holder: str
    is_fence: bool


def fence_hold(tag: bytes, incarnation: str) -> Hold:
    """Return what the recovering node names."""
    return Hold(tag, incarnation, is_fence=True)


class Lease(NamedTuple):
    """A lease as others read it; each renewal changes `beat`."""

    holder: str
    beat: int

    @property
    def incarnation(self) -> str:
        """Whose it is."""
        return self.holder.partition("/")[0]


class Fence(NamedTuple):
    """A fence as others read it.

    Attributes:
        of: The incarnation that is given up; empty when no lease was found.
        holder: The incarnation that recovers, or `NOBODY`.
        beat: Changes for as long as the holder is at work.
    """

    of: str
    holder: str
    beat: int


class Reading(NamedTuple):
    """What stands under a tag, at one instant."""

    lease: Lease | None
    fence: Fence | None
    entry_count: int


class Standing(Enum):
    """What a node finds when it renews its lease."""

    HELD = "held"
    """The lease is this incarnation's, and renewed."""
    CREATED = "created"
    """There was neither lease nor fence; there is a lease now. Only when a session is opened."""
    ABSENT = "absent"
    """There is neither lease nor fence, or a later session than this one."""
    FENCED = "fenced"
    """Others have given this node up, and deliver its `$disconnect`s."""
    TAKEN = "taken"
    """Another node holds the tag: Redis has forgotten this one's lease, and nobody else its
    connections."""


class Taken(Enum):
    """What came of taking one entry."""

    TAKEN = 1
    GONE = 2
    NOT_HELD = 0


class Batch(NamedTuple):
    """A part of a tag's entries.

    Attributes:
        cursor: Where to go on; 0 at the end.
        items: Fields and values. One that was there all the time is in one batch at least, and may
            be in two.
    """

    cursor: int
    items: list[tuple[bytes, bytes]]


class Store(Protocol):
    """Each method raises `ContactLost`."""

    # --- the index, which is a hint: what it has lost is put back by those who know

    async def tags(self) -> set[bytes]:
        """Return the tags that are in use."""
        ...

    async def index(self, tags: Collection[bytes]) -> None:
        """Put tags into the index."""
        ...

    async def unindex(self, tag: bytes) -> None:
        """Take a tag out."""
        ...

    # --- leases and fences

    async def claim_tag(self, session: Session) -> bool:
        """Take a tag if nothing stands under it, or if it is this session's already."""
        ...

    async def renew(self, session: Session, *, opening: bool) -> Standing:
        """Renew a lease.

        Args:
            session: Tag, incarnation and number.
            opening: The first time in a session: from now on what earlier ones sent is refused,
                and a lease that is gone is written again.
        """
        ...

    async def release(self, session: Session) -> bool:
        """Give a lease up, and leave a fence of `NOBODY`: the node is gone, and not just out of sight.

        Returns:
            Whether there are no entries.
        """
        ...

    async def read(self, tag: bytes) -> Reading:
        """Return what stands under a tag."""
        ...

    async def fence(self, tag: bytes, expected: Reading, incarnation: str) -> bool:
        """Replace lease or fence by a fence of one's own.

        Returns:
            False when it is not as expected any more (`entry_count` does not matter).
        """
        ...

    async def beat(self, hold: Hold) -> bool:
        """Show that a recovery goes on; False when it is another's."""
        ...

    async def hand_back(self, hold: Hold) -> None:
        """Leave a recovery to anybody."""
        ...

    # --- entries

    async def put(self, hold: Hold, items: Mapping[bytes, bytes]) -> bool:
        """Write entries; False when nothing was, for the tag is not held so."""
        ...

    async def take(self, hold: Hold, field: bytes, value: bytes) -> Taken:
        """Write one entry, if it is there."""
        ...

    async def remove(self, hold: Hold, fields: Collection[bytes]) -> bool:
        """Remove entries; False when nothing was, for the tag is not held so."""
        ...

    async def scan(self, hold: Hold, cursor: int, size: int) -> Batch | None:
        """Return about `size` entries; None when the tag is not held so."""
        ...

    async def look(self, tag: bytes, cursor: int, size: int) -> Batch:
        """Return about `size` entries, whoever holds the tag."""
        ...
