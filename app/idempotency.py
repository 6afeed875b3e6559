"""`Idempotency-Key`: the same request sent twice is done once, and answered twice with the same answer.

What is kept of it in the tenant's database. What a crash interrupted is done again unless it had begun a job, which is
then named: the job's row and the key's are of one transaction. Knows rows; `app.replay` knows the requests.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from ingest import Connection, Database

IDEMPOTENCY_MIGRATIONS = [
    """
    CREATE TABLE idempotency (
        key TEXT PRIMARY KEY,
        fingerprint TEXT NOT NULL,       -- of the request
        created_at REAL NOT NULL,
        job_id TEXT,                     -- begun for it
        status INTEGER,                  -- of the answer; NULL while there is none
        headers TEXT,                    -- JSON: [[name, value], ...]
        body BLOB
    );
    CREATE INDEX idempotency_by_age ON idempotency(created_at);
    """
]
_claimed: ContextVar[str | None] = ContextVar("idempotency_key", default=None)


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """An answer as it was sent."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


class KeyReused(Exception):
    """The key stands for another request."""


class Interrupted(Exception):
    """The service ended after it had begun a job for this key, and before it answered."""

    def __init__(self, job_id: str) -> None:
        super().__init__(job_id)
        self.job_id = job_id


class Underway(Exception):
    """Another process has claimed the key, and has not answered yet, as far as is known."""

    def __init__(self, replica: str) -> None:
        super().__init__(replica)
        self.replica = replica


@contextmanager
def claiming(key: str) -> Iterator[None]:
    """Within the block, jobs that are added are noted as begun for a claimed key."""
    token = _claimed.set(key)
    try:
        yield
    finally:
        _claimed.reset(token)


def note_job(connection: Connection, job_id: str) -> None:
    """Keep, inside the transaction that adds a job, that it was begun for the key of the request at hand, if any."""
    if (key := _claimed.get()) is not None:
        connection.execute("UPDATE idempotency SET job_id = ? WHERE key = ?", (job_id, key))


def steady_clock(
    wall: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic
) -> Callable[[], float]:
    """Seconds since the epoch as the clock has them now, and from then on as they pass, however the clock is set."""
    ahead = wall() - monotonic()
    return lambda: monotonic() + ahead


class IdempotencyStore:
    """The keys of one tenant.

    Args:
        seconds: how long they are kept. A clock that is set meanwhile makes it neither longer nor shorter, unless the
            service is started anew: a key forgotten early would have its request done twice.
        now: a clock in seconds since the epoch; by default `steady_clock`.
        replica: this process among those that claim keys; None: it is the only one.
    """

    def __init__(
        self,
        database: Database,
        seconds: float,
        now: Callable[[], float] | None = None,
        replica: str | None = None,
    ) -> None:
        self._database = database
        self._replica = replica
        self._seconds = seconds
        self._now = now or steady_clock()

    def claim(self, key: str, fingerprint: str, instead_of: str | None = None) -> KeptAnswer | None:
        """The answer there is; None when the request is to be done now. No other of this process claims the key
        meanwhile.

        Args:
            instead_of: a process that is gone, whose claim is void.

        Raises:
            KeyReused, Interrupted
            Underway: another process has claimed it.
        """
        with self._database.write() as connection:
            now = self._now()
            connection.execute("DELETE FROM idempotency WHERE created_at < ?", (now - self._seconds,))
            row = connection.execute("SELECT * FROM idempotency WHERE key = ?", (key,)).fetchone()
            if row is None:
                connection.execute(
                    "INSERT INTO idempotency (key, fingerprint, created_at) VALUES (?, ?, ?)", (key, fingerprint, now)
                )
                self._sign(connection, key)
                return None
            if row["fingerprint"] != fingerprint:
                raise KeyReused
            if row["status"] is None and self._replica is not None:
                if row["claimed_by"] not in (None, self._replica, instead_of):
                    raise Underway(row["claimed_by"])
                self._sign(connection, key)
        if row["status"] is not None:
            return KeptAnswer(row["status"], json.loads(row["headers"]), row["body"])
        if row["job_id"] is not None:
            raise Interrupted(row["job_id"])
        return None

    def _sign(self, connection: Connection, key: str) -> None:
        if self._replica is not None:
            connection.execute("UPDATE idempotency SET claimed_by = ? WHERE key = ?", (self._replica, key))

    def keep(self, key: str, answer: KeptAnswer) -> None:
        """Keep the answer to a claimed request."""
        with self._database.write() as connection:
            connection.execute(
                "UPDATE idempotency SET status = ?, headers = ?, body = ? WHERE key = ?",
                (answer.status, json.dumps(answer.headers), answer.body, key),
            )

    def release(self, key: str) -> None:
        """Forget a claim for which nothing was begun: the request may be sent again."""
        with self._database.write() as connection:
            connection.execute("DELETE FROM idempotency WHERE key = ? AND status IS NULL AND job_id IS NULL", (key,))
