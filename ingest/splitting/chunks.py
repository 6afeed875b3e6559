"""What a chunk is, how large chunks may be, and where one stands: its page and its section.

Plain data and pure functions; knows no method of splitting. Offsets are half-open and count code points.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from ingest.parsing.document import Heading, Page, ParsedDocument

Method = Literal["character", "recursive", "document", "semantic", "agentic"]
METHODS: tuple[Method, ...] = get_args(Method)
SMALLEST_SIZE, LARGEST_SIZE = 100, 8000
"""Of a chunk, in characters: what a person may ask for."""

Span = tuple[int, int]

_SECTION_SEPARATOR = " > "


@dataclass(frozen=True, slots=True)
class SplitConfig:
    """How a document is split, and how large its chunks are, in characters.

    Attributes:
        size: no chunk is longer.
        overlap: at most so much of a chunk is repeated at the start of the next: exactly so much by ``character``;
            by the other methods in whole sentences, and only where something that belongs together had to be cut.
        minimum: pieces shorter than this share a chunk with what follows them, where the method and ``size`` allow.
        method: see ``docs/splitting.md``.

    Overlap and minimum that are not given become 150 and 250, or their share of a size below 1000.
    """

    size: int = 1000
    overlap: int = -1
    minimum: int = -1
    method: Method = "recursive"

    def __post_init__(self) -> None:
        if self.overlap == -1:
            object.__setattr__(self, "overlap", min(150, self.size * 15 // 100))
        if self.minimum == -1:
            object.__setattr__(self, "minimum", min(250, self.size // 4))
        if self.size < 1 or self.overlap < 0 or self.minimum < 0:
            raise ValueError("size must be at least 1, overlap and minimum at least 0")
        if self.overlap >= self.size or self.minimum > self.size:
            raise ValueError("overlap must be smaller than size, and minimum not larger")
        if self.method not in METHODS:
            raise ValueError(f"method must be one of {', '.join(METHODS)}")


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


def placed(document: ParsedDocument, spans: Iterable[Span]) -> list[Chunk]:
    """The chunks at ``spans``, each with its page and section."""
    sections = _Sections(document.headings, len(document.text))
    page_starts = [page.start for page in document.pages]
    return [
        Chunk(start, end, _page_at(document.pages, page_starts, start), sections.over(start, end))
        for start, end in spans
    ]


def place_of(
    start: int, end: int, pages: Sequence[Page], headings: Sequence[Heading], length: int
) -> tuple[int | None, str | None]:
    """The page on which ``start:end`` begins and the heading path over most of it, in a text of ``length``."""
    page = _page_at(pages, [each.start for each in pages], start)
    return page, _Sections(headings, length).over(start, end)


def trimmed(text: str, start: int, end: int) -> Span:
    """``start:end`` without white space around it; empty where there is nothing else."""
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return start, end


def join_small(spans: Iterable[Span], config: SplitConfig) -> list[Span]:
    """Neighbouring spans, of which one shorter than ``config.minimum`` takes in the next where both fit together."""
    joined: list[Span] = []
    for start, end in spans:
        if joined and joined[-1][1] - joined[-1][0] < config.minimum and end - joined[-1][0] <= config.size:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return joined


def _page_at(pages: Sequence[Page], starts: Sequence[int], offset: int) -> int | None:
    return pages[max(bisect_right(starts, offset) - 1, 0)].number if pages else None


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
