"""Processes on one database: who works on what, what they hear of each other, and what one that was held up may not."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from app.database_replicas import DatabaseReplicas, skewed
from app.life.policy import PolicyStore
from app.limits import Limits, TenantLimits
from app.storage import PostgresStorage
from app.tenants import TenantDirectory
from ingest import DatabaseClosed, DatabaseInUse, IncompatibleDatabase, LeaseLost
from ingest.postgres import PostgresServer
from tests.databases import ALL_TABLES, fresh_database

PATIENCE_S = 20.0  # well before what was not told of is looked at all the same


@pytest.fixture(scope="module")
def url(postgres_superuser: str) -> Iterator[str]:
    with fresh_database(postgres_superuser) as url:
        yield url


@pytest.fixture
def server(url: str) -> Iterator[PostgresServer]:
    with closing(PostgresServer(url, ALL_TABLES)) as server:
        yield server


class Heard:
    """What a process was told."""

    def __init__(self) -> None:
        self.changes: list[tuple[str, str]] = []
        self.waiting: set[tuple[str, str]] = set()

    def changed(self, what: str, tenant_id: str) -> None:
        self.changes.append((what, tenant_id))

    def undone(self, queue: str, tenant_id: str) -> None:
        self.waiting.add((queue, tenant_id))


@pytest.fixture
def two(server: PostgresServer) -> Iterator[tuple[DatabaseReplicas, DatabaseReplicas, Heard]]:
    one, other, heard = DatabaseReplicas(server, "1"), DatabaseReplicas(server, "1"), Heard()
    other.start(heard.changed, heard.undone)
    yield one, other, heard
    for each in (one, other):
        each.stop()


@pytest.fixture
def tenant_id(server: PostgresServer) -> Iterator[str]:
    directory = TenantDirectory(server.database(None), beside_rows=True)
    tenant, _ = directory.create(f"tenant {time.monotonic_ns()}")
    yield tenant.id
    directory.remove(tenant.id)


def within(seconds: float, seen: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while not seen() and time.monotonic() < deadline:
        time.sleep(0.02)
    return seen()


def lapse(server: PostgresServer, tenant_id: str) -> None:
    server.execute("UPDATE leases SET until = clock_timestamp() WHERE tenant_id = %s", (tenant_id,))


def lose_connections(server: PostgresServer) -> None:
    server.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE application_name = 'lorebase replica' AND usename = current_user"
    )


def test_a_queue_is_one_process_s_until_it_gives_it_back(
    two: tuple[DatabaseReplicas, DatabaseReplicas, Heard], tenant_id: str
) -> None:
    one, other, _ = two
    assert (one.take(tenant_id, "documents"), one.take(tenant_id, "documents")) == (True, True)
    assert not other.take(tenant_id, "documents")
    assert other.take(tenant_id, "tasks")
    assert (one.holds(tenant_id, "documents"), other.holds(tenant_id, "documents")) == (True, False)
    one.give_back(tenant_id, "documents")
    assert not one.holds(tenant_id, "documents")
    assert other.take(tenant_id, "documents")
    assert not one.take("0" * 32, "documents")  # no such tenant


def test_what_a_dead_process_held_is_taken_over_and_it_can_write_nothing_any_more(
    two: tuple[DatabaseReplicas, DatabaseReplicas, Heard], server: PostgresServer, tenant_id: str
) -> None:
    one, other, _ = two
    database = server.database(tenant_id)
    assert one.take(tenant_id, "documents")
    with one.only_while_held(tenant_id, "documents"), database.write() as connection:
        connection.execute("INSERT INTO usage (day, requests) VALUES ('2026-01-01', 1)")
    lapse(server, tenant_id)
    assert other.take(tenant_id, "documents")
    with one.only_while_held(tenant_id, "documents"), pytest.raises(LeaseLost), database.write() as connection:
        connection.execute("INSERT INTO usage (day, requests) VALUES ('2026-01-02', 1)")
    with other.only_while_held(tenant_id, "documents"), database.write() as connection:
        days = [row["day"] for row in connection.execute("SELECT day FROM usage")]
    assert days == ["2026-01-01"]


def test_a_queue_is_not_taken_over_while_a_write_for_it_is_being_committed(
    two: tuple[DatabaseReplicas, DatabaseReplicas, Heard], server: PostgresServer, tenant_id: str
) -> None:
    one, other, _ = two
    taken: list[bool] = []
    assert one.take(tenant_id, "documents")
    thread = threading.Thread(target=lambda: taken.append(other.take(tenant_id, "documents")))
    with one.only_while_held(tenant_id, "documents"), server.database(tenant_id).write() as connection:
        lapse(server, tenant_id)
        thread.start()
        time.sleep(0.3)
        assert taken == []
        connection.execute("INSERT INTO usage (day, requests) VALUES ('2026-01-01', 1)")
    thread.join()
    assert taken == [True]


def test_a_process_that_lives_keeps_what_it_holds_and_shows_what_it_does(
    two: tuple[DatabaseReplicas, DatabaseReplicas, Heard], server: PostgresServer, tenant_id: str
) -> None:
    one, other, _ = two
    assert other.take(tenant_id, "documents")
    other.show(tenant_id, "documents", "reading")
    lapse(server, tenant_id)
    assert within(PATIENCE_S, lambda: one.shown(tenant_id, "documents") == "reading")
    assert not one.take(tenant_id, "documents")
    assert other.shown(tenant_id, "documents") is None
    assert one.is_live(other.id)
    other.stop()
    assert not one.is_live(other.id)
    assert one.take(tenant_id, "documents")


def test_changes_and_work_that_nobody_does_are_heard_of(
    two: tuple[DatabaseReplicas, DatabaseReplicas, Heard], server: PostgresServer, tenant_id: str
) -> None:
    one, _, heard = two
    PolicyStore(server.database(tenant_id)).change(require_gate=True)
    limits = TenantLimits(server.database(None), Limits())
    limits.change(tenant_id, {"documents": 5})
    assert within(PATIENCE_S, lambda: {("policy", tenant_id), ("tenants", tenant_id)} <= set(heard.changes))
    directory = TenantDirectory(server.database(None), beside_rows=True)
    assert one.take(tenant_id, "documents")
    directory.mark_unfinished(tenant_id)
    assert within(PATIENCE_S, lambda: ("tasks", tenant_id) in heard.waiting)
    assert ("documents", tenant_id) not in heard.waiting
    one.give_back(tenant_id, "documents")
    assert within(PATIENCE_S, lambda: ("documents", tenant_id) in heard.waiting)


def test_changes_that_were_told_while_the_connection_was_lost_are_not_missed(
    two: tuple[DatabaseReplicas, DatabaseReplicas, Heard], postgres_superuser: str, server: PostgresServer
) -> None:
    _, other, heard = two
    assert within(PATIENCE_S, lambda: ("everything", "") in heard.changes)
    heard.changes.clear()
    lose_connections(server)
    assert within(PATIENCE_S, lambda: ("everything", "") in heard.changes)
    assert within(PATIENCE_S, lambda: other.failure() is None)


@pytest.mark.parametrize(
    ("ahead", "said"), [(0.2, None), (-3.0, None), (90.0, "90 s ahead of"), (-90.0, "90 s behind")]
)
def test_a_clock_that_is_far_off_the_database_s_is_told(ahead: float, said: str | None) -> None:
    told = skewed(ahead, 0.1)
    assert (told is None) if said is None else (told is not None and said in told and "NTP" in told)


def test_nothing_is_written_for_a_tenant_that_another_process_has_removed(server: PostgresServer) -> None:
    directory = TenantDirectory(server.database(None))
    tenant, _ = directory.create(f"gone {time.monotonic_ns()}")
    database = server.database(tenant.id, f"EXISTS (SELECT 1 FROM tenants WHERE id = '{tenant.id}')")
    PolicyStore(database).change(require_gate=True)
    TenantDirectory(server.database(None)).remove(tenant.id)
    with pytest.raises(DatabaseClosed, match="gone"):
        PolicyStore(database).change(require_gate=False)


def test_a_database_is_served_by_many_or_had_by_one(url: str) -> None:
    with closing(PostgresServer(url, ALL_TABLES)) as one, closing(PostgresServer(url, ALL_TABLES)) as alone:
        first, second = DatabaseReplicas(one, "1"), DatabaseReplicas(one, "1")
        assert not alone.claim()
        first.stop()
        second.stop()
        assert alone.claim(PATIENCE_S)
        with pytest.raises(DatabaseInUse, match="for itself"):
            DatabaseReplicas(one, "1")


def test_a_process_whose_tables_were_brought_to_a_newer_version_works_no_more(url: str, server: PostgresServer) -> None:
    replica, heard = DatabaseReplicas(server, "1"), Heard()
    replica.start(heard.changed, heard.undone)
    server.execute("UPDATE schema_version SET version = version + 1 WHERE component = 'usage'")
    lose_connections(server)
    assert within(PATIENCE_S, lambda: "another version" in (replica.failure() or ""))
    assert not replica.take("0" * 32, "documents")
    server.execute("UPDATE schema_version SET version = version - 1 WHERE component = 'usage'")
    replica.stop()


def test_processes_that_would_not_find_each_others_adapters_are_told_so(url: str, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
    one = PostgresStorage(url, here)
    PostgresStorage(url, here).close()
    with pytest.raises(DatabaseInUse, match=r"has adapters' files in .*/here, this one in .*/there\."):
        PostgresStorage(url, there)
    with pytest.raises(DatabaseInUse, match=r"this one in s3://bucket/a\. Give all processes the same LOREBASE"):
        PostgresStorage(url, here, store="s3://bucket/a")
    one.close()
    with closing(PostgresStorage(url, there, store="s3://bucket/a")):
        PostgresStorage(url, here, store="s3://bucket/a").close()
        with pytest.raises(DatabaseInUse, match="has adapters' files in s3://bucket/a, this one in s3://bucket/b"):
            PostgresStorage(url, there, store="s3://bucket/b")


def test_tables_are_not_changed_under_processes_that_serve_them(url: str) -> None:
    later = {**ALL_TABLES, "usage": [*ALL_TABLES["usage"], "ALTER TABLE usage ADD COLUMN more integer"]}
    with closing(PostgresServer(url, ALL_TABLES)) as server:
        replica = DatabaseReplicas(server, "1")
        with pytest.raises(DatabaseInUse, match="older version"):
            PostgresServer(url, later)
        replica.stop()
        PostgresServer(url, later).close()
        with pytest.raises(IncompatibleDatabase, match="another version"):
            DatabaseReplicas(server, "1")
    with closing(PostgresServer(url, later)) as server:
        server.execute("ALTER TABLE usage DROP COLUMN more")
        server.execute("UPDATE schema_version SET version = version - 1 WHERE component = 'usage'")
