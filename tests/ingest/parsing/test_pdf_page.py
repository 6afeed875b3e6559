"""A page of a PDF becomes an image, with a quote marked where it stands."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
from PIL import Image

from ingest.errors import UnreadableDocument
from ingest.parsing.isolated import ParserProcess
from ingest.parsing.pdf_page import WIDEST, page_image
from tests.ingest.parsing.files import PARAGRAPH, pdf, picture_pdf


@pytest.fixture(scope="module")
def parser() -> Iterator[ParserProcess]:
    parser = ParserProcess(timeout_seconds=60)
    yield parser
    parser.close()


def size(png: bytes) -> tuple[int, int]:
    return Image.open(io.BytesIO(png)).size


def test_the_child_draws_what_this_process_would_and_still_reads_files(parser: ParserProcess) -> None:
    content = pdf([PARAGRAPH, "Two"])
    quote = PARAGRAPH[: PARAGRAPH.index(".", 60) + 1]
    drawn = parser.page(content, 1, 300, quote)
    assert drawn == page_image(content, 1, 300, quote)
    assert (drawn.pages, drawn.marked, size(drawn.png)[0]) == (2, True, 300)
    assert parser.parse("a.pdf", content).pages[1].number == 2


def test_a_quote_is_found_whatever_its_spaces_and_hyphens_became() -> None:
    content = pdf([PARAGRAPH])
    assert page_image(content, 1, 300, PARAGRAPH.replace(" ", "  \n").replace("million", "mil-lion").upper()).marked
    for absent in ("", " .,", "not a word of it"):
        assert not page_image(content, 1, 300, absent).marked


def test_no_page_is_drawn_larger_than_the_limit() -> None:
    assert size(page_image(picture_pdf(), 1, 10**9).png)[0] == WIDEST


@pytest.mark.parametrize(
    ("content", "number", "reason"),
    [
        (b"no pdf", 1, "only PDFs"),
        (b"%PDF-1.7 cut off", 1, "damaged"),
        (pdf(["secret"], password="x"), 1, "password-protected"),
        (pdf(["one"]), 2, "there is no page 2; the document has 1"),
        (pdf(["one"]), 0, "there is no page 0"),
    ],
)
def test_what_cannot_be_drawn_says_why(parser: ParserProcess, content: bytes, number: int, reason: str) -> None:
    with pytest.raises(UnreadableDocument, match=reason):
        parser.page(content, number, 300)
