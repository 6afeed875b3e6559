"""What is done for a tenant's jobs at this moment, for whoever follows them: of this process, or told by another one.

Rows say which documents of a job are done; this says how far those under work are, and how fast it goes. It lives in
memory, and other processes hear of it within a second. Knows no rows.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from typing import Literal

from app.jobs import Job
from app.replicas import Replicas

_FRESH_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Activity:
    """What is done for a job at this moment.

    Attributes:
        done, total: chunks embedded of the documents under work; both 0 before they are split.
        bytes: size of the documents under work.
        detail: why it waits.
    """

    job_id: str
    stage: Literal["parsing", "embedding", "storing", "waiting"]
    done: int = 0
    total: int = 0
    bytes: int = 0
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class _Now:
    """An activity with the pace of its job: ``elapsed`` seconds since the job had ``bytes_before`` done."""

    activity: Activity
    elapsed: float
    bytes_before: int


class JobActivity:
    """What is done for the jobs of one tenant."""

    def __init__(self, tenant_id: str, replicas: Replicas) -> None:
        self._tenant_id = tenant_id
        self._replicas = replicas
        self._activity: Activity | None = None
        self._pace: tuple[str, float, int] | None = None  # job, since when, bytes done by then
        self._elsewhere: tuple[float, _Now | None] = (0.0, None)  # when it was asked for, and what was told

    def tell(self, activity: Activity) -> None:
        """This is done now."""
        self._activity = activity
        if (now := self._here()) is not None and self._replicas.id is not None:
            self._replicas.show(self._tenant_id, "documents", json.dumps(asdict(now)))

    def keep_pace(self, job: Job) -> None:
        """Measure from now on how fast a job goes."""
        self._pace = (job.id, time.monotonic(), job.bytes_done)

    def keeps_pace(self, job_id: str) -> bool:
        """Whether it is measured how fast this job goes."""
        return self._pace is not None and self._pace[0] == job_id

    def end(self) -> None:
        """Nothing is done here any more."""
        self._activity = self._pace = None

    def of(self, job: Job) -> Activity | None:
        """What is done for a job; None when another one has its turn."""
        now = self._now(job)
        return now.activity if now is not None else None

    def eta_seconds(self, job: Job) -> float | None:
        """About how long a job that runs will take from now; None when that cannot be told yet."""
        now = self._now(job)
        if now is None or now.elapsed <= 0:
            return None
        part = now.activity.bytes * now.activity.done / now.activity.total if now.activity.total else 0.0
        done = min(job.bytes, job.bytes_done + part)
        gained = done - now.bytes_before
        return max(0.0, job.bytes - done) * now.elapsed / gained if gained > 0 else None

    def _now(self, job: Job) -> _Now | None:
        if job.ended_at is not None:
            return None
        now = self._here()
        if now is None and self._replicas.id is not None:
            now = self._told()
        return now if now is not None and now.activity.job_id == job.id else None

    def _here(self) -> _Now | None:
        activity, pace = self._activity, self._pace
        if activity is None:
            return None
        if pace is None or pace[0] != activity.job_id:
            return _Now(activity, 0.0, 0)
        return _Now(activity, time.monotonic() - pace[1], pace[2])

    def _told(self) -> _Now | None:
        asked, told = self._elsewhere
        if time.monotonic() - asked > _FRESH_SECONDS:
            text = self._replicas.shown(self._tenant_id, "documents")
            found = json.loads(text) if text is not None else None
            told = None if found is None else _Now(**{**found, "activity": Activity(**found["activity"])})
            self._elsewhere = time.monotonic(), told
        return told
