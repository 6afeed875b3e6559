"""A tenant's documents on their way, over a real database and index: crashes, replacements, retries, fairness."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from app.ingestion import Ingestion, TooManyPending
from app.job_worker import JobWorker
from app.jobs import JOB_MIGRATIONS, Backlog, Job
from app.tenants import CENTRAL_MIGRATIONS, TenantDirectory
from ingest import (
    DOCUMENT_MIGRATIONS,
    Corpus,
    NewDocument,
    NothingToRetry,
    ParsedDocument,
    SameContentElsewhere,
    SqliteDatabase,
    UnknownDocument,
    UnreadableDocument,
    parse,
)
from tests.ingest.hashing_embedder import HashingEmbedder

OLD, NEW, NEWEST = (f"The ferry leaves at {hour} o'clock from the {pier} pier." for hour, pier in
                    (("seven", "north"), ("eight", "south"), ("nine", "west")))  # fmt: skip
LONG = "\n\n".join(f"Paragraph {n} tells of ship{n}. " + "It sails. " * 60 for n in range(150))


class Killed(BaseException):
    """Stands for the end of the process: nothing after it is done."""


class ScriptedEmbedder(HashingEmbedder):
    """Acts before each batch; counts what it embeds."""

    def __init__(self) -> None:
        super().__init__()
        self.embedded = 0
        self.before: Callable[[Sequence[str]], None] = lambda texts: None

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.before(texts)
        self.embedded += len(texts)
        return super().encode(texts)


class InProcessParser:
    def parse(self, name: str, content: bytes) -> ParsedDocument:
        return parse(name, content)


class Tenant:
    """A tenant's ingestion over a folder; `restart` is the next process."""

    def __init__(self, folder: Path, most: int = 10_000) -> None:
        self.folder, self.most = folder, most
        self.embedder = ScriptedEmbedder()
        self.start()

    def start(self) -> None:
        self.stopping = threading.Event()
        migrations = {"documents": DOCUMENT_MIGRATIONS, "jobs": JOB_MIGRATIONS}
        self.database = SqliteDatabase(self.folder / "tenant.db", migrations)
        self.directory = TenantDirectory(SqliteDatabase(self.folder / "central.db", CENTRAL_MIGRATIONS))
        if not self.directory.tenants():
            self.directory.create("tenant")
        self.id = self.directory.tenants()[0].id
        self.corpus = Corpus(self.database, self.embedder)
        self.ingestion = Ingestion(
            self.id, self.database, self.corpus, self.directory, Backlog(self.most), InProcessParser(), self.stopping
        )
        self.jobs = self.ingestion.jobs

    def restart(self) -> None:
        self.close()
        self.start()

    def close(self) -> None:
        self.database.close()
        self.directory.close()

    def add(self, *texts: str, is_text: bool = True) -> tuple[str, list[str]]:
        documents = [NewDocument(None, f"{n}.txt", text.encode(), is_text=is_text) for n, text in enumerate(texts)]
        job_id, added = self.ingestion.add(documents, self.most)
        return job_id, [each.id for each in added]

    def replace(self, document_id: str, text: str, **fields: object) -> str:
        new = NewDocument(**{"title": None, "name": "new.txt", "content": text.encode(), "is_text": True} | fields)  # type: ignore[arg-type]
        return self.ingestion.replace(document_id, new, self.most)[0]

    def step(self) -> bool:
        step = self.ingestion.next_step()
        if step is not None:
            self.ingestion.do(step)
        return step is not None

    def work(self) -> None:
        while self.step():
            pass

    def job(self, job_id: str) -> Job:
        job = self.jobs.get(job_id)
        assert job is not None
        return job

    def found(self, query: str = "When does the ferry leave?") -> list[str]:
        return [passage.text for passage in self.corpus.search(query, 5)]

    def rows(self) -> dict[str, int]:
        with self.database.read() as connection:
            tables = ("staged", "staged_chunks", "staged_vectors", "replacements", "texts", "chunks", "vectors")
            return {t: connection.execute(f"SELECT count(*) FROM {t}").fetchone()[0] for t in tables}


@pytest.fixture
def tenant(tmp_path: Path) -> Iterator[Tenant]:
    tenant = Tenant(tmp_path)
    yield tenant
    tenant.close()


