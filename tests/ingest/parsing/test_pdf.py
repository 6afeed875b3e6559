"""PDF: paragraphs, pages, bookmarks, and reasons where there is no text."""

from __future__ import annotations

import pytest
from fpdf import FPDF

from ingest.errors import UnreadableDocument
from ingest.parsing.dispatch import parse
from ingest.parsing.document import ParseLimits
from tests.ingest.parsing.files import PARAGRAPH, pdf, picture_pdf


def test_lines_of_a_page_become_paragraphs_again() -> None:
    parsed = parse("report.pdf", pdf([f"{PARAGRAPH}\n\n{PARAGRAPH}"]))
    assert parsed.text == f"{PARAGRAPH}\n\n{PARAGRAPH}"
    assert parsed.media_type == "application/pdf"


def test_pages_know_their_part_of_the_text() -> None:
    parsed = parse("report.pdf", pdf(["First page here.", "Second page here.", "Third page here."]))
    parts = [parsed.text[page.start : page.end].strip() for page in parsed.pages]
    assert parts == ["First page here.", "Second page here.", "Third page here."]
    assert [page.number for page in parsed.pages] == [1, 2, 3]


def test_a_sentence_goes_on_over_the_page_break() -> None:
    parsed = parse("report.pdf", pdf(["The board proposes a", "dividend of ten cents."]))
    assert parsed.text == "The board proposes a dividend of ten cents."


def test_bookmarks_become_headings_where_their_words_stand() -> None:
    parsed = parse(
        "report.pdf", pdf([f"Results\n{PARAGRAPH}", f"Outlook\n{PARAGRAPH}"], bookmarks=True, title="Report")
    )
    assert [heading.title for heading in parsed.headings] == ["Results", "Outlook"]
    assert all(parsed.text.startswith(heading.title, heading.start) for heading in parsed.headings)
    assert parsed.title == "Report"


def test_running_heads_and_page_numbers_are_left_out() -> None:
    pages = [f"ACME Annual Report\n\nTopic {word}. {PARAGRAPH}\n\nPage {n} of 4" for n, word in enumerate("abcd", 1)]
    text = parse("report.pdf", pdf(pages)).text
    assert text.count("ACME Annual Report") == 1
    assert "Page 2" not in text
    assert text.count("dividend") == 4


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (pdf(["secret"], password="x"), "password-protected; remove the password"),
        (picture_pdf(), "has no text layer"),
        (b"%PDF-1.7\ngarbage", "damaged"),
        (pdf([PARAGRAPH])[:400], "damaged"),
    ],
)
def test_a_pdf_without_readable_text_says_why(content: bytes, reason: str) -> None:
    with pytest.raises(UnreadableDocument, match=reason):
        parse("file.pdf", content)


def test_too_many_pages_are_refused() -> None:
    with pytest.raises(UnreadableDocument, match="3 pages, allowed are 2"):
        parse("file.pdf", pdf(["a", "b", "c"]), ParseLimits(pages=2))


def test_rows_of_a_table_stay_rows() -> None:
    document = FPDF()
    document.add_page()
    document.set_font("Helvetica", size=11)
    with document.table() as table:
        for values in (("Country", "Capital", "People"), ("Austria", "Vienna", "8.9"), ("Belgium", "Brussels", "11.5")):
            row = table.row()
            for value in values:
                row.cell(value)
    text = parse("table.pdf", bytes(document.output())).text
    assert "Austria | Vienna | 8.9" in text
    assert "Belgium | Brussels | 11.5" in text


def test_a_justified_line_has_no_cells() -> None:
    document = FPDF(format=(110, 200))  # a narrow column, stretched far
    document.add_page()
    document.set_font("Helvetica", size=12)
    sentences = "In any case. The considerable responsibilities notwithstanding, of all circumstances. "
    document.multi_cell(0, 6, sentences * 6)
    assert "|" not in parse("narrow.pdf", bytes(document.output())).text


def raw_pdf(*objects: str) -> bytes:
    """A PDF of numbered objects, the first its catalog, without a table of where they are."""
    body = "".join(f"{number} 0 obj\n{each}\nendobj\n" for number, each in enumerate(objects, 1))
    return f"%PDF-1.4\n{body}trailer\n<< /Root 1 0 R /Size {len(objects) + 1} >>\n%%EOF".encode()


@pytest.mark.parametrize(
    "objects",
    [
        ("<< /Type /Catalog /Pages 2 0 R >>", "<< /Type /Pages /Kids [2 0 R] /Count 1 >>"),
        (
            "<< /Type /Catalog /Pages 2 0 R /Outlines 4 0 R >>",
            "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] >>",
            "<< /Type /Outlines /First 5 0 R /Last 5 0 R >>",
            "<< /Title (Round) /Parent 4 0 R /Next 5 0 R /First 5 0 R /Dest [3 0 R /Fit] >>",
        ),
        (
            "<< /Type /Catalog /Pages 2 0 R >>",
            "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] /Contents 4 0 R /Resources 5 0 R >>",
            "<< /Type /XObject /Subtype /Form /BBox [0 0 9 9] /Resources 5 0 R /Length 5 >>\nstream\n/X Do\nendstream",
            "<< /XObject << /X 4 0 R >> >>",
        ),
    ],
)
def test_a_pdf_that_goes_round_in_circles_is_given_up_with_a_reason(objects: tuple[str, ...]) -> None:
    with pytest.raises(UnreadableDocument, match=r"damaged|no text layer"):
        parse("loop.pdf", raw_pdf(*objects))
