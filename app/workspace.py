"""A tenant's folder, opened: its documents, adapters and jobs; and all tenants' folders under one roof.

The one place that joins ids to paths: ids are made here or by `TenantDirectory`, never taken from a client.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from functools import partial
from pathlib import Path

from adapters import (
    AdapterRef,
    AdapterRegistry,
    AdapterVersion,
    FileState,
    FolderFiles,
    RegistryState,
    VersionFiles,
    pinned_in,
)
from adapters.errors import RegistryDamaged
from app.audit import AuditLog
from app.datasets import DatasetStore
from app.idempotency import IdempotencyStore
from app.ingestion import Ingestion
from app.life.answers import AnswerStore, Retention
from app.life.erasure import Erasures
from app.life.evaluations import EvaluationStore
from app.life.gates import GateStore
from app.life.policy import PolicyStore
from app.life.trials import Trials
from app.limits import Limits
from app.replicas import ONE_PROCESS, Replicas, taken
from app.storage import open_in_folder
from app.tasks import TaskStore
from app.templates import TemplateStore
from app.tenant_folders import TenantFolders
from app.tenants import TenantDirectory
from app.usage import UsageStore
from ingest import STORAGE_ERRORS, Corpus, Database, DatabaseClosed, RetrievalOptions

_ADAPTERS = "adapters"
_log = logging.getLogger("lorebase.workspace")
_CONNECTION_BYTES = 256 * 1024  # SQLite's page cache, schema and statements


def files_in_folder(_: str, folder: Path) -> VersionFiles:
    """Adapters' files in the tenant's own folder."""
    return FolderFiles(folder)


class Workspace:
    """Everything of one tenant.

    Args:
        open_ingestion: given the database and the corpus, what brings documents into it.
        retrieval: the stages a query goes through unless it says otherwise.
        english_only: whether a default model, which knows English only, embeds or answers here.
        retention: how much is kept of answers.
        wake_writer: told when there are answers to write.
        wake_usage_writer: told when there is use to write.
        limits: what this tenant may have and do now.
        resized: told when the database may be open that was at rest.
        idempotency_seconds: how long a request is recognised when it is sent again.
        in_shadow: takes what is to be answered again, unseen: see `app.life.shadow`.
        retrain: queues a training like the one that made a version, without what was erased since.
        open_database: opens the database of a tenant with a folder: see `app.storage`.
        registry_state: of a tenant's adapters, given their folder and the tenant's database: see `app.storage`.
        adapter_files: of a tenant's adapters, given their folder: there, or see `app.adapter_store`.
        replicas: the processes that serve the tenant.
    """

    def __init__(
        self,
        tenant_id: str,
        folder: Path,
        make_corpus: Callable[[Database], Corpus],
        open_ingestion: Callable[[Database, Corpus], Ingestion],
        english_only: bool,
        retrieval: RetrievalOptions,
        retention: Retention,
        wake_writer: Callable[[AnswerStore], None],
        in_shadow: Callable[..., None] = lambda *_: None,
        wake_usage_writer: Callable[[UsageStore], None] = lambda _: None,
        limits: Callable[[], Limits] = Limits,
        idempotency_seconds: float = 86_400.0,
        resized: Callable[[], None] = lambda: None,
        retrain: Callable[[Workspace, str, AdapterVersion], None] = lambda *_: None,
        open_database: Callable[[str, Path], Database] = open_in_folder,
        registry_state: Callable[[str, Path, Database], RegistryState] = lambda _id, adapters, _database: FileState(
            adapters
        ),
        adapter_files: Callable[[str, Path], VersionFiles] = files_in_folder,
        replicas: Replicas = ONE_PROCESS,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.tenant_id = tenant_id
        self.folder = folder
        self.english_only = english_only
        self.retrieval = retrieval
        self.in_shadow = in_shadow
        self.limits = limits
        self.database = open_database(tenant_id, folder)
        self.corpus = make_corpus(self.database)
        adapters = folder / _ADAPTERS
        try:
            state = registry_state(tenant_id, adapters, self.database)
            self.adapters = AdapterRegistry(adapters, tenant_id, state, adapter_files(tenant_id, adapters))
        except BaseException:
            self.corpus.close()
            self.database.close()
            raise
        self.ingestion = open_ingestion(self.database, self.corpus)
        self.jobs = self.ingestion.jobs
        self.tasks = TaskStore(self.database, self.jobs, self.ingestion.adding)
        self.datasets = DatasetStore(self.database)
        self.templates = TemplateStore(self.database)
        self.policy = PolicyStore(self.database)
        self.evaluations = EvaluationStore(self.database)
        self.gates = GateStore(self.database)
        self.trials = Trials(self.database, self.adapters, self.policy)
        self.audit = AuditLog(self.database)
        self.idempotency = IdempotencyStore(self.database, idempotency_seconds, replica=replicas.id)
        self.usage = UsageStore(self.database, wake_usage_writer, resized, is_shared=replicas.id is not None)

        def answers_changed() -> None:
            resized()
            self.trials.look()

        self.erasures = Erasures(
            self.database, self.adapters, self.policy, partial(retrain, self), partial(taken, replicas, tenant_id)
        )
        self.ingestion.on_replaced = self.erasures.look
        self.answers = AnswerStore(
            self.database,
            retention,
            lambda: self.policy.current.keep_answers,
            wake_writer,
            answers_changed,
            replicas.are_others,
        )

    def held_bytes(self) -> int:
        """About how much memory the index and the database's connections hold."""
        return self.corpus.index_bytes() + self.database.connections * _CONNECTION_BYTES

    def rest(self) -> bool:
        """Free the index and close the database's files until they are next needed; false while it is at work."""
        self.corpus.release()
        return self.database.rest()

    def close(self) -> None:
        """Close everything; what is unfinished goes on when the tenant is opened again."""
        with contextlib.suppress(*STORAGE_ERRORS, DatabaseClosed):
            self.ingestion.leave()
        self.answers.write_waiting()
        self.usage.write_waiting()
        self.corpus.close()
        self.database.close()


