"""One PostgreSQL database for all tenants: a pool of connections, transactions of one tenant each, numbered migrations.

Every table with a column ``tenant`` has row-level security: a transaction sees and writes the rows of the tenant it
was begun for, and none where it was begun for none. Knows how a transaction begins and ends and which migrations a
component has applied; knows no table but its own ``schema_version``.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import psycopg

from ingest.errors import (
    DatabaseClosed,
    DatabaseInUse,
    IncompatibleDatabase,
    LeaseLost,
    UnsuitableDatabase,
)
from ingest.postgres.conditions import current_lease
from ingest.postgres.connecting import SILENCE_SECONDS, AnsweringConnection, connected, reached
from ingest.postgres.connection import PostgresConnection, PostgresRow, rows_by_name
from ingest.postgres.pool import WAIT_SECONDS, Connections
from ingest.postgres.problems import told
from ingest.postgres.session import SERVING, PostgresSession, release

PostgresMigration: TypeAlias = str
"""A script of statements; it runs as it stands, in a transaction of its own."""
_TENANT = re.compile(r"[0-9a-f]{32}")
_OLDEST_SERVER = 140000
_POLL_SECONDS = 0.1
_MIGRATING = 0x6C6F7265  # the key of the lock under which one process at a time migrates
_STARTING = 0x6C6F7267  # and of the one under which one process at a time starts
_SCHEMA_VERSION = "CREATE TABLE IF NOT EXISTS schema_version (component text PRIMARY KEY, version integer NOT NULL)"
_TENANT_TABLES = """
    SELECT c.relname AS name, c.relforcerowsecurity AS secured, c.relispartition AS is_part FROM pg_class c
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant'
    WHERE c.relkind IN ('r', 'p') AND c.relnamespace = current_schema()::regnamespace ORDER BY c.oid DESC
