"""PostgreSQL behind the seam of databases: tenants apart by the database itself, transactions, migrations, faults."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from uuid import uuid4

import psycopg
import pytest

from ingest.errors import DatabaseClosed, DatabaseUnavailable, IncompatibleDatabase, UnsuitableDatabase
from ingest.postgres import PostgresDatabase, PostgresServer
from tests.databases import fresh_database

NOTES = [
    """
    CREATE TABLE notes (
        tenant text NOT NULL DEFAULT current_setting('lorebase.tenant'), id integer NOT NULL, body text NOT NULL,
        PRIMARY KEY (tenant, id)
    )
    """
]


@pytest.fixture(scope="module")
def url(postgres_superuser: str) -> Iterator[str]:
    with fresh_database(postgres_superuser) as url:
        yield url


@pytest.fixture(scope="module")
def server(url: str) -> Iterator[PostgresServer]:
    server = PostgresServer(url, {"notes": NOTES})
    yield server
    server.close()


@pytest.fixture
def database(server: PostgresServer) -> PostgresDatabase:
    return server.database(uuid4().hex)


def put(database: PostgresDatabase, body: str, number: int = 1) -> None:
    with database.write() as connection:
        connection.execute("INSERT INTO notes (id, body) VALUES (?, ?)", (number, body))


def bodies(database: PostgresDatabase) -> list[str]:
    with database.read() as connection:
        return [row["body"] for row in connection.execute("SELECT body FROM notes ORDER BY id")]


def test_a_tenant_sees_its_own_rows_alone_though_no_statement_says_so(server: PostgresServer) -> None:
    one, other = server.database(uuid4().hex), server.database(uuid4().hex)
    put(one, "mine")
    put(other, "theirs")
    assert (bodies(one), bodies(other)) == (["mine"], ["theirs"])
    with other.write() as connection:
        assert connection.execute("UPDATE notes SET body = 'stolen'").rowcount == 1
        assert connection.execute("DELETE FROM notes").rowcount == 1
    assert (bodies(one), bodies(other)) == (["mine"], [])


def test_without_a_tenant_there_are_no_rows_and_none_can_be_written(server: PostgresServer, url: str) -> None:
    put(server.database(uuid4().hex), "someone's")
    assert bodies(server.database(None)) == []
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        put(server.database(None), "no one's")
    with psycopg.connect(url) as connection:  # the role that owns the tables, outside of any transaction of ours
        assert connection.execute("SELECT count(*) FROM notes").fetchone() == (0,)
        assert connection.execute("DELETE FROM notes").rowcount == 0


def test_a_row_cannot_be_written_for_another_tenant(server: PostgresServer, database: PostgresDatabase) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege), database.write() as connection:
        connection.execute("INSERT INTO notes (tenant, id, body) VALUES (?, 1, 'planted')", (uuid4().hex,))


def test_every_table_of_tenants_is_secured_for_its_owner_too(postgres: PostgresServer) -> None:
    with postgres.connected() as connection:
        rows = connection.execute(
            "SELECT relname, relrowsecurity AND relforcerowsecurity AS secured, EXISTS (SELECT 1 FROM pg_attribute "
            "WHERE attrelid = c.oid AND attname = 'tenant') AS of_tenants FROM pg_class c "
            "WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace"
        ).fetchall()
    central = {
        "tenants", "keys", "unfinished", "identity", "replicas", "leases", "request_rates", "schema_version",
        "adapter_store",
    }  # fmt: skip
    assert {row["relname"] for row in rows if not row["of_tenants"]} == central
    assert all(row["secured"] for row in rows if row["of_tenants"])
    assert len(rows) > 30


def test_the_tenant_is_forgotten_with_the_transaction(server: PostgresServer, database: PostgresDatabase) -> None:
    put(database, "mine")
    for _ in range(3):  # the same pooled connection
        assert bodies(database) == ["mine"]
        assert bodies(server.database(None)) == []


def test_erasing_a_tenant_leaves_the_others(server: PostgresServer) -> None:
    one, other = uuid4().hex, uuid4().hex
    put(server.database(one), "mine")
    put(server.database(other), "theirs")
    server.erase(one)
    assert (bodies(server.database(one)), bodies(server.database(other))) == ([], ["theirs"])


def test_an_id_that_is_none_is_refused(server: PostgresServer) -> None:
    with pytest.raises(ValueError, match="32 hexadecimal"):
        server.database("x', true); DROP TABLE notes; --")


def test_an_error_rolls_the_transaction_back(database: PostgresDatabase) -> None:
    with pytest.raises(psycopg.errors.NotNullViolation), database.write() as connection:
        connection.executemany("INSERT INTO notes (id, body) VALUES (?, ?)", [(1, "lost"), (2, None)])
    assert bodies(database) == []


def test_a_reader_sees_one_state_for_its_whole_block(database: PostgresDatabase) -> None:
    with database.read() as reader:
        assert reader.execute("SELECT count(*) FROM notes").fetchone()[0] == 0
        put(database, "later")
        assert reader.execute("SELECT count(*) FROM notes").fetchone()[0] == 0
    assert bodies(database) == ["later"]


def test_a_reader_cannot_write(database: PostgresDatabase) -> None:
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction), database.read() as connection:
        connection.execute("INSERT INTO notes (id, body) VALUES (1, 'no')")


def test_write_inside_write_is_refused_instead_of_waiting_for_itself(database: PostgresDatabase) -> None:
    with database.write(), pytest.raises(RuntimeError, match="reentrant"), database.write():
        pass


def test_writers_of_one_tenant_wait_for_one_another_in_other_processes_too(url: str, server: PostgresServer) -> None:
    tenant = uuid4().hex
    another = PostgresServer(url, {})  # as another process has it

    def count_up(database: PostgresDatabase) -> None:
        for _ in range(20):
            with database.write() as connection:
                last = connection.execute("SELECT coalesce(max(id), 0) FROM notes").fetchone()[0]
                connection.execute("INSERT INTO notes (id, body) VALUES (?, '')", (last + 1,))

    threads = [threading.Thread(target=count_up, args=(each.database(tenant),)) for each in (server, another) * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    another.close()
    assert len(bodies(server.database(tenant))) == 80


def test_rows_are_read_by_name_and_by_place(database: PostgresDatabase) -> None:
    put(database, "100 % of 'what?' \0 is said")
    with database.read() as connection:
        row = connection.execute("SELECT id, body, '?%' AS sign FROM notes WHERE body LIKE '100 %'").fetchone()
    assert dict(row) == {"id": 1, "body": "100 % of 'what?' \ufffd is said", "sign": "?%"}
    assert (row[0], row["id"], *row) == (1, 1, *tuple(row))


def test_a_conflict_is_within_the_tenant(database: PostgresDatabase, server: PostgresServer) -> None:
    put(server.database(uuid4().hex), "theirs")
    for body in ("first", "second"):
        with database.write() as connection:
            connection.execute(
                "INSERT INTO notes (id, body) VALUES (1, ?) ON CONFLICT (id) DO UPDATE SET body = excluded.body",
                (body,),
            )
    assert bodies(database) == ["second"]


def test_connections_that_the_server_ended_are_replaced(server: PostgresServer, database: PostgresDatabase) -> None:
    put(database, "kept")
    with server.connected() as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND usename = current_user AND pid <> pg_backend_pid()"
        )
    assert bodies(database) == ["kept"]
    put(database, "again", 2)


def test_a_closed_database_refuses_work(server: PostgresServer) -> None:
    database = server.database(uuid4().hex)
    database.close()
    database.close()
    with pytest.raises(DatabaseClosed, match="closed"), database.write():
        pass
    with pytest.raises(DatabaseClosed, match="closed"), database.read():
        pass


def test_only_one_process_has_a_database_for_itself(url: str) -> None:
    one, other = PostgresServer(url, {}), PostgresServer(url, {})
    assert (one.claim(), one.claim(), other.claim()) == (True, True, False)
    one.close()
    assert other.claim(10)  # the server sees soon that the other has gone
    other.close()


def test_migrations_are_all_or_nothing_and_later_ones_are_refused_by_earlier_software(postgres_superuser: str) -> None:
    with fresh_database(postgres_superuser) as url:
        broken = "CREATE TABLE more (id integer); INSERT INTO nowhere VALUES (1);"
        with pytest.raises(psycopg.errors.UndefinedTable):
            PostgresServer(url, {"notes": [*NOTES, broken]})
        again = PostgresServer(url, {"notes": [*NOTES, "CREATE TABLE more (id integer)"]})
        again.close()
        with pytest.raises(IncompatibleDatabase, match=r"version 2 of its notes tables.*up to 1"):
            PostgresServer(url, {"notes": NOTES})


def test_a_role_that_row_security_does_not_bind_is_refused(postgres_superuser: str) -> None:
    with pytest.raises(UnsuitableDatabase, match=r"CREATE ROLE lorebase LOGIN"):
        PostgresServer(postgres_superuser, {})


def test_a_server_that_is_not_there_is_told_in_words() -> None:
    with pytest.raises(DatabaseUnavailable, match="cannot be reached"):
        PostgresServer("postgresql://lorebase@127.0.0.1:1/lorebase", {})
