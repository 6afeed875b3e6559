"""Limits of a tenant: the bucket of requests, what overrides what, and usage that survives a restart."""

from __future__ import annotations

import threading
import time
import uuid

import pytest

from app.limits import Limits, RequestRates, seconds_left_today
from app.tenants import TenantDirectory
from app.usage import UsageStore
from ingest import Database
from ingest.postgres import PostgresServer


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_minutes_requests_may_come_at_once_and_then_come_back_evenly() -> None:
    clock = Clock()
    rates = RequestRates(clock)
    taken = [rates.take("a", 3) for _ in range(4)]
    assert [each.remaining for each in taken] == [2, 1, 0, 0]
    assert [each.retry for each in taken[:3]] == [None] * 3
    assert taken[3].retry == pytest.approx(20)
    clock.now += 19.9
    assert rates.take("a", 3).retry == pytest.approx(0.1)
    clock.now += 0.1
    assert rates.take("a", 3).retry is None
    assert rates.take("a", 3).retry is not None
    clock.now += 1000
    full = rates.take("a", 3)
    assert (full.remaining, full.reset) == (2, pytest.approx(20))


def test_one_tenants_requests_take_nothing_from_another() -> None:
    rates = RequestRates(Clock())
    assert rates.take("a", 1).retry is None
    assert rates.take("a", 1).retry is not None
    assert rates.take("b", 1).retry is None


def test_of_many_requests_at_once_exactly_as_many_pass_as_may() -> None:
    rates = RequestRates(Clock())
    passed: list[bool] = []

    def send() -> None:
        for _ in range(50):
            passed.append(rates.take("a", 77).retry is None)

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(passed) == 77


def test_an_override_stands_over_the_default_until_it_is_taken_back(central: Database) -> None:
    defaults = Limits(documents=10, bytes=1000)
    directory = TenantDirectory(central, defaults)
    one, two = (directory.create(name)[0].id for name in ("one", "two"))
    directory.limits.change(one, {"documents": 20, "bytes": "unlimited"})
    assert directory.limits.of(one) == Limits(documents=20)
    assert directory.limits.of(two) == defaults
    again = TenantDirectory(central, defaults)
    assert again.limits.of(one) == Limits(documents=20)
    again.limits.change(one, {"documents": None})
    assert again.limits.of(one) == Limits(documents=10)
    assert again.limits.overrides(one) == {"bytes": "unlimited"}


def test_usage_is_counted_at_once_and_kept(database: Database) -> None:
    woken: list[UsageStore] = []
    usage = UsageStore(database, woken.append)
    usage.add(requests=1)
    usage.add(questions=1, prompt_tokens=7, completion_tokens=2, training_seconds=0.5)
    assert woken
    assert (usage.today().requests, usage.today().tokens) == (1, 9)
    assert usage.write_waiting()
    usage.add(prompt_tokens=1)
    assert usage.today().tokens == 10
    assert usage.write_waiting()
    kept = UsageStore(database, woken.append)
    assert kept.today() == usage.today() == kept.days(5)[0]
    assert kept.today().training_seconds == 0.5


def test_what_other_processes_use_counts_within_seconds(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.usage._FRESH_SECONDS", 0.05)
    database = postgres.database(uuid.uuid4().hex)
    one, other = (UsageStore(database, lambda _: None, is_shared=True) for _ in range(2))
    assert (one.today().tokens, other.today().tokens) == (0, 0)
    one.add(questions=1, prompt_tokens=30)
    one.write_waiting()
    other.add(questions=1, prompt_tokens=12)
    time.sleep(0.1)
    assert (one.today().tokens, other.today().tokens) == (30, 42)
    other.write_waiting()
    time.sleep(0.1)
    assert (one.today().tokens, other.today().tokens) == (42, 42)


def test_bare_requests_are_written_by_the_hundred_and_what_costs_at_once(database: Database) -> None:
    woken: list[UsageStore] = []
    written: list[bool] = []
    usage = UsageStore(database, woken.append, lambda: written.append(True))
    for _ in range(99):
        usage.add(requests=1)
    assert not woken
    usage.add(requests=1)
    assert len(woken) == 1
    assert usage.write_waiting()
    assert written
    usage.add(prompt_tokens=1)
    assert len(woken) == 2


def test_use_counted_from_many_threads_is_all_there(database: Database) -> None:
    usage = UsageStore(database, lambda _: None)

    def work() -> None:
        for _ in range(200):
            usage.add(requests=1, prompt_tokens=3)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        usage.write_waiting()
    usage.write_waiting()
    stored = UsageStore(database, lambda _: None).today()
    assert (stored.requests, stored.prompt_tokens) == (800, 2400)
    assert usage.today() == stored


def test_a_day_ends_at_midnight_in_utc() -> None:
    assert seconds_left_today(0.0) == 86_400
    assert seconds_left_today(86_399.5) == 0.5