"""


class PostgresServer:
    """A database server, reached through a pool of connections.

    Args:
        url: ``postgresql://user:password@host:port/database``, as libpq takes it.
        migrations: component name → scripts, oldest first. Scripts that were released are never edited.
        silence_seconds: how long a request waits for a server that sends nothing.

    Raises:
        DatabaseUnavailable: it cannot be reached.
        UnsuitableDatabase: its version, encoding or the role do not do.
        IncompatibleDatabase: it holds a later version of a component than ``migrations`` know.
        DatabaseInUse: it holds an earlier one, and others serve it.
    """

    def __init__(
        self,
        url: str,
        migrations: Mapping[str, Sequence[PostgresMigration]],
        *,
        silence_seconds: float = SILENCE_SECONDS,
    ) -> None:
        self._url = url
        self._versions = {component: len(scripts) for component, scripts in migrations.items()}
        with self.connected() as connection:
            self.version = _check_server(connection)
            _migrate(connection, migrations)
        self._connections = Connections(url, silence_seconds)
        self._claim: psycopg.Connection[PostgresRow] | None = None

    def connected(self) -> AbstractContextManager[psycopg.Connection[PostgresRow]]:
        """A connection beside the pool, each statement a transaction of its own."""
        return connected(self._url)

    def database(self, tenant_id: str | None, exists: str = "true") -> PostgresDatabase:
        """The rows of a tenant; with None those that are no tenant's.

        Args:
            exists: an expression of SQL; once it is not true nothing more is written.
        """
        return PostgresDatabase(self, tenant_id, exists)

    def session(self, channel: str) -> PostgresSession:
        """A connection, not open yet, that shares in serving the database, and listens."""
        return PostgresSession(self._url, channel)

    def check_versions(self) -> None:
        """Raise IncompatibleDatabase when the tables are not those that this software knows."""
        with self.connected() as connection:
            found = {component: component_version(connection, component) for component in self._versions}
        if found != self._versions:
            raise IncompatibleDatabase(
                "the database was brought to another version of its tables meanwhile: start this process anew, with "
                "the software that did so"
            )

    def add_tables(self, component: str, scripts: Sequence[PostgresMigration]) -> None:
        """Apply the migrations of a component that those who serve the database meanwhile need not know.

        Raises:
            IncompatibleDatabase: see the class.
        """
        with self.connected() as connection:
            _migrate(connection, {component: scripts}, beside_others=True)
        self._versions[component] = len(scripts)

    @contextmanager
    def starting(self) -> Iterator[None]:
        """A block that one process at a time is in."""
        with self.connected() as connection:
            connection.execute("SELECT pg_advisory_lock(%s)", (_STARTING,))
            yield

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> list[PostgresRow]:
        """Run one statement, with placeholders ``%s``, in a transaction of its own: one round trip; its rows."""
        with told():
            connection, cursor = self._first(sql, parameters)
            try:
                return cursor.fetchall() if cursor.description else []
            finally:
                self._connections.give(connection)

    def claim(self, seconds: float = 0.0) -> bool:
        """Take the database for this process until it ends or `close` is called; false when another process has it yet
        after so many seconds."""
        deadline = time.monotonic() + seconds
        while not (claimed := self._try_claim()) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        return claimed

    def _try_claim(self) -> bool:
        with told():
            if self._claim is None or self._claim.closed:
                self._claim = psycopg.connect(reached(self._url), autocommit=True, row_factory=rows_by_name)
            row = self._claim.execute("SELECT pg_try_advisory_lock(%s)", (SERVING,)).fetchone()
            return row is not None and bool(row[0])

    def erase(self, tenant_id: str) -> None:
        """Delete every row of a tenant, in every table."""
        with self.connected() as connection:
            tables = [row["name"] for row in connection.execute(_TENANT_TABLES) if not row["is_part"]]
            with connection.transaction():  # beside the pool: it takes as long as it takes
                connection.execute(f"SELECT {_write_lock(tenant_id)}".encode())
                for _ in range(2):  # what the first deletions bring about is deleted by the second ones
                    for table in tables:
                        connection.execute(f'DELETE FROM "{table}" WHERE tenant = %s'.encode(), (tenant_id,))  # noqa: S608 - our own names

    def number_behind(self, highest: Mapping[tuple[str, str], int]) -> None:
        """Let numbers that are given from now on be higher than these, by table and column."""
        with self.connected() as connection:
            for (table, column), number in highest.items():
                row = connection.execute("SELECT pg_get_serial_sequence(%s, %s) AS name", (table, column)).fetchone()
                assert row is not None  # noqa: S101 - a row always
                connection.execute(
                    f"SELECT setval(%s, %s) FROM {row['name']} WHERE last_value < %s OR NOT is_called".encode(),  # noqa: S608 - its own
                    (row["name"], number, number),
                )

    def close(self) -> None:
        """Close all connections. Calling it twice is fine."""
        self._connections.close()
        if self._claim is not None:
            release(self._claim)

    @contextmanager
    def begun(
        self, begin: str, check: Callable[[PostgresRow], None] = lambda _: None
    ) -> Iterator[psycopg.Connection[PostgresRow]]:
        """A connection in a transaction that ``begin`` begins: committed on leaving, rolled back when an error passes.

        ``check`` is told what the last statement of ``begin`` answers.
        """
        with told():
            connection, cursor = self._first(begin)
            try:
                check(_last_row(cursor))
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if not connection.broken and not connection.closed:
                    connection.execute("ROLLBACK")
                raise
            finally:
                self._connections.give(connection)

    def _first(
        self, sql: str, parameters: Sequence[Any] | None = None
    ) -> tuple[AnsweringConnection, psycopg.Cursor[PostgresRow]]:
        """A connection, and the cursor of its first statement.

        One that the server has closed meanwhile is found by that, and another one is taken; not for long, since
        finding one that leads nowhere takes seconds, and the next one would lead there too.
        """
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            connection = self._connections.take()
            try:
                return connection, connection.execute(sql.encode(), parameters)
            except BaseException as error:
                lost = isinstance(error, psycopg.OperationalError) and connection.broken
                self._connections.give(connection)
                if not lost or time.monotonic() > deadline:
                    raise


class PostgresDatabase:
    """The rows of one tenant, or with None as its id those that are no tenant's; see ``SqliteDatabase``."""

    def __init__(self, server: PostgresServer, tenant_id: str | None, exists: str = "true") -> None:
        self._server = server
        self._tenant_id = tenant_id
        self._exists = exists
        self._write_lock = threading.Lock()
        self._writing_thread: int | None = None
        self._closed = False
        self._begin_read = f"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT {_setting(tenant_id)}"
        self._begin_write = f"BEGIN; SELECT {_write_lock(tenant_id)}"

    @contextmanager
    def write(self) -> Iterator[PostgresConnection]:
        """A connection inside a transaction: committed on leaving, rolled back when an error passes.

        Raises:
            RuntimeError: this thread is already inside ``write()`` (it would wait for itself).
            DatabaseClosed, DatabaseUnavailable, DatabaseFull
            LeaseLost: see `only_while`.
        """
        if self._writing_thread == threading.get_ident():
            raise RuntimeError("write() is not reentrant: hand the connection on instead")
        with self._write_lock:
            self._check_open()
            self._writing_thread = threading.get_ident()
            try:
                begin = f"{self._begin_write}; SELECT {self._exists} AS there, {current_lease()} AS held"
                with self._server.begun(begin, _check) as connection:
                    yield PostgresConnection(connection, self._tenant_id is not None)
            finally:
                self._writing_thread = None

    @contextmanager
    def read(self) -> Iterator[PostgresConnection]:
        """A connection that sees one committed state from its first query to the end of the block, and cannot write.

        Raises:
            DatabaseClosed, DatabaseUnavailable, DamagedData
        """
        self._check_open()
        with self._server.begun(self._begin_read) as connection:
            yield PostgresConnection(connection, self._tenant_id is not None)

    @contextmanager
    def beside(self) -> Iterator[psycopg.Connection[PostgresRow]]:
        """A connection of its own to the tenant's rows, beside the pool: each statement a transaction, which may be
        long."""
        self._check_open()
        with self._server.connected() as connection:
            connection.execute("SELECT set_config('lorebase.tenant', %s, false)", (self._tenant_id or "",))
            yield connection

    @property
    def tenant_id(self) -> str | None:
        """Whose rows they are."""
        return self._tenant_id

    def forget_deleted(self) -> bool:
        """True: how long bytes of deleted rows stay in its files is the server's business (autovacuum)."""
        return True

    def close(self) -> None:
        """Refuse further work; the connections are the server's."""
        with self._write_lock:
            self._closed = True

    def rest(self) -> bool:
        """True: nothing is held between transactions."""
        return True

    @property
    def connections(self) -> int:
        """0: connections are the server's, and no tenant's."""
        return 0

    def _check_open(self) -> None:
        if self._closed:
            raise DatabaseClosed("the database is closed")


