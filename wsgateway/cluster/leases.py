"""When is a node given up, and what may a node believe of itself? Rules only: `now` is an argument.

An absent lease proves nothing, and no clock but one's own is believed. A lease is a counter that
its holder moves. Who has seen it stand still for one full lease time, with unbroken contact all
the while, may put a fence in its place, which the store does only if the counter still stands
where it stood. The same holds for a fence whose holder stands still.

Instants are the node's own monotonic seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from wsgateway.cluster.store import FENCE_TTL_S, NOBODY, Standing

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from wsgateway.cluster.store import Fence, Lease, Reading

# Four renewals fit into a lease time, so that one may be lost and the next be late.
_BEATS_PER_LEASE = 4
# Who has not looked for that part of a lease time may have slept, and so may all others with it.
_GAP_PER_LEASE = 0.5
# A node remembers whom it has fenced, in case the store forgets. As many as a large cluster loses
# in a day.
_FENCED_MAX = 1024


@dataclass(frozen=True, slots=True)
class Times:
    """The durations that follow from the lease time.

    Attributes:
        lease_s: How long a node's counter has to stand still before it is given up.
    """

    lease_s: float

    @property
    def beat_interval_s(self) -> float:
        """How often a lease is renewed, and the others looked at."""
        return self.lease_s / _BEATS_PER_LEASE

    @property
    def gap_max_s(self) -> float:
        """How long one may not have looked, and still have looked without a break."""
        return self.lease_s * _GAP_PER_LEASE

    @property
    def retry_max_s(self) -> float:
        """The longest pause between two attempts to reach the store.

        A node that waits longer after an outage than the others' amnesty lasts is taken for dead.
        """
        return self.beat_interval_s

    @property
    def retry_min_s(self) -> float:
        """The shortest."""
        return self.lease_s / 64


class TakeOver(NamedTuple):
    """Put a fence under this tag, if it still reads so."""

    tag: bytes
    expected: Reading


class Forget(NamedTuple):
    """Nothing is left under this tag."""

    tag: bytes


Decision = TakeOver | Forget


class _Evidence(NamedTuple):
    lease: Lease | None
    fence: Fence | None
    since: float


class Watch:
    """What one node has seen of the others, and whom it may give up.

    Args:
        times: The durations.
        incarnation: This node's own.
    """

    def __init__(self, times: Times, incarnation: str) -> None:
        self._times = times
        self._incarnation = incarnation
        self._evidence: dict[bytes, _Evidence] = {}
        self._known: set[bytes] = set()
        self._seen_at: float | None = None
        self._fenced: dict[tuple[bytes, str], None] = {}
        self._abandoned: dict[bytes, float] = {}

    @property
    def tags(self) -> Collection[bytes]:
        """Those of which something is known: the index should have them."""
        return self._known

    @property
    def due_at(self) -> float | None:
        """When the first of them may be given up, if it stands still until then."""
        if not self._evidence:
            return None
        return min(seen.since for seen in self._evidence.values()) + self._times.lease_s

    def lost(self) -> None:
        """Contact is lost: there is one lease time of amnesty from the next look on.

        The tags stay known, for the index; nothing is held against them.
        """
        self._seen_at = None

    def fenced(self, tag: bytes, incarnation: str) -> None:
        """Remember whom this node has fenced: it must not come back, whatever the store forgets."""
        if not incarnation:
            return
        self._fenced[tag, incarnation] = None
        if len(self._fenced) > _FENCED_MAX:
            del self._fenced[next(iter(self._fenced))]

    def abandoned(self, tag: bytes, now: float) -> None:
        """What is left under this tag is not for this node: leave it to others for a while."""
        self._abandoned[tag] = now + 12 * self._times.lease_s

    def observe(
        self,
        sent_at: float,
        received_at: float,
        readings: Mapping[bytes, Reading | None],
        busy: Collection[bytes],
    ) -> list[Decision]:
        """Take in one look at all others.

        Args:
            sent_at: Before the first question was sent.
            received_at: After the last answer came.
            readings: By tag; None where there was no answer.
            busy: Tags that this node recovers already.
        """
        if self._seen_at is None or sent_at - self._seen_at > self._times.gap_max_s:
            before: dict[bytes, _Evidence] = {}
        else:
            before = self._evidence
        self._seen_at = received_at
        self._evidence = {}
        self._known = set(readings)
        self._abandoned = {t: until for t, until in self._abandoned.items() if until > sent_at}
        decisions: list[Decision] = []
        for tag, reading in readings.items():
            if reading is None:
                # Contact with this tag's part of the store is broken: its amnesty begins anew.
                continue
            if reading.lease is None and not reading.entry_count:
                self._known.discard(tag)
                decisions.append(Forget(tag))
                continue
            seen = before.get(tag)
            stands_still = seen is not None and (seen.lease, seen.fence) == reading[:2]
            since = seen.since if seen is not None and stands_still else received_at
            self._evidence[tag] = _Evidence(reading.lease, reading.fence, since)
            if tag in busy or tag in self._abandoned:
                continue
            if sent_at - since >= self._times.lease_s or self._is_free(tag, reading):
                decisions.append(TakeOver(tag, reading))
        return decisions

    def _is_free(self, tag: bytes, reading: Reading) -> bool:
        """Whether nothing has to be waited for."""
        if reading.fence is not None:
            # Its own: it wrote the fence, but did not learn that it had.
            return reading.fence.holder in {NOBODY, self._incarnation}
        return reading.lease is not None and (tag, reading.lease.incarnation) in self._fenced


class Verdict(Enum):
    """What a node does after it has renewed its lease."""

    GO_ON = "go on"
    OPEN = "open"
    """Open another session, at once."""
    FENCED = "fenced"
    """Close all connections; their `$disconnect`s are others' to deliver. Take a new tag."""
    EVICTED = "evicted"
    """Close all connections and take a new tag; their `$disconnect`s are this node's to deliver."""


