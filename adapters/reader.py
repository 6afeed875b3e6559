"""The embedded engine: a span-extracting reader that answers with the words of a passage, or abstains.

Every question-passage pair is one row (or several windows) of a shared batch, each on its own adapter. Knows the base
model, adapters and scores; knows no tenants, no documents, no HTTP.
"""

from __future__ import annotations

import json
import logging
import threading
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from adapters.adapter_files import ADAPTER_WEIGHTS, sha256_of
from adapters.base_model import READER_FOLDER, READER_NAME, ReaderBase, load_reader_base, reader_dtype
from adapters.engine import (
    AdapterFacts,
    AdapterRef,
    Deliver,
    Done,
    EngineStatus,
    Failed,
    PassageRead,
    Row,
    Span,
    Submission,
    Token,
)
from adapters.errors import AdapterError, InvalidAdapter, ModelFailed, ModelUnavailable, NotSupported, RequestTooLong
from adapters.kinds import AdapterFiles
from adapters.lora_stack import LoadedLora
from adapters.pooled import CLOSING, PooledEngine, PooledRow
from adapters.row_changes import RowChanges, changed_segments, load_adapter
from adapters.row_lora import BatchComposition, Plan, put_row_lora, segments_of
from adapters.spans import Calibration, Window, best_span, windows_of
from adapters.squad import normalize_answer
from adapters.validation import check_effect, check_fits, read_adapter, tensor_bytes
from adapters.whole_models import WholeModels, by_model

_log = logging.getLogger(__name__)
WINDOW_TOKENS = 384
_LENGTH_STEP = 16  # kernels keep memory for every shape they have seen: batches are padded to one of a few lengths
WINDOW_STRIDE = 128
MAX_QUESTION_TOKENS = 128
MAX_ANSWER_TOKENS = 64
_PROBE = ("What does the probe measure?", "The probe measures whether an adapter changes what the base model reads.")


@dataclass(eq=False, kw_only=True)
class _Reading(PooledRow[LoadedLora]):
    """A row under way: its windows not yet read, and the best span of each passage so far."""

    question: list[int]
    passages: list[Any]  # tokenizers.Encoding
    waiting: deque[tuple[int, Window]]
    left: list[int]
    best: list[tuple[int, int, float] | None]
    prompt_tokens: int = 0
    ended: bool = False


@dataclass(frozen=True, slots=True)
class _Pair:
    """One window of one passage, encoded with its question."""

    reading: _Reading
    passage: int
    window: Window
    ids: list[int]
    context: int  # position of the window's first token

    @property
    def adapter(self) -> LoadedLora | None:
        return self.reading.adapter


