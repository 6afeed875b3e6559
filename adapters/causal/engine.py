"""The `transformers` engine: any Hugging Face decoder-only language model, answering from numbered passages.

The batch is made anew at every step (Yu et al. 2022, Orca): rows join and leave between two forward passes, and long
prompts are read in pieces beside rows that generate (Agrawal et al. 2024, Sarathi). Knows the model, adapters and
prompts; knows no tenants, no documents, no HTTP. One thread owns the model; whatever touches it runs there.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path

import torch

from adapters.adapter_files import ADAPTER_WEIGHTS, sha256_of
from adapters.causal.answering import Answering, row_error
from adapters.causal.encoder_decoder import EncoderDecoderRunner
from adapters.causal.loading import Runner, bring, bytes_of, read_fitting, virtual_tokens_of
from adapters.causal.model import CausalModel, load_causal_model
from adapters.causal.runner import PROBE_TOKENS, Lane, ModelRunner
from adapters.causal.sampling import choose, generator_of
from adapters.causal.text import AnswerText
from adapters.engine import AdapterFacts, AdapterRef, Deliver, EngineStatus, Failed, Row, Submission
from adapters.errors import AdapterError, ModelUnavailable, RequestTooLong
from adapters.lora_stack import LoadedLora
from adapters.merged import Streak
from adapters.pooled import CLOSING, PooledEngine
from adapters.prompt import pack, render
from adapters.template import Passage
from adapters.validation import check_effect

_log = logging.getLogger(__name__)
_LONG_STEP_SECONDS = 1.0
_PROBE = Row(
    "What does the probe measure?",
    (Passage("It measures whether an adapter changes what the base model says."),),
)

Effect = tuple[torch.Tensor, torch.Tensor]


class CausalEngine(PooledEngine[LoadedLora, Answering]):
    """Implements `adapters.engine.Engine` over a causal language model.

    An answer's confidence is the geometric mean of its tokens' probabilities; it is not calibrated, so a row without
    ``min_confidence`` abstains only when the model says so. Tokens are told as they come: a row that ends below
    ``min_confidence`` has told some that its Done then takes back.

    Args:
        model: a local folder, or a hub id.
        dtype: ``auto`` (what the files hold), ``float32``, ``bfloat16`` or ``float16``.
        device: ``auto`` (the first GPU, else the CPU) or a torch device.
        max_batch: rows that are in the model at once at most.
        max_waiting: rows that may wait; more are refused with QueueFull, a greedy share key's first.
        adapter_budget_bytes: memory for resident adapters. A row waits until its adapter has room.
        kv_budget_bytes: memory for the keys and values of rows in the model. A row waits until its prompt and longest
            answer fit; one that never can is refused with RequestTooLong.
        prefill_tokens: tokens of prompts that are read in one step beside the rows that generate; more where fewer
            generate than are to be read, as far as a second goes.
        merge_after: rows in a row on one plain LoRA adapter after which it is merged into the base weights, until a
            row on anything else comes; 0: never.
        quantized: ``none``, ``int8`` or ``nf4``: bits of the base model's weights (`adapters.quantized`).
    """

    def __init__(
        self,
        model: str | Path,
        *,
        dtype: str = "auto",
        device: str = "auto",
        max_batch: int = 32,
        max_waiting: int = 256,
        adapter_budget_bytes: int = 1024**3,
        kv_budget_bytes: int = 1024**3,
        prefill_tokens: int = 256,
        quantized: str = "none",
        merge_after: int = 0,
    ) -> None:
        super().__init__(adapter_budget_bytes, max_waiting)
        self._source, self._dtype, self._device, self._quantized = model, dtype, device, quantized
        self._max_batch = max_batch
        self._merge_after, self._streak = merge_after, Streak()
        self._kv_budget, self._prefill_tokens = kv_budget_bytes, prefill_tokens
        self._packing = threading.Lock()  # a tokenizer may be used by one thread at a time
        self._probes: deque[tuple[LoadedLora, Future[Effect]]] = deque()
        self._steps = self._step_rows = 0
        self._reading_pace = 0.0  # tokens a second in the last step that read much of prompts
        self._running: list[Answering] = []  # in order of admission; the engine's thread alone changes it
        self._thread: threading.Thread | None = None
        self._base: CausalModel | None = None
        self._runner: Runner | None = None

    @property
    def name(self) -> str:
        return self._base.name if self._base else str(self._source)

    @property
    def generates(self) -> bool:
        return True

    @property
    def fingerprint(self) -> str:
        return self._loaded()[0].fingerprint

    @property
    def context(self) -> int:
        """Tokens that the prompt and the answer of one row may have together."""
        base, runner = self._loaded()
        return min(base.context, runner.cache.most_tokens)

    @property
    def weight_bytes(self) -> int:
        return self._loaded()[1].whole_bytes

    def load(self) -> None:
        if self._base is not None:
            return
        base = load_causal_model(self._source, dtype=self._dtype, device=self._device, quantized=self._quantized)
        try:
            render(_PROBE, (0,), base.tokenizer)
        except Exception as error:
            raise ModelUnavailable(f"The chat template of {base.name} cannot be used: {error}") from error
        kind = EncoderDecoderRunner if base.encoder_decoder else ModelRunner
        runner: Runner = kind(base, self._kv_budget)
        with self._change:
            if self._closing:
                raise ModelUnavailable(CLOSING)
            self._base, self._runner = base, runner
            self._thread = threading.Thread(target=self._work, args=(runner,), name="causal-engine", daemon=True)
            self._thread.start()

    def close(self) -> None:
        with self._change:
            self._closing = True
            self._change.notify_all()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        self._pool.close()

    def check(self, folder: Path) -> AdapterFacts:
        base, runner = self._loaded()
        files = read_fitting(base, runner, folder)
        path = folder / ADAPTER_WEIGHTS
        sha256 = sha256_of(path)
        loaded = bring(base, runner, files, sha256)
        self._pool.check_size(loaded.bytes)
        future: Future[Effect] = Future()
        with self._change:
            self._refuse_when_over()
            self._probes.append((loaded, future))
            self._change.notify_all()
        check_effect(*future.result())
        return AdapterFacts(sha256, path.stat().st_size, files.rank, files.targets, files.kind)

    def status(self) -> EngineStatus:
        return EngineStatus(
            waiting=len(self._queue) + len(self._loading),
            running=len(self._running),
            steps=self._steps,
            step_rows=self._step_rows,
            kv_bytes=self._runner.cache.held_bytes if self._runner is not None else 0,
            kv_budget_bytes=self._kv_budget,
        )

    def submit(self, row: Row, deliver: Deliver) -> Submission:
        base, runner = self._loaded()
        virtual = virtual_tokens_of(row.adapter) if row.adapter is not None else 0
        with self._packing:
            prompt = pack(row, base.tokenizer, context=base.context - virtual)
        answering = Answering(
            row=row,
            deliver=deliver,
            prompt=prompt,
            text=AnswerText(base.tokenizer, max(1, row.max_tokens), base.eos_ids, prompt, row.stop),
            generator=generator_of(row),
            forget=self._forget,
            virtual=virtual,
        )
        if answering.tokens > runner.cache.most_tokens:
            raise RequestTooLong(
                f"The prompt has {len(prompt.token_ids)} tokens and the answer may take {row.max_tokens}, but the "
                f"memory for keys and values holds {runner.cache.most_tokens} of one row. Ask with fewer passages or a "
                "lower max_tokens."
            )
        self._enter(answering)
        return answering

    def _forget(self, answering: Answering) -> None:
        """A cancelled row that still waits makes room at once; one that runs leaves before the next step."""
        if self._leave_line(answering):
            self._release(answering)

    def _work(self, runner: Runner) -> None:
        failed: Exception | None = None
        try:
            while self._turn(runner):
                pass
        except Exception as error:
            failed = error
        why = self._end(failed, self._running)
        self._running = []
        while self._probes:
            self._probes.popleft()[1].set_exception(why)

    def _turn(self, runner: Runner) -> bool:
        """Admit, take one step, let go; False once the engine is closing and nothing runs."""
        with self._change:
            self._change.wait_for(lambda: self._closing or self._probes or len(self._queue) or self._running)
            waiting = self._queue.drain() if self._closing else []
            if self._closing and not self._running:
                for answering in waiting:
                    self._queue.put(answering.row.share_key, answering)  # failed with the others at the end
                return False
            probe = self._probes.popleft() if self._probes else None
            if not self._closing:
                self._admit(runner)
        for answering in waiting:
            answering.tell(Failed(ModelUnavailable(CLOSING)))
            self._release(answering)
        if probe is not None:
            self._probe(runner, *probe)
        for answering in self._running:
            if answering.prompt.unanswerable:
                answering.tell(answering.text.done(answering.row, answering.prompt))
        self._leave(runner)
        if self._merge_after and self._streak.rows >= self._merge_after and isinstance(runner, ModelRunner):
            runner.merged.merge_what_all_are_on([answering.adapter for answering in self._running])
        if self._running:
            self._step(runner, self._next_work())
            self._leave(runner)
        return True

    def _admit(self, runner: Runner) -> None:
        """Let waiting rows in by turns. One that does not fit yet holds up those behind it, so that it is not passed
        over for ever by shorter ones."""
        while len(self._running) < self._max_batch and (answering := self._queue.front()) is not None:
            slot = runner.cache.allocate(answering.tokens)
            if slot is None:
                return
            self._queue.end_turn(remove=True)
            answering.begin()
            answering.lane = Lane(slot, answering.adapter, answering.prompt.token_ids)
            self._streak.note(answering.adapter)
            self._running.append(answering)

    def _next_work(self) -> list[tuple[Answering, int]]:
        """What each row does in this step: one token, or the next piece of its prompt while there is room."""
        work, room = [], self._room_for_prompts()
        for answering in self._running:
            lane = answering.lane
            if lane is None:
                continue
            if not answering.reads_prompt:
                work.append((answering, 1))
            elif room:
                count = min(room, len(lane.pending))
                room -= count
                work.append((answering, count))
        return work

    def _room_for_prompts(self) -> int:
        """Tokens of prompts to read in this step. Rows that generate wait for it, so it is short; but where more rows
        are to be read than generate, it is as many times longer, within `_LONG_STEP_SECONDS`: together they come to
        their answers in fewer steps."""
        reading = sum(answering.reads_prompt for answering in self._running)
        times = reading // max(1, len(self._running) - reading)
        in_time = int(self._reading_pace * _LONG_STEP_SECONDS)
        return max(self._prefill_tokens, min(times * self._prefill_tokens, in_time))

    def _step(self, runner: Runner, work: Sequence[tuple[Answering, int]]) -> None:
        """Take a step; when it fails, each row alone, so that only those fail that must."""
        try:
            self._advance(runner, work)
        except Exception as error:
            if len(work) > 1:
                _log.warning("a step of %d rows failed (%s); each is tried alone", len(work), error)
                for item in work:
                    if not item[0].over:
                        self._step(runner, [item])
                return
            _log.exception("a row failed")
            runner.probe()  # a model that cannot go on ends the engine here, and this row with it
            work[0][0].tell(Failed(row_error(error)))

    def _advance(self, runner: Runner, work: Sequence[tuple[Answering, int]]) -> None:
        by_lane = {answering.lane: answering for answering, _ in work}
        tokens = sum(count for _, count in work)
        begun = time.monotonic()
        scores = runner.step([(answering.lane, count) for answering, count in work if answering.lane is not None])
        self._steps += 1
        self._step_rows += len(work)
        if tokens >= self._prefill_tokens:
            self._reading_pace = tokens / max(1e-6, time.monotonic() - begun)
        if not scores:
            return
        due = [by_lane[lane] for lane in scores]
        chosen = choose(torch.stack(list(scores.values())), [(a.row, a.generator) for a in due])
        for answering, (token_id, log_probability) in zip(due, chosen, strict=True):
            if answering.lane is not None:
                answering.lane.pending = (token_id,)
            try:
                answering.push(token_id, log_probability)
            except Exception as error:  # a tokenizer that cannot decode, say: the step itself has been taken
                _log.exception("a row failed")
                answering.tell(Failed(row_error(error)))

    def _leave(self, runner: Runner) -> None:
        """Rows that are over give back what they held."""
        for answering in [a for a in self._running if a.over]:
            self._running.remove(answering)
            if answering.lane is not None:
                # A step that failed may have written beyond what counts as cached.
                runner.cache.release(answering.lane.slot, answering.tokens)
            self._release(answering)

    def _probe(self, runner: Runner, adapter: LoadedLora, future: Future[Effect]) -> None:
        try:
            base, _ = self._loaded()
            with self._packing:
                prompt = render(_PROBE, (0,), base.tokenizer)
                token_ids = base.tokenizer.encode(prompt, add_special_tokens=False)[-min(base.context, PROBE_TOKENS) :]
            future.set_result(runner.effect(adapter, token_ids))
        except Exception as error:
            future.set_exception(error if isinstance(error, AdapterError) else row_error(error))

    def _load_adapter(self, ref: AdapterRef) -> LoadedLora:
        base, runner = self._loaded()
        with ref.at_hand() as folder:
            return bring(base, runner, read_fitting(base, runner, folder, ref.sha256), ref.key)

    def _bytes_of(self, ref: AdapterRef) -> int:
        return bytes_of(self._loaded()[0], ref)

    def _release(self, row: Answering) -> None:
        self._give_back_adapter(row)

    def _loaded(self) -> tuple[CausalModel, Runner]:
        if self._base is None or self._runner is None:
            raise ModelUnavailable("The base model is not loaded yet.")
        return self._base, self._runner
