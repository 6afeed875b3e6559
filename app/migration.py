"""A service's rows moved from the SQLite files of a data folder into a PostgreSQL database, or back.

A tenant is copied in one transaction and then compared, table by table, by count and by a sum of its rows' sha256. What
an interrupted move has copied is compared and kept by the next one. Until everything is there and alike the rows count
where they were: the last step is the one file that says where they are. Knows tables by their columns; the files of
adapters stay in the folder either way, and which of them serves is a row in PostgreSQL and a file here.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters import FileState
from app.backup import ADAPTERS, DATABASE, TENANTS
from app.registry_rows import stored_state, write_state
from app.storage import (
    BELONGS_TO,
    TENANT_MIGRATIONS,
    StorageMismatch,
    belong_together,
    open_central,
    open_in_folder,
    open_server,
    refuse_lost,
)
from app.tenants import CENTRAL_MIGRATIONS
from ingest import Connection, Database, DatabaseInUse, SqliteDatabase
from ingest.keyword_index import index_copied

if TYPE_CHECKING:
    from ingest.postgres import PostgresServer

CENTRAL = ("tenants", "keys", "unfinished", "adapter_store")
TABLES = (
    "documents", "originals", "texts", "chunks", "vectors", "index_facts", "default_split", "replacements", "staged",
    "staged_chunks", "staged_vectors", "jobs", "job_documents", "templates", "template_numbers", "template_default",
    "policy", "answers", "answer_passages", "feedback", "tasks", "task_losses", "datasets", "evaluations",
    "evaluation_items", "evaluation_outcomes", "gates", "shadow_answers", "usage", "audit", "idempotency",
    "erased_documents", "retrainings",
)  # fmt: skip
"""A tenant's, each behind those it refers to. Keyword indexes are derived, and made anew."""
NUMBERED = (
    ("documents", "number"), ("chunks", "number"), ("replacements", "revision"), ("jobs", "number"),
    ("answers", "number"), ("evaluations", "number"), ("gates", "number"), ("shadow_answers", "number"),
    ("erased_documents", "number"),
)  # fmt: skip
"""Whose numbers the database gives."""
KEPT = ".before-postgresql"
"""What is added to the names of a folder's SQLite files when their rows have moved."""
_AT_ONCE_ROWS, _AT_ONCE_BYTES = 500, 4 * 1024**2

Report = Callable[[int, int], None]
"""Told tenants done and tenants in all."""


class MigrationFailed(Exception):
    """What was copied is not what was read. The rows count where they were."""


@dataclass(frozen=True, slots=True)
class Moved:
    """What a move came to: tenants and rows in all, and tenants that an earlier one had copied already."""

    tenants: int
    rows: int
    kept: int


@dataclass(frozen=True, slots=True)
class _Sum:
    """Of a table's rows, in any order."""

    rows: int
    sha256: int


def to_postgresql(data: Path, url: str, report: Report = lambda *_: None) -> Moved:
    """Move a folder's rows into a PostgreSQL database. The caller holds the folder's lock.

    Raises:
        StorageMismatch: the folder has no SQLite files, or the database has tenants of its own.
        DatabaseInUse: a service works on the database.
        MigrationFailed, IngestError, OSError, sqlite3.Error: nothing has moved; call it again.
    """
    if (data / BELONGS_TO).is_file() or not (data / DATABASE).is_file():
        raise StorageMismatch(f"{data} has no rows in SQLite files to move.")
    with closing(_claimed(url)) as server, closing(open_central(data)) as source:
        central = server.database(None)
        ids = _tenant_ids(source)
        if strangers := set(_tenant_ids(central)) - set(ids):
            raise StorageMismatch(f"The database has {len(strangers)} tenants of its own: use an empty one.")

        def move(tenant_id: str) -> tuple[int, bool]:
            folder = data / TENANTS / tenant_id
            refuse_lost(folder)
            if not (folder / DATABASE).is_file():  # never used yet
                return 0, False
            with closing(open_in_folder(tenant_id, folder)) as own:
                done = _move(own, server.database(tenant_id), TABLES, lambda: server.erase(tenant_id))
                server.number_behind(_highest(own))
            with server.database(tenant_id).write() as writing:
                _move_registry(writing, FileState(folder / ADAPTERS).read())
            return done

        moved = _each(ids, move, report)
        _move(source, central, CENTRAL, lambda: _empty(central, CENTRAL))
        belong_together(data, central, moving=True)
    for path in (data / DATABASE, *data.glob(f"{TENANTS}/*/{DATABASE}")):
        os.replace(path, path.with_name(path.name + KEPT))
    return moved


def to_folder(data: Path, url: str, report: Report = lambda *_: None) -> Moved:
    """Move the rows of a PostgreSQL database into SQLite files of the folder that belongs to it. The caller holds the
    folder's lock. Rows in PostgreSQL stay as they are.

    Raises: see `to_postgresql`.
    """
    with closing(_claimed(url)) as server:
        source = server.database(None)
        if not (data / BELONGS_TO).is_file():
            raise StorageMismatch(f"{data} does not belong to a PostgreSQL database: set LOREBASE_DATA to the folder.")
        belong_together(data, source)

        def move(tenant_id: str) -> tuple[int, bool]:
            folder = data / TENANTS / tenant_id
            folder.mkdir(parents=True, exist_ok=True)
            with server.database(tenant_id).read() as reading:
                text = stored_state(reading)
            if text is not None:
                (folder / ADAPTERS).mkdir(exist_ok=True)
                with FileState(folder / ADAPTERS).changing() as change:
                    change.text = text
            path = folder / f"{DATABASE}.new"
            with closing(SqliteDatabase(path, TENANT_MIGRATIONS)) as own:
                return _move(server.database(tenant_id), own, TABLES, lambda: _empty(own, TABLES))

        ids = _tenant_ids(source)
        moved = _each(ids, move, report)
        with closing(SqliteDatabase(data / f"{DATABASE}.new", CENTRAL_MIGRATIONS)) as central:
            _move(source, central, CENTRAL, lambda: _empty(central, CENTRAL))
    for tenant_id in ids:
        folder = data / TENANTS / tenant_id
        os.replace(folder / f"{DATABASE}.new", folder / DATABASE)
    os.replace(data / f"{DATABASE}.new", data / DATABASE)
    (data / BELONGS_TO).unlink()
    return moved


