"""The shapes of evaluations and gates: what a question set may look like, and what comes of it."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field, model_validator

from app.life.advice import Because
from app.life.gates import MARGIN, TOLERANCE
from app.life.question_sets import MOST_QUESTIONS
from app.schemas import Collection, Page, Request, TopK


class GoldAnswer(Request):
    """A right answer; with ``document_id`` and ``start`` recall is judged by its place instead of by its text."""

    text: str = Field(min_length=1, max_length=4000)
    document_id: str | None = Field(None, max_length=200)
    start: int | None = Field(None, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _text_alone(cls, body: Any) -> Any:
        return {"text": body} if isinstance(body, str) else body

    @model_validator(mode="after")
    def _wholly_placed(self) -> GoldAnswer:
        if (self.document_id is None) != (self.start is None):
            raise ValueError("give document_id and start together")
        return self


class EvaluationQuestion(Request):
    question: str = Field(min_length=1, max_length=4000, pattern=r"\S")
    answers: list[GoldAnswer] = Field(max_length=50, description="Texts, or objects; none: it has no answer.")
    context: str | None = Field(None, min_length=1, max_length=100_000, description="The paragraph that answers it.")


class QuestionSet(Request):
    """A question set: ``questions``, or ``data`` in SQuAD's format."""

    name: str = Field("", max_length=200)
    questions: list[EvaluationQuestion] | None = Field(None, min_length=1, max_length=MOST_QUESTIONS)
    version: Any = Field(None, description="As SQuAD's files have it; not used.")
    data: list[Any] | None = Field(None, min_length=1, description="SQuAD's articles.")
    limit: int | None = Field(None, ge=1, le=MOST_QUESTIONS, description="Ask only so many, drawn by seed.")
    seed: int = Field(0, ge=0, lt=2**31)
    passages: Literal["retrieved", "given"] = Field(
        "retrieved", description="`given`: each question is answered from its own paragraph, without retrieval."
    )
    top_k: TopK = 5
    collection: Collection | None = None
    filter: dict[str, Any] | None = None
    abstain: Literal["auto", "on", "off"] = Field(
        "auto", description="May it abstain? auto: only if the set has questions without an answer, as SQuAD does."
    )

    @model_validator(mode="after")
    def _one_shape(self) -> QuestionSet:
        if (self.questions is None) == (self.data is None):
            raise ValueError("send either questions (a list) or data (SQuAD's format)")
        return self


class EvaluateRequest(QuestionSet):
    adapter: str | None = Field(
        None, max_length=80, description="`name` or `name@version` to compare with the base; unset: the default one."
    )
    template: str | None = Field(None, max_length=80)


class GateRequest(QuestionSet):
    margin: float = Field(MARGIN, ge=0, le=100, description="F1 points it must be better by, beyond chance.")
    tolerance: float = Field(TOLERANCE, ge=0, le=100, description="F1 points it may lose on the general set.")
    promote: bool = Field(True, description="Promote it when it passes.")


class EvaluationStarted(BaseModel):
    evaluation_id: str
    job_id: str


class EvaluationFigures(BaseModel):
    """EM and F1 in percent, F1 with its 95 % interval; shares from 0 to 1; null where undefined.

    ``citation_correct``: of the answers that cite, the share with a citation that holds a right answer. ``tokens``:
    read and written per question. ``refused``: questions that could not be asked; they count as wrong.
    """

    n: int
    em: float
    f1: float
    f1_low: float
    f1_high: float
    recall: dict[str, float] | None
    mrr: float | None
    citation_correct: float | None
    abstained: float
    abstain_precision: float | None
    abstain_recall: float | None
    p50_ms: float
    p95_ms: float
    tokens: float
    refused: int


class EvaluationWay(BaseModel):
    """A way to answer, with its figures; ``impossible`` says why it has none."""

    way: Literal["prompt_only", "rag", "adapter", "rag_adapter", "base", "active", "candidate"]
    title: str
    adapter: str
    figures: EvaluationFigures | None = None
    impossible: str | None = None


class EvaluationDifference(BaseModel):
    """By how many F1 points ``first`` is better than ``second``, with the paired 95 % interval."""

    first: str
    second: str
    f1: float
    low: float
    high: float


class Recommendation(BaseModel):
    way: str
    text: str


class GateAdvice(BaseModel):
    """Why a version is held back, and what to do; the figures are those of the rival it does not beat."""

    because: Because = Field(
        description="`forgets` what the base knows; `too_few` questions; `worse` beyond chance; `no_gain` above the "
        "margin; a gain `too_small` beside its spread; `undecided`: more questions would probably decide."
    )
    text: str
    questions: int = Field(description="Asked.")
    rival: Literal["base", "active"] | None = None
    gain: float | None = Field(None, description="F1 points it is better by; `low` and `high`: the 95 % interval.")
    low: float | None = None
    high: float | None = None
    even: int | None = Field(None, description="Further questions that let it pass one time in two, if the gain stays.")
    likely: int | None = Field(None, description="Further questions that let it pass four times in five.")
    next: str = Field(description="The route to go on with.")
    promote_anyway: str | None = Field(
        description="The route that lets it serve all the same; null: policy forbids it."
    )


class GateVerdict(BaseModel):
    passed: bool
    promoted: bool
    reasons: list[str]
    advice: GateAdvice | None = Field(None, description="What to do about a version that is held back.")


class EvaluationSummary(BaseModel):
    id: str
    job_id: str
    kind: Literal["evaluate", "gate"]
    name: str
    state: Literal["queued", "running", "succeeded", "failed", "cancelled"]
    error: str | None
    questions: int
    created_at: datetime


class EvaluationResponse(EvaluationSummary):
    """An evaluation; figures, differences and what follows from them are there when it has succeeded."""

    ways: list[EvaluationWay]
    differences: list[EvaluationDifference] = Field(default_factory=list)
    recommendation: Recommendation | None = None
    gate: GateVerdict | None = None
    general: EvaluationDifference | None = Field(None, description="Candidate against base on the general set.")


class EvaluationPage(Page):
    evaluations: list[EvaluationSummary]
