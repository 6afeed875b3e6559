"""Text and Markdown in whatever encoding; binary files are told from text."""

from __future__ import annotations

import pytest

from ingest.errors import UnreadableDocument
from ingest.parsing.dispatch import parse
from ingest.parsing.plain import markdown_headings

WORDS = "Die Straße führt über die Brücke, und am Ende liegt ein Café für müde Wanderer. " * 4


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "cp1252"])
def test_text_is_read_in_its_encoding(encoding: str) -> None:
    assert parse("a.txt", WORDS.encode(encoding)).text == WORDS


def test_newlines_become_one_kind() -> None:
    assert parse("a.txt", b"one\r\ntwo\rthree\n\x0cfour").text == "one\ntwo\nthree\n\nfour"


@pytest.mark.parametrize("name", ["a.txt", "a", "a.log", "a.xyz", "A.TXT"])
def test_anything_that_is_text_is_text(name: str) -> None:
    parsed = parse(name, b"plain words")
    assert (parsed.text, parsed.media_type) == ("plain words", "text/plain")


@pytest.mark.parametrize("content", [b"a\x00b", bytes(range(1, 32)) * 10, b"\xff\xfea"])
def test_a_binary_file_is_told_from_text(content: bytes) -> None:
    with pytest.raises(UnreadableDocument, match=r"not text but a binary file|damaged"):
        parse("a.txt", content)


@pytest.mark.parametrize("content", [b"", b" \n\t ", b"\xef\xbb\xbf", b"\xef\xbb\xbf \n"])
def test_a_blank_file_holds_no_text(content: bytes) -> None:
    with pytest.raises(UnreadableDocument, match=r"is empty|holds no text"):
        parse("a.txt", content)


MARKDOWN = """---
title: "The handbook"
---
# Staff *handbook*

Intro.

Leave
-----
```
# not a heading
```
### [Days](x.html) off ###
#hashtag
- item
---
A paragraph's
last line
---
"""


def test_headings_of_markdown_are_noted_and_its_text_is_kept() -> None:
    parsed = parse("a.md", MARKDOWN.encode())
    assert parsed.text == MARKDOWN
    assert [(each.level, each.title) for each in parsed.headings] == [
        (1, "Staff handbook"),
        (2, "Leave"),
        (3, "Days off"),
    ]
    assert [MARKDOWN[each.start] for each in parsed.headings] == ["#", "L", "#"]
    assert (parsed.title, parsed.media_type) == ("The handbook", "text/markdown")


def test_the_first_heading_is_the_title_of_markdown_without_front_matter() -> None:
    assert parse("a.md", b"# One\n\ntext").title == "One"
    assert parse("a.md", b"## Two\n\ntext").title is None


def test_offsets_of_headings_hold_for_every_newline() -> None:
    text = "a\r\n\r\n# One\r\nb\r\n## Two\r\n"
    assert [text[each.start : each.start + 5].strip("# \r\n") for each in markdown_headings(text)] == ["One", "Tw"]
