"""Keys as requests carry them: ``Authorization: Bearer <key>``. Knows one header; knows no keys that open anything."""

from __future__ import annotations

import hmac
import re

from starlette.datastructures import Headers

from app.problems import Problem

_BEARER = re.compile(r"Bearer +(.*\S)\s*", re.IGNORECASE)


def bearer_key(headers: Headers) -> str | None:
    """The key that a request carries; None where it carries none."""
    match = _BEARER.fullmatch(headers.get("authorization", ""))
    return _as_sent(match[1]) if match else None


def same_key(key: str, expected: str) -> bool:
    """Whether two keys are the same, in a time that does not tell how much of them is."""
    return hmac.compare_digest(key.encode("utf-8", "surrogateescape"), expected.encode())


def unauthorized(detail: str = "Send your key as 'Authorization: Bearer <key>'.") -> Problem:
    """The answer to a request without a key that opens what it asks for."""
    return Problem(401, "unauthorized", detail, {"WWW-Authenticate": "Bearer"})


def _as_sent(value: str) -> str:
    """A header's value in UTF-8, which clients send and ASGI's latin-1 view garbles."""
    try:
        return value.encode("latin-1").decode("utf-8")
    except UnicodeDecodeError:
        return value
