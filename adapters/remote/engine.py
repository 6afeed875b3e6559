"""The `openai` engine: rows answered by a server that speaks OpenAI's chat API, behind the same seam as local models.

A thread of its own runs an event loop with a bounded number of requests under way; the others wait in turns. Retries
with back-off before the first word, a circuit breaker that a probe in the background closes again, and a request that
is closed when its row is cancelled. Knows rows and the server's API; knows no tenants, no documents, no HTTP of ours.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
import threading
from collections.abc import Coroutine
from contextlib import aclosing
from pathlib import Path
from typing import Any, TypeVar

from adapters.engine import (
    AdapterFacts,
    AdapterMemory,
    AdapterRef,
    Deliver,
    EngineStatus,
    Failed,
    Row,
    Submission,
)
from adapters.errors import (
    AdapterError,
    ModelUnavailable,
    NotSupported,
    QueueFull,
    RequestTooLong,
    UpstreamFailed,
    UpstreamUnavailable,
)
from adapters.fair_queue import FairQueue
from adapters.prompt import COMMON_CONTROL_TOKENS, conversation, pack
from adapters.remote.answering import Answering
from adapters.remote.breaker import CircuitBreaker
from adapters.remote.estimate import EstimatingTokenizer
from adapters.remote.model_server import ModelServer, Refused, ServedModel, TryAgain
from adapters.shown_text import ShownText

_log = logging.getLogger(__name__)
T = TypeVar("T")
DEFAULT_CONTEXT = 8192
_CLOSING = "The engine is shutting down; ask again."
_ATTEMPTS = 4
_FIRST_DELAY_SECONDS = 0.25
_LONGEST_DELAY_SECONDS = 8.0
_BREAKER_FAILURES = 5
_PROBE_SECONDS = 2.0
_MOST_STOPS = 4  # what OpenAI's API takes; further ones are met here
_OPTIONAL = ("logprobs", "stream_options", "seed", "cache_salt", "stop")
_TOO_LONG = ("context length", "context_length", "too_long", "maximum context", "too long")


class RemoteEngine:
    """Implements `adapters.engine.Engine` over an OpenAI-compatible server.

    Args:
        model: the name the server knows the model by.
        url: the API's address, such as ``http://127.0.0.1:8001/v1``.
        key: sent as a Bearer key.
        context: tokens that prompt and answer may have together, by estimate; None: as the server says, else 8,192.
        max_batch: requests under way at once at most.
        max_waiting: rows that may wait; one more is refused with QueueFull.
        silence_seconds: longest time without a byte while an answer is awaited.
    """

    def __init__(
        self,
        model: str,
        url: str,
        *,
        key: str | None = None,
        context: int | None = None,
        max_batch: int = 32,
        max_waiting: int = 256,
        silence_seconds: float = 120.0,
    ) -> None:
        self._model, self._url, self._key, self._silence = model, url, key, silence_seconds
        self._context = context
        self._max_batch, self._max_waiting = max_batch, max_waiting
        self._tokenizer = EstimatingTokenizer()
        self._change = threading.Lock()
        self._queue: FairQueue[Answering] = FairQueue()
        self._running: set[Answering] = set()
        self._breaker = CircuitBreaker(_BREAKER_FAILURES)
        self._served: ServedModel | None = None
        self._unsupported: set[str] = set()
        self._requests = 0
        self._closing = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._server: ModelServer | None = None

    @property
    def name(self) -> str:
        return self._model

    @property
    def generates(self) -> bool:
        return True

    @property
    def fingerprint(self) -> str:
        """Of the address and the name: what weights are behind them the server does not say."""
        return hashlib.sha256(f"{self._url}\n{self._model}".encode()).hexdigest()

    @property
    def failure(self) -> str | None:
        return self._breaker.reason

    def load(self) -> None:
        if self._thread is not None:
            return
        started = threading.Event()
        self._thread = threading.Thread(target=self._work, args=(started,), name="openai-engine", daemon=True)
        self._thread.start()
        started.wait()
        with self._change:
            if self._closing:
                raise ModelUnavailable(_CLOSING)
        self._run(self._probe())

    def close(self) -> None:
        with self._change:
            self._closing = True
            left = self._queue.drain()
        for answering in left:
            answering.tell(Failed(ModelUnavailable(_CLOSING)))
        if self._loop is not None and self._thread is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop_when_idle)
            if self._thread is not threading.current_thread():
                self._thread.join()

    def check(self, folder: Path) -> AdapterFacts:
        raise self._no_adapters()

    def prepare(self, adapter: AdapterRef) -> None:
        raise self._no_adapters()

    def prefetch(self, adapter: AdapterRef, share_key: str = "") -> None:
        return

    def pin(self, adapter: AdapterRef) -> None:
        raise self._no_adapters()

    def unpin(self, adapter: AdapterRef) -> None:
        return

    def unload(self, adapter: AdapterRef) -> None:
        return

    def adapter_memory(self) -> AdapterMemory:
        return AdapterMemory()

    def status(self) -> EngineStatus:
        return EngineStatus(
            waiting=len(self._queue), running=len(self._running), steps=self._requests, step_rows=self._requests
        )

    def submit(self, row: Row, deliver: Deliver) -> Submission:
        if self._loop is None:
            raise ModelUnavailable("The model server has not been asked yet.")
        if row.adapter is not None:
            raise self._no_adapters()
        served = self._served
        context = self._context or (served.context if served else None) or DEFAULT_CONTEXT
        prompt = pack(row, self._tokenizer, context=context)
        answering = Answering(
            row=row,
            deliver=deliver,
            prompt=prompt,
            text=ShownText(prompt.shown if prompt.grounded else None, row.stop),
            forget=self._forget,
        )
        with self._change:
            if self._closing:
                raise ModelUnavailable(_CLOSING)
            if self._breaker.reason is not None:
                raise UpstreamUnavailable(self._breaker.reason)
            if len(self._queue) >= self._max_waiting:
                raise QueueFull(f"{len(self._queue)} questions are waiting already; try again in a moment.")
            self._queue.put(row.share_key, answering)
        self._loop.call_soon_threadsafe(self._admit)
        return answering

    def _no_adapters(self) -> NotSupported:
        return NotSupported(
            "Adapters of this service cannot be loaded into the model server; ask for base, or for a model it serves."
        )

    # In the engine's thread

    def _work(self, started: threading.Event) -> None:
        loop = self._loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        self._server = ModelServer(self._url, self._key, self._silence)
        watching = loop.create_task(self._watch())
        loop.call_soon(started.set)
        try:
            loop.run_forever()
        finally:
            watching.cancel()
            for answering in list(self._running):
                answering.tell(Failed(ModelUnavailable(_CLOSING)))
            loop.run_until_complete(asyncio.gather(watching, return_exceptions=True))
            loop.run_until_complete(self._server.close())
            loop.close()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run something in the engine's thread and wait for it."""
        assert self._loop is not None  # noqa: S101
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _stop_when_idle(self) -> None:
        assert self._loop is not None  # noqa: S101
        if not self._running:
            self._loop.stop()

    async def _watch(self) -> None:
        """While nothing may be sent, ask the server again and again whether it is back."""
        while True:
            await asyncio.sleep(_PROBE_SECONDS)
            if self._breaker.reason is not None:
                await self._probe()

    async def _probe(self) -> None:
        assert self._server is not None  # noqa: S101
        try:
            self._served = await self._server.served(self._model)
        except Refused as error:
            self._breaker.open(f"The model server at {self._url} refuses us: {error}")
        except TryAgain as error:
            self._breaker.open(str(error))
        else:
            if self._breaker.reason is not None:
                _log.info("the model server answers")
            self._breaker.succeeded()

    def _admit(self) -> None:
        """Send what may be sent, in turns."""
        assert self._loop is not None  # noqa: S101
        with self._change:
            while len(self._running) < self._max_batch and (answering := self._queue.front()) is not None:
                self._queue.end_turn(remove=True)
                answering.begin()
                self._running.add(answering)
                answering.task = self._loop.create_task(self._answer(answering))

    def _forget(self, answering: Answering) -> None:
        """A cancelled row that waits makes room at once; the request of one that runs is closed."""
        with self._change:
            waited = self._queue.discard(answering.row.share_key, answering)
        if not waited and self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._close_request, answering)

    def _close_request(self, answering: Answering) -> None:
        if answering.task is not None:
            answering.task.cancel()

    async def _answer(self, answering: Answering) -> None:
        try:
            if answering.prompt.unanswerable:
                answering.finish()
            else:
                await self._ask(answering)
        except AdapterError as error:
            answering.tell(Failed(error))
        except Exception as error:
            _log.exception("a row failed")
            failed = UpstreamFailed(f"The model server's answer could not be read ({type(error).__name__}).")
            answering.tell(Failed(failed))
        finally:
            self._running.discard(answering)
            self._admit()
            if self._closing:
                self._stop_when_idle()

    async def _ask(self, answering: Answering) -> None:
        """Ask until there is an answer, or no hope of one. Once a word was told nothing is asked again."""
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                await self._stream(answering)
            except TryAgain as error:
                if error.sick:
                    self._breaker.failed(str(error))
                if attempt == _ATTEMPTS or self._breaker.reason is not None or self._closing:
                    raise error.error from error
                await asyncio.sleep(_delay(attempt, error.after))
            except UpstreamFailed as error:
                self._breaker.failed(str(error))
                if answering.told or attempt == _ATTEMPTS or self._breaker.reason is not None or self._closing:
                    raise
                answering.begin_again()
                await asyncio.sleep(_delay(attempt, None))
            else:
                self._breaker.succeeded()
                answering.finish()
                return

    async def _stream(self, answering: Answering) -> None:
        assert self._server is not None  # noqa: S101
        while True:
            body = self._body(answering)
            self._requests += 1
            try:
                async with aclosing(self._server.chat(body)) as chunks:
                    async for chunk in chunks:
                        answering.take(chunk)
                        if answering.over or answering.text.stopped:
                            break  # the request is closed with the stream
            except Refused as error:
                if not self._simplify(body, error):
                    raise _refusal(error) from error
            else:
                return

    def _body(self, answering: Answering) -> dict[str, Any]:
        row, prompt = answering.row, answering.prompt
        kind = self._served.kind if self._served else "other"
        turns = len(row.history) - prompt.dropped_turns
        body: dict[str, Any] = {
            "model": self._model,
            "messages": conversation(row, prompt.shown, COMMON_CONTROL_TOKENS, turns=turns),
            "max_tokens": max(1, row.max_tokens),
            "temperature": row.temperature,
            "top_p": row.top_p,
            "stream": True,
            "stream_options": {"include_usage": True},
            "seed": row.seed,
            "stop": list(row.stop) if 0 < len(row.stop) <= _MOST_STOPS else None,
            "logprobs": True if kind != "lorebase" else None,
            "cache_salt": row.cache_salt if kind != "other" and row.cache_salt else None,
            "lorebase": {"retrieval": False} if kind == "lorebase" else None,
        }
        return {k: v for k, v in body.items() if v is not None and k not in self._unsupported}

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
