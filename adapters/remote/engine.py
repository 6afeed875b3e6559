"""The `openai` engine: rows answered by a server that speaks OpenAI's chat API, behind the same seam as local models.

A thread of its own runs an event loop with a bounded number of requests under way; the others wait in turns. A request
is closed when its row is cancelled. Which adapters the server holds for us is the pool's business, as for models in
this process. Knows rows, the queue and the loop; how the server is asked is `adapters.remote.link`'s. Knows no tenants,
no documents, no HTTP of ours.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future
from pathlib import Path
from typing import Any, TypeVar

from adapters.adapter_files import ADAPTER_WEIGHTS, sha256_of
from adapters.engine import AdapterFacts, AdapterRef, Deliver, EngineStatus, Failed, Row, Submission
from adapters.errors import (
    AdapterError,
    InvalidAdapter,
    ModelUnavailable,
    NotSupported,
    UpstreamFailed,
    UpstreamUnavailable,
)
from adapters.pooled import CLOSING, PooledEngine
from adapters.prompt import pack
from adapters.remote.adapters import NOT_TAKEN, ServedAdapter
from adapters.remote.answering import Answering
from adapters.remote.estimate import EstimatingTokenizer
from adapters.remote.link import Link
from adapters.shown_text import shown_text
from adapters.validation import read_adapter

_log = logging.getLogger(__name__)
T = TypeVar("T")
DEFAULT_CONTEXT = 8192
_PROBE_SECONDS = 2.0


class RemoteEngine(PooledEngine[ServedAdapter, Answering]):
    """Implements `adapters.engine.Engine` over an OpenAI-compatible server.

    Args:
        model: the name the server knows the model by.
        url: the API's address, such as ``http://127.0.0.1:8001/v1``.
        key: sent as a Bearer key.
        context: tokens that prompt and answer may have together, by estimate; None: as the server says, else 8,192.
        max_batch: requests under way at once at most.
        max_waiting: rows that may wait; more are refused with QueueFull, a greedy share key's first.
        silence_seconds: longest time without a byte while an answer is awaited.
        adapter_budget_bytes: what the adapters that the server holds for us may take there, by the size of their files.
        path_there: where the server sees a folder of ours; None: at the same place.
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
        adapter_budget_bytes: int = 512 * 1024**2,
        path_there: Callable[[Path], str] | None = None,
    ) -> None:
        super().__init__(adapter_budget_bytes, max_waiting)
        self._model, self._url, self._key, self._silence = model, url, key, silence_seconds
        self._path_there = path_there or (lambda folder: str(folder.resolve()))
        self._context, self._max_batch = context, max_batch
        self._tokenizer = EstimatingTokenizer()
        self._running: set[Answering] = set()
        self._calls: set[Future[Any]] = set()  # that other threads wait for
        self._taking_out: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._link: Link | None = None

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
    def weight_bytes(self) -> int:
        return 0

    @property
    def failure(self) -> str | None:
        return self._link.reason if self._link is not None else None

    def load(self) -> None:
        if self._thread is not None:
            return
        started = threading.Event()
        self._thread = threading.Thread(target=self._work, args=(started,), name="openai-engine", daemon=True)
        self._thread.start()
        started.wait()
        self._run(self._loaded().probe())

    def close(self) -> None:
        with self._change:
            self._closing = True
            left = [*self._queue.drain(), *self._loading]
            self._loading.clear()
            calls = list(self._calls)
            if self._link is not None:
                self._link.closing = True
        for answering in left:
            answering.tell(Failed(ModelUnavailable(CLOSING)))
            self._release(answering)
        for call in calls:
            call.cancel()
        self._pool.close()
        if self._loop is not None and self._thread is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop_when_idle)
            if self._thread is not threading.current_thread():
                self._thread.join()

    def check(self, folder: Path) -> AdapterFacts:
        link = self._loaded()
        files, sha256 = read_adapter(folder), sha256_of(folder / ADAPTER_WEIGHTS)
        ref = AdapterRef(sha256, folder)
        if link.kind == "vllm" and files.kind != "lora":
            raise InvalidAdapter("config", f"The model server takes LoRA adapters, not {files.kind}; train lora.")
        size = self._bytes_of(ref)
        self._pool.check_size(size)
        self._run(link.adapters(lambda loader: loader.prove(ref, link.kind, self._model)))
        return AdapterFacts(sha256, size, files.rank, files.targets, files.kind)

    def unload(self, adapter: AdapterRef) -> None:
        memory, link = self.adapter_memory(), self._link
        super().unload(adapter)
        if link is not None and adapter.key not in {*memory.resident, *memory.loading}:
            # It may be there still, from before this process was started.
            self._in_loop(lambda loop: self._begin_taking_out(loop, link, link.name_of(adapter)))

    def status(self) -> EngineStatus:
        requests = self._link.requests if self._link is not None else 0
        return EngineStatus(waiting=self._counted(), running=len(self._running), steps=requests, step_rows=requests)

    def submit(self, row: Row, deliver: Deliver) -> Submission:
        link = self._loaded()
        if row.adapter is not None and link.kind == "other":
            raise NotSupported(NOT_TAKEN)
        context = self._context or (link.served.context if link.served else None) or DEFAULT_CONTEXT
        prompt = pack(row, self._tokenizer, context=context)
        answering = Answering(
            row=row,
            deliver=deliver,
            prompt=prompt,
            text=shown_text(prompt, row.stop),
            forget=self._forget,
        )
        self._enter(answering)
        return answering

    def _loaded(self) -> Link:
        if self._link is None:
            raise ModelUnavailable("The model server has not been asked yet.")
        return self._link

    def _refuse_when_over(self) -> None:
        if self._closing:
            raise ModelUnavailable(CLOSING)
        if self.failure is not None:
            raise UpstreamUnavailable(self.failure)

    def _line_up(self, row: Answering) -> None:
        super()._line_up(row)
        self._in_loop(lambda _: self._admit())

    def _bytes_of(self, ref: AdapterRef) -> int:
        try:
            with ref.at_hand() as folder:
                return (folder / ADAPTER_WEIGHTS).stat().st_size
        except OSError:  # whoever loads it will say
            return 0

    def _load_adapter(self, ref: AdapterRef) -> ServedAdapter:
        with ref.at_hand() as folder:
            read_adapter(folder, ref.sha256)  # what the server is given is what was registered
        link = self._loaded()
        model = self._run(link.adapters(lambda loader: loader.bring(ref, link.kind)))
        return ServedAdapter(ref, model, self._bytes_of(ref))

    def _let_go(self, adapter: ServedAdapter) -> None:
        link = self._loaded()
        self._in_loop(lambda loop: self._begin_taking_out(loop, link, adapter.model))

    def _release(self, row: Answering) -> None:
        self._give_back_adapter(row)

    def _forget(self, answering: Answering) -> None:
        """A cancelled row that waits makes room at once; the request of one that runs is closed."""
        if self._leave_line(answering):
            self._release(answering)
        else:
            self._in_loop(lambda _: self._close_request(answering))

    def _in_loop(self, what: Callable[[asyncio.AbstractEventLoop], None]) -> None:
        """Have something done in the engine's thread, unless that has ended."""
        loop = self._loop
        if loop is not None and not loop.is_closed():
            try:
                loop.call_soon_threadsafe(what, loop)
            except RuntimeError:  # it was closed a moment ago
                _log.debug("the engine is closed")

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run something in the engine's thread and wait for it. Raises ModelUnavailable when the engine is closed."""
        with self._change:
            if self._closing or self._loop is None:
                work.close()
                raise ModelUnavailable(CLOSING)
            call = asyncio.run_coroutine_threadsafe(work, self._loop)
            self._calls.add(call)
        try:
            return call.result()
        except CancelledError:
            raise ModelUnavailable(CLOSING) from None
        finally:
            with self._change:
                self._calls.discard(call)

    # In the engine's thread

    def _work(self, started: threading.Event) -> None:
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        link = self._link = Link(self._model, self._url, self._key, self._silence, self._path_there)
        self._loop = loop
        watching = loop.create_task(self._watch(link))
        loop.call_soon(started.set)
        try:
            loop.run_forever()
        finally:
            watching.cancel()
            for answering in list(self._running):
                answering.tell(Failed(ModelUnavailable(CLOSING)))
            loop.run_until_complete(asyncio.gather(watching, *self._taking_out, return_exceptions=True))
            loop.run_until_complete(link.close())
            loop.run_until_complete(loop.shutdown_asyncgens())  # a stream that was left unread
            loop.close()

    def _stop_when_idle(self) -> None:
        if not self._running and self._loop is not None:
            self._loop.stop()

    async def _watch(self, link: Link) -> None:
        """While nothing may be sent, ask the server again and again whether it is back."""
        while True:
            await asyncio.sleep(_PROBE_SECONDS)
            if link.reason is not None:
                await link.probe()

    def _admit(self) -> None:
        """Send what may be sent, in turns."""
        assert self._loop is not None  # noqa: S101
        with self._change:
            while len(self._running) < self._max_batch and (answering := self._queue.front()) is not None:
                self._queue.end_turn(remove=True)
                answering.begin()
                self._running.add(answering)
                answering.task = self._loop.create_task(self._answer(answering))

    def _close_request(self, answering: Answering) -> None:
        if answering.task is not None:
            answering.task.cancel()

    def _begin_taking_out(self, loop: asyncio.AbstractEventLoop, link: Link, model: str) -> None:
        task = loop.create_task(link.take_out(model))
        self._taking_out.add(task)
        task.add_done_callback(self._taking_out.discard)

    async def _answer(self, answering: Answering) -> None:
        try:
            if answering.prompt.unanswerable:
                answering.finish()
            else:
                await self._loaded().ask(answering)
        except AdapterError as error:
            answering.tell(Failed(error))
        except Exception as error:
            _log.exception("a row failed")
            failed = UpstreamFailed(f"The model server's answer could not be read ({type(error).__name__}).")
            answering.tell(Failed(failed))
        finally:
            self._running.discard(answering)
            self._release(answering)
            self._admit()
            if self._closing:
                self._stop_when_idle()
