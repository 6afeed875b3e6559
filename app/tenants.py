"""The central database: tenants, their keys (`app.keys`), and which tenants have unfinished jobs. No tenant's content
is here."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

from app.adapter_store import STORE_TABLE
from app.keys import KEY_COLUMNS, LAST_USE_COLUMN, KeyStore, insert_key, new_key
from app.limits import LIMITS_COLUMN, Limits, TenantLimits
from ingest import Connection, Database

CENTRAL_MIGRATIONS = {
    "central": [
        """
        CREATE TABLE tenants (id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, created_at REAL NOT NULL);
        CREATE TABLE keys (
            id TEXT PRIMARY KEY,
            tenant_id TEXT REFERENCES tenants(id) ON DELETE CASCADE,  -- NULL: an admin key
            sha256 TEXT NOT NULL UNIQUE,
            from_environment INTEGER NOT NULL DEFAULT 0,
            created_at REAL NOT NULL
        );
        CREATE TABLE unfinished (tenant_id TEXT PRIMARY KEY REFERENCES tenants(id) ON DELETE CASCADE);
        """,
        KEY_COLUMNS,
        LIMITS_COLUMN,
        LAST_USE_COLUMN,
        STORE_TABLE,
    ]
}


NO_LIMITS = Limits()


class TenantExists(Exception):
    """A tenant of that name is there already."""


@dataclass(frozen=True, slots=True)
class Tenant:
    """A tenant; ``id`` names its folder."""

    id: str
    name: str
    created_at: float


class TenantDirectory:
    """All tenants; ``keys``: theirs and the admin's; ``limits``: theirs.

    Args:
        limits: of tenants for which nothing else was set.
        wake: told when the keys have something to write.
        beside_rows: whether the tenants' own rows lie in the same database, so that one transaction writes both.
    """

    def __init__(
        self,
        database: Database,
        limits: Limits = NO_LIMITS,
        wake: Callable[[KeyStore], None] = lambda _: None,
        *,
        beside_rows: bool = False,
    ) -> None:
        self._database = database
        self.beside_rows = beside_rows
        self.keys = KeyStore(database, wake)
        self.limits = TenantLimits(database, limits)

    def tenants(self) -> list[Tenant]:
        """All tenants, oldest first."""
        with self._database.read() as connection:
            rows = connection.execute("SELECT id, name, created_at FROM tenants ORDER BY created_at, id")
            return [Tenant(**row) for row in rows]

    def tenant(self, tenant_id: str) -> Tenant | None:
        with self._database.read() as connection:
            row = connection.execute("SELECT id, name, created_at FROM tenants WHERE id = ?", (tenant_id,)).fetchone()
        return Tenant(**row) if row else None

    def create(self, name: str, key: str | None = None) -> tuple[Tenant, str]:
        """Make a tenant with its first key. Raises TenantExists."""
        tenant = Tenant(uuid.uuid4().hex, name, time.time())
        key = key or new_key()
        with self._database.write() as connection:
            made = connection.execute(
                "INSERT INTO tenants (id, name, created_at) VALUES (?, ?, ?) ON CONFLICT (name) DO NOTHING",
                (tenant.id, name, tenant.created_at),
            )
            if made.rowcount == 0:
                raise TenantExists(f"There is a tenant named {name!r} already.")
            insert_key(connection, tenant.id, key)
        return tenant, key

    def remove(self, tenant_id: str) -> bool:
        """Forget a tenant and its keys; whether there was one."""
        with self._database.write() as connection:
            removed = connection.execute("DELETE FROM tenants WHERE id = ?", (tenant_id,)).rowcount > 0
        self.limits.forget(tenant_id)
        return removed

    def mark_unfinished(self, tenant_id: str, within: Connection | None = None) -> None:
        """Note that a tenant has jobs to do, so that a restart, or another process, opens it; inside the tenant's own
        transaction where that can be."""
        with nullcontext(within) if within is not None else self._database.write() as connection:
            connection.execute("INSERT INTO unfinished (tenant_id) VALUES (?) ON CONFLICT DO NOTHING", (tenant_id,))

    def mark_finished(self, tenant_id: str, within: Connection | None = None) -> None:
        """Note that a tenant has no jobs to do."""
        with nullcontext(within) if within is not None else self._database.write() as connection:
            connection.execute("DELETE FROM unfinished WHERE tenant_id = ?", (tenant_id,))

    def close(self) -> None:
        self._database.close()

    def unfinished(self) -> list[str]:
        """Ids of tenants that may have unfinished jobs."""
        with self._database.read() as connection:
            return [row["tenant_id"] for row in connection.execute("SELECT tenant_id FROM unfinished")]
