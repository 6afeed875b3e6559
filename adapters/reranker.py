"""The embedded reranker: how well a passage answers a question, from the encoder that reads both together.

It is the reader's model with another adapter and head. A pair's score is how far the best spans of the passage stand
above the no-answer score: the logarithm of their sum, so that every token takes part in training (a soft form of the
score the reader abstains by). torch runs it, or whatever `CompileEncoder` makes of its weights, with the same scores.
Knows the encoder and its weights; knows no documents, no index, no HTTP.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from adapters.adapter_files import ADAPTER_WEIGHTS
from adapters.base_model import ReaderBase, load_reader_base, reader_dtype
from adapters.errors import ModelUnavailable
from adapters.spans import windows_of

HiddenStates = Callable[[Sequence[Sequence[int]]], Sequence[NDArray[np.float32]]]
"""From sequences of token ids to the last hidden states of each, float32 ``[tokens, d]``. Safe from any thread."""
CompileEncoder = Callable[[Mapping[str, NDArray[Any]], Mapping[str, Any]], HiddenStates]
"""From an encoder's weights, by transformers' names, and its configuration to something faster than torch."""

RERANKER_FOLDER = Path(__file__).parent / "reranker_weights"
CALIBRATION = "calibration.json"
WINDOW_TOKENS = 384
_WINDOW_STRIDE = 96
_MAX_QUESTION_TOKENS = 96
_BATCH_TOKENS = 4096  # with their padding


@dataclass(frozen=True, slots=True)
class RankingCalibration:
    """How a score becomes log-odds: ``scale · score + offset``, and what the first stages' fused score adds to it.

    Fitted on held-out paragraphs: see `adapters.training.reranker`.
    """

    scale: float = 1.0
    offset: float = 0.0
    fused_weight: float = 0.0


@dataclass(frozen=True, slots=True)
class EncodedPair:
    """A question and a passage as the encoder reads them; the passage's tokens are ``begin`` to ``end`` (half-open)."""

    ids: list[int]
    begin: int
    end: int


def reranker_is_there(folder: Path = RERANKER_FOLDER) -> bool:
    """Whether the embedded reranker's weights are installed."""
    return (folder / ADAPTER_WEIGHTS).is_file()


class EmbeddedReranker:
    """Scores passages for a question with the embedded encoder. Safe to use from any thread.

    Args:
        folder: adapter, head and ``calibration.json``.
        dtype: ``float32``, ``bfloat16`` or ``auto``: see `reader_dtype`; torch's only.
        compile_encoder: what runs the encoder; torch when ``None``.

    Raises:
        ModelUnavailable: the weights are missing; the message says what to do.
    """

    def __init__(
        self, folder: Path = RERANKER_FOLDER, dtype: str = "auto", compile_encoder: CompileEncoder | None = None
    ) -> None:
        if not reranker_is_there(folder):
            raise ModelUnavailable(
                f"The reranker's weights are not in {folder}; make them with `lorebase train reranker`, or set "
                "LOREBASE_RERANKER to `none` or to the name of a cross-encoder."
            )
        self._folder = folder
        self._dtype = reader_dtype(dtype)
        self._calibration = read_calibration(folder)
        self._compile = compile_encoder
        self._lock = threading.Lock()
        self._scorer: Callable[[str, Sequence[str]], list[float]] | None = None

    @property
    def fused_weight(self) -> float:
        """What a fused score of 1 adds to the log-odds."""
        return self._calibration.fused_weight

    def score(self, query: str, texts: Sequence[str]) -> list[float]:
        """Log-odds that each text answers the query; a long text counts by the best of its windows.

        Raises:
            ModelUnavailable: the weights do not fit the encoder.
        """
        with self._lock:
            if self._scorer is None:
                self._scorer = self._loaded()
        raw = self._scorer(query, texts)
        return [self._calibration.scale * score + self._calibration.offset for score in raw]

    def _loaded(self) -> Callable[[str, Sequence[str]], list[float]]:
        if self._compile is not None:
            return CompiledScorer(load_reader_base(self._folder), self._compile).score
        base = load_reader_base(self._folder, self._dtype)
        one_at_a_time = threading.Lock()

        def score(query: str, texts: Sequence[str]) -> list[float]:
            with one_at_a_time:
                return score_pairs(base, query, texts)

        return score


