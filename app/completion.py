"""The engine as a plain function: a task over numbered sources in, the whole text out.

What splitting by a language model needs. Knows the engine seam; knows no documents and no HTTP.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Sequence

from adapters import Done, Engine, Event, Failed, Passage, Row
from adapters.errors import AdapterError, RequestTooLong
from ingest import CompletionFailed, CompletionTooLong

_LONGEST_SECONDS = 120.0
_GLANCE_SECONDS = 0.2  # between two looks at whether the service stops


class EngineCompletion:
    """Implements `ingest.Complete` over a language model's engine; greedy, on the base model, one row at a time.

    Args:
        share_key: whose turn a row takes; also keeps cached state of owners apart.
        stopping: set when the service stops; the row under way is then cancelled.
        whole: an answer that its bound cuts off is none.
    """

    def __init__(self, engine: Engine, share_key: str, stopping: threading.Event, *, whole: bool = True) -> None:
        self._engine = engine
        self._share_key = share_key
        self._stopping = stopping
        self._whole = whole

    def __call__(self, task: str, sources: Sequence[str], max_tokens: int) -> str:
        """The answer's text.

        Raises:
            CompletionTooLong: the sources do not fit the model's context.
            CompletionFailed: the model failed, was busy, took too long, or did not come to an end.
        """
        row = Row(
            question=task,
            passages=tuple(Passage(source) for source in sources),
            max_tokens=max_tokens,
            share_key=self._share_key,
            cache_salt=self._share_key,
        )
        events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        try:
            submission = self._engine.submit(row, events.put)
        except RequestTooLong as error:
            raise CompletionTooLong(str(error)) from error
        except AdapterError as error:
            raise CompletionFailed(str(error)) from error
        try:
            done = self._end(events)
        finally:
            submission.cancel()
        if done.dropped:
            raise CompletionTooLong("the sources do not fit the model's context together")
        if self._whole and done.finish_reason == "length":
            raise CompletionFailed("the answer did not end within its bound")
        return done.answer

    def _end(self, events: queue.SimpleQueue[Event]) -> Done:
        deadline = time.monotonic() + _LONGEST_SECONDS
        while time.monotonic() < deadline and not self._stopping.is_set():
            try:
                event = events.get(timeout=_GLANCE_SECONDS)
            except queue.Empty:
                continue
            if isinstance(event, Failed):
                raise CompletionFailed(str(event.error)) from event.error
            if isinstance(event, Done):
                return event
        raise CompletionFailed("the service stops" if self._stopping.is_set() else "the model took too long")
