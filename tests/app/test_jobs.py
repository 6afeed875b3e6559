"""Jobs as rows and as work: the order, what a crash leaves, and who suffers from a poisoned document."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from app.jobs import JOB_MIGRATIONS, JobStore, JobWorker
from ingest import Database, IndexMismatch


class Owner:
    """A tenant whose documents are only names; some of them fail."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.jobs = JobStore(database)
        self.done: list[str] = []
        self.abandoned: dict[str, str] = {}
        self.errors: dict[str, Exception] = {}

    def add(self, *documents: str) -> str:
        with self.database.write() as connection:
            return self.jobs.add(connection, documents)

    def process(self, job_id: str, document_ids: Sequence[str]) -> None:
        for document_id in document_ids:
            if document_id in self.errors:
                raise self.errors[document_id]
        self.done += document_ids
        self.jobs.documents_done(job_id, document_ids)

    def abandon(self, job_id: str, document_ids: Sequence[str], reason: str) -> None:
        self.abandoned |= dict.fromkeys(document_ids, reason)
        self.jobs.documents_done(job_id, document_ids)

    def settle(self) -> bool:
        return self.jobs.next_documents(1) is None


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[Owner]:
    database = Database(tmp_path / "jobs.db", {"jobs": JOB_MIGRATIONS})
    yield Owner(database)
    database.close()


def work(owner: Owner, *job_ids: str) -> None:
    """Run a worker until the jobs have ended."""
    worker = JobWorker({"t": owner}.get)
    worker.start()
    worker.wake("t")
    deadline = time.monotonic() + 20
    while any((job := owner.jobs.get(j)) is None or job.ended_at is None for j in job_ids):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    worker.stop()


def test_jobs_are_done_oldest_first_and_end_with_their_last_document(owner: Owner) -> None:
    first, second = owner.add("a", "b"), owner.add("c")
    job = owner.jobs.get(first)
    assert job is not None
    assert (job.state, job.done, job.total) == ("queued", 0, 2)
    work(owner, first, second)
    assert owner.done == ["a", "b", "c"]
    job = owner.jobs.get(first)
    assert job is not None
    assert (job.state, job.done) == ("succeeded", 2)


def test_a_poisoned_document_fails_alone(owner: Owner) -> None:
    owner.errors = {"b": ZeroDivisionError()}
    job_id = owner.add("a", "b", "c")
    work(owner, job_id)
    assert owner.done == ["a", "c"]
    assert list(owner.abandoned) == ["b"]
    assert "ZeroDivisionError" in owner.abandoned["b"]


def test_what_no_document_can_help_fails_the_job_with_its_reason(owner: Owner) -> None:
    owner.errors = {"a": IndexMismatch("embedded with another model")}
    job_id = owner.add("a", "b")
    work(owner, job_id)
    job = owner.jobs.get(job_id)
    assert job is not None
    assert (job.state, job.error) == ("failed", "embedded with another model")
    assert set(owner.abandoned) == {"a", "b"}


def test_a_full_disk_delays_a_job_and_loses_nothing(owner: Owner) -> None:
    owner.errors = {"a": OSError(28, "No space left on device")}
    job_id = owner.add("a")
    threading.Timer(0.5, owner.errors.clear).start()
    work(owner, job_id)
    assert owner.done == ["a"]


def test_a_cancelled_job_names_only_documents_no_other_job_waits_for(owner: Owner) -> None:
    first, second = owner.add("a", "b"), owner.add("b", "c")
    with owner.database.write() as connection:
        assert owner.jobs.cancel(connection, first) == ["a"]
        assert owner.jobs.cancel(connection, first) is None
    found = owner.jobs.next_documents(10)
    assert found == (second, ["b", "c"])


def test_unfinished_work_is_found_again_after_a_restart(owner: Owner, tmp_path: Path) -> None:
    job_id = owner.add("a", "b")
    owner.jobs.start(job_id)
    owner.jobs.documents_done(job_id, ["a"])
    again = JobStore(Database(tmp_path / "jobs.db", {"jobs": JOB_MIGRATIONS}))
    assert again.next_documents(10) == (job_id, ["b"])
    assert again.pending() == 1
