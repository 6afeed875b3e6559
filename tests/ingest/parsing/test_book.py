"""EPUB: chapters in the order of the spine, as sections."""

from __future__ import annotations

import pytest

from ingest.errors import UnreadableDocument
from ingest.parsing.dispatch import parse
from ingest.parsing.document import ParseLimits
from tests.ingest.parsing.files import archive, book


def test_chapters_follow_the_spine_and_are_named_by_themselves_or_the_contents() -> None:
    parsed = parse(
        "a.epub",
        book(
            [("b.xhtml", "<h1>Dusk</h1><p>It was late.</p>"), ("a.xhtml", "<p>It was early.</p>")],
            {"b.xhtml": "The evening", "a.xhtml": "The morning", "missing.xhtml": "Nothing"},
            title="One day",
        ),
    )
    assert parsed.text == "Dusk\n\nIt was late.\n\nThe morning\n\nIt was early."
    assert [heading.title for heading in parsed.headings] == ["Dusk", "The morning"]
    assert parsed.title == "One day"


def test_a_chapter_without_a_heading_takes_its_name_from_the_contents() -> None:
    parsed = parse("a.epub", book([("1.xhtml", "<p>First.</p>"), ("2.xhtml", "<p>Second.</p>")], {"2.xhtml": "Two"}))
    assert parsed.text == "First.\n\nTwo\n\nSecond."
    assert [(heading.start, heading.title) for heading in parsed.headings] == [(8, "Two")]


def test_a_protected_book_says_so() -> None:
    content = archive(
        {
            "mimetype": "application/epub+zip",
            "META-INF/encryption.xml": '<e><EncryptionMethod Algorithm="http://www.w3.org/2001/04/xmlenc#aes128-cbc"/></e>',
        }
    )
    with pytest.raises(UnreadableDocument, match="protected"):
        parse("a.epub", content)


@pytest.mark.parametrize(
    "files", [{"mimetype": "application/epub+zip"}, {"META-INF/container.xml": ""}, {"META-INF/container.xml": "<a"}]
)
def test_a_damaged_book_says_so(files: dict[str, str]) -> None:
    with pytest.raises(UnreadableDocument, match="damaged"):
        parse("a.epub", archive(files))


def test_a_book_that_is_too_long_is_refused() -> None:
    with pytest.raises(UnreadableDocument, match="more than 10 characters"):
        parse("a.epub", book([("1.xhtml", "<p>Longer than ten.</p>")] * 2, {}), ParseLimits(characters=10))
