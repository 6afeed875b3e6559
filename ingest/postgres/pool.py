"""The connections that requests share, and what happens while there are none to be had.

While the server cannot be reached one request at a time finds out whether it is back; the others are told at once.
Knows psycopg's pool; knows no statement and no transaction.
"""

from __future__ import annotations

import threading

from psycopg_pool import ConnectionPool, PoolTimeout

from ingest.errors import DatabaseUnavailable
from ingest.postgres.connecting import CONNECT_SECONDS, AnsweringConnection, reached
from ingest.postgres.connection import rows_by_name

MOST_CONNECTIONS = 20
WAIT_SECONDS = 3.0  # for a connection
_LOCK_SECONDS = 10
_IDLE_SECONDS = 30
# Whoever waits for a lock is told before its connection is given up for silence; and a process that stands still
# inside a transaction does not hold its locks for ever.
_OPTIONS = f"-c lock_timeout={_LOCK_SECONDS}s -c idle_in_transaction_session_timeout={_IDLE_SECONDS}s"


class Connections:
    """Up to `MOST_CONNECTIONS` connections to a server, each statement a transaction of its own unless one is begun."""

    def __init__(self, url: str, silence_seconds: float) -> None:
        def configure(connection: AnsweringConnection) -> None:
            connection.silence_seconds = silence_seconds

        self._pool: ConnectionPool[AnsweringConnection] = ConnectionPool(
            reached(url, _OPTIONS),
            connection_class=AnsweringConnection,
            kwargs={"autocommit": True, "row_factory": rows_by_name},
            configure=configure,
            min_size=1,
            max_size=MOST_CONNECTIONS,
            timeout=WAIT_SECONDS,
            # Tried anew while somebody waits for one, and not with longer and longer pauses.
            reconnect_timeout=float(CONNECT_SECONDS),
            open=True,
        )
        self._reason: str | None = None  # why there is none, while that is so
        self._trying = threading.Lock()

    def take(self) -> AnsweringConnection:
        """A connection, to be handed back. Raises DatabaseUnavailable, PoolClosed."""
        if self._reason is None:
            return self._taken()
        if not self._trying.acquire(blocking=False):
            raise DatabaseUnavailable(self._reason)
        try:
            return self._taken()
        finally:
            self._trying.release()

    def give(self, connection: AnsweringConnection) -> None:
        """Hand a connection back, broken or not."""
        self._pool.putconn(connection)

    def close(self) -> None:
        """Close all. Calling it twice is fine."""
        self._pool.close()

    def _taken(self) -> AnsweringConnection:
        try:
            connection = self._pool.getconn()
        except PoolTimeout as error:
            self._reason = f"The database cannot be reached: no connection within {WAIT_SECONDS:.0f} s."
            raise DatabaseUnavailable(self._reason) from error
        self._reason = None
        return connection
