"""Splitting a parsed document into chunks, as offsets into its text.

The order of cuts is the recursive one: headings, then paragraphs, then sentences (``ingest.sentences``), then words,
then characters. Pure functions over plain data; knows no file format, no model and no storage.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ingest.parsing.document import Heading, Page, ParsedDocument
from ingest.sentences import sentences

__all__ = ["Chunk", "SplitConfig", "sentences", "split_recursive"]

Span = tuple[int, int]

_BLANK_LINES = re.compile(r"\r?\n[^\S\n]*\n\s*")
_WORD = re.compile(r"\S+")
# A chunk never crosses into a section of these heading levels, unless it would be a mere line.
_SECTION_LEVEL = 2
_SECTION_SEPARATOR = " > "


@dataclass(frozen=True, slots=True)
class SplitConfig:
    """How large chunks are, in characters.

    Attributes:
        size: no chunk is longer.
        overlap: at most so much of a chunk is repeated at the start of the next, in whole sentences, and only where
            one paragraph had to be cut.
        minimum: a paragraph at least this long is a chunk of its own; shorter neighbours share one.

    Overlap and minimum that are not given become 150 and 250, or their share of a size below 1000.
    """

    size: int = 1000
    overlap: int = -1
    minimum: int = -1

    def __post_init__(self) -> None:
        if self.overlap == -1:
            object.__setattr__(self, "overlap", min(150, self.size * 15 // 100))
        if self.minimum == -1:
            object.__setattr__(self, "minimum", min(250, self.size // 4))
        if self.size < 1 or self.overlap < 0 or self.minimum < 0:
            raise ValueError("size must be at least 1, overlap and minimum at least 0")
        if self.overlap >= self.size or self.minimum > self.size:
            raise ValueError("overlap must be smaller than size, and minimum not larger")


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a document as it is indexed: ``text[start:end]``.

    Attributes:
        start, end: half-open offsets in code points.
        page: number of the page on which it starts; ``None`` where the format has no pages.
        section: path of the headings above most of it, joined by " > "; ``None`` where there is none.
    """

    start: int
    end: int
    page: int | None
    section: str | None


@dataclass(slots=True)
class _Group:
    """Neighbouring paragraphs that go together."""

    start: int
    end: int
    body: bool  # holds more than headings

    @property
    def length(self) -> int:
        return self.end - self.start


def split_recursive(document: ParsedDocument, config: SplitConfig) -> list[Chunk]:
    """The chunks of a document, in order.

    Every character that is not white space lies in at least one chunk; no chunk is blank or longer than
    ``config.size``; starts and ends both increase.
    """
    sections = _Sections(document.headings, len(document.text))
    page_starts = [page.start for page in document.pages]
    return [
        Chunk(
            group.start,
            group.end,
            _page_at(document.pages, page_starts, group.start),
            sections.over(group.start, group.end),
        )
        for group in _groups(document, config)
    ]


def place_of(
    start: int, end: int, pages: Sequence[Page], headings: Sequence[Heading], length: int
) -> tuple[int | None, str | None]:
    """The page on which ``start:end`` begins and the heading path over most of it, in a text of ``length``."""
    page = _page_at(pages, [each.start for each in pages], start)
    return page, _Sections(headings, length).over(start, end)


def _page_at(pages: Sequence[Page], starts: Sequence[int], offset: int) -> int | None:
    return pages[max(bisect_right(starts, offset) - 1, 0)].number if pages else None


def _groups(document: ParsedDocument, config: SplitConfig) -> list[_Group]:
    groups: list[_Group] = []
    current: _Group | None = None
    tiny = config.minimum // 4

    def close() -> None:
        nonlocal current
        if current is not None:
            groups.extend(_fit(document.text, current, config))
        current = None

    for start, end, level in _paragraphs(document):
        if current is None:
            current = _Group(start, end, level is None)
            continue
        if _joins(current, start, end, level, config, tiny):
            current.end = end
            current.body = current.body or level is None
            continue
        close()
        current = _Group(start, end, level is None)
    close()
    return groups


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


def _fit(text: str, group: _Group, config: SplitConfig) -> Iterator[_Group]:
    """``group`` as it is when it fits, else cut at sentences into pieces of about the same length, with overlap."""
    if group.length <= config.size:
        yield group
        return
    units = list(_units(text, group.start, group.end, config.size))
    for start, end in _even_pieces(units, config):
        yield _Group(start, end, body=True)


def _even_pieces(units: list[Span], config: SplitConfig) -> list[Span]:
    """As few pieces as ``config.size`` allows, the longest of them as short as it can be."""
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


def _pieces(units: list[Span], limit: int, overlap: int) -> list[Span]:
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


def _units(text: str, start: int, end: int, size: int) -> Iterator[Span]:
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


def _paragraphs(document: ParsedDocument) -> Iterator[tuple[int, int, int | None]]:
    """(start, end, heading level or None) of the text between blank lines; each heading's line stands alone."""
    text = document.text
    headings = sorted(document.headings, key=lambda heading: heading.start)
    following = 0
    position = 0
    while position < len(text):
        gap = _BLANK_LINES.search(text, position)
        paragraph_end = gap.start() if gap else len(text)
        while following < len(headings) and headings[following].start < paragraph_end:
            heading = headings[following]
            following += 1
            if heading.start < position:
                continue
            yield from _trimmed(text, position, heading.start, None)
            line_end = text.find("\n", heading.start, paragraph_end)
            position = paragraph_end if line_end < 0 else line_end
            yield from _trimmed(text, heading.start, position, heading.level)
        yield from _trimmed(text, position, paragraph_end, None)
        position = gap.end() if gap else len(text)


def _trimmed(text: str, start: int, end: int, level: int | None) -> Iterator[tuple[int, int, int | None]]:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    if start < end:
        yield start, end, level


class _Sections:
    """Which heading path is in force where."""

    def __init__(self, headings: Sequence[Heading], length: int) -> None:
        self._starts: list[int] = []
        self._paths: list[str] = []
        self._length = length
        stack: list[Heading] = []
        for heading in sorted(headings, key=lambda heading: heading.start):
            while stack and stack[-1].level >= heading.level:
                stack.pop()
            stack.append(heading)
            self._starts.append(heading.start)
            self._paths.append(_SECTION_SEPARATOR.join(each.title for each in stack))

    def over(self, start: int, end: int) -> str | None:
        """The path over most of ``start:end``; ``None`` before the first heading."""
        best: tuple[int, str | None] = (0, None)
        index = bisect_right(self._starts, start) - 1
        while index < len(self._starts) and (index < 0 or self._starts[index] < end):
            begin = max(start, self._starts[index]) if index >= 0 else start
            finish = self._starts[index + 1] if index + 1 < len(self._starts) else self._length
            covered = min(finish, end) - begin
            if covered > best[0]:
                best = (covered, self._paths[index] if index >= 0 else None)
            index += 1
        return best[1]
