"""The shapes of keys over HTTP."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, Field, model_validator

from app.keys import KeyTerms
from app.schemas import Collection, Request
from app.scopes import TenantScope

_OF_A_COLLECTION = frozenset({"ask", "ingest"})


class AdminKeyRequest(Request):
    name: str = Field("", max_length=100, description="For people: what the key is for.")
    expires_at: AwareDatetime | None = Field(None, description="With its time zone; unset: it does not expire.")

    @model_validator(mode="after")
    def _ends_later(self) -> AdminKeyRequest:
        if self.expires_at is not None and self.expires_at.timestamp() <= time.time():
            raise ValueError("expires_at has passed already")
        return self

    def terms(self) -> KeyTerms:
        return KeyTerms(self.name, expires_at=self.expires_at.timestamp() if self.expires_at else None)


class KeyRequest(AdminKeyRequest):
    """What a new key opens. `admin` includes the other scopes."""

    scopes: list[TenantScope] = Field(["admin"], min_length=1, max_length=4)
    collections: Annotated[list[Collection], Field(min_length=1, max_length=100)] | None = Field(
        None, description="The only collections it reaches; unset: all. Only for the scopes ask and ingest."
    )

    @model_validator(mode="after")
    def _fits(self) -> KeyRequest:
        if self.collections is not None and not set(self.scopes) <= _OF_A_COLLECTION:
            raise ValueError("a key for some collections can have the scopes ask and ingest; give them in scopes")
        return self

    def terms(self) -> KeyTerms:
        collections = None if self.collections is None else tuple(sorted(set(self.collections)))
        return KeyTerms(self.name, tuple(sorted(set(self.scopes))), collections, super().terms().expires_at)


class RotateRequest(Request):
    overlap_seconds: float = Field(
        86_400.0, ge=0, le=90 * 86_400, description="How long the old key goes on; 0: it ends now."
    )


class KeyCreated(BaseModel):
    id: str
    api_key: str


class KeyRotated(KeyCreated):
    """The new key, and when the old one ends."""

    replaces: str
    old_expires_at: datetime


class KeyResponse(BaseModel):
    """A key; ``environment``: it is set by a variable, and comes back at the next start while that is set."""

    id: str
    name: str
    scopes: list[str]
    collections: list[str] | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None = Field(description="To the minute.")
    environment: bool


class KeyList(BaseModel):
    keys: list[KeyResponse]


class OwnKey(BaseModel):
    """The key that asks: ``tenant_id`` is null for the admin's."""

    key_id: str
    tenant_id: str | None
    scopes: list[str]
    collections: list[str] | None
