"""This node among the others: its tag and lease, and what it does for those that are gone.

Two loops run side by side, each four times in a lease time: one renews this node's lease, the
other looks at the leases of all others. The rules are in `leases`.
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, NamedTuple

import structlog

from wsgateway.cluster.leases import Backoff, Forget, TakeOver, Tenure, Times, Verdict, Watch
from wsgateway.cluster.recovery import Line, Outcome, Recovery
from wsgateway.cluster.store import ContactLost, Session, Standing, fence_hold
from wsgateway.cluster.tasks import end
from wsgateway.connection_id import TAG_SIZE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from wsgateway.cluster.contact import Contact
    from wsgateway.cluster.redis_registry import RedisRegistry
    from wsgateway.cluster.store import Reading, Store
    from wsgateway.connection import ConnectionEntry

log = structlog.stdlib.get_logger(__name__)

LEASE_S = 5.0
"""The default. A node is given up when it shows no life for that long."""
RECOVERY_RATE_MAX = 1000.0
"""`$disconnect`s a second for nodes that are gone, as many as a drain closes connections."""

_INCARNATION_SIZE = 8
# Tags are drawn from 16 million: that many in a row in use is a fault of the dice.
_DRAWS_MAX = 16


class Health(NamedTuple):
    """What an operator may want to know.

    Attributes:
        tag: None while the node has none.
        contact_lost_s: For how long contact has been lost; None while there is contact.
        is_certain: Whether no other node can have given this one up.
        recovering: Gone nodes whose `$disconnect`s this node delivers.
        recovered: `$disconnect`s delivered for gone nodes so far.
        others: Other nodes, and what is left of gone ones.
        fenced: How often this node was given up by others.
    """

    tag: bytes | None
    contact_lost_s: float | None
    is_certain: bool
    recovering: int
    recovered: int
    others: int
    fenced: int


class Membership:
    """A node's place in the cluster.

    Args:
        store: What the nodes share.
        contact: Told of sessions; shared with the registry.
        registry: This node's connections.
        api_id: Of every key.
        lease_s: The same on every node; see `LEASE_S`.
        orphan: Delivers the `$disconnect` of a gone node's connection: entry, request id, code,
            reason.
        on_fenced: Called when others have given this node up: close every connection with 1001,
            and give no ids until `on_joined`.
        on_joined: Called with the node's new tag, after `on_fenced`.
        entropy: Returns that many random bytes.
        recovery_concurrency_max: `$disconnect`s for gone nodes at once.
        recovery_rate_max: How many a second.
        now: Monotonic seconds.
        chance: A random number from 0 to 1, for pauses between attempts.
    """

    def __init__(
        self,
        store: Store,
        contact: Contact,
        registry: RedisRegistry,
        *,
        api_id: str,
        lease_s: float,
        orphan: Callable[[ConnectionEntry, str, int, str], Awaitable[None]],
        on_fenced: Callable[[], None],
        on_joined: Callable[[bytes], None],
        entropy: Callable[[int], bytes],
        recovery_concurrency_max: int,
        recovery_rate_max: float = RECOVERY_RATE_MAX,
        now: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.incarnation = entropy(_INCARNATION_SIZE).hex()
        self._store = store
        self._contact = contact
        self._registry = registry
        self._api_id = api_id
        self._orphan = orphan
        self._on_fenced = on_fenced
        self._on_joined = on_joined
        self._entropy = entropy
        self._line = Line(concurrency_max=recovery_concurrency_max, rate_max=recovery_rate_max)
        self._now = now
        self._chance = chance
        self._times = Times(lease_s)
        self._watch = Watch(self._times, self.incarnation)
        self._tenure = Tenure(self._times)
        self._backoff = Backoff(self._times)
        self._tag: bytes | None = None
        self._draw: bytes | None = None
        self._number = 0
        self._synced: Session | None = None
        self._looked_in: Session | None = None
        self._resyncing: asyncio.Task[None] | None = None
        self._recoveries: dict[bytes, tuple[Recovery, asyncio.Task[None]]] = {}
        self._loops: list[asyncio.Task[None]] = []
        self._recovered = 0
        self._fenced_count = 0

    def health(self) -> Health:
        """Tell how things are."""
        now, lost_at = self._now(), self._tenure.lost_at
        return Health(
            tag=self._contact.tag,
            contact_lost_s=None if lost_at is None else now - lost_at,
            is_certain=self._tenure.is_certain(now),
            recovering=len(self._recoveries),
            recovered=self._recovered
            + sum(r.delivered_count for r, _ in self._recoveries.values()),
            others=len(set(self._watch.tags) - {self._tag}),
            fenced=self._fenced_count,
        )

    def knows(self, tag: bytes) -> bool:
        """Whether a node has been seen under a tag that nobody has given up since."""
        return tag in self._watch.tags

    # --- start and stop

    async def start(self) -> bytes:
        """Take a tag and begin.

        Raises:
            ContactLost: There is no store; nothing has begun, and it can be tried again.
        """
        tag = await self._join()
        self._loops = [
            asyncio.create_task(self._beat_for_ever()),
            asyncio.create_task(self._watch_for_ever()),
        ]
        return tag

    async def stop(self, *, hand_over: bool) -> int:
        """Leave. Takes at most one lease time.

        Args:
            hand_over: Let others deliver at once what is not finished, here or in a recovery.
                Otherwise they wait until they have seen this node stand still, as after a crash.

        Returns:
            How many `$disconnect`s are left to others.
        """
        recovering = list(self._recoveries)
        tasks = [*self._loops, *(task for _, task in self._recoveries.values())]
        if self._resyncing is not None:
            tasks.append(self._resyncing)
        await end(tasks)
        if hand_over:
            try:
                async with asyncio.timeout(self._times.lease_s):
                    await self._hand_over(recovering)
            except (ContactLost, TimeoutError) as error:
                log.warning(
                    "others will find out by themselves that this node has left", error=str(error)
                )
        if self._contact.session is not None:
            self._contact.lose(self._contact.session)
        return len(self._registry)

    async def _hand_over(self, recovering: list[bytes]) -> None:
        for tag in recovering:
            await self._store.hand_back(fence_hold(tag, self.incarnation))
        if self._tag is None:
            return
        await self._store.index([self._tag])
        session = self._contact.session
        if session is None:
            # One attempt: what was accepted or has ended since contact was lost is not there yet.
            session = self._next_session(self._tag)
            standing = await self._store.renew(session, opening=True)
            if standing not in {Standing.HELD, Standing.CREATED}:
                return
            self._contact.open(session)
        if self._synced is not session:
            await self._registry.resync(session, is_empty=False)
        if await self._store.release(session):
            await self._store.unindex(session.tag)

    # --- this node's lease

    async def _beat_for_ever(self) -> None:
        while True:
            before = self._contact.session
            if await self.beat():
                pause_s = self._times.beat_interval_s
                # A session that is opened time and again, and never lasts, is no contact.
                if self._contact.session is before:
                    self._backoff.reset()
            else:
                pause_s = self._backoff.next_s(self._chance())
            wanted = self._contact.wanted
            try:
                async with asyncio.timeout(pause_s):
                    await wanted.wait()
            except TimeoutError:
                continue
            wanted.clear()
            # Somebody's command had no good answer: soon, but not at once.
            await asyncio.sleep(self._backoff.next_s(self._chance()))

    async def beat(self) -> bool:
        """Renew the lease once, or open a session, or take a new tag; False when contact is lost."""
        try:
            if self._tag is None:
                self._on_joined(await self._join())
                return True
            verdict = await self._renew(self._tag)
            if verdict is Verdict.OPEN:
                if self._contact.session is not None:
                    self._contact.lose(self._contact.session)
                verdict = await self._renew(self._tag)
            if verdict in {Verdict.FENCED, Verdict.EVICTED}:
                self._give_up(verdict)
                self._on_joined(await self._join())
            await self._beat_recoveries()
        except ContactLost as error:
            self._lost(str(error))
            return False
        except Exception as error:
            # A node whose loop has ended would be given up while it serves.
            log.exception("a renewal failed")
            self._lost(repr(error))
            return False
        return self._contact.session is not None

    async def _renew(self, tag: bytes) -> Verdict:
        session = self._contact.session
        opening = session is None
        if session is None:
            session = self._next_session(tag)
        sent_at = self._now()
        standing = await self._store.renew(session, opening=opening)
        lost_at = self._tenure.lost_at
        verdict = self._tenure.judge(standing, sent_at)
        if verdict is Verdict.GO_ON and opening:
            if lost_at is not None:
                log.info("contact with the registry is back", found=standing.value)
            self._contact.open(session)
            self._resync(session, is_empty=standing is Standing.CREATED)
        return verdict

    def _next_session(self, tag: bytes) -> Session:
        self._number += 1
        return Session(tag, self.incarnation, self._number)

    def _resync(self, session: Session, *, is_empty: bool) -> None:
        if self._resyncing is not None:
            self._resyncing.cancel()

        self._resyncing = asyncio.create_task(self._sync(session, is_empty=is_empty))

    async def _sync(self, session: Session, *, is_empty: bool) -> None:
        try:
            if is_empty:
                # The index may be gone too, and entries of a tag that is not in it are not found.
                await self._store.index([session.tag])
            if await self._registry.resync(session, is_empty=is_empty):
                self._synced = session
        except ContactLost:
            self._contact.lose(session)
        except Exception:
            log.exception("a comparison with the registry failed")
            self._contact.lose(session)

    def _lost(self, problem: str) -> None:
        if self._tenure.lost_at is None:
            log.warning("contact with the registry is lost", error=problem)
        self._tenure.lose(self._now())
        if self._contact.session is not None:
            self._contact.lose(self._contact.session)
        self._contact.wanted.clear()
        self._watch.lost()

    def _give_up(self, verdict: Verdict) -> None:
        """Others have given this node up: it becomes another one."""
        count = len(self._registry)
        log.error(
            "this node was given up by the others; it closes its connections and joins anew",
            connections=count,
            verdict=verdict.value,
        )
        self._fenced_count += 1
        self._contact.leave()
        self._tag = None
        if verdict is Verdict.FENCED:
            self._registry.fenced()
        self._on_fenced()

    async def _join(self) -> bytes:
        for _ in range(_DRAWS_MAX):
            # After an attempt without an answer the same once more: it may have been taken.
            if self._draw is None:
                self._draw = self._entropy(TAG_SIZE)
            tag = self._draw
            # First, so that a lease is never without its place in the index.
            await self._store.index([tag])
            session = Session(tag, self.incarnation, self._number + 1)
            sent_at = self._now()
            is_mine = await self._store.claim_tag(session)
            self._draw = None
            if is_mine:
                self._number = session.number
                self._tag = tag
                self._tenure.begin(sent_at)
                self._contact.open(session)
                self._resync(session, is_empty=True)
                return tag
        raise ContactLost("no tag was free")

    # --- the others

    async def _watch_for_ever(self) -> None:
        while True:
            pause_s = self._times.beat_interval_s
            due_at = self._watch.due_at
            if due_at is not None:
                pause_s = min(pause_s, max(due_at - self._now(), self._times.retry_min_s))
            await asyncio.sleep(pause_s)
            try:
                await self.look()
            except Exception:
                log.exception("a look at the others failed")
                self._watch.lost()

    async def look(self) -> None:
        """Look at all others once, and do what is to be done."""
        session = self._contact.session
        if session is None or session is not self._looked_in:
            self._watch.lost()
        self._looked_in = session
        if session is None:
            return
        sent_at = self._now()
        try:
            tags = await self._store.tags()
            known = {session.tag, *self._watch.tags}
            if not known <= tags:
                await self._store.index(known - tags)
            others = sorted((tags | known) - {session.tag})
            readings = await asyncio.gather(*map(self._read, others))
        except ContactLost as error:
            log.debug("the others cannot be seen", error=str(error))
            self._watch.lost()
            return
        if self._contact.session is not session:
            self._watch.lost()
            return
        decisions = self._watch.observe(
            sent_at,
            self._now(),
            dict(zip(others, readings, strict=True)),
            self._recoveries.keys(),
        )
        for decision in decisions:
            try:
                match decision:
                    case TakeOver(tag, expected):
                        await self._take_over(tag, expected)
                    case Forget(tag):
                        await self._store.unindex(tag)
            # The next look decides anew.
            except ContactLost as error:
                log.debug("a decision has to wait", error=str(error))

    async def _read(self, tag: bytes) -> Reading | None:
        try:
            return await self._store.read(tag)
        except ContactLost:
            return None

    async def _take_over(self, tag: bytes, expected: Reading) -> None:
        if not await self._store.fence(tag, expected, self.incarnation):
            return
        of = expected.lease.incarnation if expected.lease else ""
        self._watch.fenced(tag, of)
        log.warning("a node is gone", tag=tag.hex(), connections=expected.entry_count)
        recovery = Recovery(
            self._store,
            tag,
            incarnation=self.incarnation,
            api_id=self._api_id,
            orphan=self._orphan,
            line=self._line,
            retry_s=self._times.retry_max_s,
        )
        self._recoveries[tag] = recovery, asyncio.create_task(self._recover(tag, recovery))

    async def _recover(self, tag: bytes, recovery: Recovery) -> None:
        try:
            outcome = await recovery.run()
            log.info(
                "a gone node is recovered",
                tag=tag.hex(),
                outcome=outcome.value,
                disconnects=recovery.delivered_count,
            )
            if outcome is Outcome.ABANDONED:
                self._watch.abandoned(tag, self._now())
        except Exception:
            log.exception("a recovery failed", tag=tag.hex())
            self._watch.abandoned(tag, self._now())
        finally:
            del self._recoveries[tag]
            self._recovered += recovery.delivered_count

    async def _beat_recoveries(self) -> None:
        """Show that they go on. One that is another's by now finds that out by itself."""
        answers = await asyncio.gather(
            *(self._store.beat(fence_hold(tag, self.incarnation)) for tag in self._recoveries),
            return_exceptions=True,
        )
        for answer in answers:
            # Their tags may be in a part of the store that is away.
            if isinstance(answer, BaseException) and not isinstance(answer, ContactLost):
                raise answer
