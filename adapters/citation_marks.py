"""Citation marks in an answer: ``[1]`` or ``[1, 3]`` name the passages it rests on, by their number in the prompt.

Pure text; knows no model, no prompt.
"""

from __future__ import annotations

import re
from collections.abc import Collection

MARK = re.compile(r"\[(\d{1,4}(?:\s*,\s*\d{1,4})*)\]")
_SPACED_MARK = re.compile(r"[ \t]*" + MARK.pattern)
_BEGINNING = re.compile(r"[ \t]*(?:\[[\d\s,]{0,40})?\Z")  # what may still become a mark


class CheckedMarks:
    """Text as it grows, without the marks that name no passage.

    What `push` and `flush` return may be shown at once; a mark that is not complete is held back.

    Attributes:
        cited: indices of the passages named, each once, in order of first mention.
        unknown: how many marks named no passage; they are left out of the text.

    Args:
        shown: indices of the passages that stood in the prompt; passage i is marked ``[i + 1]``.
    """

    def __init__(self, shown: Collection[int]) -> None:
        self._shown = shown
        self._held = ""
        self._cited: dict[int, None] = {}
        self.unknown = 0

    @property
    def cited(self) -> tuple[int, ...]:
        return tuple(self._cited)

    def push(self, piece: str) -> str:
        """Take the next piece; the text that may be shown."""
        text = self._held + piece
        beginning = _BEGINNING.search(text)
        end = beginning.start() if beginning else len(text)
        self._held = text[end:]
        return _SPACED_MARK.sub(self._checked, text[:end])

    def flush(self) -> str:
        """What was held back."""
        text, self._held = self._held, ""
        return text

    def _checked(self, mark: re.Match[str]) -> str:
        numbers = [int(number) for number in mark[1].split(",")]
        known = [number for number in numbers if number - 1 in self._shown]
        self._cited.update(dict.fromkeys(number - 1 for number in known))
        self.unknown += len(numbers) - len(known)
        if len(known) == len(numbers):
            return mark[0]
        return mark[0][: mark[0].index("[")] + f"[{', '.join(map(str, known))}]" if known else ""


def without_marks(text: str) -> str:
    """The text without any marks."""
    return _SPACED_MARK.sub("", text)
