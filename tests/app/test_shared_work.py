"""The jobs of many tenants, worked off by two processes on one database: shared, each once, and handed on."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing

import numpy as np
import pytest
from numpy.typing import NDArray

from app.database_replicas import DatabaseReplicas
from app.ingestion import Ingestion
from app.job_worker import JobWorker
from app.jobs import Backlog
from app.tenants import TenantDirectory
from ingest import Corpus, NewDocument
from ingest.postgres import PostgresServer
from tests.app.test_database_replicas import PATIENCE_S, lapse, within
from tests.app.test_ingestion import InProcessParser, ScriptedEmbedder
from tests.databases import ALL_TABLES, fresh_database


class Slow(ScriptedEmbedder):
    """Takes its time."""

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        time.sleep(0.02)
        return super().encode(texts)


class Process:
    """What one process has of the service."""

    def __init__(self, server: PostgresServer) -> None:
        self.server = server
        self.directory = TenantDirectory(server.database(None), beside_rows=True)
        self.replicas = DatabaseReplicas(server, "1")
        self.embedder = Slow()
        self.worker = JobWorker(self.owner, replicas=self.replicas)
        self.owners: dict[str, Ingestion] = {}
        self.lock = threading.Lock()

    def owner(self, tenant_id: str) -> Ingestion:
        with self.lock:
            if tenant_id not in self.owners:
                database = self.server.database(tenant_id)
                self.owners[tenant_id] = Ingestion(
                    tenant_id, database, Corpus(database, self.embedder), self.directory, Backlog(10_000),
                    InProcessParser(), self.worker.stopping, replicas=self.replicas,
                )  # fmt: skip
            return self.owners[tenant_id]

    def start(self, *, beats: bool = True) -> None:
        if beats:
            self.replicas.start(lambda *_: None, lambda queue, tenant_id: self.worker.wake(tenant_id))
        self.worker.start()

    def add(self, tenant_id: str, texts: Sequence[str]) -> str:
        documents = [NewDocument(None, "n", text.encode(), is_text=True) for text in texts]
        job_id, _ = self.owner(tenant_id).add(documents, 10_000)
        return job_id

    def state(self, tenant_id: str, job_id: str) -> str:
        job = self.owner(tenant_id).jobs.get(job_id)
        return "" if job is None else job.state


@pytest.fixture
def two(postgres_superuser: str) -> Iterator[tuple[Process, Process]]:
    with fresh_database(postgres_superuser) as url, closing(PostgresServer(url, ALL_TABLES)) as server:
        one, other = Process(server), Process(server)
        yield one, other
        for each in (one, other):
            each.worker.stop()
            each.replicas.stop()


def test_two_processes_share_the_tenants_and_do_each_document_once(two: tuple[Process, Process]) -> None:
    one, other = two
    tenants = [one.directory.create(f"tenant {n}")[0].id for n in range(6)]
    texts = [[f"Text {n} of tenant {t}. " + "More of it. " * 40 for n in range(66)] for t in range(6)]
    jobs = {tenant_id: one.add(tenant_id, own) for tenant_id, own in zip(tenants, texts, strict=True)}
    for process in (other, one):
        process.start()
    for tenant_id in tenants:
        one.worker.wake(tenant_id)
    assert within(60, lambda: {one.state(*each) for each in jobs.items()} == {"succeeded"})
    for tenant_id in tenants:
        assert one.owner(tenant_id)._corpus.counts().ready == 66
    assert within(PATIENCE_S, lambda: one.directory.unfinished() == [])
    assert min(one.embedder.embedded, other.embedder.embedded) > 0.1 * one.embedder.embedded
    assert one.embedder.embedded + other.embedder.embedded == 6 * 66


def test_a_process_that_was_held_up_disturbs_nothing_once_another_went_on(two: tuple[Process, Process]) -> None:
    one, other = two
    tenant_id = one.directory.create("tenant")[0].id
    held, goes_on = threading.Event(), threading.Event()

    def hold_up(_: Sequence[str]) -> None:
        held.set()
        goes_on.wait(30)

    one.embedder.before = hold_up
    one.start(beats=False)
    job_id = one.add(tenant_id, [f"Text {n}. " + "More of it. " * 40 for n in range(30)])
    one.worker.wake(tenant_id)
    assert held.wait(10)
    lapse(one.server, tenant_id)
    other.start()
    assert within(30, lambda: other.state(tenant_id, job_id) == "succeeded")
    goes_on.set()
    assert within(PATIENCE_S, lambda: one.worker._busy == {})
    assert other.owner(tenant_id)._corpus.counts().ready == 30
    documents, total = other.owner(tenant_id)._corpus.documents(limit=1000)
    assert (total, {each.status for each in documents}) == (30, {"ready"})
