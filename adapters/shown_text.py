"""An answer's text as it grows: what may be shown already, where it stops, what it cites, whether it abstains.

Works on pieces of text, whoever writes them. Knows the abstention sentence and citation marks; knows no tokenizer, no
model, no threads.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal

from adapters.citation_marks import CheckedMarks
from adapters.engine import Done, Row, Span
from adapters.prompt import Prompt
from adapters.template import ABSTENTION

_ABSTENTION = ABSTENTION.rstrip(".").casefold()


class ShownText:
    """One answer.

    What `push` returns may be shown at once: white space around the answer, marks that are not complete and text that
    may still turn out to be the abstention sentence or a text to stop at are held back, so the shown pieces joined are
    the answer.

    Attributes:
        stopped: a text to stop at was met; nothing more is to be pushed.

    Args:
        sources: indices of the passages that stood in the prompt; None: the answer needs none and its marks are text.
        stop: texts that end it; it is what stands before the first of them.
        verbatim: show it as it comes, with the white space around it, and take no sentence for an abstention.
    """

    def __init__(self, sources: Collection[int] | None, stop: Sequence[str] = (), *, verbatim: bool = False) -> None:
        self._verbatim = verbatim
        self._marks = CheckedMarks(sources) if sources is not None else None
        self._stop = tuple(text for text in stop if text)
        self._text = ""
        self._shown = 0
        self.stopped = False

    def push(self, piece: str, *, last: bool = False) -> str:
        """Take the next piece; the text that may now be shown.

        Args:
            last: nothing follows.
        """
        self._text += self._checked(piece, last)
        ends = [at for text in self._stop if (at := self._text.find(text)) >= 0]
        if ends:
            self._text = self._text[: min(ends)]
            self.stopped = True
        if not self._verbatim and not self._shown and self._text.strip():
            self._text = self._text.lstrip()
        return self._show(last or self.stopped)

    @property
    def text(self) -> str:
        return self._text if self._verbatim else self._text.strip()

    @property
    def abstains(self) -> bool:
        """Whether it is empty, or says that there is no answer."""
        return not self._verbatim and (not self.text or is_abstention(self.text))

    @property
    def cited(self) -> tuple[int, ...]:
        """Indices of the passages it names, in order of first mention."""
        return self._marks.cited if self._marks else ()

    @property
    def unknown_marks(self) -> int:
        """How many marks named no passage; they were left out."""
        return self._marks.unknown if self._marks else 0

    def _checked(self, piece: str, last: bool) -> str:
        if self._marks is None:
            return piece
        return self._marks.push(piece) + (self._marks.flush() if last else "")

    def _show(self, complete: bool) -> str:
        end = len(self._text) if complete else len(self._text) - self._may_stop()
        if not self._verbatim:
            end = len(self._text[:end].rstrip())
            if self._abstaining(end, complete):
                return ""
        new = self._text[self._shown : end]
        self._shown = max(self._shown, end)
        return new

    def _abstaining(self, end: int, complete: bool) -> bool:
        """Whether what stands there is, or may still become, the sentence that says there is no answer."""
        if complete:
            return is_abstention(self._text)
        begun = self._text[:end].casefold().rstrip(".")
        return not self._shown and _ABSTENTION.startswith(begun)

    def _may_stop(self) -> int:
        """Characters at the end that may be the beginning of a text to stop at."""
        return max((n for stop in self._stop for n in range(1, len(stop)) if self._text.endswith(stop[:n])), default=0)


def shown_text(prompt: Prompt, stop: Sequence[str]) -> ShownText:
    """The answer to a prompt, before its first piece."""
    return ShownText(prompt.shown if prompt.grounded else None, stop, verbatim=prompt.verbatim)


def done_of(
    row: Row,
    prompt: Prompt,
    shown: ShownText,
    *,
    confidence: float,
    prompt_tokens: int,
    completion_tokens: int,
    finish_reason: Literal["stop", "length"],
) -> Done:
    """A finished row: cited passages as spans, or an abstention, also when ``row.min_confidence`` is not reached."""
    unsure = row.min_confidence is not None and confidence < row.min_confidence
    abstained = shown.abstains or unsure
    spans = tuple(Span(i, 0, len(row.passages[i].text), confidence) for i in shown.cited)
    return Done(
        answer="" if abstained else shown.text,
        abstained=abstained,
        confidence=confidence,
        spans=() if abstained else spans,
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        dropped=prompt.dropped,
        finish_reason=finish_reason,
        dropped_turns=prompt.dropped_turns,
        unknown_marks=shown.unknown_marks,
    )


def is_abstention(answer: str) -> bool:
    """Whether an answer is the sentence that says there is none, in any case and with or without its full stop."""
    return answer.strip().rstrip(".").casefold() == _ABSTENTION
