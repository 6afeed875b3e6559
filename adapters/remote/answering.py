"""One row on its way through a model server: what is asked, what each chunk of the stream adds, and what is told of it.

Knows OpenAI's chunks and the seam's events; knows no connection and no queue.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from typing import Any, Literal

from adapters.engine import Token
from adapters.pooled import PooledRow
from adapters.prompt import COMMON_CONTROL_TOKENS, Prompt, conversation
from adapters.remote.adapters import ServedAdapter
from adapters.remote.model_server import Kind
from adapters.shown_text import ShownText, done_of, shown_text

_MOST_STOPS = 4  # what OpenAI's API takes; further ones are met here


@dataclass(eq=False, kw_only=True)
class Answering(PooledRow[ServedAdapter]):
    """A row under way; ``task`` is its request once it is admitted."""

    prompt: Prompt
    text: ShownText
    task: asyncio.Task[None] | None = None
    told: bool = False
    pieces: int = 0
    log_probability: float = 0.0
    scored: int = 0
    confidence: float | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    finish_reason: Literal["stop", "length"] | None = None

    def request(self, base: str, kind: Kind) -> dict[str, Any]:
        """The body of a streamed chat; ``base`` is what the server knows the base model by."""
        row, prompt = self.row, self.prompt
        turns = len(row.history) - prompt.dropped_turns
        body = {
            "model": self.adapter.model if self.adapter is not None else base,
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
        return {name: value for name, value in body.items() if value is not None}

    def begin_again(self) -> None:
        """Forget what an attempt said that nobody was told."""
        self.text = shown_text(self.prompt, self.row.stop)
        self.pieces = self.scored = 0
        self.log_probability, self.confidence, self.finish_reason = 0.0, None, None

    def take(self, chunk: dict[str, Any]) -> None:
        """What one chunk of the stream tells."""
        usage = chunk.get("usage")
        if isinstance(usage, dict):
            self.prompt_tokens, self.completion_tokens = usage.get("prompt_tokens"), usage.get("completion_tokens")
        lorebase = chunk.get("lorebase")
        if isinstance(lorebase, dict) and isinstance(lorebase.get("confidence"), int | float):
            self.confidence = float(lorebase["confidence"])
        for choice in chunk.get("choices") or []:
            for entry in (choice.get("logprobs") or {}).get("content") or []:
                self.log_probability += float(entry.get("logprob") or 0.0)
                self.scored += 1
            piece = (choice.get("delta") or {}).get("content") or ""
            if choice.get("finish_reason"):
                self.finish_reason = "length" if choice["finish_reason"] == "length" else "stop"
            if piece:
                self.pieces += 1
                self._show(self.text.push(piece))

    def finish(self) -> None:
        """The stream is complete."""
        self._show(self.text.push("", last=True))
        self.tell(
            done_of(
                self.row,
                self.prompt,
                self.text,
                confidence=self._certainty(),
                prompt_tokens=self.prompt_tokens or len(self.prompt.token_ids),
                completion_tokens=self.completion_tokens or self.pieces,
                finish_reason=self.finish_reason or "stop",
            )
        )

    def _show(self, text: str) -> None:
        if text:
            self.told = True
            self.tell(Token(text))

    def _certainty(self) -> float:
        """As the server says; 0 where it tells no probabilities, so that a row which asks for some is abstained on."""
        if self.confidence is not None:
            return min(1.0, max(0.0, self.confidence))
        return min(1.0, math.exp(self.log_probability / self.scored)) if self.scored else 0.0
