"""The shapes of adapters and their versions."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

from adapters import EventKind
from app.evaluation_schemas import GateAdvice
from app.schemas import Request


class LineageResponse(BaseModel):
    """What a version was made of. What is not known of an uploaded one is null, or empty."""

    origin: Literal["trained", "imported", "uploaded"] = Field(
        description="`trained` here; `imported` with the record of an export; `uploaded`: only its own files tell."
    )
    method: str
    objective: str | None
    parameters: dict[str, Any]
    seed: int | None
    dataset: str | None
    data_sha256: str | None
    base: str | None
    base_fingerprint: str | None
    code_version: str | None
    examples: int | None
    steps: int | None
    trainable: int | None
    seconds: float | None
    final_loss: float | None
    job_id: str | None
    documents: list[str]
    document_sha256: dict[str, str]


class ErasedDocument(BaseModel):
    """A document that a version was trained on, and that is gone since. ``sha256``: of the content that is gone."""

    document_id: str
    sha256: str
    cause: Literal["deleted", "replaced"]
    at: datetime


class GateResponse(BaseModel):
    """What the gate decided over a version; its figures and report: `GET /evaluations/{evaluation_id}`."""

    passed: bool
    promoted: bool
    reasons: list[str]
    advice: GateAdvice | None = Field(None, description="What to do about a version that is held back.")
    evaluation_id: str
    at: datetime


class AdapterVersionResponse(BaseModel):
    version: int
    sha256: str
    bytes: int
    kind: str = Field(description="`lora`, `dora`, `ia3`, `bottleneck`, `prefix_tuning`, … : docs/engine.md.")
    rank: int = Field(description="Of its low-rank products; else its width or number of learned tokens, or 0.")
    state: Literal["registered", "loading", "resident"] = Field(
        description="On disk; on its way into memory; in memory. A question makes a registered one resident."
    )
    pinned: bool = Field(False, description="Whether it stays in memory.")
    created_at: datetime
    lineage: LineageResponse | None = Field(None, description="What it was made of; null where nothing is known.")
    tainted: list[ErasedDocument] = Field(
        default_factory=list, description="Documents it was trained on that are gone; `PUT /policy` says what follows."
    )
    gate: GateResponse | None = Field(None, description="What the gate decided last; null where it was never asked.")


class TrialArm(BaseModel):
    """What a version has answered since the trial began."""

    version: int
    answers: int
    abstained: int
    confidence: float | None
    good: int
    bad: int


class ShadowComparison(BaseModel):
    """Answers of the version in the shadow against those that were given. ``f1``: of the two, 0 to 1."""

    compared: int
    same: int
    f1: float | None
    confidence: float | None


class TrialResponse(BaseModel):
    """A version on trial beside the active one."""

    version: int
    percent: float
    mode: Literal["canary", "shadow"]
    since: datetime
    candidate: TrialArm | None = None
    active: TrialArm | None = None
    shadow: ShadowComparison | None = None


class AdapterEventResponse(BaseModel):
    """Something that happened; ``before``: the version that was active until then."""

    at: datetime
    event: EventKind
    version: int
    before: int | None
    reason: str


class AdapterResponse(BaseModel):
    name: str
    active: int | None
    default: bool
    versions: list[AdapterVersionResponse]
    trial: TrialResponse | None = None
    history: list[AdapterEventResponse] = Field(default_factory=list, description="Newest first.")


class CanaryRequest(Request):
    version: int = Field(ge=1, le=2**31)
    percent: float = Field(ge=0, le=100, description="Share of the requests for the bare name; 0 ends the trial.")
    mode: Literal["canary", "shadow"] = Field(
        "canary", description="`canary`: it answers them. `shadow`: it answers them too, and nobody sees it."
    )


class AdapterList(BaseModel):
    default: str
    adapters: list[AdapterResponse]


class UploadedVersion(BaseModel):
    name: str
    version: int
    sha256: str


class PromoteRequest(Request):
    version: int = Field(ge=1, le=2**31)


class PinRequest(Request):
    pinned: bool = Field(True, description="False releases the pin.")
    version: int | None = Field(None, ge=1, le=2**31, description="The active version unless given.")


class PinnedVersion(BaseModel):
    name: str
    version: int
    pinned: bool


class ActiveVersion(BaseModel):
    name: str
    version: int
    sha256: str


class DefaultAdapterRequest(Request):
    name: str = Field(min_length=1, max_length=63)


class DefaultAdapter(BaseModel):
    name: str
