"""Recursive splitting: at headings, then paragraphs, then sentences (``ingest.sentences``), words, characters.

Pure functions over plain data; knows no file format, no model and no storage.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ingest.parsing.document import Heading
from ingest.sentences import sentences
from ingest.splitting.chunks import Span, SplitConfig, trimmed

_BLANK_LINES = re.compile(r"\r?\n[^\S\n]*\n\s*")
_WORD = re.compile(r"\S+")
# A chunk never crosses into a section of these heading levels, unless it would be a mere line.
_SECTION_LEVEL = 2


@dataclass(slots=True)
class _Group:
    """Neighbouring paragraphs that go together."""

    start: int
    end: int
    body: bool  # holds more than headings

    @property
    def length(self) -> int:
        return self.end - self.start


def recursive_spans(
    text: str, headings: Sequence[Heading], config: SplitConfig, start: int = 0, end: int | None = None
) -> list[Span]:
    """The chunks of ``text[start:end]``, in order.

    Every character that is not white space lies in at least one chunk; no chunk is blank or longer than
    ``config.size``; starts and ends both increase.

    Args:
        headings: those of the whole text; others than those in ``start:end`` are passed over.
    """
    end = len(text) if end is None else end
    within = sorted((h for h in headings if start <= h.start < end), key=lambda heading: heading.start)
    spans: list[Span] = []
    current: _Group | None = None
    tiny = config.minimum // 4
    for begin, finish, level in _paragraphs(text, within, start, end):
        if current is not None and _joins(current, begin, finish, level, config, tiny):
            current.end = finish
            current.body = current.body or level is None
            continue
        if current is not None:
            spans += _fit(text, current, config)
        current = _Group(begin, finish, level is None)
    if current is not None:
        spans += _fit(text, current, config)
    return spans


def even_pieces(units: Sequence[Span], config: SplitConfig) -> list[Span]:
    """Runs of units: as few as ``config.size`` allows, the longest of them as short as it can be.

    Each begins with at most ``config.overlap`` of the one before it, in whole units.

    Args:
        units: in order, at least one, none longer than ``config.size``.
    """
    best = _pieces(units, config.size, config.overlap)
    low, high = max(end - start for start, end in units), config.size
    while low < high:
        limit = (low + high) // 2
        pieces = _pieces(units, limit, config.overlap)
        if len(pieces) > len(best):
            low = limit + 1
        else:
            best, high = pieces, limit
    return best


def sentence_units(text: str, start: int, end: int, size: int) -> Iterator[Span]:
    """Sentences of ``text[start:end]``; one longer than ``size`` as runs of words, a longer word as runs of letters."""
    for sentence_start, sentence_end in sentences(text, start, end):
        if sentence_end - sentence_start <= size:
            yield sentence_start, sentence_end
            continue
        run_start, run_end = sentence_start, sentence_start
        for word in _WORD.finditer(text, sentence_start, sentence_end):
            word_start, word_end = word.span()
            if word_end - run_start <= size and run_end > run_start:
                run_end = word_end
                continue
            if run_end > run_start:
                yield run_start, run_end
            while word_end - word_start > size:
                yield word_start, word_start + size
                word_start += size
            run_start, run_end = word_start, word_end
        if run_end > run_start:
            yield run_start, run_end


def _joins(group: _Group, start: int, end: int, level: int | None, config: SplitConfig, tiny: int) -> bool:
    """Whether the paragraph ``start:end`` goes with the group before it."""
    if not group.body:
        # A heading leads what follows it, also where the two together must be cut.
        return end - group.start <= config.size or level is None
    if end - group.start > config.size:
        return False
    if level is not None:
        return group.length < (tiny if level <= _SECTION_LEVEL else config.minimum)
    return group.length < config.minimum or end - start < config.minimum


def _fit(text: str, group: _Group, config: SplitConfig) -> list[Span]:
    """``group`` as it is when it fits, else cut at sentences into pieces of about the same length, with overlap."""
    if group.length <= config.size:
        return [(group.start, group.end)]
    return even_pieces(list(sentence_units(text, group.start, group.end, config.size)), config)


def _pieces(units: Sequence[Span], limit: int, overlap: int) -> list[Span]:
    """Runs of units, none longer than ``limit``, each beginning with at most ``overlap`` of the one before it."""
    pieces: list[Span] = []
    first = 0
    while first < len(units):
        start = units[first][0]
        back = first - 1
        while (
            back > 0 and units[first - 1][1] - units[back][0] <= overlap and units[first][1] - units[back][0] <= limit
        ):
            if units[back][0] <= pieces[-1][0]:
                break
            start = units[back][0]
            back -= 1
        last = first
        while last + 1 < len(units) and units[last + 1][1] - start <= limit:
            last += 1
        pieces.append((start, units[last][1]))
        first = last + 1
    return pieces


def _paragraphs(text: str, headings: Sequence[Heading], start: int, end: int) -> Iterator[tuple[int, int, int | None]]:
    """(start, end, heading level or None) of the text between blank lines; each heading's line stands alone.

    Args:
        headings: those in ``start:end``, in order.
    """
    following = 0
    position = start
    while position < end:
        gap = _BLANK_LINES.search(text, position, end)
        paragraph_end = gap.start() if gap else end
        while following < len(headings) and headings[following].start < paragraph_end:
            heading = headings[following]
            following += 1
            if heading.start < position:
                continue
            yield from _unless_blank(text, position, heading.start, None)
            line_end = text.find("\n", heading.start, paragraph_end)
            position = paragraph_end if line_end < 0 else line_end
            yield from _unless_blank(text, heading.start, position, heading.level)
        yield from _unless_blank(text, position, paragraph_end, None)
        position = gap.end() if gap else end


def _unless_blank(text: str, start: int, end: int, level: int | None) -> Iterator[tuple[int, int, int | None]]:
    start, end = trimmed(text, start, end)
    if start < end:
        yield start, end, level
