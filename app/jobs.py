"""Durable background jobs as rows in the tenant's own database.

A job row commits together with what it is about, so what was acknowledged is done after any crash. Knows rows and
states; who works them off is `app.job_worker`.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Literal, NamedTuple

from app.audit import note
from app.idempotency import note_job
from ingest import Connection, Database

JobKind = Literal["ingest", "replace", "train", "build_dataset", "judge_answers", "evaluate", "gate"]
JobState = Literal["queued", "running", "succeeded", "failed", "cancelled"]
ENDED: frozenset[str] = frozenset({"succeeded", "failed", "cancelled"})

JOB_MIGRATIONS = [
    """
        CREATE TABLE jobs (
            number INTEGER PRIMARY KEY AUTOINCREMENT,
            id TEXT NOT NULL UNIQUE,
            kind TEXT NOT NULL,
            state TEXT NOT NULL,
            error TEXT,
            created_at REAL NOT NULL,
            ended_at REAL
        );
        CREATE INDEX jobs_by_state ON jobs(state, number);
        CREATE TABLE job_documents (
            job_id TEXT NOT NULL REFERENCES jobs(id),
            position INTEGER NOT NULL,
            document_id TEXT NOT NULL,  -- no reference: the document may be deleted while the job remembers it
            done INTEGER NOT NULL DEFAULT 0,
            PRIMARY KEY (job_id, position)
        );
    """,
    """
        ALTER TABLE jobs ADD COLUMN started_at REAL;
        ALTER TABLE job_documents ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE job_documents ADD COLUMN attempts INTEGER NOT NULL DEFAULT 0;  -- processes that began it
        CREATE INDEX job_documents_by_document ON job_documents(document_id);
    """,
]

_COLUMNS = """
    id, kind, state, error, created_at, started_at, ended_at,
    (SELECT coalesce(sum(done), 0) FROM job_documents WHERE job_id = id) AS done,
    (SELECT count(*) FROM job_documents WHERE job_id = id) AS total,
    (SELECT CAST(coalesce(sum(bytes), 0) AS BIGINT) FROM job_documents WHERE job_id = id AND done = 1) AS bytes_done,
    (SELECT CAST(coalesce(sum(bytes), 0) AS BIGINT) FROM job_documents WHERE job_id = id) AS bytes
