"""What a database is to those who keep rows in it, and one SQLite file: a single writer, any number of readers,
numbered migrations.

Knows how a connection is opened, how a transaction begins and ends, and which migrations a component has applied.
Knows no table but its own ``schema_version``: what the tables mean is the business of whoever brings the migrations.
The other kind of database is ``ingest.postgres``; statements are written so that both take them.

SQLite before 3.51.3 can lose data when two connections write in WAL mode, so there is exactly one writer connection,
guarded by a lock; readers are opened with ``query_only`` and therefore never write or checkpoint.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any, Protocol

from ingest.errors import DamagedData, DatabaseClosed, DatabaseFull, DatabaseUnavailable, IncompatibleDatabase

Migration = str | Callable[[sqlite3.Connection], None]
"""A SQL script, or a function where SQL does not suffice; either runs inside a transaction."""

STORAGE_ERRORS = (sqlite3.Error, OSError, DatabaseUnavailable, DatabaseFull)
"""What a disk or a database server may bring about: it may pass, so that the same can be tried again."""

_IDLE_READERS = 4
_BUSY_SECONDS = 30.0
_CHECKPOINT_SECONDS = 0.2  # that those who read may hold the log up

_SCHEMA_VERSION = """
CREATE TABLE IF NOT EXISTS schema_version (
    component TEXT PRIMARY KEY,
    version INTEGER NOT NULL
)
"""


class Row(Protocol):
    """A row: its values in order, and by the names of the columns."""

    def __getitem__(self, key: Any, /) -> Any: ...

    def __iter__(self) -> Iterator[Any]: ...

    def keys(self) -> Iterable[str]: ...


class Cursor(Protocol):
    """What a statement brought."""

    @property
    def rowcount(self) -> int:
        """How many rows it changed."""

    def fetchone(self) -> Any:
        """The next `Row`; None after the last one."""

    def fetchmany(self, size: int = ..., /) -> list[Any]: ...

    def fetchall(self) -> list[Any]: ...

    def __iter__(self) -> Iterator[Any]: ...


class Connection(Protocol):
    """A connection inside a transaction. Parameters are ``?`` in the order in which they are given."""

    def execute(self, sql: str, parameters: Sequence[Any] = ..., /) -> Cursor: ...

    def executemany(self, sql: str, parameters: Iterable[Sequence[Any]], /) -> Cursor: ...


class Database(Protocol):
    """Rows behind transactions; see `SqliteDatabase` for what each of these does and raises."""

    def write(self) -> AbstractContextManager[Connection]: ...

    def read(self) -> AbstractContextManager[Connection]: ...

    def forget_deleted(self) -> bool: ...

    def rest(self) -> bool: ...

    def close(self) -> None: ...

    @property
    def connections(self) -> int: ...


class SqliteDatabase:
    """A SQLite database in WAL mode, durable on commit (``synchronous=FULL``), foreign keys enforced.

    Args:
        path: the database file; made when absent, in a folder that exists.
        migrations: component name → scripts, oldest first. Script *n* brings the component from version *n* to
            *n + 1*. Scripts that were released are never edited. Each runs in a transaction of its own.

    Raises:
        IncompatibleDatabase: the file holds a later version of a component than ``migrations`` know.
        sqlite3.Error: the file is no database, or a migration fails (that migration is then rolled back).
    """

    def __init__(self, path: Path, migrations: Mapping[str, Sequence[Migration]]) -> None:
        self.path = path
        self._write_lock = threading.Lock()
        self._writing_thread: int | None = None
        self._readers_lock = threading.Lock()
        self._idle_readers: list[sqlite3.Connection] = []
        self._busy_readers = 0
        self._closed = False
        with _as_stored(path):
            self._writer: sqlite3.Connection | None = self._open_writer()
        try:
            with _as_stored(path):
                self._migrate(self._writer, migrations)
        except BaseException:
            self._writer.close()
            raise

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """The writer connection inside a transaction: committed on leaving, rolled back when an error passes.

        Other threads wait for their turn.

        Raises:
            RuntimeError: this thread is already inside ``write()`` (it would wait for itself).
            DatabaseClosed: the database is closed.
        """
        if self._writing_thread == threading.get_ident():
            raise RuntimeError("write() is not reentrant: hand the connection on instead")
        with self._write_lock:
            if self._closed:
                raise DatabaseClosed(f"database {self.path.name} is closed")
            self._writing_thread = threading.get_ident()
            try:
                if self._writer is None:
                    self._writer = self._open_writer()
                with _as_stored(self.path), _transaction(self._writer):
                    yield self._writer
            finally:
                self._writing_thread = None

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A reading connection that sees one committed state from its first query to the end of the block.

        Raises:
            DatabaseClosed: the database is closed.
            DamagedData: what was read is not what was stored.
            sqlite3.OperationalError: the block tries to write.
        """
        connection = self._take_reader()
        try:
            with _as_stored(self.path):
                connection.execute("BEGIN")
                yield connection
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            self._give_back(connection)

    def version(self, component: str) -> int:
        """How many migrations of ``component`` this file has seen; 0 when none."""
        with self.read() as connection:
            return _version(connection, component)

    def snapshot(self, target: Path) -> None:
        """Copy one committed state into a new file, while others read and write.

        Raises:
            DatabaseClosed: the database is closed.
            sqlite3.Error: the copy cannot be written.
        """
        with self.read() as connection, closing(sqlite3.connect(target)) as copy:
            connection.backup(copy)

    def forget_deleted(self) -> bool:
        """Rewrite the file without what was deleted, and empty its log, so that no byte of it is left in either.

        Returns:
            whether the log is empty; false while a reader that began before holds on to it.

        Raises:
            DatabaseClosed: the database is closed.
            sqlite3.Error: there is no room for the copy.
        """
        with self._write_lock:
            if self._closed:
                raise DatabaseClosed(f"database {self.path.name} is closed")
            if self._writer is None:
                self._writer = self._open_writer()
            self._writer.execute("VACUUM")
            self._writer.execute(f"PRAGMA busy_timeout={_CHECKPOINT_SECONDS * 1000:.0f}")  # others wait to write
            try:
                busy = self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
            finally:
                self._writer.execute(f"PRAGMA busy_timeout={_BUSY_SECONDS * 1000:.0f}")
        return not busy

    def close(self) -> None:
        """Close all idle connections, the writer last; waits for a transaction under way. Calling it twice is fine."""
        with self._write_lock, self._readers_lock:
            if self._closed:
                return
            self._closed = True
            self._close_connections()

    def rest(self) -> bool:
        """Close all connections until the next use opens them again; false, and nothing done, while one is at work."""
        if not self._write_lock.acquire(blocking=False):
            return False
        try:
            with self._readers_lock:
                if self._busy_readers == 0:
                    self._close_connections()
                return self._busy_readers == 0
        finally:
            self._write_lock.release()

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._idle_readers) + self._busy_readers + (self._writer is not None)

    def _close_connections(self) -> None:
        """Close the idle readers, then the writer; the caller holds both locks."""
        while self._idle_readers:
            self._idle_readers.pop().close()
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _open_writer(self) -> sqlite3.Connection:
        connection = self._connect()
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA foreign_keys=ON")
        except BaseException:
            connection.close()
            raise
        return connection

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=128
        )
        connection.row_factory = sqlite3.Row
        return connection

    def _take_reader(self) -> sqlite3.Connection:
        with self._readers_lock:
            if self._closed:
                raise DatabaseClosed(f"database {self.path.name} is closed")
            self._busy_readers += 1
            if self._idle_readers:
                return self._idle_readers.pop()
        try:
            connection = self._connect()
            connection.execute("PRAGMA query_only=ON")
        except BaseException as error:
            with self._readers_lock:
                self._busy_readers -= 1
            if self._closed and isinstance(error, sqlite3.OperationalError):  # its folder was removed in between
                raise DatabaseClosed(f"database {self.path.name} is closed") from error
            raise
        return connection

    def _give_back(self, connection: sqlite3.Connection) -> None:
        with self._readers_lock:
            self._busy_readers -= 1
            if not self._closed and len(self._idle_readers) < _IDLE_READERS:
                self._idle_readers.append(connection)
                return
        connection.close()

    def _migrate(self, writer: sqlite3.Connection, migrations: Mapping[str, Sequence[Migration]]) -> None:
        writer.execute(_SCHEMA_VERSION)
        for component, scripts in migrations.items():
            found = _version(writer, component)
            if found > len(scripts):
                raise IncompatibleDatabase(
                    f"{self.path.name} holds version {found} of its {component} tables, this software knows versions "
                    f"up to {len(scripts)}: run the newer version that wrote it, or restore an older backup"
                )
            for number in range(found, len(scripts)):
                with _transaction(writer):
                    _apply(writer, scripts[number])
                    writer.execute(
                        "INSERT INTO schema_version (component, version) VALUES (?, ?) "
                        "ON CONFLICT (component) DO UPDATE SET version = excluded.version",
                        (component, number + 1),
                    )


