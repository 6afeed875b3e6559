"""The central database: tenants, key hashes, and which tenants have unfinished jobs. No tenant's content is here."""

from __future__ import annotations

import hashlib
import secrets
import sqlite3
import time
import uuid
from dataclasses import dataclass

from ingest import Database

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
        """
    ]
}


class TenantExists(Exception):
    """A tenant of that name is there already."""


@dataclass(frozen=True, slots=True)
class Tenant:
    """A tenant; ``id`` names its folder."""

    id: str
    name: str
    created_at: float


@dataclass(frozen=True, slots=True)
class Principal:
    """Who a request speaks for: a tenant, or the admin (``tenant_id`` is None)."""

    key_id: str
    tenant_id: str | None


class TenantDirectory:
    """Tenants and their keys. Keys are stored as sha256 only: they are long and random, so a slow hash adds nothing."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def principal(self, key: str) -> Principal | None:
        """Whose key this is, or None. Looked up by hash, so timing tells nothing about stored keys."""
        with self._database.read() as connection:
            row = connection.execute("SELECT id, tenant_id FROM keys WHERE sha256 = ?", (_hash(key),)).fetchone()
        return Principal(row["id"], row["tenant_id"]) if row else None

    def tenants(self) -> list[Tenant]:
        """All tenants, oldest first."""
        with self._database.read() as connection:
            return [Tenant(**row) for row in connection.execute("SELECT * FROM tenants ORDER BY created_at, id")]

    def tenant(self, tenant_id: str) -> Tenant | None:
        with self._database.read() as connection:
            row = connection.execute("SELECT * FROM tenants WHERE id = ?", (tenant_id,)).fetchone()
        return Tenant(**row) if row else None

    def create(self, name: str, key: str | None = None) -> tuple[Tenant, str]:
        """Make a tenant with its first key. Raises TenantExists."""
        tenant = Tenant(uuid.uuid4().hex, name, time.time())
        key = key or new_key()
        with self._database.write() as connection:
            try:
                connection.execute("INSERT INTO tenants VALUES (?, ?, ?)", (tenant.id, name, tenant.created_at))
            except sqlite3.IntegrityError as error:
                raise TenantExists(f"There is a tenant named {name!r} already.") from error
            _insert_key(connection, tenant.id, key)
        return tenant, key

    def remove(self, tenant_id: str) -> bool:
        """Forget a tenant and its keys; whether there was one."""
        with self._database.write() as connection:
            return connection.execute("DELETE FROM tenants WHERE id = ?", (tenant_id,)).rowcount > 0

    def add_key(self, tenant_id: str | None) -> tuple[str, str]:
        """Make a further key; its id and the key itself, which is not kept."""
        key = new_key()
        with self._database.write() as connection:
            return _insert_key(connection, tenant_id, key), key

    def remove_key(self, tenant_id: str, key_id: str) -> bool:
        """Revoke a key; whether there was one."""
        with self._database.write() as connection:
            return (
                connection.execute("DELETE FROM keys WHERE id = ? AND tenant_id = ?", (key_id, tenant_id)).rowcount > 0
            )

    def has_admin_key(self) -> bool:
        with self._database.read() as connection:
            return connection.execute("SELECT 1 FROM keys WHERE tenant_id IS NULL").fetchone() is not None

    def set_environment_key(self, tenant_id: str | None, key: str) -> None:
        """Accept the key that the environment gives for this owner, instead of the one it gave before."""
        with self._database.write() as connection:
            connection.execute("DELETE FROM keys WHERE from_environment AND tenant_id IS ?", (tenant_id,))
            connection.execute("DELETE FROM keys WHERE sha256 = ?", (_hash(key),))
            _insert_key(connection, tenant_id, key, from_environment=True)

    def mark_unfinished(self, tenant_id: str) -> None:
        """Note that a tenant has jobs to do, so that a restart opens it."""
        with self._database.write() as connection:
            connection.execute("INSERT OR IGNORE INTO unfinished VALUES (?)", (tenant_id,))

    def mark_finished(self, tenant_id: str) -> None:
        with self._database.write() as connection:
            connection.execute("DELETE FROM unfinished WHERE tenant_id = ?", (tenant_id,))

    def close(self) -> None:
        self._database.close()

    def unfinished(self) -> list[str]:
        """Ids of tenants that may have unfinished jobs."""
        with self._database.read() as connection:
            return [row["tenant_id"] for row in connection.execute("SELECT tenant_id FROM unfinished")]


def new_key() -> str:
    """A random key of 256 bits."""
    return f"lb_{secrets.token_urlsafe(32)}"


def _insert_key(
    connection: sqlite3.Connection, tenant_id: str | None, key: str, *, from_environment: bool = False
) -> str:
    key_id = uuid.uuid4().hex
    connection.execute(
        "INSERT INTO keys VALUES (?, ?, ?, ?, ?)", (key_id, tenant_id, _hash(key), from_environment, time.time())
    )
    return key_id


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
