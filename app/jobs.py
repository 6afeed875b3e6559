"""Durable background jobs: rows in the tenant's own database, worked off in small batches, fair between tenants.

A job row commits together with what it is about, so what was acknowledged is done after any crash. Knows rows and
states; the work itself is handed in.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from ingest import Database, IngestError

_log = logging.getLogger("lorebase.jobs")
JobState = Literal["queued", "running", "succeeded", "failed", "cancelled"]
_BATCH = 64  # documents
_RETRY_SECONDS = 2.0
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
    """
]


@dataclass(frozen=True, slots=True)
class Job:
    """A job as it stands: ``done`` of ``total`` documents."""

    id: str
    kind: str
    state: JobState
    error: str | None
    created_at: float
    ended_at: float | None
    done: int
    total: int


class JobStore:
    """The jobs of one tenant."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, connection: sqlite3.Connection, document_ids: Sequence[str]) -> str:
        """Queue an ingest job inside the caller's transaction; its id."""
        job_id = uuid.uuid4().hex
        connection.execute(
            "INSERT INTO jobs (id, kind, state, created_at) VALUES (?, 'ingest', 'queued', ?)", (job_id, time.time())
        )
        connection.executemany(
            "INSERT INTO job_documents (job_id, position, document_id) VALUES (?, ?, ?)",
            [(job_id, position, document_id) for position, document_id in enumerate(document_ids)],
        )
        return job_id

    def get(self, job_id: str) -> Job | None:
        """One job, or None."""
        with self._database.read() as connection:
            row = connection.execute(
                """
                SELECT id, kind, state, error, created_at, ended_at,
                       (SELECT coalesce(sum(done), 0) FROM job_documents WHERE job_id = id) AS done,
                       (SELECT count(*) FROM job_documents WHERE job_id = id) AS total
                FROM jobs WHERE id = ?
                """,
                (job_id,),
            ).fetchone()
        return Job(**row) if row else None

    def documents(self, job_id: str) -> list[str]:
        """Ids of the job's documents, in the order they were sent."""
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT document_id FROM job_documents WHERE job_id = ? ORDER BY position", (job_id,)
            )
            return [row["document_id"] for row in rows]

    def next_documents(self, limit: int) -> tuple[str, list[str]] | None:
        """The oldest unfinished job and up to ``limit`` of its documents to work on; None when all is finished."""
        with self._database.read() as connection:
            rows = connection.execute(
                """
                SELECT job_id, document_id FROM jobs JOIN job_documents ON job_id = id
                WHERE state IN ('queued', 'running') AND NOT done ORDER BY number, position LIMIT ?
                """,
                (limit,),
            ).fetchall()
        return (
            (rows[0]["job_id"], [r["document_id"] for r in rows if r["job_id"] == rows[0]["job_id"]]) if rows else None
        )

    def pending(self) -> int:
        """Documents that wait in unfinished jobs."""
        with self._database.read() as connection:
            row = connection.execute(
                """
                SELECT count(*) AS n FROM jobs JOIN job_documents ON job_id = id
                WHERE state IN ('queued', 'running') AND NOT done
                """
            ).fetchone()
        return int(row["n"])

    def start(self, job_id: str) -> None:
        with self._database.write() as connection:
            connection.execute("UPDATE jobs SET state = 'running' WHERE id = ? AND state = 'queued'", (job_id,))

    def is_running(self, job_id: str) -> bool:
        """Whether the job has begun and not ended."""
        with self._database.read() as connection:
            row = connection.execute("SELECT 1 FROM jobs WHERE id = ? AND state = 'running'", (job_id,)).fetchone()
        return row is not None

    def documents_done(self, job_id: str, document_ids: Iterable[str]) -> None:
        """Note that documents are dealt with; the last one ends the job."""
        with self._database.write() as connection:
            connection.executemany(
                "UPDATE job_documents SET done = 1 WHERE job_id = ? AND document_id = ?",
                [(job_id, document_id) for document_id in document_ids],
            )
            left = connection.execute("SELECT 1 FROM job_documents WHERE job_id = ? AND NOT done", (job_id,)).fetchone()
            if left is None:
                _end(connection, job_id, "succeeded", None)

    def fail(self, job_id: str, error: str) -> None:
        """End a job with a reason."""
        with self._database.write() as connection:
            _end(connection, job_id, "failed", error)

    def cancel(self, connection: sqlite3.Connection, job_id: str) -> list[str] | None:
        """End a job inside the caller's transaction.

        Returns:
            Ids of its documents that are now in no unfinished job, or None when it had ended before.
        """
        if not _end(connection, job_id, "cancelled", None):
            return None
        rows = connection.execute(
            """
            SELECT document_id FROM job_documents WHERE job_id = ? AND NOT done EXCEPT
            SELECT document_id FROM jobs JOIN job_documents ON job_id = id WHERE state IN ('queued', 'running')
            """,
            (job_id,),
        )
        return [row["document_id"] for row in rows]


