"""One writer, many readers, migrations that are all or nothing."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingest.database import Database, SqliteDatabase
from ingest.errors import DatabaseClosed, IncompatibleDatabase

NOTES = ["CREATE TABLE notes (id INTEGER PRIMARY KEY, body TEXT NOT NULL)"]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = SqliteDatabase(tmp_path / "notes.sqlite", {"notes": NOTES})
    yield database
    database.close()


def bodies(database: Database) -> list[str]:
    with database.read() as connection:
        return [row["body"] for row in connection.execute("SELECT body FROM notes ORDER BY id")]


def test_a_commit_is_seen_by_readers(database: Database) -> None:
    with database.write() as connection:
        connection.execute("INSERT INTO notes (body) VALUES ('kept')")
    assert bodies(database) == ["kept"]


def test_an_error_rolls_the_transaction_back(database: Database) -> None:
    with pytest.raises(sqlite3.IntegrityError), database.write() as connection:
        connection.executemany("INSERT INTO notes (body) VALUES (?)", [("lost",), (None,)])
    assert bodies(database) == []


def test_a_reader_sees_one_state_for_its_whole_block(database: Database) -> None:
    with database.read() as reader:
        assert reader.execute("SELECT count(*) FROM notes").fetchone()[0] == 0
        with database.write() as connection:
            connection.execute("INSERT INTO notes (body) VALUES ('later')")
        assert reader.execute("SELECT count(*) FROM notes").fetchone()[0] == 0
    assert bodies(database) == ["later"]


def test_a_reader_cannot_write(database: Database) -> None:
    with pytest.raises(sqlite3.OperationalError), database.read() as connection:
        connection.execute("INSERT INTO notes (body) VALUES ('no')")
    assert bodies(database) == []


def test_write_inside_write_is_refused_instead_of_waiting_for_itself(database: Database) -> None:
    with database.write(), pytest.raises(RuntimeError, match="reentrant"), database.write():
        pass


def test_threads_write_one_after_the_other(database: Database) -> None:
    def insert(number: int) -> None:
        for _ in range(10):
            with database.write() as connection:
                connection.execute("INSERT INTO notes (body) VALUES (?)", (str(number),))
            bodies(database)

    threads = [threading.Thread(target=insert, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(bodies(database)) == 60


def test_commits_are_durable_and_foreign_keys_are_enforced(database: Database) -> None:
    with database.write() as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
        assert connection.execute("PRAGMA synchronous").fetchone()[0] == 2
        assert connection.execute("PRAGMA foreign_keys").fetchone()[0] == 1


def test_a_closed_database_refuses_work(database: Database) -> None:
    database.close()
    database.close()
    with pytest.raises(DatabaseClosed, match="closed"), database.write():
        pass
    with pytest.raises(DatabaseClosed, match="closed"), database.read():
        pass


def test_later_migrations_reach_a_database_made_by_earlier_ones(tmp_path: Path) -> None:
    path = tmp_path / "notes.sqlite"
    first = SqliteDatabase(path, {"notes": NOTES})
    with first.write() as connection:
        connection.execute("INSERT INTO notes (body) VALUES ('old')")
    first.close()
    trigger = """
        ALTER TABLE notes ADD COLUMN mark TEXT DEFAULT 'a;b';
        CREATE TRIGGER marked AFTER INSERT ON notes BEGIN
            UPDATE notes SET mark = 'new;' WHERE id = new.id;
            UPDATE notes SET body = upper(body) WHERE id = new.id;
        END;
    """
    second = SqliteDatabase(path, {"notes": [*NOTES, trigger], "jobs": ["CREATE TABLE jobs (id TEXT);"]})
    with second.write() as connection:
        connection.execute("INSERT INTO notes (body) VALUES ('x')")
    with second.read() as connection:
        rows = connection.execute("SELECT body, mark FROM notes ORDER BY id").fetchall()
    assert [tuple(row) for row in rows] == [("old", "a;b"), ("X", "new;")]
    assert (second.version("notes"), second.version("jobs"), second.version("other")) == (2, 1, 0)
    second.close()


def test_a_failing_migration_leaves_no_trace_of_itself(tmp_path: Path) -> None:
    path = tmp_path / "notes.sqlite"
    broken = "CREATE TABLE half (id TEXT); INSERT INTO missing VALUES (1);"
    with pytest.raises(sqlite3.OperationalError):
        SqliteDatabase(path, {"notes": [*NOTES, broken]})
    database = SqliteDatabase(path, {"notes": NOTES})
    with database.read() as connection:
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert tables == {"schema_version", "notes"}
    database.close()


def test_a_database_from_a_newer_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.sqlite"
    SqliteDatabase(path, {"notes": [*NOTES, "CREATE TABLE more (id TEXT)"]}).close()
    with pytest.raises(IncompatibleDatabase, match="holds version 2 of its notes tables"):
        SqliteDatabase(path, {"notes": NOTES})


def test_what_was_deleted_is_in_no_byte_of_file_and_log_once_forgotten(database: Database) -> None:
    for n in range(50):
        with database.write() as connection:
            connection.execute("INSERT INTO notes (body) VALUES (?)", (f"zanzibar {n} " * 100,))
    with database.write() as connection:
        connection.execute("INSERT INTO notes (body) VALUES ('kept')")
        connection.execute("DELETE FROM notes WHERE body <> 'kept'")

    def held() -> bool:
        return any(b"zanzibar" in path.read_bytes() for path in database.path.parent.iterdir())

    assert held()
    assert database.forget_deleted()
    assert not held()
    assert bodies(database) == ["kept"]


def test_a_reader_that_began_before_keeps_the_log_until_it_ends(database: Database) -> None:
    with database.write() as connection:
        connection.execute("INSERT INTO notes (body) VALUES ('old')")
    with database.read() as reader:
        assert reader.execute("SELECT count(*) FROM notes").fetchone()[0] == 1
        with database.write() as connection:
            connection.execute("DELETE FROM notes")
        assert not database.forget_deleted()
        assert reader.execute("SELECT body FROM notes").fetchone()["body"] == "old"
    assert database.forget_deleted()
