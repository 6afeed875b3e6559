"""What happens before a request's body is read: who is asking, whether the body may be that large, whether the service
still takes requests; and what is noted when the request has ended.

ASGI middleware. Knows headers and keys; never reads a body itself.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import re
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from adapters.errors import QueueFull
from app.audit import AuditEntry, Subject, begin_subject, current_subject
from app.bearer import bearer_key, same_key, unauthorized
from app.body_limits import BodyLimits
from app.keys import Principal
from app.limits import Allowance
from app.logs import current_request
from app.metrics import NO_ROUTE, Metrics
from app.page_files import PAGE_PATHS
from app.places import Places
from app.problems import Problem, problem_of, problem_response
from app.scopes import METRICS, OPERATOR, Rule, Rulebook, RuledRoute
from ingest import STORAGE_ERRORS

_log = logging.getLogger("lorebase.access")
PUBLIC_PATHS = frozenset({"/livez", "/readyz", "/openapi.json", *PAGE_PATHS})
METRICS_PATH = "/metrics"
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_ENDLESS_ROUTES = frozenset({"/jobs/{job_id}/events"})  # as slow as the job


@dataclass(eq=False)
class _Exchange:
    """One request and what has been answered so far."""

    scope: Scope
    send: Send
    request_id: str
    began: float
    status: int = 0
    events: bool = False
    ended: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)  # of the response, whatever it is
    place: ExitStack = field(default_factory=ExitStack)  # among the questions under way, to be left at the end
    tell: Callable[[int], Awaitable[None]] | None = None  # writes what was done, before it is answered
    lapsed: bool = False  # asked for with a key that opens nothing any more
    last: bool = False  # the service is stopping: the connection ends with this response

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["X-Request-Id"] = self.request_id
            headers.update(self.headers)
            if self.last:
                headers["Connection"] = "close"
            self.status = message["status"]
            if self.tell is not None and not self.scope["state"].get("replayed"):
                await self.tell(self.status)
            self.events = headers.get("content-type", "").startswith("text/event-stream")
        elif message["type"] == "http.response.body":
            self.ended = not message.get("more_body", False)
        await self.send(message)


class Access:
    """Authenticates every request that is not public, and caps the size of bodies.

    A key opens the routes its scopes are for; who is asking lies in
    ``scope["state"]["principal"]``, the request's id in ``scope["state"]["request_id"]``: the client's
    ``X-Request-ID`` where it is well-formed, else a made one.

    Args:
        principal: looks a key up; None for an unknown key.
        rules: which scopes open which route.
        max_body_bytes: larger bodies are answered 413, declared ones before a byte of them is read.
        body_seconds: a request whose body stands still for longer is answered 408.
        metrics: told of every request that has ended.
        metrics_key: opens the metrics, beside an admin key.
        allowances: how a tenant stands in its rates and budgets, once this request is taken from them; told whether
            the request is one that spends tokens.
        questions: the places of questions and searches, of which each takes one for as long as it is under way.
        used: told of every key that opens a route.
        tell: writes into a tenant's audit log; told whether the entry is of a refused key.
        draining: once set, new requests are answered 503 and those under way finish.
        slow_seconds: requests that take longer are logged as slow, with what is known of their stages; 0: never.
    """

    def __init__(
        self,
        app: ASGIApp,
        principal: Callable[[str], Awaitable[Principal | None]],
        rules: Rulebook,
        max_body_bytes: int,
        body_seconds: float,
        metrics: Metrics,
        metrics_key: str | None,
        allowances: Callable[[str, bool], Awaitable[Sequence[Allowance]]],
        questions: Places,
        used: Callable[[str], None],
        tell: Callable[[str, AuditEntry, bool], None],
        draining: threading.Event,
        slow_seconds: float,
    ) -> None:
        self._app = app
        self._principal = principal
        self._rules = rules
        self._bodies = BodyLimits(max_body_bytes, body_seconds)
        self._metrics = metrics
        self._metrics_key = metrics_key
        self._allowances = allowances
        self._questions = questions
        self._used = used
        self._tell = tell
        self._draining = draining
        self._slow_seconds = slow_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        current_request.set(request_id)
        exchange = _Exchange(scope, send, request_id, time.perf_counter(), last=self._draining.is_set())
        try:
            await self._admit(scope, exchange)
        except Problem as problem:
            await problem_response(problem, scope)(scope, receive, exchange)
            if exchange.lapsed:  # after the answer, which comes as soon as to a key that never was
                await self._audit(exchange, problem.status_code, refusal=True)
        except STORAGE_ERRORS as error:  # no key can be looked up now
            await problem_response(problem_of(error), scope)(scope, receive, exchange)
        else:
            await self._answer(scope, receive, exchange)
        finally:
            exchange.place.close()
            self._note(exchange)

    async def _answer(self, scope: Scope, receive: Receive, exchange: _Exchange) -> None:
        try:
            await self._app(scope, self._bodies.capped(receive), exchange)
        except asyncio.CancelledError:  # the time to finish in after SIGTERM is over
            await _cut_short(scope, receive, exchange)
        except Exception as error:  # the application answers its own; this is from between it and here
            if exchange.status:
                raise
            await problem_response(problem_of(error), scope)(scope, receive, exchange)

    def _note(self, exchange: _Exchange) -> None:
        """Log and count a request that has ended."""
        scope, seconds = exchange.scope, time.perf_counter() - exchange.began
        route = getattr(scope.get("route"), "path", NO_ROUTE)
        self._metrics.request(scope["method"], route, exchange.status, seconds)
        fields = {"request_id": exchange.request_id, "method": scope["method"], "path": scope["path"]}
        extra = {**fields, "status": exchange.status, "ms": round(seconds * 1000, 1)}
        level = logging.DEBUG if scope["path"] in PUBLIC_PATHS | {METRICS_PATH} else logging.INFO
        _log.log(level, "request", extra=extra)
        if 0 < self._slow_seconds < seconds and route not in _ENDLESS_ROUTES:
            _log.warning("slow request", extra={**extra, "stages": scope["state"].get("stages")})

    async def _admit(self, scope: Scope, exchange: _Exchange) -> None:
        headers = Headers(scope=scope)
        if scope["path"] not in PUBLIC_PATHS:
            principal = scope["state"]["principal"] = await self._authenticate(headers, scope["path"])
            route = scope["state"]["route"] = self._rules.find(scope["method"], scope["path"])
            exchange.lapsed = principal.lapsed is not None
            if exchange.lapsed:
                raise _unknown_key()
            if route is not None and (closed := _closed(principal, route.rule)) is not None:
                await self._audit(exchange, closed.status_code, refusal=True)
                raise closed
            self._used(principal.key_id)
            if route is not None and route.audited:
                exchange.tell = partial(self._audit, exchange)
                begin_subject()
            exchange.headers = await self._within_rates(principal, route)
            if self._draining.is_set() and scope["path"] != METRICS_PATH:
                raise _stopping()
            if route is not None and route.asks and principal.tenant_id is not None:
                self._take_place(principal.tenant_id, exchange)
        self._bodies.refuse_declared(headers)

    def _take_place(self, tenant_id: str, exchange: _Exchange) -> None:
        """Let a question in. Raises the Problem 429 where its tenant has its share of places already."""
        try:
            exchange.place.enter_context(self._questions.take(tenant_id))
        except QueueFull as error:
            raise problem_of(error) from error

    async def _within_rates(self, principal: Principal, route: RuledRoute | None) -> Mapping[str, str]:
        """Take the request from what its tenant may do; the headers that tell what is left. Raises the Problem 429."""
        if principal.tenant_id is None:
            return {}
        spends = route is not None and route.rule.spends_tokens
        allowances = await self._allowances(principal.tenant_id, spends)
        headers = rate_headers(allowances)
        for each in allowances:
            if each.retry is not None:
                raise _over_rate(each, headers)
        return headers

    async def _authenticate(self, headers: Headers, path: str) -> Principal:
        key = bearer_key(headers)
        if key is not None and path == METRICS_PATH and self._opens_metrics(key):
            return Principal("metrics", None, frozenset({METRICS}))
        principal = await self._principal(key) if key is not None else None
        if principal is None:
            raise _unknown_key() if key is not None else unauthorized()
        return principal

    async def _audit(self, exchange: _Exchange, status: int, refusal: bool = False) -> None:
        """Write into the audit log of the tenant whose affair a request is, if it is one's, how it is answered."""
        principal: Principal = exchange.scope["state"]["principal"]
        route: RuledRoute | None = exchange.scope["state"]["route"]
        named = route.ids(exchange.scope["path"]) if route is not None else {}
        subject = Subject() if refusal else current_subject()
        tenant_id = principal.tenant_id or subject.tenant_id or named.get("tenant_id")
        if tenant_id is not None:
            # What was refused or not found may name anything, a key by mistake even: that is not kept.
            about = {**named, **subject.ids} if status < 400 else {}
            action = str(route) if route is not None else "(no such route)"
            entry = AuditEntry(principal.key_id, action, about, status, exchange.request_id)
            await asyncio.to_thread(self._tell, tenant_id, entry, refusal)

    def _opens_metrics(self, key: str) -> bool:
        return self._metrics_key is not None and same_key(key, self._metrics_key)