def _end(connection: sqlite3.Connection, job_id: str, state: JobState, error: str | None) -> bool:
    ended = connection.execute(
        "UPDATE jobs SET state = ?, error = ?, ended_at = ? WHERE id = ? AND state IN ('queued', 'running')",
        (state, error, time.time(), job_id),
    )
    return ended.rowcount > 0


class JobOwner(Protocol):
    """A tenant whose jobs the worker does."""

    @property
    def jobs(self) -> JobStore:
        """The tenant's jobs."""

    def process(self, job_id: str, document_ids: Sequence[str]) -> None:
        """Do some documents, at least the first; returns early when the service stops. Raises what nobody expected."""

    def abandon(self, job_id: str, document_ids: Sequence[str], reason: str) -> None:
        """Fail documents that are still pending, and count them as done."""

    def settle(self) -> bool:
        """Note that no work is left; False when there is some after all."""


class JobWorker:
    """One thread that does the jobs of all tenants, a batch of documents of each in turn."""

    def __init__(self, open_owner: Callable[[str], JobOwner | None]) -> None:
        self._open_owner = open_owner
        self._change = threading.Condition()
        self._turn: list[str] = []
        self.stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="job-worker", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self, tenant_id: str) -> None:
        """There is something to do for this tenant."""
        with self._change:
            if tenant_id not in self._turn:
                self._turn.append(tenant_id)
            self._change.notify_all()

    def stop(self) -> None:
        """Stop after the batch under way; what is left is done after the next start."""
        self.stopping.set()
        with self._change:
            self._change.notify_all()
        if self._thread.is_alive():
            self._thread.join()

    def _work(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._turn or self.stopping.is_set())
                if self.stopping.is_set():
                    return
                tenant_id = self._turn.pop(0)
            try:
                more = self._one_batch(tenant_id)
            except Exception:  # such as a full disk: nothing is lost, and it may pass
                _log.exception("the jobs of a tenant cannot go on now", extra={"tenant": tenant_id})
                more = True
                self.stopping.wait(_RETRY_SECONDS)
            if more:
                self.wake(tenant_id)

    def _one_batch(self, tenant_id: str) -> bool:
        """Do one batch of a tenant's documents; whether there may be more."""
        owner = self._open_owner(tenant_id)
        if owner is None:
            return False
        found = owner.jobs.next_documents(_BATCH)
        if found is None:
            return not owner.settle()
        job_id, document_ids = found
        owner.jobs.start(job_id)
        try:
            owner.process(job_id, document_ids)
        except IngestError as error:
            owner.jobs.fail(job_id, str(error))
            owner.abandon(job_id, owner.jobs.documents(job_id), str(error))
        except (OSError, sqlite3.Error):
            raise
        except Exception:
            _log.exception("a batch failed; its documents are tried one by one", extra={"tenant": tenant_id})
            self._one_by_one(owner, job_id, document_ids)
        return True

    def _one_by_one(self, owner: JobOwner, job_id: str, document_ids: Sequence[str]) -> None:
        """Find the document that nobody expected, fail it alone, and do the others."""
        for document_id in document_ids:
            try:
                owner.process(job_id, [document_id])
            except (IngestError, OSError, sqlite3.Error):
                raise
            except Exception as error:
                _log.exception("a document failed", extra={"job": job_id, "document": document_id})
                owner.abandon(job_id, [document_id], f"An unexpected {type(error).__name__} ended its ingestion.")
