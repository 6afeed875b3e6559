"""Where the service's rows lie: in SQLite files of the data folder, one for each tenant, or in one PostgreSQL database.

The one place that opens the service's databases. Knows which tables make up a tenant's database and the central one,
and whose a database is; knows nothing of what the rows mean. What is no row (adapters, saved indexes) lies in the data
folder either way, or adapters in a store of their own (`app.adapter_store`); a file in the folder names the PostgreSQL
database it belongs to, so that neither meets a stranger's: a service deletes folders of tenants it does not know.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import sqlite3
import uuid
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from adapters import FileState, RegistryState
from app.audit import AUDIT_MIGRATIONS
from app.backup import DATABASE
from app.data_folder import DataFolderUnusable, misplaced
from app.database_replicas import DatabaseReplicas
from app.datasets import DATASET_MIGRATIONS
from app.idempotency import IDEMPOTENCY_MIGRATIONS
from app.jobs import JOB_MIGRATIONS
from app.life.answers import ANSWER_MIGRATIONS
from app.life.erasure import ERASURE_MIGRATIONS
from app.life.evaluations import EVALUATION_MIGRATIONS
from app.life.gates import GATE_MIGRATIONS
from app.life.policy import POLICY_MIGRATIONS
from app.life.trials import TRIAL_MIGRATIONS
from app.limits import Rates, RequestRates
from app.postgres_schema import CENTRAL_TABLES, TENANT_TABLES
from app.registry_rows import RowState
from app.replicas import ONE_PROCESS, Replicas
from app.shared_rates import SharedRates
from app.tasks import TASK_MIGRATIONS
from app.templates import TEMPLATE_MIGRATIONS
from app.tenants import CENTRAL_MIGRATIONS
from app.usage import USAGE_MIGRATIONS
from ingest import (
    DOCUMENT_MIGRATIONS,
    DamagedData,
    Database,
    DatabaseInUse,
    IngestError,
    Migration,
    SqliteDatabase,
    UnsuitableDatabase,
)

if TYPE_CHECKING:
    from ingest.postgres import PostgresServer

_log = logging.getLogger("lorebase.storage")
OWNER_MIGRATIONS = ["CREATE TABLE owner (one INTEGER PRIMARY KEY CHECK (one = 1), tenant_id TEXT NOT NULL)"]
TENANT_MIGRATIONS: dict[str, Sequence[Migration]] = {
    "documents": DOCUMENT_MIGRATIONS,
    "jobs": JOB_MIGRATIONS,
    "templates": TEMPLATE_MIGRATIONS,
    "policy": POLICY_MIGRATIONS,
    "answers": ANSWER_MIGRATIONS,
    "tasks": TASK_MIGRATIONS,
    "datasets": DATASET_MIGRATIONS,
    "evaluations": EVALUATION_MIGRATIONS,
    "gates": GATE_MIGRATIONS,
    "trials": TRIAL_MIGRATIONS,
    "usage": USAGE_MIGRATIONS,
    "audit": AUDIT_MIGRATIONS,
    "idempotency": IDEMPOTENCY_MIGRATIONS,
    "erasure": ERASURE_MIGRATIONS,
    "owner": OWNER_MIGRATIONS,
}


BELONGS_TO = "postgresql.json"
_CLAIM_SECONDS = 5.0  # for the connections of a process that ended without notice to be noticed


class StorageMismatch(Exception):
    """The data folder and the database do not belong together; the message says what to do."""


class Storage(Protocol):
    """The databases of a service."""

    is_remote: bool
    """Whether asking it may take long, so that it is asked in a thread."""

    replicas: Replicas
    """The processes that serve these rows."""

    @property
    def central(self) -> Database:
        """Tenants, keys and limits."""

    def starting(self) -> AbstractContextManager[None]:
        """A block that one process on these rows is in at a time."""

    @property
    def kind(self) -> str:
        """What keeps the rows, with its version."""

    def open_tenant(self, tenant_id: str, folder: Path) -> Database:
        """The database of a tenant, whose other files are in ``folder``."""

    def registry_state(self, tenant_id: str, folder: Path, database: Database | None = None) -> RegistryState:
        """Where the state of a tenant's adapters lies, whose files are in ``folder``; ``database``: the tenant's, where
        it is open."""

    def erase_tenant(self, tenant_id: str) -> None:
        """Delete the rows of a tenant that do not lie in its folder."""

    def rates(self) -> Rates:
        """The requests per minute of tenants, by all who serve these rows."""

    def failure(self) -> str | None:
        """Why nothing can be read or written now; None when it can."""

    def close(self) -> None:
        """Close what is open."""


class FolderStorage:
    """A SQLite file for each tenant, in its folder, and one for all.

    Raises:
        StorageMismatch: the folder's rows are in PostgreSQL, or it has tenants and no database that knows them.
        DamagedData, IncompatibleDatabase: of the central database.
    """

    is_remote = False
    kind = f"SQLite {sqlite3.sqlite_version}"

    def __init__(self, data: Path) -> None:
        if (data / BELONGS_TO).is_file():
            raise StorageMismatch(
                f"The rows of {data} are in PostgreSQL: set LOREBASE_DATABASE_URL to that database, or bring them back "
                "with `lorebase migrate --back postgresql://…`."
            )
        self.central = open_central(data)
        self.replicas: Replicas = ONE_PROCESS

    def starting(self) -> AbstractContextManager[None]:
        """See `Storage`."""
        return nullcontext()

    def open_tenant(self, tenant_id: str, folder: Path) -> Database:
        """See `Storage`. Raises DamagedData when the database there is of another tenant."""
        return open_in_folder(tenant_id, folder)

    def registry_state(self, tenant_id: str, folder: Path, database: Database | None = None) -> RegistryState:
        """See `Storage`."""
        return FileState(folder)

    def erase_tenant(self, tenant_id: str) -> None:
        """See `Storage`: all there is goes with the folder."""

    def rates(self) -> Rates:
        """See `Storage`."""
        return RequestRates()

    def failure(self) -> str | None:
        """See `Storage`: a disk tells when it is written to."""
        return None

    def close(self) -> None:
        self.central.close()


class PostgresStorage:
    """All rows in one PostgreSQL database, which any number of processes serve.

    Args:
        alone: have the database for this process only.
        vector_search: let the database search vectors: its tables for that are made and filled first.
        store: where the adapters' files lie; None: in the folder.

    Raises:
        StorageMismatch: the folder has rows of its own, or belongs to another database.
        DatabaseInUse: others serve it, and it is wanted alone or its tables are of an older version; or another process
            has it alone.
        DatabaseUnavailable, UnsuitableDatabase, IncompatibleDatabase
    """

    is_remote = True

    def __init__(
        self, url: str, data: Path, *, alone: bool = False, vector_search: bool = False, store: str | None = None
    ) -> None:
        self._server = open_server(url)
        self.central = self._server.database(None)
        try:
            self.replicas = self._alone() if alone else self._among_others()
        except BaseException:
            self._server.close()
            raise
        try:
            with self.starting():
                folder = belong_together(data, self.central)
                if vector_search:
                    self._prepare_vector_search()
                if isinstance(self.replicas, DatabaseReplicas):
                    here = f"{socket.gethostname()}:{data.resolve()}"
                    self.replicas.join(folder if store is None else store, here if store is None else store)
        except BaseException:
            self.close()
            raise

    def _alone(self) -> Replicas:
        if not self._server.claim(_CLAIM_SECONDS):
            raise DatabaseInUse("A Lorebase process serves this database. Stop all that do first.")
        return ONE_PROCESS

    def _among_others(self) -> Replicas:
        return DatabaseReplicas(self._server, version("lorebase"), _CLAIM_SECONDS)

    def _prepare_vector_search(self) -> None:
        from ingest.postgres import prepare

        _log.info("the database searches vectors")
        prepare(self._server, lambda done: _log.info("vectors made ready to be searched there: %d", done))

    def starting(self) -> AbstractContextManager[None]:
        """See `Storage`."""
        return self._server.starting()

    @property
    def kind(self) -> str:
        """See `Storage`."""
        return f"PostgreSQL {self._server.version}"

    def open_tenant(self, tenant_id: str, folder: Path) -> Database:
        """See `Storage`. Nothing is written for a tenant that is gone, by whichever process it was removed."""
        return self._server.database(tenant_id, f"EXISTS (SELECT 1 FROM tenants WHERE id = '{tenant_id}')")  # noqa: S608

    def registry_state(self, tenant_id: str, folder: Path, database: Database | None = None) -> RegistryState:
        """See `Storage`: a row, which several processes may change."""
        return RowState(self._server.database(tenant_id) if database is None else database, FileState(folder))

    def erase_tenant(self, tenant_id: str) -> None:
        """See `Storage`."""
        from ingest.postgres import drop_graphs_of

        self._server.erase(tenant_id)
        with self._server.connected() as connection:
            drop_graphs_of(connection, tenant_id)

    def rates(self) -> Rates:
        """See `Storage`."""
        return SharedRates(self._server)

    def failure(self) -> str | None:
        """See `Storage`."""
        try:
            self._server.execute("SELECT 1")
        except IngestError as error:
            return str(error)
        return self.replicas.failure()

    def close(self) -> None:
        self.replicas.stop()
        self._server.close()


def knows_no_tenant(data: Path) -> bool:
    """Whether a data folder has tenants' databases, but the central one, which is made before them, is lost."""
    central = data / DATABASE
    is_lost = not central.is_file() or central.stat().st_size == 0
    return is_lost and any(data.glob(f"tenants/*/{DATABASE}"))


