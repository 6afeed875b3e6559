"""The state of a tenant's adapter registry as a row of PostgreSQL, so that several processes may change it.

A change is a transaction of the tenant, which begins from what is stored. The other side of the seam
`adapters.RegistryState`, whose file is for one process. Knows one row; what it says is the registry's business.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from adapters import Change, RegistryState
from ingest import Connection, Database

_NONE = 0  # the revision before the first


class RowState:
    """A row of a tenant's database.

    Args:
        before: where the state lay before there was a row; it counts while there is none.
    """

    is_shared = True

    def __init__(self, database: Database, before: RegistryState) -> None:
        self._database = database
        self._before = before
        self._revision = _NONE  # that was read last

    def read(self) -> bytes | None:
        """See `RegistryState`."""
        with self._database.read() as connection:
            revision, text = self._stored(connection)
        self._revision = revision
        return text

    def others(self) -> bytes | None:
        """See `RegistryState`."""
        with self._database.read() as connection:
            revision = _revision(connection)
            text = self._stored(connection)[1] if revision != self._revision else None
        self._revision = revision
        return text

    @contextmanager
    def changing(self) -> Iterator[Change]:
        """See `RegistryState`."""
        with self._database.write() as connection:
            revision = _revision(connection)
            change = Change(self._stored(connection)[1] if revision != self._revision else None)
            yield change
            if change.text is not None:
                revision += 1
                write_state(connection, change.text, revision)
        self._revision = revision

    def sweep(self) -> None:
        """See `RegistryState`: a transaction leaves nothing."""

    def _stored(self, connection: Connection) -> tuple[int, bytes | None]:
        row = connection.execute("SELECT revision, body FROM adapter_registry").fetchone()
        return (row["revision"], row["body"].encode()) if row else (_NONE, self._before.read())


def write_state(connection: Connection, text: bytes, revision: int = 1) -> None:
    """Store a registry's state, inside the caller's transaction, in the place of what was there."""
    connection.execute(
        "INSERT INTO adapter_registry (one, revision, body) VALUES (1, ?, ?) "
        "ON CONFLICT (one) DO UPDATE SET revision = excluded.revision, body = excluded.body",
        (revision, text.decode()),
    )


def stored_state(connection: Connection) -> bytes | None:
    """A registry's state as it is stored; None while it is not."""
    row = connection.execute("SELECT body FROM adapter_registry").fetchone()
    return row["body"].encode() if row else None


def _revision(connection: Connection) -> int:
    row = connection.execute("SELECT revision FROM adapter_registry").fetchone()
    return int(row["revision"]) if row else _NONE
