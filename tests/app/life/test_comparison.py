"""Figures, paired intervals, the recommendation and the gate's decision, on outcomes made by hand."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from app.life.comparison import Asked, compare, difference, figures, recommend
from app.life.evaluations import Way
from app.life.gate import decide, general_set

RIGHT, WRONG = "a red boat", "something else"


def asked(right: Sequence[bool], **fields: object) -> list[Asked]:
    return [
        Asked((RIGHT,), RIGHT if each else WRONG, abstained=False, milliseconds=10.0 + i, tokens=100, **fields)  # type: ignore[arg-type]
        for i, each in enumerate(right)
    ]


def share(right: int, n: int = 100, shift: int = 0) -> list[bool]:
    """``right`` of ``n`` are right, those from ``shift`` on."""
    return [(i - shift) % n < right for i in range(n)]


def test_figures_of_outcomes_worked_out_by_hand() -> None:
    outcomes = [
        Asked((RIGHT,), "red boat", False, 10.0, 50, cited=True, rank=1),
        Asked((RIGHT,), "a green boat", False, 20.0, 70, cited=False, rank=3),
        Asked((), "", True, 30.0, 60),
        Asked((RIGHT,), "", True, 40.0, 60, rank=None),
        Asked((RIGHT,), "", False, 1.0, 0, refused=True),
    ]
    found = figures(outcomes, retrieval=True, top_k=20)
    assert found.n == 5
    assert found.em == pytest.approx(40)
    assert found.f1 == pytest.approx((100 + 50 + 100 + 0 + 0) / 5)
    assert found.f1_low <= found.f1 <= found.f1_high
    assert found.recall == {"1": pytest.approx(1 / 3), "5": pytest.approx(2 / 3), "20": pytest.approx(2 / 3)}
    assert found.mrr == pytest.approx((1 + 1 / 3) / 3)
    assert found.citation_correct == 0.5
    assert (found.abstain_precision, found.abstain_recall) == (0.5, 1.0)
    assert (found.tokens, found.refused) == (48.0, 1)
    assert figures(outcomes, retrieval=False, top_k=20).recall is None


def test_a_paired_interval_is_narrow_where_the_same_questions_are_gained() -> None:
    outcomes = {"base": asked(share(50)), "subset": asked(share(60)), "other": asked(share(60, shift=40))}
    paired = difference("subset", "base", outcomes)
    apart = difference("other", "base", outcomes)
    assert paired.f1 == apart.f1 == pytest.approx(10)
    assert paired.low > 0 > apart.low
    assert paired.high - paired.low < apart.high - apart.low


def test_the_simplest_way_is_taken_that_none_beats_by_more_than_chance() -> None:
    clear = {"rag": asked(share(50)), "rag_adapter": asked(share(80))}
    found = {key: figures(each, retrieval=False, top_k=5) for key, each in clear.items()}
    taken, why = recommend(clear, found)
    assert taken == "rag_adapter"
    assert "30.0 points better than RAG" in why
    close = {"rag": asked(share(50)), "rag_adapter": asked(share(52, shift=90))}
    found = {key: figures(each, retrieval=False, top_k=5) for key, each in close.items()}
    taken, why = recommend(close, found)
    assert taken == "rag"
    assert "reaches 0" in why
    worse = {"rag": asked(share(50)), "rag_adapter": asked(share(10))}
    found = {key: figures(each, retrieval=False, top_k=5) for key, each in worse.items()}
    assert recommend(worse, found)[0] == "rag"


def test_the_recommendation_warns_of_few_questions_and_of_poor_retrieval() -> None:
    few = {"rag": asked([True, False], rank=None)}
    found = {"rag": figures(few["rag"], retrieval=True, top_k=5)}
    taken, why = recommend(few, found)
    assert taken == "rag"
    assert "With 2 questions" in why
    assert "look at splitting and retrieval first" in why


def test_a_comparison_tells_figures_differences_and_a_recommendation() -> None:
    ways = [Way("rag", "base"), Way("rag_adapter", "sea@1")]
    result = compare(ways, {"rag": asked(share(50)), "rag_adapter": asked(share(80))})
    assert set(result["figures"]) == {"rag", "rag_adapter"}
    assert [(d["first"], d["second"]) for d in result["differences"]] == [("rag_adapter", "rag")]
    assert result["recommendation"]["way"] == "rag_adapter"
    ways = [Way("base", "base"), Way("candidate", "sea@1")]
    gate = compare(ways, {"base": asked([True]), "candidate": asked([True])})
    assert "recommendation" not in gate


@pytest.mark.parametrize(
    ("base", "active", "candidate", "general", "passed"),
    [
        (50, None, 80, 90, True),
        (50, 60, 80, 90, True),
        (50, 80, 80, 90, False),  # no better than the active version
        (80, 50, 80, 90, False),  # no better than the base
        (50, None, 40, 90, False),
        (50, None, 54, 90, False),  # better, but within the margin
        (50, None, 80, 80, False),  # has forgotten
    ],
)
def test_the_gate_opens_only_for_what_is_better_and_forgets_nothing(
    base: int, active: int | None, candidate: int, general: int, passed: bool
) -> None:
    questions = {"base": asked(share(base)), "candidate": asked(share(candidate))}
    if active is not None:
        questions["active"] = asked(share(active))
    outcomes = {"questions": questions, "general": {"base": asked(share(90)), "candidate": asked(share(general))}}
    verdict = decide(outcomes, margin=3.0, tolerance=3.0)
    assert verdict.passed is passed
    assert len(verdict.reasons) == (2 if active is None else 3)


def test_a_gate_is_not_decided_by_a_handful_of_questions() -> None:
    few = {"base": asked([False] * 10), "candidate": asked([True] * 10)}
    verdict = decide({"questions": few, "general": few}, 0, 3)
    assert not verdict.passed
    assert "too few" in verdict.reasons[0]


def test_every_answer_of_the_general_set_stands_in_its_paragraph() -> None:
    items = general_set()
    assert len(items) >= 40
    assert len({item.question for item in items}) == len(items)
    for item in items:
        assert item.context is not None
        assert item.golds
        assert all(text in item.context for text in item.texts)