def rate_headers(allowances: Sequence[Allowance]) -> dict[str, str]:
    """The RateLimit fields of draft-ietf-httpapi-ratelimit-headers-10; none where there is no limit."""
    if not allowances:
        return {}
    return {
        "RateLimit-Policy": ", ".join(f'"{each.name}";q={each.limit};w={each.window}' for each in allowances),
        "RateLimit": ", ".join(f'"{each.name}";r={each.remaining};t={math.ceil(each.reset)}' for each in allowances),
    }


def _over_rate(over: Allowance, headers: Mapping[str, str]) -> Problem:
    again = max(1, math.ceil(over.retry or 0))
    if over.name == "requests":
        code = "rate_limited"
        detail = f"This tenant may send {over.limit} requests a minute. Send this again in {again} s, or less often."
    else:
        code = "quota_exceeded"
        detail = (
            f"This tenant's {over.limit} tokens of today are spent. They come back at midnight (UTC), in {again} s; "
            "the service's admin can give more."
        )
    quota = "requests_per_minute" if over.name == "requests" else "tokens_per_day"
    return Problem(429, code, detail, {"Retry-After": str(again), **headers}, quota=quota, limit=over.limit)


def _closed(principal: Principal, rule: Rule) -> Problem | None:
    """The 403 of a key that does not open a route; None when it does."""
    if rule.scopes & principal.scopes:
        if principal.collections is None or rule.by_collection:
            return None
        return Problem(
            403,
            "collection_key",
            "This key reaches only some of the tenant's collections, and this route is not made for such keys; use "
            "another key.",
        )
    if principal.tenant_id is None:
        return Problem(403, "forbidden", "The admin key belongs to no tenant; use a tenant's key here.")
    wanted = sorted(rule.scopes - {OPERATOR, METRICS})
    if not wanted:
        return Problem(403, "forbidden", "This needs the admin key.")
    return Problem(
        403,
        "missing_scope",
        f"This key's scopes are {', '.join(sorted(principal.scopes))}; this needs {' or '.join(wanted)}. Use a key "
        "that has it, or ask the tenant's admin for one.",
        needs=wanted,
    )


async def _cut_short(scope: Scope, receive: Receive, exchange: _Exchange) -> None:
    """End a request that the stop of the service cancels: as a problem, or as the last event of a stream."""
    if not exchange.status:
        exchange.last = True
        await problem_response(_stopping(), scope)(scope, receive, exchange)
    elif exchange.events and not exchange.ended:
        problem = _stopping()
        data = json.dumps({"status": problem.status_code, "code": problem.code, "detail": problem.detail})
        await exchange({"type": "http.response.body", "body": f"event: error\ndata: {data}\n\n".encode()})


def _unknown_key() -> Problem:
    return unauthorized("This key is unknown, revoked or expired.")


def _stopping() -> Problem:
    return Problem(503, "stopping", "The service is shutting down; send this again in a moment.", {"Retry-After": "2"})
