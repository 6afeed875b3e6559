"""What a parsed document is: its text, and where pages and headings lie in it.

Plain data and the builder that keeps offsets right while a format's reader adds blocks. Knows no file format.
All offsets of this package are half-open and count Unicode code points of ``ParsedDocument.text``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Page:
    """A page and the part of the text that stands on it; ``number`` counts from 1."""

    number: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading: where its line starts in the text, its level (1 is the highest), its words."""

    start: int
    level: int
    title: str


@dataclass(frozen=True, slots=True)
class ParsedDocument:
    """The text of a file and what is known of its structure. ``pages`` is empty for formats that have none."""

    text: str
    media_type: str
    pages: tuple[Page, ...] = ()
    headings: tuple[Heading, ...] = ()
    title: str | None = None


@dataclass(frozen=True, slots=True)
class ParseLimits:
    """What a file may ask for before it is refused.

    Attributes:
        pages: most pages of a PDF, or slides of a presentation.
        rows: most rows of a spreadsheet, over all its sheets.
        characters: most characters of text.
        unpacked_bytes: most bytes a zip file, such as every modern office file, may declare to unpack to.
        ratio: to how many times its size a zip file may unpack.
        entries: most entries of a zip file.
    """

    pages: int = 5_000
    rows: int = 200_000
    characters: int = 100_000_000
    unpacked_bytes: int = 512 * 1024 * 1024
    ratio: int = 200
    entries: int = 10_000


DEFAULT_LIMITS = ParseLimits()


_FORBIDDEN = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\u200b\u2061-\u2064\ufeff\u00ad\ufffe\uffff]"
)
_NEWLINES = re.compile("\r\n|[\r\x0b\x0c\x85\u2028\u2029]")
_LONGEST_REASON = 200
_OBJECT = re.compile(r"'?<[\w.]+ object at 0x[0-9a-f]+>'?")
_SPACES = re.compile(r"[^\S\n]+")


def clean_text(text: str) -> str:
    """``text`` with ``\\n`` as its only newline, without control characters, soft hyphens and lone surrogates."""
    return _FORBIDDEN.sub("", _NEWLINES.sub("\n", text))


def one_line(text: str) -> str:
    """``text`` cleaned, on one line, with single spaces."""
    return " ".join(clean_text(text).split())


def reason_of(error: Exception) -> str:
    """What a library says went wrong, for those who sent the file: one line of 200 characters at most, and no objects
    of this process."""
    return one_line(_OBJECT.sub("it", str(error)))[:_LONGEST_REASON]


def squeeze_spaces(text: str) -> str:
    """``text`` cleaned, with single spaces inside lines and none around them; line breaks stay."""
    return "\n".join(_SPACES.sub(" ", line).strip() for line in clean_text(text).split("\n")).strip()


def table_row(cells: Iterable[str]) -> str:
    """The cells of a row as ``a | b | c``; empty cells at its end are left out."""
    return " | ".join(cells).rstrip(" |").lstrip()


class TextBuilder:
    """Adds blocks of text one after the other and remembers where headings and pages lie."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._length = 0
        self._headings: list[Heading] = []
        self._pages: list[Page] = []

    def block(self, text: str, separator: str = "\n\n") -> int:
        """Append ``text``, after ``separator`` unless it is the first; returns its start. Blank text is left out."""
        if not text.strip():
            return self._length
        if self._pieces:
            self._append(separator)
        start = self._length
        self._append(text)
        return start

    def heading(self, level: int, title: str) -> None:
        """Append a heading on a line of its own."""
        title = one_line(title)
        if title:
            self._headings.append(Heading(self.block(title), level, title))

    def page(self, number: int, start: int) -> None:
        """Note that page ``number`` holds everything from ``start`` to the present end."""
        self._pages.append(Page(number, min(start, self._length), self._length))

    @property
    def length(self) -> int:
        """How many characters there are so far."""
        return self._length

    def finish(self, media_type: str, title: str | None = None) -> ParsedDocument:
        """The document as built."""
        return ParsedDocument(
            text="".join(self._pieces),
            media_type=media_type,
            pages=tuple(self._pages),
            headings=tuple(self._headings),
            title=one_line(title) or None if title else None,
        )

    def _append(self, text: str) -> None:
        self._pieces.append(text)
        self._length += len(text)
