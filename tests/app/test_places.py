"""Places for what is under way: shared fairly, and come free again whatever happens to their holders."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from adapters.errors import QueueFull
from app.places import Places


class Clock:
    """Goes on when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def take(places: Places, key: str, count: int) -> list[ExitStack]:
    """So many places, each held by a stack of its own."""
    stacks = [ExitStack() for _ in range(count)]
    for stack in stacks:
        stack.enter_context(places.take(key))
    return stacks


def refusal(places: Places, key: str) -> QueueFull:
    with pytest.raises(QueueFull) as refused, places.take(key):
        pass
    return refused.value


def test_a_greedy_key_is_refused_while_others_are_let_in() -> None:
    places = Places(8, "questions")
    held = take(places, "greedy", 4)
    assert "4 questions of yours are under way" in str(refusal(places, "greedy"))
    for other in "abcd":
        held += take(places, other, 1)
    refusal(places, "late")
    assert [places.held(key) for key in ("greedy", "a", "late")] == [4, 1, 0]


def test_a_place_comes_free_when_its_holder_ends_or_fails() -> None:
    places = Places(2, "questions")
    with pytest.raises(ZeroDivisionError), places.take("a"):
        raise ZeroDivisionError
    with places.take("a"):
        refusal(places, "a")
    assert places.held("a") == 0


def paced(clock: Clock, places: Places, seconds: float) -> None:
    """Let places come free at a steady pace, until that is known."""
    for _ in range(100):
        held = take(places, "a", 2)
        for each in held:
            clock.now += seconds
            each.close()


def test_when_to_come_again_follows_from_how_fast_places_come_free_for_the_key() -> None:
    clock = Clock()
    places = Places(20, "questions", clock)
    paced(clock, places, 2.0)
    held = take(places, "greedy", 10)
    assert refusal(places, "greedy").retry_seconds == pytest.approx(2.0)
    held[0].close()
    held += take(places, "other", 5)  # takes turns with it
    assert refusal(places, "greedy").retry_seconds == pytest.approx(2.0 + 2 * 1.8)  # a little faster since


def test_those_who_are_refused_are_not_all_told_to_come_at_once() -> None:
    clock = Clock()
    places = Places(4, "questions", clock)
    paced(clock, places, 5.0)
    held = take(places, "greedy", 2)
    assert [refusal(places, "greedy").retry_seconds for _ in range(3)] == pytest.approx([5.0, 10.0, 15.0])
    clock.now += 12.0
    assert refusal(places, "greedy").retry_seconds == pytest.approx(8.0)
    for each in held:
        each.close()
    held = take(places, "greedy", 2)  # whoever was told to come later has found room meanwhile, or not come
    assert refusal(places, "greedy").retry_seconds is not None
    assert (refusal(places, "greedy").retry_seconds or 0) < 20.0


def test_idle_time_does_not_count_as_time_to_answer() -> None:
    clock = Clock()
    places = Places(2, "questions", clock)
    for _ in range(50):
        with places.take("a"):
            clock.now += 2.0
        clock.now += 3600.0
    with places.take("a"):
        assert refusal(places, "a").retry_seconds == pytest.approx(2.0)


def test_nobody_is_sent_away_for_long_or_for_no_time() -> None:
    clock = Clock()
    places = Places(2, "questions", clock)
    with places.take("a"):
        assert refusal(places, "a").retry_seconds == 1.0
        clock.now += 10_000.0
    with places.take("a"):
        assert refusal(places, "a").retry_seconds == 60.0
