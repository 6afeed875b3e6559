"""Answers a request with an `Idempotency-Key` that was answered before as it was answered then.

The answer is kept (`app.idempotency`) before it is sent; the same key with another body is refused. Of two at once the
second waits for the first, in whichever process that is. ASGI middleware inside `app.access`, which says who is asking.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.idempotency import IdempotencyStore, Interrupted, KeptAnswer, KeyReused, Underway, claiming
from app.keys import Principal
from app.problems import Problem
from app.scopes import RuledRoute, takes_idempotency_key

HEADER = "Idempotency-Key"
_KEY = re.compile(r"[!-~]{1,200}")
_BOUNDARY = re.compile(rb'boundary="?([^";,]+)')
_ASK_SECONDS = 0.1  # between two looks at what another process has under way
_KEPT_HEADERS = frozenset({b"content-type", b"location"})


class Idempotency:
    """Answers a request with a key that was answered before as it was answered then.

    Args:
        open_store: a tenant's store; None when the tenant is gone.
        is_live: whether another process is there, in which a request may be under way.
    """

    def __init__(
        self, app: ASGIApp, open_store: Callable[[str], IdempotencyStore | None], is_live: Callable[[str], bool]
    ) -> None:
        self._app = app
        self._open_store = open_store
        self._is_live = is_live
        self._turns: dict[tuple[str, str], _Turn] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        key = Headers(scope=scope).get(HEADER) if scope["type"] == "http" else None
        principal: Principal | None = scope.get("state", {}).get("principal")
        route: RuledRoute | None = scope.get("state", {}).get("route")
        if key is None or route is None or not takes_idempotency_key(route) or not (principal and principal.tenant_id):
            await self._app(scope, receive, send)
            return
        if not _KEY.fullmatch(key):
            raise Problem(
                422, "invalid_idempotency_key", f"{HEADER} must be 1 to 200 visible ASCII characters; use a UUID."
            )
        body = await _whole(receive)
        if body is None:
            return
        store = await asyncio.to_thread(self._open_store, principal.tenant_id)
        if store is None:
            raise Problem(401, "unauthorized", "This key's tenant is gone.", {"WWW-Authenticate": "Bearer"})
        async with self._turn(principal.tenant_id, key):
            await self._once(store, key, scope, body, receive, send)

    async def _once(
        self, store: IdempotencyStore, key: str, scope: Scope, body: bytes, receive: Receive, send: Send
    ) -> None:
        try:
            kept = await self._claimed(store, key, _fingerprint(scope, body))
        except KeyReused as error:
            raise Problem(
                422,
                "idempotency_key_reused",
                f"This {HEADER} was sent with another request before; use a new one for a new request.",
            ) from error
        except Interrupted as error:
            raise Problem(
                409,
                "interrupted",
                "The service ended while it answered this; what was asked for is done by the job that is named here: "
                "GET /jobs/{id}. Nothing was begun twice.",
                job_id=error.job_id,
            ) from error
        if kept is not None:
            scope["state"]["replayed"] = True
            await _send_kept(kept, send)
            return
        answer = _Answer()
        try:
            with claiming(key):
                await self._app(scope, _again(body, receive), answer)
        finally:
            done = answer.kept()
            if done is None or done.status >= 400:
                await asyncio.to_thread(store.release, key)
        if done is not None and done.status < 400:
            await asyncio.to_thread(store.keep, key, done)
        for message in answer.messages:
            await send(message)

    async def _claimed(self, store: IdempotencyStore, key: str, fingerprint: str) -> KeptAnswer | None:
        """As `IdempotencyStore.claim`, once no other process has the request under way."""
        gone: str | None = None
        while True:
            try:
                return await asyncio.to_thread(store.claim, key, fingerprint, gone)
            except Underway as error:
                if await asyncio.to_thread(self._is_live, error.replica):
                    await asyncio.sleep(_ASK_SECONDS)
                else:
                    gone = error.replica

    @asynccontextmanager
    async def _turn(self, tenant_id: str, key: str) -> AsyncIterator[None]:
        """Held by one request of a key at a time."""
        turn = self._turns.setdefault((tenant_id, key), _Turn())
        turn.wanted += 1
        try:
            async with turn.lock:
                yield
        finally:
            turn.wanted -= 1
            if not turn.wanted:
                del self._turns[tenant_id, key]


@dataclass(eq=False)
class _Turn:
    """``wanted``: requests that hold the lock or wait for it."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    wanted: int = 0


class _Answer:
    """Takes an answer's messages in, to be sent when it is kept."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    async def __call__(self, message: Message) -> None:
        self.messages.append(message)

    def kept(self) -> KeptAnswer | None:
        """The answer; None while it is not whole."""
        if not self.messages or self.messages[-1].get("more_body", False) or len(self.messages) < 2:
            return None
        start = self.messages[0]
        headers = [(k.decode("latin-1"), v.decode("latin-1")) for k, v in start["headers"] if k in _KEPT_HEADERS]
        return KeptAnswer(start["status"], headers, b"".join(m.get("body", b"") for m in self.messages[1:]))


async def _whole(receive: Receive) -> bytes | None:
    """A request's body; None when the client has left."""
    pieces = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        pieces.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(pieces)


def _again(body: bytes, receive: Receive) -> Receive:
    """Gives a body that was read already, and then what else comes."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def _send_kept(kept: KeptAnswer, send: Send) -> None:
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in kept.headers]
    headers += [(b"content-length", str(len(kept.body)).encode()), (b"idempotency-replayed", b"true")]
    if kept.status == 204:
        headers = [pair for pair in headers if pair[0] != b"content-length"]
    await send({"type": "http.response.start", "status": kept.status, "headers": headers})
    await send({"type": "http.response.body", "body": kept.body})


def _fingerprint(scope: Scope, body: bytes) -> str:
    """What makes two requests the same. A form's boundary, which a client draws anew, does not count, nor which of the
    tenant's keys it was; the collections it reaches do."""
    principal: Principal = scope["state"]["principal"]
    kind = Headers(scope=scope).get("content-type", "").encode("latin-1")
    if (found := _BOUNDARY.search(kind)) is not None:
        kind, body = kind.replace(found[1], b""), body.replace(found[1], b"")
    reach = "" if principal.collections is None else json.dumps(sorted(principal.collections))
    head = (scope["method"].encode(), scope["path"].encode(), scope.get("query_string", b""), reach.encode(), kind)
    digest = hashlib.sha256()
    for part in (*head, body):
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()
