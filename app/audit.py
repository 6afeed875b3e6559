"""A tenant's audit log: who did what, with what result, each entry hashed together with the one before it.

Kept in the tenant's database. An entry is written before the answer it tells of is sent. It names keys, routes and ids,
and never holds a document's text, a question or a key. Knows rows and hashes; which requests are told of is
`app.access`' business.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field

from ingest import Connection, Database, Row

AUDIT_MIGRATIONS = [
    """
    CREATE TABLE audit (
        number INTEGER PRIMARY KEY,      -- 1, 2, 3 … without a gap
        at REAL NOT NULL,
        key_id TEXT NOT NULL,
        action TEXT NOT NULL,            -- method and template of the route
        object TEXT NOT NULL,            -- JSON: ids by name
        status INTEGER NOT NULL,         -- of the answer
        request_id TEXT NOT NULL,
        sha256 TEXT NOT NULL             -- of all this and the hash before
    );
    """
]
BEGINNING = "0" * 64
"""What stands for the hash before the first entry."""
_QUIET_SECONDS = 60.0  # in which the same refusal of the same key is told of once
_MOST_REFUSALS = 1000
_COLUMNS = "number, at, key_id, action, object, status, request_id, sha256"


@dataclass
class Subject:
    """What a request turns out to be about, noted while it is answered: ids by name."""

    ids: dict[str, str] = field(default_factory=dict)
    tenant_id: str | None = None


_subject: ContextVar[Subject | None] = ContextVar("audit_subject", default=None)


def begin_subject() -> Subject:
    """A fresh subject for the request that begins in this context."""
    subject = Subject()
    _subject.set(subject)
    return subject


def current_subject() -> Subject:
    """The subject of the request at hand; an empty one outside of requests."""
    return _subject.get() or Subject()


def note(**ids: str) -> None:
    """Tell what the request at hand made, such as ``job_id=…``."""
    if (subject := _subject.get()) is not None:
        subject.ids.update(ids)


def note_tenant(tenant_id: str) -> None:
    """Tell which tenant the request at hand made."""
    if (subject := _subject.get()) is not None:
        subject.tenant_id = tenant_id


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One entry. ``number`` and ``sha256`` are given when it is written."""

    key_id: str
    action: str
    object: Mapping[str, str]
    status: int
    request_id: str
    at: float = 0.0
    number: int = 0
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the chain holds; ``broken_at``: the first entry that does not fit those before it."""

    entries: int
    head: str
    broken_at: int | None


class AuditLog:
    """The audit log of one tenant."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._refusals: dict[tuple[str, str, int], float] = {}

    def add(self, entry: AuditEntry) -> None:
        """Write an entry behind the last one."""
        with self._database.write() as connection:
            last = connection.execute("SELECT number, sha256 FROM audit ORDER BY number DESC LIMIT 1").fetchone()
            number, before = (last["number"] + 1, last["sha256"]) if last else (1, BEGINNING)
            row = (
                number, time.time(), entry.key_id, entry.action, _text(entry.object), entry.status, entry.request_id,
            )  # fmt: skip
            connection.execute(
                f"INSERT INTO audit ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 - constant columns
                (*row, _digest(row, before)),
            )

    def add_refusal(self, entry: AuditEntry) -> None:
        """Write that a key was refused; the same refusal again within a minute is not written."""
        what, now = (entry.key_id, entry.action, entry.status), time.monotonic()
        with self._lock:
            if now - self._refusals.get(what, -_QUIET_SECONDS) < _QUIET_SECONDS:
                return
            if len(self._refusals) >= _MOST_REFUSALS:
                self._refusals.clear()
            self._refusals[what] = now
        self.add(entry)

    def page(self, limit: int, offset: int) -> tuple[list[AuditEntry], int]:
        """A page of the entries, newest first, and how many there are in all."""
        with self._database.read() as connection:
            rows = connection.execute(
                f"SELECT {_COLUMNS} FROM audit ORDER BY number DESC LIMIT ? OFFSET ?",  # noqa: S608 - constant columns
                (limit, offset),
            ).fetchall()
            total = connection.execute("SELECT count(*) FROM audit").fetchone()[0]
        return [_entry(row) for row in rows], int(total)

    def verify(self) -> Verdict:
        """Compute every hash anew. What was cut off at the end shows only beside a head that was noted before."""
        with self._database.read() as connection:
            return verify(connection)


def verify(connection: Connection) -> Verdict:
    """`AuditLog.verify` of an open database."""
    before, entries = BEGINNING, 0
    for row in connection.execute(f"SELECT {_COLUMNS} FROM audit ORDER BY number"):  # noqa: S608 - constant columns
        *told, digest = tuple(row)
        if told[0] != entries + 1 or digest != _digest(tuple(told), before):
            return Verdict(entries, before, told[0])
        before, entries = digest, entries + 1
    return Verdict(entries, before, None)


def _digest(row: tuple[object, ...], before: str) -> str:
    return hashlib.sha256(json.dumps([*row, before]).encode()).hexdigest()


def _text(ids: Mapping[str, str]) -> str:
    return json.dumps(dict(sorted(ids.items())))


def _entry(row: Row) -> AuditEntry:
    return AuditEntry(
        row["key_id"], row["action"], json.loads(row["object"]), row["status"], row["request_id"], row["at"],
        row["number"], row["sha256"],
    )  # fmt: skip
