"""Requests per minute by tenant, shared by the processes on one PostgreSQL database.

The bucket of `app.limits.RequestRates` is a row there. A process takes what a second brings out of it at once, so it
asks once a second at most for a tenant that stays within its rate, and what it does not use within a second is lost to
the tenant for as long as the bucket takes to have it again: a second. Knows one function of the database.
"""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from app.limits import Allowance

if TYPE_CHECKING:
    from ingest.postgres import PostgresServer

_MINUTE = 60.0
_PORTION_SECONDS = 1.0

RATE_TABLES = """
CREATE UNLOGGED TABLE request_rates (
    tenant_id text PRIMARY KEY REFERENCES tenants (id) ON DELETE CASCADE,
    full_at double precision NOT NULL
);
-- Takes up to so many requests out of the bucket of a minute, which gains one ``every`` so many seconds; how many it
-- had, and in how many seconds it is full again. A tenant that is gone is refused elsewhere.
CREATE FUNCTION take_requests(
    taker text, every double precision, wanted integer, OUT granted integer, OUT full_in double precision
) LANGUAGE plpgsql AS $$
DECLARE
    known double precision;
    now double precision;
BEGIN
    INSERT INTO request_rates (tenant_id, full_at) SELECT id, 0 FROM tenants WHERE id = taker ON CONFLICT DO NOTHING;
    SELECT full_at INTO known FROM request_rates WHERE tenant_id = taker FOR UPDATE;
    now := extract(epoch FROM clock_timestamp());
    known := greatest(coalesce(known, 0), now);
    granted := greatest(0, least(wanted, floor((60 - (known - now)) / every + 1e-6)::integer));
    full_in := known + granted * every - now;
    UPDATE request_rates SET full_at = now + full_in WHERE tenant_id = taker;
END $$;
"""
"""A migration of the central tables in PostgreSQL."""


@dataclass
class _Portion:
    """What this process has of a tenant's bucket; times by the monotonic clock."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    limit: int = 0
    left: int = 0
    until: float = 0.0
    full_at: float = 0.0  # when the bucket is full again, as it was told last
    empty_until: float = 0.0


class SharedRates:
    """See `app.limits.Rates`."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        self._portions: dict[str, _Portion] = {}

    def take_held(self, tenant_id: str, limit: int) -> Allowance | None:
        """See `Rates`."""
        portion = self._portions.get(tenant_id)
        if portion is None or not portion.lock.acquire(blocking=False):
            return None
        try:
            return _held(portion, limit)
        finally:
            portion.lock.release()

    def take(self, tenant_id: str, limit: int) -> Allowance:
        """See `Rates`. Raises DatabaseUnavailable."""
        portion = self._portions.setdefault(tenant_id, _Portion())
        with portion.lock:
            found = _held(portion, limit)
            if found is None:
                self._fetch(portion, tenant_id, limit)
                found = _held(portion, limit)
            assert found is not None  # noqa: S101 - it was granted or refused just now
            return found

    def forget(self, tenant_id: str) -> None:
        """See `Rates`."""
        self._portions.pop(tenant_id, None)

    def _fetch(self, portion: _Portion, tenant_id: str, limit: int) -> None:
        each = _MINUTE / limit
        wanted = max(1, int(limit * _PORTION_SECONDS / _MINUTE))
        row = self._server.execute("SELECT * FROM take_requests(%s, %s, %s)", (tenant_id, each, wanted))[0]
        now = time.monotonic()
        portion.limit, portion.left = limit, row["granted"]
        portion.full_at, portion.until = now + row["full_in"], now + _PORTION_SECONDS
        portion.empty_until = 0.0 if row["granted"] else now + max(1e-3, row["full_in"] + each - _MINUTE)


def _held(portion: _Portion, limit: int) -> Allowance | None:
    """One request out of what is held, or the refusal that was told; None: the bucket must be asked."""
    now, each = time.monotonic(), _MINUTE / limit
    if portion.limit != limit:
        return None
    retry = portion.empty_until - now
    if retry <= 0:
        if portion.left <= 0 or now >= portion.until:
            return None
        portion.left -= 1
    full_in = max(0.0, portion.full_at - now)
    left = 0 if retry > 0 else math.floor((_MINUTE - full_in) / each + 1e-6) + portion.left
    return Allowance("requests", limit, int(_MINUTE), max(0, left), full_in, retry if retry > 0 else None)
