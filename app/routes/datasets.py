"""Training sets: upload, list, look, delete."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, File, Form, Response, UploadFile

from adapters.errors import InvalidTrainingData
from app.dataset_upload import store_upload
from app.datasets import Dataset, check_dataset_name
from app.routes.dependencies import CurrentService, CurrentWorkspace, Limit, Offset, ReadyEngine
from app.routes.jobs import job_response
from app.schemas import JobResponse
from app.training_schemas import BuildRequest, DatasetName, DatasetPage, DatasetResponse, JudgeRequest

router = APIRouter(prefix="/datasets", tags=["training"])


@router.post("", status_code=201)
async def upload(
    file: Annotated[UploadFile, File(description="JSON Lines, or SQuAD JSON.")],
    workspace: CurrentWorkspace,
    service: CurrentService,
    response: Response,
    name: Annotated[DatasetName | None, Form(description="A name for it.")] = None,
) -> DatasetResponse:
    """Store a training set, checked line by line. The same content again answers the set that is there."""
    content = await file.read()
    dataset, is_new = await asyncio.to_thread(
        store_upload, workspace, file.filename or "file", content, name, generates=service.generates
    )
    if not is_new:
        response.status_code = 200
    return _response(dataset, duplicate=not is_new)


@router.get("")
async def datasets(workspace: CurrentWorkspace, limit: Limit = 100, offset: Offset = 0) -> DatasetPage:
    """The tenant's training sets, newest first."""
    found, total = await asyncio.to_thread(workspace.datasets.page, limit, offset)
    return DatasetPage(total=total, offset=offset, limit=limit, datasets=[_response(each) for each in found])


@router.post("/build", status_code=202)
async def build(
    body: BuildRequest, workspace: CurrentWorkspace, service: CurrentService, engine: ReadyEngine
) -> JobResponse:
    """Make a set from the tenant's own documents, in the background; another one of documents held out."""
    request = body.model_dump()
    for document_id in body.documents or ():
        await asyncio.to_thread(workspace.corpus.document, document_id)
    if body.name is not None:
        check_dataset_name(body.name)
    job_id = await asyncio.to_thread(
        workspace.tasks.add, "build_dataset", request, "documents", service.settings.max_pending_trainings
    )
    service.wake_tasks(workspace.tenant_id)
    return await asyncio.to_thread(job_response, workspace, job_id)


@router.post("/judge", status_code=202)
async def judge(
    body: JudgeRequest, workspace: CurrentWorkspace, service: CurrentService, engine: ReadyEngine
) -> JobResponse:
    """Answer a set's questions several times, let a judge prefer, and keep the pairs as a set for `dpo` or `kto`."""
    if not engine.generates:
        raise InvalidTrainingData(
            "A judge compares texts that a model wrote; the reader writes none. Set LOREBASE_MODEL to a language model."
        )
    if body.name is not None:
        check_dataset_name(body.name)
    asked = await asyncio.to_thread(workspace.datasets.get, body.dataset)
    await asyncio.to_thread(workspace.adapters.select, body.adapter)
    request = {**body.model_dump(), "dataset": asked.id}
    job_id = await asyncio.to_thread(
        workspace.tasks.add, "judge_answers", request, "questions", service.settings.max_pending_trainings
    )
    service.wake_tasks(workspace.tenant_id)
    return await asyncio.to_thread(job_response, workspace, job_id)


@router.get("/{dataset}")
async def dataset(dataset: str, workspace: CurrentWorkspace) -> DatasetResponse:
    """One training set, by its id or name."""
    return _response(await asyncio.to_thread(workspace.datasets.get, dataset))


@router.get("/{dataset}/examples", response_class=Response, responses={200: {"content": {"application/jsonl": {}}}})
async def examples(dataset: str, workspace: CurrentWorkspace) -> Response:
    """The examples of a set as JSON Lines."""
    found = await asyncio.to_thread(workspace.datasets.get, dataset)
    content = await asyncio.to_thread(workspace.datasets.content, found.id)
    return Response(content, media_type="application/jsonl; charset=utf-8")


@router.delete("/{dataset}", status_code=204)
async def remove(dataset: str, workspace: CurrentWorkspace) -> Response:
    """Forget a training set. Versions trained on it keep its hash; a training that has begun goes on."""
    await asyncio.to_thread(workspace.datasets.delete, dataset)
    return Response(status_code=204)


def _response(dataset: Dataset, *, duplicate: bool = False) -> DatasetResponse:
    return DatasetResponse(**asdict(dataset), duplicate=duplicate)
