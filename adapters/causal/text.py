"""From token ids to an answer: incremental text, what may be shown already, confidence, citations.

Works on one row's tokens as they come. Knows the abstention sentence and citation marks; knows no model, no batch, no
threads.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any, Literal, Protocol

from adapters.citation_marks import CheckedMarks
from adapters.engine import Done, Row, Span
from adapters.prompt import Prompt
from adapters.template import ABSTENTION

_BROKEN = "\ufffd"  # what decoders put for an incomplete UTF-8 sequence
_ABSTENTION = ABSTENTION.rstrip(".").casefold()


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
    """One row's answer as its tokens come.

    What `push` returns may be shown at once: white space around the answer, marks that are not complete and text that
    may still turn out to be the abstention sentence or a text to stop at are held back, so the shown pieces joined are
    the answer.

    Args:
        limit: tokens it may have at most.
        stop: texts that end it; it is what stands before the first of them.
    """

    def __init__(
        self, decoder: Decoder, limit: int, eos_ids: Collection[int], prompt: Prompt, stop: Sequence[str] = ()
    ) -> None:
        self._marks = CheckedMarks(prompt.shown) if prompt.grounded else None
        self._detokenizer = Detokenizer(decoder)
        self._limit = limit
        self._eos_ids = eos_ids
        self._stop = tuple(text for text in stop if text)
        self._text = ""
        self._shown = 0
        self._tokens = 0
        self._log_probability = 0.0
        self.finish_reason: Literal["stop", "length"] | None = None

    def push(self, token_id: int, log_probability: float) -> str:
        """Take one token; returns the text that may now be shown. Sets `finish_reason` when the answer is complete."""
        if token_id in self._eos_ids:
            self.finish_reason = "stop"
            self._text += self._checked(self._detokenizer.flush())
        else:
            self._tokens += 1
            self._log_probability += log_probability
            piece = self._detokenizer.push(token_id)
            if self._tokens >= self._limit:
                self.finish_reason = "length"
                piece += self._detokenizer.flush()
            self._text += self._checked(piece)
        ends = [at for text in self._stop if (at := self._text.find(text)) >= 0]
        if ends:
            self._text = self._text[: min(ends)]
            self.finish_reason = "stop"
        if not self._shown and self._text.strip():
            self._text = self._text.lstrip()
        return self._show()

    @property
    def confidence(self) -> float:
        """exp of the mean log-probability of the answer's tokens, from 0 to 1; 0 for an empty answer."""
        return min(1.0, math.exp(self._log_probability / self._tokens)) if self._tokens else 0.0

    def done(self, row: Row, prompt: Prompt) -> Done:
        """The finished row: cited passages as spans, or an abstention."""
        answer = self._text.strip()
        unsure = row.min_confidence is not None and self.confidence < row.min_confidence
        abstained = not answer or unsure or is_abstention(answer)
        cited = self._marks.cited if self._marks else ()
        spans = tuple(Span(i, 0, len(row.passages[i].text), self.confidence) for i in cited)
        return Done(
            answer="" if abstained else answer,
            abstained=abstained,
            confidence=self.confidence,
            spans=() if abstained else spans,
            prompt_tokens=len(prompt.token_ids),
            completion_tokens=self._tokens,
            dropped=prompt.dropped,
            finish_reason=self.finish_reason or "stop",
            dropped_turns=prompt.dropped_turns,
            unknown_marks=self._marks.unknown if self._marks else 0,
        )

    def _checked(self, piece: str) -> str:
        if self._marks is None:
            return piece
        return self._marks.push(piece) + (self._marks.flush() if self.finish_reason else "")

    def _show(self) -> str:
        end = len(self._text.rstrip())
        if self.finish_reason is None:
            end = len(self._text[: len(self._text) - self._may_stop()].rstrip())
            if not self._shown and _ABSTENTION.startswith(self._text[:end].casefold().rstrip(".")):
                return ""
        elif is_abstention(self._text):
            return ""
        new = self._text[self._shown : end]
        self._shown = max(self._shown, end)
        return new

    def _may_stop(self) -> int:
        """Characters at the end that may be the beginning of a text to stop at."""
        return max((n for stop in self._stop for n in range(1, len(stop)) if self._text.endswith(stop[:n])), default=0)


def is_abstention(answer: str) -> bool:
    """Whether an answer is the sentence that says there is none, in any case and with or without its full stop."""
    return answer.strip().rstrip(".").casefold() == _ABSTENTION
