"""Who may wait, and who goes next."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from adapters.fair_queue import FairQueue, may_wait


def filled(bound: int, arrivals: str) -> Counter[str]:
    """What each key holds after these keys came, one after the other, and nobody left."""
    held: Counter[str] = Counter()
    for key in arrivals:
        held[key] += may_wait(held[key], held.total(), bound)
    return held


class TestTheQueue:
    """Round-robin between keys, in order within a key."""

    def _queue(self, *items: str) -> FairQueue[str]:
        queue: FairQueue[str] = FairQueue()
        for item in items:
            queue.put(item[0], item)
        return queue

    def test_keys_take_turns(self) -> None:
        queue = self._queue("a1", "a2", "a3", "b1", "c1", "c2")
        order = []
        while (item := queue.front()) is not None:
            order.append(item)
            queue.end_turn(remove=True)
        assert order == ["a1", "b1", "c1", "a2", "c2", "a3"]
        assert len(queue) == 0

    def test_what_is_not_finished_stays_first_of_its_key(self) -> None:
        queue = self._queue("a1", "a2", "b1")
        queue.end_turn(remove=False)
        assert queue.front() == "b1"
        queue.end_turn(remove=True)
        assert (queue.front(), len(queue)) == ("a1", 2)

    def test_discard_and_drain(self) -> None:
        queue = self._queue("a1", "a2", "b1")
        assert queue.discard("a", "a1")
        assert not queue.discard("a", "a1")
        assert not queue.discard("z", "a1")
        assert (len(queue), queue.drain(), len(queue)) == (2, ["a2", "b1"], 0)

    def test_it_knows_how_many_of_a_key_wait(self) -> None:
        queue = self._queue("a1", "a2", "b1")
        assert [queue.waiting(key) for key in "abz"] == [2, 1, 0]
        assert queue.keys == 2
        queue.end_turn(remove=True)
        assert queue.waiting("a") == 1


class TestWhoMayWait:
    """The bound is hard, and whoever holds most is refused first."""

    @pytest.mark.parametrize(("bound", "share"), [(1, 1), (2, 1), (3, 2), (4, 2), (256, 128)])
    def test_one_key_alone_gets_half(self, bound: int, share: int) -> None:
        assert filled(bound, "a" * 2 * bound)["a"] == share

    def test_greedy_keys_get_equal_parts_and_leave_as_much_free(self) -> None:
        assert filled(100, "abcd" * 100) == dict.fromkeys("abcd", 20)

    def test_those_who_come_after_a_greedy_one_find_room(self) -> None:
        held = filled(100, "a" * 200 + "bcdefghij" * 3)
        assert held["a"] == 50
        assert {held[key] for key in "bcdefghij"} == {3}

    def test_the_last_free_place_goes_only_to_a_key_that_holds_none(self) -> None:
        assert not may_wait(1, 9, 10)
        assert may_wait(0, 9, 10)
        assert not may_wait(0, 10, 10)

    def test_the_bound_holds_whatever_comes_and_goes(self) -> None:
        chance = random.Random(1)
        held: Counter[str] = Counter()
        for _ in range(5000):
            key = chance.choices("abcdefgh", weights=[50, 20, 5, 1, 1, 1, 1, 1])[0]
            if chance.random() < 0.4:
                held[key] = max(0, held[key] - 1)
            elif may_wait(held[key], held.total(), 16):
                held[key] += 1
            assert held.total() <= 16
            assert held[key] <= 8 or held.total() > 8