def _setting(tenant_id: str | None) -> str:
    """What shows a transaction the rows of a tenant."""
    if tenant_id is not None and not _TENANT.fullmatch(tenant_id):
        raise ValueError("a tenant's id is 32 hexadecimal digits")
    return f"set_config('lorebase.tenant', '{tenant_id or ''}', true)"


def _write_lock(tenant_id: str | None) -> str:
    """The same, for a writer: those of one tenant wait for one another, in other processes too. What is asked by the
    next statement sees what those before have committed."""
    return f"{_setting(tenant_id)}, pg_advisory_xact_lock(hashtextextended('lorebase {tenant_id}', 0))"


def _check(row: PostgresRow) -> None:
    if not row["there"]:
        raise DatabaseClosed("the tenant is gone")
    if not row["held"]:
        raise LeaseLost("the work goes on in another process")


def _last_row(cursor: psycopg.Cursor[PostgresRow]) -> PostgresRow:
    while cursor.nextset():
        pass
    row = cursor.fetchone()
    assert row is not None  # noqa: S101 - its statement answers always
    return row


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What a database is found to be.

    Attributes:
        version: the server's.
        components: versions of tables by component; empty before the first start.
        processes: how many serve it, or have it for themselves.
    """

    version: str
    components: dict[str, int]
    processes: int


def look(url: str) -> ServerFacts:
    """Look at a database, and change nothing.

    Raises:
        DatabaseUnavailable, UnsuitableDatabase
    """
    with connected(url) as connection:
        version = _check_server(connection)
        there = connection.execute("SELECT to_regclass('schema_version') IS NOT NULL AS there").fetchone()
        components: dict[str, int] = {}
        if there is not None and there["there"]:
            rows = connection.execute("SELECT component, version FROM schema_version")
            components = {row["component"]: row["version"] for row in rows}
        claims = connection.execute(
            "SELECT count(*) AS n FROM pg_locks JOIN pg_database ON database = pg_database.oid "
            "WHERE locktype = 'advisory' AND granted "
            "AND objid = %s AND datname = current_database()",
            (SERVING,),
        )
        found = claims.fetchone()
        return ServerFacts(version, components, int(found["n"]) if found is not None else 0)


def _check_server(connection: psycopg.Connection[PostgresRow]) -> str:
    """The server's version, where this software can work with it. Raises UnsuitableDatabase."""
    row = connection.execute(
        "SELECT current_setting('server_version_num')::integer AS number, current_setting('server_version') AS version,"
        " current_setting('server_encoding') AS encoding, current_user AS role, rolsuper OR rolbypassrls AS unbound "
        "FROM pg_roles WHERE rolname = current_user"
    ).fetchone()
    assert row is not None  # noqa: S101 - there is a role
    if row["number"] < _OLDEST_SERVER:
        raise UnsuitableDatabase(f"PostgreSQL {row['version']} is too old: use 14 or newer.")
    if row["encoding"] != "UTF8":
        raise UnsuitableDatabase(
            f"The database's encoding is {row['encoding']}: make one with CREATE DATABASE … ENCODING 'UTF8'."
        )
    if row["unbound"]:
        raise UnsuitableDatabase(
            f"The role {row['role']!r} is a superuser or bypasses row-level security, which keeps tenants apart. Use a "
            "role of its own: CREATE ROLE lorebase LOGIN PASSWORD '…'; CREATE DATABASE lorebase OWNER lorebase;"
        )
    return str(row["version"])


