"""Chunks cover the document, fit, and respect headings, paragraphs and sentences, in this order."""

from __future__ import annotations

import itertools

import pytest

from ingest.parsing.document import Heading, Page, ParsedDocument
from ingest.splitting import Chunk, SplitConfig, split

CONFIG = SplitConfig()


def document(text: str, *headings: tuple[str, int]) -> ParsedDocument:
    """A document whose headings are the first lines with these words."""
    found = tuple(Heading(text.index(title), level, title) for title, level in headings)
    return ParsedDocument(text=text, media_type="text/plain", headings=found)


def split_recursive(parsed: ParsedDocument, config: SplitConfig) -> list[Chunk]:
    done = split(parsed, config)
    assert done is not None
    return done.chunks


def texts(parsed: ParsedDocument, config: SplitConfig = CONFIG) -> list[str]:
    return [parsed.text[chunk.start : chunk.end] for chunk in split_recursive(parsed, config)]


def prose(words: str, characters: int) -> str:
    sentence = f"The {words} sentence goes on for a little while."
    return " ".join([sentence] * (characters // len(sentence)))


def test_a_large_paragraph_is_a_chunk_of_its_own() -> None:
    first, second = prose("first", 400), prose("second", 300)
    assert texts(document(f"{first}\n\n{second}")) == [first, second]


def test_small_neighbours_share_a_chunk() -> None:
    text = "One short line.\n\nAnother short line.\n\nA third."
    assert texts(document(text)) == [text]


def test_small_paragraphs_fill_a_chunk_up_to_its_size() -> None:
    paragraphs = [prose(str(number), 200) for number in range(10)]
    chunks = texts(document("\n\n".join(paragraphs)))
    assert len(chunks) < 10
    assert all(CONFIG.minimum <= len(chunk) <= CONFIG.size for chunk in chunks)


def test_a_heading_leads_the_paragraph_below_it() -> None:
    above, below = prose("above", 400), prose("below", 400)
    parsed = document(f"{above}\n\nLeave\n\n{below}", ("Leave", 3))
    assert texts(parsed) == [above, f"Leave\n\n{below}"]


def test_headings_with_nothing_between_them_stay_together() -> None:
    body = prose("body", 400)
    parsed = document(f"Handbook\n\nLeave\n\n{body}", ("Handbook", 1), ("Leave", 2))
    assert texts(parsed) == [f"Handbook\n\nLeave\n\n{body}"]
    assert split_recursive(parsed, CONFIG)[0].section == "Handbook > Leave"


def test_a_chunk_does_not_cross_into_the_next_section() -> None:
    parsed = document(
        "Leave\n\nTwenty-five days a year, to be taken before the end of March.\n\n"
        "Pay\n\nOn the last working day of each month, into your bank account.",
        ("Leave", 2),
        ("Pay", 2),
    )
    assert len(texts(parsed)) == 2
    assert [chunk.section for chunk in split_recursive(parsed, CONFIG)] == ["Leave", "Pay"]


def test_a_mere_line_before_a_section_goes_with_it() -> None:
    body = prose("body", 300)
    parsed = document(f"Draft 3\n\nScope\n\n{body}", ("Scope", 1))
    assert texts(parsed) == [parsed.text]
    assert split_recursive(parsed, CONFIG)[0].section == "Scope"


def test_a_long_paragraph_is_cut_at_sentences_into_even_pieces_that_overlap() -> None:
    text = " ".join(f"Sentence number {number} has some more words in it." for number in range(40))
    chunks = split_recursive(document(text), CONFIG)
    assert len(chunks) > 1
    for chunk in chunks:
        assert text[chunk.start : chunk.end].startswith("Sentence")
        assert text[chunk.end - 1] == "."
    for before, after in itertools.pairwise(chunks):
        assert 0 < before.end - after.start <= CONFIG.overlap
    lengths = [chunk.end - chunk.start for chunk in chunks]
    assert max(lengths) - min(lengths) < CONFIG.size / 3


def test_words_and_then_letters_are_cut_where_there_are_no_sentences() -> None:
    config = SplitConfig(size=20, overlap=5, minimum=5)
    assert texts(document("a" * 45), config) == ["a" * 20, "a" * 20, "a" * 5]
    assert all(len(chunk) <= 20 for chunk in texts(document("word " * 30), config))


def test_a_chunk_knows_its_page() -> None:
    text = f"{prose('first', 300)}\n\n{prose('second', 300)}"
    cut = text.index("The second")
    parsed = ParsedDocument(text, "application/pdf", pages=(Page(1, 0, cut), Page(2, cut, len(text))))
    assert [chunk.page for chunk in split_recursive(parsed, CONFIG)] == [1, 2]


def test_text_above_the_first_heading_has_no_section() -> None:
    parsed = document(f"{prose('intro', 300)}\n\nScope\n\n{prose('body', 300)}", ("Scope", 1))
    assert [chunk.section for chunk in split_recursive(parsed, CONFIG)] == [None, "Scope"]


def test_a_blank_document_has_no_chunks() -> None:
    assert split_recursive(document(" \n\n "), CONFIG) == []


@pytest.mark.parametrize("values", [(0, 0, 0), (10, 10, 5), (10, 2, 11), (10, -2, 5)])
def test_sizes_that_make_no_sense_are_refused(values: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match=r"."):
        SplitConfig(*values)


def test_overlap_and_minimum_follow_a_small_size() -> None:
    assert (CONFIG.overlap, CONFIG.minimum) == (150, 250)
    assert SplitConfig(size=100) == SplitConfig(100, 15, 25)
    assert SplitConfig(size=8000) == SplitConfig(8000, 150, 250)
