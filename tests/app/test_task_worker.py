"""Tasks: done in turn, cancelled, gone on with after a restart, given up when they end the process; never lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from app.ingestion import Ingestion
from app.jobs import Backlog, Job
from app.life.answers import Retention
from app.task_worker import Control, TaskFailed, TaskFunction, TaskWorker
from app.tasks import Task, TooManyTasks
from app.tenants import CENTRAL_MIGRATIONS, TenantDirectory
from app.workspace import Workspace
from ingest import Corpus, ParserProcess, RetrievalOptions, SqliteDatabase
from tests.ingest.hashing_embedder import HashingEmbedder


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[TenantDirectory]:
    directory = TenantDirectory(SqliteDatabase(tmp_path / "central.db", CENTRAL_MIGRATIONS))
    yield directory
    directory.close()


@pytest.fixture
def workspace(tmp_path: Path, directory: TenantDirectory) -> Iterator[Workspace]:
    tenant, _ = directory.create("one")
    workspace = Workspace(
        tenant.id,
        tmp_path / tenant.id,
        lambda database: Corpus(database, HashingEmbedder()),
        lambda database, corpus: Ingestion(
            tenant.id, database, corpus, directory, Backlog(10), ParserProcess(), threading.Event()
        ),
        english_only=False,
        retrieval=RetrievalOptions(),
        retention=Retention(),
        wake_writer=lambda _: None,
    )
    yield workspace
    workspace.close()


def add(workspace: Workspace, steps: int = 3) -> str:
    return workspace.tasks.add("evaluate", {"steps": steps}, "steps", 10, total=steps)


def worker(workspace: Workspace, function: TaskFunction) -> TaskWorker:
    made = TaskWorker(
        lambda _: workspace, {"evaluate": function}, 1, ended=lambda _: workspace.ingestion.settle() and None
    )
    made.start()
    made.wake(workspace.tenant_id)
    return made


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def job(workspace: Workspace, job_id: str) -> Job:
    found = workspace.jobs.get(job_id)
    assert found is not None
    return found


def test_tasks_are_done_in_order_with_a_result_and_the_tenant_is_finished(
    workspace: Workspace, directory: TenantDirectory
) -> None:
    jobs = [add(workspace), add(workspace)]
    assert workspace.ingestion.settle()  # no documents wait, but a restart must still open this tenant
    assert directory.unfinished() == [workspace.tenant_id]
    done: list[str] = []

    def work(_: Workspace, task: Task, control: Control) -> Mapping[str, Any]:
        for step in range(task.request["steps"]):
            control.report("stepping", done=step + 1, total=task.request["steps"])
        done.append(task.job_id)
        return {"steps": task.request["steps"]}

    made = worker(workspace, work)
    wait_for(lambda: directory.unfinished() == [])
    made.stop()
    assert done == jobs
    task = workspace.tasks.get(jobs[0])
    assert task is not None
    assert (task.done, task.total, task.unit, task.stage, task.result) == (3, 3, "steps", None, {"steps": 3})
    assert job(workspace, jobs[0]).state == "succeeded"


def test_a_task_that_fails_says_why_and_the_next_one_is_done(workspace: Workspace) -> None:
    jobs = [add(workspace), add(workspace, 0), add(workspace)]

    def work(_: Workspace, task: Task, control: Control) -> Mapping[str, Any]:
        if task.job_id == jobs[0]:
            raise TaskFailed("the questions are too hard")
        return {"share": 1 / task.request["steps"]}

    made = worker(workspace, work)
    wait_for(lambda: job(workspace, jobs[2]).state == "succeeded")
    made.stop()
    assert job(workspace, jobs[0]).error == "the questions are too hard"
    assert "ZeroDivisionError" in str(job(workspace, jobs[1]).error)


def test_cancelling_stops_a_task_under_way(workspace: Workspace) -> None:
    job_id = add(workspace)
    begun, ended = threading.Event(), threading.Event()

    def work(_: Workspace, task: Task, control: Control) -> Mapping[str, Any]:
        begun.set()
        try:
            while True:
                control.check()
        finally:
            ended.set()

    made = worker(workspace, work)
    assert begun.wait(20)
    assert workspace.ingestion.cancel(job_id)
    assert ended.wait(20)
    made.stop()
    assert job(workspace, job_id).state == "cancelled"


def test_an_orderly_stop_leaves_a_task_to_the_next_start_and_blames_nobody(workspace: Workspace) -> None:
    job_id = add(workspace)
    for _ in range(5):  # more often than crashes are borne
        begun = threading.Event()

        def work(_: Workspace, task: Task, control: Control, begun: threading.Event = begun) -> Mapping[str, Any]:
            assert task.attempts == 0
            begun.set()
            while True:
                control.check()

        made = worker(workspace, work)
        assert begun.wait(20)
        made.stop()
        assert job(workspace, job_id).state == "running"


def test_a_task_that_ends_the_process_again_and_again_is_given_up(workspace: Workspace) -> None:
    job_id = add(workspace)
    for _ in range(3):  # as processes do that are killed then
        workspace.tasks.begin(job_id)
    made = worker(workspace, lambda *_: {})
    wait_for(lambda: job(workspace, job_id).state == "failed")
    made.stop()
    assert "ended 3 times" in str(job(workspace, job_id).error)


def test_only_so_many_tasks_of_a_kind_may_wait(workspace: Workspace) -> None:
    for _ in range(10):
        add(workspace)
    with pytest.raises(TooManyTasks):
        add(workspace)
    workspace.tasks.add("gate", {}, "steps", 10)
