"""PDF: the text layer page by page, with bookmarks as headings.

Knows pdfium. What the lines of a page mean is decided in ``ingest.parsing.page_layout``.
"""

from __future__ import annotations

import ctypes
import re
from dataclasses import dataclass, replace
from typing import Any

from ingest.errors import UnreadableDocument
from ingest.parsing.detection import PDF, ocr_is_there
from ingest.parsing.document import ParsedDocument, ParseLimits, TextBuilder, clean_text, one_line
from ingest.parsing.page_layout import (
    Line,
    blocks,
    body_size,
    continues,
    heading_sizes,
    without_repeated_lines,
    words_of,
)

_PASSWORD_ERROR = 4  # FPDF_ERR_PASSWORD
_LIGATURES = str.maketrans({"ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "st", "ﬆ": "st", "\xa0": " "})
# A bullet or a number at the start of a line: the space after it divides no cells.
_MARKER = re.compile(r"\s*(?:\W|[(\[]?\w{1,4}(?:\.\w{1,3})*[.)\]]?)")
_GAP = "\ue000"  # a private character, where a line has a wide space
_STANDS_OUT = 3.0  # times the narrowest space of the line
_VERY_WIDE = 2.5  # times the height of the line
_LINE_ENDS = "\r\n"
_LONGEST_SIDE = 6_000  # pixels of a page that is read as a picture
_HYPHENS = "\u00ad\ufffe\x02"


@dataclass(frozen=True, slots=True)
class _Gap:
    """A wide space: where it begins and ends, in points; ``sure`` when it divides cells whatever the other lines do."""

    start: float
    end: float
    sure: bool


def parse_pdf(content: bytes, limits: ParseLimits) -> ParsedDocument:
    """The text of a PDF with its pages.

    Raises:
        UnreadableDocument: the file is damaged, password-protected, has no text layer or more than ``limits.pages``.
    """
    document = open_pdf(content)
    try:
        if len(document) > limits.pages:
            raise UnreadableDocument(f"the PDF has {len(document)} pages, allowed are {limits.pages}; split it")
        return _parse(document, limits)
    finally:
        document.close()


def open_pdf(content: bytes) -> Any:
    """A pdfium document, to be closed.

    Raises:
        UnreadableDocument: the file is damaged or password-protected.
    """
    import pypdfium2

    try:
        return pypdfium2.PdfDocument(content)
    except pypdfium2.PdfiumError as error:
        if error.err_code == _PASSWORD_ERROR:
            reason = "the PDF is password-protected; remove the password and upload it again"
        else:
            reason = "the PDF is damaged and cannot be opened"
        raise UnreadableDocument(reason) from error


def _parse(document: Any, limits: ParseLimits) -> ParsedDocument:
    pages: list[list[Line]] = []
    characters = 0
    damaged = 0
    for index in range(len(document)):
        lines = _page_lines(document, index)
        damaged += lines is None
        pages.append(lines or [])
        characters += sum(len(line.text) for line in pages[-1])
        if characters > limits.characters:
            raise UnreadableDocument(f"the PDF holds more than {limits.characters} characters of text; split it")
    if not characters:
        if damaged:
            raise UnreadableDocument("the PDF is damaged: its pages cannot be read")
        pages = _scanned(document)
    pages = without_repeated_lines(pages)
    body = body_size(pages)
    words = words_of(pages)
    outline = _outline(document)
    builder = TextBuilder()
    _write(builder, pages, outline, {}, body, words)
    found = builder.finish(PDF, _title(document))
    if not found.headings:
        builder = TextBuilder()
        _write(builder, pages, {}, heading_sizes(pages, body), body, words)
        found = builder.finish(PDF, _title(document))
    return found


def _scanned(document: Any) -> list[list[Line]]:
    """The lines of pages that are pictures."""
    if not ocr_is_there():
        raise UnreadableDocument(
            "the PDF has no text layer (a scan or an image); install OCR (pip install 'lorebase[ocr]'), or make it "
            "searchable before it is uploaded, for example with the free program OCRmyPDF: ocrmypdf scan.pdf "
            "searchable.pdf"
        )
    from ingest.parsing.ocr import DOTS_PER_POINT, lines_of

    pages = []
    for index in range(len(document)):
        page = document[index]
        try:
            width, height = page.get_size()
            scale = min(DOTS_PER_POINT, _LONGEST_SIDE / max(width, height))
            pages.append(lines_of(page.render(scale=scale).to_numpy()[:, :, :3]))
        finally:
            page.close()
    if not any(pages):
        raise UnreadableDocument("the PDF has no text layer (a scan or an image), and OCR found no text in its pages")
    return pages


def _write(
    builder: TextBuilder,
    pages: list[list[Line]],
    outline: dict[int, list[tuple[int, str]]],
    sizes: dict[float, int],
    body: float,
    words: frozenset[str],
) -> None:
    held = ""  # the last block of a page, until it is known whether the next page goes on with it
    for number, lines in enumerate(pages, start=1):
        start: int | None = None
        for position, block in enumerate(blocks(lines, outline.get(number - 1, []), sizes, body, words)):
            text = _clean(block.text)
            if not text:
                continue
            if block.level is not None:
                at = builder.length + 2 if builder.length else 0
                builder.heading(block.level, text)
            elif position == 0 and continues(held, text):
                at = builder.block(text, " ")
            else:
                at = builder.block(text, "\n" if block.close and position else "\n\n")
            start = at if start is None else start
            held = "" if block.level is not None else text
        builder.page(number, builder.length if start is None else start)


def _clean(text: str) -> str:
    for hyphen in _HYPHENS:
        text = text.replace(hyphen, "-" if text.endswith(hyphen) else "")
    return one_line(clean_text(text.translate(_LIGATURES)))


def _page_lines(document: Any, index: int) -> list[Line] | None:
    """The lines of a page in the order of its content; ``None`` when the page is damaged."""
    import pypdfium2

    try:
        page = document[index]
    except pypdfium2.PdfiumError:
        return None
    try:
        text_page = page.get_textpage()
    except pypdfium2.PdfiumError:
        return None
    try:
        left, bottom, right, top = page.get_bbox()
        lines = _lines(text_page, pypdfium2.raw)
        # What lies outside the page is seen by nobody.
        return [line for line in lines if line.left < right and line.right > left and bottom <= line.baseline <= top]
    finally:
        text_page.close()
        page.close()


def _lines(text_page: Any, raw: Any) -> list[Line]:
    count = raw.FPDFText_CountChars(text_page)
    lines: list[tuple[Line, list[_Gap]]] = []
    codes: list[int] = []
    places: list[int] = []
    for index in range(count):
        code = raw.FPDFText_GetUnicode(text_page, index)
        if code and chr(code) not in _LINE_ENDS:
            codes.append(code)
            places.append(index)
        if chr(code) in _LINE_ENDS or chr(code) in _HYPHENS:
            # pdfium gives a hyphen at a line's end a code of its own, and then no newline.
            _end_line(text_page, raw, codes, places, lines)
            codes, places = [], []
    _end_line(text_page, raw, codes, places, lines)
    return _with_cells(lines)


def _end_line(
    text_page: Any, raw: Any, codes: list[int], places: list[int], lines: list[tuple[Line, list[_Gap]]]
) -> None:
    characters = list(map(chr, codes))
    gaps = _mark_gaps(text_page, raw, characters, places)
    text = "".join(characters)
    if any(0xD800 <= code < 0xE000 for code in codes):
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    text = text.translate(_LIGATURES)
    inked = [
        place
        for place, code in zip(places, codes, strict=True)
        if code > 0x20 and not chr(code).isspace() and chr(code) not in _HYPHENS
    ]
    if not inked:
        return
    first, last = _box(text_page, raw, inked[0]), _box(text_page, raw, inked[-1])
    x, y = ctypes.c_double(), ctypes.c_double()
    raw.FPDFText_GetCharOrigin(text_page, inked[0], x, y)
    middle = _box(text_page, raw, inked[len(inked) // 2])
    lines.append((Line(" ".join(text.split()), first[0], last[1], y.value, round(middle[2], 1)), gaps))


def _mark_gaps(text_page: Any, raw: Any, characters: list[str], places: list[int]) -> list[_Gap]:
    """Mark the spaces that are as wide as a line is high, as between cells of a table; returns where they are.

    A justified line may be stretched as far, but then all of its spaces are: a gap stands out when it is wide beside
    the line's narrowest space, or very wide.
    """
    spaces: list[tuple[int, float, float, float]] = []
    for index in range(1, len(characters) - 1):
        before, after = characters[index - 1], characters[index + 1]
        if characters[index] != " " or before.isspace() or after.isspace():
            continue
        _, right, height = _box(text_page, raw, places[index - 1])
        left, _, _ = _box(text_page, raw, places[index + 1])
        spaces.append((index, right, left, height))
    narrowest = min((end - start for _, start, end, _ in spaces), default=0.0)
    gaps: list[_Gap] = []
    for index, start, end, height in spaces:
        width = end - start
        if width > height and not _MARKER.fullmatch("".join(characters[:index])):
            sure = len(spaces) == 1 or width > _STANDS_OUT * max(narrowest, 0.0) or width > _VERY_WIDE * height
            gaps.append(_Gap(start, end, sure))
            characters[index] = _GAP
    if len(gaps) == len(spaces) and any(gap.sure for gap in gaps):  # a row of single words
        return [replace(gap, sure=True) for gap in gaps]
    return gaps


def _with_cells(lines: list[tuple[Line, list[_Gap]]]) -> list[Line]:
    """The lines with ``|`` between cells: at gaps that stand out or go on in the line above or below."""
    found: list[Line] = []
    for index, (line, gaps) in enumerate(lines):
        near = [other for place in (index - 1, index + 1) if 0 <= place < len(lines) for other in (lines[place][1],)]
        aligned = any(other and all(_has_partner(gap, other) for gap in gaps) for other in near)
        text, cells = line.text, 1
        for gap in gaps:
            cell = gap.sure or aligned
            text = text.replace(_GAP, " | " if cell else " ", 1)
            cells += cell
        found.append(replace(line, text=" ".join(text.split()), cells=cells))
    return found


def _has_partner(gap: _Gap, others: list[_Gap]) -> bool:
    return any(min(gap.end, other.end) - max(gap.start, other.start) > 0 for other in others)


def _box(text_page: Any, raw: Any, index: int) -> tuple[float, float, float]:
    """Left, right and height of a character's box, in points."""
    rectangle = raw.FS_RECTF()
    raw.FPDFText_GetLooseCharBox(text_page, index, rectangle)
    return rectangle.left, rectangle.right, abs(rectangle.top - rectangle.bottom)


def _outline(document: Any) -> dict[int, list[tuple[int, str]]]:
    """Page index → (level, title) of the bookmarks that lead there."""
    found: dict[int, list[tuple[int, str]]] = {}
    for bookmark in document.get_toc():
        destination = bookmark.get_dest()
        title = one_line(bookmark.get_title() or "")
        index = destination.get_index() if destination else None
        if title and index is not None:
            found.setdefault(index, []).append((bookmark.level + 1, title))
    return found


def _title(document: Any) -> str | None:
    title = one_line(document.get_metadata_value("Title") or "")
    # Word processors leave file names and "untitled" here.
    generic = title.casefold() in {"", "untitled", "document", "unknown"} or title.startswith("Microsoft Word - ")
    return None if generic else title
