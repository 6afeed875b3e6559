"""The shapes of requests and responses: the HTTP contract, as pydantic models."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from adapters import DEFAULT_TEMPLATE
from ingest import Method, SplitConfig
from ingest.splitting import LARGEST_SIZE, SMALLEST_SIZE

Collection = Annotated[str, Field(min_length=1, max_length=100)]
TopK = Annotated[int, Field(ge=1, le=100, description="Passages to retrieve.")]


class Request(BaseModel):
    """A request's JSON body: unknown fields are refused, and so is text that could not be stored exactly."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _clean(cls, body: Any) -> Any:
        refuse_unstorable(body)
        return body


def refuse_unstorable(value: Any, depth: int = 0) -> None:
    """Raise ValueError for NUL characters, lone surrogates and very deep nesting anywhere in a JSON value."""
    if depth > 32:
        raise ValueError("is nested too deeply; 32 levels are the limit")
    match value:
        case str():
            if "\0" in value:
                raise ValueError("holds a NUL character; remove it")
            if any("\ud800" <= c <= "\udfff" for c in value):
                raise ValueError("holds half of a surrogate pair, which is not valid Unicode; repair the text")
        case dict():
            for key, item in value.items():
                refuse_unstorable(key)
                refuse_unstorable(item, depth + 1)
        case list():
            for item in value:
                refuse_unstorable(item, depth + 1)


class SplitRequest(Request):
    """How to split documents: an object of these fields, or only the method's name. See docs/splitting.md."""

    method: Method
    size: int | None = Field(None, ge=SMALLEST_SIZE, le=LARGEST_SIZE, description="Longest chunk, in characters.")
    overlap: int | None = Field(
        None, ge=0, description="Most characters repeated from the chunk before; at most half of size."
    )

    @model_validator(mode="before")
    @classmethod
    def _named(cls, body: Any) -> Any:
        return {"method": body} if isinstance(body, str) else body

    @model_validator(mode="after")
    def _overlaps_in_part(self) -> SplitRequest:
        if self.overlap is not None:
            if self.size is None:
                raise ValueError("give size together with overlap")
            if self.overlap * 2 > self.size:
                raise ValueError(f"overlap may be at most half of size: {self.size // 2} here")
        return self

    def config(self, default: SplitConfig) -> SplitConfig:
        """What is asked for; sizes that are not given are those of ``default``."""
        if self.size is None:
            return SplitConfig(default.size, default.overlap, method=self.method)
        return SplitConfig(self.size, -1 if self.overlap is None else self.overlap, method=self.method)


class SplittingResponse(BaseModel):
    """The tenant's default. ``available``: the methods that this service can use."""

    method: Method
    size: int
    overlap: int
    available: list[Method]


class IngestDocument(Request):
    title: str | None = Field(None, min_length=1, max_length=500, pattern=r"\S")
    text: str = Field(min_length=1)
    metadata: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _says_something(self) -> IngestDocument:
        if not self.text.strip():
            raise ValueError("text holds nothing but white space")
        return self


class IngestRequest(Request):
    documents: list[IngestDocument] = Field(min_length=1, max_length=1000)
    collection: Collection = "default"
    split: SplitRequest | None = Field(
        None, description="How to split them: a method's name, or an object. Unset: the tenant's default."
    )


class DeleteDocumentsRequest(Request):
    """Which documents to delete: either ``ids``, or all that satisfy every other condition that is given."""

    ids: list[str] | None = Field(None, min_length=1, max_length=1000)
    collection: Collection | None = None
    status: Literal["pending", "ready", "failed"] | None = None
    filter: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _says_which(self) -> DeleteDocumentsRequest:
        conditions = self.collection is not None or self.status is not None or bool(self.filter)
        if (self.ids is not None) == conditions:
            raise ValueError("say which documents to delete: either ids, or collection, status or filter")
        return self


class DeletedDocuments(BaseModel):
    """How many documents were deleted; ``not_found``: of the ids that were asked for, those there is no document of."""

    deleted: int
    not_found: list[str] = Field(default_factory=list)


class IngestedDocument(BaseModel):
    id: str
    title: str
    status: Literal["pending", "ready", "failed", "deleted"]
    duplicate: bool = False
    error: str | None = None
    warning: str | None = None


