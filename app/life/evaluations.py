"""A tenant's evaluations as rows: what is asked in which ways, each outcome as it comes, and what it came to.

An outcome is committed before the next questions are asked, so a crash or restart goes on behind it. Knows rows; who
asks is `app.life.evaluate_task`.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from app.life.comparison import Asked
from app.life.question_sets import Item
from ingest import Connection, Database, Row

Passages = Literal["retrieved", "given"]
MOST_EVALUATIONS = 1000
EVALUATION_MIGRATIONS = [
    """
    CREATE TABLE evaluations (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        job_id TEXT NOT NULL,
        kind TEXT NOT NULL,
        name TEXT NOT NULL,
        plan TEXT NOT NULL,             -- JSON: Plan without its sets' items
        created_at REAL NOT NULL,
        result TEXT                     -- JSON; NULL until it has ended well
    );
    CREATE TABLE evaluation_items (
        evaluation INTEGER NOT NULL REFERENCES evaluations (number) ON DELETE CASCADE,
        set_name TEXT NOT NULL,
        position INTEGER NOT NULL,
        item TEXT NOT NULL,             -- JSON
        PRIMARY KEY (evaluation, set_name, position)
    ) WITHOUT ROWID;
    CREATE TABLE evaluation_outcomes (
        evaluation INTEGER NOT NULL REFERENCES evaluations (number) ON DELETE CASCADE,
        set_name TEXT NOT NULL,
        position INTEGER NOT NULL,
        way TEXT NOT NULL,
        outcome TEXT NOT NULL,          -- JSON
        PRIMARY KEY (evaluation, set_name, position, way)
    ) WITHOUT ROWID;
    """
]


class TooManyEvaluations(Exception):
    """The tenant keeps as many evaluations as it may."""


@dataclass(frozen=True, slots=True)
class Way:
    """A way to answer: ``adapter`` is ``base`` or ``name@version``; without ``grounded`` nothing is read."""

    key: str
    adapter: str
    grounded: bool = True


@dataclass(frozen=True, slots=True)
class AskedSet:
    """A question set, and how its questions get their passages."""

    name: str
    items: tuple[Item, ...]
    passages: Passages


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked, and how.

    Attributes:
        ways: asked of every question, in this order.
        impossible: ways that cannot be asked here, with the reason.
        gate: adapter, version and thresholds, where the outcome decides over a promotion.
    """

    ways: tuple[Way, ...]
    top_k: int = 5
    collection: str | None = None
    filter: dict[str, Any] | None = None
    min_confidence: float | None = None
    template: str | None = None
    impossible: tuple[tuple[str, str], ...] = ()
    gate: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """An evaluation as it stands."""

    number: int
    id: str
    job_id: str
    kind: str
    name: str
    plan: Plan
    created_at: float
    result: dict[str, Any] | None
    questions: int


def new_evaluation_id() -> str:
    """An id that no evaluation has."""
    return uuid.uuid4().hex