def is_sqlite(connection: Connection) -> bool:
    """Whether a connection is to a SQLite file: for the few statements that no two databases share."""
    return isinstance(connection, sqlite3.Connection)


def plain_rows(connection: Connection, sql: str, parameters: Sequence[Any] = ()) -> Cursor:
    """As ``connection.execute``, for many rows: tuples, which cost less than rows with names."""
    if not isinstance(connection, sqlite3.Connection):
        return connection.execute(sql, parameters)
    cursor = connection.cursor()
    cursor.row_factory = None
    return cursor.execute(sql, parameters)


def _apply(writer: sqlite3.Connection, migration: Migration) -> None:
    if callable(migration):
        migration(writer)
        return
    for statement in _statements(migration):
        writer.execute(statement)


@contextmanager
def _as_stored(path: Path) -> Iterator[None]:
    """Raise DamagedData where text that was read is none, or no JSON, as all that is stored is."""
    try:
        yield
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DamagedData(f"what the database {path.name} holds was not stored so: restore a backup") from error


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _version(connection: sqlite3.Connection, component: str) -> int:
    row = connection.execute("SELECT version FROM schema_version WHERE component = ?", (component,)).fetchone()
    return int(row["version"]) if row else 0


def _statements(script: str) -> Iterator[str]:
    """The statements of a script, one by one: ``executescript`` would commit the transaction around it."""
    statement = ""
    for piece in script.split(";"):
        statement += piece + ";"
        if sqlite3.complete_statement(statement):
            if statement.strip(" \t\r\n;"):
                yield statement
            statement = ""
    if statement.strip(" \t\r\n;"):
        yield statement
