"""The routes of the HTTP contract: one function for each, which describes its request and the shape of its answer.

Both clients have these as methods, with the same names, arguments and docstrings.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypedDict
from urllib.parse import quote

from app.adapter_schemas import ActiveVersion, AdapterList, AdapterResponse, DefaultAdapter, PinnedVersion
from app.adapter_schemas import UploadedVersion as Uploaded
from app.client.calls import Call, Download, Events, Sending, StreamEvent, shaped
from app.evaluation_schemas import EvaluationPage, EvaluationResponse, EvaluationStarted
from app.feedback_schemas import FeedbackPage, PolicyResponse
from app.key_schemas import KeyCreated, KeyList, KeyRotated, OwnKey
from app.schemas import (
    AskResponse,
    ChunkPage,
    DeletedDocuments,
    DocumentPage,
    DocumentResponse,
    IngestResponse,
    JobPage,
    JobResponse,
    PassageResponse,
    SearchResponse,
    SplittingResponse,
    TemplateList,
    TemplateResponse,
    TenantCreated,
    TenantList,
)
from app.training_schemas import DatasetPage, DatasetResponse, LossCurve
from app.usage_schemas import TenantDetails, UsageResponse

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")


class Text(TypedDict, total=False):
    """A document given as text; only ``text`` is needed."""

    title: str
    text: str
    metadata: dict[str, Any]


class GivenText(TypedDict):
    """A passage to answer from instead of retrieving."""

    title: str
    text: str


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
        "PUT", _path("documents", document_id), _wait(wait), form=_form(metadata), files=[("files", path)], patient=True
    )
    return shaped(IngestResponse, sending)


def jobs(*, offset: int = 0, limit: int = 100, state: str | None = None) -> Call[JobPage]:
    """One page of the tenant's jobs, newest first."""
    return shaped(JobPage, Sending("GET", "/jobs", _given(offset=offset, limit=limit, state=state)))


def job(job_id: str) -> Call[JobResponse]:
    """The state and progress of a job."""
    return shaped(JobResponse, Sending("GET", _path("jobs", job_id)))


def follow_job(job_id: str) -> Events[JobResponse]:
    """A job as it changes, until it has ended or the service stops."""
    sending = Sending("GET", _path("jobs", job_id, "events"), patient=True)
    return Events(sending, lambda event: JobResponse.model_validate(event.data))


def cancel_job(job_id: str) -> Call[JobResponse]:
    """End a job; one that has ended stays as it is."""
    return shaped(JobResponse, Sending("POST", _path("jobs", job_id, "cancel")))


def retry_job(job_id: str) -> Call[JobResponse]:
    """Try the failed documents of a job again, in a new job, which is returned."""
    return shaped(JobResponse, Sending("POST", _path("jobs", job_id, "retry")))


def documents(
    *,
    offset: int = 0,
    limit: int = 100,
    collection: str | None = None,
    status: str | None = None,
    title: str | None = None,
) -> Call[DocumentPage]:
    """One page of the tenant's documents."""
    asked = _given(offset=offset, limit=limit, collection=collection, status=status, title=title)
    return shaped(DocumentPage, Sending("GET", "/documents", asked))


def document(document_id: str) -> Call[DocumentResponse]:
    """One document's facts."""
    return shaped(DocumentResponse, Sending("GET", _path("documents", document_id)))


def document_text(document_id: str) -> Call[str]:
    """The parsed text that the offsets of passages and citations refer to."""
    return Call(Sending("GET", _path("documents", document_id, "text")), lambda got: got.content.decode("utf-8"))


def chunk_page(document_id: str, *, offset: int = 0, limit: int = 1000) -> Call[ChunkPage]:
    """One page of the pieces a document was split into, in order."""
    return shaped(
        ChunkPage, Sending("GET", _path("documents", document_id, "chunks"), _given(offset=offset, limit=limit))
    )


def delete_document(document_id: str) -> Call[None]:
    """Forget a document."""
    return _nothing(Sending("DELETE", _path("documents", document_id)))


def delete_documents(
    *,
    ids: Sequence[str] | None = None,
    collection: str | None = None,
    status: str | None = None,
    filter: Mapping[str, Any] | None = None,
) -> Call[DeletedDocuments]:
    """Forget the documents of ``ids``, or all that satisfy every other condition; all or none."""
    body = _given(ids=None if ids is None else list(ids), collection=collection, status=status, filter=filter)
    return shaped(DeletedDocuments, Sending("POST", "/documents/delete", json=body))


