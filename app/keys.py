"""Keys: who may ask, for which tenant, how far. Kept as sha256 only, in the central database.

Keys are long and random, so a slow hash would add nothing (docs/decisions/002), and they are looked up by their hash,
so timing tells nothing of those there are. A revoked key stays as a row: its use is still told from a stranger's.
Knows rows; which scope opens which route is `app.scopes`' business.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from app.scopes import OPERATOR, Scope, TenantScope, spread
from ingest import STORAGE_ERRORS, Connection, Database, DatabaseClosed, Row

KEY_COLUMNS = """
ALTER TABLE keys ADD COLUMN name TEXT NOT NULL DEFAULT '';
ALTER TABLE keys ADD COLUMN scopes TEXT NOT NULL DEFAULT '["admin"]';  -- JSON; of a tenant's key
ALTER TABLE keys ADD COLUMN collections TEXT;                          -- JSON; NULL: all
ALTER TABLE keys ADD COLUMN expires_at REAL;
ALTER TABLE keys ADD COLUMN revoked_at REAL;
CREATE INDEX keys_by_tenant ON keys(tenant_id);
"""
"""A migration of the central database."""
LAST_USE_COLUMN = "ALTER TABLE keys ADD COLUMN last_used_at REAL;"
"""Another one."""
_LAST_USE_SECONDS = 60.0  # how exactly it is kept


@dataclass(frozen=True, slots=True)
class Principal:
    """Who a request speaks for: a tenant, or the service's admin (``tenant_id`` is None).

    Attributes:
        scopes: what the key opens, with what its scopes imply.
        collections: the only ones it reaches; None: all.
        lapsed: why the key opens nothing any more.
    """

    key_id: str
    tenant_id: str | None
    scopes: frozenset[Scope]
    collections: frozenset[str] | None = None
    lapsed: Literal["revoked", "expired"] | None = None


@dataclass(frozen=True, slots=True)
class KeyTerms:
    """What a new key is to open. ``expires_at``: seconds since the epoch."""

    name: str = ""
    scopes: tuple[TenantScope, ...] = ("admin",)
    collections: tuple[str, ...] | None = None
    expires_at: float | None = None


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A key as it is listed; itself it is not kept."""

    id: str
    terms: KeyTerms
    created_at: float
    revoked_at: float | None
    last_used_at: float | None
    from_environment: bool


class KeyFromEnvironment(Exception):
    """The key is set by a variable, and is changed there."""


class UnknownKey(Exception):
    """No such key of this owner, or it is revoked."""


