"""The `transformers` engine: any Hugging Face causal language model, answering from numbered passages.

Batch at a time: rows that wait are taken fairly, generate together, each on its own adapter, and end one by one; the
next batch starts when the last row of this one has ended. Knows the model, adapters and prompts; knows no tenants, no
documents, no HTTP. One thread owns the model; whatever touches it runs there, between two batches.
"""

from __future__ import annotations

import logging
import math
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

import torch

from adapters.base_model import ADAPTER_WEIGHTS, sha256_of
from adapters.causal_adapters import PeftRows
from adapters.causal_generate import generate
from adapters.causal_model import CausalModel, load_causal_model
from adapters.causal_queue import FairQueue
from adapters.causal_text import AnswerText
from adapters.engine import AdapterFacts, AdapterRef, Deliver, Done, Event, Failed, Row, Submission, Token
from adapters.errors import AdapterError, ModelUnavailable, QueueFull
from adapters.pool import AdapterPool
from adapters.prompt import Prompt, pack, render
from adapters.row_lora import LoadedLora, load_lora
from adapters.template import Passage
from adapters.validation import LoraFiles, check_effect, check_fits, check_unchanged, read_lora

_log = logging.getLogger(__name__)
_PROBE = Row(
    "What does the probe measure?",
    (Passage("It measures whether an adapter changes what the base model says."),),
)
_CLOSING = "The engine is shutting down; ask again."

Effect = tuple[torch.Tensor, torch.Tensor]


@dataclass(slots=True, eq=False)
class _Answering:
    """A row under way. The engine's thread and whoever cancels meet at `lock`."""

    row: Row
    prompt: Prompt
    adapter: LoadedLora | None
    text: AnswerText
    deliver: Deliver
    forget: Callable[[_Answering], None]
    lock: threading.RLock = field(default_factory=threading.RLock)
    over: bool = False

    def cancel(self) -> None:
        with self.lock:
            self.over = True
        self.forget(self)

    def tell(self, event: Event) -> None:
        """Deliver, unless the row is over. Done and Failed end the row, and so does a receiver that raises."""
        with self.lock:
            if self.over:
                return
            self.over = isinstance(event, Done | Failed)
            try:
                self.deliver(event)
            except Exception:
                self.over = True
                _log.exception("the receiver of a row's events raised; the row is dropped")

    def push(self, token_id: int, log_probability: float) -> None:
        """Take one generated token and tell what follows from it."""
        if not math.isfinite(log_probability):
            self.tell(Failed(AdapterError("The model's scores are not finite; try another adapter or dtype.")))
            return
        if shown := self.text.push(token_id, log_probability):
            self.tell(Token(shown))
        if self.text.finish_reason is not None:
            self.tell(self.text.done(self.row, self.prompt))