def search(
    query: str,
    *,
    top_k: int = 5,
    filter: Mapping[str, Any] | None = None,
    collection: str | None = None,
    retrieval: Mapping[str, Any] | None = None,
) -> Call[list[PassageResponse]]:
    """The passages nearest to a query, best first."""
    body = _given(query=query, top_k=top_k, filter=filter, collection=collection, retrieval=retrieval)
    found = shaped(SearchResponse, Sending("POST", "/search", json=body))
    return Call(found.sending, lambda response: found.read(response).passages)


def ask(
    question: str,
    *,
    adapter: str | None = None,
    top_k: int | None = None,
    filter: Mapping[str, Any] | None = None,
    collection: str | None = None,
    max_tokens: int | None = None,
    min_confidence: float | None = None,
    passages: Sequence[GivenText] | None = None,
    history: Sequence[Mapping[str, str]] | None = None,
    template: str | None = None,
) -> Call[AskResponse]:
    """The answer to a question.

    Args:
        adapter: ``name``, ``name@version`` or ``base``; None takes the tenant's default.
        min_confidence: below it the service abstains; 0 always answers; None is the engine's own threshold.
        passages: answer from these instead of retrieving; citations then name no document.
        history: earlier turns, ``{"question", "answer"}``, oldest first.
    """
    body = _given(
        question=question, top_k=top_k, filter=filter, collection=collection, max_tokens=max_tokens,
        min_confidence=min_confidence, passages=passages, history=history, template=template,
    )  # fmt: skip
    return shaped(AskResponse, Sending("POST", "/ask", json=body, headers=_choose(adapter)))


def ask_stream(
    question: str,
    *,
    adapter: str | None = None,
    top_k: int | None = None,
    filter: Mapping[str, Any] | None = None,
    collection: str | None = None,
    max_tokens: int | None = None,
    min_confidence: float | None = None,
    template: str | None = None,
) -> Events[StreamEvent]:
    """The answer as it grows: ``passages``, then ``token`` events, then ``done`` (an AskResponse) or ``error``."""
    body = _given(
        question=question, top_k=top_k, filter=filter, collection=collection, max_tokens=max_tokens,
        min_confidence=min_confidence, template=template, stream=True,
    )  # fmt: skip
    return Events(Sending("POST", "/ask", json=body, headers=_choose(adapter)), lambda event: event)


def give_feedback(request_id: str, rating: int | None = None, correction: str | None = None) -> Call[None]:
    """Say of an answer whether it was good (1) or bad (-1), or what it should have been."""
    body = _given(request_id=request_id, rating=rating, correction=correction)
    return _nothing(Sending("POST", "/feedback", json=body))


def feedback(*, offset: int = 0, limit: int = 100) -> Call[FeedbackPage]:
    """One page of the feedback given, newest first."""
    return shaped(FeedbackPage, Sending("GET", "/feedback", _given(offset=offset, limit=limit)))


def policy() -> Call[PolicyResponse]:
    """What the tenant has decided: whether answers are kept, whether the gate is required."""
    return shaped(PolicyResponse, Sending("GET", "/policy"))


def change_policy(**decisions: bool) -> Call[PolicyResponse]:
    """Change decisions of the tenant; what is not given stays."""
    return shaped(PolicyResponse, Sending("PUT", "/policy", json=decisions))


def splitting() -> Call[SplittingResponse]:
    """How the tenant's documents are split."""
    return shaped(SplittingResponse, Sending("GET", "/splitting"))


def set_splitting(method: str, *, size: int | None = None, overlap: int | None = None) -> Call[SplittingResponse]:
    """Choose how documents are split that are sent from now on."""
    return shaped(
        SplittingResponse, Sending("PUT", "/splitting", json=_given(method=method, size=size, overlap=overlap))
    )


def templates() -> Call[TemplateList]:
    """The tenant's prompt templates."""
    return shaped(TemplateList, Sending("GET", "/templates"))


def put_template(name: str, **fields: Any) -> Call[TemplateResponse]:
    """Write a new version of a prompt template; ``fields`` are those of the request."""
    return shaped(TemplateResponse, Sending("PUT", _path("templates", name), json=_given(**fields)))


def adapters() -> Call[AdapterList]:
    """The tenant's adapters."""
    return shaped(AdapterList, Sending("GET", "/adapters"))


def adapter(name: str) -> Call[AdapterResponse]:
    """One adapter with its versions."""
    return shaped(AdapterResponse, Sending("GET", _path("adapters", name)))


def upload_adapter(name: str, source: Path) -> Call[Uploaded]:
    """Register a folder's two adapter files, or a zip archive of them, as a new version. Raises OSError."""
    paths = [source / file for file in ADAPTER_FILES] if source.is_dir() else [source]
    files = [("files", path) for path in paths]
    return shaped(Uploaded, Sending("POST", _path("adapters", name, "versions"), files=files))


