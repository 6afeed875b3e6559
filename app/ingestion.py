"""A tenant's documents on their way: accepted with their job in one transaction, then read and embedded step by step.

Nothing here is kept in memory that a crash may not take: what is acknowledged, read and embedded lies in rows. Knows
jobs and the corpus, and in which order their rows change; knows no HTTP.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal

from app.job_activity import Activity, JobActivity
from app.job_worker import Step
from app.jobs import Backlog, Job, JobItem, JobKind, JobStore
from app.limits import Limits, QuotaExceeded
from app.replicas import ONE_PROCESS, Replicas
from app.tenants import TenantDirectory
from ingest import (
    AddedDocument,
    Connection,
    Corpus,
    Database,
    NewDocument,
    NothingToRetry,
    Parser,
    ReplacedDocument,
    Upload,
)
from ingest.corpus import Outcome

_BATCH_DOCUMENTS = 64
_BATCH_BYTES = 64 * 1024
_CRASHES = 2  # processes that may end while they work on a document, before it is given up
_CRASH_REASON = (
    f"The service ended {_CRASHES} times while it worked on this document, so it is not tried again by itself. "
    "Retry it, or send it in another form."
)


class TooManyPending(Exception):
    """More documents wait than may. ``seconds``: when to try again."""

    def __init__(self, message: str, seconds: int) -> None:
        super().__init__(message)
        self.seconds = seconds


class Ingestion:
    """Everything that changes the documents of one tenant, except deleting them. Implements `app.job_worker.JobOwner`.

    Args:
        stopping: set when the service stops; work under way is left for the next start.
        limits: what the tenant may have now.
        replicas: the processes that serve the tenant.

    Attributes:
        activity: what is done at this moment.
        on_replaced: called when new content has taken a document's place.
    """

    def __init__(
        self,
        tenant_id: str,
        database: Database,
        corpus: Corpus,
        directory: TenantDirectory,
        backlog: Backlog,
        parser: Parser,
        stopping: threading.Event,
        limits: Callable[[], Limits] = Limits,
        replicas: Replicas = ONE_PROCESS,
    ) -> None:
        self.jobs = JobStore(database)
        self._tenant_id = tenant_id
        self._database = database
        self._corpus = corpus
        self._directory = directory
        self._backlog = backlog
        self._parser = parser
        self._stopping = stopping
        self._limits = limits
        self._replicas = replicas
        self.on_replaced: Callable[[], None] = lambda: None
        self._unfinished = threading.Lock()
        self._begun: set[tuple[str, str]] = set()  # (job, document) in this process
        self._alone: set[tuple[str, str]] = set()  # not to share a step
        self.activity = JobActivity(tenant_id, replicas)
        backlog.note(tenant_id, self.jobs.pending())

    # What clients ask for

    def add(self, documents: Iterable[NewDocument], max_pending: int) -> tuple[str, list[AddedDocument]]:
        """Store documents and the job that ingests them in one transaction: once this returns, both survive a crash.

        Documents are taken one at a time, so that those of a large archive are never in memory together.

        Raises:
            TooManyPending: too many documents wait already; nothing is stored.
            InvalidDocument: a document cannot be stored; nothing is.
            QuotaExceeded: the tenant would have more than it may; nothing is stored.
        """
        added: list[AddedDocument] = []
        sizes: dict[str, int] = {}  # a document another job is still at is waited for here too; it is not done twice
        with self._accepting(max_pending) as (connection, take):
            for document in documents:
                take(1)
                added.append(self._corpus.add(connection, document))
                sizes[added[-1].id] = len(document.content)
            if not all(each.duplicate for each in added):
                self._refuse_over_quota(connection)
            return self.jobs.add(connection, sizes), added

    def replace(self, document_id: str, new: NewDocument, max_pending: int) -> tuple[str, ReplacedDocument]:
        """Store new content for a document, and the job that puts it in the place of the old, in one transaction.

        Of several replacements that wait, the newest wins: the jobs of the others end as cancelled.

        Raises:
            UnknownDocument, InvalidDocument, SameContentElsewhere, TooManyPending, QuotaExceeded: nothing is stored.
        """
        with self._accepting(max_pending) as (connection, take):
            take(1)
            replaced = self._corpus.replace(connection, document_id, new)
            if not replaced.is_new:
                job_id = self.jobs.replacing(connection, document_id)
                if job_id is not None:
                    return job_id, replaced
            if replaced.is_new:
                self._refuse_over_quota(connection)
            self.jobs.supersede(connection, document_id)
            kind: JobKind = "replace" if replaced.replaces else "ingest"
            return self.jobs.add(connection, {document_id: len(new.content)}, kind), replaced

    def retry_document(self, document_id: str, max_pending: int) -> str:
        """Try again what failed of a document: its new content, or itself; the id of the job.

        Raises:
            UnknownDocument, NothingToRetry, TooManyPending
        """
        size = self._corpus.document(document_id).bytes
        with self._accepting(max_pending) as (connection, take):
            take(1)
            for upload in (Upload(document_id, replaces=True), Upload(document_id)):
                if self._corpus.reopen(connection, upload):
                    return self.jobs.add(connection, {document_id: size}, "replace" if upload.replaces else "ingest")
            raise NothingToRetry("only a document that failed can be tried again; this one did not")

    def retry_job(self, job: Job, max_pending: int) -> str:
        """Try again the documents of a job that failed; the id of the new job.

        Raises:
            NothingToRetry, TooManyPending
        """
        sizes = self.jobs.sizes(job.id)
        with self._accepting(max_pending) as (connection, take):
            failed = {
                document_id: size
                for document_id, size in sizes.items()
                if self._corpus.reopen(connection, Upload(document_id, job.kind == "replace"))
            }
            if not failed:
                raise NothingToRetry("no document of this job has failed")
            take(len(failed))
            return self.jobs.add(connection, failed, job.kind)

    def cancel(self, job_id: str) -> bool:
        """Cancel a job: documents of it that are not ready yet are removed, those that were to be replaced stay as
        they are. False when it had ended before.

        All in one transaction: the same content sent meanwhile is either in another job, which keeps it, or is new.
        """
        with self._database.write() as connection:
            cancelled = self.jobs.cancel(connection, job_id)
            if cancelled is None:
                return False
            if cancelled.kind == "replace":
                self._corpus.discard(connection, [Upload(each, replaces=True) for each in cancelled.undone])
            else:
                self._corpus.discard(connection, map(Upload, cancelled.orphaned))
                for document_id in cancelled.replaced:  # new content waits for it, which keeps it
                    self._corpus.fail(connection, document_id, "Its ingestion was cancelled.")
        self._backlog.note(self._tenant_id, self.jobs.pending())
        return True

    # What the worker asks for

    def next_step(self) -> Step | None:
        while (found := self.jobs.next_items(_BATCH_DOCUMENTS)) is not None:
            job_id, kind, items = found
            first = items[0]
            if self._crashes(job_id, first) < _CRASHES:
                return self._step(job_id, kind, items)
            self._give_up(job_id, kind, [first.document_id], _CRASH_REASON)
        self.activity.end()
        self._backlog.note(self._tenant_id, 0)
        return None

    def do(self, step: Step) -> None:
        new = [each for each in step.document_ids if (step.job_id, each) not in self._begun]
        if new:
            self.jobs.begin(step.job_id, new)
            self._begun |= {(step.job_id, each) for each in new}
        reading = step.lane == "reading"
        self.activity.tell(Activity(step.job_id, "parsing" if reading else "embedding", bytes=step.bytes))
        self._keep_pace(step.job_id)
        uploads = [Upload(each, step.kind == "replace") for each in step.document_ids]
        if reading:
            outcomes = self._corpus.read(uploads, self._parser, self._should_stop(step))
        else:
            outcomes = self._corpus.embed(uploads, self._should_stop(step), self._show(step))
        if step.suspect and "staged" in outcomes.values():
            self.jobs.went_on(step.job_id, step.document_ids[0])
        self._conclude(step.job_id, outcomes)

    def isolate(self, step: Step) -> None:
        self._alone |= {(step.job_id, each) for each in step.document_ids}

    def give_up(self, step: Step, reason: str) -> None:
        self._give_up(step.job_id, step.kind, step.document_ids, reason)

    def fail(self, step: Step, reason: str) -> None:
        self.jobs.fail(step.job_id, reason)
        self._give_up(step.job_id, step.kind, self.jobs.documents(step.job_id), reason)

    def wait(self, step: Step, reason: str) -> None:
        self.activity.tell(Activity(step.job_id, "waiting", bytes=step.bytes, detail=reason))

    def settle(self) -> bool:
        if self._directory.beside_rows:
            return self._settle_among_others()
        with self._unfinished:
            if self.jobs.next_items(1) is not None:
                return False
            if not self.jobs.has_unfinished():  # a task's worker wakes this one again at its end
                self._directory.mark_finished(self._tenant_id)
            return True

    def _settle_among_others(self) -> bool:
        """As `settle`, while other processes add jobs: each of them says so in the transaction that adds one."""
        with self._database.write() as connection:
            if not self.jobs.has_unfinished(connection):
                self._directory.mark_finished(self._tenant_id, connection)
                return True
        return self.jobs.next_items(1) is None

    def is_idle(self) -> bool:
        return self.jobs.next_items(1) is None and self.jobs.has_unfinished()

    @contextmanager
    def adding(self) -> Iterator[Connection]:
        """A write transaction that adds jobs, so that a restart, or another process, opens this tenant."""
        if self._directory.beside_rows:
            with self._unfinished, self._database.write() as connection:
                self._directory.mark_unfinished(self._tenant_id, connection)
                yield connection
        else:
            with self.opened_after_a_crash(), self._database.write() as connection:
                yield connection

    @contextmanager
    def opened_after_a_crash(self) -> Iterator[None]:
        """Should the process end within the block, the next start opens this tenant."""
        with self._unfinished:
            self._directory.mark_unfinished(self._tenant_id)
            yield

    def leave(self) -> None:
        if self._begun:
            self.jobs.leave(list(self._begun))
            self._begun.clear()

    def lose(self) -> None:
        self._begun.clear()
        self._alone.clear()
        self.activity.end()

    @contextmanager
    def _accepting(self, max_pending: int) -> Iterator[tuple[Connection, Callable[[int], None]]]:
        """A write transaction that adds documents to do, and what takes room for so many or raises TooManyPending."""
        with self.adding() as connection:
            pending = self.jobs.pending(connection)
            taken = 0

            def take(documents: int) -> None:
                nonlocal taken
                taken += documents
                if pending + taken > max_pending:
                    raise TooManyPending(
                        f"At most {max_pending} documents may wait to be ingested; send these again when jobs have "
                        "ended.",
                        seconds=10,
                    )
                if not self._backlog.has_room(taken):
                    raise TooManyPending(
                        "The service has too many documents to ingest; send these again later.", seconds=30
                    )

            yield connection, take
        self._backlog.note(self._tenant_id, pending + taken)

    def _refuse_over_quota(self, connection: Connection) -> None:
        """Raise QuotaExceeded when the open transaction would leave the tenant more than it may have."""
        limits = self._limits()
        if limits.documents is None and limits.bytes is None:
            return
        documents, size = self._corpus.held(connection)
        if limits.documents is not None and documents > limits.documents:
            raise QuotaExceeded(
                "documents",
                limits.documents,
                documents,
                "Nothing was stored. Delete documents first, or ask the service's admin for more.",
            )
        if limits.bytes is not None and size > limits.bytes:
            raise QuotaExceeded(
                "bytes",
                limits.bytes,
                size,
                "Nothing was stored. Delete documents first, or ask the service's admin for more.",
            )

    def _crashes(self, job_id: str, item: JobItem) -> int:
        """Earlier processes that ended while they worked on a document."""
        return item.attempts - ((job_id, item.document_id) in self._begun)

    def _step(self, job_id: str, kind: JobKind, items: Sequence[JobItem]) -> Step:
        """The first documents, as many as can share a step: many small ones share the cost of a transaction and of a
        padded batch, a large one holds up nobody behind it."""
        staged = self._corpus.staged([Upload(item.document_id, kind == "replace") for item in items])
        chosen: list[JobItem] = []
        budget = _BATCH_BYTES
        for item, is_staged in zip(items, staged, strict=True):
            alone = self._crashes(job_id, item) > 0 or (job_id, item.document_id) in self._alone
            budget -= 0 if is_staged else item.bytes  # the corpus itself takes no more than a portion of chunks
            if chosen and (alone or is_staged != staged[0] or budget < 0):
                break
            chosen.append(item)
            if alone:
                break
        return Step(
            job_id,
            kind,
            "embedding" if staged[0] else "reading",
            tuple(item.document_id for item in chosen),
            sum(item.bytes for item in chosen),
            suspect=self._crashes(job_id, chosen[0]) > 0,
        )

    def _should_stop(self, step: Step) -> Callable[[], bool]:
        def should_stop() -> bool:
            goes_on = not self._stopping.is_set() and self._replicas.holds(self._tenant_id, "documents")
            return not goes_on or not self.jobs.is_running(step.job_id)

        return should_stop

    def _show(self, step: Step) -> Callable[[int, int], None]:
        def show(done: int, total: int) -> None:
            stage: Literal["embedding", "storing"] = "storing" if done == total else "embedding"
            self.activity.tell(Activity(step.job_id, stage, done, total, step.bytes))

        return show

    def _conclude(self, job_id: str, outcomes: Mapping[Upload, Outcome]) -> None:
        done = [upload for upload, outcome in outcomes.items() if outcome in ("ready", "failed", "gone")]
        if not done:
            return
        failed = next((upload for upload in done if upload.replaces and outcomes[upload] == "failed"), None)
        replacement = self._corpus.replacements([failed.document_id]).get(failed.document_id) if failed else None
        self._done(job_id, [upload.document_id for upload in done], replacement.error if replacement else None)
        if any(upload.replaces and outcomes[upload] == "ready" for upload in done):
            self.on_replaced()

    def _give_up(self, job_id: str, kind: JobKind, document_ids: Sequence[str], reason: str) -> None:
        for document_id in document_ids:
            self._corpus.give_up(Upload(document_id, kind == "replace"), reason)
        self._done(job_id, document_ids, reason if kind == "replace" else None)

    def _done(self, job_id: str, document_ids: Sequence[str], error: str | None) -> None:
        self.jobs.documents_done(job_id, document_ids, error)
        self._begun -= {(job_id, document_id) for document_id in document_ids}
        self._alone -= {(job_id, document_id) for document_id in document_ids}
        self._backlog.note(self._tenant_id, self.jobs.pending())

    def _keep_pace(self, job_id: str) -> None:
        if not self.activity.keeps_pace(job_id) and (job := self.jobs.get(job_id)) is not None:
            self.activity.keep_pace(job)