def test_documents_are_read_then_embedded_and_nothing_stays_behind(tenant: Tenant) -> None:
    job_id, ids = tenant.add(OLD, LONG)
    tenant.work()
    assert tenant.job(job_id).state == "succeeded"
    assert [tenant.corpus.document(each).status for each in ids] == ["ready", "ready"]
    rows = tenant.rows()
    assert rows["chunks"] == rows["vectors"] == tenant.corpus.counts().chunks
    assert rows["staged"] == rows["staged_chunks"] == rows["staged_vectors"] == 0
    assert tenant.ingestion.settle()


def test_a_large_document_tells_how_many_of_its_chunks_are_embedded(tenant: Tenant) -> None:
    job_id, _ = tenant.add(LONG)
    seen = []
    while tenant.step():
        activity = tenant.ingestion.activity.of(tenant.job(job_id))
        if activity is not None and activity.total:
            seen.append((activity.stage, activity.done, activity.total))
            eta = tenant.ingestion.activity.eta_seconds(tenant.job(job_id))
            assert eta is not None or activity.done == activity.total
    assert [done for _, done, _ in seen][:2] == [64, 128]
    assert len({total for _, _, total in seen}) == 1
    assert seen[0][0] == "embedding"


def test_a_document_goes_on_where_a_crash_stopped_it(tenant: Tenant) -> None:
    job_id, ids = tenant.add(LONG)
    for _ in range(3):  # read, embed two portions
        tenant.step()
    before = tenant.embedder.embedded
    assert before == 128
    tenant.restart()
    tenant.work()
    assert tenant.job(job_id).state == "succeeded"
    assert tenant.embedder.embedded == tenant.corpus.document(ids[0]).chunks
    whole = Corpus(tenant.database, HashingEmbedder())
    assert whole.search("ship77", 1)[0].text.startswith("Paragraph 77 ")


def test_vectors_of_another_model_are_not_gone_on_with(tenant: Tenant) -> None:
    tenant.add(LONG)
    tenant.step()
    tenant.step()
    tenant.embedder.fingerprint = "another"
    tenant.restart()
    tenant.work()
    assert tenant.embedder.embedded == 64 + tenant.corpus.counts().chunks
    assert tenant.rows()["staged_vectors"] == 0


def kill_on(tenant: Tenant, word: str) -> None:
    def before(texts: Sequence[str]) -> None:
        if any(word in text for text in texts):
            raise Killed

    tenant.embedder.before = before


def test_a_document_that_ends_the_service_twice_fails_alone_and_can_be_retried(tenant: Tenant) -> None:
    job_id, ids = tenant.add(OLD, "This one is poison.", NEW)
    kill_on(tenant, "poison")
    crashes = 0
    while crashes < 5:
        try:
            tenant.work()
            break
        except Killed:
            crashes += 1
            tenant.restart()
    assert crashes == 2
    assert [tenant.corpus.document(each).status for each in ids] == ["ready", "failed", "ready"]
    assert "ended 2 times" in (tenant.corpus.document(ids[1]).error or "")
    assert tenant.job(job_id).state == "succeeded"
    tenant.embedder.before = lambda texts: None
    again = tenant.ingestion.retry_job(tenant.job(job_id), 10)
    tenant.work()
    assert tenant.job(again).total == 1
    assert tenant.corpus.document(ids[1]).status == "ready"
    with pytest.raises(NothingToRetry):
        tenant.ingestion.retry_job(tenant.job(job_id), 10)


def test_a_large_document_that_comes_further_each_time_is_not_given_up(tenant: Tenant) -> None:
    _, ids = tenant.add(LONG)
    for _ in range(4):
        tenant.restart()
        tenant.step()
    tenant.work()
    assert tenant.corpus.document(ids[0]).status == "ready"


def test_an_orderly_end_is_not_held_against_a_document(tenant: Tenant) -> None:
    job_id, ids = tenant.add(OLD)
    for _ in range(4):
        tenant.jobs.begin(job_id, ids)
        tenant.ingestion._begun.add((job_id, ids[0]))
        tenant.ingestion.leave()
        tenant.restart()
    tenant.work()
    assert tenant.corpus.document(ids[0]).status == "ready"


