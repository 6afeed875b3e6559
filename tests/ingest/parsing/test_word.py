"""DOCX: the order of the body, headings, lists, tables; bombs and entities are harmless."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import pytest

from ingest.errors import UnreadableDocument
from ingest.parsing.dispatch import parse
from ingest.parsing.document import ParseLimits
from tests.ingest.parsing.files import PARAGRAPH, word


def handbook(document: Any) -> None:
    document.core_properties.title = "Staff handbook"
    document.add_heading("Staff handbook", 0)
    document.add_heading("Leave", 1)
    document.add_paragraph(PARAGRAPH)
    document.add_paragraph("first", style="List Bullet")
    document.add_paragraph("second", style="List Bullet")
    document.add_heading("Days", 2)
    table = document.add_table(rows=2, cols=3)
    for row, values in zip(table.rows, (("Years", "Days", "Notes"), ("0-5", "25", "")), strict=True):
        for cell, value in zip(row.cells, values, strict=True):
            cell.text = value
    document.add_paragraph("After the table.")


def test_the_body_is_read_in_its_order() -> None:
    parsed = parse("handbook.docx", word(handbook))
    assert parsed.text == (
        f"Staff handbook\n\nLeave\n\n{PARAGRAPH}\n\n- first\n- second\n\nDays\n\n"
        "Years | Days | Notes\n0-5 | 25\n\nAfter the table."
    )
    assert [(heading.level, heading.title) for heading in parsed.headings] == [
        (1, "Staff handbook"),
        (1, "Leave"),
        (2, "Days"),
    ]
    assert all(parsed.text.startswith(heading.title, heading.start) for heading in parsed.headings)
    assert parsed.title == "Staff handbook"


def replaced(content: bytes, change: Any, part: str = "word/document.xml") -> bytes:
    """A copy of a DOCX with ``change`` applied to one of its parts."""
    copy = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(copy, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            data = source.read(name)
            target.writestr(name, change(data) if name == part else data)
    return copy.getvalue()


def test_entities_are_not_expanded() -> None:
    bomb = (
        b'<!DOCTYPE w:document [<!ENTITY a "LOLLOL"><!ENTITY b "&a;&a;&a;"><!ENTITY f SYSTEM "file:///etc/hostname">]>'
    )

    def change(xml: bytes) -> bytes:
        return xml.replace(b"<w:document ", bomb + b"<w:document ", 1).replace(b"MARK", b"MARK&b;&f;")

    content = replaced(word(lambda document: document.add_paragraph("MARK")), change)
    try:
        text = parse("x.docx", content).text
    except UnreadableDocument:
        return
    assert "LOL" not in text
    assert text.strip() == "MARK"


def test_a_file_that_would_unpack_to_too_much_is_refused_before_it_does() -> None:
    content = replaced(word(handbook), lambda xml: xml + b" " * 3_000_000)
    assert len(content) < 100_000
    with pytest.raises(UnreadableDocument, match="would unpack to 3 MB, allowed are 1 MB"):
        parse("x.docx", content, ParseLimits(unpacked_bytes=2**20))


@pytest.mark.parametrize("change", [lambda xml: xml[:200], lambda xml: b"", lambda xml: b"<a/>"])
def test_a_damaged_file_says_so(change: Any) -> None:
    with pytest.raises(UnreadableDocument, match=r"damaged|no text"):
        parse("x.docx", replaced(word(handbook), change))


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("[Content_Types].xml", lambda xml: xml.replace(b"ml.document.main", b"ml." + b"x" * 5000 + b".main")),
        ("word/document.xml", lambda xml: xml.replace(b"UTF-8", b"UTF-" + b"1" * 5000, 1)),
    ],
)
def test_what_is_said_of_a_damaged_file_is_short_and_speaks_of_it_alone(part: str, change: Any) -> None:
    with pytest.raises(UnreadableDocument, match="damaged") as refused:
        parse("x.docx", replaced(word(handbook), change, part))
    assert len(str(refused.value)) < 300
    assert "object at" not in str(refused.value)


def test_a_cut_off_file_says_so() -> None:
    content = word(handbook)
    with pytest.raises(UnreadableDocument, match="damaged"):
        parse("x.docx", content[: len(content) // 2])


def test_an_empty_document_holds_no_text() -> None:
    with pytest.raises(UnreadableDocument, match="holds no text"):
        parse("x.docx", word(lambda document: None))
