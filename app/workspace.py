"""A tenant's folder, opened: its documents, adapters and jobs; and all tenants' folders under one roof.

The one place that joins ids to paths: ids are made here or by `TenantDirectory`, never taken from a client.
"""

from __future__ import annotations

import contextlib
import shutil
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

from adapters import AdapterRegistry
from app.jobs import JOB_MIGRATIONS, JobStore
from app.templates import TEMPLATE_MIGRATIONS, TemplateStore
from app.tenants import TenantDirectory
from ingest import DOCUMENT_MIGRATIONS, AddedDocument, Corpus, Database, NewDocument, Parser, UnknownDocument

_BATCH_BYTES = 256 * 1024
_CONNECTION_BYTES = 256 * 1024  # SQLite's page cache, schema and statements


class TooManyPending(Exception):
    """More documents wait than a tenant may have waiting."""


class Workspace:
    """Everything of one tenant. Implements `app.jobs.JobOwner`.

    Args:
        stopping: set when the service stops; work under way is left for the next start.
        english_only: whether a default model, which knows English only, embeds or answers here.
    """

    def __init__(
        self,
        tenant_id: str,
        folder: Path,
        make_corpus: Callable[[Database], Corpus],
        directory: TenantDirectory,
        parser: Parser,
        stopping: threading.Event,
        english_only: bool,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.tenant_id = tenant_id
        self.english_only = english_only
        self.database = Database(
            folder / "lorebase.db",
            {"documents": DOCUMENT_MIGRATIONS, "jobs": JOB_MIGRATIONS, "templates": TEMPLATE_MIGRATIONS},
        )
        self.corpus = make_corpus(self.database)
        self.adapters = AdapterRegistry(folder / "adapters")
        self.jobs = JobStore(self.database)
        self.templates = TemplateStore(self.database)
        self._directory = directory
        self._parser = parser
        self._stopping = stopping
        self._unfinished = threading.Lock()

    def add_documents(self, documents: Iterable[NewDocument], max_pending: int) -> tuple[str, list[AddedDocument]]:
        """Store documents and the job that ingests them in one transaction: once this returns, both survive a crash.

        Documents are taken one at a time, so that those of a large archive are never in memory together.

        Raises:
            TooManyPending: the tenant has too many documents waiting already; nothing is stored.
        """
        free = max_pending - self.jobs.pending()
        added: list[AddedDocument] = []
        with self._unfinished:
            self._directory.mark_unfinished(self.tenant_id)
            with self.database.write() as connection:
                for document in documents:
                    if len(added) >= free:
                        raise TooManyPending(
                            f"At most {max_pending} documents may wait to be ingested; send these again when jobs "
                            "have ended."
                        )
                    added.append(self.corpus.add(connection, document))
                # A document another job is still at is waited for here too; it is not ingested twice.
                job_id = self.jobs.add(connection, list(dict.fromkeys(a.id for a in added)))
        return job_id, added

    def process(self, job_id: str, document_ids: Sequence[str]) -> None:
        def should_stop() -> bool:
            return self._stopping.is_set() or not self.jobs.is_running(job_id)

        batch = self._at_most(_BATCH_BYTES, document_ids)
        self.corpus.process_many(batch, self._parser, should_stop)
        if not should_stop():  # a document that was deleted meanwhile is dealt with too
            self.jobs.documents_done(job_id, batch)

    def _at_most(self, budget: int, document_ids: Sequence[str]) -> list[str]:
        """The first documents, as many as have ``budget`` bytes together, at least one: many small ones share the
        cost of a transaction and of a padded batch, a large one holds up nobody behind it."""
        batch: list[str] = []
        for document_id in document_ids:
            with contextlib.suppress(UnknownDocument):
                budget -= self.corpus.document(document_id).bytes
            if batch and budget < 0:
                break
            batch.append(document_id)
        return batch

    def abandon(self, job_id: str, document_ids: Sequence[str], reason: str) -> None:
        for document_id in document_ids:
            self.corpus.fail(document_id, reason)
        self.jobs.documents_done(job_id, document_ids)

    def cancel(self, job_id: str) -> bool:
        """Cancel a job: documents of it that are not ready yet are removed. False when it had ended before.

        All in one transaction: the same content sent meanwhile is either in another job, which keeps it, or is new.
        """
        with self.database.write() as connection:
            left = self.jobs.cancel(connection, job_id)
            self.corpus.discard(connection, left or [])
        return left is not None

    def settle(self) -> bool:
        with self._unfinished:
            if self.jobs.next_documents(1) is not None:
                return False
            self._directory.mark_finished(self.tenant_id)
            return True

    def held_bytes(self) -> int:
        """About how much memory the index and the database's connections hold."""
        return self.corpus.index_bytes() + self.database.connections * _CONNECTION_BYTES

    def rest(self) -> bool:
        """Free the index and close the database's files until they are next needed; false while it is at work."""
        self.corpus.release()
        return self.database.rest()

    def close(self) -> None:
        self.corpus.close()
        self.database.close()


class Workspaces:
    """All tenants' workspaces, opened when first used. What they hold of memory and files is freed by least recent use:
    an index is loaded and a database opened again when next needed.

    Args:
        make: opens the workspace of a tenant id in a folder; given what to call when its size in memory changes.
        index_budget_bytes: what indexes and database connections may hold together.
        most_open: how many tenants may hold anything at once.
    """

    def __init__(
        self,
        folder: Path,
        directory: TenantDirectory,
        make: Callable[[str, Path, Callable[[], None]], Workspace],
        index_budget_bytes: int,
        most_open: int,
    ) -> None:
        self._folder = folder
        self._directory = directory
        self._make = make
        self._budget = index_budget_bytes
        self._lock = threading.Lock()
        self._most_open = most_open
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
                workspace = self._open[tenant_id] = self._make(tenant_id, self._folder / tenant_id, resized)
            self._resized.append(tenant_id)
            self._account()
            self._held.move_to_end(tenant_id)
            self._free()
            return workspace

    def remove(self, tenant_id: str) -> bool:
        """Erase a tenant: its keys first, then everything it owns. False when there is no such tenant."""
        with self._lock:
            if not self._directory.remove(tenant_id):
                return False
            workspace = self._open.pop(tenant_id, None)
            self._total -= self._held.pop(tenant_id, 0)
            if workspace is not None:
                workspace.close()
            shutil.rmtree(self._folder / tenant_id, ignore_errors=True)
            return True

    def sweep(self) -> None:
        """Delete folders of tenants that are gone, left by a crash during `remove`."""
        known = {tenant.id for tenant in self._directory.tenants()}
        if self._folder.is_dir():
            for folder in self._folder.iterdir():
                if folder.name not in known:
                    shutil.rmtree(folder, ignore_errors=True)

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