def test_content_is_replaced_in_one_step_and_the_id_stays(tenant: Tenant) -> None:
    _, (document_id,) = tenant.add(OLD)
    tenant.work()
    assert tenant.found() == [OLD]
    chunk_id = tenant.corpus.chunks(document_id)[0][0].id
    job_id = tenant.replace(document_id, NEW, title="Timetable", metadata={"year": 2026})
    assert tenant.job(job_id).kind == "replace"
    assert tenant.corpus.replacements([document_id])[document_id].status == "pending"
    tenant.step()
    assert tenant.found() == [OLD] == [tenant.corpus.text(document_id)]
    tenant.work()
    assert tenant.found() == [NEW] == [tenant.corpus.text(document_id)]
    document = tenant.corpus.document(document_id)
    assert (document.title, document.metadata, document.bytes) == ("Timetable", {"year": 2026}, len(NEW))
    assert tenant.corpus.chunks(document_id)[0][0].id != chunk_id
    assert tenant.corpus.replacements([document_id]) == {}
    rows = tenant.rows()
    assert rows.pop("chunks") == rows.pop("vectors") == rows.pop("texts") == 1
    assert set(rows.values()) == {0}
    tenant.corpus.release()
    assert tenant.found() == [NEW]


def test_a_failed_replacement_leaves_the_old_content_and_says_why(tenant: Tenant) -> None:
    _, (document_id,) = tenant.add(OLD)
    tenant.work()
    job_id = tenant.replace(document_id, "\x00\x01binary", is_text=False)
    tenant.work()
    job, failed = tenant.job(job_id), tenant.corpus.replacements([document_id])[document_id]
    assert (job.state, failed.status) == ("failed", "failed")
    assert job.error == failed.error
    assert "binary" in (job.error or "")
    assert tenant.found() == [OLD]
    assert tenant.corpus.document(document_id).status == "ready"
    again = tenant.ingestion.retry_document(document_id, 10)
    tenant.work()
    assert tenant.job(again).state == "failed"
    tenant.replace(document_id, NEW)
    tenant.work()
    assert tenant.found() == [NEW]


def test_of_several_replacements_the_newest_wins(tenant: Tenant) -> None:
    _, (document_id,) = tenant.add(OLD)
    tenant.work()
    first = tenant.replace(document_id, LONG)
    tenant.step()
    tenant.step()
    second = tenant.replace(document_id, NEWEST)
    assert tenant.replace(document_id, NEWEST) == second
    tenant.work()
    assert [tenant.job(each).state for each in (first, second)] == ["cancelled", "succeeded"]
    assert tenant.found() == [NEWEST]
    assert tenant.rows()["staged_chunks"] == 0


def test_newer_content_that_comes_during_a_step_wins_too(tenant: Tenant) -> None:
    _, (document_id,) = tenant.add(OLD)
    tenant.work()
    tenant.replace(document_id, NEW)
    tenant.step()
    sent: list[str] = []

    def before(texts: Sequence[str]) -> None:
        if not sent:
            sent.append(tenant.replace(document_id, NEWEST))

    tenant.embedder.before = before
    tenant.work()
    assert tenant.found() == [NEWEST]
    assert tenant.job(sent[0]).state == "succeeded"


def test_the_content_a_document_has_is_no_work_but_its_metadata_counts(tenant: Tenant) -> None:
    _, (document_id,) = tenant.add(OLD)
    tenant.work()
    before = tenant.embedder.embedded
    tenant.replace(document_id, NEW)
    new = NewDocument(None, "0.txt", OLD.encode(), {"year": 1}, is_text=True)
    job_id, replaced = tenant.ingestion.replace(document_id, new, 10)
    assert replaced.duplicate
    tenant.work()
    assert tenant.job(job_id).state == "succeeded"
    assert tenant.embedder.embedded == before
    assert tenant.found() == [OLD]
    assert tenant.corpus.document(document_id).metadata == {"year": 1}
    assert tenant.corpus.replacements([document_id]) == {}


def test_content_another_document_has_is_refused_also_when_it_comes_later(tenant: Tenant) -> None:
    _, (one, two) = tenant.add(OLD, NEW)
    tenant.work()
    with pytest.raises(SameContentElsewhere) as refused:
        tenant.replace(one, NEW)
    assert refused.value.document_id == two
    job_id = tenant.replace(one, NEWEST)
    tenant.add(NEWEST)
    tenant.work()
    assert tenant.job(job_id).state == "failed"
    assert "has this content already" in (tenant.job(job_id).error or "")
    assert tenant.corpus.text(one) == OLD
    assert tenant.corpus.counts().documents == 3


def test_deleting_wins_over_replacing_at_every_moment(tenant: Tenant) -> None:
    for moment in range(3):
        _, (document_id,) = tenant.add(OLD)
        tenant.work()
        job_id = tenant.replace(document_id, NEW)
        for _ in range(moment):
            tenant.step()
        if moment < 2:
            tenant.corpus.delete(document_id)
        else:
            tenant.embedder.before = lambda texts, gone=document_id: tenant.corpus.delete(gone)  # type: ignore[misc]
            tenant.replace(document_id, NEWEST)
        tenant.work()
        tenant.embedder.before = lambda texts: None
        assert tenant.job(job_id).ended_at is not None
        with pytest.raises(UnknownDocument):
            tenant.replace(document_id, NEWEST)
        assert tenant.found() == []
        assert set(tenant.rows().values()) == {0}


