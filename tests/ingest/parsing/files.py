"""Real files, made on the spot."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import docx
from fpdf import FPDF

PARAGRAPH = (
    "The company reported revenue of 4.2 million euros for the year. Costs fell by three per cent, mainly because "
    "two offices were merged. The board proposes a dividend of ten cents per share, to be paid in June."
)


def pdf(pages: Sequence[str], bookmarks: bool = False, password: str | None = None, title: str | None = None) -> bytes:
    """A PDF with one text a page; with ``bookmarks``, the first line of each page is a heading in the outline."""
    document = FPDF()
    document.set_font("Helvetica", size=11)
    if title:
        document.set_title(title)
    for page in pages:
        document.add_page()
        first, _, rest = page.partition("\n")
        if bookmarks:
            document.start_section(first)
            document.multi_cell(0, 6, first)
            document.ln(6)
        document.multi_cell(0, 6, rest if bookmarks else page)
    if password:
        document.set_encryption(owner_password="owner", user_password=password)
    return bytes(document.output())


def picture_pdf() -> bytes:
    """A PDF whose only page is a picture."""
    from PIL import Image

    picture = io.BytesIO()
    Image.new("RGB", (80, 80), "grey").save(picture, "PNG")
    document = FPDF()
    document.add_page()
    document.image(io.BytesIO(picture.getvalue()), 0, 0, 200)
    return bytes(document.output())


def word(fill: Any) -> bytes:
    """A DOCX that ``fill(document)`` wrote."""
    document = docx.Document()
    fill(document)
    content = io.BytesIO()
    document.save(content)
    return content.getvalue()