class IngestResponse(BaseModel):
    job_id: str
    documents: list[IngestedDocument]


class Progress(BaseModel):
    done: int
    total: int
    unit: str = "documents"


class ChunkProgress(BaseModel):
    """Chunks embedded of the documents under work."""

    done: int
    total: int


class JobSummary(BaseModel):
    """A job as it stands.

    ``stage``, ``chunks`` and ``eta_seconds`` tell of a job that has its turn and are null otherwise; ``waiting_for``
    is why a stage is ``waiting``: what failed, and is tried again. ``loss`` is a training's latest.
    """

    id: str
    kind: str
    state: Literal["queued", "running", "succeeded", "failed", "cancelled"]
    progress: Progress
    error: str | None
    created_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None
    stage: str | None = Field(
        None,
        description="Of documents: parsing, embedding, storing, waiting. Of a training: preparing, starting, loading, "
        "training, checking.",
    )
    chunks: ChunkProgress | None = None
    eta_seconds: float | None = None
    waiting_for: str | None = None
    request: dict[str, Any] | None = Field(None, description="Of a job without documents: what was asked for.")
    loss: float | None = None
    warnings: list[str] = Field(default_factory=list)
    result: dict[str, Any] | None = Field(None, description="Of a job without documents: what came of it.")


class JobResponse(JobSummary):
    documents: list[IngestedDocument]


class RetrievalRequest(Request):
    """Which stages a query goes through; what is not given is as the service is set."""

    mode: Literal["hybrid", "dense", "keyword"] | None = Field(
        None, description="`dense` searches by meaning, `keyword` by words, `hybrid` by both."
    )
    rerank: bool | None = Field(None, description="Reread the best candidates with the question.")
    candidates: int | None = Field(None, ge=1, le=200, description="Passages that are reranked or chosen from.")
    diversity: float | None = Field(None, ge=0, le=1, description="Above 0, passages like an earlier one come later.")
    expand: int | None = Field(None, ge=0, le=5, description="Neighbouring chunks joined to a passage on either side.")


class SearchRequest(Request):
    query: str = Field(min_length=1)
    top_k: TopK = 5
    filter: dict[str, Any] | None = None
    collection: Collection | None = None
    retrieval: RetrievalRequest | None = None

    @model_validator(mode="after")
    def _asks_something(self) -> SearchRequest:
        if not self.query.strip():
            raise ValueError("query holds nothing but white space")
        return self


class StageScores(BaseModel):
    """What each stage gave a passage; null where it did not see it."""

    dense: float | None = Field(None, description="Cosine of the vectors.")
    keyword: float | None = Field(None, description="BM25.")
    fused: float | None = Field(None, description="Of both, from 0 to 1.")
    rerank: float | None = Field(None, description="Probability that the passage answers.")


class PassageResponse(BaseModel):
    chunk_id: str | None
    document_id: str | None
    title: str
    text: str
    score: float | None
    page: int | None
    section: str | None
    start: int
    end: int
    scores: StageScores | None = None


class SearchResponse(BaseModel):
    passages: list[PassageResponse]


class GivenPassage(Request):
    title: str = Field("", max_length=500)
    text: str = Field(min_length=1, max_length=100_000)


class HistoryTurn(Request):
    question: str = Field(min_length=1, max_length=4000)
    answer: str = Field("", max_length=16_000)


class Sampling(Request):
    """How a language model draws its tokens; the reader, which chooses a span, takes no notice of these."""

    temperature: float = Field(0.0, ge=0, le=2, description="0: the likeliest token at each step.")
    top_p: float = Field(1.0, gt=0, le=1)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stop: list[Annotated[str, Field(min_length=1, max_length=200)]] = Field(default_factory=list, max_length=16)


