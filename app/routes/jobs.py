"""Jobs: look, follow, cancel."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from fastapi import APIRouter
from fastapi.responses import StreamingResponse

from app.answering import language_warning
from app.jobs import ENDED
from app.problems import not_found
from app.routes.dependencies import CurrentService, CurrentWorkspace
from app.routes.questions import server_sent_event
from app.schemas import IngestedDocument, JobResponse, Progress
from app.service import Service
from app.workspace import Workspace
from ingest import UnknownDocument

router = APIRouter(prefix="/jobs", tags=["jobs"])
_POLL_SECONDS = 0.05


@router.get("/{job_id}")
async def job(job_id: str, workspace: CurrentWorkspace) -> JobResponse:
    """A job as it stands, with its documents."""
    return await asyncio.to_thread(job_response, workspace, job_id)


@router.get("/{job_id}/events", response_class=StreamingResponse)
async def events(job_id: str, workspace: CurrentWorkspace, service: CurrentService) -> StreamingResponse:
    """Server-sent events: `progress` whenever the job changes, `end` when it has ended."""
    first = await asyncio.to_thread(job_response, workspace, job_id)
    return StreamingResponse(
        _follow(workspace, service, first), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
    )


@router.post("/{job_id}/cancel")
async def cancel(job_id: str, workspace: CurrentWorkspace) -> JobResponse:
    """End a job: documents of it that are not ready are removed. A job that has ended stays as it is."""
    await asyncio.to_thread(job_response, workspace, job_id)
    await asyncio.to_thread(workspace.cancel, job_id)
    return await asyncio.to_thread(job_response, workspace, job_id)


def job_response(workspace: Workspace, job_id: str) -> JobResponse:
    """A job as clients see it. Raises the 404 of an unknown id."""
    found = workspace.jobs.get(job_id)
    if found is None:
        raise not_found("job")
    return JobResponse(
        id=found.id,
        kind=found.kind,
        state=found.state,
        progress=Progress(done=found.done, total=found.total),
        error=found.error,
        created_at=found.created_at,
        ended_at=found.ended_at,
        documents=document_states(workspace, workspace.jobs.documents(job_id)),
    )


def document_states(workspace: Workspace, document_ids: Sequence[str]) -> list[IngestedDocument]:
    """How each document of a job stands now; one that was deleted meanwhile says so."""
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
    while told.state not in ENDED and not service.draining.is_set():
        await asyncio.sleep(_POLL_SECONDS)
        now = await asyncio.to_thread(workspace.jobs.get, told.id)
        if now is not None and (now.state, now.done) != (told.state, told.progress.done):
            told = await asyncio.to_thread(job_response, workspace, told.id)
            yield server_sent_event("progress", told.model_dump(mode="json"))
    if told.state in ENDED:
        yield server_sent_event("end", told.model_dump(mode="json"))
