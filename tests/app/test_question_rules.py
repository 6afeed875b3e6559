"""Questions by rule: plain statements are turned round, everything else is left alone."""

from __future__ import annotations

import pytest

from app.question_rules import questions_of


@pytest.mark.parametrize(
    ("sentence", "question", "answer"),
    [
        ("The lighthouse was built by Anna Brandt in 1874.", "By whom was the lighthouse built?", "Anna Brandt"),
        ("Skerry Point was founded in 1874 by a guild.", "When was Skerry Point founded?", "1874"),
        ("Full-time employees have 28 days of paid leave.", "How many days do Full-time employees have?", "28"),
        ("The tower is 31 metres tall.", "How tall is the tower?", "31 metres"),
        ("A ticket costs 4 crowns.", "How much does a ticket cost?", "4 crowns"),
        ("The keeper's house is a museum today.", "What is the keeper's house?", "a museum today"),
    ],
)
def test_a_plain_statement_asks_for_its_own_words(sentence: str, question: str, answer: str) -> None:
    (asked,) = questions_of(sentence)
    assert (asked.question, asked.answer) == (question, answer)
    assert sentence[asked.start :].startswith(answer)


@pytest.mark.parametrize("sentence", ["It was built by Anna.", "Why not?", "There is a lamp.", "Rain fell.", ""])
def test_what_no_rule_fits_is_left_alone(sentence: str) -> None:
    assert questions_of(sentence) == []
