"""How large a request's body may be, and how long it may stand still. Knows ASGI's messages; reads no body itself."""

from __future__ import annotations

import asyncio

from starlette.datastructures import Headers
from starlette.types import Message, Receive

from app.problems import Problem


class BodyLimits:
    """The limits of bodies.

    Args:
        most_bytes: larger ones are answered 413.
        seconds: one that stands still for longer is answered 408.
    """

    def __init__(self, most_bytes: int, seconds: float) -> None:
        self._most_bytes, self._seconds = most_bytes, seconds

    def refuse_declared(self, headers: Headers) -> None:
        """Refuse what says itself that it is too large, before a byte of it is read. Raises Problem."""
        declared = headers.get("content-length", "0")
        if not declared.isdigit() or int(declared) > self._most_bytes:
            raise self._too_large()

    def capped(self, receive: Receive) -> Receive:
        """A body's messages, which raise the Problem as soon as a limit is passed."""
        seen, whole = 0, False

        async def capped() -> Message:
            nonlocal seen, whole
            try:
                async with asyncio.timeout(None if whole else self._seconds):  # after it only the client's leaving
                    message = await receive()
            except TimeoutError:
                raise _too_slow() from None
            whole = whole or not message.get("more_body", False)
            seen += len(message.get("body", b""))
            if seen > self._most_bytes:
                raise self._too_large()
            return message

        return capped

    def _too_large(self) -> Problem:
        return Problem(
            413,
            "too_large",
            f"The request's body is larger than {self._most_bytes // 1024**2} MiB; send less at once.",
        )


def _too_slow() -> Problem:
    return Problem(
        408, "too_slow", "The rest of the request's body did not come; send it again.", {"Connection": "close"}
    )