def promote(name: str, version: int) -> Call[ActiveVersion]:
    """Make a version the active one of its adapter."""
    return shaped(ActiveVersion, Sending("POST", _path("adapters", name, "promote"), json={"version": version}))


def rollback(name: str) -> Call[ActiveVersion]:
    """Make the version active that was so before."""
    return shaped(ActiveVersion, Sending("POST", _path("adapters", name, "rollback")))


def canary(
    name: str, version: int, percent: float, *, mode: Literal["canary", "shadow"] = "canary"
) -> Call[AdapterResponse]:
    """Try a version on a share of the requests; 0 percent ends it."""
    body = {"version": version, "percent": percent, "mode": mode}
    return shaped(AdapterResponse, Sending("POST", _path("adapters", name, "canary"), json=body))


def pin(name: str, *, version: int | None = None, pinned: bool = True) -> Call[PinnedVersion]:
    """Keep a version in memory, the active one unless given, or no longer."""
    body = _given(version=version, pinned=pinned)
    return shaped(PinnedVersion, Sending("POST", _path("adapters", name, "pin"), json=body))


def set_default_adapter(name: str) -> Call[DefaultAdapter]:
    """Choose the adapter of requests that name none; ``base`` is none."""
    return shaped(DefaultAdapter, Sending("PUT", "/adapters/default", json={"name": name}))


def delete_adapter(name: str) -> Call[None]:
    """Delete an adapter with all its versions."""
    return _nothing(Sending("DELETE", _path("adapters", name)))


def delete_version(name: str, version: int) -> Call[None]:
    """Delete a version that is neither active nor on trial."""
    return _nothing(Sending("DELETE", _path("adapters", name, "versions", version)))


def export_version(name: str, version: int) -> Download:
    """A version as a zip archive in peft's format."""
    return Download(Sending("GET", _path("adapters", name, "versions", version, "export")))


def upload_dataset(path: Path, *, name: str | None = None) -> Call[DatasetResponse]:
    """Store a training set in JSON Lines or SQuAD format. Raises OSError for a bad path."""
    return shaped(DatasetResponse, Sending("POST", "/datasets", form=_given(name=name), files=[("file", path)]))


def datasets(*, offset: int = 0, limit: int = 100) -> Call[DatasetPage]:
    """One page of the tenant's training sets, newest first."""
    return shaped(DatasetPage, Sending("GET", "/datasets", _given(offset=offset, limit=limit)))


def dataset(name: str) -> Call[DatasetResponse]:
    """A training set, by its id or name."""
    return shaped(DatasetResponse, Sending("GET", _path("datasets", name)))


def dataset_examples(name: str) -> Download:
    """The examples of a training set as JSON Lines."""
    return Download(Sending("GET", _path("datasets", name, "examples")))


def build_dataset(**settings: Any) -> Call[JobResponse]:
    """Begin to make a training set from the tenant's documents; ``settings`` are the fields of the request."""
    return shaped(JobResponse, Sending("POST", "/datasets/build", json=_given(**settings)))


def judge_answers(dataset: str, judge: Mapping[str, str], **settings: Any) -> Call[JobResponse]:
    """Begin to make preference pairs of a set's questions; ``settings`` are further fields of the request."""
    body = {"dataset": dataset, "judge": dict(judge), **_given(**settings)}
    return shaped(JobResponse, Sending("POST", "/datasets/judge", json=body))


def delete_dataset(name: str) -> Call[None]:
    """Forget a training set."""
    return _nothing(Sending("DELETE", _path("datasets", name)))


def train(adapter: str, dataset: str, **settings: Any) -> Call[JobResponse]:
    """Begin to train a new version of an adapter; ``settings`` are the other fields of the request."""
    body = {"dataset": dataset, **_given(**settings)}
    return shaped(JobResponse, Sending("POST", _path("adapters", adapter, "train"), json=body))


def loss(job_id: str) -> Call[LossCurve]:
    """The loss curve of a training so far."""
    return shaped(LossCurve, Sending("GET", _path("jobs", job_id, "loss")))


def gate(name: str, version: int, question_set: Mapping[str, Any]) -> Call[EvaluationStarted]:
    """Have a version promoted only if it is better on a question set, in the background."""
    sending = Sending("POST", _path("adapters", name, "versions", version, "gate"), json=dict(question_set))
    return shaped(EvaluationStarted, sending)