def open_storage(
    data: Path, database_url: str | None, *, alone: bool = False, vector_search: bool = False, store: str | None = None
) -> Storage:
    """The storage of a data folder; see `FolderStorage` and `PostgresStorage` for what may be wrong, and for ``alone``,
    which a folder's own files are always, ``vector_search``, which only PostgreSQL does, and ``store``."""
    if database_url is None:
        return FolderStorage(data)
    return PostgresStorage(database_url, data, alone=alone, vector_search=vector_search, store=store)


def open_server(url: str) -> PostgresServer:
    """A PostgreSQL database with all tables. Raises UnsuitableDatabase where the driver is not installed."""
    try:
        from ingest.postgres import DOCUMENT_TABLES, PostgresServer
    except ImportError as error:
        raise UnsuitableDatabase("LOREBASE_DATABASE_URL needs: pip install 'lorebase[postgres]'") from error
    return PostgresServer(url, {**CENTRAL_TABLES, "documents": DOCUMENT_TABLES, **TENANT_TABLES})


def belong_together(data: Path, central: Database, *, moving: bool = False) -> str:
    """Note in a data folder which PostgreSQL database its rows are in; the folder's id. Raises StorageMismatch.

    Args:
        moving: the folder's own rows have just been copied there.
    """
    with central.read() as connection:
        own = connection.execute("SELECT id FROM identity").fetchone()["id"]
    marker = data / BELONGS_TO
    told = json.loads(marker.read_text()) if marker.is_file() else {}
    if told and told.get("database") != own:
        raise StorageMismatch(
            f"{data} belongs to another PostgreSQL database: set LOREBASE_DATA to the folder of this one, or to a new "
            "one."
        )
    if not told and (data / DATABASE).is_file() and not moving:
        raise StorageMismatch(
            f"{data} has rows of its own, in SQLite: `lorebase migrate --to postgresql://…` moves them there; or set "
            "LOREBASE_DATA to a new folder."
        )
    if "folder" not in told:
        told = {"database": own, "folder": uuid.uuid4().hex}
        temporary = marker.with_suffix(".tmp")
        with temporary.open("w") as file:
            json.dump(told, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, marker)
    return str(told["folder"])


