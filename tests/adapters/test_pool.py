"""The pool: what is in memory, what waits for room, and that nobody waits for what is only pinned."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from adapters.engine import AdapterRef
from adapters.errors import AdapterMemoryFull, InvalidAdapter, ModelUnavailable
from adapters.lora_stack import LoadedLora
from adapters.pool import AdapterPool, Lease

PATIENCE_S = 30.0
UNIT = 100  # bytes of an adapter, unless its name says more


def ref(name: str) -> AdapterRef:
    return AdapterRef("0" * 64, Path(name))


def size_of(adapter: AdapterRef) -> int:
    return UNIT * int(adapter.folder.name.partition("x")[2] or 1)


class Disk:
    """Where adapters are loaded from; a load can be made to wait, or to fail."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.go_on.set()
        self.loads: list[str] = []
        self.missing: set[str] = set()

    def load(self, adapter: AdapterRef) -> LoadedLora:
        self.loads.append(adapter.folder.name)
        assert self.go_on.wait(PATIENCE_S)
        if adapter.folder.name in self.missing:
            raise InvalidAdapter("format", "gone")
        return LoadedLora(adapter.key, 1, {"q": (torch.zeros(1, 1), torch.zeros(1, 1))}, {}, size_of(adapter))


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def pool(disk: Disk) -> Iterator[AdapterPool]:
    pool = AdapterPool(disk.load, size_of, 3 * UNIT)
    yield pool
    disk.go_on.set()
    pool.close()


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.002)


def lease(pool: AdapterPool, name: str, share_key: str = "") -> Lease:
    return pool.lease(ref(name), lambda _: None, share_key)


def held(pool: AdapterPool, name: str) -> Lease:
    taken = lease(pool, name)
    until(lambda: taken.adapter is not None)
    return taken


def resident(pool: AdapterPool) -> set[str]:
    names = {ref(n).key: n for n in (*"abcdefgh", "bx2", "ax3")}
    return {names[key] for key in pool.memory().resident}


def test_many_that_want_one_adapter_share_one_load(pool: AdapterPool, disk: Disk) -> None:
    disk.go_on.clear()
    leases = [lease(pool, "a") for _ in range(5)]
    until(lambda: pool.memory().loading == {ref("a").key})
    disk.go_on.set()
    until(lambda: all(each.adapter is not None for each in leases))
    assert disk.loads == ["a"]
    assert len({id(each.adapter) for each in leases}) == 1
    assert (pool.memory().loads, pool.memory().loading) == (1, frozenset())


def test_what_was_used_last_stays_and_what_is_held_is_never_evicted(pool: AdapterPool) -> None:
    first = held(pool, "a")
    for name in "bcb":
        pool.release(held(pool, name))
    pool.release(held(pool, "d"))
    assert resident(pool) == {"a", "b", "d"}
    pool.release(first)
    pool.release(held(pool, "e"))
    assert resident(pool) == {"b", "d", "e"} or resident(pool) == {"a", "d", "e"}
    assert pool.memory().evictions == 2


def test_a_load_waits_for_room_and_the_budget_holds(pool: AdapterPool) -> None:
    holders = [held(pool, name) for name in "abc"]
    waiting = lease(pool, "d")
    until(lambda: ref("d").key in pool.memory().loading)
    time.sleep(0.05)
    assert waiting.adapter is None
    assert sum(pool.memory().resident.values()) == 3 * UNIT
    pool.release(holders[1])
    until(lambda: waiting.adapter is not None)
    assert resident(pool) == {"a", "c", "d"}


def test_a_load_that_waits_does_not_hold_up_what_is_resident(pool: AdapterPool, disk: Disk) -> None:
    pool.release(held(pool, "a"))
    disk.go_on.clear()
    lease(pool, "b")
    assert lease(pool, "a").adapter is not None
    assert pool.memory().hits == 1


