"""The shapes of limits and usage over HTTP."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from app.limits import Override, Quota
from app.schemas import Request, TenantResponse

_Value = Annotated[int, Field(ge=0, le=2**62)] | Literal["unlimited"] | None
_Rate = Annotated[int, Field(ge=1, le=10**9)] | Literal["unlimited"] | None


class LimitsRequest(Request):
    """Limits to change: a number, `unlimited`, or null for the service's default; what is left out stays."""

    documents: _Value = None
    bytes: _Value = None
    adapter_versions: _Value = None
    requests_per_minute: _Rate = None
    tokens_per_day: _Value = None
    training_minutes_per_day: _Value = None

    def changes(self) -> dict[Quota, Override | None]:
        """What was sent."""
        return self.model_dump(include=self.model_fields_set)  # type: ignore[return-value]


class TenantChanges(Request):
    limits: LimitsRequest


class LimitsResponse(BaseModel):
    """Null: no limit."""

    documents: int | None
    bytes: int | None
    adapter_versions: int | None
    requests_per_minute: int | None
    tokens_per_day: int | None
    training_minutes_per_day: int | None


class TenantDetails(TenantResponse):
    """A tenant; ``limits`` are those that hold, ``overrides`` those that were set for it alone."""

    limits: LimitsResponse
    overrides: dict[str, int | Literal["unlimited"]]


class Holdings(BaseModel):
    documents: int
    bytes: int = Field(description="Of documents, as they were sent.")
    chunks: int
    adapter_versions: int


class DayUsageResponse(BaseModel):
    day: str = Field(description="In UTC.")
    requests: int
    questions: int
    prompt_tokens: int
    completion_tokens: int
    tokens: int
    training_minutes: float


class UsageResponse(BaseModel):
    """What the tenant has, what it used today, and on the last days with any use, newest first."""

    holds: Holdings
    today: DayUsageResponse
    limits: LimitsResponse
    days: list[DayUsageResponse]
