"""Jobs: list, look, follow, cancel, try again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from fastapi import APIRouter
from fastapi.responses import StreamingResponse

from app.answering import language_warning
from app.ingestion import TooManyPending
from app.jobs import ENDED, Job, JobState
from app.problems import Problem, not_found
from app.routes.dependencies import CurrentService, CurrentWorkspace, JobId, Limit, Offset
from app.routes.questions import server_sent_event
from app.schemas import ChunkProgress, IngestedDocument, JobPage, JobResponse, JobSummary, Progress
from app.service import Service
from app.tasks import TASK_KINDS, Task
from app.workspace import Workspace
from ingest import UnknownDocument

router = APIRouter(prefix="/jobs", tags=["jobs"])
_POLL_SECONDS = 0.05
_SILENCE_SECONDS = 15.0  # proxies close a connection that says nothing
_TELLING = ("state", "progress", "stage", "chunks", "waiting_for", "loss", "warnings")


@router.get("")
async def jobs(
    workspace: CurrentWorkspace, limit: Limit = 100, offset: Offset = 0, state: JobState | None = None
) -> JobPage:
    """The tenant's jobs, newest first."""
    found, total = await asyncio.to_thread(workspace.jobs.page, limit, offset, state)
    summaries = [JobSummary(**_facts(workspace, each)) for each in found]
    return JobPage(total=total, offset=offset, limit=limit, jobs=summaries)


@router.get("/{job_id}")
async def job(job_id: JobId, workspace: CurrentWorkspace) -> JobResponse:
    """A job as it stands, with its documents."""
    return await asyncio.to_thread(job_response, workspace, job_id)


@router.get(
    "/{job_id}/events", response_class=StreamingResponse, responses={200: {"content": {"text/event-stream": {}}}}
)
async def events(job_id: JobId, workspace: CurrentWorkspace, service: CurrentService) -> StreamingResponse:
    """Server-sent events: `progress` whenever the job's state, stage or progress changes, `end` when it has ended."""
    first = await asyncio.to_thread(job_response, workspace, job_id)
    return StreamingResponse(
        _follow(workspace, service, first), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
    )


@router.post("/{job_id}/cancel")
async def cancel(job_id: JobId, workspace: CurrentWorkspace) -> JobResponse:
    """End a job: documents of it that were never ready are removed, one that was to be replaced stays as it is; a
    training makes no version.

    A job that has ended stays as it is.
    """
    await asyncio.to_thread(job_response, workspace, job_id)
    await asyncio.to_thread(workspace.ingestion.cancel, job_id)
    return await asyncio.to_thread(job_response, workspace, job_id)


@router.post("/{job_id}/retry", status_code=202)
async def retry(job_id: JobId, workspace: CurrentWorkspace, service: CurrentService) -> JobResponse:
    """Try the failed documents of a job again, in a new job, which is the answer."""
    found = await asyncio.to_thread(workspace.jobs.get, job_id)
    if found is None:
        raise not_found("job")
    if found.kind in TASK_KINDS:
        raise Problem(
            409, "nothing_to_retry", "Only documents are tried again; send the request that began this job again."
        )
    with refusing_overload():
        new_id = await asyncio.to_thread(workspace.ingestion.retry_job, found, service.settings.max_pending_documents)
    service.worker.wake(workspace.tenant_id)
    return await asyncio.to_thread(job_response, workspace, new_id)


@contextmanager
def refusing_overload() -> Iterator[None]:
    """Answer 429 when too many documents wait."""
    try:
        yield
    except TooManyPending as error:
        raise Problem(429, "too_many_pending", str(error), {"Retry-After": str(error.seconds)}) from error


def job_response(workspace: Workspace, job_id: str) -> JobResponse:
    """A job as clients see it. Raises the 404 of an unknown id."""
    found = workspace.jobs.get(job_id)
    if found is None:
        raise not_found("job")
    return JobResponse(**_facts(workspace, found), documents=document_states(workspace, found))


