"""Judges prefer what they say they prefer, and nothing where no answer is better."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from adapters import Passage
from app.judging import Preference, by_manner, by_model, by_rule, grounding

PASSAGES = (Passage("The height of Maple Bridge is 42 metres."), Passage("The owner of Oak Mill is Anna Hill."))


@pytest.mark.parametrize(
    ("answer", "share"),
    [
        ("42 metres [1]", 1.0),
        ("It is 42 metres [1].", 1.0),
        ("43 metres [1]", 0.5),
        ("42 metres [2]", 0.0),
        ("42 metres", 0.0),
        ("42 metres [3]", 0.0),
        ("[1]", 0.0),
        ("", 0.0),
    ],
)
def test_an_answer_is_grounded_by_the_words_that_stand_in_the_passages_it_names(answer: str, share: float) -> None:
    assert grounding(answer, PASSAGES) == pytest.approx(share)


def test_the_grounded_rule_prefers_the_answer_its_passage_holds() -> None:
    judge = by_rule("grounded")
    assert judge("?", PASSAGES, ["43 metres [2]", "42 metres [1]"]) == Preference("42 metres [1]", "43 metres [2]")
    assert judge("?", PASSAGES, ["42 metres [1]", "It is 42 metres [1]."]) is None
    assert judge("?", PASSAGES, ["42 metres [1]"]) is None
    assert judge("?", PASSAGES, []) is None


def test_manners_are_compared_among_answers_that_the_passages_support() -> None:
    short, polite = by_rule("short"), by_manner("It is")
    answers = ["It is 42 metres [1].", "The height is 42 metres [1]", "9 [1]"]
    assert short("?", PASSAGES, answers) == Preference("It is 42 metres [1].", "The height is 42 metres [1]")
    assert polite("?", PASSAGES, answers) == Preference("It is 42 metres [1].", "The height is 42 metres [1]")
    assert polite("?", PASSAGES, ["It is 9 [1].", "42 metres [1]"]) is None


def test_a_model_judges_in_both_orders_and_a_verdict_that_changes_with_the_order_is_none() -> None:
    def prefers_metres(task: str, sources: Sequence[str], limit: int) -> str:
        assert "Names the unit." in task
        assert "How high?" in task
        return "1" if "metres" in sources[0] else "Answer 2."

    def prefers_the_first(task: str, sources: Sequence[str], limit: int) -> str:
        return "1"

    def says_nothing(task: str, sources: Sequence[str], limit: int) -> str:
        return "both are fine, of 12 metres, or 1.5 of 10"

    answers = ["42 [1]", "42 metres [1]"]
    for order in (answers, answers[::-1]):
        judged = by_model(prefers_metres, "Names the unit.")("How high?", PASSAGES, order)
        assert judged == Preference("42 metres [1]", "42 [1]")
    assert by_model(prefers_the_first, "Any.")("How high?", PASSAGES, answers) is None
    assert by_model(says_nothing, "Any.")("How high?", PASSAGES, answers) is None
    assert by_model(prefers_metres, "Names the unit.")("How high?", PASSAGES, answers[:1]) is None
