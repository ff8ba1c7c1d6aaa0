"""What an operator is told of a call, in the words of a backend's answer."""

from __future__ import annotations

import pytest

from wsgateway.cluster.bus import Unanswered
from wsgateway.connection import ConnectionKey
from wsgateway.connections_command.calls import problem_of
from wsgateway.errors import DeliveryFailed, GatewayError, Gone, LimitExceeded

KEYS = [ConnectionKey("abcde12345", stage, "L0SM9cOFvHcCIhw=") for stage in ("dev", "prod", "x")]


class Owners:
    """Answers for each stage, by raising or not."""

    def __init__(self, *answers: GatewayError | None) -> None:
        self.asked: list[ConnectionKey] = []
        self._answers = list(answers)

    async def call(self, key: ConnectionKey) -> None:
        self.asked.append(key)
        if answer := self._answers[KEYS.index(key)]:
            raise answer


async def test_stages_are_asked_until_one_has_the_connection() -> None:
    owners = Owners(Gone(), None, None)

    assert await problem_of(KEYS, owners.call) is None
    assert owners.asked == KEYS[:2]


async def test_a_connection_that_no_stage_has_is_gone() -> None:
    owners = Owners(Gone(), Gone(), Gone())

    assert await problem_of(KEYS, owners.call) == "410, there is no such connection"
    assert owners.asked == KEYS


@pytest.mark.parametrize(
    ("error", "problem"),
    [
        (LimitExceeded(), "429, the client does not read, or too much is under way"),
        (DeliveryFailed("no receiver"), "500, no receiver"),
        (Unanswered("no reply"), "500, no reply; it may have happened"),
        (GatewayError("contact was lost"), "500, contact was lost"),
    ],
)
async def test_what_else_goes_wrong_ends_the_asking(error: GatewayError, problem: str) -> None:
    owners = Owners(error, None, None)

    assert await problem_of(KEYS, owners.call) == problem
    assert owners.asked == KEYS[:1]