def _move_registry(writing: Connection, text: bytes | None) -> None:
    """Keep in a row what the file of a tenant's adapter registry says."""
    writing.execute("DELETE FROM adapter_registry")
    if text is not None:
        write_state(writing, text)


def _claimed(url: str) -> PostgresServer:
    server = open_server(url)
    if not server.claim():
        server.close()
        raise DatabaseInUse("A Lorebase process serves this database. Stop all that do first.")
    return server


def _each(ids: Sequence[str], move: Callable[[str], tuple[int, bool]], report: Report) -> Moved:
    rows = kept = 0
    for done, tenant_id in enumerate(ids):
        report(done, len(ids))
        number, was_there = move(tenant_id)
        rows, kept = rows + number, kept + was_there
    report(len(ids), len(ids))
    return Moved(len(ids), rows, kept)


def _move(source: Database, target: Database, tables: Sequence[str], erase: Callable[[], None]) -> tuple[int, bool]:
    """Copy tables unless they are there; how many rows they have, and whether they were there."""
    columns = _columns(source if isinstance(source, SqliteDatabase) else target, tables)
    with source.read() as reading:
        wanted = {table: _sum(reading, table, columns[table]) for table in tables}
        rows = sum(each.rows for each in wanted.values())
        if rows and _sums(target, columns) == wanted:
            return rows, True
        erase()
        with target.write() as writing:
            for table in tables:
                _copy(reading, writing, table, columns[table])
            if "chunks" in tables:
                index_copied(writing)
    if (found := _sums(target, columns)) != wanted:
        other = next(table for table in tables if found[table] != wanted[table])
        raise MigrationFailed(
            f"The table {other} was not copied as it is ({found[other].rows} of {wanted[other].rows} rows): nothing "
            "has moved. Try again, and keep the folder."
        )
    return rows, False


def _columns(of: Database, tables: Sequence[str]) -> dict[str, list[str]]:
    """The columns of tables by their names in SQLite, which has no more than are meant."""
    with of.read() as connection:
        return {table: [row["name"] for row in connection.execute(f"PRAGMA table_info({table})")] for table in tables}


def _rows(connection: Connection, table: str, columns: Sequence[str]) -> Iterator[list[Any]]:
    for row in connection.execute(f"SELECT {_quoted(columns)} FROM {table}"):  # noqa: S608 - our own names
        # PostgreSQL's text has no NUL; U+FFFD stands for one there.
        yield [value.replace("\0", "\ufffd") if isinstance(value, str) else value for value in row]


def _copy(reading: Connection, writing: Connection, table: str, columns: Sequence[str]) -> None:
    marks = ", ".join("?" * len(columns))
    insert = f"INSERT INTO {table} ({_quoted(columns)}) VALUES ({marks})"  # noqa: S608 - our own names
    batch: list[list[Any]] = []
    size = 0
    for row in _rows(reading, table, columns):
        batch.append(row)
        size += sum(len(value) for value in row if isinstance(value, str | bytes))
        if len(batch) == _AT_ONCE_ROWS or size >= _AT_ONCE_BYTES:
            writing.executemany(insert, batch)
            batch, size = [], 0
    writing.executemany(insert, batch)


def _highest(own: Database) -> dict[tuple[str, str], int]:
    """The highest numbers of a tenant's tables, by table and column, where there are any."""
    found = {}
    with own.read() as connection:
        for table, column in NUMBERED:
            row = connection.execute(f"SELECT max({column}) FROM {table}").fetchone()  # noqa: S608 - our own names
            if row[0] is not None:
                found[table, column] = int(row[0])
    return found


def _sums(database: Database, columns: dict[str, list[str]]) -> dict[str, _Sum]:
    with database.read() as connection:
        return {table: _sum(connection, table, names) for table, names in columns.items()}


def _sum(connection: Connection, table: str, columns: Sequence[str]) -> _Sum:
    count = total = 0
    for row in _rows(connection, table, columns):
        told = [hashlib.sha256(value).hexdigest() if isinstance(value, bytes) else value for value in row]
        total += int.from_bytes(hashlib.sha256(json.dumps(told).encode()).digest())
        count += 1
    return _Sum(count, total % 2**256)


def _quoted(columns: Sequence[str]) -> str:
    return ", ".join(f'"{column}"' for column in columns)


def _empty(database: Database, tables: Sequence[str]) -> None:
    with database.write() as connection:
        for table in reversed(tables):
            connection.execute(f"DELETE FROM {table}")  # noqa: S608 - our own names
        if "erased_documents" in tables:  # what the first deletions brought about
            connection.execute("DELETE FROM erased_documents")


def _tenant_ids(central: Database) -> list[str]:
    with central.read() as connection:
        return [row["id"] for row in connection.execute("SELECT id FROM tenants ORDER BY created_at, id")]