def test_share_keys_take_turns_among_the_loads_that_wait(pool: AdapterPool, disk: Disk) -> None:
    disk.go_on.clear()
    for name in "abc":
        pool.lease(ref(name), pool.release, "many")
    until(lambda: disk.loads == ["a"])
    pool.lease(ref("d"), pool.release, "few")
    disk.go_on.set()
    until(lambda: len(disk.loads) == 4)
    assert disk.loads == ["a", "b", "d", "c"]


def test_what_nobody_waits_for_any_more_is_not_loaded(pool: AdapterPool, disk: Disk) -> None:
    disk.go_on.clear()
    first, second = lease(pool, "a"), lease(pool, "b")
    until(lambda: disk.loads == ["a"])
    pool.release(second)
    pool.release(first)
    pool.release(first)
    disk.go_on.set()
    pool.prepare(ref("c"))
    assert disk.loads == ["a", "c"]
    assert first.adapter is None


def test_what_can_never_fit_is_refused(pool: AdapterPool) -> None:
    with pytest.raises(InvalidAdapter) as refusal:
        pool.prepare(ref("ax4"))
    assert refusal.value.reason == "size"
    pool.prepare(ref("ax3"))
    assert resident(pool) == {"ax3"}


def test_an_error_reaches_everyone_who_waits_and_the_next_one_tries_again(pool: AdapterPool, disk: Disk) -> None:
    disk.missing.add("a")
    for _ in range(2):
        with pytest.raises(InvalidAdapter, match="gone"):
            pool.prepare(ref("a"))
    disk.missing.clear()
    pool.prepare(ref("a"))
    assert disk.loads == ["a"] * 3


class TestPins:
    """Pinned adapters stay, and always leave room for one that is not."""

    def test_a_pinned_one_outlives_those_used_later(self, pool: AdapterPool) -> None:
        pool.pin(ref("a"))
        until(lambda: resident(pool) == {"a"})
        for name in "bcdef":
            pool.prepare(ref(name))
        assert resident(pool) >= {"a", "f"}
        pool.unpin(ref("a").key)
        for name in "bcd":
            pool.prepare(ref(name))
        assert resident(pool) == {"b", "c", "d"}

    def test_pins_may_not_take_the_last_room(self, pool: AdapterPool) -> None:
        pool.pin(ref("a"))
        pool.pin(ref("b"))
        pool.pin(ref("b"))
        with pytest.raises(AdapterMemoryFull, match="Release a pin"):
            pool.pin(ref("c"))
        for name in "cdef":  # and so what is not pinned never waits
            pool.prepare(ref(name))
        assert resident(pool) == {"a", "b", "f"}
        pool.unload(ref("a").key)
        pool.pin(ref("c"))

    def test_the_room_left_is_that_of_the_largest_seen(self, pool: AdapterPool) -> None:
        pool.prepare(ref("bx2"))
        pool.pin(ref("a"))
        with pytest.raises(AdapterMemoryFull):
            pool.pin(ref("b"))

    def test_a_larger_one_that_comes_later_is_served_all_the_same(self, pool: AdapterPool) -> None:
        pool.pin(ref("a"))
        pool.pin(ref("b"))
        until(lambda: resident(pool) == {"a", "b"})
        pool.prepare(ref("ax3"))
        assert resident(pool) == {"ax3"}
        pool.prepare(ref("a"))
        assert pool.memory().pinned == {ref("a").key, ref("b").key}

    def test_one_that_cannot_be_loaded_is_pinned_no_longer(self, pool: AdapterPool, disk: Disk) -> None:
        disk.missing.add("a")
        pool.pin(ref("a"))
        until(lambda: not pool.memory().loading)
        assert pool.memory().pinned == frozenset()


def test_closing_fails_what_waits(pool: AdapterPool, disk: Disk) -> None:
    disk.go_on.clear()
    first, second = lease(pool, "a"), lease(pool, "b")
    until(lambda: disk.loads == ["a"])
    closing = threading.Thread(target=pool.close)
    closing.start()
    disk.go_on.set()
    closing.join(PATIENCE_S)
    until(lambda: first.adapter is not None)
    assert isinstance(second.error, ModelUnavailable)
    with pytest.raises(ModelUnavailable):
        pool.prepare(ref("c"))
    pool.close()
