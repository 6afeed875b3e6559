"""Works off the jobs of all tenants in small steps, one tenant after the other, so that none waits for another's.

Two lanes: files are read by a few threads that mostly wait for the parser's processes, chunks are embedded by one
thread. A tenant is in one lane at a time, and goes behind all others after each step. Knows owners, steps and what to
do when a step fails; the work itself is the owner's.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from app.jobs import JobKind
from app.replicas import ONE_PROCESS, Replicas
from ingest import STORAGE_ERRORS, DatabaseClosed, EmbedderUnavailable, IngestError, LeaseLost

_log = logging.getLogger("lorebase.jobs")
Lane = Literal["reading", "embedding"]
_READERS = 2
_QUEUE: Final = "documents"
_FIRST_DELAY_SECONDS = 1.0
_LONGEST_DELAY_SECONDS = 60.0
_SUSPECT_DELAY_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Step:
    """A little work on one job.

    Attributes:
        bytes: how large its documents are together.
        suspect: its one document was under work when a process of the service ended without notice.
    """

    job_id: str
    kind: JobKind
    lane: Lane
    document_ids: tuple[str, ...]
    bytes: int
    suspect: bool


class JobOwner(Protocol):
    """A tenant whose jobs the worker does."""

    def next_step(self) -> Step | None:
        """What is to be done next; None when nothing is left."""

    def do(self, step: Step) -> None:
        """Do a step, or a part of it when the service stops. What was done is kept; raises what nobody expected."""

    def isolate(self, step: Step) -> None:
        """Do the documents of a step one by one from here on."""

    def give_up(self, step: Step, reason: str) -> None:
        """Fail the documents of a step that still wait, and count them as done."""

    def fail(self, step: Step, reason: str) -> None:
        """Fail the job of a step, with all that still waits in it."""

    def wait(self, step: Step, reason: str) -> None:
        """Note that a step is tried again later."""

    def settle(self) -> bool:
        """Note that no work is left; False when there is some after all."""

    def is_idle(self) -> bool:
        """Whether nothing is to be done here, though the tenant has work elsewhere: then there is nothing to settle."""

    def leave(self) -> None:
        """Note that this process does no more in order: what it had begun is not to blame."""

    def lose(self) -> None:
        """Forget what was begun: another process goes on with it."""


class JobWorker:
    """The threads that do the jobs of all tenants.

    Args:
        open_owner: the owner of a tenant's jobs, None when the tenant is gone.
        readers: how many tenants' files may be read at the same time.
        replicas: the processes that share the work: each tenant's is one's at a time.
    """

    def __init__(
        self,
        open_owner: Callable[[str], JobOwner | None],
        readers: int = _READERS,
        replicas: Replicas = ONE_PROCESS,
    ) -> None:
        self._open_owner = open_owner
        self._replicas = replicas
        self._change = threading.Condition()
        self._due: dict[Lane, dict[str, float]] = {"reading": {}, "embedding": {}}  # when, on the monotonic clock
        self._busy: dict[str, bool] = {}  # under work → woken meanwhile
        self._failures: dict[str, int] = {}  # in a row, of what may pass
        self._suspects = threading.Lock()  # one suspect at a time, so that the guilty one is known
        self.stopping = threading.Event()
        lanes: list[Lane] = ["embedding"]
        lanes += ["reading"] * readers
        self._threads = [
            threading.Thread(target=self._work, args=(lane,), name=f"job-{lane}", daemon=True) for lane in lanes
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def wake(self, tenant_id: str) -> None:
        """There is something to do for this tenant."""
        with self._change:
            if tenant_id in self._busy:
                self._busy[tenant_id] = True
            elif not any(tenant_id in due for due in self._due.values()):
                self._due["embedding"][tenant_id] = time.monotonic()
            self._change.notify_all()

    def stop(self) -> None:
        """Stop after the steps under way; what is left is done after the next start."""
        self.stopping.set()
        with self._change:
            self._change.notify_all()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    def _work(self, lane: Lane) -> None:
        while (tenant_id := self._take(lane)) is not None:
            try:
                following = self._turn(tenant_id, lane)
            except DatabaseClosed:  # the tenant was removed meanwhile, or the service stops
                following = None
            except Exception as error:
                if not self.stopping.is_set():
                    _log.exception("the jobs of a tenant cannot go on now", extra={"tenant": tenant_id})
                following = lane, self._delay(tenant_id, error)
            self._give_back(tenant_id, following)

    def _take(self, lane: Lane) -> str | None:
        """The tenant that has waited longest, when one is due; None when the service stops."""
        due = self._due[lane]
        with self._change:
            while not self.stopping.is_set():
                tenant_id = min(due, key=lambda each: due[each], default=None)
                left = None if tenant_id is None else due[tenant_id] - time.monotonic()
                if tenant_id is not None and left is not None and left <= 0:
                    del due[tenant_id]
                    self._busy[tenant_id] = False
                    return tenant_id
                self._change.wait(left)
        return None

    def _give_back(self, tenant_id: str, following: tuple[Lane, float] | None) -> None:
        """Put a tenant behind all others: in which lane, and after how many seconds; None: nothing is left."""
        with self._change:
            woken = self._busy.pop(tenant_id)
            if following is None and woken:
                following = "embedding", 0.0
            if following is not None:
                lane, seconds = following
                self._due[lane][tenant_id] = time.monotonic() + seconds
            self._change.notify_all()

    def _turn(self, tenant_id: str, lane: Lane) -> tuple[Lane, float] | None:
        """Do one step for a tenant, where its work is this process's; where and when it goes on."""
        owner = self._open_owner(tenant_id)
        if owner is None:
            return None
        held = self._replicas.holds(tenant_id, _QUEUE)
        if not held and self._replicas.id is not None and owner.is_idle():
            return None
        if not self._replicas.take(tenant_id, _QUEUE):  # looked for again, by all processes, once it is nobody's
            owner.lose()
            return None
        try:
            with self._replicas.only_while_held(tenant_id, _QUEUE):
                following = self._step(tenant_id, lane, owner)
                handed_over = self._may_hand_over()
                if handed_over:
                    owner.leave()
        except LeaseLost:
            owner.lose()
            raise
        if following is None or handed_over:
            self._replicas.give_back(tenant_id, _QUEUE)
        return following

    def _may_hand_over(self) -> bool:
        """Whether other processes could go on with a tenant while others' turns come here."""
        return self._replicas.are_others() and any(self._due.values())

    def _step(self, tenant_id: str, lane: Lane, owner: JobOwner) -> tuple[Lane, float] | None:
        step = owner.next_step()
        if step is None:
            return None if owner.settle() else (lane, 0.0)
        if step.lane != lane:
            return step.lane, 0.0
        if not step.suspect:
            return lane, self._do(tenant_id, owner, step)
        if not self._suspects.acquire(blocking=False):
            return lane, _SUSPECT_DELAY_SECONDS
        try:
            return lane, self._do(tenant_id, owner, step)
        finally:
            self._suspects.release()

    def _do(self, tenant_id: str, owner: JobOwner, step: Step) -> float:
        """Do a step; the seconds until the tenant's next one."""
        extra = {"tenant": tenant_id, "job": step.job_id, "document": step.document_ids[0]}
        try:
            owner.do(step)
        except DatabaseClosed:
            raise
        except (EmbedderUnavailable, *STORAGE_ERRORS) as error:  # such as a full disk: it may pass
            delay = self._delay(tenant_id, error)
            _log.warning("a job waits %.0f s: %s", delay, error, extra=extra)
            owner.wait(step, str(error))
            return delay
        except IngestError as error:
            owner.fail(step, str(error))
        except Exception as error:
            if self.stopping.is_set():
                return 0.0
            if len(step.document_ids) > 1:
                _log.exception("a step failed; its documents are tried one by one", extra=extra)
                owner.isolate(step)
            else:
                _log.exception("a document failed", extra=extra)
                owner.give_up(step, f"An unexpected {type(error).__name__} ended its ingestion.")
        self._failures.pop(tenant_id, None)
        return 0.0

    def _delay(self, tenant_id: str, error: Exception) -> float:
        """Seconds before a tenant is tried again: twice as long after each failure in a row."""
        failures = self._failures[tenant_id] = self._failures.get(tenant_id, 0) + 1
        return min(_LONGEST_DELAY_SECONDS, _FIRST_DELAY_SECONDS * 2.0 ** min(failures - 1, 16))
