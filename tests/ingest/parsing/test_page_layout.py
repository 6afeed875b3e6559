"""Lines with places become paragraphs as a reader sees them."""

from __future__ import annotations

import pytest

from ingest.parsing.page_layout import (
    Line,
    blocks,
    continues,
    join_lines,
    rows_joined,
    without_repeated_lines,
    words_of,
)


def line(text: str, down: int, left: float = 50, right: float = 500, size: float = 10) -> Line:
    return Line(text, left, right, 800 - down * 12, size)


def texts(lines: list[Line]) -> list[str]:
    return [block.text for block in blocks(lines, [], {}, 10)]


@pytest.mark.parametrize(
    ("first", "second", "joined"),
    [
        ("one", "two", "one two"),
        ("docu\x02", "ment", "document"),
        ("docu\ufffe", "ment", "document"),
        ("docu-", "ment", "document"),
        ("2020-", "2021", "2020-2021"),
        ("Jean-", "Paul", "Jean-Paul"),
        ("pre-", "and post-war", "pre- and post-war"),
        ("a dash -", "after it", "a dash - after it"),
        ("self\ufffe", "taught", "self-taught"),
        ("a chat\x02", "optimized model", "a chat-optimized model"),
        ("a multi-", "agent system", "a multi-agent system"),
        ("the frame-", "work", "the framework"),
    ],
)
def test_divided_words_become_whole_and_compounds_keep_their_hyphen(first: str, second: str, joined: str) -> None:
    words = words_of([[line("We chat with an optimized multi-agent work frame in a framework.", 0)]])
    assert join_lines(first, second, words) == joined


def test_a_gap_ends_a_paragraph_and_a_line_end_does_not() -> None:
    assert texts([line("It was", 0), line("late.", 1, right=90), line("It rained", 3), line("all day", 4)]) == [
        "It was late.",
        "It rained all day",
    ]


def test_a_full_line_with_a_full_stop_goes_on_and_a_short_one_does_not() -> None:
    assert texts([line("Full line.", 0), line("Next.", 1, right=120), line("New paragraph", 2)]) == [
        "Full line. Next.",
        "New paragraph",
    ]


def test_an_indented_line_after_a_full_stop_begins_a_paragraph() -> None:
    assert texts([line("Full line.", 0), line("Indented", 1, left=65)]) == ["Full line.", "Indented"]


def test_list_items_are_blocks_close_to_each_other() -> None:
    found = blocks([line("Rules:", 0, right=90), line("- one", 1), line("- two", 2)], [], {}, 10)
    assert [block.text for block in found] == ["Rules:", "- one", "- two"]
    assert found[2].close


def test_a_column_that_breaks_inside_a_sentence_goes_on_in_the_next() -> None:
    assert texts([line("left column ends", 40), line("in the right one.", 0, left=300)]) == [
        "left column ends in the right one."
    ]


def test_cells_side_by_side_make_a_row() -> None:
    joined = rows_joined([line("Revenue", 0, right=120), line("4.2", 0, left=300, right=330), line("Costs", 1)])
    assert [(each.text, each.cells) for each in joined] == [("Revenue | 4.2", 2), ("Costs", 1)]


def test_large_lines_are_headings_where_there_is_no_outline() -> None:
    found = blocks([line("Scope", 0, size=14), line("Body text", 2)], [], {14: 1}, 10)
    assert [(block.text, block.level) for block in found] == [("Scope", 1), ("Body text", None)]


def test_an_outline_title_over_two_lines_is_one_heading() -> None:
    found = blocks([line("2.1 A very", 0), line("long title", 1), line("Body.", 3)], [(2, "A very long title")], {}, 10)
    assert [(block.text, block.level) for block in found] == [("2.1 A very long title", 2), ("Body.", None)]


def test_lines_that_repeat_on_most_pages_stay_once_and_numbers_not_at_all() -> None:
    pages = [
        [line("Acme", 0), line(f"text {n} ends", 5 + n), line(f"more {n}x", 9), line(f"- {n} -", 60)] for n in range(4)
    ]
    kept = without_repeated_lines(pages)
    assert kept[0][0].text == "Acme"
    assert all(each.text != "Acme" for page in kept[1:] for each in page)
    assert all(not each.text.startswith("- ") for page in kept for each in page)


@pytest.mark.parametrize(
    ("text", "following", "expected"),
    [("ends here.", "next", False), ("goes on", "and on", True), ("goes on", "New", False), ("", "x", False)],
)
def test_a_page_goes_on_with_an_open_sentence(text: str, following: str, expected: bool) -> None:
    assert continues(text, following) is expected