class Tenure:
    """What a node may believe of its own lease."""

    def __init__(self, times: Times) -> None:
        self._times = times
        self._renewed_at: float | None = None
        self.lost_at: float | None = None
        """When contact was lost; None while there is contact."""

    def begin(self, sent_at: float) -> None:
        """Take a tag."""
        self._renewed_at = sent_at
        self.lost_at = None

    def lose(self, now: float) -> None:
        """Contact is lost, or still is."""
        if self.lost_at is None:
            self.lost_at = now

    def is_certain(self, now: float) -> bool:
        """Whether nobody can have given this node up yet, wherever contact is."""
        return self._renewed_at is not None and now - self._renewed_at < self._times.lease_s

    def judge(self, standing: Standing, sent_at: float) -> Verdict:
        """Take in what the store answered to a renewal that was sent then."""
        match standing:
            case Standing.FENCED:
                return Verdict.FENCED
            case Standing.TAKEN:
                return Verdict.EVICTED
            case Standing.ABSENT:
                return Verdict.OPEN
            case Standing.HELD | Standing.CREATED:
                slept_s = 0.0 if self._renewed_at is None else sent_at - self._renewed_at
                self._renewed_at, self.lost_at = sent_at, None
                if standing is Standing.CREATED and slept_s >= FENCE_TTL_S:
                    # There may have been a fence, and its time may be over.
                    return Verdict.FENCED
                return Verdict.GO_ON


class Backoff:
    """Pauses between attempts: they double up to a bound, each cut by up to a half at random."""

    def __init__(self, times: Times) -> None:
        self._times = times
        self._pause_s = times.retry_min_s

    def reset(self) -> None:
        """Begin with the shortest again."""
        self._pause_s = self._times.retry_min_s

    def next_s(self, chance: float) -> float:
        """Return the next pause.

        Args:
            chance: A random number from 0 to 1.
        """
        pause_s = self._pause_s
        self._pause_s = min(2 * pause_s, self._times.retry_max_s)
        return pause_s * (1 - chance / 2)
