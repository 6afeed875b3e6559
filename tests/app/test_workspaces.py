"""Many tenants on one machine: what is not used holds nothing, and is there again when asked for."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.ingestion import Ingestion
from app.jobs import Backlog
from app.life.answers import Retention
from app.tenant_folders import TenantFolders
from app.tenants import CENTRAL_MIGRATIONS, TenantDirectory
from app.workspace import Workspace, Workspaces
from ingest import Corpus, IndexOptions, NewDocument, ParserProcess, RetrievalOptions, SqliteDatabase
from tests.ingest.hashing_embedder import HashingEmbedder

MEBIBYTE = 1024**2


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[TenantDirectory]:
    directory = TenantDirectory(SqliteDatabase(tmp_path / "central.db", CENTRAL_MIGRATIONS))
    yield directory
    directory.close()


def workspaces(
    folder: Path,
    directory: TenantDirectory,
    budget: int,
    most_open: int,
    found_work: Callable[[str], None] = lambda _: None,
) -> Workspaces:
    parser = ParserProcess()

    def make(tenant_id: str, own: Path, resized: Callable[[], None]) -> Workspace:
        options = IndexOptions(on_resize=resized)
        return Workspace(
            tenant_id,
            own,
            lambda database: Corpus(database, HashingEmbedder(), index=options),
            lambda database, corpus: Ingestion(
                tenant_id, database, corpus, directory, Backlog(1000), parser, threading.Event()
            ),
            english_only=False,
            retrieval=RetrievalOptions(),
            retention=Retention(),
            wake_writer=lambda _: None,
            resized=resized,
        )

    return Workspaces(TenantFolders(folder / "tenants"), directory, make, budget, most_open, found_work=found_work)


def ingest(workspace: Workspace, text: str) -> None:
    with workspace.database.write() as connection:
        added = workspace.corpus.add(connection, NewDocument(None, "n", text.encode(), is_text=True))
    workspace.corpus.process(added.id, ParserProcess())


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize(("budget", "most_open"), [(1000 * MEBIBYTE, 4), (2 * MEBIBYTE, 1000)])
def test_the_least_recently_used_tenants_hold_nothing_and_still_answer(
    tmp_path: Path, directory: TenantDirectory, budget: int, most_open: int
) -> None:
    before = open_files()
    every = workspaces(tmp_path, directory, budget, most_open)
    tenants = [directory.create(f"tenant {number}")[0].id for number in range(30)]
    for number, tenant_id in enumerate(tenants):
        workspace = every.get(tenant_id)
        assert workspace is not None
        ingest(workspace, f"The secret of tenant {number}.")
        assert len(workspace.corpus.search("secret", 5)) == 1
    first, last = every.get(tenants[0]), every.get(tenants[-1])
    assert first is not None
    assert last is not None
    assert open_files() - before < 80
    assert sum(workspace.held_bytes() > 0 for workspace in every._open.values()) <= 6
    assert [found.text for found in first.corpus.search("secret", 5)] == ["The secret of tenant 0."]
    ingest(first, "A second secret.")
    assert len(first.corpus.search("secret", 5)) == 2
    every.close()


def test_a_database_that_a_late_write_opens_again_is_counted_again(tmp_path: Path, directory: TenantDirectory) -> None:
    every = workspaces(tmp_path, directory, 1000 * MEBIBYTE, most_open=1)
    late, other = (directory.create(name)[0].id for name in ("late", "other"))
    workspace = every.get(late)
    assert workspace is not None
    workspace.usage.add(questions=1)
    every.get(other)
    assert workspace.database.connections == 0
    assert workspace.usage.write_waiting()
    assert workspace.database.connections > 0
    every.get(other)
    every.get(other)
    assert workspace.database.connections == 0
    every.close()


def test_a_tenant_at_work_keeps_its_database(tmp_path: Path, directory: TenantDirectory) -> None:
    every = workspaces(tmp_path, directory, 1000 * MEBIBYTE, most_open=1)
    busy, other = (directory.create(name)[0].id for name in ("busy", "other"))
    workspace = every.get(busy)
    assert workspace is not None
    with workspace.database.write() as connection:
        workspace.corpus.add(connection, NewDocument(None, "n", b"text", is_text=True))
        every.get(other)
        assert workspace.database.connections > 0
    with workspace.database.read() as connection:
        every.get(other)
        assert connection.execute("SELECT count(*) FROM documents").fetchone()[0] == 1
    every.get(other)
    assert workspace.database.connections == 0
    every.close()


def test_jobs_that_the_central_database_does_not_know_of_are_found_when_their_tenant_is_opened(
    tmp_path: Path, directory: TenantDirectory
) -> None:
    """A commit that a disk refused may stand after a crash, when nobody expects it any more."""
    found: list[str] = []
    tenant_id = directory.create("late")[0].id
    every = workspaces(tmp_path, directory, 1000 * MEBIBYTE, most_open=10, found_work=found.append)
    workspace = every.get(tenant_id)
    assert workspace is not None
    assert found == []
    with workspace.database.write() as connection:
        workspace.jobs.add(connection, {"a" * 32: 1})
    every.close()
    assert directory.unfinished() == []
    every = workspaces(tmp_path, directory, 1000 * MEBIBYTE, most_open=10, found_work=found.append)
    every.get(tenant_id)
    assert found == [tenant_id]
    every.close()