"""


@dataclass(frozen=True, slots=True)
class Job:
    """A job as it stands: ``done`` of ``total`` documents, ``bytes_done`` of their ``bytes``."""

    id: str
    kind: JobKind
    state: JobState
    error: str | None
    created_at: float
    started_at: float | None
    ended_at: float | None
    done: int
    total: int
    bytes_done: int
    bytes: int


class JobItem(NamedTuple):
    """A document of a job that is not done.

    Attributes:
        attempts: processes of the service that began with it, this one included.
    """

    document_id: str
    bytes: int
    attempts: int


@dataclass(frozen=True, slots=True)
class Cancelled:
    """What a cancelled job leaves.

    Attributes:
        undone: its documents that were not done.
        orphaned: those of them that no unfinished job has.
        replaced: those of them that only replacements wait for.
    """

    kind: JobKind
    undone: list[str]
    orphaned: list[str]
    replaced: list[str]


class JobStore:
    """The jobs of one tenant."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, connection: Connection, documents: Mapping[str, int], kind: JobKind = "ingest") -> str:
        """Queue a job inside the caller's transaction; its id.

        Args:
            documents: sizes in bytes by document id, in the order to be done.
        """
        job_id = uuid.uuid4().hex
        connection.execute(
            "INSERT INTO jobs (id, kind, state, created_at) VALUES (?, ?, 'queued', ?)", (job_id, kind, time.time())
        )
        connection.executemany(
            "INSERT INTO job_documents (job_id, position, document_id, bytes) VALUES (?, ?, ?, ?)",
            [(job_id, position, *document) for position, document in enumerate(documents.items())],
        )
        note_job(connection, job_id)
        note(job_id=job_id)
        return job_id

    def get(self, job_id: str) -> Job | None:
        """One job, or None."""
        with self._database.read() as connection:
            row = connection.execute(f"SELECT {_COLUMNS} FROM jobs WHERE id = ?", (job_id,)).fetchone()  # noqa: S608
        return Job(**row) if row else None

    def page(self, limit: int, offset: int, state: JobState | None = None) -> tuple[list[Job], int]:
        """A page of the jobs, the newest first, and how many there are in all."""
        where, wanted = ("", ()) if state is None else ("WHERE state = ?", (state,))
        with self._database.read() as connection:
            rows = connection.execute(
                f"SELECT {_COLUMNS} FROM jobs {where} ORDER BY number DESC LIMIT ? OFFSET ?",  # noqa: S608 - constants
                (*wanted, limit, offset),
            ).fetchall()
            total = connection.execute(f"SELECT count(*) FROM jobs {where}", wanted).fetchone()[0]  # noqa: S608
        return [Job(**row) for row in rows], int(total)

    def documents(self, job_id: str) -> list[str]:
        """Ids of the job's documents, in the order they were sent."""
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT document_id FROM job_documents WHERE job_id = ? ORDER BY position", (job_id,)
            )
            return [row["document_id"] for row in rows]

    def sizes(self, job_id: str) -> dict[str, int]:
        """Sizes in bytes of the job's documents by id, in the order they were sent."""
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT document_id, bytes FROM job_documents WHERE job_id = ? ORDER BY position", (job_id,)
            )
            return {row["document_id"]: row["bytes"] for row in rows}

    def next_items(self, limit: int) -> tuple[str, JobKind, list[JobItem]] | None:
        """The oldest unfinished job, its kind, and up to ``limit`` of its documents to work on; None when all is
        finished."""
        with self._database.read() as connection:
            rows = connection.execute(
                """
                SELECT job_id, kind, document_id, bytes, attempts FROM jobs JOIN job_documents ON job_id = id
                WHERE state IN ('queued', 'running') AND done = 0 ORDER BY number, position LIMIT ?
                """,
                (limit,),
            ).fetchall()
        if not rows:
            return None
        job_id = rows[0]["job_id"]
        items = [JobItem(r["document_id"], r["bytes"], r["attempts"]) for r in rows if r["job_id"] == job_id]
        return job_id, rows[0]["kind"], items

    def pending(self, within: Connection | None = None) -> int:
        """Documents that wait in unfinished jobs; as the caller's transaction sees it, where one is given."""
        with nullcontext(within) if within is not None else self._database.read() as connection:
            row = connection.execute(
                """
                SELECT count(*) AS n FROM jobs JOIN job_documents ON job_id = id
                WHERE state IN ('queued', 'running') AND done = 0
                """
            ).fetchone()
        return int(row["n"])

    def begin(self, job_id: str, document_ids: Iterable[str]) -> None:
        """Note, before the work, that this process begins with documents: what ends it is known to the next one."""
        with self._database.write() as connection:
            connection.execute(
                "UPDATE jobs SET state = 'running', started_at = ? WHERE id = ? AND state = 'queued'",
                (time.time(), job_id),
            )
            connection.executemany(
                "UPDATE job_documents SET attempts = attempts + 1 WHERE job_id = ? AND document_id = ?",
                [(job_id, document_id) for document_id in document_ids],
            )

    def went_on(self, job_id: str, document_id: str) -> None:
        """Note that a document that ended a process before has come further: only this process counts now."""
        with self._database.write() as connection:
            connection.execute(
                "UPDATE job_documents SET attempts = 1 WHERE job_id = ? AND document_id = ?", (job_id, document_id)
            )

    def leave(self, begun: Iterable[tuple[str, str]]) -> None:
        """Note that this process ends in order: the ``(job id, document id)`` it had begun are not to blame."""
        with self._database.write() as connection:
            connection.executemany(
                "UPDATE job_documents SET attempts = attempts - 1 "
                "WHERE job_id = ? AND document_id = ? AND attempts > 0",
                list(begun),
            )

    def is_running(self, job_id: str) -> bool:
        """Whether the job has begun and not ended."""
        with self._database.read() as connection:
            row = connection.execute("SELECT 1 FROM jobs WHERE id = ? AND state = 'running'", (job_id,)).fetchone()
        return row is not None

    def documents_done(self, job_id: str, document_ids: Iterable[str], error: str | None = None) -> None:
        """Note that documents are dealt with; the last one ends the job, as failed when an ``error`` is given."""
        with self._database.write() as connection:
            connection.executemany(
                "UPDATE job_documents SET done = 1 WHERE job_id = ? AND document_id = ?",
                [(job_id, document_id) for document_id in document_ids],
            )
            left = connection.execute("SELECT 1 FROM job_documents WHERE job_id = ? AND done = 0", (job_id,)).fetchone()
            if left is None:
                _end(connection, job_id, "failed" if error else "succeeded", error)

    def has_unfinished(self, within: Connection | None = None) -> bool:
        """Whether any job is to be done yet; as the caller's transaction sees it, where one is given."""
        with nullcontext(within) if within is not None else self._database.read() as connection:
            row = connection.execute("SELECT 1 FROM jobs WHERE state IN ('queued', 'running') LIMIT 1").fetchone()
        return row is not None

    def succeed(self, connection: Connection, job_id: str) -> None:
        """End, inside the caller's transaction, a job of which nothing is left to do."""
        _end(connection, job_id, "succeeded", None)

    def fail(self, job_id: str, error: str) -> None:
        """End a job with a reason."""
        with self._database.write() as connection:
            _end(connection, job_id, "failed", error)

    def cancel(self, connection: Connection, job_id: str) -> Cancelled | None:
        """End a job inside the caller's transaction; None when it had ended before."""
        if not _end(connection, job_id, "cancelled", None):
            return None
        kind = connection.execute("SELECT kind FROM jobs WHERE id = ?", (job_id,)).fetchone()["kind"]
        rows = connection.execute("SELECT document_id FROM job_documents WHERE job_id = ? AND done = 0", (job_id,))
        undone = [row["document_id"] for row in rows]
        waiting = {document_id: _waiting(connection, document_id) for document_id in undone}
        return Cancelled(
            kind,
            undone,
            orphaned=[document_id for document_id, kinds in waiting.items() if not kinds],
            replaced=[document_id for document_id, kinds in waiting.items() if kinds == {"replace"}],
        )

    def supersede(self, connection: Connection, document_id: str) -> None:
        """End, inside the caller's transaction, the job that was to replace a document's content."""
        job_id = self.replacing(connection, document_id)
        if job_id is not None:
            _end(connection, job_id, "cancelled", "Newer content for the same document came before this was done.")

    def replacing(self, connection: Connection, document_id: str) -> str | None:
        """The unfinished job that is to replace a document's content."""
        row = connection.execute(
            "SELECT id FROM jobs JOIN job_documents ON job_id = id WHERE document_id = ? AND kind = 'replace' "
            "AND state IN ('queued', 'running') AND done = 0",
            (document_id,),
        ).fetchone()
        return str(row["id"]) if row else None


class Backlog:
    """How many documents wait, of all tenants together, as far as this process has opened them."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._pending: dict[str, int] = {}

    def has_room(self, more: int) -> bool:
        """Whether so many more may wait."""
        with self._lock:
            return sum(self._pending.values()) + more <= self._most

    def note(self, tenant_id: str, pending: int) -> None:
        """How many of a tenant wait now."""
        with self._lock:
            self._pending[tenant_id] = pending

    def forget(self, tenant_id: str) -> None:
        """The tenant is gone."""
        with self._lock:
            self._pending.pop(tenant_id, None)


def _waiting(connection: Connection, document_id: str) -> set[str]:
    rows = connection.execute(
        "SELECT DISTINCT kind FROM jobs JOIN job_documents ON job_id = id WHERE document_id = ? AND done = 0 "
        "AND state IN ('queued', 'running')",
        (document_id,),
    )
    return {row["kind"] for row in rows}


def _end(connection: Connection, job_id: str, state: JobState, error: str | None) -> bool:
    ended = connection.execute(
        "UPDATE jobs SET state = ?, error = ?, ended_at = ? WHERE id = ? AND state IN ('queued', 'running')",
        (state, error, time.time(), job_id),
    )
    return ended.rowcount > 0
