"""Databases for tests: one PostgreSQL server for the session, and both kinds of database behind one fixture.

`LOREBASE_TEST_DATABASE_URL` names another server than the one that the package `pgserver` carries; its role makes
databases. (`LOREBASE_DATABASE_URL` is a setting of the service itself.)
"""

from __future__ import annotations

import fcntl
import os
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode

import psycopg
import pytest

from app.postgres_schema import CENTRAL_TABLES, TENANT_TABLES
from app.storage import TENANT_MIGRATIONS
from app.tenants import CENTRAL_MIGRATIONS
from ingest import Database, SqliteDatabase
from ingest.postgres import DOCUMENT_TABLES, PostgresMigration, PostgresServer, prepare

ON_POSTGRESQL = os.environ.get("LOREBASE_TEST_STORAGE") == "postgresql"
rows_in_files = pytest.mark.skipif(ON_POSTGRESQL, reason="of rows in SQLite files")
ALL_TABLES: dict[str, Sequence[PostgresMigration]] = {**CENTRAL_TABLES, "documents": DOCUMENT_TABLES, **TENANT_TABLES}


@contextmanager
def postgres_process(folder: Path) -> Iterator[str]:
    """The URL of a superuser of a PostgreSQL server that runs within the block, with its files in ``folder``."""
    pgserver = pytest.importorskip("pgserver", reason="needs the package pgserver, or LOREBASE_TEST_DATABASE_URL")
    with (Path(tempfile.gettempdir()) / f"lorebase-pg-{os.geteuid()}.lock").open("w") as starting:
        fcntl.flock(starting, fcntl.LOCK_EX)  # of root it makes a user for the server, which two cannot do at once
        server = pgserver.get_server(folder, cleanup_mode="stop")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()


@contextmanager
def fresh_database(superuser: str, *, extension: bool = False) -> Iterator[str]:
    """The URL of a new, empty database, with the extension pgvector if wanted, and a role of its own that owns it."""
    name = f"lorebase_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(superuser, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{name}'".encode())
        connection.execute(f"CREATE DATABASE {name} OWNER {name} ENCODING 'UTF8' TEMPLATE template0".encode())
    if extension:
        with in_database(superuser, name) as connection:
            connection.execute("CREATE EXTENSION vector")
    place = psycopg.conninfo.conninfo_to_dict(superuser)
    where = {key: str(place[key]) for key in ("host", "port") if place.get(key)}
    try:
        yield f"postgresql://{name}:{name}@/{name}?{urlencode(where)}"
    finally:
        with psycopg.connect(superuser, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())
            connection.execute(f"DROP ROLE {name}".encode())


@contextmanager
def in_database(superuser: str, name: str) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """A superuser's connection to a database."""
    with psycopg.connect(psycopg.conninfo.make_conninfo(superuser, dbname=name), autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="session")
def postgres_superuser() -> Iterator[str]:
    """The URL of a role that makes databases."""
    if given := os.environ.get("LOREBASE_TEST_DATABASE_URL"):
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="lorebase-pg-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)  # the server runs as a user of its own where the tests run as root
        with postgres_process(Path(folder) / "data") as url:
            yield url


@pytest.fixture(scope="session")
def postgres(postgres_superuser: str) -> Iterator[PostgresServer]:
    """A database with all tables, which the tests of a session share: each has tenants of its own."""
    with fresh_database(postgres_superuser) as url:
        server = PostgresServer(url, ALL_TABLES)
        yield server
        server.close()


@pytest.fixture(scope="session")
def vector_postgres(postgres_superuser: str) -> Iterator[PostgresServer]:
    """As `postgres`, and pgvector searches there."""
    with fresh_database(postgres_superuser, extension=True) as url:
        server = PostgresServer(url, ALL_TABLES)
        prepare(server)
        yield server
        server.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A tenant's database with all its tables, of either kind."""
    if request.param == "sqlite":
        opened: Database = SqliteDatabase(tmp_path / "tenant.db", TENANT_MIGRATIONS)
    else:
        opened = request.getfixturevalue("postgres").database(uuid.uuid4().hex)
    yield opened
    opened.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def central(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty central database of either kind."""
    if request.param == "sqlite":
        opened: Database = SqliteDatabase(tmp_path / "central.db", CENTRAL_MIGRATIONS)
    else:
        opened = request.getfixturevalue("postgres").database(None)
        with opened.write() as connection:
            for table in ("tenants", "keys", "unfinished", "adapter_store"):
                connection.execute(f"DELETE FROM {table}")
    yield opened
    opened.close()
