"""One page of a PDF as an image, with a quote of it marked.

Knows pdfium and Pillow; runs in the child process of an isolated parser, as everything that reads a file does.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

from ingest.errors import UnreadableDocument

WIDEST = 2000
"""The most pixels a page may be wide."""
_HIGHEST_RATIO = 3.0  # a roll of paper is cut off below this height, in widths
_MARKER = (255, 226, 110)  # of a highlighter, multiplied with the page
_PDF_BEGIN = 1024  # a PDF's first line may stand behind so many bytes


@dataclass(frozen=True, slots=True)
class PageImage:
    """``png``: the image; ``pages``: how many pages the document has; ``marked``: the quote was found on the page."""

    png: bytes
    pages: int
    marked: bool


def page_image(content: bytes, number: int, width: int, quote: str = "") -> PageImage:
    """Page ``number``, counted from 1, as a PNG ``width`` pixels wide; ``quote`` marked where it stands.

    Raises:
        UnreadableDocument: not a PDF, damaged, password-protected, or there is no such page.
    """
    from ingest.parsing.pdf import open_pdf

    if b"%PDF-" not in content[:_PDF_BEGIN]:
        raise UnreadableDocument("only PDFs have page images")
    document = open_pdf(content)
    try:
        pages = len(document)
        if not 1 <= number <= pages:
            raise UnreadableDocument(f"there is no page {number}; the document has {pages}")
        return _render(document, number, min(width, WIDEST), quote, pages)
    finally:
        document.close()


def _render(document: Any, number: int, width: int, quote: str, pages: int) -> PageImage:
    import pypdfium2
    from PIL import Image, ImageChops, ImageDraw

    try:
        page = document[number - 1]
    except pypdfium2.PdfiumError as error:
        raise UnreadableDocument(f"page {number} is damaged") from error
    page_width, page_height = page.get_size()
    if not (page_width > 0 and page_height > 0):
        raise UnreadableDocument(f"page {number} has no size")
    scale = min(width / page_width, width * _HIGHEST_RATIO / page_height)
    image = page.render(scale=scale).to_pil().convert("RGB")
    boxes = _boxes(page, quote)
    if boxes:
        marks = Image.new("RGB", image.size, (255, 255, 255))
        draw = ImageDraw.Draw(marks)
        for box in boxes:
            draw.rectangle(_pixels(page, box, image.size), fill=_MARKER)
        image = ImageChops.multiply(image, marks)
    written = io.BytesIO()
    image.save(written, "PNG")
    return PageImage(written.getvalue(), pages, bool(boxes))


def _boxes(page: Any, quote: str) -> list[tuple[float, float, float, float]]:
    """Where a quote stands: left, bottom, right, top of its lines, in points.

    Compared by letters and digits alone: the parsed text has its spaces, hyphens and line ends put in order.
    """
    import pypdfium2

    wanted = _letters(quote)
    if not wanted:
        return []
    text_page = page.get_textpage()
    raw = pypdfium2.raw
    shown: list[str] = []
    places: list[int] = []
    for place in range(raw.FPDFText_CountChars(text_page)):
        for letter in _letters(chr(raw.FPDFText_GetUnicode(text_page, place))):
            shown.append(letter)
            places.append(place)
    at = "".join(shown).find(wanted)
    if at < 0:
        return []
    first, last = places[at], places[at + len(wanted) - 1]
    return [text_page.get_rect(index) for index in range(text_page.count_rects(first, last - first + 1))]


def _letters(text: str) -> str:
    """Letters and digits, of ligatures the single ones, in lower case."""
    import unicodedata

    return "".join(c for c in unicodedata.normalize("NFKC", text).lower() if c.isalnum())


def _pixels(page: Any, box: tuple[float, float, float, float], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """A box of the page's own coordinates, which may be turned or shifted, in pixels of its image, slightly larger."""
    import ctypes

    from pypdfium2 import raw

    corners = []
    for x, y in ((box[0], box[1]), (box[2], box[3])):
        left, top = ctypes.c_int(), ctypes.c_int()
        raw.FPDF_PageToDevice(page, 0, 0, size[0], size[1], 0, x, y, left, top)
        corners.append((left.value, top.value))
    (x0, y0), (x1, y1) = corners
    return min(x0, x1) - 2, min(y0, y1) - 2, max(x0, x1) + 2, max(y0, y1) + 2
