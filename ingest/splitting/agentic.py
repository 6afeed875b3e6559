"""Splitting by a language model: it is shown numbered sentences and says with which of them a new topic begins.

Knows the model as a function only, and trusts nothing it says: an answer that names no valid division leaves its window
to the recursive method, and is counted. The number of questions asked is bounded.
"""

from __future__ import annotations

import itertools
import logging
import re
from collections.abc import Callable, Sequence
from typing import Protocol

from ingest.errors import CompletionFailed, CompletionTooLong
from ingest.parsing.document import ParsedDocument
from ingest.splitting.chunks import Span, SplitConfig
from ingest.splitting.recursive import even_pieces, recursive_spans, sentence_units

_log = logging.getLogger(__name__)
_MOST_SENTENCES = 40  # shown at once
_LARGEST_WINDOW = 4000  # characters
_SMALLEST_WINDOW = 500
_MOST_CALLS = 200
_MOST_FAILURES = 3  # in a row: the model cannot do this
_TASK = (
    "The sources are consecutive sentences of one document. Divide them into topics: a topic is a run of sentences "
    "about one thing that can be understood on its own. Reply with the number of the first source of each topic and "
    "nothing else, in order, such as: [1] [4] [9]. The first number is always [1]."
)
_LISTED = re.compile(r"[\s,;.]*(?:\[\s*\d{1,4}(?:\s*,\s*\d{1,4})*\s*\][\s,;.]*)+")
_BARE = re.compile(r"\s*\d{1,4}(?:[,;\s]+\d{1,4})*[\s.]*")
_RANGES = re.compile(r"(?:^|(?<=[\s\[(:]))(\d{1,4})\s*(?:-|–|—|to)\s*(\d{1,4})(?=$|[\s\]),.;])")
_NUMBER = re.compile(r"\d+")


class Complete(Protocol):
    """A language model, as far as splitting needs one."""

    def __call__(self, task: str, sources: Sequence[str], max_tokens: int) -> str:
        """The answer to ``task`` over numbered ``sources``, the first numbered 1.

        Raises:
            CompletionTooLong: they are more than the model can read at once.
            CompletionFailed: there is no (whole) answer.
        """


def agentic_spans(
    document: ParsedDocument, config: SplitConfig, complete: Complete, should_stop: Callable[[], bool]
) -> tuple[list[Span], int, int] | None:
    """The chunks of a document by topic, in order; ``None`` when asked to stop.

    A topic longer than ``config.size`` is cut at sentences, one shorter than ``config.minimum`` goes with the next.

    Returns:
        the spans, how many windows of sentences there were, and how many of them were split recursively because the
        model's answer could not be used.
    """
    text = document.text
    units = list(sentence_units(text, 0, len(text), config.size))
    spans: list[Span] = []
    asking = _Asking(text, complete)
    position = windows = fallbacks = 0
    while position < len(units):
        if should_stop():
            return None
        window = asking.window(units, position)
        try:
            topics = asking.topics(units[position : position + window])
        except CompletionTooLong:
            asking.shrink()
            continue
        if should_stop():  # the model may have failed because the service ends
            return None
        windows += 1
        if topics is None:
            end = len(units) if asking.over else position + window
            fallbacks += 1
            spans += recursive_spans(text, document.headings, config, units[position][0], units[end - 1][1])
        else:
            end = position + window
            # The last topic may go on: it is looked at again, unless that would hardly bring us forward.
            if end < len(units) and topics[-1] >= window // 2 > 0:
                end = position + topics.pop()
            spans += _chunks(units, [position + topic for topic in topics], end, config)
        position = end
    if fallbacks:
        _log.warning("splitting fell back to the recursive method", extra={"windows": windows, "fallbacks": fallbacks})
    return spans, windows, fallbacks


def _chunks(units: Sequence[Span], starts: Sequence[int], end: int, config: SplitConfig) -> list[Span]:
    """The topics that begin with the units ``starts`` and end before the unit ``end``, as spans that fit."""
    runs: list[tuple[int, int]] = []
    for first, last in itertools.pairwise([*starts, end]):
        before = runs[-1][0] if runs else first
        short = units[first - 1][1] - units[before][0] < config.minimum
        if runs and short and units[last - 1][1] - units[before][0] <= config.size:
            runs[-1] = (before, last)
        else:
            runs.append((first, last))
    spans: list[Span] = []
    for first, last in runs:
        span = (units[first][0], units[last - 1][1])
        spans += [span] if span[1] - span[0] <= config.size else even_pieces(units[first:last], config)
    return spans


class _Asking:
    """Asks the model, window by window, within the bounds."""

    def __init__(self, text: str, complete: Complete) -> None:
        self._text = text
        self._complete = complete
        self._characters = _LARGEST_WINDOW
        self._calls = 0
        self._failures = 0

    @property
    def over(self) -> bool:
        """Whether the model is not asked any more."""
        return self._failures >= _MOST_FAILURES or self._calls >= _MOST_CALLS or self._characters < _SMALLEST_WINDOW

    def shrink(self) -> None:
        """Show the model half as much at once from now on."""
        self._characters //= 2

    def window(self, units: Sequence[Span], position: int) -> int:
        """How many units from ``position`` on are shown at once; at least one."""
        window = 1
        while (
            window < _MOST_SENTENCES
            and position + window < len(units)
            and units[position + window][1] - units[position][0] <= self._characters
        ):
            window += 1
        return window

    def topics(self, units: Sequence[Span]) -> list[int] | None:
        """Indices into ``units`` at which topics begin, 0 first; ``None`` where the model gave no usable answer.

        Raises:
            CompletionTooLong: the model cannot read so many at once.
        """
        if self.over:
            return None
        if len(units) == 1:
            return [0]
        self._calls += 1
        starts, reason = None, "the answer names no division into topics"
        try:
            answer = self._complete(_TASK, [self._text[start:end] for start, end in units], 16 + 6 * len(units))
            starts = topic_starts(answer, len(units))
        except CompletionTooLong:
            raise
        except CompletionFailed as error:
            reason = str(error)
        if starts is None:
            self._failures += 1
            _log.info("a window is split recursively: %s", reason)
            return None
        self._failures = 0
        return [start - 1 for start in starts]


def topic_starts(answer: str, count: int) -> list[int] | None:
    """The numbers, from 1 and increasing, that an answer names as the beginnings of topics among ``count`` sources.

    ``[1] [4] [9]``, ``[1, 4, 9]`` and ``1, 4, 9`` are understood where nothing else is said, since numbers in running
    text may mean anything; ranges such as ``1-3, 4-8`` where they cover all sources. ``None`` for anything else.
    """
    ranges = [(int(first), int(last)) for first, last in _RANGES.findall(answer)]
    edges = [0, *(edge for pair in ranges for edge in pair)]
    follow_on = all(first == before + 1 for before, first in zip(edges[::2], edges[1::2], strict=False))
    if ranges and edges[-1] == count and edges == sorted(edges) and follow_on:
        return [first for first, _ in ranges]
    if not (_LISTED.fullmatch(answer) or _BARE.fullmatch(answer)):
        return None
    numbers = [int(number) for number in _NUMBER.findall(answer)]
    if numbers[0] != 1:
        numbers.insert(0, 1)
    increasing = all(before < after for before, after in itertools.pairwise(numbers))
    return numbers if increasing and numbers[-1] <= count else None
