"""Follow-up questions made to stand alone by rules, in dialogues as people write them."""

from __future__ import annotations

import pytest

from adapters import Turn
from app.followup import standalone

LIGHTHOUSE = Turn("When was the lighthouse built?", "1874")
BUILDER = Turn("Who built the lighthouse at Skerry Point?", "Anna Brandt")


@pytest.mark.parametrize(
    ("history", "question", "expected"),
    [
        ([LIGHTHOUSE], "Who built it?", "Who built the lighthouse?"),
        ([LIGHTHOUSE], "How tall is it?", "How tall is the lighthouse?"),
        ([LIGHTHOUSE], "And why?", "And why, the lighthouse?"),
        ([LIGHTHOUSE], "What is its height?", "What is the lighthouse's height?"),
        ([BUILDER], "When was she born?", "When was Anna Brandt born?"),
        ([BUILDER], "What was her profession?", "What was Anna Brandt's profession?"),
        ([LIGHTHOUSE, Turn("Who built it?", "Anna Brandt")], "How tall is it?", "How tall is the lighthouse?"),
        ([Turn("What was revenue in the north?", "3")], "What about the south?", "What was revenue in the south?"),
        ([Turn("When was Anna Brandt born?", "1840")], "And what about Carl Weber?", "When was Carl Weber born?"),
    ],
)
def test_what_is_left_out_comes_from_the_conversation(history: list[Turn], question: str, expected: str) -> None:
    assert standalone(question, history) == expected


@pytest.mark.parametrize(
    "question",
    [
        "When did Anna Brandt finish her work?",
        "How many days of annual leave do employees have?",
        "Is it possible to carry leave over?",
        "What does this contract say about notice?",
        "What happened in 1962?",
    ],
)
def test_a_question_that_stands_alone_is_left_as_it_is(question: str) -> None:
    assert standalone(question, [LIGHTHOUSE]) is None


def test_without_history_nothing_is_rewritten() -> None:
    assert standalone("Who built it?", []) is None