class CausalEngine:
    """Implements `adapters.engine.Engine` over a causal language model.

    An answer's confidence is the geometric mean of its tokens' probabilities; it is not calibrated, so a row without
    ``min_confidence`` abstains only when the model says so. Tokens are told as they come: a row that ends below
    ``min_confidence`` has told some that its Done then takes back.

    Args:
        model: a local folder, or a hub id.
        dtype: ``auto`` (what the files hold), ``float32``, ``bfloat16`` or ``float16``.
        device: ``auto`` (the first GPU, else the CPU) or a torch device.
        max_batch: rows that generate together at most.
        max_waiting: rows that may wait; one more is refused with QueueFull.
        adapter_budget_bytes: memory for resident adapters that no row is using.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        dtype: str = "auto",
        device: str = "auto",
        max_batch: int = 8,
        max_waiting: int = 256,
        adapter_budget_bytes: int = 1024**3,
    ) -> None:
        self._source, self._dtype, self._device = model, dtype, device
        self._max_batch, self._max_waiting = max_batch, max_waiting
        self._pool = AdapterPool(self._read_resident, adapter_budget_bytes)
        self._packing = threading.Lock()  # a tokenizer may be used by one thread at a time
        self._change = threading.Condition()
        self._queue: FairQueue[_Answering] = FairQueue()
        self._probes: deque[tuple[LoadedLora, Future[Effect]]] = deque()
        self._thread: threading.Thread | None = None
        self._closing = False
        self._base: CausalModel | None = None

    @property
    def name(self) -> str:
        return self._base.name if self._base else str(self._source)

    @property
    def generates(self) -> bool:
        return True

    @property
    def fingerprint(self) -> str:
        return self._loaded().fingerprint

    def load(self) -> None:
        if self._base is not None:
            return
        base = load_causal_model(self._source, dtype=self._dtype, device=self._device)
        try:
            render(_PROBE, (0,), base.tokenizer)
        except Exception as error:
            raise ModelUnavailable(f"The chat template of {base.name} cannot be used: {error}") from error
        with self._change:
            if self._closing:
                raise ModelUnavailable(_CLOSING)
            self._base = base
            self._thread = threading.Thread(
                target=self._work, args=(base, PeftRows(base.model)), name="causal-engine", daemon=True
            )
            self._thread.start()

    def close(self) -> None:
        with self._change:
            self._closing = True
            self._change.notify_all()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def check(self, folder: Path) -> AdapterFacts:
        base = self._loaded()
        files = self._read(folder)
        path = folder / ADAPTER_WEIGHTS
        sha256 = sha256_of(path)
        adapter = load_lora(files, sha256, base.dtype)
        future: Future[Effect] = Future()
        with self._change:
            if self._closing:
                raise ModelUnavailable(_CLOSING)
            self._probes.append((adapter, future))
            self._change.notify_all()
        check_effect(*future.result())
        return AdapterFacts(sha256, path.stat().st_size, files.rank, tuple(sorted(files.factors)))

    def prepare(self, adapter: AdapterRef) -> None:
        self._loaded()
        self._pool.acquire(adapter)
        self._pool.release(adapter.key)

    def unload(self, adapter: AdapterRef) -> None:
        self._pool.unload(adapter.key)

    def resident(self) -> dict[str, int]:
        return self._pool.resident()

    def submit(self, row: Row, deliver: Deliver) -> Submission:
        base = self._loaded()
        with self._packing:
            prompt = pack(row, base.tokenizer, context=base.context)
        answering = _Answering(
            row=row,
            prompt=prompt,
            adapter=self._pool.acquire(row.adapter) if row.adapter else None,
            text=AnswerText(base.tokenizer, max(1, row.max_tokens), base.eos_ids, prompt),
            deliver=deliver,
            forget=self._forget,
        )
        try:
            self._enqueue(answering)
        except AdapterError:
            self._release(answering)
            raise
        return answering

    def _enqueue(self, answering: _Answering) -> None:
        with self._change:
            if self._closing:
                raise ModelUnavailable(_CLOSING)
            if len(self._queue) >= self._max_waiting:
                raise QueueFull(f"{len(self._queue)} questions are waiting already; try again in a moment.")
            self._queue.put(answering.row.share_key, answering)
            self._change.notify_all()

    def _forget(self, answering: _Answering) -> None:
        """A cancelled row that still waits makes room at once; one that runs ends with its next step."""
        with self._change:
            waited = self._queue.discard(answering.row.share_key, answering)
        if waited:
            self._release(answering)

    def _work(self, base: CausalModel, rows: PeftRows) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._closing or self._probes or len(self._queue))
                closing = self._closing
                probes = list(self._probes)
                self._probes.clear()
                batch = self._queue.drain() if closing else self._queue.take(self._max_batch, self._fits)
            for adapter, future in probes:
                if closing:
                    future.set_exception(ModelUnavailable(_CLOSING))
                else:
                    self._probe(base, rows, adapter, future)
            if closing:
                for answering in batch:
                    answering.tell(Failed(ModelUnavailable(_CLOSING)))
                    self._release(answering)
                return
            self._answer(base, rows, batch)

    def _fits(self, batch: Sequence[_Answering], candidate: _Answering) -> bool:
        """Rows of a batch are padded to one length: together they must stay within the model's positions."""
        rows = (*batch, candidate)
        return _longest_prompt(rows) + _most_tokens(rows) <= self._loaded().context

    def _answer(self, base: CausalModel, rows: PeftRows, batch: Sequence[_Answering]) -> None:
        try:
            for answering in batch:
                if answering.prompt.unanswerable:
                    answering.tell(answering.text.done(answering.row, answering.prompt))
            live = [answering for answering in batch if not answering.over]
            if live:
                rows.keep(self._pool.resident().keys())
                prompts, adapters = [a.prompt.token_ids for a in live], [a.adapter for a in live]
                generate(base, rows, prompts, adapters, live, _most_tokens(live))
                for answering in live:
                    answering.tell(Failed(AdapterError("The model stopped before the answer was complete.")))
        except Exception as error:
            _log.exception("a batch of %d rows failed", len(batch))
            for answering in batch:
                answering.tell(Failed(_batch_error(error)))
        finally:
            for answering in batch:
                self._release(answering)

    def _probe(self, base: CausalModel, rows: PeftRows, adapter: LoadedLora, future: Future[Effect]) -> None:
        try:
            with self._packing:
                prompt = render(_PROBE, (0,), base.tokenizer)
                token_ids = base.tokenizer.encode(prompt, add_special_tokens=False)[-base.context :]
            with torch.inference_mode():
                effect = rows.effect(adapter, torch.tensor([token_ids], device=base.device))  # [1, T]
            future.set_result(effect)
        except Exception as error:
            future.set_exception(_batch_error(error))

    def _read(self, folder: Path) -> LoraFiles:
        files = read_lora(folder)
        check_fits(files, self._loaded().linears, {})
        return files

    def _read_resident(self, ref: AdapterRef) -> LoadedLora:
        check_unchanged(ref)
        return load_lora(self._read(ref.folder), ref.key, self._loaded().dtype)

    def _release(self, answering: _Answering) -> None:
        if answering.adapter is not None:
            self._pool.release(answering.adapter.key)
            answering.adapter = None

    def _loaded(self) -> CausalModel:
        if self._base is None:
            raise ModelUnavailable("The base model is not loaded yet.")
        return self._base


def _longest_prompt(rows: Sequence[_Answering]) -> int:
    return max(len(a.prompt.token_ids) for a in rows)


def _most_tokens(rows: Sequence[_Answering]) -> int:
    return max(max(1, a.row.max_tokens) for a in rows)


def _batch_error(error: Exception) -> AdapterError:
    known = AdapterError(f"The model failed on this batch ({type(error).__name__}); the question may be asked again.")
    known.__cause__ = error
    return known
