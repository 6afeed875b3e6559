"""A small synchronous client of the HTTP contract, for the command line, the demo, measurements and scripts.

Knows routes and response shapes; knows nothing of what stands behind them. Errors arrive as `ServiceError`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypedDict, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from app.adapter_schemas import ActiveVersion, AdapterList, UploadedVersion
from app.evaluation_schemas import EvaluationResponse, EvaluationStarted
from app.schemas import (
    AskResponse,
    ChunkPage,
    ChunkResponse,
    DocumentPage,
    DocumentResponse,
    IngestResponse,
    JobResponse,
    PassageResponse,
    SearchResponse,
    TenantCreated,
    TenantList,
)
from app.training_schemas import DatasetResponse

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
Shape = TypeVar("Shape", bound=BaseModel)
_QUICK = httpx.Timeout(60.0, connect=10.0)
_PATIENT = httpx.Timeout(3600.0, connect=10.0)  # ingestion answers when its job has ended


class ServiceError(Exception):
    """The service refused or failed a request.

    Attributes:
        status: the HTTP status; 0 when no answer came.
        code: the stable word of the problem JSON, such as ``not_found``; ``unreachable`` when no answer came.
        detail: a sentence for a person.
    """

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(f"{detail} ({status} {code})" if status else detail)
        self.status = status
        self.code = code
        self.detail = detail


class Text(TypedDict, total=False):
    """A document given as text; only ``text`` is needed."""

    title: str
    text: str
    metadata: dict[str, Any]


class GivenText(TypedDict):
    """A passage to answer from instead of retrieving."""

    title: str
    text: str


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """One event of a streamed answer; ``data`` is the decoded JSON."""

    event: Literal["passages", "token", "done", "error"] | str
    data: Any


class LorebaseClient:
    """Talks to one service with one key, over kept-alive connections. Use it as a context manager.

    Every method raises `ServiceError`.

    Args:
        base_url: such as ``http://127.0.0.1:8000``.
        api_key: a tenant's key, or the admin's for the methods that say so.
        transport: another way to send requests, such as ``httpx.MockTransport``.
    """

    def __init__(self, base_url: str, api_key: str, *, transport: httpx.BaseTransport | None = None) -> None:
        headers = {"Authorization": f"Bearer {api_key}"}
        self._http = httpx.Client(base_url=base_url, headers=headers, timeout=_QUICK, transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def ingest_texts(
        self, documents: Sequence[Text], *, collection: str = "default", wait: bool = True
    ) -> IngestResponse:
        """Store documents given as text; with ``wait``, returns when they can be found or have failed."""
        body = {"documents": list(documents), "collection": collection}
        return self._ingest(wait, json=body)

    def ingest_files(
        self,
        paths: Sequence[Path],
        *,
        metadata: Mapping[str, Any] | None = None,
        collection: str = "default",
        wait: bool = True,
    ) -> IngestResponse:
        """Store files; with ``wait``, returns when they can be found or have failed. Raises OSError for a bad path."""
        fields = {"collection": collection}
        if metadata:
            fields["metadata"] = json.dumps(metadata)
        with ExitStack() as opened:
            files = [("files", (path.name, opened.enter_context(path.open("rb")))) for path in paths]
            return self._ingest(wait, data=fields, files=files)

    def job(self, job_id: str) -> JobResponse:
        """The state and progress of a job."""
        return self._get(JobResponse, f"/jobs/{job_id}")

    def follow_job(self, job_id: str) -> Iterator[JobResponse]:
        """A job as it changes, until it has ended or the service stops."""
        try:
            with self._http.stream("GET", f"/jobs/{job_id}/events", timeout=_PATIENT) as response:
                if response.is_error:
                    response.read()
                    raise _problem(response)
                for event in read_events(response.iter_lines()):
                    yield JobResponse.model_validate(event.data)
        except httpx.HTTPError as error:
            raise _unreachable(error) from error

    def cancel_job(self, job_id: str) -> JobResponse:
        """End a job; one that has ended stays as it is."""
        return self._get(JobResponse, f"/jobs/{job_id}/cancel", method="POST")

    def upload_dataset(self, path: Path, *, name: str | None = None) -> DatasetResponse:
        """Store a training set in JSON Lines or SQuAD format. Raises OSError for a bad path."""
        with path.open("rb") as file:
            data = {"name": name} if name else {}
            files = {"file": (path.name, file)}
            return self._get(DatasetResponse, "/datasets", method="POST", data=data, files=files)

    def build_dataset(self, **settings: Any) -> JobResponse:
        """Begin to make a training set from the tenant's documents; ``settings`` are the fields of the request."""
        return self._get(JobResponse, "/datasets/build", method="POST", json=_given(**settings))

    def train(self, adapter: str, dataset: str, **settings: Any) -> JobResponse:
        """Begin to train a new version of an adapter; ``settings`` are the other fields of the request."""
        body = {"dataset": dataset, **_given(**settings)}
        return self._get(JobResponse, f"/adapters/{adapter}/train", method="POST", json=body)

    def documents(self, *, offset: int = 0, limit: int = 100) -> DocumentPage:
        """One page of the tenant's documents."""
        return self._get(DocumentPage, "/documents", params={"offset": offset, "limit": limit})

    def document(self, document_id: str) -> DocumentResponse:
        """One document's facts."""
        return self._get(DocumentResponse, f"/documents/{document_id}")

    def document_text(self, document_id: str) -> str:
        """The parsed text that the offsets of passages and citations refer to."""
        return self._send("GET", f"/documents/{document_id}/text").content.decode("utf-8")

    def chunks(self, document_id: str) -> Iterator[ChunkResponse]:
        """The pieces a document was split into, in order, asked for page by page."""
        offset = 0
        while True:
            page = self._get(ChunkPage, f"/documents/{document_id}/chunks", params={"offset": offset, "limit": 1000})
            yield from page.chunks
            offset += len(page.chunks)
            if not page.chunks or offset >= page.total:
                return

    def delete_document(self, document_id: str) -> None:
        """Forget a document."""
        self._send("DELETE", f"/documents/{document_id}")

    def search(
        self,
        query: str,
        *,
        top_k: int = 5,
        filter: Mapping[str, Any] | None = None,
        collection: str | None = None,
        retrieval: Mapping[str, Any] | None = None,
    ) -> list[PassageResponse]:
        """The passages nearest to a query, best first."""
        body = _given(query=query, top_k=top_k, filter=filter, collection=collection, retrieval=retrieval)
        return self._get(SearchResponse, "/search", method="POST", json=body).passages

    def ask(
        self,
        question: str,
        *,
        adapter: str | None = None,
        top_k: int | None = None,
        filter: Mapping[str, Any] | None = None,
        collection: str | None = None,
        max_tokens: int | None = None,
        min_confidence: float | None = None,
        passages: Sequence[GivenText] | None = None,
    ) -> AskResponse:
        """The answer to a question.

        Args:
            adapter: ``name``, ``name@version`` or ``base``; None takes the tenant's default.
            min_confidence: below it the service abstains; 0 always answers; None is the engine's own threshold.
            passages: answer from these instead of retrieving; citations then name no document.
        """
        body = _given(
            question=question, top_k=top_k, filter=filter, collection=collection, max_tokens=max_tokens,
            min_confidence=min_confidence, passages=passages,
        )  # fmt: skip
        return self._get(AskResponse, "/ask", method="POST", json=body, headers=_choose(adapter))

    def ask_stream(
        self,
        question: str,
        *,
        adapter: str | None = None,
        top_k: int | None = None,
        collection: str | None = None,
        min_confidence: float | None = None,
    ) -> Iterator[StreamEvent]:
        """The answer as it grows: ``passages``, then ``token`` events, then ``done`` (an AskResponse) or ``error``."""
        body = _given(question=question, top_k=top_k, collection=collection, min_confidence=min_confidence, stream=True)
        try:
            with self._http.stream("POST", "/ask", json=body, headers=_choose(adapter)) as response:
                if response.is_error:
                    response.read()
                    raise _problem(response)
                yield from read_events(response.iter_lines())
        except httpx.HTTPError as error:
            raise _unreachable(error) from error

    def give_feedback(self, request_id: str, rating: int | None = None, correction: str | None = None) -> None:
        """Say of an answer whether it was good (1) or bad (-1), or what it should have been."""
        self._send("POST", "/feedback", json=_given(request_id=request_id, rating=rating, correction=correction))

    def adapters(self) -> AdapterList:
        """The tenant's adapters."""
        return self._get(AdapterList, "/adapters")

    def upload_adapter(self, name: str, folder: Path) -> UploadedVersion:
        """Register a folder's two adapter files as a new version. Raises OSError when a file is missing."""
        with ExitStack() as opened:
            files = [("files", (file, opened.enter_context((folder / file).open("rb")))) for file in ADAPTER_FILES]
            return self._get(UploadedVersion, f"/adapters/{name}/versions", method="POST", files=files)

    def promote(self, name: str, version: int) -> ActiveVersion:
        """Make a version the active one of its adapter."""
        return self._get(ActiveVersion, f"/adapters/{name}/promote", method="POST", json={"version": version})

    def evaluate(self, question_set: Mapping[str, Any]) -> EvaluationStarted:
        """Have a question set asked with and without documents and an adapter, in the background."""
        return self._get(EvaluationStarted, "/evaluate", method="POST", json=dict(question_set))

    def evaluation(self, evaluation_id: str) -> EvaluationResponse:
        """An evaluation; its figures when it has ended."""
        return self._get(EvaluationResponse, f"/evaluations/{evaluation_id}")

    def evaluation_report(self, evaluation_id: str, format: str) -> str:
        """The report of an evaluation that has succeeded, as ``html`` or ``markdown``."""
        return self._send("GET", f"/evaluations/{evaluation_id}/report", params={"format": format}).text

    def tenants(self) -> TenantList:
        """All tenants (admin key)."""
        return self._get(TenantList, "/tenants")

    def create_tenant(self, name: str) -> TenantCreated:
        """Make a tenant; its key is in the answer and nowhere else (admin key)."""
        return self._get(TenantCreated, "/tenants", method="POST", json={"name": name})

    def delete_tenant(self, tenant_id: str) -> None:
        """Forget a tenant and all that is its (admin key)."""
        self._send("DELETE", f"/tenants/{tenant_id}")

    def _ingest(self, wait: bool, **request: Any) -> IngestResponse:
        params = {"wait": "true" if wait else "false"}
        return self._get(IngestResponse, "/ingest", method="POST", params=params, timeout=_PATIENT, **request)

    def _get(self, shape: type[Shape], path: str, *, method: str = "GET", **request: Any) -> Shape:
        response = self._send(method, path, **request)
        try:
            return shape.model_validate_json(response.content)
        except ValidationError as error:
            detail = f"{method} {path} did not answer with a {shape.__name__}: is this a Lorebase service?"
            raise ServiceError(response.status_code, "unexpected_answer", detail) from error

    def _send(self, method: str, path: str, **request: Any) -> httpx.Response:
        try:
            response = self._http.request(method, path, **request)
        except httpx.HTTPError as error:
            raise _unreachable(error) from error
        if response.is_error:
            raise _problem(response)
        return response


def read_events(lines: Iterator[str]) -> Iterator[StreamEvent]:
    """The events of a server-sent event stream, each with JSON data."""
    event, data = "message", list[str]()
    for line in lines:
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line and data:
            yield StreamEvent(event, json.loads("\n".join(data)))
            event, data = "message", []
        elif field == "event":
            event = value
        elif field == "data":
            data.append(value)


def _given(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _choose(adapter: str | None) -> dict[str, str]:
    return {"X-Adapter": adapter} if adapter else {}


def _problem(response: httpx.Response) -> ServiceError:
    try:
        body = json.loads(response.content)
        return ServiceError(response.status_code, str(body["code"]), str(body["detail"]))
    except (ValueError, KeyError, TypeError):
        return ServiceError(response.status_code, "error", f"The service answered {response.status_code}.")


def _unreachable(error: httpx.HTTPError) -> ServiceError:
    try:
        where = f" at {error.request.url}"
    except RuntimeError:
        where = ""
    return ServiceError(0, "unreachable", f"No answer from the service{where}: {str(error) or type(error).__name__}")