class CompiledScorer:
    """`score_pairs` with the encoder run by something else than torch; the head is a few numbers."""

    def __init__(self, base: ReaderBase, compile_encoder: CompileEncoder) -> None:
        weights = {name: values.float().numpy() for name, values in base.model.state_dict().items()}
        self._tokenizer = base.tokenizer
        self._head = weights["qa_outputs.weight"].T  # [d, 2]
        self._bias = weights["qa_outputs.bias"]  # [2]
        self._hidden = compile_encoder(weights, base.model.config.to_dict())

    def score(self, query: str, texts: Sequence[str]) -> list[float]:
        """Uncalibrated scores: for every text the best of its windows."""
        pairs = [(i, pair) for i, text in enumerate(texts) for pair in encode_windows(self._tokenizer, query, text)]
        best = [float("-inf")] * len(texts)
        states = self._hidden([pair.ids for _, pair in pairs]) if pairs else []
        for (i, pair), own in zip(pairs, states, strict=True):
            logits = own.astype(np.float64) @ self._head + self._bias  # [T, 2]
            sides = np.logaddexp.reduce(logits[pair.begin : pair.end], axis=0) - logits[0]  # [2]
            best[i] = max(best[i], float(sides.mean()))
        return best


def read_calibration(folder: Path) -> RankingCalibration:
    """The calibration beside a reranker's weights; scores as they are where there is none."""
    path = folder / CALIBRATION
    return RankingCalibration(**json.loads(path.read_text())) if path.is_file() else RankingCalibration()


def score_pairs(base: ReaderBase, query: str, texts: Sequence[str]) -> list[float]:
    """Uncalibrated scores of a query with each text: for every text the best of its windows."""
    pairs = [(i, pair) for i, text in enumerate(texts) for pair in encode_windows(base.tokenizer, query, text)]
    best = [float("-inf")] * len(texts)
    for batch in _batches(sorted(pairs, key=lambda p: -len(p[1].ids))):
        with torch.inference_mode():
            scores = relevance(base.model, [pair for _, pair in batch], base.tokenizer.pad_token_id)  # [B]
        for (i, _), score in zip(batch, scores.tolist(), strict=True):
            best[i] = max(best[i], score)
    return best


def encode_windows(tokenizer: Any, query: str, text: str, longest: int = WINDOW_TOKENS) -> list[EncodedPair]:
    """The pair as one or more inputs of at most ``longest`` tokens, which together cover the text."""
    question, passage = (
        tokenizer(part.encode("utf-8", "replace").decode(), add_special_tokens=False, verbose=False)["input_ids"]
        for part in (query, text)
    )
    question = question[:_MAX_QUESTION_TOKENS]
    begin = len(question) + 2
    cls, sep = tokenizer.cls_token_id, tokenizer.sep_token_id
    pairs = []
    for window in windows_of(len(passage), longest - len(question) - 3, _WINDOW_STRIDE):
        inside = passage[window.begin : window.end] or [sep]  # a text of no tokens still has a score
        pairs.append(EncodedPair([cls, *question, sep, *inside, sep], begin, begin + len(inside)))
    return pairs


def relevance(model: Any, pairs: Sequence[EncodedPair], pad: int) -> torch.Tensor:
    """Scores [B] of encoded pairs, with gradients where the model has them."""
    longest = max(len(pair.ids) for pair in pairs)
    input_ids = torch.tensor([pair.ids + [pad] * (longest - len(pair.ids)) for pair in pairs])  # [B, T]
    lengths, begins, ends = (
        torch.tensor(values)[:, None]
        for values in ([len(p.ids) for p in pairs], [p.begin for p in pairs], [p.end for p in pairs])
    )  # [B, 1] each
    positions = torch.arange(longest)[None]  # [1, T]
    out = model(input_ids=input_ids, attention_mask=(positions < lengths).long())
    outside = (positions < begins) | (positions >= ends)  # [B, T]
    sides = [
        logits.float().masked_fill(outside, float("-inf")).logsumexp(dim=1) - logits[:, 0].float()  # [B]
        for logits in (out.start_logits, out.end_logits)
    ]
    score: torch.Tensor = (sides[0] + sides[1]) / 2  # [B]
    return score


def _batches(pairs: Sequence[tuple[int, EncodedPair]]) -> Iterator[list[tuple[int, EncodedPair]]]:
    """Cut pairs, longest first, into batches of at most so many tokens with their padding."""
    batch: list[tuple[int, EncodedPair]] = []
    for pair in pairs:
        if batch and len(batch[0][1].ids) * (len(batch) + 1) > _BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(pair)
    if batch:
        yield batch
