"""The way to one model server: asked again while that may help, left alone while it keeps failing.

Retries with back-off before the first word, a circuit breaker, what the server has said of itself, and the adapters it
was given. Knows rows under way and the server's API; knows no queue and no threads: it lives in one event loop, but for
`reason`, `served` and `requests`, which any thread may read.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any, TypeVar

from adapters.engine import AdapterRef
from adapters.errors import AdapterError, RequestTooLong, UpstreamFailed, UpstreamUnavailable
from adapters.remote.adapters import AdapterLoader, name_of
from adapters.remote.answering import Answering
from adapters.remote.breaker import CircuitBreaker
from adapters.remote.model_server import Kind, ModelServer, Refused, ServedModel, TryAgain

_log = logging.getLogger(__name__)
T = TypeVar("T")
_ATTEMPTS = 4
_TRYING_SECONDS = 15.0  # after which nothing is tried again
_FIRST_DELAY_SECONDS = 0.25
_LONGEST_DELAY_SECONDS = 8.0
_BREAKER_FAILURES = 5
_OPTIONAL = ("logprobs", "stream_options", "seed", "cache_salt", "stop")
_TOO_LONG = ("context length", "context_length", "too_long", "maximum context", "too long")


class Link:
    """The server at ``url``, asked for ``model``.

    Args:
        silence_seconds: longest time without a byte while an answer is awaited.
        path_there: where the server sees a folder of ours.

    Attributes:
        served: what the server says of the model; None until it has answered.
        requests: chats that were asked for.
        closing: nothing is tried again any more.
    """

    def __init__(
        self, model: str, url: str, key: str | None, silence_seconds: float, path_there: Callable[[Path], str]
    ) -> None:
        self._model, self._url = model, url
        self._server = ModelServer(url, key, silence_seconds)
        self._loader = AdapterLoader(self._server, path_there)
        self._breaker = CircuitBreaker(_BREAKER_FAILURES)
        self._unsupported: set[str] = set()
        self.served: ServedModel | None = None
        self.requests = 0
        self.closing = False

    @property
    def reason(self) -> str | None:
        """Why nothing is sent now; None while the server answers."""
        return self._breaker.reason

    @property
    def kind(self) -> Kind:
        """What the server is, as far as it has said."""
        return self.served.kind if self.served is not None else "other"

    async def close(self) -> None:
        await self._server.close()

    async def probe(self) -> None:
        """Ask the server what it serves, and open or close the circuit by that."""
        try:
            self.served = await self._server.served(self._model)
        except Refused as error:
            self._breaker.open(f"The model server at {self._url} refuses us: {error}")
        except TryAgain as error:
            self._breaker.open(str(error))
        else:
            if self._breaker.reason is not None:
                _log.info("the model server answers")
            self._breaker.succeeded()

    async def adapters(self, ask: Callable[[AdapterLoader], Awaitable[T]]) -> T:
        """Have something done about adapters. Raises AdapterError."""
        attempt, began = 0, time.monotonic()
        while True:
            if self._breaker.reason is not None:
                raise UpstreamUnavailable(self._breaker.reason)
            attempt += 1
            try:
                return await ask(self._loader)
            except TryAgain as error:
                await self._wait(attempt, began, error)

    def name_of(self, ref: AdapterRef) -> str:
        """What the server would know an adapter by."""
        return name_of(ref, self.kind)

    async def take_out(self, model: str) -> None:
        """Have an adapter unloaded, if that can be."""
        await self._loader.take_out(model, self.kind)

    async def ask(self, answering: Answering) -> None:
        """Ask until there is an answer, or no hope of one. Once a word was told nothing is asked again."""
        attempt, began = 0, time.monotonic()
        while True:
            attempt += 1
            try:
                await self._stream(answering)
            except TryAgain as error:
                await self._wait(attempt, began, error)
            except (UpstreamFailed, UpstreamUnavailable) as error:
                self._breaker.failed(str(error))
                if answering.told or self._hopeless(attempt, began):
                    raise
                answering.begin_again()
                await asyncio.sleep(_delay(attempt, None))
            else:
                self._breaker.succeeded()
                answering.finish()
                return

    async def _wait(self, attempt: int, began: float, error: TryAgain) -> None:
        """Before the next attempt; raises what the error stands for when there is to be none."""
        if error.sick:
            self._breaker.failed(str(error))
        if self._hopeless(attempt, began):
            raise error.error from error
        await asyncio.sleep(_delay(attempt, error.after))

    def _hopeless(self, attempt: int, began: float) -> bool:
        over = attempt >= _ATTEMPTS or time.monotonic() > began + _TRYING_SECONDS
        return over or self._breaker.reason is not None or self.closing

    async def _stream(self, answering: Answering) -> None:
        adapter, forgotten = answering.adapter, False
        while True:
            body = {k: v for k, v in answering.request(self._model, self.kind).items() if k not in self._unsupported}
            loads = adapter.loads if adapter is not None else 0
            self.requests += 1
            try:
                async with aclosing(self._server.chat(body)) as chunks:
                    async for chunk in chunks:
                        answering.take(chunk)
                        if answering.over or answering.text.stopped:
                            break  # the request is closed with the stream
            except Refused as error:
                if adapter is not None and error.status == 404 and not forgotten:
                    forgotten = True  # the server was restarted, say
                    await self._loader.bring_again(adapter, loads, self.kind)
                elif not self._simplify(body, error):
                    raise _refusal(error) from error
            else:
                return

    def _simplify(self, body: dict[str, Any], error: Refused) -> bool:
        """Leave out, from now on, a field that the server says it does not take; whether there was one."""
        named = [field for field in _OPTIONAL if field in body and field in str(error)]
        self._unsupported.update(named)
        if named:
            _log.info("the model server takes no %s", ", ".join(named))
        return bool(named)


def _refusal(error: Refused) -> AdapterError:
    if error.status in (400, 413, 422) and any(word in f"{error.code} {error}".casefold() for word in _TOO_LONG):
        return RequestTooLong(f"The question with its passages does not fit the model server's model: {error}")
    return UpstreamFailed(f"The model server refused the request ({error.status}): {error}")


def _delay(attempt: int, asked: float | None) -> float:
    """Seconds before the next attempt: twice as long each time, not all at once; at least what the server asks for."""
    own = _FIRST_DELAY_SECONDS * 2.0 ** (attempt - 1) * random.uniform(0.5, 1.0)
    return min(_LONGEST_DELAY_SECONDS, max(own, asked or 0.0))
