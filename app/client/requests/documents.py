"""Documents and the jobs that make them: what is sent, and the shape of what comes back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

from app.client.calls import Call, Download, Events, Sending, given, nothing, path_of, shaped
from app.schemas import (
    ChunkPage,
    DeletedDocuments,
    DocumentPage,
    DocumentResponse,
    IngestResponse,
    JobPage,
    JobResponse,
    SplittingResponse,
)


class Text(TypedDict, total=False):
    """A document given as text; only ``text`` is needed."""

    title: str
    text: str
    metadata: dict[str, Any]


def ready() -> Call[dict[str, Any]]:
    """Whether questions can be answered (`ready`, `reason`, `model`). Needs no key."""
    return Call(Sending("GET", "/readyz"), lambda response: dict(response.json()))


def ingest_texts(documents: Sequence[Text], *, collection: str = "default", wait: bool = True) -> Call[IngestResponse]:
    """Store documents given as text; with ``wait``, returns when they can be found or have failed."""
    body = {"documents": list(documents), "collection": collection}
    return shaped(IngestResponse, Sending("POST", "/ingest", _wait(wait), json=body, patient=True))


def ingest_files(
    paths: Sequence[Path],
    *,
    metadata: Mapping[str, Any] | None = None,
    collection: str = "default",
    split: str | None = None,
    wait: bool = True,
) -> Call[IngestResponse]:
    """Store files; with ``wait``, returns when they can be found or have failed. Raises OSError for a bad path."""
    files = [("files", path) for path in paths]
    form = _form(metadata, collection=collection, split=split)
    return shaped(IngestResponse, Sending("POST", "/ingest", _wait(wait), form=form, files=files, patient=True))


def replace_document(
    document_id: str, path: Path, *, metadata: Mapping[str, Any] | None = None, wait: bool = True
) -> Call[IngestResponse]:
    """Replace a document by a file; the old content answers until the new one is complete. Raises OSError."""
    sending = Sending(
        "PUT",
        path_of("documents", document_id),
        _wait(wait),
        form=_form(metadata),
        files=[("files", path)],
        patient=True,
    )
    return shaped(IngestResponse, sending)


def documents(
    *,
    offset: int = 0,
    limit: int = 100,
    collection: str | None = None,
    status: str | None = None,
    title: str | None = None,
) -> Call[DocumentPage]:
    """One page of the tenant's documents."""
    asked = given(offset=offset, limit=limit, collection=collection, status=status, title=title)
    return shaped(DocumentPage, Sending("GET", "/documents", asked))


def document(document_id: str) -> Call[DocumentResponse]:
    """One document's facts."""
    return shaped(DocumentResponse, Sending("GET", path_of("documents", document_id)))


def document_text(document_id: str) -> Call[str]:
    """The parsed text that the offsets of passages and citations refer to."""
    return Call(Sending("GET", path_of("documents", document_id, "text")), lambda got: got.content.decode("utf-8"))


def chunk_page(document_id: str, *, offset: int = 0, limit: int = 1000) -> Call[ChunkPage]:
    """One page of the pieces a document was split into, in order."""
    return shaped(
        ChunkPage, Sending("GET", path_of("documents", document_id, "chunks"), given(offset=offset, limit=limit))
    )


def page_image(document_id: str, number: int, *, start: int | None = None, end: int | None = None) -> Download:
    """A page of a PDF as it looks (PNG), counted from 1; what stands from ``start`` to ``end`` is marked."""
    return Download(
        Sending("GET", path_of("documents", document_id, "pages", f"{number}.png"), given(start=start, end=end))
    )


def retry_document(document_id: str) -> Call[IngestResponse]:
    """Try a document that failed again."""
    return shaped(IngestResponse, Sending("POST", path_of("documents", document_id, "retry")))


def delete_document(document_id: str) -> Call[None]:
    """Forget a document."""
    return nothing(Sending("DELETE", path_of("documents", document_id)))


def delete_documents(
    *,
    ids: Sequence[str] | None = None,
    collection: str | None = None,
    status: str | None = None,
    filter: Mapping[str, Any] | None = None,
) -> Call[DeletedDocuments]:
    """Forget the documents of ``ids``, or all that satisfy every other condition; all or none."""
    body = given(ids=None if ids is None else list(ids), collection=collection, status=status, filter=filter)
    return shaped(DeletedDocuments, Sending("POST", "/documents/delete", json=body))


def splitting() -> Call[SplittingResponse]:
    """How the tenant's documents are split."""
    return shaped(SplittingResponse, Sending("GET", "/splitting"))


def set_splitting(method: str, *, size: int | None = None, overlap: int | None = None) -> Call[SplittingResponse]:
    """Choose how documents are split that are sent from now on."""
    return shaped(
        SplittingResponse, Sending("PUT", "/splitting", json=given(method=method, size=size, overlap=overlap))
    )


def jobs(*, offset: int = 0, limit: int = 100, state: str | None = None) -> Call[JobPage]:
    """One page of the tenant's jobs, newest first."""
    return shaped(JobPage, Sending("GET", "/jobs", given(offset=offset, limit=limit, state=state)))


def job(job_id: str) -> Call[JobResponse]:
    """The state and progress of a job."""
    return shaped(JobResponse, Sending("GET", path_of("jobs", job_id)))


def follow_job(job_id: str) -> Events[JobResponse]:
    """A job as it changes, until it has ended or the service stops."""
    sending = Sending("GET", path_of("jobs", job_id, "events"), patient=True)
    return Events(sending, lambda event: JobResponse.model_validate(event.data))


def cancel_job(job_id: str) -> Call[JobResponse]:
    """End a job; one that has ended stays as it is."""
    return shaped(JobResponse, Sending("POST", path_of("jobs", job_id, "cancel")))


def retry_job(job_id: str) -> Call[JobResponse]:
    """Try the failed documents of a job again, in a new job, which is returned."""
    return shaped(JobResponse, Sending("POST", path_of("jobs", job_id, "retry")))


def _wait(wait: bool) -> dict[str, str]:
    return {"wait": "true" if wait else "false"}


def _form(metadata: Mapping[str, Any] | None, **fields: str | None) -> dict[str, str]:
    form: dict[str, str] = given(**fields)
    if metadata:
        form["metadata"] = json.dumps(metadata)
    return form
