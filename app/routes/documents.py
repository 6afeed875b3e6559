"""Documents: send, list, read, delete."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic import TypeAdapter, ValidationError
from starlette.datastructures import UploadFile

from app.problems import Problem
from app.routes.dependencies import CurrentService, CurrentWorkspace, Limit, Offset
from app.routes.jobs import document_states, wait_until_ended
from app.schemas import (
    ChunkPage,
    ChunkResponse,
    Collection,
    DocumentPage,
    DocumentResponse,
    DocumentSplitResponse,
    IngestRequest,
    IngestResponse,
    SplitRequest,
    refuse_unstorable,
)
from app.workspace import TooManyPending
from ingest import DocumentRecord, NewDocument, SplitConfig, expand_archives

router = APIRouter(tags=["documents"])
MAX_FILES = 1000
_COLLECTION: TypeAdapter[str] = TypeAdapter(Collection)
_INGEST_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["files"],
                    "properties": {
                        "files": {"type": "array", "items": {"type": "string", "format": "binary"}},
                        "metadata": {"type": "string", "description": "A JSON object, kept with every file."},
                        "collection": {"type": "string", "default": "default"},
                        "split": {"type": "string", "description": "A method's name, or a JSON object; see JSON."},
                    },
                }
            },
            "application/json": {"schema": {"$ref": "#/components/schemas/IngestRequest"}},
        },
    }
}


@router.post("/ingest", status_code=202, response_model=IngestResponse, openapi_extra=_INGEST_BODY)
async def ingest(
    request: Request,
    workspace: CurrentWorkspace,
    service: CurrentService,
    wait: Annotated[bool, Query(description="Answer when the job has ended.")] = False,
) -> Response:
    """Store documents, files or JSON texts, and ingest them in the background.

    Files may be plain text, Markdown, HTML, PDF, Word (DOCX), PowerPoint (PPTX), Excel (XLSX), CSV, TSV, EPUB, JSON,
    JSON Lines, e-mail (EML) or source code; their content decides which. A zip archive becomes one document for each
    file in it, with a status of its own.

    The answer means that they are stored durably. The same content again answers the document there is.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    default = await asyncio.to_thread(workspace.corpus.default_split)
    if kind == "multipart/form-data":
        documents = await _from_files(request, default)
    elif kind == "application/json":
        documents = _from_json(await request.body(), default)
    else:
        raise Problem(
            415,
            "unsupported_media_type",
            "Send files as multipart/form-data (field 'files'), or JSON with 'documents'.",
        )
    try:
        job_id, added = await asyncio.to_thread(
            workspace.add_documents,
            expand_archives(documents, service.archive_limits),
            service.settings.max_pending_documents,
        )
    except TooManyPending as error:
        raise Problem(429, "too_many_pending", str(error), {"Retry-After": "10"}) from error
    service.worker.wake(workspace.tenant_id)
    ended = wait and await wait_until_ended(workspace, service, job_id)
    states = await asyncio.to_thread(document_states, workspace, [a.id for a in added])
    for state, a in zip(states, added, strict=True):
        state.duplicate = a.duplicate
    response = IngestResponse(job_id=job_id, documents=states)
    return JSONResponse(response.model_dump(mode="json"), 200 if ended else 202)


@router.get("/documents")
async def documents(
    workspace: CurrentWorkspace,
    limit: Limit = 100,
    offset: Offset = 0,
    collection: Annotated[str | None, Query(max_length=100)] = None,
    status: Annotated[str | None, Query(pattern="^(pending|ready|failed)$")] = None,
) -> DocumentPage:
    """The tenant's documents, newest first."""
    found, total = await asyncio.to_thread(
        workspace.corpus.documents, limit=limit, offset=offset, collection=collection, status=status
    )
    return DocumentPage(total=total, offset=offset, limit=limit, documents=[_response(d) for d in found])


@router.get("/documents/{document_id}")
async def document(document_id: str, workspace: CurrentWorkspace) -> DocumentResponse:
    """One document."""
    return _response(await asyncio.to_thread(workspace.corpus.document, document_id))


@router.delete("/documents/{document_id}", status_code=204)
async def remove(document_id: str, workspace: CurrentWorkspace) -> Response:
    """Delete a document; it is in no result from now on."""
    await asyncio.to_thread(workspace.corpus.delete, document_id)
    return Response(status_code=204)


@router.get("/documents/{document_id}/text", response_class=PlainTextResponse)
async def text(document_id: str, workspace: CurrentWorkspace) -> PlainTextResponse:
    """The parsed text that citation offsets refer to, in code points."""
    return PlainTextResponse(await asyncio.to_thread(workspace.corpus.text, document_id))


