"""What a tenant has used, by day (UTC): requests, questions, tokens, seconds of training. Kept in its database.

Counted in memory and written by a thread: what costs (questions, tokens, training) within a second, bare requests by
the hundred or with the next thing that costs. A process that is killed loses what was not written, an orderly end
nothing. Knows rows and days; limits are `app.limits`' business.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from ingest import STORAGE_ERRORS, Connection, Database, DatabaseClosed

_log = logging.getLogger("lorebase.usage")
_FRESH_SECONDS = 1.0  # for which what other processes have written need not be looked up again
_MOST_BARE_REQUESTS = 100  # that wait to be written, when nothing else does
USAGE_MIGRATIONS = [
    """
    CREATE TABLE usage (
        day TEXT PRIMARY KEY,                            -- of UTC
        requests INTEGER NOT NULL DEFAULT 0,
        questions INTEGER NOT NULL DEFAULT 0,
        prompt_tokens INTEGER NOT NULL DEFAULT 0,
        completion_tokens INTEGER NOT NULL DEFAULT 0,
        training_seconds REAL NOT NULL DEFAULT 0
    );
    """
]
_COLUMNS = "day, requests, questions, prompt_tokens, completion_tokens, training_seconds"


@dataclass(frozen=True, slots=True)
class DayUsage:
    """What was used on one day; ``tokens`` are those read and written together."""

    day: str
    requests: int
    questions: int
    prompt_tokens: int
    completion_tokens: int
    training_seconds: float

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


class UsageStore:
    """The use of one tenant.

    Args:
        wake: told when there is something to write.
        written: called when it was: the database is open then, whether or not it was before.
        is_shared: whether other processes count too.
    """

    def __init__(
        self,
        database: Database,
        wake: Callable[[UsageStore], None],
        written: Callable[[], None] = lambda: None,
        *,
        is_shared: bool = False,
    ) -> None:
        self._database = database
        self._wake = wake
        self._written = written
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._today = _empty(today())
        self._loaded = False
        self._loaded_at = 0.0
        self._is_shared = is_shared
        self._waiting: dict[str, DayUsage] = {}

    def add(
        self,
        *,
        requests: int = 0,
        questions: int = 0,
        prompt_tokens: int = 0,
        completion_tokens: int = 0,
        training_seconds: float = 0.0,
    ) -> None:
        """Count use of today."""
        day = today()
        counts = DayUsage(day, requests, questions, prompt_tokens, completion_tokens, training_seconds)
        with self._lock:
            waiting = self._waiting[day] = _plus(self._waiting.get(day, _empty(day)), counts)
        if questions or counts.tokens or training_seconds or waiting.requests >= _MOST_BARE_REQUESTS:
            self._wake(self)

    def today(self) -> DayUsage:
        """What was used today so far, to the last request that ended; by other processes, to one or two seconds ago."""
        day = today()
        with self._writing, self._lock:  # not between what is written and what waits
            stale = self._is_shared and time.monotonic() - self._loaded_at > _FRESH_SECONDS
            if not self._loaded or stale or self._today.day != day:
                self._today, self._loaded, self._loaded_at = self._stored(day), True, time.monotonic()
            return _plus(self._today, self._waiting.get(day, _empty(day)))

    def days(self, most: int) -> list[DayUsage]:
        """The last days on which there was any use, newest first."""
        self.write_waiting()
        with self._database.read() as connection:
            rows = connection.execute(
                f"SELECT {_COLUMNS} FROM usage ORDER BY day DESC LIMIT ?",  # noqa: S608 - constant columns
                (most,),
            ).fetchall()
        return [DayUsage(**row) for row in rows]

    def write_waiting(self) -> bool:
        """Write what waits; false when it must be tried again."""
        with self._writing:
            with self._lock:
                waiting = dict(self._waiting)
            if not waiting:
                return True
            try:
                with self._database.write() as connection:
                    for counts in waiting.values():
                        _write(connection, counts)
            except DatabaseClosed:  # the tenant is gone
                return True
            except STORAGE_ERRORS as error:  # such as a full disk: it may pass
                _log.warning("usage waits to be written: %s", error)
                return False
            with self._lock:
                for day, counts in waiting.items():
                    if self._loaded and day == self._today.day:
                        self._today = _plus(self._today, counts)
                    if self._waiting[day] == counts:
                        del self._waiting[day]
                    else:
                        self._waiting[day] = _plus(self._waiting[day], counts, -1)
        self._written()
        return True

    def _stored(self, day: str) -> DayUsage:
        with self._database.read() as connection:
            row = connection.execute(f"SELECT {_COLUMNS} FROM usage WHERE day = ?", (day,)).fetchone()  # noqa: S608
        return DayUsage(**row) if row else _empty(day)


def today() -> str:
    """The day it is in UTC, as ``2026-01-31``."""
    return datetime.fromtimestamp(time.time(), UTC).date().isoformat()


def _empty(day: str) -> DayUsage:
    return DayUsage(day, 0, 0, 0, 0, 0.0)


def _plus(one: DayUsage, other: DayUsage, times: int = 1) -> DayUsage:
    return DayUsage(
        one.day,
        one.requests + times * other.requests,
        one.questions + times * other.questions,
        one.prompt_tokens + times * other.prompt_tokens,
        one.completion_tokens + times * other.completion_tokens,
        one.training_seconds + times * other.training_seconds,
    )


def _write(connection: Connection, counts: DayUsage) -> None:
    connection.execute(
        """
        INSERT INTO usage (day, requests, questions, prompt_tokens, completion_tokens, training_seconds)
        VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (day) DO UPDATE SET
            requests = usage.requests + excluded.requests,
            questions = usage.questions + excluded.questions,
            prompt_tokens = usage.prompt_tokens + excluded.prompt_tokens,
            completion_tokens = usage.completion_tokens + excluded.completion_tokens,
            training_seconds = usage.training_seconds + excluded.training_seconds
        """,
        (
            counts.day, counts.requests, counts.questions, counts.prompt_tokens, counts.completion_tokens,
            counts.training_seconds,
        ),
    )  # fmt: skip
