"""From token ids to an answer: incremental text, confidence, and how the row ends.

Works on one row's tokens as they come. Knows no model, no batch, no threads.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any, Literal, Protocol

from adapters.engine import Done, Row
from adapters.prompt import Prompt
from adapters.shown_text import done_of, shown_text

_BROKEN = "\ufffd"  # what decoders put for an incomplete UTF-8 sequence


class Decoder(Protocol):
    """What of a Hugging Face tokenizer turns ids into text."""

    def decode(self, token_ids: list[int], *, skip_special_tokens: bool) -> Any:
        """The text of the ids."""


class Detokenizer:
    """Text as it grows. A token's text can depend on the tokens before it and a character can span several tokens, so
    each step decodes a short tail twice and hands out the difference once it is complete."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self._ids: list[int] = []
        self._begin = 0  # first token of the tail
        self._told = 0  # tokens whose text was handed out

    def push(self, token_id: int) -> str:
        """Text that the token completes; empty while a character is incomplete."""
        self._ids.append(token_id)
        whole = self._text(len(self._ids))
        if whole.endswith(_BROKEN):
            return ""
        return self._hand_out(whole)

    def flush(self) -> str:
        """What was held back, complete or not."""
        return self._hand_out(self._text(len(self._ids)))

    def _hand_out(self, whole: str) -> str:
        new = whole[len(self._text(self._told)) :]
        self._begin, self._told = self._told, len(self._ids)
        return new

    def _text(self, end: int) -> str:
        return str(self._decoder.decode(self._ids[self._begin : end], skip_special_tokens=True))


class AnswerText:
    """One row's answer as its tokens come; what may be shown of it is `ShownText`'s business.

    Args:
        limit: tokens it may have at most.
        stop: texts that end it; it is what stands before the first of them.
    """

    def __init__(
        self, decoder: Decoder, limit: int, eos_ids: Collection[int], prompt: Prompt, stop: Sequence[str] = ()
    ) -> None:
        self._shown = shown_text(prompt, stop)
        self._detokenizer = Detokenizer(decoder)
        self._limit = limit
        self._eos_ids = eos_ids
        self._tokens = 0
        self._log_probability = 0.0
        self._untold: list[float] = []
        self.finish_reason: Literal["stop", "length"] | None = None

    def push(self, token_id: int, log_probability: float) -> str:
        """Take one token; returns the text that may now be shown. Sets `finish_reason` when the answer is complete."""
        if token_id in self._eos_ids:
            self.finish_reason = "stop"
            piece = self._detokenizer.flush()
        else:
            self._tokens += 1
            self._log_probability += log_probability
            self._untold.append(log_probability)
            piece = self._detokenizer.push(token_id)
            if self._tokens >= self._limit:
                self.finish_reason = "length"
                piece += self._detokenizer.flush()
        shown = self._shown.push(piece, last=self.finish_reason is not None)
        if self._shown.stopped:
            self.finish_reason = "stop"
        return shown

    def scores(self) -> tuple[float, ...]:
        """Log-probabilities of the tokens since this was last asked."""
        untold, self._untold = tuple(self._untold), []
        return untold

    @property
    def confidence(self) -> float:
        """exp of the mean log-probability of the answer's tokens, from 0 to 1; 0 for an empty answer."""
        return min(1.0, math.exp(self._log_probability / self._tokens)) if self._tokens else 0.0

    def done(self, row: Row, prompt: Prompt) -> Done:
        """The finished row: cited passages as spans, or an abstention."""
        return done_of(
            row,
            prompt,
            self._shown,
            confidence=self.confidence,
            prompt_tokens=len(prompt.token_ids),
            completion_tokens=self._tokens,
            finish_reason=self.finish_reason or "stop",
        )
