"""The shapes of requests and responses of trainings and data sets."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from adapters.training import Method, Objective, Targets
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


class TrainRequest(Request):
    """What to train. What is not given follows from the method and the base model: see docs/training.md."""

    dataset: Annotated[str, Field(min_length=1, max_length=100)] | FeedbackSource = Field(
        description='Id or name of a data set, or `{"feedback": true}`.'
    )
    method: Method = "lora"
    objective: Objective = Field("sft", description="`sft`: answers; `dpo`: pairs of answers; `kto`: rated answers.")
    rank: int | None = Field(None, ge=1, le=MAX_RANK, description="Of the low-rank methods.")
    alpha: int | None = Field(None, ge=1, le=4 * MAX_RANK, description="Unset: twice the rank.")
    targets: Targets | None = Field(None, description="Which linear layers the low-rank methods and ia3 adapt.")
    virtual_tokens: int | None = Field(None, ge=1, le=256, description="Learned tokens of the prompt methods.")
    width: int | None = Field(None, ge=1, le=1024, description="Of the bottleneck.")
    learning_rate: float | None = Field(None, gt=0, le=1)
    epochs: float | None = Field(None, gt=0, le=1000, description="Passes over the data.")
    batch_size: int | None = Field(None, ge=1, le=256)
    max_length: int | None = Field(None, ge=32, le=8192, description="Tokens of an example at most.")
    beta: float | None = Field(None, gt=0, le=10, description="How closely dpo and kto keep to the base.")
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


class DatasetResponse(BaseModel):
    """A stored set. ``duplicate``: the same content was there already."""

    id: str
    name: str | None
    source: Literal["upload", "documents", "feedback"]
    sha256: str
    examples: int
    answered: int = Field(description="Examples that have an answer.")
    with_passages: int = Field(description="Examples that bring their passages; the others are retrieved.")
    documents: int = Field(description="Different documents the examples name.")
    bytes: int
    warnings: list[str]
    created_at: datetime
    duplicate: bool = False


class DatasetPage(Page):
    datasets: list[DatasetResponse]
