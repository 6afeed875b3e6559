"""The shapes of requests and responses of trainings and data sets."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from adapters.training import Method, Objective, Targets
from app.judging import Rule
from app.schemas import Page, Request

MAX_RANK = 256
DatasetName = Annotated[str, Field(min_length=1, max_length=63)]


class FeedbackSource(Request):
    """What people said of answers, taken as a data set of its own when the training is asked for."""

    feedback: Literal[True]


class BuildRequest(Request):
    """Which documents to ask questions of."""

    name: DatasetName | None = None
    documents: list[str] | None = Field(None, min_length=1, max_length=1000, description="Unset: all that are ready.")
    limit: int = Field(500, ge=1, le=10_000, description="Examples at most.")
    held_out: float = Field(0.2, ge=0, le=0.5, description="Share of the documents kept for a set of its own.")


class RuleJudge(Request):
    """Prefers answers whose passages hold what they say, or the shorter of those."""

    rule: Rule


class MannerJudge(Request):
    """Of the answers that the passages support, prefers those in a manner of speaking."""

    begins_with: str = Field(min_length=1, max_length=200)


class ModelJudge(Request):
    """Asks a language model which of two answers is better: the one at LOREBASE_JUDGE, or else the service's own."""

    standard: str = Field(min_length=1, max_length=1000, description="What makes an answer better, in words.")


class JudgeRequest(Request):
    """Whose questions are answered again and again, and who prefers which answer."""

    dataset: str = Field(min_length=1, max_length=100, description="Id or name of a set with the questions.")
    judge: RuleJudge | MannerJudge | ModelJudge
    name: DatasetName | None = None
    adapter: str = Field("base", max_length=100, description="Whose answers are sampled, as in `X-Adapter`.")
    samples: int = Field(4, ge=2, le=16, description="Answers to a question: the likeliest one and drawn ones.")
    temperature: float = Field(1.0, gt=0, le=2)
    limit: int = Field(500, ge=1, le=10_000, description="Questions at most.")
    top_k: int = Field(5, ge=1, le=20, description="Passages to retrieve for a question that brings none.")
    seed: int = Field(0, ge=0, lt=2**31)


class TrainRequest(Request):
    """What to train. What is not given follows from the method and the base model: see docs/training.md."""

    dataset: Annotated[str, Field(min_length=1, max_length=100)] | FeedbackSource = Field(
        description='Id or name of a data set, or `{"feedback": true}`.'
    )
    method: Method = "lora"
    objective: Objective = Field("sft", description="`sft`: answers; `dpo`: pairs of answers; `kto`: rated answers.")
    rank: int | None = Field(None, ge=1, le=MAX_RANK, description="Of the low-rank methods.")
    alpha: int | None = Field(None, ge=1, le=4 * MAX_RANK, description="Unset: twice the rank.")
    targets: Targets | None = Field(None, description="Which linear layers the low-rank methods adapt.")
    virtual_tokens: int | None = Field(None, ge=1, le=256, description="Learned tokens of the prompt methods.")
    width: int | None = Field(None, ge=1, le=1024, description="Of the bottleneck.")
    learning_rate: float | None = Field(None, gt=0, le=1)
    epochs: float | None = Field(None, gt=0, le=1000, description="Passes over the data.")
    batch_size: int | None = Field(None, ge=1, le=256)
    max_length: int | None = Field(None, ge=32, le=8192, description="Tokens of an example at most.")
    beta: float | None = Field(None, gt=0, le=10, description="How closely dpo and kto keep to the base.")
    sft_weight: float | None = Field(
        None, ge=0, le=10, description="Of the better answers' own loss, which is added to dpo's; 0: dpo alone."
    )
    strength: float | None = Field(
        None, gt=0, le=1, description="How far of the way to what was learned; less keeps more of the base."
    )
    seed: int | None = Field(None, ge=0, lt=2**31)
    top_k: int = Field(5, ge=1, le=20, description="Passages to retrieve for an example that brings none.")

    def hyperparameters(self) -> dict[str, Any]:
        """Those that are given."""
        return self.model_dump(exclude_none=True, exclude={"dataset", "objective", "top_k"})


class LossPoint(BaseModel):
    step: int
    loss: float


class LossCurve(BaseModel):
    """Mean loss of the steps before each point."""

    points: list[LossPoint]


class DatasetSourceResponse(BaseModel):
    """A document of the tenant that examples come from, as it was then."""

    document_id: str
    sha256: str
    examples: list[int] = Field(description="Which ones, counted from 0.")


class DatasetResponse(BaseModel):
    """A stored set. ``duplicate``: the same content was there already."""

    id: str
    name: str | None
    source: Literal["upload", "documents", "feedback", "judged"]
    sha256: str
    examples: int
    answered: int = Field(description="Examples that have an answer.")
    with_passages: int = Field(description="Examples that bring their passages; the others are retrieved.")
    documents: int = Field(description="Different documents the examples name.")
    bytes: int
    warnings: list[str]
    created_at: datetime
    file: str | None = Field(None, description="The name of the file it came in.")
    sources: list[DatasetSourceResponse] = Field(description="Documents that examples come from, as far as known.")
    duplicate: bool = False


class DatasetPage(Page):
    datasets: list[DatasetResponse]