def open_central(data: Path) -> SqliteDatabase:
    """The central database of a data folder.

    Raises:
        StorageMismatch, DataFolderUnusable: it is lost, while tenants' databases are there; it is no file.
        DamagedData: it cannot be read.
        IncompatibleDatabase: a newer version of this software wrote it.
    """
    refuse_unknown_tenants(data)
    try:
        return SqliteDatabase(data / DATABASE, CENTRAL_MIGRATIONS)
    except sqlite3.DatabaseError as error:
        raise DamagedData(
            f"{data / DATABASE} cannot be read ({error}). Keep a copy of {data}, and restore a backup to a new folder; "
            "`lorebase doctor` says what is wrong."
        ) from error


def refuse_unknown_tenants(data: Path) -> None:
    """Raise StorageMismatch where `knows_no_tenant`, and DataFolderUnusable where something else lies in its place."""
    if (reason := misplaced(data)) is not None:
        raise DataFolderUnusable(f"{reason}: move it away, or set LOREBASE_DATA to another folder.")
    if knows_no_tenant(data):
        raise StorageMismatch(
            f"{data / DATABASE}, which says whose the folders in {data / 'tenants'} are, is missing or empty. They "
            "would be taken for left-overs and deleted: bring it back, or restore a backup to a new folder."
        )


def is_lost(folder: Path) -> bool:
    """Whether a tenant's folder has files, and no database, or a folder in its place: a new one would pass for a tenant
    without documents."""
    path = folder / DATABASE
    if path.is_dir():
        return True
    if path.is_file() and path.stat().st_size:
        return False
    return folder.is_dir() and any(not each.name.startswith(DATABASE) for each in folder.iterdir())


def refuse_lost(folder: Path) -> None:
    """Raise DamagedData where a tenant's database `is_lost`."""
    if is_lost(folder):
        raise DamagedData(
            f"The database of tenant {folder.name} is lost, while its other files are there. The operator can bring it "
            "back, or restore a backup; other tenants are not affected."
        )


def open_in_folder(tenant_id: str, folder: Path) -> SqliteDatabase:
    """The SQLite database in a tenant's folder.

    Raises:
        DamagedData: it is lost, while the tenant's other files are there, or it is of another tenant: its file was put
            into the wrong folder.
    """
    refuse_lost(folder)
    database = SqliteDatabase(folder / DATABASE, TENANT_MIGRATIONS)
    with database.read() as connection:
        row = connection.execute("SELECT tenant_id FROM owner").fetchone()
    if row is None:
        with database.write() as connection:
            connection.execute("INSERT INTO owner (one, tenant_id) VALUES (1, ?)", (tenant_id,))
    elif row["tenant_id"] != tenant_id:
        database.close()
        raise DamagedData("the database in this tenant's folder is of another tenant: restore a backup")
    return database