def _migrate(
    connection: psycopg.Connection[PostgresRow],
    migrations: Mapping[str, Sequence[PostgresMigration]],
    *,
    beside_others: bool = False,
) -> None:
    connection.execute("SELECT pg_advisory_lock(%s)", (_MIGRATING,))
    try:
        connection.execute(_SCHEMA_VERSION)
        there = {component: component_version(connection, component) for component in migrations}
        older = [component for component, scripts in migrations.items() if there[component] < len(scripts)]
        if older and any(there.values()) and not beside_others and not _may_be_alone(connection):
            raise DatabaseInUse(
                f"The database's tables are of an older version ({', '.join(older)}), and other processes serve it. "
                "Stop all of them, then start this version."
            )
        for component, scripts in migrations.items():
            found = component_version(connection, component)
            if found > len(scripts):
                raise IncompatibleDatabase(
                    f"the database holds version {found} of its {component} tables, this software knows versions up "
                    f"to {len(scripts)}: run the newer version that wrote it"
                )
            for number in range(found, len(scripts)):
                with connection.transaction():
                    connection.execute(scripts[number].encode())
                    _secure(connection)
                    connection.execute(
                        "INSERT INTO schema_version (component, version) VALUES (%s, %s) "
                        "ON CONFLICT (component) DO UPDATE SET version = excluded.version",
                        (component, number + 1),
                    )
    finally:
        if not connection.broken:  # now, and not when the server has noticed that the connection is closed
            connection.execute("SELECT pg_advisory_unlock_all()")


def _may_be_alone(connection: psycopg.Connection[PostgresRow]) -> bool:
    """Whether no process serves the database; none begins to until the connection's locks are given back."""
    row = connection.execute("SELECT pg_try_advisory_lock(%s)", (SERVING,)).fetchone()
    return row is not None and bool(row[0])


def component_version(connection: psycopg.Connection[PostgresRow], component: str) -> int:
    """How many migrations of a component the database has seen."""
    row = connection.execute("SELECT version FROM schema_version WHERE component = %s", (component,)).fetchone()
    return int(row["version"]) if row else 0


def _secure(connection: psycopg.Connection[PostgresRow]) -> None:
    """Give every table of tenants that has none yet its row-level security, which holds for the tables' owner too."""
    for row in connection.execute(_TENANT_TABLES).fetchall():
        if not row["secured"]:
            connection.execute(
                f'ALTER TABLE "{row["name"]}" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; '
                f'CREATE POLICY of_tenant ON "{row["name"]}" '
                "USING (tenant = nullif(current_setting('lorebase.tenant', true), ''));".encode()
            )