class AskRequest(Sampling):
    question: str = Field(min_length=1)
    history: list[HistoryTurn] = Field(
        default_factory=list, max_length=50, description="Earlier turns, oldest first: follow-up questions work."
    )
    template: str | None = Field(
        None, max_length=80, description="Prompt template: `name` or `name@version`; unset: the tenant's default."
    )
    top_k: TopK = 5
    filter: dict[str, Any] | None = None
    collection: Collection | None = None
    retrieval: RetrievalRequest | None = None
    stream: bool = False
    max_tokens: int = Field(256, ge=1, le=4096, description="Longest answer, in tokens.")
    min_confidence: float | None = Field(
        None, ge=0, le=1, description="Abstain below this confidence; 0 always answers. Unset: the model's own."
    )
    passages: list[GivenPassage] | None = Field(
        None, min_length=1, max_length=100, description="Answer from these instead of retrieving."
    )

    @model_validator(mode="after")
    def _asks_something(self) -> AskRequest:
        if not self.question.strip():
            raise ValueError("question holds nothing but white space")
        return self


class Citation(BaseModel):
    """Where the answer stands: ``quote`` is the text from ``start`` to ``end`` of the document."""

    index: int
    document_id: str | None
    chunk_id: str | None
    title: str
    page: int | None
    section: str | None
    quote: str
    start: int
    end: int
    score: float


class AdapterUsed(BaseModel):
    name: str
    version: int
    sha256: str


class Usage(BaseModel):
    prompt_tokens: int
    completion_tokens: int


class AskResponse(BaseModel):
    request_id: str
    answer: str
    abstained: bool
    confidence: float
    citations: list[Citation]
    passages: list[PassageResponse]
    dropped_passages: list[int] = Field(default_factory=list)
    adapter: AdapterUsed | None
    usage: Usage
    rewritten_question: str | None = None
    template: str | None = None
    finish_reason: Literal["stop", "length"] = "stop"
    unknown_citations: int = 0
    timings_ms: dict[str, float]
    warnings: list[str] = Field(default_factory=list)


class DocumentSplitResponse(BaseModel):
    """How a document was split. ``note``: what did not go as the method means it."""

    method: Method
    size: int
    overlap: int
    note: str | None = None


class ReplacementResponse(BaseModel):
    """New content that waits to take the present content's place, or that failed to."""

    status: Literal["pending", "failed"]
    title: str
    error: str | None
    created_at: datetime


class DocumentResponse(BaseModel):
    id: str
    title: str
    collection: str
    media_type: str | None
    status: str
    error: str | None
    metadata: dict[str, Any]
    bytes: int
    characters: int | None = None
    chunks: int | None = None
    split: DocumentSplitResponse | None = None
    created_at: datetime
    updated_at: datetime | None = None
    replacement: ReplacementResponse | None = None


class Page(BaseModel):
    """One page of a listing: ``total`` items in all, these from ``offset`` on."""

    total: int
    offset: int
    limit: int


class JobPage(Page):
    jobs: list[JobSummary]


class DocumentPage(Page):
    documents: list[DocumentResponse]


class ChunkResponse(BaseModel):
    id: str
    start: int
    end: int
    page: int | None
    section: str | None
    text: str


class ChunkPage(Page):
    chunks: list[ChunkResponse]


class TenantRequest(Request):
    name: str = Field(min_length=1, max_length=100, pattern=r"^\S(.*\S)?$")


class TenantResponse(BaseModel):
    id: str
    name: str
    created_at: datetime


class TenantCreated(TenantResponse):
    api_key: str


class TenantList(BaseModel):
    tenants: list[TenantResponse]


class TemplatePassage(Request):
    title: str = Field("", max_length=500)
    text: str = Field(min_length=1, max_length=8000)


class ExampleBody(Request):
    question: str = Field(min_length=1, max_length=4000)
    answer: str = Field(min_length=1, max_length=8000)
    passages: list[TemplatePassage] = Field(default_factory=list, max_length=20)


class TemplateRequest(Request):
    system: str = Field(DEFAULT_TEMPLATE.system, max_length=16_000)
    question: str = Field(DEFAULT_TEMPLATE.question, max_length=8000)
    examples: list[ExampleBody] = Field(default_factory=list)


class TemplateResponse(BaseModel):
    name: str
    version: int
    system: str
    question: str
    examples: list[ExampleBody]


class TemplateNumbers(BaseModel):
    name: str
    versions: list[int]


class TemplateList(BaseModel):
    default: str
    templates: list[TemplateNumbers]


class DefaultTemplate(Request):
    name: str = Field(min_length=1, max_length=63)
