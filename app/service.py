"""The parts of a running service, put together from settings; started and stopped in order.

The one place where engines, embedder, parser, tenants and jobs meet. Knows every part's constructor; no HTTP.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import resource
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from importlib.metadata import version
from pathlib import Path

from adapters import AdapterRef, AdapterVersion, open_object_store
from adapters.errors import AdapterError, AdapterFilesUnavailable
from app.adapter_store import AdapterStoreMismatch, fetch_registered, store_of_service
from app.audit import AuditEntry
from app.background_writer import BackgroundWriter
from app.backup import backup, sweep_staging
from app.completion import EngineCompletion
from app.data_folder import lock_data_folder
from app.dataset_build import DatasetBuilds
from app.engines import engine_of, judge_of
from app.idempotency import IdempotencyStore
from app.ingestion import Ingestion
from app.job_worker import JobWorker
from app.jobs import Backlog
from app.keys_file import drop_unknown, first_keys
from app.life.answers import Retention
from app.life.evaluate_task import Evaluations
from app.life.shadow import ShadowRunner
from app.limits import Allowance, Limits, seconds_left_today
from app.metrics import Metrics
from app.page_images import PageImages
from app.preference_build import PreferenceBuilds
from app.replicas import Changed, Queue
from app.search_models import embedder_of, reranker_of
from app.settings import BUILTIN, Settings
from app.storage import FolderStorage, Storage, open_storage
from app.task_worker import TaskWorker
from app.tenant_folders import TenantFolders
from app.tenants import TenantDirectory
from app.tracing import Tracing
from app.training_jobs import Trainings
from app.turns import Turns
from app.workspace import Workspace, Workspaces, files_in_folder
from ingest import (
    STORAGE_ERRORS,
    ArchiveLimits,
    Corpus,
    DamagedData,
    DatabaseClosed,
    IndexOptions,
    IngestError,
    ParseLimits,
    ParserProcess,
    RetrievalOptions,
    SplitConfig,
    SqliteDatabase,
)

_log = logging.getLogger("lorebase.service")
_FORGET_TRIES = 20
_READ_AT_ONCE = 12  # questions of five passages are two batches of the reader
_SEARCHED_AT_ONCE = 4  # while the engine is full
_PAGE_SECONDS = 20.0  # to draw one page of a PDF
_FILES_OF_A_TENANT = 16  # a database with a writer and some readers, and as much again to spare


class BackupElsewhere(Exception):
    """The rows lie in a database that has tools of its own for backups."""


class BackupRunning(Exception):
    """A backup is being taken already."""


class Service:
    """A service over one data folder.

    Attributes:
        new_keys: keys made at this start, by the name of the variable that would set them; shown once.
        draining: set when the service is about to stop; long responses end then.
        turns: of questions and searches.
        metrics: what is counted and measured.
        tracing: told of every question that was answered; None where no traces are sent.
        failure: why the models cannot be used, once that is so.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.tracing = Tracing(settings.otlp_endpoint, version("lorebase")) if settings.otlp_endpoint else None
        with suppress(FileExistsError):  # what is there instead is told below
            settings.data.mkdir(parents=True, exist_ok=True)
        self._resources = ExitStack()
        url = settings.database_url.get_secret_value() if settings.database_url else None
        self._resources.enter_context(lock_data_folder(settings.data, shared=url is not None))
        self.draining = threading.Event()
        sweep_staging(settings.data)
        self._objects = None if settings.adapter_store is None else open_object_store(settings.adapter_store)
        place = None if self._objects is None else self._objects.place
        self._storage = open_storage(
            settings.data, url, store=place, vector_search=settings.vector_search == "database"
        )
        self._adapter_store = store_of_service(
            self._objects, self._storage.central, settings.data, settings.adapter_cache_mb * 1024**2
        )
        self._adapter_files = files_in_folder if self._adapter_store is None else self._adapter_store.files_of
        self._replicas = self._storage.replicas
        self._backing_up = threading.Lock()
        self._usage_writer = BackgroundWriter("usage-writer", 1.0)
        self.directory = TenantDirectory(
            self._storage.central,
            _default_limits(settings),
            self._usage_writer.wake,
            beside_rows=self._storage.is_remote,
        )
        with self._storage.starting():
            self.new_keys = first_keys(self.directory, settings)
        self.engine = engine_of(settings)
        self.metrics = Metrics(self.engine, lambda: self.readiness()[0])
        self._embedder = embedder_of(settings)
        self._reranker = reranker_of(settings)
        self._parser = ParserProcess(
            settings.parse_seconds, settings.parse_memory_mb * 1024**2, _parse_limits(settings)
        )
        self.page_images = PageImages(
            ParserProcess(_PAGE_SECONDS, settings.parse_memory_mb * 1024**2)  # one of its own: a page need not wait
        )
        self.archive_limits = ArchiveLimits(
            files=settings.archive_files,
            unpacked_bytes=settings.archive_mb * 1024**2,
            ratio=settings.unpacked_ratio,
            depth=settings.archive_depth,
        )
        self.turns = Turns(_at_once(settings))
        self._background = ThreadPoolExecutor(1, thread_name_prefix="index-builder")
        self._backlog = Backlog(settings.max_pending_total)
        self.worker = JobWorker(self._ingestion, replicas=self._replicas)
        self._answer_writer = BackgroundWriter("answer-writer", 0.2)
        self.rates = self._storage.rates()
        self._shadow = ShadowRunner(self.engine)
        self.workspaces = Workspaces(
            TenantFolders(settings.data / "tenants", self._forget_removed),
            self.directory,
            self._open_workspace,
            settings.index_memory_mb * 1024**2,
            most_open=resource.getrlimit(resource.RLIMIT_NOFILE)[0] // _FILES_OF_A_TENANT,
            registry_state=self._storage.registry_state,
            found_work=self._found_work,
            adapter_files=self._adapter_files,
        )
        self.workspaces.sweep()
        self.trainings = Trainings(settings, self.engine, self.wake_tasks)
        builds = DatasetBuilds(self.engine)
        preferences = PreferenceBuilds(self.engine, partial(judge_of, settings) if settings.judge else None)
        evaluations = Evaluations(self.engine)
        self._task_workers = [
            TaskWorker(
                self.workspaces.get,
                {"train": self.trainings.run, "build_dataset": builds.run, "judge_answers": preferences.run},
                settings.training_jobs,
                self.worker.wake,
                "tasks",
                self._replicas,
            ),
            TaskWorker(
                self.workspaces.get,
                {"evaluate": evaluations.run, "gate": evaluations.run},
                1,
                self.worker.wake,
                "evaluations",
                self._replicas,
            ),
        ]
        self._loaded = threading.Event()
        self.failure: str | None = None
        self._awaited = "The model is loading."
        self._loader = threading.Thread(target=self._load, name="model-loader", daemon=True)

    def start(self) -> None:
        """Begin loading the models in the background, and to work once they are there."""
        self._replicas.start(self._changed, self._wake)
        self._loader.start()

    def stop(self) -> None:
        """Stop the worker and the engine, close everything. What is unfinished goes on after the next start."""
        self.draining.set()
        self.worker.stop()
        for task_worker in self._task_workers:
            task_worker.stop()
        if self._loader.is_alive():
            self._loader.join()
        self._shadow.stop()
        self.engine.close()
        self._parser.close()
        self._answer_writer.stop()
        self._usage_writer.stop()
        self.page_images.close()
        self.workspaces.close()
        self._background.shutdown()
        if self.tracing is not None:
            self.tracing.close()
        self.directory.keys.write_waiting()
        self._storage.close()
        self._resources.close()

    def readiness(self) -> tuple[bool, str]:
        """Whether questions can be answered now, and in words why (not)."""
        if self.engine.failure is not None and self.failure is None:
            return False, self.engine.failure
        return self.search_readiness()

    def search_readiness(self) -> tuple[bool, str]:
        """Whether passages can be looked up now, which needs no engine, and in words why (not)."""
        if self.failure is not None:
            return False, self.failure
        if self.draining.is_set():
            return False, "The service is shutting down."
        return (True, "ready") if self._loaded.is_set() else (False, self._awaited)

    @property
    def storage(self) -> Storage:
        """Where the rows lie."""
        return self._storage

    def _load(self) -> None:
        try:
            with _collecting_seldom():
                self.engine.load()
                self._embedder.encode(["ready?"])
                if self._reranker is not None:
                    self._reranker.score("ready?", ["ready"])
        except Exception as error:
            self.failure = f"The model cannot be used: {error}"
            _log.exception("the model cannot be loaded")
            return
        if not self._settle_adapter_store():
            return
        self._loaded.set()
        _log.info("ready", extra={"model": self.engine.name, "base": self.engine.fingerprint[:16]})
        try:
            self._pin_adapters()
            for tenant_id in self.directory.unfinished():
                self._found_work(tenant_id)
        except (*STORAGE_ERRORS, IngestError) as error:  # a database that is away: its work is found when it is back
            _log.warning("pinned adapters and unfinished jobs are not known yet: %s", error)
        self.worker.start()
        for task_worker in self._task_workers:
            task_worker.start()

    def _settle_adapter_store(self) -> bool:
        """Wait until the adapters' store can be used; whether it can."""
        if self._adapter_store is None:
            return True

        def say(reason: str) -> None:
            self._awaited = reason

        try:
            return self._adapter_store.wait_until_settled(self._storage, self.directory, self.draining, say)
        except AdapterStoreMismatch as error:
            self.failure = str(error)
            _log.error("%s", error)
            return False

    def _found_work(self, tenant_id: str) -> None:
        self.worker.wake(tenant_id)
        self.wake_tasks(tenant_id)

    def _wake(self, queue: Queue, tenant_id: str) -> None:
        """Something waits that no process does."""
        if queue == "documents":
            self.worker.wake(tenant_id)
        else:
            self.wake_tasks(tenant_id)

    def _changed(self, what: Changed, tenant_id: str) -> None:
        """Take over what another process has changed, or perhaps this one."""
        if what in ("tenants", "everything"):
            self.directory.limits.refresh()
        if what == "tenants" and self.directory.tenant(tenant_id) is None:
            self._forget(tenant_id)
            return
        for workspace in self.workspaces.opened():
            if what != "everything" and workspace.tenant_id != tenant_id:
                continue
            if what == "everything" and self.directory.tenant(workspace.tenant_id) is None:
                self._forget(workspace.tenant_id)
                continue
            if what in ("policy", "everything"):
                workspace.policy.refresh()
            if what in ("adapter_registry", "everything"):
                self._follow_registry(workspace)

    def _forget(self, tenant_id: str) -> None:
        """Another process has removed a tenant."""
        workspace = self.workspaces.drop(tenant_id)
        for ref in workspace.adapters.refs() if workspace is not None else ():
            self.engine.unload(ref)
        self._backlog.forget(tenant_id)
        self.rates.forget(tenant_id)

    def _follow_registry(self, workspace: Workspace) -> None:
        """Let the engine hold what a registry says that another process has changed."""
        refs, pinned = set(workspace.adapters.refs()), set(workspace.adapters.pinned())
        if not workspace.adapters.refresh():
            return
        for ref in refs - set(workspace.adapters.refs()):
            self.engine.unload(ref)
        now = set(workspace.adapters.pinned())
        for ref in pinned - now:
            self.engine.unpin(ref)
        self._pin(now - pinned)

    def wake_tasks(self, tenant_id: str) -> None:
        """A tenant has a task to be done."""
        for task_worker in self._task_workers:
            task_worker.wake(tenant_id)

    @property
    def generates(self) -> bool:
        """Whether the engine is a language model, which writes text of its own."""
        return self.settings.model != BUILTIN

    def _pin_adapters(self) -> None:
        """Bring what is pinned back into memory. After a smaller budget was set, what no longer fits stays on disk."""
        self._pin(self.workspaces.pinned())

    def _pin(self, refs: Iterable[AdapterRef]) -> None:
        for ref in refs:
            try:
                self.engine.pin(ref)
            except AdapterError as error:
                _log.warning("a pinned adapter stays on disk: %s", error)

    def _train_again(self, workspace: Workspace, name: str, version: AdapterVersion) -> None:
        self.trainings.again(workspace, name, version)
        self.wake_tasks(workspace.tenant_id)

    def remove_tenant(self, tenant_id: str) -> bool:
        """Erase a tenant and all it owns, also while its jobs run. False when there is no such tenant."""
        try:
            workspace = self.workspaces.get(tenant_id)
        except (*STORAGE_ERRORS, IngestError):  # damaged: it goes all the same
            workspace = None
        for ref in workspace.adapters.refs() if workspace is not None else ():
            self.engine.unload(ref)
        if self._adapter_store is not None and self.directory.tenant(tenant_id) is not None:
            self._adapter_store.mark_removed(tenant_id)
        removed = self.workspaces.remove(tenant_id)
        self._backlog.forget(tenant_id)
        self.rates.forget(tenant_id)
        return removed

    def _forget_removed(self, tenant_id: str) -> bool:
        """Leave no byte of a removed tenant in databases and the keys' file; whether it is done."""
        try:
            self._storage.erase_tenant(tenant_id)
            if self._adapter_store is not None:
                self._adapter_store.erase_tenant(tenant_id)
            drop_unknown(self.settings.data, self.directory.keys)
            for _ in range(_FORGET_TRIES):
                if self._storage.central.forget_deleted():
                    return True
                time.sleep(0.05)
        except (*STORAGE_ERRORS, IngestError, AdapterFilesUnavailable) as error:
            _log.warning("something is left of a removed tenant until the next start: %s", error)
        return False

    async def allowances(self, tenant_id: str, spends_tokens: bool) -> Sequence[Allowance]:
        """How a tenant stands in its rates and budgets, after one more request; free where it has none."""
        limits = self.directory.limits.of(tenant_id)
        found = []
        if limits.requests_per_minute is not None:
            asked = (tenant_id, limits.requests_per_minute)
            held = self.rates.take_held(*asked)
            found.append(held if held is not None else await asyncio.to_thread(self.rates.take, *asked))
        if limits.tokens_per_day is not None and spends_tokens and all(each.retry is None for each in found):
            found.append(await asyncio.to_thread(self._tokens, tenant_id, limits.tokens_per_day))
        return found

    def tell(self, tenant_id: str, entry: AuditEntry, refusal: bool = False) -> None:
        """Write an entry into a tenant's audit log; one that cannot be written is logged."""
        try:
            workspace = self.workspaces.get(tenant_id)
            if workspace is not None:
                (workspace.audit.add_refusal if refusal else workspace.audit.add)(entry)
        except DatabaseClosed:  # the tenant is gone, or the service stops
            pass
        except (*STORAGE_ERRORS, DamagedData):
            _log.exception("an action is missing from the audit log", extra={"tenant": tenant_id})

    def idempotency(self, tenant_id: str) -> IdempotencyStore | None:
        """A tenant's requests that are recognised when sent again; None when the tenant is gone."""
        workspace = self.workspaces.get(tenant_id)
        return None if workspace is None else workspace.idempotency

    def _tokens(self, tenant_id: str, limit: int) -> Allowance:
        workspace = self.workspaces.get(tenant_id)
        left = limit if workspace is None else max(0, limit - workspace.usage.today().tokens)
        reset = seconds_left_today(time.time())
        return Allowance("tokens", limit, 86_400, left, reset, None if left else reset)

    def backup(self, only: str | None = None) -> Iterator[bytes]:
        """An archive of everything the service keeps, or of one tenant, piece by piece: see `app.backup`.

        Raises:
            BackupRunning, BackupElsewhere
        """
        if not isinstance(self._storage, FolderStorage):
            raise BackupElsewhere(
                "This service keeps its rows in PostgreSQL: back that database up with pg_dump, and with it what holds "
                "the adapters: the folder LOREBASE_DATA, or the store LOREBASE_ADAPTER_STORE."
            )
        central = self._storage.central
        if not self._backing_up.acquire(blocking=False):
            raise BackupRunning("A backup is being taken already; wait until it has ended.")

        def pieces() -> Iterator[bytes]:
            try:
                yield b""  # begun: from here on the block below is sure to be left
                fetch = None if self._objects is None else partial(fetch_registered, self._objects)
                yield from backup(self.settings.data, central, self._database_of, only=only, complete=fetch)
            finally:
                self._backing_up.release()

        begun = pieces()
        next(begun)
        return begun

    @contextmanager
    def _database_of(self, tenant_id: str) -> Iterator[SqliteDatabase | None]:
        workspace = self.workspaces.get(tenant_id)
        database = None if workspace is None else workspace.database
        yield database if isinstance(database, SqliteDatabase) else None

    def _ingestion(self, tenant_id: str) -> Ingestion | None:
        workspace = self.workspaces.get(tenant_id)
        return workspace.ingestion if workspace is not None else None

    def _open_workspace(self, tenant_id: str, folder: Path, resized: Callable[[], None]) -> Workspace:
        split = SplitConfig(size=self.settings.chunk_size)
        index = IndexOptions(
            self.settings.exact_up_to,
            self._background,
            folder / "index",
            resized,
            in_database=self.settings.vector_search == "database",
        )
        limits = partial(self.directory.limits.of, tenant_id)
        complete = EngineCompletion(self.engine, tenant_id, self.worker.stopping) if self.generates else None
        workspace = Workspace(
            tenant_id,
            folder,
            lambda database: Corpus(database, self._embedder, split, complete, index, self._reranker),
            lambda database, corpus: Ingestion(
                tenant_id,
                database,
                corpus,
                self.directory,
                self._backlog,
                self._parser,
                self.worker.stopping,
                limits,
                self._replicas,
            ),
            limits=limits,
            resized=resized,
            idempotency_seconds=self.settings.idempotency_hours * 3600,
            english_only=BUILTIN in (self.settings.model, self.settings.embedder),
            retrieval=RetrievalOptions(self.settings.retrieval_mode, candidates=self.settings.rerank_candidates),
            retention=Retention(self.settings.answers_kept, self.settings.answers_days, self.settings.feedback_kept),
            wake_writer=self._answer_writer.wake,
            wake_usage_writer=self._usage_writer.wake,
            in_shadow=self._shadow.note,
            retrain=self._train_again,
            open_database=self._storage.open_tenant,
            registry_state=self._storage.registry_state,
            adapter_files=self._adapter_files,
            replicas=self._replicas,
        )
        workspace.erasures.settle()  # a crash may have fallen between an erasure and what follows from it
        return workspace


