"""What a tenant has decided about its adapters and about what is kept: one row of its database, read from memory."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from ingest import Connection, Database

OnErasure = Literal["warn", "block", "retrain"]
POLICY_MIGRATIONS = [
    """
    CREATE TABLE policy (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        body TEXT NOT NULL              -- JSON: what differs from the defaults
    );
    """
]


@dataclass(frozen=True, slots=True)
class Policy:
    """A tenant's decisions.

    Attributes:
        keep_answers: keep the texts of answers (question, answer, passages), so that feedback can be trained on. False:
            only which version answered, and how confidently.
        require_gate: promote only versions that have passed the gate.
        auto_rollback: roll the active version back when it does worse than the one before it; a canary is always
            watched.
        on_erasure: what happens to versions that were trained on a document deleted or replaced since: ``warn`` says so
            wherever they show, ``block`` serves them no more, ``retrain`` trains the active one again without it.
    """

    keep_answers: bool = True
    require_gate: bool = False
    auto_rollback: bool = False
    on_erasure: OnErasure = "warn"


class PolicyStore:
    """The policy in one tenant's database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.refresh()

    def refresh(self) -> None:
        """Take over what another process has decided."""
        with self._database.read() as connection:
            self._policy = _stored(connection)

    @property
    def current(self) -> Policy:
        """The policy as it stands."""
        return self._policy

    def change(self, **decisions: Any) -> Policy:
        """Change some decisions, keep the others; the new policy."""
        with self._database.write() as connection:
            policy = replace(_stored(connection), **decisions)
            connection.execute(
                "INSERT INTO policy (one, body) VALUES (1, ?) ON CONFLICT (one) DO UPDATE SET body = excluded.body",
                (json.dumps(asdict(policy)),),
            )
        self._policy = policy
        return policy


def _stored(connection: Connection) -> Policy:
    row = connection.execute("SELECT body FROM policy").fetchone()
    stored = json.loads(row["body"]) if row else {}
    known = {field.name for field in fields(Policy)}
    return Policy(**{name: value for name, value in stored.items() if name in known})
