"""Jobs of one piece, such as a training: what was asked for, how far it is, what came of it, as rows.

A task is a row beside its job's row, so it is listed, followed and cancelled as every job is. Knows rows; what a task
does is its kind's business, and who does it when `app.task_worker`'s.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple

from app.jobs import JobKind, JobStore
from ingest import Connection, Database, Row

TASK_MIGRATIONS = [
    """
    CREATE TABLE tasks (
        job_id TEXT PRIMARY KEY REFERENCES jobs(id),
        kind TEXT NOT NULL,
        request TEXT NOT NULL,                  -- JSON: what was asked for
        stage TEXT,
        done INTEGER NOT NULL DEFAULT 0,
        total INTEGER NOT NULL DEFAULT 0,
        unit TEXT NOT NULL,
        eta_seconds REAL,
        loss REAL,
        warnings TEXT NOT NULL DEFAULT '[]',    -- JSON: texts for a person
        result TEXT,                            -- JSON: what came of it
        attempts INTEGER NOT NULL DEFAULT 0,    -- processes of the service that began with it
        seconds REAL NOT NULL DEFAULT 0         -- spent by earlier processes
    );
    CREATE TABLE task_losses (
        job_id TEXT NOT NULL REFERENCES jobs(id),
        step INTEGER NOT NULL,
        loss REAL NOT NULL,
        PRIMARY KEY (job_id, step)
    );
    """
]
TASK_KINDS: frozenset[str] = frozenset({"train", "build_dataset", "judge_answers", "evaluate", "gate"})
_MOST_POINTS = 500
_COLUMNS = (
    "job_id, tasks.kind, request, stage, done, total, unit, eta_seconds, loss, warnings, result, attempts, seconds"
)


class TooManyTasks(Exception):
    """More tasks of a tenant wait than may. ``seconds``: when to try again."""

    seconds = 60


class Point(NamedTuple):
    """A point of a loss curve."""

    step: int
    loss: float


@dataclass(frozen=True, slots=True)
class Task:
    """A task as it stands: ``done`` of ``total`` ``unit``."""

    job_id: str
    kind: JobKind
    request: Mapping[str, Any]
    stage: str | None
    done: int
    total: int
    unit: str
    eta_seconds: float | None
    loss: float | None
    warnings: list[str]
    result: Mapping[str, Any] | None
    attempts: int
    seconds: float


class TaskStore:
    """The tasks of one tenant.

    Args:
        adding: a write transaction that adds jobs, so that a restart opens this tenant.
    """

    def __init__(
        self, database: Database, jobs: JobStore, adding: Callable[[], AbstractContextManager[Connection]]
    ) -> None:
        self._database = database
        self._jobs = jobs
        self._adding = adding

    def add(
        self,
        kind: JobKind,
        request: Mapping[str, Any],
        unit: str,
        most: int,
        warnings: list[str] | None = None,
        *,
        total: int = 0,
        also: Callable[[Connection, str], None] = lambda _connection, _job_id: None,
    ) -> str:
        """Queue a task; the id of its job. Raises TooManyTasks when ``most`` of its kind are unfinished.

        Args:
            also: writes what belongs to it in the same transaction, given the job's id.
        """
        with self._adding() as connection:
            waiting = connection.execute(
                "SELECT count(*) FROM tasks JOIN jobs ON id = job_id "
                "WHERE state IN ('queued', 'running') AND tasks.kind = ?",
                (kind,),
            ).fetchone()[0]
            if waiting >= most:
                raise TooManyTasks(f"{waiting} jobs of this kind wait already; start this one when they have ended.")
            job_id = self._jobs.add(connection, {}, kind)
            connection.execute(
                "INSERT INTO tasks (job_id, kind, request, unit, warnings, total) VALUES (?, ?, ?, ?, ?, ?)",
                (job_id, kind, json.dumps(request), unit, json.dumps(warnings or []), total),
            )
            also(connection, job_id)
        return job_id

    def get(self, job_id: str) -> Task | None:
        """A job's task; None when the job is of documents, or there is none."""
        with self._database.read() as connection:
            row = connection.execute(f"SELECT {_COLUMNS} FROM tasks WHERE job_id = ?", (job_id,)).fetchone()  # noqa: S608
        return _task(row) if row else None

    def of_kind(self, kind: JobKind, limit: int, after: str | None = None) -> list[Task]:
        """Tasks of a kind, the newest first; ``after``: those that are older than this job's."""
        with self._database.read() as connection:
            rows = connection.execute(
                f"SELECT {_COLUMNS} FROM tasks JOIN jobs ON id = job_id WHERE tasks.kind = ? AND "  # noqa: S608
                "(CAST(? AS TEXT) IS NULL OR number < (SELECT number FROM jobs WHERE id = ?)) "
                "ORDER BY number DESC LIMIT ?",
                (kind, after, after, limit),
            ).fetchall()
        return [_task(row) for row in rows]

    def next(self, kinds: Collection[JobKind]) -> Task | None:
        """The oldest unfinished task of these kinds."""
        with self._database.read() as connection:
            row = connection.execute(
                f"SELECT {_COLUMNS} FROM tasks JOIN jobs ON id = job_id "  # noqa: S608 - constant columns
                f"WHERE state IN ('queued', 'running') AND tasks.kind IN ({', '.join('?' * len(kinds))}) "
                "ORDER BY number LIMIT 1",
                tuple(kinds),
            ).fetchone()
        return _task(row) if row else None

    def unfinished_ids(self) -> list[str]:
        """Ids of the jobs whose tasks are unfinished."""
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT job_id FROM tasks JOIN jobs ON id = job_id WHERE state IN ('queued', 'running')"
            ).fetchall()
        return [row["job_id"] for row in rows]

    def begin(self, job_id: str) -> None:
        """Note, before the work, that this process begins with a task."""
        self._jobs.begin(job_id, ())
        with self._database.write() as connection:
            connection.execute("UPDATE tasks SET attempts = attempts + 1 WHERE job_id = ?", (job_id,))

    def leave(self, job_id: str, seconds: float) -> None:
        """Note that this process stops in order, before the task's end: it is not to blame."""
        with self._database.write() as connection:
            connection.execute(
                "UPDATE tasks SET attempts = CASE attempts WHEN 0 THEN 0 ELSE attempts - 1 END, seconds = seconds + ?, "
                "eta_seconds = NULL WHERE job_id = ?",
                (seconds, job_id),
            )

    def report(
        self,
        job_id: str,
        stage: str,
        *,
        done: int | None = None,
        total: int | None = None,
        eta_seconds: float | None = None,
        loss: float | None = None,
    ) -> None:
        """Note how far a task is; a loss is a point of its curve. A repeated step replaces its point."""
        with self._database.write() as connection:
            connection.execute(
                "UPDATE tasks SET stage = ?, done = coalesce(?, done), total = coalesce(?, total), eta_seconds = ?, "
                "loss = coalesce(?, loss) WHERE job_id = ?",
                (stage, done, total, eta_seconds, loss, job_id),
            )
            if loss is not None and done is not None:
                connection.execute(
                    "INSERT INTO task_losses (job_id, step, loss) VALUES (?, ?, ?) "
                    "ON CONFLICT (job_id, step) DO UPDATE SET loss = excluded.loss",
                    (job_id, done, loss),
                )

    def warn(self, job_id: str, warnings: list[str]) -> None:
        """Keep what a person should know, instead of what was kept before."""
        with self._database.write() as connection:
            connection.execute("UPDATE tasks SET warnings = ? WHERE job_id = ?", (json.dumps(warnings), job_id))

    def succeed(self, job_id: str, result: Mapping[str, Any]) -> None:
        """End a task with what came of it; one that ended meanwhile stays as it is."""
        with self._database.write() as connection:
            self._jobs.succeed(connection, job_id)
            _end(connection, job_id, json.dumps(result))

    def fail(self, job_id: str, reason: str) -> None:
        """End a task with a reason."""
        self._jobs.fail(job_id, reason)
        with self._database.write() as connection:
            _end(connection, job_id, None)

    def losses(self, job_id: str) -> list[Point]:
        """The loss curve, thinned out evenly to some hundred points; the last one is always there."""
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT step, loss FROM task_losses WHERE job_id = ? ORDER BY step", (job_id,)
            ).fetchall()
        every = -(-len(rows) // _MOST_POINTS) or 1
        return [Point(row["step"], row["loss"]) for n, row in enumerate(rows) if (len(rows) - 1 - n) % every == 0]


def _end(connection: Connection, job_id: str, result: str | None) -> None:
    connection.execute(
        "UPDATE tasks SET stage = NULL, eta_seconds = NULL, result = ? WHERE job_id = ?", (result, job_id)
    )


def _task(row: Row) -> Task:
    fields = dict(row)
    for name in ("request", "warnings", "result"):
        fields[name] = None if fields[name] is None else json.loads(fields[name])
    return Task(**fields)
