"""The shapes of the audit log over HTTP."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, Field

from app.schemas import Page


class AuditEntryResponse(BaseModel):
    """One entry. ``sha256`` is of the entry and the hash of the one before it."""

    number: int
    at: datetime
    key_id: str
    action: str = Field(description="Method and template of the route.")
    object: dict[str, str] = Field(description="Ids of what it was done to, and of what it made.")
    status: int = Field(description="Of the answer.")
    request_id: str
    sha256: str


class AuditPage(Page):
    entries: list[AuditEntryResponse]


class AuditVerification(BaseModel):
    """Whether every entry is what its hash says. Note ``head``: an end that was cut off shows only beside it."""

    valid: bool
    entries: int
    head: str
    broken_at: int | None = Field(description="The first entry that does not fit.")
