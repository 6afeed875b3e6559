"""The shapes of feedback and of a tenant's policy."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field, field_validator, model_validator

from app.life.policy import OnErasure
from app.schemas import AdapterUsed, Page, Request


class FeedbackRequest(Request):
    """What a person says of an answer: a thumb, a better answer, or both. Sent again, it replaces what was said."""

    request_id: str = Field(min_length=1, max_length=200, description="As in the answer, or its X-Request-Id.")
    rating: Literal[-1, 1] | None = Field(None, description="1: a good answer, -1: a bad one.")
    correction: str | None = Field(None, max_length=16_000, description="What the answer should have been.")

    @field_validator("rating", mode="before")
    @classmethod
    def _a_number(cls, rating: Any) -> Any:
        if isinstance(rating, bool):  # true equals 1
            raise ValueError("must be 1 or -1")  # noqa: TRY004 - what pydantic turns into an answer
        return rating

    @model_validator(mode="after")
    def _says_something(self) -> FeedbackRequest:
        if self.correction is not None and not self.correction.strip():
            raise ValueError("correction holds nothing but white space; leave it out, or say what the answer should be")
        if self.rating is None and self.correction is None:
            raise ValueError("give a rating (1 or -1), a correction, or both")
        return self


class FeedbackPassage(BaseModel):
    """A passage as it was read then; ``cited``: the answer rests on it."""

    document_id: str | None
    chunk_id: str | None
    title: str
    text: str
    start: int
    end: int
    page: int | None
    section: str | None
    score: float | None
    cited: bool


class FeedbackCitation(BaseModel):
    """A cited place: ``passage`` counts from 0, offsets are those of the document."""

    passage: int
    start: int
    end: int
    score: float
    quote: str


class FeedbackResponse(BaseModel):
    """Feedback with the very answer it is about. Texts are null where they were not kept, or were erased."""

    request_id: str
    rating: Literal[-1, 1] | None
    correction: str | None
    rated_at: datetime
    asked_at: datetime
    question: str | None
    rewritten_question: str | None
    answer: str | None
    abstained: bool
    confidence: float
    adapter: AdapterUsed | None
    template: str | None
    passages: list[FeedbackPassage]
    citations: list[FeedbackCitation]


class FeedbackPage(Page):
    feedback: list[FeedbackResponse]


class PolicyResponse(BaseModel):
    """What the tenant has decided; see docs/adapters.md."""

    keep_answers: bool
    require_gate: bool
    auto_rollback: bool
    on_erasure: OnErasure


class PolicyRequest(Request):
    """Decisions to change; what is not given stays as it is."""

    keep_answers: bool | None = Field(
        None, description="Keep the texts of answers. False: only which version answered, and how confidently."
    )
    require_gate: bool | None = Field(None, description="Promote only versions that have passed the gate.")
    auto_rollback: bool | None = Field(
        None, description="Roll the active version back when it does worse than the one before; a canary always is."
    )
    on_erasure: OnErasure | None = Field(
        None,
        description="What happens to versions trained on a document deleted or replaced since: `warn`, `block` (no "
        "longer served) or `retrain`.",
    )
