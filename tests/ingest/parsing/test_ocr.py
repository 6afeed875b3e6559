"""Pictures of text are read where OCR is installed, in reading order; without it they are refused with the way out."""

from __future__ import annotations

import io

import pytest

from ingest.errors import UnreadableDocument
from ingest.parsing.detection import image_type, ocr_is_there
from ingest.parsing.isolated import ParserProcess
from ingest.parsing.ocr import in_reading_order
from ingest.parsing.page_layout import Line

needs_ocr = pytest.mark.skipif(not ocr_is_there(), reason="the extra `ocr` is not installed")


def line(text: str, left: float, right: float, top: float) -> Line:
    return Line(text, left, right, -top, 10.0)


def test_two_columns_are_read_one_after_the_other_below_a_title_across_both() -> None:
    lines = [line("a title across the whole page", 50, 550, 10)]
    lines += [line(f"left column, line number {n}", 50, 290, 30 + 15 * n) for n in range(3)]
    lines += [line(f"right column, line number {n}", 310, 550, 31 + 15 * n) for n in range(3)]
    texts = [each.text for each in in_reading_order(lines[::-1], 300)]
    assert texts == [each.text for each in lines]


def test_short_pieces_side_by_side_are_one_row() -> None:
    lines = [line("Total", 50, 100, 10), line("42.00", 400, 450, 11), line("Paid", 50, 100, 30)]
    assert [each.text for each in in_reading_order(lines, 300)] == ["Total | 42.00", "Paid"]


def test_only_images_that_can_be_read_are_taken_for_one() -> None:
    assert image_type(b"\x89PNG\r\n\x1a\nrest") == "image/png"
    assert image_type(b"GIF89a") is None


def picture(text: str, kind: str) -> bytes:
    from PIL import Image, ImageDraw, ImageFont

    image = Image.new("RGB", (1000, 200), "white")
    ImageDraw.Draw(image).text((40, 70), text, fill="black", font=ImageFont.load_default(40))
    content = io.BytesIO()
    image.save(content, kind)
    return content.getvalue()


@needs_ocr
@pytest.mark.model
def test_scans_and_images_are_read_in_the_child_process_and_within_its_memory() -> None:
    parser = ParserProcess()
    try:
        read = parser.parse("notice.png", picture("The boiler is serviced in October.", "PNG"))
        assert (read.media_type, read.text) == ("image/png", "The boiler is serviced in October.")
        scan = parser.parse("scan.pdf", picture("Invoice number 2041 is paid.", "PDF"))
        assert (scan.media_type, scan.text, len(scan.pages)) == ("application/pdf", "Invoice number 2041 is paid.", 1)
        with pytest.raises(UnreadableDocument, match="no text was found in the PNG image"):
            parser.parse("blank.png", picture("", "PNG"))
        with pytest.raises(UnreadableDocument, match="PNG image is damaged"):
            parser.parse("broken.png", b"\x89PNG\r\n\x1a\n....")
    finally:
        parser.close()
