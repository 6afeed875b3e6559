"""Where the service's rows lie: in SQLite files of the data folder, one of them for each tenant.

The one place that opens the service's databases. Knows which tables make up a tenant's database and the central one,
and whose a database is; knows nothing of what the rows mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from app.audit import AUDIT_MIGRATIONS
from app.backup import DATABASE
from app.datasets import DATASET_MIGRATIONS
from app.idempotency import IDEMPOTENCY_MIGRATIONS
from app.jobs import JOB_MIGRATIONS
from app.life.answers import ANSWER_MIGRATIONS
from app.life.erasure import ERASURE_MIGRATIONS
from app.life.evaluations import EVALUATION_MIGRATIONS
from app.life.gates import GATE_MIGRATIONS
from app.life.policy import POLICY_MIGRATIONS
from app.life.trials import TRIAL_MIGRATIONS
from app.tasks import TASK_MIGRATIONS
from app.templates import TEMPLATE_MIGRATIONS
from app.tenants import CENTRAL_MIGRATIONS
from app.usage import USAGE_MIGRATIONS
from ingest import DOCUMENT_MIGRATIONS, DamagedData, Database, Migration, SqliteDatabase

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


class Storage(Protocol):
    """The databases of a service."""

    @property
    def central(self) -> Database:
        """Tenants, keys and limits."""

    def open_tenant(self, tenant_id: str, folder: Path) -> Database:
        """The database of a tenant, whose other files are in ``folder``."""

    def erase_tenant(self, tenant_id: str) -> None:
        """Delete the rows of a tenant that do not lie in its folder."""

    def close(self) -> None:
        """Close what is open."""


class FolderStorage:
    """A SQLite file for each tenant, in its folder, and one for all."""

    def __init__(self, data: Path) -> None:
        self.central = SqliteDatabase(data / DATABASE, CENTRAL_MIGRATIONS)

    def open_tenant(self, tenant_id: str, folder: Path) -> Database:
        """See `Storage`. Raises DamagedData when the database there is of another tenant."""
        return open_in_folder(tenant_id, folder)

    def erase_tenant(self, tenant_id: str) -> None:
        """See `Storage`: all there is goes with the folder."""

    def close(self) -> None:
        self.central.close()


def open_in_folder(tenant_id: str, folder: Path) -> SqliteDatabase:
    """The SQLite database in a tenant's folder.

    Raises:
        DamagedData: it is of another tenant: its file was put into the wrong folder.
    """
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
