"""Documents: send, list, read, replace, try again, delete."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic import TypeAdapter, ValidationError
from starlette.datastructures import UploadFile

from app.audit import note
from app.problems import Problem
from app.reach import home, narrowed, refuse_others
from app.routes.dependencies import CurrentPrincipal, CurrentService, CurrentWorkspace, DocumentId, Limit, Offset
from app.routes.jobs import job_response, refusing_overload, states_of, wait_until_ended
from app.schemas import (
    ChunkPage,
    ChunkResponse,
    Collection,
    DeletedDocuments,
    DeleteDocumentsRequest,
    DocumentPage,
    DocumentResponse,
    DocumentSplitResponse,
    IngestedDocument,
    IngestRequest,
    IngestResponse,
    ReplacementResponse,
    SplitRequest,
    refuse_unstorable,
)
from app.workspace import Workspace
from ingest import DocumentRecord, NewDocument, Replacement, SplitConfig, expand_archives

router = APIRouter(tags=["documents"])
T = TypeVar("T")
MAX_FILES = 1000
_MOST_TOLD = 100  # ids of deleted documents in one entry of the audit log
_COLLECTION: TypeAdapter[str] = TypeAdapter(Collection)
_ENDED: dict[int | str, dict[str, Any]] = {200: {"model": IngestResponse, "description": "The job has ended."}}
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


@router.post("/ingest", status_code=202, response_model=IngestResponse, responses=_ENDED, openapi_extra=_INGEST_BODY)
async def ingest(
    request: Request,
    principal: CurrentPrincipal,
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
    default = await asyncio.to_thread(workspace.corpus.default_split)
    given = await _sent(request, default, home(principal))
    refuse_others(principal, {document.collection for document in given})
    sent = expand_archives(given, service.archive_limits)
    with refusing_overload():
        job_id, added = await asyncio.to_thread(workspace.ingestion.add, sent, service.settings.max_pending_documents)
    service.worker.wake(workspace.tenant_id)
    ended = wait and await wait_until_ended(workspace, service, job_id)
    states = await asyncio.to_thread(states_of, workspace, [a.id for a in added])
    for state, a in zip(states, added, strict=True):
        state.duplicate = a.duplicate
    return _accepted(job_id, states, ended)


@router.get("/documents")
async def documents(
    principal: CurrentPrincipal,
    workspace: CurrentWorkspace,
    limit: Limit = 100,
    offset: Offset = 0,
    collection: Annotated[str | None, Query(max_length=100)] = None,
    status: Annotated[str | None, Query(pattern="^(pending|ready|failed)$")] = None,
    title: Annotated[str | None, Query(max_length=500, description="A part of the title.")] = None,
) -> DocumentPage:
    """The tenant's documents, newest first."""
    found, total = await asyncio.to_thread(
        workspace.corpus.documents,
        limit=limit,
        offset=offset,
        collection=collection,
        status=status,
        title=title,
        within=principal.collections,
    )
    waiting = await asyncio.to_thread(workspace.corpus.replacements, [d.id for d in found])
    shown = [_response(d, waiting.get(d.id)) for d in found]
    return DocumentPage(total=total, offset=offset, limit=limit, documents=shown)


@router.post("/documents/delete")
async def remove_many(
    body: DeleteDocumentsRequest, principal: CurrentPrincipal, workspace: CurrentWorkspace, service: CurrentService
) -> DeletedDocuments:
    """Delete many documents at once, all or none: those of the ids, or all that satisfy every other condition."""
    collection, condition = narrowed(principal, body.collection, body.filter)
    delete = partial(workspace.corpus.delete_all, body.ids, condition, collection, body.status)
    deleted = await asyncio.to_thread(_erase, workspace, delete)
    note(deleted=str(len(deleted)), document_ids=" ".join(deleted[:_MOST_TOLD]))
    service.worker.wake(workspace.tenant_id)
    return DeletedDocuments(deleted=len(deleted), not_found=sorted(set(body.ids or ()) - set(deleted)))


@router.get("/documents/{document_id}")
async def document(document_id: DocumentId, workspace: CurrentWorkspace) -> DocumentResponse:
    """One document."""
    found = await asyncio.to_thread(workspace.corpus.document, document_id)
    waiting = await asyncio.to_thread(workspace.corpus.replacements, [found.id])
    return _response(found, waiting.get(found.id))


