"""Posts all the time, and whether what was answered is what arrived."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from tests.cluster.nodes import DEADLINE_S, FAILED, NO_ANSWER, OK, Client, Fleet, Node
from tests.e2e.process import until

if TYPE_CHECKING:
    from collections.abc import Sequence

_PAIR_POSTS = 10
_NUMBERS = itertools.count(1)


@dataclass(slots=True)
class Post:
    """One message to one client, posted again when the answer is 500 or none.

    Attributes:
        answers: The statuses.
    """

    client: Client
    through: Node
    text: str
    began_at: float
    ended_at: float = 0.0
    answers: list[int] = field(default_factory=list)

    @property
    def times_max(self) -> int:
        """How often it may arrive: 500 says that it may have."""
        return sum(answer in {OK, FAILED, NO_ANSWER} for answer in self.answers)


class Load:
    """Posts to clients, through nodes, until the block ends.

    Both lists may be changed meanwhile.

    Args:
        fleet: Posts.
        clients: To one of them at a time.
        through: By way of one of them.
        posters: Posts at once.
        tries: How often a post is tried.
    """

    def __init__(
        self,
        fleet: Fleet,
        clients: list[Client],
        through: list[Node],
        *,
        posters: int = 8,
        tries: int = 1,
    ) -> None:
        self.clients = clients
        self.through = through
        self.posts: list[Post] = []
        self._fleet = fleet
        self._posters = posters
        self._tries = tries
        self._pairs: dict[tuple[Node, Node], deque[Post]] = {}
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._post()) for _ in range(self._posters)]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Post no more; those under way are answered first."""
        self._stopping = True
        await asyncio.gather(*self._tasks)

    async def _post(self) -> None:
        while not self._stopping:
            # A load, not as many as it can: the nodes share the machine with the test.
            await asyncio.sleep(0.01)
            if not self.clients or not self.through:
                continue
            client, through = random.choice(self.clients), random.choice(self.through)
            post = Post(client, through, f"post {next(_NUMBERS)}", time.monotonic())
            self.posts.append(post)
            while len(post.answers) < self._tries and post.answers[-1:] in (
                [],
                [FAILED],
                [NO_ANSWER],
            ):
                post.answers.append(
                    await self._fleet.post(through, client.connection_id, post.text)
                )
            post.ended_at = time.monotonic()
            pair = self._pairs.setdefault((through, client.node), deque(maxlen=_PAIR_POSTS))
            pair.append(post)

    async def flows(self, since: float) -> float:
        """Wait until posts between all nodes succeed.

        Args:
            since: Monotonic seconds; posts that began before do not count.

        Returns:
            How long after that the last one failed.
        """
        pairs = [
            (through, owner)
            for through in self.through
            for owner in {client.node for client in self.clients}
        ]
        await until(lambda: all(self._pair_flows(pair, since) for pair in pairs), DEADLINE_S)
        failed = [post.ended_at for post in self.posts if set(post.answers) - {OK}]
        return max([since, *failed]) - since

    def _pair_flows(self, pair: tuple[Node, Node], since: float) -> bool:
        posts = self._pairs.get(pair, ())
        return len(posts) == _PAIR_POSTS and all(
            post.began_at > since and post.answers == [OK] for post in posts
        )

    def statuses(self, clients: Sequence[Client] | None = None) -> Counter[int]:
        """Count the answers, to posts to these clients or to all."""
        of = None if clients is None else set(clients)
        return Counter(
            answer
            for post in self.posts
            if of is None or post.client in of
            for answer in post.answers
        )

    async def balances(self) -> int:
        """See that clients that are still connected got what they were said to get.

        Returns:
            How many posts that were answered 200 did not reach clients that are gone by now.
        """
        await self.stop()
        # An answer may overtake the message it is about.
        await until(lambda: not self.missing(of_gone=False), DEADLINE_S)
        assert self.too_often() == []
        return len(self.missing(of_gone=True))

    def missing(self, *, of_gone: bool) -> list[str]:
        """Return posts that were answered 200 and not received.

        Args:
            of_gone: To clients whose connection has ended, or to those whose connection has not.
        """
        received = {client: set(client.received) for client in {p.client for p in self.posts}}
        return [
            post.text
            for post in self.posts
            if OK in post.answers
            and post.client.is_open != of_gone
            and post.text not in received[post.client]
        ]

    def too_often(self) -> list[str]:
        """Return posts that were received more often than their answers allow."""
        times = Counter(
            text for client in {post.client for post in self.posts} for text in client.received
        )
        return [post.text for post in self.posts if times[post.text] > post.times_max]
