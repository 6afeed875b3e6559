"""Jobs as rows: the order, what a crash leaves, what cancelling leaves; and how many may wait."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.jobs import JOB_MIGRATIONS, Backlog, JobKind, JobStore
from ingest import Database, SqliteDatabase


@pytest.fixture
def jobs(database: Database) -> JobStore:
    return JobStore(database)


def add(jobs: JobStore, *documents: str, kind: JobKind = "ingest") -> str:
    with jobs._database.write() as connection:
        return jobs.add(connection, dict.fromkeys(documents, 100), kind)


def test_jobs_are_done_oldest_first_and_end_with_their_last_document(jobs: JobStore) -> None:
    first, second = add(jobs, "a", "b"), add(jobs, "c")
    job = jobs.get(first)
    assert job is not None
    assert (job.state, job.done, job.total, job.bytes_done, job.bytes) == ("queued", 0, 2, 0, 200)
    jobs.begin(first, ["a", "b"])
    jobs.documents_done(first, ["a"])
    found = jobs.next_items(10)
    assert found is not None
    assert (found[0], [item.document_id for item in found[2]]) == (first, ["b"])
    jobs.documents_done(first, ["b"])
    job = jobs.get(first)
    assert job is not None
    assert (job.state, job.done, job.bytes_done, job.error) == ("succeeded", 2, 200, None)
    following = jobs.next_items(10)
    assert following is not None
    assert following[0] == second


def test_jobs_are_listed_newest_first_in_pages_and_by_state(jobs: JobStore) -> None:
    ids = [add(jobs, f"d{n}") for n in range(5)]
    jobs.documents_done(ids[1], ["d1"])
    page, total = jobs.page(2, 1)
    assert ([job.id for job in page], total) == ([ids[3], ids[2]], 5)
    assert [job.id for job in jobs.page(10, 0, "succeeded")[0]] == [ids[1]]


def test_a_cancelled_job_names_only_documents_no_other_job_waits_for(jobs: JobStore, database: Database) -> None:
    first, second, third = add(jobs, "a", "b", "c"), add(jobs, "b"), add(jobs, "c", kind="replace")
    with database.write() as connection:
        cancelled = jobs.cancel(connection, first)
        assert cancelled is not None
        assert (cancelled.undone, cancelled.orphaned, cancelled.replaced) == (["a", "b", "c"], ["a"], ["c"])
        assert jobs.cancel(connection, first) is None
    assert [job.id for job in jobs.page(10, 0, "queued")[0]] == [third, second]


def test_unfinished_work_and_who_began_it_is_known_after_a_restart(jobs: JobStore, database: Database) -> None:
    job_id = add(jobs, "a", "b", "c")
    jobs.begin(job_id, ["a", "b"])
    jobs.documents_done(job_id, ["a"])
    again = JobStore(database)
    found = again.next_items(10)
    assert found is not None
    assert [(item.document_id, item.attempts) for item in found[2]] == [("b", 1), ("c", 0)]
    assert again.pending() == 2


def test_newer_content_ends_the_job_of_the_older(jobs: JobStore, database: Database) -> None:
    first = add(jobs, "a", kind="replace")
    with database.write() as connection:
        assert jobs.replacing(connection, "a") == first
        jobs.supersede(connection, "a")
        assert jobs.replacing(connection, "a") is None
    job = jobs.get(first)
    assert job is not None
    assert job.state == "cancelled"
    assert "Newer content" in (job.error or "")


def test_a_data_folder_of_the_first_version_is_brought_up_to_date(tmp_path: Path) -> None:
    old = SqliteDatabase(tmp_path / "old.db", {"jobs": JOB_MIGRATIONS[:1]})
    with old.write() as connection:
        connection.execute("INSERT INTO jobs (id, kind, state, created_at) VALUES ('j', 'ingest', 'running', 1.0)")
        connection.execute("INSERT INTO job_documents (job_id, position, document_id) VALUES ('j', 0, 'd')")
    old.close()
    found = JobStore(SqliteDatabase(tmp_path / "old.db", {"jobs": JOB_MIGRATIONS})).next_items(10)
    assert found is not None
    assert found[0] == "j"


def test_all_tenants_together_may_only_let_so_many_documents_wait() -> None:
    backlog = Backlog(10)
    backlog.note("a", 6)
    backlog.note("b", 3)
    assert backlog.has_room(1)
    assert not backlog.has_room(2)
    backlog.note("a", 0)
    backlog.forget("b")
    assert backlog.has_room(10)
