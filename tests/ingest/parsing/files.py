"""Real files, made on the spot."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import docx
import openpyxl
import pptx
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


def archive(files: Mapping[str, str | bytes]) -> bytes:
    """A zip of ``files``, deflated."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as target:
        for name, data in files.items():
            target.writestr(name, data)
    return content.getvalue()


def workbook(sheets: Mapping[str, Iterable[Sequence[Any]]]) -> bytes:
    """An XLSX with the rows of each sheet."""
    book = openpyxl.Workbook(write_only=True)
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    content = io.BytesIO()
    book.save(content)
    return content.getvalue()


def tall_workbook(rows: int) -> bytes:
    """A sheet of so many rows with a number and a text each, written without a library: it takes seconds."""
    content = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(workbook({"Sheet": [["id", "name"]]}))) as small,
        zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as tall,
    ):
        for name in small.namelist():
            if not name.startswith("xl/worksheets/"):
                tall.writestr(name, small.read(name))
                continue
            with tall.open(name, "w") as sheet:
                sheet.write(b'<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>')
                for row in range(1, rows + 1):
                    text = f"<is><t>name {row}</t></is>"
                    cells = f'<c r="A{row}"><v>{row}</v></c><c r="B{row}" t="inlineStr">{text}</c>'
                    sheet.write(f'<row r="{row}">{cells}</row>'.encode())
                sheet.write(b"</sheetData></worksheet>")
    return content.getvalue()


def slides(fill: Any) -> bytes:
    """A PPTX that ``fill(presentation)`` wrote."""
    presentation = pptx.Presentation()
    fill(presentation)
    content = io.BytesIO()
    presentation.save(content)
    return content.getvalue()


def book(chapters: Sequence[tuple[str, str]], titles: Mapping[str, str], title: str = "A book") -> bytes:
    """An EPUB of (file name, body) in the order of the spine, with the titles of its table of contents."""
    manifest = "".join(
        f'<item id="c{n}" href="{name}" media-type="application/xhtml+xml"/>' for n, (name, _) in enumerate(chapters)
    )
    spine = "".join(f'<itemref idref="c{n}"/>' for n in range(len(chapters)))
    links = "".join(f'<li><a href="{target}">{words}</a></li>' for target, words in titles.items())
    return archive(
        {
            "mimetype": "application/epub+zip",
            "META-INF/container.xml": '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
            '<rootfile full-path="OPS/book.opf"/></rootfiles></container>',
            "OPS/book.opf": '<package xmlns="http://www.idpf.org/2007/opf" xmlns:dc="http://purl.org/dc/elements/1.1/">'
            f"<metadata><dc:title>{title}</dc:title></metadata><manifest>{manifest}"
            '<item id="nav" href="nav.xhtml" properties="nav" media-type="application/xhtml+xml"/></manifest>'
            f"<spine>{spine}</spine></package>",
            "OPS/nav.xhtml": f"<html><body><nav><ol>{links}</ol></nav></body></html>",
        }
        | {f"OPS/{name}": f"<html><body>{body}</body></html>" for name, body in chapters}
    )  # fmt: skip
