"""What a tenant may have and do: the service's defaults, and what the admin sets for one tenant.

Sizes (documents, bytes, adapter versions) are held where they grow, inside the transaction that grows them; rates and
budgets before a request is read. Everything is without limit unless set. Knows numbers and rows; no HTTP.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Literal, Protocol

from ingest import Database

Quota = Literal[
    "documents", "bytes", "adapter_versions", "requests_per_minute", "tokens_per_day", "training_minutes_per_day"
]
UNLIMITED: Literal["unlimited"] = "unlimited"
Override = int | Literal["unlimited"]

LIMITS_COLUMN = "ALTER TABLE tenants ADD COLUMN limits TEXT NOT NULL DEFAULT '{}';  -- JSON: quota → number, unlimited"
"""A migration of the central database."""
_MINUTE = 60.0


@dataclass(frozen=True, slots=True)
class Limits:
    """A tenant's limits; None: none. Days are those of UTC; ``bytes`` are those of documents as they were sent."""

    documents: int | None = None
    bytes: int | None = None
    adapter_versions: int | None = None
    requests_per_minute: int | None = None
    tokens_per_day: int | None = None
    training_minutes_per_day: int | None = None


class QuotaExceeded(Exception):
    """A tenant has or would have more than it may; the message says what to do."""

    def __init__(self, quota: Quota, limit: int, used: float, what_to_do: str) -> None:
        super().__init__(f"This tenant's limit of {quota.replace('_', ' ')} is {limit}. {what_to_do}")
        self.quota = quota
        self.limit = limit
        self.used = round(used, 2)


class TenantLimits:
    """The limits of every tenant, in memory and in the central database."""

    def __init__(self, database: Database, defaults: Limits) -> None:
        self._database = database
        self._defaults = defaults
        self._lock = threading.Lock()
        self._overrides: dict[str, dict[Quota, Override]] = {}
        self._limits: dict[str, Limits] = {}
        self.refresh()

    def refresh(self) -> None:
        """Take over what another process has set."""
        with self._lock:
            with self._database.read() as connection:
                rows = connection.execute("SELECT id, limits FROM tenants WHERE limits <> '{}'").fetchall()
            self._overrides = {row["id"]: json.loads(row["limits"]) for row in rows}
            self._limits = {tenant_id: _overridden(self._defaults, own) for tenant_id, own in self._overrides.items()}

    def of(self, tenant_id: str) -> Limits:
        """What holds for a tenant now."""
        return self._limits.get(tenant_id, self._defaults)

    def overrides(self, tenant_id: str) -> Mapping[Quota, Override]:
        """What was set for this tenant alone."""
        return self._overrides.get(tenant_id, {})

    def change(self, tenant_id: str, changes: Mapping[Quota, Override | None]) -> Limits:
        """Set limits of one tenant, from now on; None lets the default hold again. The limits that hold now."""
        with self._lock, self._database.write() as connection:
            row = connection.execute("SELECT limits FROM tenants WHERE id = ?", (tenant_id,)).fetchone()
            before: Mapping[Quota, Override] = json.loads(row["limits"]) if row else {}
            own = {quota: value for quota, value in {**before, **changes}.items() if value is not None}
            connection.execute("UPDATE tenants SET limits = ? WHERE id = ?", (json.dumps(own), tenant_id))
            self._overrides[tenant_id] = own
            self._limits[tenant_id] = _overridden(self._defaults, own)
            return self._limits[tenant_id]

    def forget(self, tenant_id: str) -> None:
        """The tenant is gone."""
        with self._lock:
            self._overrides.pop(tenant_id, None)
            self._limits.pop(tenant_id, None)


def _overridden(defaults: Limits, own: Mapping[Quota, Override]) -> Limits:
    known = {each.name for each in fields(Limits)}
    values = {quota: None if value == UNLIMITED else value for quota, value in own.items() if quota in known}
    return replace(defaults, **values)


@dataclass(frozen=True, slots=True)
class Allowance:
    """How a rate or budget stands: ``remaining`` of ``limit`` in a window of seconds; ``reset``: seconds until all of
    it is there again. ``retry``: seconds until one more is let through, None when it is now."""

    name: Literal["requests", "tokens"]
    limit: int
    window: int
    remaining: int
    reset: float
    retry: float | None


class Rates(Protocol):
    """Requests per minute by tenant."""

    def take_held(self, tenant_id: str, limit: int) -> Allowance | None:
        """As `take`, without asking anybody; None where somebody must be asked."""

    def take(self, tenant_id: str, limit: int) -> Allowance:
        """Take one request out of a tenant's bucket, if there is one."""

    def forget(self, tenant_id: str) -> None:
        """The tenant is gone."""


class RequestRates:
    """Requests per minute by tenant, in memory: a bucket that holds a minute's requests and fills evenly (the generic
    cell rate algorithm, ITU-T I.371). By the monotonic clock, so that a clock that is set changes nothing."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._full_at: dict[str, float] = {}  # when the tenant's bucket is full again

    def take_held(self, tenant_id: str, limit: int) -> Allowance | None:
        """See `Rates`: nobody need be asked."""
        return self.take(tenant_id, limit)

    def take(self, tenant_id: str, limit: int) -> Allowance:
        """Take one request out of the bucket, if there is one."""
        each = _MINUTE / limit
        with self._lock:
            now = self._clock()
            full_at = max(self._full_at.get(tenant_id, now), now)
            retry = full_at + each - now - _MINUTE
            # A billionth: the sum of many sixtieths is not exact.
            refused = retry > 1e-9
            if not refused:
                full_at += each
                self._full_at[tenant_id] = full_at
        left = math.floor((_MINUTE - (full_at - now)) / each + 1e-6)
        return Allowance("requests", limit, int(_MINUTE), max(0, left), full_at - now, retry if refused else None)

    def forget(self, tenant_id: str) -> None:
        """The tenant is gone."""
        with self._lock:
            self._full_at.pop(tenant_id, None)


def seconds_left_today(now: float) -> float:
    """Seconds from ``now`` (since the epoch) to the end of its day in UTC."""
    return 86_400.0 - now % 86_400.0