class Workspaces:
    """All tenants' workspaces, opened when first used. What they hold of memory and files is freed by least recent use:
    an index is loaded and a database opened again when next needed.

    Args:
        make: opens the workspace of a tenant id in a folder; given what to call when its size in memory changes.
        index_budget_bytes: what indexes and database connections may hold together.
        most_open: how many tenants may hold anything at once.
        registry_state, adapter_files: of a tenant's adapters, given their folder.
        found_work: told of a tenant that is opened with jobs to be done: after a disk refused, or a crash, the central
            database may not know of them.
    """

    def __init__(
        self,
        folders: TenantFolders,
        directory: TenantDirectory,
        make: Callable[[str, Path, Callable[[], None]], Workspace],
        index_budget_bytes: int,
        most_open: int,
        registry_state: Callable[[str, Path], RegistryState] = lambda _id, adapters: FileState(adapters),
        found_work: Callable[[str], None] = lambda _: None,
        adapter_files: Callable[[str, Path], VersionFiles] = files_in_folder,
    ) -> None:
        self._folders = folders
        self._directory = directory
        self._make = make
        self._budget = index_budget_bytes
        self._lock = threading.Lock()
        self._most_open = most_open
        self._registry_state = registry_state
        self._adapter_files = adapter_files
        self._found_work = found_work
        self._open: OrderedDict[str, Workspace] = OrderedDict()
        self._held: OrderedDict[str, int] = OrderedDict()  # bytes, least recently used first
        self._total = 0
        self._resized: deque[str] = deque()  # filled from any thread, without the lock

    def get(self, tenant_id: str) -> Workspace | None:
        """The workspace of a tenant, or None when there is no such tenant (any more)."""
        with self._lock:
            workspace = self._open.get(tenant_id)
            if workspace is None:
                if self._directory.tenant(tenant_id) is None:
                    return None
                resized = partial(self._resized.append, tenant_id)
                workspace = self._open[tenant_id] = self._make(tenant_id, self._folders.of(tenant_id), resized)
                if workspace.jobs.has_unfinished():
                    self._found_work(tenant_id)
            self._resized.append(tenant_id)
            self._account()
            self._held.move_to_end(tenant_id)
            self._free()
            return workspace

    def opened(self) -> list[Workspace]:
        """Those that are open."""
        with self._lock:
            return list(self._open.values())

    def drop(self, tenant_id: str) -> Workspace | None:
        """Close a tenant that another process has removed, and delete the folder that this one has of it; the
        workspace, if it was open."""
        workspace = self._close(tenant_id)
        self._folders.delete(tenant_id)
        return workspace

    def remove(self, tenant_id: str) -> bool:
        """Erase a tenant: its keys first, then everything it owns. False when there is no such tenant."""
        with self._lock:
            if self._directory.tenant(tenant_id) is None:
                return False
            self._folders.mark(tenant_id)
            try:
                self._directory.remove(tenant_id)
            except BaseException:
                self._folders.unmark(tenant_id)
                raise
        self._close(tenant_id)  # nobody else is kept waiting: the tenant cannot be opened again
        self._folders.erase(tenant_id)
        return True

    def _close(self, tenant_id: str) -> Workspace | None:
        with self._lock:
            workspace = self._open.pop(tenant_id, None)
            self._total -= self._held.pop(tenant_id, 0)
        if workspace is not None:
            workspace.close()
        return workspace

    def pinned(self) -> list[AdapterRef]:
        """The pinned adapter versions of all tenants, without opening any; none of those whose list is damaged."""
        found: list[AdapterRef] = []
        for tenant in self._directory.tenants():
            adapters = self._folders.of(tenant.id) / _ADAPTERS
            try:
                state = self._registry_state(tenant.id, adapters).read()
                found += pinned_in(state, self._adapter_files(tenant.id, adapters), tenant.id)
            except (RegistryDamaged, OSError) as error:
                _log.warning("a tenant's adapters are not known: %s", error, extra={"tenant": tenant.id})
        return found

    def sweep(self) -> None:
        """Finish removals that a crash interrupted; see `TenantFolders.sweep`."""
        self._folders.sweep({tenant.id for tenant in self._directory.tenants()})

    def close(self) -> None:
        with self._lock:
            for workspace in self._open.values():
                workspace.close()
            self._open.clear()

    def _account(self) -> None:
        """Measure those whose size has changed; the caller holds the lock."""
        while self._resized:
            tenant_id = self._resized.popleft()
            if (workspace := self._open.get(tenant_id)) is not None:
                held = workspace.held_bytes()
                self._total += held - self._held.get(tenant_id, 0)
                self._held[tenant_id] = held

    def _free(self) -> None:
        """Free what was used least recently while the budget is exceeded, never that of the one just asked for."""
        for tenant_id in list(self._held)[:-1] if self._exceeded() else []:
            if not self._exceeded():
                return
            if self._open[tenant_id].rest():  # one at work keeps what it holds until the next time
                self._total -= self._held.pop(tenant_id)

    def _exceeded(self) -> bool:
        return self._total > self._budget or len(self._held) > self._most_open
