"""Does the tasks of all tenants, few at a time, one tenant after the other.

A task is done by one thread from its beginning to its end; what it is made of is its kind's function. A task that was
under way when the process ended is begun again after the next start, and goes on from what it had kept. Knows tenants,
tasks and what to do when one fails.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from adapters.errors import AdapterError
from app.jobs import JobKind
from app.limits import QuotaExceeded
from app.replicas import ONE_PROCESS, Queue, Replicas
from app.tasks import Task, TaskStore
from app.workspace import Workspace
from ingest import DatabaseClosed, IngestError

_log = logging.getLogger("lorebase.tasks")
_CRASHES = 3  # processes that may end while they work on a task, before it is given up
_CRASH_REASON = (
    f"The service ended {_CRASHES} times while it worked on this, so it is not tried again by itself. Start it again, "
    "smaller."
)
_CHECK_SECONDS = 0.2


class TaskFailed(Exception):
    """A task cannot be done; the message says why, and what to do."""


class Interrupted(Exception):
    """The task was cancelled, or the service stops: leave it as it is."""


@dataclass
class Control:
    """What a task's function is handed beside the task: how to tell how far it is, and when to stop."""

    store: TaskStore
    job_id: str
    stopping: threading.Event
    is_running: Callable[[str], bool]
    is_ours: Callable[[], bool] = lambda: True
    _checked: float = 0.0

    @property
    def goes_on(self) -> bool:
        """Whether the task, when it is interrupted, goes on after the next start or in another process."""
        return self.stopping.is_set() or not self.is_ours()

    def check(self) -> None:
        """Raise Interrupted when the task is not to go on. Cheap: call it often."""
        if self.goes_on:
            raise Interrupted
        if time.monotonic() - self._checked > _CHECK_SECONDS:
            self._checked = time.monotonic()
            if not self.is_running(self.job_id):
                raise Interrupted

    def report(self, stage: str, **progress: Any) -> None:
        """See `TaskStore.report`."""
        self.check()
        self.store.report(self.job_id, stage, **progress)


TaskFunction = Callable[[Workspace, Task, Control], Mapping[str, Any]]
"""Does a task and answers what came of it. Raises TaskFailed, an error of ours (then its message is the reason), or
Interrupted. Called again with the same task after a crash."""


class TaskWorker:
    """The threads that do tasks.

    Args:
        open_workspace: a tenant's workspace, None when it is gone.
        functions: what does a task, by its kind.
        threads: how many tasks are done at once.
        ended: called with a tenant's id when a task of it has ended.
        queue: what these tasks are among the work that processes share.
        replicas: the processes that share it.
    """

    def __init__(
        self,
        open_workspace: Callable[[str], Workspace | None],
        functions: Mapping[JobKind, TaskFunction],
        threads: int,
        ended: Callable[[str], None],
        queue: Queue = "tasks",
        replicas: Replicas = ONE_PROCESS,
    ) -> None:
        self._open_workspace = open_workspace
        self._functions = functions
        self._ended = ended
        self._queue = queue
        self._replicas = replicas
        self._change = threading.Condition()
        self._due: deque[str] = deque()
        self._busy: set[str] = set()
        self.stopping = threading.Event()
        self._threads = [threading.Thread(target=self._work, name="task", daemon=True) for _ in range(threads)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def wake(self, tenant_id: str) -> None:
        """There may be something to do for this tenant."""
        with self._change:
            if tenant_id not in self._due:
                self._due.append(tenant_id)
            self._change.notify_all()

    def stop(self) -> None:
        """Stop the tasks under way; they go on after the next start."""
        self.stopping.set()
        with self._change:
            self._change.notify_all()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    def _work(self) -> None:
        while (tenant_id := self._take()) is not None:
            more = False
            try:
                more = self._turn(tenant_id)
            except DatabaseClosed:
                pass  # the tenant was removed meanwhile, or the service stops
            except Exception:
                _log.exception("the tasks of a tenant cannot go on now", extra={"tenant": tenant_id})
            finally:
                with self._change:
                    self._busy.discard(tenant_id)
                    if more and tenant_id not in self._due:
                        self._due.append(tenant_id)
                    self._change.notify_all()
                self._ended(tenant_id)

    def _take(self) -> str | None:
        with self._change:
            while not self.stopping.is_set():
                free = next((tenant_id for tenant_id in self._due if tenant_id not in self._busy), None)
                if free is not None:
                    self._due.remove(free)
                    self._busy.add(free)
                    return free
                self._change.wait()
        return None

    def _turn(self, tenant_id: str) -> bool:
        """Do one task of a tenant; whether there may be more."""
        workspace = self._open_workspace(tenant_id)
        task = workspace.tasks.next(self._functions) if workspace is not None else None
        if workspace is None or task is None or not self._replicas.take(tenant_id, self._queue):
            return False
        try:
            with self._replicas.only_while_held(tenant_id, self._queue):
                task = workspace.tasks.next(self._functions)  # another process may just have done that one
                if task is None:
                    return False
                if task.attempts >= _CRASHES:
                    workspace.tasks.fail(task.job_id, _CRASH_REASON)
                else:
                    self._do(workspace, task)
        finally:
            self._replicas.give_back(tenant_id, self._queue)
        return True

    def _do(self, workspace: Workspace, task: Task) -> None:
        store, began = workspace.tasks, time.monotonic()
        extra = {"tenant": workspace.tenant_id, "job": task.job_id}
        is_ours = partial(self._replicas.holds, workspace.tenant_id, self._queue)
        control = Control(store, task.job_id, self.stopping, workspace.jobs.is_running, is_ours)
        store.begin(task.job_id)
        try:
            store.succeed(task.job_id, self._functions[task.kind](workspace, task, control))
        except Interrupted:
            store.leave(task.job_id, time.monotonic() - began)
        except DatabaseClosed:
            raise
        except (TaskFailed, QuotaExceeded, AdapterError, IngestError) as error:
            _log.info("a task failed: %s", error, extra=extra)
            store.fail(task.job_id, str(error))
        except OSError as error:
            _log.exception("a task failed", extra=extra)
            store.fail(task.job_id, f"The disk refused it: {error.strerror or error}. Start it again when it can.")
        except Exception as error:
            _log.exception("a task failed", extra=extra)
            store.fail(task.job_id, f"An unexpected {type(error).__name__} ended it. The service's log says more.")
