"""One connection of a process that stays open for as long as the process serves a database.

While it is open the process counts among those that serve, which whoever wants the database for itself sees; and it
hears what other processes tell. Knows locks, channels and how a connection that is lost is noticed; knows no table.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import psycopg

from ingest.errors import DatabaseUnavailable
from ingest.postgres.connecting import AnsweringConnection, reached
from ingest.postgres.connection import PostgresRow, rows_by_name
from ingest.postgres.problems import told

SERVING = 0x6C6F7266  # the key of the lock that those who serve share, and that one holds who is alone
_POLL_SECONDS = 0.1
_SILENCE_SECONDS = 5.0


class PostgresSession:
    """A connection that shares in serving a database, and listens. For one thread at a time.

    Args:
        url: as `PostgresServer` takes it.
        channel: where it listens.
    """

    def __init__(self, url: str, channel: str) -> None:
        self._url = url
        self._channel = channel
        self._connection: psycopg.Connection[PostgresRow] | None = None

    @property
    def is_open(self) -> bool:
        """Whether it was opened and has not been lost since."""
        return self._connection is not None and not self._connection.closed

    def open(self, seconds: float = 0.0) -> bool:
        """Connect, hear from now on what is told, and share in serving; false when another process has the database
        for itself yet after so many seconds. Raises DatabaseUnavailable."""
        self.close()
        deadline = time.monotonic() + seconds
        with told():
            connection = AnsweringConnection.connect(
                reached(self._url, f"-c statement_timeout={_SILENCE_SECONDS:.0f}s"),
                autocommit=True,
                row_factory=rows_by_name,
                fallback_application_name="lorebase replica",
            )
            connection.silence_seconds = _SILENCE_SECONDS
            try:
                connection.execute(f"LISTEN {self._channel}".encode())
                while not _shares(connection):
                    if time.monotonic() >= deadline:
                        connection.close()
                        return False
                    time.sleep(_POLL_SECONDS)
            except BaseException:
                connection.close()
                raise
        self._connection = connection
        return True

    def hear(self, seconds: float) -> list[str]:
        """What was told, as soon as anything is; nothing after so many seconds. Raises DatabaseUnavailable."""
        with told():
            return [each.payload for each in self._opened().notifies(timeout=seconds, stop_after=1)]

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> list[PostgresRow]:
        """Run one statement, with placeholders ``%s``, in a transaction of its own; its rows."""
        with told():
            cursor = self._opened().execute(sql.encode(), parameters)
            return cursor.fetchall() if cursor.description else []

    def close(self) -> None:
        """Serve no more. Calling it twice is fine."""
        connection, self._connection = self._connection, None
        if connection is not None:
            release(connection)

    def _opened(self) -> psycopg.Connection[PostgresRow]:
        if self._connection is None or self._connection.closed:
            raise DatabaseUnavailable("The connection to the database is lost.")
        return self._connection


def release(connection: psycopg.Connection[PostgresRow]) -> None:
    """Close a connection; its locks are free at once, and not only when the server has noticed."""
    with suppress(psycopg.Error):
        connection.execute("SELECT pg_advisory_unlock_all()")
    connection.close()


def _shares(connection: psycopg.Connection[PostgresRow]) -> bool:
    row = connection.execute("SELECT pg_try_advisory_lock_shared(%s)", (SERVING,)).fetchone()
    return row is not None and bool(row[0])
