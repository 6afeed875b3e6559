"""OpenAI's files API over the tenant's training sets: a file is a data set, its id that set's with a prefix."""

from __future__ import annotations

import asyncio
from typing import Annotated, Literal

from fastapi import APIRouter, File, Form, Query, Response, UploadFile

from app.dataset_upload import store_upload
from app.datasets import MOST_DATASETS, Dataset
from app.fine_tuning_schemas import FileDeleted, FileList, FileObject
from app.problems import Problem
from app.routes.dependencies import CurrentService, CurrentWorkspace

router = APIRouter(prefix="/v1/files", tags=["openai"])
FILE_PREFIX = "file-"


@router.post("")
async def upload(
    file: Annotated[UploadFile, File(description="JSON Lines, or SQuAD JSON.")],
    purpose: Annotated[str, Form()],
    workspace: CurrentWorkspace,
    service: CurrentService,
) -> FileObject:
    """Store a training set, as `POST /datasets` does. The same content again answers the file that is there."""
    if purpose != "fine-tune":
        raise Problem(422, "not_supported", f"purpose: {purpose[:40]!r} is not supported; files are for 'fine-tune'.")
    content = await file.read()
    stored, _ = await asyncio.to_thread(
        store_upload, workspace, file.filename or "file", content, None, generates=service.generates
    )
    return _file(stored)


@router.get("")
async def files(
    workspace: CurrentWorkspace,
    after: Annotated[str | None, Query(max_length=100)] = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000,
    order: Literal["asc", "desc"] = "desc",
    purpose: Annotated[str | None, Query(max_length=40)] = None,
) -> FileList:
    """The tenant's training sets as files."""
    found, _ = await asyncio.to_thread(workspace.datasets.page, MOST_DATASETS, 0)
    listed = [_file(each) for each in (found if order == "desc" else reversed(found))]
    if purpose not in (None, "fine-tune"):
        listed = []
    if after is not None:
        ids = [each.id for each in listed]
        listed = listed[ids.index(after) + 1 :] if after in ids else []
    page = listed[:limit]
    ends = (page[0].id, page[-1].id) if page else (None, None)
    return FileList(data=page, has_more=len(listed) > limit, first_id=ends[0], last_id=ends[1])


@router.get("/{dataset}")
async def file(dataset: str, workspace: CurrentWorkspace) -> FileObject:
    """One file."""
    return _file(await asyncio.to_thread(workspace.datasets.get, set_id(dataset)))


@router.get("/{dataset}/content", response_class=Response)
async def content(dataset: str, workspace: CurrentWorkspace) -> Response:
    """The examples as JSON Lines, in the one form they are kept in."""
    found = await asyncio.to_thread(workspace.datasets.get, set_id(dataset))
    return Response(
        await asyncio.to_thread(workspace.datasets.content, found.id), media_type="application/jsonl; charset=utf-8"
    )


@router.delete("/{dataset}")
async def remove(dataset: str, workspace: CurrentWorkspace) -> FileDeleted:
    """Forget a file. Versions trained on it keep its hash."""
    found = await asyncio.to_thread(workspace.datasets.get, set_id(dataset))
    await asyncio.to_thread(workspace.datasets.delete, found.id)
    return FileDeleted(id=FILE_PREFIX + found.id)


def set_id(file_id: str) -> str:
    """The id of the set that a file is."""
    return file_id.removeprefix(FILE_PREFIX)


def _file(dataset: Dataset) -> FileObject:
    return FileObject(
        id=FILE_PREFIX + dataset.id,
        bytes=dataset.bytes,
        created_at=int(dataset.created_at),
        filename=dataset.file or f"{dataset.name or dataset.id}.jsonl",
        status_details=" ".join(dataset.warnings) or None,
    )
