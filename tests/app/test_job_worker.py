"""Who gets a turn, and who suffers from a slow, a large or a poisoned document."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from app import job_worker
from app.job_worker import JobWorker, Lane, Step
from ingest import DatabaseClosed, IndexMismatch


class Owner:
    """A tenant whose documents are only names; each is a step, ``alone`` or not, in its lane."""

    def __init__(self, *documents: str, lane: Lane = "embedding", together: bool = False) -> None:
        self.left = list(documents)
        self.lane: Lane = lane
        self.together = together
        self.suspect = False
        self.done: list[str] = []
        self.failed: dict[str, str] = {}
        self.waited: list[str] = []
        self.during: Callable[[Step], None] = lambda step: None
        self.settled = threading.Event()

    def next_step(self) -> Step | None:
        chosen = tuple(self.left if self.together else self.left[:1])
        return Step("job", "ingest", self.lane, chosen, 1, self.suspect) if chosen else None

    def do(self, step: Step) -> None:
        self.during(step)
        self.done += step.document_ids
        self.left = [each for each in self.left if each not in step.document_ids]

    def isolate(self, step: Step) -> None:
        self.together = False

    def give_up(self, step: Step, reason: str) -> None:
        self.failed |= dict.fromkeys(step.document_ids, reason)
        self.left = [each for each in self.left if each not in step.document_ids]

    def fail(self, step: Step, reason: str) -> None:
        self.failed |= dict.fromkeys(self.left, reason)
        self.left = []

    def wait(self, step: Step, reason: str) -> None:
        self.waited.append(reason)

    def settle(self) -> bool:
        self.settled.set()
        return True


def work(seconds: float = 20.0, **owners: Owner) -> None:
    """Run a worker until all owners are settled."""
    worker = JobWorker(owners.get)
    worker.start()
    for tenant_id in owners:
        worker.wake(tenant_id)
    deadline = time.monotonic() + seconds
    try:
        for owner in owners.values():
            assert owner.settled.wait(deadline - time.monotonic())
    finally:
        worker.stop()


def raising(error: Exception, document: str) -> Callable[[Step], None]:
    def during(step: Step) -> None:
        if document in step.document_ids:
            raise error

    return during


def test_tenants_take_turns_step_by_step() -> None:
    order: list[str] = []
    large, small = Owner(*(f"l{n}" for n in range(6))), Owner("s")
    both = threading.Event()
    for owner in (large, small):
        owner.during = lambda step: (both.wait(5), order.append(step.document_ids[0]))  # type: ignore[assignment]
    threading.Timer(0.2, both.set).start()
    work(large=large, small=small)
    assert order.index("s") <= 1
    assert large.done == [f"l{n}" for n in range(6)]


def test_a_slow_file_holds_up_nobody_elses_embedding() -> None:
    released = threading.Event()
    slow, quick = Owner("slow", lane="reading"), Owner("quick")
    slow.during = lambda step: (released.wait(15), None)[1]
    worker = JobWorker({"slow": slow, "quick": quick}.get)
    worker.start()
    worker.wake("slow")
    worker.wake("quick")
    assert quick.settled.wait(10)
    assert slow.done == []
    released.set()
    assert slow.settled.wait(10)
    worker.stop()


def test_a_poisoned_document_fails_alone() -> None:
    owner = Owner("a", "b", "c", together=True)
    owner.during = raising(ZeroDivisionError(), "b")
    work(t=owner)
    assert owner.done == ["a", "c"]
    assert "ZeroDivisionError" in owner.failed["b"]


def test_what_no_document_can_help_fails_the_job_with_its_reason() -> None:
    owner = Owner("a", "b", together=True)
    owner.during = raising(IndexMismatch("embedded with another model"), "a")
    work(t=owner)
    assert owner.failed == dict.fromkeys("ab", "embedded with another model")


def test_a_full_disk_delays_one_tenant_and_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_worker, "_FIRST_DELAY_SECONDS", 0.05)
    times: list[float] = []
    owner, other = Owner("a"), Owner("b")

    def during(step: Step) -> None:
        times.append(time.monotonic())
        if len(times) < 4:
            raise OSError(28, "No space left on device")

    owner.during = during
    work(t=owner, other=other)
    assert (owner.done, other.done) == (["a"], ["b"])
    assert len(owner.waited) == 3
    assert "No space left" in owner.waited[0]
    assert times[3] - times[2] > times[1] - times[0]


def test_a_tenant_removed_meanwhile_is_left_alone() -> None:
    gone, other = Owner("a"), Owner("b")
    gone.during = raising(DatabaseClosed("closed"), "a")
    work(other=other)
    worker = JobWorker({"gone": gone}.get)
    worker.start()
    worker.wake("gone")
    time.sleep(0.2)
    worker.stop()
    assert (gone.done, gone.failed, gone.waited) == ([], {}, [])


def test_work_that_comes_during_a_tenants_last_step_is_not_forgotten() -> None:
    owner = Owner("a")
    worker = JobWorker({"t": owner}.get)

    def during(step: Step) -> None:
        if step.document_ids == ("a",):
            owner.left.append("b")
            worker.wake("t")

    owner.during = during
    worker.start()
    worker.wake("t")
    deadline = time.monotonic() + 10
    while owner.done != ["a", "b"]:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    worker.stop()


def test_two_suspects_never_work_at_the_same_time() -> None:
    at_once, most = 0, 0
    lock = threading.Lock()

    def during(step: Step) -> None:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        time.sleep(0.1)
        with lock:
            at_once -= 1

    owners = {name: Owner(name, lane="reading") for name in ("a", "b", "c")}
    for owner in owners.values():
        owner.suspect, owner.during = True, during
    work(**owners)
    assert most == 1
