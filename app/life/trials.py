"""Is the version on trial, or the one just promoted, worse than the one before? Then it is taken back, with the reason.

The judgement is a function of counts: one-sided tests with least counts, so that a handful of answers decides nothing.
Counts are read from the answers that are kept; no texts are needed.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass

from adapters import Adapter, AdapterRegistry
from adapters.errors import AdapterError
from app.life.policy import PolicyStore
from ingest import STORAGE_ERRORS, Connection, Database, DatabaseClosed

_log = logging.getLogger("lorebase.trials")
LEAST_RATINGS = 10  # of each version
LEAST_ANSWERS = 30
RATING_RISK = 0.01  # that chance alone takes a version back, each time it is looked at
CONFIDENCE_RISK = 0.001
LEAST_FALL = 0.05  # of mean confidence
TRIAL_MIGRATIONS = [
    """
    CREATE TABLE shadow_answers (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        at REAL NOT NULL,
        adapter TEXT NOT NULL,
        version INTEGER NOT NULL,
        same INTEGER NOT NULL,          -- the same answer as the one that was given, normalized
        f1 REAL NOT NULL,               -- of it against the one that was given, 0 to 1
        abstained INTEGER NOT NULL,
        confidence REAL NOT NULL
    );
    CREATE INDEX shadow_answers_by_version ON shadow_answers (adapter, version, at);
    """
]


@dataclass(frozen=True, slots=True)
class ArmCounts:
    """What a version did in a span of time; ``spread`` is the variance of its confidence."""

    version: int
    answers: int
    abstained: int
    confidence: float | None
    spread: float
    good: int
    bad: int


@dataclass(frozen=True, slots=True)
class ShadowCounts:
    """What a version in the shadow would have answered. ``f1``: against what was answered, 0 to 1."""

    compared: int
    same: int
    f1: float | None
    confidence: float | None


def judge(tried: ArmCounts, other: ArmCounts) -> str | None:
    """Why a version is worse than the other one, or None while nothing shows that.

    Thumbs: Fisher's exact test, one-sided. Confidence: Welch's test, one-sided, and a fall that matters.
    """
    rated, rated_other = tried.good + tried.bad, other.good + other.bad
    if min(rated, rated_other) >= LEAST_RATINGS:
        risk = _as_bad_by_chance(tried.bad, rated, other.bad, rated_other)
        if risk < RATING_RISK:
            return (
                f"Thumbs fell: {tried.bad} of {rated} down for version {tried.version}, {other.bad} of {rated_other} "
                f"for version {other.version} (one-sided p = {risk:.2g})."
            )
    if min(tried.answers, other.answers) >= LEAST_ANSWERS:
        assert tried.confidence is not None  # noqa: S101 - there are answers
        assert other.confidence is not None  # noqa: S101
        fall = other.confidence - tried.confidence
        error = math.sqrt(tried.spread / tried.answers + other.spread / other.answers)
        risk = 0.5 * math.erfc(fall / error / math.sqrt(2)) if error > 0 else float(fall <= 0)
        if fall >= LEAST_FALL and risk < CONFIDENCE_RISK:
            return (
                f"Confidence fell: {tried.confidence:.2f} on average for version {tried.version} ({tried.answers} "
                f"answers), {other.confidence:.2f} for version {other.version} ({other.answers}); one-sided p = "
                f"{risk:.2g}."
            )
    return None


def _as_bad_by_chance(bad: int, rated: int, bad_other: int, rated_other: int) -> float:
    """Fisher's exact test: the chance of so many bad ones or more, were both alike."""
    all_bad, everything = bad + bad_other, rated + rated_other
    ways = math.comb(everything, all_bad)
    return sum(
        math.comb(rated, k) * math.comb(rated_other, all_bad - k) / ways for k in range(bad, min(rated, all_bad) + 1)
    )


class Trials:
    """The versions of one tenant that are watched."""

    def __init__(self, database: Database, registry: AdapterRegistry, policy: PolicyStore) -> None:
        self._database = database
        self._registry = registry
        self._policy = policy

    def look(self) -> None:
        """Take back what has become worse. Cheap where nothing is on trial; a disk that fails is tried again later."""
        try:
            self._look()
        except (*STORAGE_ERRORS, AdapterError, DatabaseClosed) as error:
            _log.warning("trials could not be looked at: %s", error)

    def _look(self) -> None:
        for name in self._registry.names():
            adapter = self._registry.get(name)
            if adapter.trial is not None and adapter.trial.mode == "canary":
                tried, active = self.arms(adapter)
                reason = judge(tried, active) if active is not None else None
                if reason is not None:
                    self._registry.end_trial(name, adapter.trial, reason)
            elif self._policy.current.auto_rollback:
                self._look_at_active(adapter)

    def arms(self, adapter: Adapter) -> tuple[ArmCounts, ArmCounts | None]:
        """What the version on trial and the active one have done since the trial began."""
        assert adapter.trial is not None  # noqa: S101 - the caller's duty
        since = adapter.trial.since
        with self._database.read() as connection:
            tried = _counts(connection, adapter.name, adapter.trial.version, since, None)
            active = None if adapter.active is None else _counts(connection, adapter.name, adapter.active, since, None)
        return tried, active

    def shadow(self, adapter: Adapter) -> ShadowCounts:
        """What the version in the shadow has answered since its trial began."""
        assert adapter.trial is not None  # noqa: S101 - the caller's duty
        with self._database.read() as connection:
            row = connection.execute(
                "SELECT count(*) AS n, coalesce(sum(same), 0) AS same, avg(f1) AS f1, avg(confidence) AS confidence "
                "FROM shadow_answers WHERE adapter = ? AND version = ? AND at >= ?",
                (adapter.name, adapter.trial.version, adapter.trial.since),
            ).fetchone()
        return ShadowCounts(row["n"], row["same"], row["f1"], row["confidence"])

    def _look_at_active(self, adapter: Adapter) -> None:
        """The active version against the one before it, as that did until the promotion."""
        event = adapter.events[-1] if adapter.events else None
        if event is None or event.kind != "promoted" or event.before is None or event.version != adapter.active:
            return
        if not adapter.history or adapter.history[-1] != event.before:
            return
        with self._database.read() as connection:
            now = _counts(connection, adapter.name, event.version, event.at, None)
            before = _counts(connection, adapter.name, event.before, 0.0, event.at)
        reason = judge(now, before)
        if reason is not None:
            self._registry.rollback(adapter.name, reason)


def _counts(connection: Connection, adapter: str, version: int, since: float, until: float | None) -> ArmCounts:
    row = connection.execute(
        """
        SELECT count(*) AS n, coalesce(sum(abstained), 0) AS abstained, avg(confidence) AS mean,
               avg(confidence * confidence) AS squares, count(CASE rating WHEN 1 THEN 1 END) AS good,
               count(CASE rating WHEN -1 THEN 1 END) AS bad
        FROM answers LEFT JOIN feedback ON feedback.answer = answers.number
        WHERE adapter = ? AND version = ? AND arm IS NOT NULL AND answers.at >= ? AND answers.at < ?
        """,
        (adapter, version, since, math.inf if until is None else until),
    ).fetchone()
    spread = 0.0 if row["mean"] is None else max(0.0, row["squares"] - row["mean"] ** 2)
    return ArmCounts(version, row["n"], row["abstained"], row["mean"], spread, row["good"], row["bad"])