class KeyStore:
    """The keys of all tenants (by tenant id) and of the admin (None).

    Args:
        wake: told when there is a last use to write.
    """

    def __init__(self, database: Database, wake: Callable[[KeyStore], None] = lambda _: None) -> None:
        self._database = database
        self._wake = wake
        self._lock = threading.Lock()
        self._last_uses: dict[str, float] = {}
        self._unwritten: set[str] = set()

    def note_use(self, key_id: str) -> None:
        """Keep, to the minute and soon, when a key was last used."""
        now = time.time()
        with self._lock:
            if 0 <= now - self._last_uses.get(key_id, 0.0) < _LAST_USE_SECONDS:  # less: the clock was set back
                return
            self._last_uses[key_id] = now
            self._unwritten.add(key_id)
        self._wake(self)

    def write_waiting(self) -> bool:
        """Write last uses; false when it must be tried again."""
        with self._lock:
            uses = [(self._last_uses[key_id], key_id) for key_id in self._unwritten]
            self._unwritten.clear()
        try:
            with self._database.write() as connection:
                connection.executemany("UPDATE keys SET last_used_at = ? WHERE id = ?", uses)
        except DatabaseClosed:
            return True
        except STORAGE_ERRORS:
            with self._lock:
                self._unwritten |= {key_id for _, key_id in uses}
            return False
        return True

    def principal(self, key: str) -> Principal | None:
        """Whose key this is, ``lapsed`` when it opens nothing any more; None for one that was never there."""
        with self._database.read() as connection:
            row = connection.execute("SELECT * FROM keys WHERE sha256 = ?", (_hash(key),)).fetchone()
        if row is None:
            return None
        record = _record(row)
        terms = record.terms
        lapsed: Literal["revoked", "expired"] | None = None
        if record.revoked_at is not None:
            lapsed = "revoked"
        elif terms.expires_at is not None and terms.expires_at <= time.time():
            lapsed = "expired"
        scopes: frozenset[Scope] = frozenset({OPERATOR}) if row["tenant_id"] is None else spread(terms.scopes)
        collections = None if terms.collections is None else frozenset(terms.collections)
        return Principal(record.id, row["tenant_id"], scopes, collections, lapsed)

    def of(self, owner: str | None) -> list[KeyRecord]:
        """The owner's keys, revoked ones too, oldest first."""
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT * FROM keys WHERE tenant_id IS NOT DISTINCT FROM ? ORDER BY created_at, id", (owner,)
            )
            return [_record(row) for row in rows]

    def add(self, owner: str | None, terms: KeyTerms = KeyTerms(), key: str | None = None) -> tuple[str, str]:
        """Make a key, unless one is given; its id and the key itself, which is not kept."""
        key = key or new_key()
        with self._database.write() as connection:
            return insert_key(connection, owner, key, terms), key

    def revoke(self, owner: str | None, key_id: str) -> None:
        """Let a key open nothing from now on. Raises UnknownKey."""
        with self._database.write() as connection:
            _live(connection, owner, key_id)
            connection.execute("UPDATE keys SET revoked_at = ? WHERE id = ?", (time.time(), key_id))

    def rotate(self, owner: str | None, key_id: str, overlap_seconds: float) -> tuple[str, str, float]:
        """Make a key on the terms of another, which goes on for the overlap; its id, itself, and when the other ends.

        Raises:
            UnknownKey
            KeyFromEnvironment: the next start would bring the old key back.
        """
        key, now = new_key(), time.time()
        with self._database.write() as connection:
            old = _live(connection, owner, key_id)
            if old.from_environment:
                raise KeyFromEnvironment
            terms = old.terms
            ends = min(now + overlap_seconds, terms.expires_at or now + overlap_seconds)
            connection.execute("UPDATE keys SET expires_at = ? WHERE id = ?", (ends, key_id))
            return insert_key(connection, owner, key, terms), key, ends

    def has_admin_key(self) -> bool:
        """Whether the admin has a key that opens anything."""
        with self._database.read() as connection:
            return (
                connection.execute(
                    "SELECT 1 FROM keys WHERE tenant_id IS NULL AND revoked_at IS NULL "
                    "AND (expires_at IS NULL OR expires_at > ?)",
                    (time.time(),),
                ).fetchone()
                is not None
            )

    def set_environment_key(self, owner: str | None, key: str) -> None:
        """Accept the key that the environment gives for this owner, instead of the one it gave before."""
        with self._database.write() as connection:
            connection.execute(
                "DELETE FROM keys WHERE from_environment = 1 AND tenant_id IS NOT DISTINCT FROM ?", (owner,)
            )
            connection.execute("DELETE FROM keys WHERE sha256 = ?", (_hash(key),))
            insert_key(connection, owner, key, KeyTerms(name="environment"), from_environment=True)


def new_key() -> str:
    """A random key of 256 bits."""
    return f"lb_{secrets.token_urlsafe(32)}"


def insert_key(
    connection: Connection,
    owner: str | None,
    key: str,
    terms: KeyTerms = KeyTerms(),
    *,
    from_environment: bool = False,
) -> str:
    """Keep a key inside the caller's transaction; its id."""
    key_id = uuid.uuid4().hex
    connection.execute(
        "INSERT INTO keys (id, tenant_id, sha256, from_environment, created_at, name, scopes, collections, expires_at) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            key_id, owner, _hash(key), int(from_environment), time.time(), terms.name, json.dumps(terms.scopes),
            None if terms.collections is None else json.dumps(terms.collections), terms.expires_at,
        ),
    )  # fmt: skip
    return key_id


def _live(connection: Connection, owner: str | None, key_id: str) -> KeyRecord:
    row = connection.execute(
        "SELECT * FROM keys WHERE id = ? AND tenant_id IS NOT DISTINCT FROM ? AND revoked_at IS NULL", (key_id, owner)
    ).fetchone()
    if row is None:
        raise UnknownKey
    return _record(row)


def _record(row: Row) -> KeyRecord:
    collections: Sequence[str] | None = None if row["collections"] is None else json.loads(row["collections"])
    terms = KeyTerms(
        row["name"],
        tuple(json.loads(row["scopes"])),
        None if collections is None else tuple(collections),
        row["expires_at"],
    )
    return KeyRecord(
        row["id"], terms, row["created_at"], row["revoked_at"], row["last_used_at"], bool(row["from_environment"])
    )


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