@router.put(
    "/documents/{document_id}",
    status_code=202,
    response_model=IngestResponse,
    responses=_ENDED,
    openapi_extra=_INGEST_BODY,
)
async def replace(
    document_id: DocumentId,
    request: Request,
    principal: CurrentPrincipal,
    workspace: CurrentWorkspace,
    service: CurrentService,
    wait: Annotated[bool, Query(description="Answer when the job has ended.")] = False,
) -> Response:
    """Replace a document's content, title and metadata; its id stays.

    It answers as before until the new content is complete; then the switch is one step. When that fails, the old
    content stays and `replacement` says why. Of several that wait the newest wins. The content it has already is no
    work (`duplicate`); content that another document of the collection has is refused.
    """
    current = await asyncio.to_thread(workspace.corpus.document, document_id)
    default = await asyncio.to_thread(workspace.corpus.default_split)
    sent = await _sent(request, default, current.collection)
    refuse_others(principal, {document.collection for document in sent})
    sent = await asyncio.to_thread(list, expand_archives(sent, service.archive_limits))
    if len(sent) == 1 and sent[0].refused is not None:
        raise Problem(422, "invalid_request", f"This file cannot take the document's place: {sent[0].refused}.")
    if len(sent) != 1:
        raise Problem(
            422, "invalid_request", f"Send exactly one document to take the place of this one, not {len(sent)}."
        )
    with refusing_overload():
        job_id, replaced = await asyncio.to_thread(
            workspace.ingestion.replace, document_id, sent[0], service.settings.max_pending_documents
        )
    service.worker.wake(workspace.tenant_id)
    ended = wait and await wait_until_ended(workspace, service, job_id)
    states = (await asyncio.to_thread(job_response, workspace, job_id)).documents
    states[0].duplicate = replaced.duplicate
    return _accepted(job_id, states, ended)


@router.post("/documents/{document_id}/retry", status_code=202, response_model=IngestResponse)
async def retry(document_id: DocumentId, workspace: CurrentWorkspace, service: CurrentService) -> Response:
    """Try again what failed of a document, from the content that was sent."""
    with refusing_overload():
        job_id = await asyncio.to_thread(
            workspace.ingestion.retry_document, document_id, service.settings.max_pending_documents
        )
    service.worker.wake(workspace.tenant_id)
    states = (await asyncio.to_thread(job_response, workspace, job_id)).documents
    return _accepted(job_id, states, ended=False)


@router.delete("/documents/{document_id}", status_code=204)
async def remove(document_id: DocumentId, workspace: CurrentWorkspace, service: CurrentService) -> Response:
    """Delete a document; it is in no result from now on."""
    await asyncio.to_thread(_erase, workspace, partial(workspace.corpus.delete, document_id))
    service.worker.wake(workspace.tenant_id)
    return Response(status_code=204)


@router.get("/documents/{document_id}/text", response_class=PlainTextResponse)
async def text(document_id: DocumentId, workspace: CurrentWorkspace) -> PlainTextResponse:
    """The parsed text that citation offsets refer to, in code points."""
    return PlainTextResponse(await asyncio.to_thread(workspace.corpus.text, document_id))


@router.get("/documents/{document_id}/chunks")
async def chunks(
    document_id: DocumentId, workspace: CurrentWorkspace, limit: Limit = 100, offset: Offset = 0
) -> ChunkPage:
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


def _erase(workspace: Workspace, delete: Callable[[], T]) -> T:
    """Delete documents, and do what the policy asks about adapters that were trained on them. A crash in between lets
    the tenant be opened at the next start, and that is done then."""
    with workspace.ingestion.opened_after_a_crash():
        deleted = delete()
    if tainted := workspace.erasures.settle():
        note(tainted=", ".join(tainted))
    return deleted


def _accepted(job_id: str, documents: list[IngestedDocument], ended: bool) -> Response:
    response = IngestResponse(job_id=job_id, documents=documents)
    return JSONResponse(response.model_dump(mode="json"), 200 if ended else 202)


async def _sent(request: Request, default: SplitConfig, collection: str) -> list[NewDocument]:
    """The documents of a request's body: ``collection`` for those that name none, ``default`` for what `split` leaves
    out."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return await _from_files(request, default, collection)
    if kind == "application/json":
        return _from_json(await request.body(), default, collection)
    raise Problem(
        415, "unsupported_media_type", "Send files as multipart/form-data (field 'files'), or JSON with 'documents'."
    )


async def _from_files(request: Request, default: SplitConfig, collection: str) -> list[NewDocument]:
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
        if "collection" in form:
            collection = _collection(form["collection"])
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


def _from_json(body: bytes, default: SplitConfig, collection: str) -> list[NewDocument]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Problem(422, "invalid_request", f"The body is not valid JSON: {error}") from error
    if isinstance(value, dict) and "text" in value and "documents" not in value:  # one document, without the list
        own = {name: value.pop(name) for name in ("collection", "split") if name in value}
        value = {"documents": [value], **own}
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
            collection=sent.collection if "collection" in sent.model_fields_set else collection,
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


def _response(record: DocumentRecord, replacement: Replacement | None) -> DocumentResponse:
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
        updated_at=record.updated_at,
        replacement=ReplacementResponse(**asdict(replacement)) if replacement else None,
    )
