"""Sentences end where a reader would end them, and nothing falls between them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.sentences import sentences


def texts(text: str) -> list[str]:
    return [text[start:end] for start, end in sentences(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("Dr. Smith met Mrs. Li, e.g. at noon. Then left.", ["Dr. Smith met Mrs. Li, e.g. at noon.", "Then left."]),
        ("It costs $3.50 or 1,200.75 in all. Pay now.", ["It costs $3.50 or 1,200.75 in all.", "Pay now."]),
        ("J. R. Tolkien wrote it. Lewis did not.", ["J. R. Tolkien wrote it.", "Lewis did not."]),
        ("Books, pens etc. The list goes on.", ["Books, pens etc.", "The list goes on."]),
        ("Cars, buses etc. are banned. Walk.", ["Cars, buses etc. are banned.", "Walk."]),
        ('"Why?" he asked. "Go!" She went.', ['"Why?" he asked.', '"Go!"', "She went."]),
        ("He agreed (at last.) She did not.", ["He agreed (at last.)", "She did not."]),
        ("See Fig. 3 and No. 7. It says no. But why?", ["See Fig. 3 and No. 7.", "It says no.", "But why?"]),
        ("The U.S. Army came at 5 p.m. It rained.", ["The U.S. Army came at 5 p.m.", "It rained."]),
        ("Acme Inc. Chairman Li left Acme Inc. The end.", ["Acme Inc. Chairman Li left Acme Inc.", "The end."]),
        ("它是什么？它是书。“好。”他说。", ["它是什么？", "它是书。", "“好。”", "他说。"]),
        ("1. First item\n2. Second item\n- third", ["1. First item", "2. Second item", "- third"]),
        ("A heading\n\nand a paragraph", ["A heading", "and a paragraph"]),
        ("Name: Ada\nAge: 36", ["Name: Ada", "Age: 36"]),
        (
            "A line that was wrapped at about seventy characters by an email programme\nGoes on here.",
            ["A line that was wrapped at about seventy characters by an email programme\nGoes on here."],
        ),
        ("| a | b |\n| 1 | 2 |", ["| a | b |", "| 1 | 2 |"]),
        ("", []),
        (" \n\t ", []),
    ],
)  # fmt: skip
def test_sentences_end_where_a_reader_ends_them(text: str, expected: list[str]) -> None:
    assert texts(text) == expected


def test_a_part_of_a_text_is_split_with_offsets_into_the_whole() -> None:
    text = "Skip this. Take this. And this. Not this."
    assert [text[a:b] for a, b in sentences(text, 11, 31)] == ["Take this.", "And this."]


@settings(max_examples=150, deadline=None)
@given(st.text(st.sampled_from("aB1 .!?\n\r\t-|#\"')。é…"), max_size=120) | st.text(max_size=80))
def test_sentences_cover_all_text_once_and_in_order(text: str) -> None:
    covered = [False] * len(text)
    previous = 0
    for start, end in sentences(text):
        assert previous <= start < end <= len(text)
        assert not text[start].isspace()
        assert not text[end - 1].isspace()
        covered[start:end] = [True] * (end - start)
        previous = end
    assert all(done or character.isspace() for done, character in zip(covered, text, strict=True))


@pytest.mark.timeout(20)
@pytest.mark.parametrize("piece", ["a. ", "\n", "a.\n", " ", "Mr. ", ". ", '."', "a: \n"])
def test_long_monotonous_texts_take_linear_time(piece: str) -> None:
    sentences(piece * 50_000)