def _facts(workspace: Workspace, job: Job) -> dict[str, Any]:
    task = workspace.tasks.get(job.id) if job.kind in TASK_KINDS else None
    return {
        "id": job.id,
        "kind": job.kind,
        "state": job.state,
        "error": job.error,
        "created_at": job.created_at,
        "started_at": job.started_at,
        "ended_at": job.ended_at,
        **(_of_documents(workspace, job) if task is None else _of_task(task)),
    }


def _of_task(task: Task) -> dict[str, Any]:
    return {
        "progress": Progress(done=task.done, total=task.total, unit=task.unit),
        "stage": task.stage,
        "chunks": None,
        "eta_seconds": None if task.eta_seconds is None else round(task.eta_seconds, 1),
        "waiting_for": None,
        "request": {name: value for name, value in task.request.items() if name not in ("config", "base")},
        "loss": None if task.loss is None else round(task.loss, 5),
        "warnings": task.warnings,
        "result": task.result,
    }


def _of_documents(workspace: Workspace, job: Job) -> dict[str, Any]:
    activity = workspace.ingestion.activity.of(job)
    eta = workspace.ingestion.activity.eta_seconds(job)
    return {
        "progress": Progress(done=job.done, total=job.total),
        "stage": activity.stage if activity else None,
        "chunks": ChunkProgress(done=activity.done, total=activity.total) if activity and activity.total else None,
        "eta_seconds": None if eta is None else round(eta, 1),
        "waiting_for": activity.detail if activity else None,
        "loss": None,
        "warnings": [],
    }


def document_states(workspace: Workspace, job: Job) -> list[IngestedDocument]:
    """How each document of a job stands now; one that was deleted meanwhile says so.

    For new content of a document that is how the new content stands, not the one it is to replace.
    """
    states = states_of(workspace, workspace.jobs.documents(job.id))
    if job.kind == "replace":
        for state in states:
            if state.status == "deleted":
                continue
            if job.ended_at is None:
                state.status, state.error = "pending", None
            elif job.state == "failed":
                state.status, state.error = "failed", job.error
    return states


def states_of(workspace: Workspace, document_ids: Sequence[str]) -> list[IngestedDocument]:
    """How documents stand now, in the order of their ids."""
    states = []
    for document_id in document_ids:
        try:
            document = workspace.corpus.document(document_id)
        except UnknownDocument:
            states.append(IngestedDocument(id=document_id, title="", status="deleted"))
            continue
        states.append(
            IngestedDocument(
                id=document.id,
                title=document.title,
                status=document.status,
                error=document.error,
                warning=_warning(workspace, document_id) if document.status == "ready" else None,
            )
        )
    return states


def _warning(workspace: Workspace, document_id: str) -> str | None:
    chunks, _ = workspace.corpus.chunks(document_id, limit=1)
    return language_warning(chunks[0].text, "This document") if chunks and workspace.english_only else None


async def wait_until_ended(workspace: Workspace, service: Service, job_id: str) -> bool:
    """Wait until the job has ended: True; or until the service is about to stop: False."""
    while not service.draining.is_set():
        found = await asyncio.to_thread(workspace.jobs.get, job_id)
        if found is None or found.state in ENDED:
            return True
        await asyncio.sleep(_POLL_SECONDS)
    return False


async def _follow(workspace: Workspace, service: Service, told: JobResponse) -> AsyncIterator[str]:
    yield server_sent_event("progress", told.model_dump(mode="json"))
    spoke = time.monotonic()
    while told.state not in ENDED and not service.draining.is_set():
        await asyncio.sleep(_POLL_SECONDS)
        found = await asyncio.to_thread(workspace.jobs.get, told.id)
        if found is None:
            return
        facts = _facts(workspace, found)
        if any(facts[name] != getattr(told, name) for name in _TELLING):
            if (found.state, found.done) != (told.state, told.progress.done):
                told = await asyncio.to_thread(job_response, workspace, told.id)
            else:  # the documents stand as they did
                told = JobResponse(**facts, documents=told.documents)
            yield server_sent_event("progress", told.model_dump(mode="json"))
            spoke = time.monotonic()
        elif time.monotonic() - spoke > _SILENCE_SECONDS:
            yield ": still there\n\n"
            spoke = time.monotonic()
    if told.state in ENDED:
        yield server_sent_event("end", told.model_dump(mode="json"))
