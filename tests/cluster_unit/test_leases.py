"""The rules about leases, with time as a number."""

from __future__ import annotations

import pytest

from wsgateway.cluster.leases import Backoff, Forget, TakeOver, Tenure, Times, Verdict, Watch
from wsgateway.cluster.store import FENCE_TTL_S, NOBODY, Fence, Lease, Reading, Standing

TIMES = Times(4.0)
TAG, OTHER = b"\x01\x02\x03", b"\x04\x05\x06"


def alive(beat: int, holder: str = "them/1", entries: int = 1) -> Reading:
    return Reading(Lease(holder, beat), None, entries)


def fenced(holder: str, beat: int = 1, entries: int = 1) -> Reading:
    return Reading(None, Fence("them", holder, beat), entries)


GONE = Reading(None, None, 0)


def looks(watch: Watch, *readings: tuple[float, Reading | None], busy: tuple[bytes, ...] = ()):
    """The decisions of the last of several looks, which take no time."""
    decisions = None
    for now, reading in readings:
        decisions = watch.observe(now, now, {TAG: reading}, busy)
    return decisions


def watch() -> Watch:
    return Watch(TIMES, "me")


class TestStandingStill:
    def test_a_node_is_given_up_after_one_lease_time(self) -> None:
        one = watch()

        assert looks(one, (0, alive(1)), (1, alive(1)), (2, alive(1)), (3.9, alive(1))) == []
        assert looks(one, (4.0, alive(1))) == [TakeOver(TAG, alive(1))]

    def test_a_beat_begins_it_anew(self) -> None:
        one = watch()

        assert looks(one, *((now, alive(now // 3)) for now in range(20))) == []

    def test_another_session_is_a_beat(self) -> None:
        one = watch()

        assert looks(one, *((now, alive(7, f"them/{now // 3}")) for now in range(20))) == []

    def test_it_counts_from_the_answer_to_the_question(self) -> None:
        """The first look may have seen what a beat replaced while the answer was under way."""
        one = watch()
        one.observe(0.0, 1.0, {TAG: alive(1)}, ())
        one.observe(2.5, 2.9, {TAG: alive(1)}, ())

        assert one.observe(4.5, 5.5, {TAG: alive(1)}, ()) == []
        assert one.observe(5.6, 5.7, {TAG: alive(1)}, ()) == [TakeOver(TAG, alive(1))]

    def test_due_at_is_when_it_may_be_given_up(self) -> None:
        one = watch()
        assert one.due_at is None

        one.observe(0.0, 0.5, {TAG: alive(1), OTHER: alive(1)}, ())
        one.observe(1.0, 1.5, {TAG: alive(1), OTHER: alive(2)}, ())

        assert one.due_at == 4.5

    def test_the_number_of_entries_is_no_sign_of_life(self) -> None:
        one = watch()

        decisions = looks(one, *((now, alive(1, entries=now + 1)) for now in range(5)))

        assert decisions == [TakeOver(TAG, alive(1, entries=5))]


class TestAmnesty:
    def test_loss_of_contact_begins_it(self) -> None:
        one = watch()
        looks(one, (0, alive(1)), (2, alive(1)), (3.9, alive(1)))
        one.lost()

        assert looks(one, (4, alive(1)), (6, alive(1)), (7.9, alive(1))) == []
        assert looks(one, (8, alive(1))) == [TakeOver(TAG, alive(1))]

    def test_a_node_that_did_not_look_may_have_slept(self) -> None:
        one = watch()

        assert looks(one, (0, alive(1)), (2.1, alive(1)), (4, alive(1)), (6, alive(1))) == []
        assert looks(one, (6.2, alive(1))) == [TakeOver(TAG, alive(1))]

    def test_one_tag_that_cannot_be_read_has_its_own(self) -> None:
        """Its part of a Redis Cluster is failing over."""
        one = watch()
        for now in (0, 2):
            one.observe(now, now, {TAG: alive(1), OTHER: alive(1)}, ())
        one.observe(3, 3, {TAG: None, OTHER: alive(1)}, ())

        decisions = one.observe(4, 4, {TAG: alive(1), OTHER: alive(1)}, ())
        assert decisions == [TakeOver(OTHER, alive(1))]
        assert looks(one, (6, alive(1)), (7.9, alive(1))) == []
        assert looks(one, (8, alive(1))) == [TakeOver(TAG, alive(1))]

    def test_what_cannot_be_read_stays_known(self) -> None:
        one = watch()
        looks(one, (0, None))

        assert set(one.tags) == {TAG}

    def test_no_lease_proves_nothing(self) -> None:
        absent = Reading(None, None, 3)
        one = watch()

        assert looks(one, (0, None), (2, absent), (4, absent), (5.9, absent)) == []
        assert looks(one, (6, absent)) == [TakeOver(TAG, absent)]


class TestFences:
    def test_who_left_in_order_may_be_taken_over_at_once(self) -> None:
        assert looks(watch(), (0, fenced(NOBODY))) == [TakeOver(TAG, fenced(NOBODY))]

    def test_a_recovering_node_that_stands_still_is_replaced(self) -> None:
        one = watch()

        assert looks(one, (0, fenced("they")), (2, fenced("they")), (3, fenced("they"))) == []
        assert looks(one, (4, fenced("they"))) == [TakeOver(TAG, fenced("they"))]

    def test_a_recovering_node_that_moves_is_left_alone(self) -> None:
        assert looks(watch(), *((n, fenced("they", beat=n // 2)) for n in range(20))) == []

    def test_a_fence_of_ones_own_that_was_not_known_is_used(self) -> None:
        """The answer to the command that wrote it was lost."""
        assert looks(watch(), (0, fenced("me"))) == [TakeOver(TAG, fenced("me"))]

    def test_what_is_being_recovered_here_is_not_taken_over_again(self) -> None:
        readings = [(now, fenced("me")) for now in range(9)]

        assert looks(watch(), *readings, busy=(TAG,)) == []

    def test_what_is_recovered_is_forgotten(self) -> None:
        one = watch()

        assert looks(one, (0, fenced("they", entries=0))) == [Forget(TAG)]
        assert set(one.tags) == set()
        assert one.due_at is None

    def test_what_is_gone_is_forgotten(self) -> None:
        assert looks(watch(), (0, GONE)) == [Forget(TAG)]

    def test_a_lease_without_entries_is_fenced_too(self) -> None:
        """Or a post would find it, and be told to try again, for ever."""
        one = watch()
        reading = alive(1, entries=0)

        assert looks(one, (0, reading), (2, reading), (4, reading)) == [TakeOver(TAG, reading)]

    def test_whom_it_has_fenced_does_not_come_back(self) -> None:
        """The store has forgotten the fence, and the node that slept has registered again."""
        one = watch()
        one.fenced(TAG, "them")

        assert looks(one, (0, alive(1, "them/9"))) == [TakeOver(TAG, alive(1, "them/9"))]
        assert looks(one, (1, alive(1, "others/1"))) == []

    def test_what_it_cannot_read_is_left_to_others_for_a_while(self) -> None:
        one = watch()
        one.abandoned(TAG, 0.0)

        assert looks(one, *((now, fenced(NOBODY)) for now in range(48))) == []
        assert looks(one, (48, fenced(NOBODY))) == [TakeOver(TAG, fenced(NOBODY))]

    def test_the_memory_of_fences_is_bounded(self) -> None:
        one = watch()
        for number in range(2000):
            one.fenced(TAG, str(number))

        assert looks(one, (0, alive(1, "0/1"))) == []
        assert looks(one, (0, alive(1, "1999/1"))) == [TakeOver(TAG, alive(1, "1999/1"))]

    def test_an_unknown_incarnation_is_not_remembered(self) -> None:
        one = watch()
        one.fenced(TAG, "")

        assert looks(one, (0, alive(1, "/1"))) == []


class TestTenure:
    @pytest.mark.parametrize(
        ("standing", "verdict"),
        [
            (Standing.HELD, Verdict.GO_ON),
            (Standing.CREATED, Verdict.GO_ON),
            (Standing.ABSENT, Verdict.OPEN),
            (Standing.FENCED, Verdict.FENCED),
            (Standing.TAKEN, Verdict.EVICTED),
        ],
    )
    def test_what_is_found_decides(self, standing: Standing, verdict: Verdict) -> None:
        assert Tenure(TIMES).judge(standing, 0.0) is verdict

    def test_neither_lease_nor_fence_after_a_fences_time_is_one(self) -> None:
        tenure = Tenure(TIMES)
        tenure.begin(10.0)

        assert tenure.judge(Standing.CREATED, 10 + FENCE_TTL_S) is Verdict.FENCED
        assert tenure.judge(Standing.CREATED, 10 + FENCE_TTL_S + 1) is Verdict.GO_ON

    def test_it_is_certain_for_a_lease_time(self) -> None:
        tenure = Tenure(TIMES)
        assert not tenure.is_certain(0.0)

        tenure.begin(0.0)
        tenure.judge(Standing.HELD, 1.0)

        assert tenure.is_certain(4.9)
        assert not tenure.is_certain(5.0)

    def test_it_knows_since_when_contact_is_lost(self) -> None:
        tenure = Tenure(TIMES)
        tenure.lose(3.0)
        tenure.lose(4.0)
        assert tenure.lost_at == 3.0

        tenure.judge(Standing.HELD, 5.0)
        assert tenure.lost_at is None


class TestBackoff:
    def test_pauses_double_up_to_a_quarter_of_the_lease_time(self) -> None:
        backoff = Backoff(TIMES)

        assert [backoff.next_s(0.0) for _ in range(7)] == [0.0625, 0.125, 0.25, 0.5, 1.0, 1.0, 1.0]
        backoff.reset()
        assert backoff.next_s(0.0) == 0.0625

    def test_chance_takes_up_to_a_half(self) -> None:
        backoff = Backoff(TIMES)

        assert [backoff.next_s(1.0) for _ in range(3)] == [0.03125, 0.0625, 0.125]

    def test_a_node_is_back_before_the_others_amnesty_is_over(self) -> None:
        """The longest pause, a call that ends too late, another pause and a call."""
        assert 2 * TIMES.retry_max_s + TIMES.beat_interval_s < TIMES.lease_s
