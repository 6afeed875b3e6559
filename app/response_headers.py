"""What every response tells browsers: load nothing, frame nothing, guess no type, keep no copy, send no referrer.

The outermost ASGI middleware, so that errors and preflights carry it too. A response that says otherwise of its own, as
the page's files do, keeps what it says.
"""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

DEFAULTS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_ONLY_TLS = {"Strict-Transport-Security": "max-age=31536000"}


class ResponseHeaders:
    """Adds what a response does not say itself; ``tls``: whether the service is reached over TLS alone."""

    def __init__(self, app: ASGIApp, tls: bool) -> None:
        self._app = app
        self._headers = {**DEFAULTS, **_ONLY_TLS} if tls else DEFAULTS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, with_headers if scope["type"] == "http" else send)
