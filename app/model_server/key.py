"""What the model server asks of a request before its body is read: the key, and a body that is not too large.

ASGI middleware. Knows headers; knows no routes but the one that needs no key.
"""

from __future__ import annotations

import uuid

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from app.bearer import bearer_key, same_key, unauthorized
from app.body_limits import BodyLimits
from app.problems import Problem, problem_response

_PUBLIC = "/health"


class KeyAndBody:
    """Lets a request in that carries the key.

    Args:
        key: None lets all in.
        max_body_bytes: larger bodies are answered 413, declared ones before a byte of them is read.
        body_seconds: a request whose body stands still for longer is answered 408.
    """

    def __init__(self, app: ASGIApp, key: str | None, max_body_bytes: int, body_seconds: float) -> None:
        self._app, self._key = app, key
        self._bodies = BodyLimits(max_body_bytes, body_seconds)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope.setdefault("state", {})["request_id"] = uuid.uuid4().hex
        headers = Headers(scope=scope)
        try:
            if scope["path"] != _PUBLIC:
                self._authenticate(headers)
            self._bodies.refuse_declared(headers)
        except Problem as problem:
            await problem_response(problem, scope)(scope, receive, send)
            return
        await self._app(scope, self._bodies.capped(receive), send)

    def _authenticate(self, headers: Headers) -> None:
        given = bearer_key(headers)
        if self._key is None:
            return
        if given is None:
            raise unauthorized()
        if not same_key(given, self._key):
            raise unauthorized("This is not the model server's key, which LOREBASE_MODEL_SERVER_KEY there sets.")