class ReaderEngine(PooledEngine[LoadedLora, _Reading]):
    """Implements `adapters.engine.Engine` over the embedded base.

    Args:
        dtype: ``float32``, ``bfloat16`` or ``auto``: see `reader_dtype`.
        adapter_budget_bytes: memory for resident adapters.
        max_waiting: rows that may wait; more are refused with QueueFull, a greedy share key's first.
        batch_tokens: padded tokens of one forward pass at most.
    """

    def __init__(
        self,
        reader: Path = READER_FOLDER,
        *,
        dtype: str = "auto",
        adapter_budget_bytes: int = 512 * 1024**2,
        max_waiting: int = 512,
        batch_tokens: int = 8192,
    ) -> None:
        super().__init__(adapter_budget_bytes, max_waiting)
        self._folder = reader
        self._dtype = reader_dtype(dtype)
        self._batch_tokens = batch_tokens
        self._composition = BatchComposition()
        self._forward_lock = threading.Lock()
        self._rows: Counter[str] = Counter()  # under way, by share key
        self._waiting = 0  # those of them that were not begun
        self._steps = self._step_rows = 0
        self._thread: threading.Thread | None = None
        self._base: ReaderBase | None = None

    @property
    def name(self) -> str:
        return READER_NAME

    @property
    def generates(self) -> bool:
        return False

    @property
    def fingerprint(self) -> str:
        return self._loaded().fingerprint

    @property
    def weight_bytes(self) -> int:
        self._loaded()
        return self._models.bytes

    def load(self) -> None:
        base = load_reader_base(self._folder, self._dtype)
        self._calibration = Calibration(**json.loads((self._folder / "calibration.json").read_text()))
        self._saved_shapes = {f"qa_outputs.{n}": tuple(p.shape) for n, p in base.model.qa_outputs.named_parameters()}
        self._models = WholeModels(base.model)
        self._shapes = put_row_lora(base.model, self._composition)
        self._changes = RowChanges(base.model, self._composition)
        self._tokenizer = base.tokenizer.backend_tokenizer
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._cls, self._sep, self._pad = (
            base.tokenizer.cls_token_id, base.tokenizer.sep_token_id, base.tokenizer.pad_token_id
        )  # fmt: skip
        self._base = base
        _log.info("the reader computes in %s", str(self._dtype).removeprefix("torch."))
        self._thread = threading.Thread(target=self._work, name="reader-engine", daemon=True)
        self._thread.start()

    def close(self) -> None:
        with self._change:
            self._closing = True
            self._change.notify_all()
        if self._thread is not None:
            self._thread.join()
        self._pool.close()

    def check(self, folder: Path) -> AdapterFacts:
        files = self._read_adapter(folder)
        sha256 = sha256_of(folder / ADAPTER_WEIGHTS)
        adapter = self._bring(files, "candidate")
        self._pool.check_size(adapter.bytes)
        check_effect(self._probe(None), self._probe(adapter))
        return AdapterFacts(sha256, (folder / ADAPTER_WEIGHTS).stat().st_size, files.rank, files.targets, files.kind)

    def status(self) -> EngineStatus:
        with self._change:
            rows, waiting = self._rows.total(), self._waiting
        return EngineStatus(waiting=waiting, running=rows - waiting, steps=self._steps, step_rows=self._step_rows)

    def submit(self, row: Row, deliver: Deliver) -> Submission:
        self._loaded()
        if not row.grounded:
            raise NotSupported("The reader only quotes passages; it cannot answer without them.")
        question = self._tokenizer.encode(row.question, add_special_tokens=False).ids
        if len(question) > MAX_QUESTION_TOKENS:
            raise RequestTooLong(
                f"The question has {len(question)} tokens; the reader takes {MAX_QUESTION_TOKENS} at most. Shorten it."
            )
        passages = self._tokenizer.encode_batch([p.text for p in row.passages], add_special_tokens=False)
        room = WINDOW_TOKENS - len(question) - 3
        windows = [windows_of(len(p.ids), room, WINDOW_STRIDE) if p.ids else [] for p in passages]
        reading = _Reading(
            row=row,
            deliver=deliver,
            forget=self._forget,
            question=question,
            passages=passages,
            waiting=deque((i, window) for i, of_one in enumerate(windows) for window in of_one),
            left=[len(of_one) for of_one in windows],
            best=[None] * len(passages),
        )
        self._enter(reading)
        return reading

    def _counted(self) -> int:
        return self._rows.total()

    def _counted_of(self, share_key: str) -> int:
        return self._rows[share_key]

    def _note_entry(self, row: _Reading) -> None:
        self._rows[row.row.share_key] += 1
        self._waiting += 1

    def _forget(self, reading: _Reading) -> None:
        """A cancelled row makes room at once; what of it stands in the running batch is read for nobody."""
        self._leave_line(reading)
        self._release(reading)

    def _work(self) -> None:
        failed: Exception | None = None
        try:
            while self._turn():
                pass
        except Exception as error:
            failed = error
        self._end(failed)

    def _turn(self) -> bool:
        """Read one batch; False once the engine is closing and nothing is left."""
        with self._change:
            self._change.wait_for(lambda: len(self._queue) or self._closing)
            pairs, finished = self._take()
            closing = self._closing
        try:
            for reading in finished:
                self._finish(reading)
            for _, together in by_model(pairs, lambda pair: pair.adapter):
                for batch in similar_lengths(together):
                    self._read(batch)
        except Exception as error:
            _log.exception("a batch failed")
            self._fail([*finished, *{id(p.reading): p.reading for p in pairs}.values()], error)
            self._probe(None)  # a model that cannot go on ends the engine here
        return bool(pairs) or not closing

    def _take(self) -> tuple[list[_Pair], list[_Reading]]:
        """Windows for one batch, in turn from each share key, and readings with nothing to read."""
        pairs: list[_Pair] = []
        finished: list[_Reading] = []
        room = self._batch_tokens
        while room > 0 and (reading := self._queue.front()) is not None:
            if self._closing and len(reading.waiting) == sum(reading.left):
                reading.waiting.clear()
                reading.tell(Failed(ModelUnavailable(CLOSING)))
            if reading.over or not reading.waiting:
                reading.waiting.clear()
                finished.append(reading)  # cancelled, failed, or nothing to read
            self._begin(reading)
            while reading.waiting and room > 0:
                pairs.append(self._encode(reading, *reading.waiting.popleft()))
                room -= len(pairs[-1].ids)
            self._queue.end_turn(remove=not reading.waiting)
        return pairs, finished

    def _begin(self, reading: _Reading) -> None:
        """Note that a reading is no longer one that waits; the caller holds the lock."""
        if reading.began is None:
            reading.begin()
            self._waiting -= 1

    def _encode(self, reading: _Reading, passage: int, window: Window) -> _Pair:
        context = reading.passages[passage].ids[window.begin : window.end]
        ids = [self._cls, *reading.question, self._sep, *context, self._sep]
        reading.prompt_tokens += len(ids)
        return _Pair(reading, passage, window, ids, len(reading.question) + 2)

    def _read(self, pairs: list[_Pair]) -> None:
        pairs.sort(key=lambda p: (p.adapter is not None, p.adapter.key if p.adapter else ""))
        start, end = self._forward([p.ids for p in pairs], [p.adapter for p in pairs])
        self._steps += 1
        self._step_rows += len({id(p.reading) for p in pairs})
        for i, pair in enumerate(pairs):
            reading, length = pair.reading, pair.window.end - pair.window.begin
            if not reading.over:
                longest = min(reading.row.max_tokens, MAX_ANSWER_TOKENS)
                penalty = 0.0 if pair.adapter else self._calibration.length_penalty
                first, last, score = best_span(start[i], end[i], pair.context, pair.context + length, longest, penalty)
                shift = pair.window.begin - pair.context
                known = reading.best[pair.passage]
                if known is None or score > known[2]:
                    reading.best[pair.passage] = (first + shift, last + shift, score)
            reading.left[pair.passage] -= 1
            best = reading.best[pair.passage]
            if not reading.left[pair.passage] and best is not None:
                reading.tell(PassageRead(pair.passage, best[2]))
            if not any(reading.left):
                self._finish(reading)

    @torch.inference_mode()
    def _forward(self, ids: Sequence[list[int]], adapters: Sequence[LoadedLora | None]) -> tuple[Any, Any]:
        """Start and end scores as float32 arrays [B, T], of rows on one whole model, or all on the base's weights.

        No token types mark question and passage: the encoder has only ever seen one type, and peft's wrapper for
        question answering drops them, so every adapter is trained without.
        """
        longest = max(map(len, ids))
        padded = -(-longest // _LENGTH_STEP) * _LENGTH_STEP
        input_ids = torch.tensor([row + [self._pad] * (padded - len(row)) for row in ids])  # [B, P]
        lengths = torch.tensor([len(row) for row in ids])  # [B]
        positions = torch.arange(padded)  # [P]
        with self._forward_lock:
            whole = adapters[0] if adapters[0] is not None and adapters[0].whole else None
            segments = [] if whole else segments_of(adapters, [padded] * len(ids))
            changed = changed_segments(segments) if self._changes.make_room(adapters) else ()
            self._composition.body = Plan(len(ids) * padded, segments, changed=changed)
            try:
                with self._models.in_place(whole):
                    out = self._loaded().model(
                        input_ids=input_ids,
                        attention_mask=(positions < lengths[:, None]).long(),  # [B, P]
                    )
            finally:
                self._composition.clear()
        start, end = (scores[:, :longest].float().numpy() for scores in (out.start_logits, out.end_logits))
        return start, end  # [B, T] each

    def _finish(self, reading: _Reading) -> None:
        if not reading.over:
            done = self._conclude(reading)
            if done.answer:
                reading.tell(Token(done.answer))
            reading.tell(done)
        self._release(reading)

    def _release(self, row: _Reading) -> None:
        """Give back what the reading held. Idempotent: a failing batch may hold readings that ended in it."""
        with self._change:
            if row.ended:
                return
            row.ended = True
            self._begin(row)
            self._rows[row.row.share_key] -= 1
            if not self._rows[row.row.share_key]:
                del self._rows[row.row.share_key]
        self._give_back_adapter(row)

    def _conclude(self, reading: _Reading) -> Done:
        spans = sorted(
            (_span(i, reading.passages[i].offsets, best) for i, best in enumerate(reading.best) if best is not None),
            key=lambda s: -s.score,
        )
        if not spans:
            return Done("", True, 0.0, (), reading.prompt_tokens, 0)
        texts = [reading.row.passages[s.passage].text[s.start : s.end] for s in spans]
        confidence = self._calibration.confidence(spans[0].score)
        least = reading.row.min_confidence
        if confidence < (self._calibration.min_confidence if least is None else least):
            return Done("", True, confidence, (), reading.prompt_tokens, 0)
        said = normalize_answer(texts[0])
        agreeing = [s for s, text in zip(spans[1:], texts[1:], strict=True) if said and normalize_answer(text) == said]
        first, last, _ = reading.best[spans[0].passage] or (0, -1, 0.0)
        return Done(texts[0], False, confidence, (spans[0], *agreeing), reading.prompt_tokens, max(0, last - first + 1))

    def _fail(self, readings: Iterable[_Reading], error: Exception) -> None:
        known = (
            error
            if isinstance(error, AdapterError)
            else ModelFailed(f"The batch failed ({type(error).__name__}); ask again.")
        )
        for reading in readings:
            reading.waiting.clear()
            reading.tell(Failed(known))
            self._release(reading)

    def _load_adapter(self, ref: AdapterRef) -> LoadedLora:
        with ref.at_hand() as folder:
            return self._bring(self._read_adapter(folder, ref.sha256), ref.key)

    def _bring(self, files: AdapterFiles, key: str) -> LoadedLora:
        return load_adapter(files, key, self._dtype, "cpu", self._models.linear)

    def _bytes_of(self, ref: AdapterRef) -> int:
        with ref.at_hand() as folder:
            return tensor_bytes(folder / ADAPTER_WEIGHTS, self._dtype.itemsize)

    def _read_adapter(self, folder: Path, sha256: str | None = None) -> AdapterFiles:
        base = self._loaded()
        files = read_adapter(folder, sha256)
        if files.virtual is not None or files.prompts:
            raise InvalidAdapter(
                "config", f"The reader has no prompt for the learned tokens of {files.kind}; train lora, dora or ia3."
            )
        check_fits(files, self._shapes, self._saved_shapes)
        self._models.check(files)
        # A path says nothing about what lies there, so only a name that points elsewhere is refused.
        if files.base_name and files.base_name != base.adapter_base_name and not files.base_name.startswith(("/", ".")):
            raise InvalidAdapter(
                "base", f"The adapter was trained on {files.base_name!r}; this service runs {base.adapter_base_name!r}."
            )
        return files

    def _probe(self, adapter: LoadedLora | None) -> torch.Tensor:
        question, context = (self._tokenizer.encode(text, add_special_tokens=False).ids for text in _PROBE)
        ids = [self._cls, *question, self._sep, *context, self._sep]
        scores = self._forward([ids], [adapter])
        return torch.stack([torch.from_numpy(s) for s in scores])  # [2, 1, T]

    def _loaded(self) -> ReaderBase:
        if self._base is None:
            raise ModelUnavailable("The base model is not loaded yet.")
        return self._base


def similar_lengths(pairs: Sequence[_Pair], waste: float = 0.2) -> Iterator[list[_Pair]]:
    """Cut pairs into batches, longest first, so that padding adds at most the share ``waste`` to a batch's tokens."""
    batch: list[_Pair] = []
    tokens = 0
    for pair in sorted(pairs, key=lambda p: -len(p.ids)):
        tokens += len(pair.ids)
        if batch and len(batch[0].ids) * (len(batch) + 1) > (1 + waste) * tokens:
            yield batch
            batch, tokens = [], len(pair.ids)
        batch.append(pair)
    if batch:
        yield batch


def _span(passage: int, offsets: list[tuple[int, int]], best: tuple[int, int, float]) -> Span:
    first, last, score = best
    return Span(passage, offsets[first][0], offsets[last][1], score)
