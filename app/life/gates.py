"""The gate's decisions as rows: which versions passed, which did not and why. What decides is `app.life.gate`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from ingest import Database, Row

MARGIN, TOLERANCE = 0.0, 3.0  # F1 points, unless the request says: better by, and lost on the general set
GATE_MIGRATIONS = [
    """
    CREATE TABLE gates (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        adapter TEXT NOT NULL,
        version INTEGER NOT NULL,       -- never given twice, so that this stays true of it
        evaluation_id TEXT NOT NULL,
        passed INTEGER NOT NULL,
        promoted INTEGER NOT NULL,
        reasons TEXT NOT NULL,          -- JSON: sentences
        at REAL NOT NULL
    );
    CREATE INDEX gates_by_version ON gates (adapter, version, number);
    """,
    "ALTER TABLE gates ADD COLUMN advice TEXT",  # JSON; NULL where it passed
]


@dataclass(frozen=True, slots=True)
class GateResult:
    """A gate that a version went through, or not. ``advice``: `app.life.advice.Advice` as JSON values, if held back."""

    adapter: str
    version: int
    evaluation_id: str
    passed: bool
    promoted: bool
    reasons: list[str]
    at: float
    advice: dict[str, Any] | None = None


class GateStore:
    """The gates in one tenant's database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, result: GateResult) -> None:
        """Record a decision."""
        with self._database.write() as connection:
            connection.execute(
                "INSERT INTO gates (adapter, version, evaluation_id, passed, promoted, reasons, at, advice) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    result.adapter, result.version, result.evaluation_id, int(result.passed), int(result.promoted),
                    json.dumps(result.reasons), result.at, None if result.advice is None else json.dumps(result.advice),
                ),
            )  # fmt: skip

    def latest(self, adapter: str, version: int) -> GateResult | None:
        """The last decision over a version."""
        return self.decided(adapter).get((adapter, version))

    def decided(self, adapter: str | None = None) -> dict[tuple[str, int], GateResult]:
        """The last decision over each version, of one adapter or of all, by name and version."""
        where, wanted = ("", ()) if adapter is None else ("WHERE adapter = ?", (adapter,))
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT * FROM gates WHERE number IN "  # noqa: S608 - constants
                f"(SELECT max(number) FROM gates {where} GROUP BY adapter, version)",
                wanted,
            ).fetchall()
        return {(row["adapter"], row["version"]): _result(row) for row in rows}


def _result(row: Row) -> GateResult:
    return GateResult(
        row["adapter"], row["version"], row["evaluation_id"], bool(row["passed"]), bool(row["promoted"]),
        json.loads(row["reasons"]), row["at"], json.loads(row["advice"]) if row["advice"] else None,
    )  # fmt: skip
