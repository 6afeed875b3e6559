"""A tenant's requests a minute, shared by processes: together they let through what one alone would, and ask seldom."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from app.shared_rates import SharedRates
from app.tenants import TenantDirectory
from ingest.postgres import PostgresServer


class Counting:
    """A server that counts how often it is asked."""

    def __init__(self, server: PostgresServer) -> None:
        self.server = server
        self.asked = 0

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> list[Any]:
        self.asked += 1
        return self.server.execute(sql, parameters)


@pytest.fixture
def server(postgres: PostgresServer) -> Counting:
    return Counting(postgres)


@pytest.fixture
def processes(server: Counting) -> list[SharedRates]:
    return [SharedRates(server), SharedRates(server)]  # type: ignore[arg-type]


@pytest.fixture
def tenant_id(postgres: PostgresServer) -> Iterator[str]:
    directory = TenantDirectory(postgres.database(None))
    tenant, _ = directory.create(f"tenant {time.monotonic_ns()}")
    yield tenant.id
    directory.remove(tenant.id)


def test_processes_let_through_together_what_the_limit_says(processes: list[SharedRates], tenant_id: str) -> None:
    found = [each.take(tenant_id, 6) for _ in range(4) for each in processes]
    assert [each.retry is None for each in found] == [True] * 6 + [False] * 2
    assert [each.remaining for each in found] == [5, 4, 3, 2, 1, 0, 0, 0]
    assert all(9 < (each.retry or 0) <= 10 for each in found[6:])


def test_the_database_is_asked_once_for_a_second_s_requests(
    processes: list[SharedRates], server: Counting, tenant_id: str
) -> None:
    one, other = processes
    for _ in range(20):
        assert one.take(tenant_id, 600).retry is None
    assert server.asked <= 4
    held = one.take_held(tenant_id, 600)
    assert held is None or held.retry is None
    passed = 20 + (held is not None)
    while other.take(tenant_id, 600).retry is None:
        passed += 1
    assert 570 <= passed <= 640  # a second's requests that the first one holds, and what the bucket gains meanwhile
    asked = server.asked
    assert all(other.take(tenant_id, 600).retry is not None for _ in range(3))
    assert server.asked - asked <= 1  # a refusal is remembered until it is over


def test_a_limit_that_is_changed_counts_at_once(processes: list[SharedRates], tenant_id: str) -> None:
    one, _ = processes
    assert one.take(tenant_id, 600).limit == 600
    assert one.take_held(tenant_id, 60) is None
    assert one.take(tenant_id, 60).limit == 60