@router.get("/documents/{document_id}/chunks")
async def chunks(document_id: str, workspace: CurrentWorkspace, limit: Limit = 100, offset: Offset = 0) -> ChunkPage:
    """The pieces a document was split into, in order."""
    found, total = await asyncio.to_thread(workspace.corpus.chunks, document_id, limit=limit, offset=offset)
    return ChunkPage(
        total=total,
        offset=offset,
        limit=limit,
        chunks=[
            ChunkResponse(id=c.id, start=c.start, end=c.end, page=c.page, section=c.section, text=c.text) for c in found
        ],
    )


async def _from_files(request: Request, default: SplitConfig) -> list[NewDocument]:
    async with request.form(max_files=MAX_FILES, max_fields=10) as form:
        files = form.getlist("files")
        if not files or not all(isinstance(file, UploadFile) for file in files):
            sent = ", ".join(sorted(form)) or "nothing"
            raise Problem(
                422, "invalid_request", f"files: send at least one file in the form field 'files' (sent: {sent[:200]})."
            )
        unknown = set(form) - {"files", "metadata", "collection", "split"}
        if unknown:
            raise Problem(422, "invalid_request", f"Unknown form fields: {', '.join(sorted(unknown))[:200]}.")
        for field in ("metadata", "collection", "split"):
            if len(form.getlist(field)) > 1:
                raise Problem(422, "invalid_request", f"{field}: was sent more than once; send it once, for all files.")
        metadata = _metadata(await _content(form.get("metadata")))
        collection = _collection(form.get("collection"))
        split = _split(await _content(form.get("split")), default)
        return [
            NewDocument(
                title=None,
                name=_file_name(file.filename),
                content=await file.read(),
                metadata=metadata,
                collection=collection,
                is_text=False,
                split=split,
            )
            for file in files
            if isinstance(file, UploadFile)
        ]


def _from_json(body: bytes, default: SplitConfig) -> list[NewDocument]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Problem(422, "invalid_request", f"The body is not valid JSON: {error}") from error
    try:
        sent = IngestRequest.model_validate(value)
    except ValidationError as error:
        raise Problem(422, "invalid_request", _first_errors(error)) from error
    return [
        NewDocument(
            title=d.title,
            name=d.title or "text",
            content=d.text.encode(),
            metadata=d.metadata,
            collection=sent.collection,
            is_text=True,
            split=sent.split.config(default) if sent.split else None,
        )
        for d in sent.documents
    ]


def _first_errors(error: ValidationError) -> str:
    messages = [
        f"{'.'.join(str(part) for part in e['loc']) or 'body'}: {e['msg'].removeprefix('Value error, ')}"
        for e in error.errors(include_input=False, include_context=False)[:5]
    ]
    return "; ".join(messages).encode("utf-8", "replace").decode()


async def _content(field: UploadFile | str | None) -> bytes | str | None:
    """A form field's value, also when it was sent as a file."""
    return await field.read() if isinstance(field, UploadFile) else field


def _metadata(field: Any) -> dict[str, Any]:
    if field is None:
        return {}
    try:
        value = json.loads(field)
        refuse_unstorable(value)
    except (ValueError, TypeError, RecursionError) as error:
        raise Problem(422, "invalid_request", f"metadata: must be a JSON object: {error}") from error
    if not isinstance(value, dict):
        raise Problem(422, "invalid_request", "metadata: must be a JSON object.")
    return value


def _collection(field: Any) -> str:
    if field is None:
        return "default"
    try:
        refuse_unstorable(field)
        return _COLLECTION.validate_python(field)
    except ValueError as error:
        raise Problem(422, "invalid_request", "collection: must be a text of 1 to 100 characters.") from error


def _split(field: Any, default: SplitConfig) -> SplitConfig | None:
    """The form field ``split``: a method's name, or a JSON object."""
    if field is None:
        return None
    try:
        named = field.decode() if isinstance(field, bytes) else field
        asked = SplitRequest.model_validate(json.loads(named) if named.lstrip().startswith("{") else named.strip())
    except ValidationError as error:
        raise Problem(422, "invalid_request", f"split: {_first_errors(error)}") from error
    except (ValueError, RecursionError) as error:
        raise Problem(422, "invalid_request", f"split: must be a method's name or a JSON object: {error}") from error
    return asked.config(default)


def _file_name(name: str | None) -> str:
    """The last part of a sent name, printable; it is shown, never used as a path."""
    last = (name or "").replace("\\", "/").rpartition("/")[2]
    shown = "".join(c for c in last.encode("utf-8", "replace").decode() if c.isprintable()).strip()
    return shown[:255] or "file"


def _response(record: DocumentRecord) -> DocumentResponse:
    return DocumentResponse(
        id=record.id,
        title=record.title,
        collection=record.collection,
        media_type=record.media_type,
        status=record.status,
        error=record.error,
        metadata=record.metadata,
        bytes=record.bytes,
        characters=record.characters,
        chunks=record.chunks,
        split=DocumentSplitResponse(**asdict(record.split)) if record.split else None,
        created_at=record.created_at,
    )