def test_a_cancelled_replacement_leaves_the_document_as_it_is(tenant: Tenant) -> None:
    _, (document_id,) = tenant.add(OLD)
    tenant.work()
    job_id = tenant.replace(document_id, LONG)
    tenant.step()
    tenant.step()
    assert tenant.ingestion.cancel(job_id)
    tenant.work()
    assert tenant.found() == [OLD]
    assert tenant.rows()["staged_chunks"] == tenant.rows()["replacements"] == 0


def test_content_that_waits_outlives_the_cancelled_job_of_its_document(tenant: Tenant) -> None:
    ingest, (document_id,) = tenant.add(OLD)
    tenant.replace(document_id, NEW)
    tenant.ingestion.cancel(ingest)
    assert tenant.corpus.document(document_id).status == "failed"
    tenant.work()
    assert tenant.found() == [NEW]
    assert tenant.corpus.document(document_id).status == "ready"


def test_no_search_misses_a_document_while_it_is_replaced(tenant: Tenant) -> None:
    _, (document_id,) = tenant.add(OLD)
    tenant.work()
    finished, missed, seen = threading.Event(), [], set()

    def search() -> None:
        while not finished.is_set():
            found = tenant.corpus.search("When does the ferry leave?", 3)
            if len(found) != 1:
                missed.append(found)
            seen.update(passage.text for passage in found)

    searchers = [threading.Thread(target=search) for _ in range(3)]
    for thread in searchers:
        thread.start()
    for number in range(60):
        tenant.replace(document_id, f"The ferry leaves at {number} from the pier.")
        tenant.work()
    finished.set()
    for thread in searchers:
        thread.join()
    assert missed == []
    assert len(seen) > 5


def test_only_what_failed_can_be_retried(tenant: Tenant) -> None:
    _, (document_id,) = tenant.add(OLD)
    with pytest.raises(NothingToRetry):
        tenant.ingestion.retry_document(document_id, 10)
    with pytest.raises(UnknownDocument):
        tenant.ingestion.retry_document("0" * 32, 10)


def test_a_failed_file_is_kept_and_tried_again_from_what_was_sent(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: str, content: bytes) -> ParsedDocument:
        raise UnreadableDocument("not today")

    parser = InProcessParser()
    monkeypatch.setattr(parser, "parse", refuse)
    tenant.ingestion._parser = parser
    _, (document_id,) = tenant.add(OLD, is_text=False)
    tenant.work()
    assert tenant.corpus.document(document_id).error == "not today"
    tenant.ingestion._parser = InProcessParser()
    tenant.ingestion.retry_document(document_id, 10)
    tenant.work()
    assert tenant.found() == [OLD]


def test_too_many_waiting_documents_are_refused_and_nothing_is_stored(tmp_path: Path) -> None:
    tenant = Tenant(tmp_path, most=2)
    tenant.add(OLD, NEW)
    with pytest.raises(TooManyPending) as refused:
        tenant.add(NEWEST)
    assert refused.value.seconds > 0
    with pytest.raises(TooManyPending, match="service"):
        tenant.ingestion.add([NewDocument(None, "n", NEWEST.encode(), is_text=True)], 100)
    assert tenant.corpus.counts().documents == 2
    tenant.work()
    tenant.add(NEWEST)
    tenant.close()


def test_a_small_document_of_another_tenant_gets_in_between_a_large_one(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    large, small = Tenant(tmp_path / "a"), Tenant(tmp_path / "b")
    large.embedder.before = lambda texts: time.sleep(0.1)
    large_job, _ = large.add(LONG)
    worker = JobWorker({"large": large.ingestion, "small": small.ingestion}.get)
    worker.start()
    worker.wake("large")
    while not large.embedder.embedded:
        time.sleep(0.01)
    small_job, _ = small.add(OLD)
    worker.wake("small")
    while small.job(small_job).ended_at is None:
        time.sleep(0.01)
    assert large.job(large_job).state == "running"
    while large.job(large_job).ended_at is None:
        time.sleep(0.01)
    worker.stop()
    for tenant in (large, small):
        tenant.close()
