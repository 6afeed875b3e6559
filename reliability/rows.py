"""The table: every row's name, what it is about in a line, and what runs it in its short or long form.

A row that leaves a server as it found it takes one that runs already, so that the tests share theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from app.local_server import LocalServer, local_server
from reliability import (
    adapters,
    backups,
    bodies,
    clock,
    contract,
    damage,
    disk,
    files,
    fsync,
    gone,
    greedy,
    injection,
    isolation,
    kills,
    mixed,
    model,
    parsers,
    stop,
)
from reliability.outcome import Outcome

SETTINGS = {"LOREBASE_MAX_BODY_MB": "4", "LOREBASE_BODY_SECONDS": "5"}
"""Of the server that rows share."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row.

    Attributes:
        run_with: what runs it; the seed decides every random choice.
        short, long: what it is given for either form.
        shares: whether it takes a server that runs already, first.
    """

    about: str
    run_with: Callable[..., Outcome]
    short: Mapping[str, Any]
    long: Mapping[str, Any]
    shares: bool = False

    def run(self, *, seed: int, full: bool, server: LocalServer | None = None) -> Outcome:
        """Run it: against ``server`` where it can share one, else against servers of its own."""
        given = {**(self.long if full else self.short), "seed": seed}
        if not self.shares:
            return self.run_with(**given)
        if server is not None:
            return self.run_with(server, **given)
        with local_server(environment=SETTINGS) as own:
            return self.run_with(own, **given)


ROWS: dict[str, Row] = {
    "isolation": Row(
        "another tenant's ids in every place of every route",
        isolation.run, {"full": False}, {"full": True}, shares=True,
    ),
    "contract": Row(
        "requests that fit the OpenAPI document, and that do not",
        contract.run, {"examples": 1}, {"examples": 40}, shares=True,
    ),
    "bodies": Row(
        "bodies too large, lying, slow; answers nobody reads",
        bodies.run, {"connections": 12}, {"connections": 400}, shares=True,
    ),
    "damage": Row(
        "files with turned bits, cut short, or of another tenant",
        damage.run, {"rounds": 0, "lists": False}, {"rounds": 60},
    ),
    "files": Row(
        "files with bombs, loops, links and names that reach out",
        files.run, {"full": False}, {"full": True}, shares=True,
    ),
    "adapters": Row(
        "adapters with pickles, bombs, wrong shapes and lying headers",
        adapters.run, {"bomb_mib": 100}, {"bomb_mib": 1500}, shares=True,
    ),
    "injection": Row(
        "documents and questions that give orders or forge citations",
        injection.run, {"rounds": 1, "orders": 2}, {"rounds": 20}, shares=True,
    ),
    "parsers": Row(
        "files wrong in a few places; odd filters, ways of splitting and headers",
        parsers.run, {"files": 60, "conditions": 60, "heads": 60}, {"files": 6000, "conditions": 4000, "heads": 3000},
        shares=True,
    ),
    "kills": Row(
        "kill -9 before and behind each durable step, and at random",
        kills.run, {"steps": 2, "moments": 1, "train": False}, {},
    ),
    "greedy": Row(
        "a tenant that asks far more than all others together",
        greedy.run, {"asks": 60, "tenants": 8, "rounds": 1, "timed": False}, {"asks": 1000, "tenants": 50},
    ),
    "stop": Row(
        "SIGTERM while clients ask, send, replace and delete", stop.run, {"rounds": 1, "clients": 4}, {"rounds": 20},
    ),
    "gone": Row(
        "clients that hang up in the queue, the prompt, the answer, streamed or not",
        gone.run, {"rounds": 1, "reader": False}, {"rounds": 20},
    ),
    "model": Row(
        "lives of tenants that hypothesis makes up, beside a model in memory",
        model.run, {"lives": 2, "steps": 10}, {"lives": 40, "steps": 30}, shares=True,
    ),
    "mixed": Row(
        "100,000 requests of every kind: memory, files, threads and rows do not grow",
        mixed.run, {"requests": 400, "clients": 4}, {"requests": 100_000, "clients": 8},
    ),
    "fsync": Row("a disk whose fsync fails, always or now and then", fsync.run, {"rounds": 1}, {"rounds": 20}),
    "backup": Row(
        "archives taken while tenants write, restored; a tenant erased while it writes",
        backups.run, {"archives": 1, "tenants": 2}, {"archives": 12, "tenants": 4},
    ),
    "clock": Row(
        "a wall clock that is set, and requests that are sent again meanwhile",
        clock.run, {"jumps": 3}, {"jumps": 60},
    ),
    "disk": Row("a disk that is full, then refuses every write", disk.run, {"rounds": 1}, {"rounds": 20}),
}  # fmt: skip
