"""Splitting by the document's own structure: sections, tables, code.

Each section is a chunk, with its heading. One that is too long is split inside: tables and fenced code stay whole where
they fit, prose is split recursively. Pure functions over plain data; knows headings, not how a format marks them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from ingest.parsing.document import Heading, ParsedDocument
from ingest.splitting.chunks import Span, SplitConfig, join_small, trimmed
from ingest.splitting.code import code_spans, language_of, line_spans
from ingest.splitting.recursive import recursive_spans

_FENCE = re.compile(r"[ ]{0,3}(`{3,}|~{3,})[ \t]*([\w+#-]*)")
_ROW = re.compile(r"[ \t]*\||[^\n]*\S[ \t]+\|[ \t]+\S")


@dataclass(slots=True)
class _Section:
    """A heading and what stands below it, up to the next heading. ``level`` 0: what stands above the first."""

    start: int
    end: int
    level: int
    body: bool  # holds more than headings


def document_spans(document: ParsedDocument, config: SplitConfig) -> list[Span]:
    """The chunks of a document by its structure, in order, none longer than ``config.size``.

    A section shorter than ``config.minimum`` shares a chunk with what follows it on its own level or below. A table or
    a definition in code is cut only when it alone is longer than ``config.size``, and then between rows or lines; its
    header row stands in the first piece. Every character that is not white space lies in at least one chunk.
    """
    text = document.text
    language = language_of(document.media_type)
    if language is not None:
        return code_spans(text, language, config)
    spans: list[Span] = []
    for section in _joined(_sections(text, document.headings), config):
        if section.end - section.start <= config.size:
            spans.append((section.start, section.end))
        else:
            spans += _inside(text, document.headings, section, config)
    return spans


def _sections(text: str, headings: Sequence[Heading]) -> Iterator[_Section]:
    starts = {0: 0} | {heading.start: heading.level for heading in headings}
    ordered = sorted(starts)
    for begin, finish in zip(ordered, [*ordered[1:], len(text)], strict=True):
        start, end = trimmed(text, begin, finish)
        if start < end:
            yield _Section(start, end, starts[begin], starts[begin] == 0 or "\n" in text[start:end])


def _joined(sections: Iterator[_Section], config: SplitConfig) -> Iterator[_Section]:
    """Sections, of which one that is small or only a heading goes with the next on its own level or below."""
    current: _Section | None = None
    for section in sections:
        if current is None:
            current = section
            continue
        fits = section.end - current.start <= config.size
        small = current.end - current.start < config.minimum and fits
        if (small and section.level >= current.level) or (not current.body and section.level > current.level):
            current.end = section.end
            current.body = current.body or section.body
        else:
            yield current
            current = section
    if current is not None:
        yield current


def _inside(text: str, headings: Sequence[Heading], section: _Section, config: SplitConfig) -> list[Span]:
    """The pieces of a section that is too long."""
    spans: list[Span] = []
    prose = section.start
    for start, end, fence in _atoms(text, section.start, section.end):
        spans += recursive_spans(text, headings, config, prose, start)
        prose = end
        language = language_of(fence)
        if end - start <= config.size:
            spans.append((start, end))
        elif language is not None:
            spans += _fenced(text, language, start, end, config)
        else:
            spans += line_spans(text, [(begin, finish) for begin, finish, _ in _lines(text, start, end)], config)
    spans += recursive_spans(text, headings, config, prose, section.end)
    return join_small(spans, config)


def _fenced(text: str, language: str, start: int, end: int, config: SplitConfig) -> list[Span]:
    """The pieces of fenced code; the fences stand in the first and the last."""
    lines = [(begin, finish) for begin, finish, _ in _lines(text, start, end)]
    opening, closing = lines[0][1], lines[-1][0] if _FENCE.match(text, lines[-1][0]) and len(lines) > 2 else end
    room = config.size - (opening - start + 1) - (end - closing + 1)
    if room < max(config.size // 2, config.minimum, config.overlap + 1):
        return line_spans(text, lines, config)
    inner = code_spans(text, language, replace(config, size=room), opening, closing)
    if not inner:
        return line_spans(text, lines, config)
    inner[0] = (start, inner[0][1])
    inner[-1] = (inner[-1][0], end)
    return inner


def _atoms(text: str, start: int, end: int) -> Iterator[tuple[int, int, str]]:
    """(start, end, language) of each fenced code block, and of each table with language "", in order."""
    fence: tuple[int, str, str] | None = None  # where it opened, with what, and its language
    table: Span | None = None
    rows = 0
    for begin, finish, indent in _lines(text, start, end):
        mark = _FENCE.match(text, indent, finish)
        if fence is not None:
            if mark and mark[1].startswith(fence[1]) and text[begin:finish].strip() == mark[1]:
                yield fence[0], finish, fence[2]
                fence = None
            continue
        row = mark is None and _ROW.match(text, begin, finish) is not None
        if table is not None and not (row and "\n\n" not in text[table[1] : begin].replace(" ", "")):
            if rows > 1:
                yield *table, ""
            table = None
        if mark:
            fence = (begin, mark[1], mark[2])
        elif row:
            table, rows = (begin if table is None else table[0], finish), 1 if table is None else rows + 1
    if fence is not None:
        yield fence[0], end, fence[2]
    elif table is not None and rows > 1:
        yield *table, ""


def _lines(text: str, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """(start, end, start with its indentation) of each line that is not blank, without white space around it."""
    position = start
    while position < end:
        newline = text.find("\n", position, end)
        line_end = end if newline < 0 else newline
        begin, finish = trimmed(text, position, line_end)
        if begin < finish:
            yield begin, finish, position
        position = line_end + 1
