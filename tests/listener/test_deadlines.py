from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from wsgateway.listener.deadlines import Deadlines

if TYPE_CHECKING:
    from collections.abc import Callable


class Thing:
    """Records when it is visited, and says what it is told to say."""

    def __init__(self, *next_visits: float | None) -> None:
        self.bucket = -1
        self.visited_at: list[float] = []
        self.then: Callable[[float], None] = lambda now_s: None
        self._next_visits = list(next_visits)

    def visit(self, now_s: float) -> float | None:
        self.visited_at.append(now_s)
        self.then(now_s)
        return self._next_visits.pop(0) if self._next_visits else None


@pytest.fixture
def deadlines() -> Deadlines:
    return Deadlines(100.0)


def sweep_each_second(deadlines: Deadlines, until_s: int) -> None:
    for second in range(101, until_s + 1):
        deadlines.sweep(float(second))


def test_is_visited_in_its_second_and_never_again(deadlines: Deadlines) -> None:
    thing = Thing()
    deadlines.watch(thing, 105.0)

    sweep_each_second(deadlines, 120)

    assert thing.visited_at == [105.0]
    assert len(deadlines) == 0


def test_is_never_visited_before_its_instant(deadlines: Deadlines) -> None:
    thing = Thing()
    deadlines.watch(thing, 105.001)

    deadlines.sweep(105.9)
    assert thing.visited_at == []
    deadlines.sweep(106.0)
    assert thing.visited_at == [106.0]


def test_an_instant_that_has_passed_is_visited_by_the_next_sweep(deadlines: Deadlines) -> None:
    thing = Thing()
    deadlines.watch(thing, 3.0)

    deadlines.sweep(101.0)

    assert thing.visited_at == [101.0]


def test_watching_again_moves_the_visit_forward(deadlines: Deadlines) -> None:
    thing = Thing()
    deadlines.watch(thing, 150.0)
    deadlines.watch(thing, 105.0)

    sweep_each_second(deadlines, 200)

    assert thing.visited_at == [105.0]


def test_watching_again_does_not_move_the_visit_back(deadlines: Deadlines) -> None:
    """The owner's number has moved; the visit finds out, and says when to come back."""
    thing = Thing(150.0)
    deadlines.watch(thing, 105.0)
    deadlines.watch(thing, 150.0)

    sweep_each_second(deadlines, 200)

    assert thing.visited_at == [105.0, 150.0]


def test_forgotten_is_not_visited(deadlines: Deadlines) -> None:
    thing = Thing()
    deadlines.watch(thing, 105.0)

    deadlines.forget(thing)
    deadlines.forget(thing)

    assert len(deadlines) == 0
    sweep_each_second(deadlines, 120)
    assert thing.visited_at == []


def test_forgotten_can_be_watched_again(deadlines: Deadlines) -> None:
    thing = Thing()
    deadlines.watch(thing, 105.0)
    deadlines.forget(thing)
    deadlines.watch(thing, 107.0)

    sweep_each_second(deadlines, 120)

    assert thing.visited_at == [107.0]


def test_forgetting_one_keeps_its_neighbours(deadlines: Deadlines) -> None:
    gone, kept = Thing(), Thing()
    deadlines.watch(gone, 105.0)
    deadlines.watch(kept, 105.0)

    deadlines.forget(gone)

    assert len(deadlines) == 1
    sweep_each_second(deadlines, 120)
    assert kept.visited_at == [105.0]


def test_a_jump_of_hours_visits_all_that_came_due_once(deadlines: Deadlines) -> None:
    things = [Thing() for _ in range(3)]
    for thing, at_s in zip(things, (101.0, 3_000.5, 10_000.0), strict=True):
        deadlines.watch(thing, at_s)

    deadlines.sweep(10_900.0)

    assert [thing.visited_at for thing in things] == [[10_900.0]] * 3
    assert len(deadlines) == 0


def test_after_a_jump_the_next_visit_counts_from_now(deadlines: Deadlines) -> None:
    thing = Thing(10_905.0)
    deadlines.watch(thing, 105.0)

    deadlines.sweep(10_900.0)
    deadlines.sweep(10_904.0)
    assert thing.visited_at == [10_900.0]
    deadlines.sweep(10_905.0)
    assert thing.visited_at == [10_900.0, 10_905.0]


def test_a_clock_that_stands_still_visits_nothing_twice(deadlines: Deadlines) -> None:
    thing = Thing(102.0, 103.0)
    deadlines.watch(thing, 101.0)

    deadlines.sweep(101.0)
    deadlines.sweep(101.0)
    deadlines.sweep(100.0)

    assert thing.visited_at == [101.0]


def test_a_visit_may_watch_by_itself(deadlines: Deadlines) -> None:
    """The earlier of what it asked for and what it returned holds."""
    thing = Thing(110.0)
    thing.then = lambda now_s: deadlines.watch(thing, 106.0) if now_s == 105.0 else None
    deadlines.watch(thing, 105.0)

    sweep_each_second(deadlines, 108)

    assert thing.visited_at == [105.0, 106.0]
    assert len(deadlines) == 0


def test_a_visit_may_forget_itself(deadlines: Deadlines) -> None:
    thing = Thing()
    thing.then = lambda _: deadlines.forget(thing)
    deadlines.watch(thing, 105.0)

    sweep_each_second(deadlines, 120)

    assert thing.visited_at == [105.0]


def test_a_visit_may_forget_another_of_the_same_second(deadlines: Deadlines) -> None:
    """Which of the two is visited first is not said; the second one is not visited."""
    one, other = Thing(), Thing()
    one.then = lambda _: deadlines.forget(other)
    other.then = lambda _: deadlines.forget(one)
    deadlines.watch(one, 105.0)
    deadlines.watch(other, 105.0)

    sweep_each_second(deadlines, 120)

    assert sorted([one.visited_at, other.visited_at]) == [[], [105.0]]
    assert len(deadlines) == 0


def test_a_visit_that_fails_does_not_keep_the_others_from_theirs(deadlines: Deadlines) -> None:
    def fail(_: float) -> None:
        raise RuntimeError("broken")

    things = [Thing() for _ in range(5)]
    for thing in things:
        thing.then = fail
        deadlines.watch(thing, 105.0)

    with capture_logs() as logs:
        sweep_each_second(deadlines, 120)

    assert [thing.visited_at for thing in things] == [[105.0]] * 5
    assert [line["event"] for line in logs] == ["visit failed"] * 5
    assert len(deadlines) == 0


def test_a_visit_that_asks_for_the_past_comes_back_in_the_next_sweep(deadlines: Deadlines) -> None:
    thing = Thing(101.0, 101.0)
    deadlines.watch(thing, 101.0)

    deadlines.sweep(5_000.0)
    assert thing.visited_at == [5_000.0]
    deadlines.sweep(5_001.0)
    assert thing.visited_at == [5_000.0, 5_001.0]