def evaluate(question_set: Mapping[str, Any]) -> Call[EvaluationStarted]:
    """Have a question set asked with and without documents and an adapter, in the background."""
    return shaped(EvaluationStarted, Sending("POST", "/evaluate", json=dict(question_set)))


def evaluations(*, offset: int = 0, limit: int = 100) -> Call[EvaluationPage]:
    """One page of the tenant's evaluations and gates, newest first."""
    return shaped(EvaluationPage, Sending("GET", "/evaluations", _given(offset=offset, limit=limit)))


def evaluation(evaluation_id: str) -> Call[EvaluationResponse]:
    """An evaluation; its figures when it has ended."""
    return shaped(EvaluationResponse, Sending("GET", _path("evaluations", evaluation_id)))


def evaluation_report(evaluation_id: str, format: str) -> Call[str]:
    """The report of an evaluation that has succeeded, as ``html`` or ``markdown``."""
    sending = Sending("GET", _path("evaluations", evaluation_id, "report"), {"format": format})
    return Call(sending, lambda response: response.text)


def tenants() -> Call[TenantList]:
    """All tenants (admin key)."""
    return shaped(TenantList, Sending("GET", "/tenants"))


def create_tenant(name: str) -> Call[TenantCreated]:
    """Make a tenant; its key is in the answer and nowhere else (admin key)."""
    return shaped(TenantCreated, Sending("POST", "/tenants", json={"name": name}))


def delete_tenant(tenant_id: str) -> Call[None]:
    """Forget a tenant and all that is its (admin key)."""
    return _nothing(Sending("DELETE", _path("tenants", tenant_id)))


def tenant(tenant_id: str) -> Call[TenantDetails]:
    """A tenant with its limits (admin key, or the tenant's own)."""
    return shaped(TenantDetails, Sending("GET", _path("tenants", tenant_id)))


def change_limits(tenant_id: str, **limits: int | Literal["unlimited"] | None) -> Call[TenantDetails]:
    """Set limits of one tenant; None is the service's default again (admin key)."""
    return shaped(TenantDetails, Sending("PATCH", _path("tenants", tenant_id), json={"limits": limits}))


def keys(tenant_id: str) -> Call[KeyList]:
    """A tenant's keys, revoked ones too (admin key, or the tenant's own)."""
    return shaped(KeyList, Sending("GET", _path("tenants", tenant_id, "keys")))


def add_key(tenant_id: str, **terms: Any) -> Call[KeyCreated]:
    """Make a further key for a tenant; it is in the answer and nowhere else. ``terms`` are the request's fields."""
    return shaped(KeyCreated, Sending("POST", _path("tenants", tenant_id, "keys"), json=_given(**terms)))


def rotate_key(tenant_id: str, key_id: str, *, overlap_seconds: float | None = None) -> Call[KeyRotated]:
    """Make a key that opens the same; the old one goes on for the overlap."""
    body = _given(overlap_seconds=overlap_seconds)
    return shaped(KeyRotated, Sending("POST", _path("tenants", tenant_id, "keys", key_id, "rotate"), json=body))


def revoke_key(tenant_id: str, key_id: str) -> Call[None]:
    """Revoke a key at once."""
    return _nothing(Sending("DELETE", _path("tenants", tenant_id, "keys", key_id)))


def own_key() -> Call[OwnKey]:
    """What the key that asks opens."""
    return shaped(OwnKey, Sending("GET", "/key"))


def usage(*, days: int = 31) -> Call[UsageResponse]:
    """What the tenant has and has used, and its limits."""
    return shaped(UsageResponse, Sending("GET", "/usage", _given(days=days)))


def backup() -> Download:
    """All tenants as one tar archive (admin key)."""
    return Download(Sending("GET", "/backup", patient=True))


def export_tenant(tenant_id: str) -> Download:
    """One tenant as a tar archive of its own (admin key)."""
    return Download(Sending("GET", _path("tenants", tenant_id, "export"), patient=True))


def _nothing(sending: Sending) -> Call[None]:
    return Call(sending, lambda _: None)


def _path(*parts: str | int) -> str:
    return "".join(f"/{quote(str(part), safe='') or '%20'}" for part in parts)


def _wait(wait: bool) -> dict[str, str]:
    return {"wait": "true" if wait else "false"}


def _form(metadata: Mapping[str, Any] | None, **fields: str | None) -> dict[str, str]:
    given: dict[str, str] = _given(**fields)
    if metadata:
        given["metadata"] = json.dumps(metadata)
    return given


def _given(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _choose(adapter: str | None) -> dict[str, str]:
    return {"X-Adapter": adapter} if adapter else {}