@contextmanager
def _collecting_seldom() -> Iterator[None]:
    """The model libraries make four hundred thousand objects when they are loaded, which all stay: to look through them
    for garbage meanwhile would be an eighth of a server's start."""
    usual = gc.get_threshold()
    gc.set_threshold(50_000, *usual[1:])
    try:
        yield
    finally:
        gc.set_threshold(*usual)


def _at_once(settings: Settings) -> int:
    """How many questions are worked on at once: twice what fills the engine, so that one tenant alone can fill it."""
    filled = _READ_AT_ONCE if settings.model == BUILTIN else settings.max_batch
    return 2 * (filled + _SEARCHED_AT_ONCE)


def _parse_limits(settings: Settings) -> ParseLimits:
    return ParseLimits(
        pages=settings.parse_pages,
        rows=settings.parse_rows,
        characters=settings.parse_characters,
        unpacked_bytes=settings.unpacked_mb * 1024**2,
        ratio=settings.unpacked_ratio,
    )


def _default_limits(settings: Settings) -> Limits:
    return Limits(
        documents=settings.limit_documents,
        bytes=None if settings.limit_mb is None else settings.limit_mb * 1024**2,
        adapter_versions=settings.limit_adapter_versions,
        requests_per_minute=settings.limit_requests_per_minute,
        tokens_per_day=settings.limit_tokens_per_day,
        training_minutes_per_day=settings.limit_training_minutes_per_day,
    )