class EvaluationStore:
    """The evaluations in one tenant's database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(
        self, evaluation_id: str, kind: str, name: str, plan: Plan, sets: Iterable[AskedSet],
        connection: Connection, job_id: str,
    ) -> None:  # fmt: skip
        """Store an evaluation inside the transaction that adds its job. Raises TooManyEvaluations."""
        if connection.execute("SELECT count(*) FROM evaluations").fetchone()[0] >= MOST_EVALUATIONS:
            raise TooManyEvaluations(f"{MOST_EVALUATIONS} evaluations are the limit; delete old ones first.")
        number = connection.execute(
            "INSERT INTO evaluations (id, job_id, kind, name, plan, created_at) VALUES (?, ?, ?, ?, ?, ?) "
            "RETURNING number",
            (evaluation_id, job_id, kind, name, json.dumps(asdict(plan)), time.time()),
        ).fetchone()[0]
        for asked in sets:
            rows = [
                (number, asked.name, i, json.dumps({**item.stored(), "passages": asked.passages}))
                for i, item in enumerate(asked.items)
            ]
            connection.executemany(
                "INSERT INTO evaluation_items (evaluation, set_name, position, item) VALUES (?, ?, ?, ?)", rows
            )

    def get(self, evaluation_id: str) -> Evaluation | None:
        """One evaluation, or None."""
        return self._one("id", evaluation_id)

    def of_job(self, job_id: str) -> Evaluation | None:
        """The evaluation that a job does, or None when it was deleted."""
        return self._one("job_id", job_id)

    def page(self, limit: int, offset: int) -> tuple[list[Evaluation], int]:
        """A page of the evaluations, the newest first, and how many there are in all."""
        with self._database.read() as connection:
            rows = connection.execute(f"{_SELECT} ORDER BY number DESC LIMIT ? OFFSET ?", (limit, offset)).fetchall()
            total = connection.execute("SELECT count(*) FROM evaluations").fetchone()[0]
        return [_evaluation(row) for row in rows], int(total)

    def items(self, evaluation: Evaluation) -> dict[str, list[tuple[Item, Passages]]]:
        """The questions by set, in order."""
        sets: dict[str, list[tuple[Item, Passages]]] = {}
        with self._database.read() as connection:
            for row in connection.execute(
                "SELECT set_name, item FROM evaluation_items WHERE evaluation = ? ORDER BY set_name, position",
                (evaluation.number,),
            ):
                stored = json.loads(row["item"])
                sets.setdefault(row["set_name"], []).append((Item.read(stored), stored["passages"]))
        return sets

    def outcomes(self, evaluation: Evaluation) -> dict[tuple[str, int, str], Asked]:
        """What has come so far, by set, position and way."""
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT set_name, position, way, outcome FROM evaluation_outcomes WHERE evaluation = ?",
                (evaluation.number,),
            ).fetchall()
        return {(r["set_name"], r["position"], r["way"]): _asked(json.loads(r["outcome"])) for r in rows}

    def keep(self, evaluation: Evaluation, outcomes: Mapping[tuple[str, int, str], Asked]) -> None:
        """Keep what came. What was kept before stays."""
        with self._database.write() as connection:
            there = connection.execute("SELECT 1 FROM evaluations WHERE number = ?", (evaluation.number,)).fetchone()
            if there is None:  # deleted meanwhile
                return
            connection.executemany(
                "INSERT INTO evaluation_outcomes (evaluation, set_name, position, way, outcome) "
                "VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                [(evaluation.number, *place, json.dumps(asdict(asked))) for place, asked in outcomes.items()],
            )

    def conclude(self, evaluation: Evaluation, result: Mapping[str, Any]) -> None:
        """Keep what it came to."""
        with self._database.write() as connection:
            connection.execute(
                "UPDATE evaluations SET result = ? WHERE number = ?", (json.dumps(result), evaluation.number)
            )

    def remove(self, evaluation_id: str) -> bool:
        """Forget an evaluation; whether there was one."""
        with self._database.write() as connection:
            return connection.execute("DELETE FROM evaluations WHERE id = ?", (evaluation_id,)).rowcount > 0

    def _one(self, column: str, value: str) -> Evaluation | None:
        with self._database.read() as connection:
            row = connection.execute(f"{_SELECT} WHERE {column} = ?", (value,)).fetchone()
        return _evaluation(row) if row else None


_SELECT = (
    "SELECT number, id, job_id, kind, name, plan, created_at, result, "
    "(SELECT count(*) FROM evaluation_items WHERE evaluation = number) AS questions FROM evaluations"
)


def _evaluation(row: Row) -> Evaluation:
    stored = json.loads(row["plan"])
    plan = Plan(
        **{
            **stored,
            "ways": tuple(Way(**way) for way in stored["ways"]),
            "impossible": tuple((way, reason) for way, reason in stored["impossible"]),
        }
    )
    result = json.loads(row["result"]) if row["result"] else None
    return Evaluation(
        row["number"], row["id"], row["job_id"], row["kind"], row["name"], plan, row["created_at"], result,
        row["questions"],
    )  # fmt: skip


def _asked(stored: dict[str, Any]) -> Asked:
    return Asked(**{**stored, "golds": tuple(stored["golds"])})
