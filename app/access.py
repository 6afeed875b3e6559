"""What happens before a request's body is read: who is asking, and whether the body may be that large.

ASGI middleware. Knows headers and keys; never reads a body itself.
"""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.page_files import PAGE_PATHS
from app.problems import Problem, problem_response
from app.tenants import Principal

_log = logging.getLogger("lorebase.access")
PUBLIC_PATHS = frozenset({"/livez", "/readyz", "/openapi.json", *PAGE_PATHS})
_ADMIN_PATHS = re.compile(r"/tenants(/|$)")
_BEARER = re.compile(r"Bearer +(.*\S)\s*", re.IGNORECASE)


class Access:
    """Authenticates every request that is not public, and caps the size of bodies.

    A tenant's key opens the tenant's routes, an admin key the admin routes; who is asking lies in
    ``scope["state"]["principal"]``, the request's id in ``scope["state"]["request_id"]``.

    Args:
        principal: looks a key up; None for an unknown key.
        max_body_bytes: larger bodies are answered 413, declared ones before a byte of them is read.
    """

    def __init__(self, app: ASGIApp, principal: Callable[[str], Principal | None], max_body_bytes: int) -> None:
        self._app = app
        self._principal = principal
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id

        began, status = time.perf_counter(), 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                sent = MutableHeaders(scope=message)
                sent["X-Request-Id"] = request_id
                sent["X-Content-Type-Options"] = "nosniff"
            await send(message)

        try:
            self._admit(scope)
        except Problem as problem:
            await problem_response(problem, scope["path"])(scope, receive, send_with_id)
        else:
            await self._app(scope, self._capped(receive), send_with_id)
        finally:
            fields = {"request_id": request_id, "method": scope["method"], "path": scope["path"], "status": status}
            level = logging.DEBUG if scope["path"] in PUBLIC_PATHS else logging.INFO
            _log.log(level, "request", extra={**fields, "ms": round((time.perf_counter() - began) * 1000, 1)})

    def _admit(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        if scope["path"] not in PUBLIC_PATHS:
            scope["state"]["principal"] = self._authenticate(headers, scope["path"])
        declared = headers.get("content-length", "0")
        if not declared.isdigit() or int(declared) > self._max_body_bytes:
            raise self._too_large()

    def _authenticate(self, headers: Headers, path: str) -> Principal:
        match = _BEARER.fullmatch(headers.get("authorization", ""))
        principal = self._principal(_as_sent(match[1])) if match else None
        if principal is None:
            detail = "This key is unknown or revoked." if match else "Send your key as 'Authorization: Bearer <key>'."
            raise Problem(401, "unauthorized", detail, {"WWW-Authenticate": "Bearer"})
        for_admins = _ADMIN_PATHS.match(path) is not None
        if for_admins and principal.tenant_id is not None:
            raise Problem(403, "forbidden", "This needs the admin key.")
        if not for_admins and principal.tenant_id is None:
            raise Problem(403, "forbidden", "The admin key belongs to no tenant; use a tenant's key here.")
        return principal

    def _capped(self, receive: Receive) -> Receive:
        seen = 0

        async def capped() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self._max_body_bytes:
                raise self._too_large()
            return message

        return capped

    def _too_large(self) -> Problem:
        return Problem(
            413,
            "too_large",
            f"The request's body is larger than {self._max_body_bytes // 1024**2} MiB; send less at once.",
        )


def _as_sent(value: str) -> str:
    """A header's value in UTF-8, which clients send and ASGI's latin-1 view garbles."""
    try:
        return value.encode("latin-1").decode("utf-8")
    except UnicodeDecodeError:
        return value
