"""What a version that the gate holds back is told: whether more questions would help, and how many."""

from __future__ import annotations

import math

import numpy as np
import pytest

from app.life.advice import EVEN_ODDS, GOOD_ODDS, Because, advise, further_questions, with_routes
from app.life.comparison import Asked, Difference, difference

MOST = 5000


def of(gain: float, low: float, high: float, spread: float, rival: str = "base") -> Difference:
    return Difference("candidate", rival, gain, low, high, spread)


@pytest.mark.parametrize(
    ("asked", "gain", "spread", "even", "likely"),
    [
        (20, 4.0, 12.0, 15, 51),  # (1.96 * 12 / 4)^2 = 34.6 in all; (2.8 * 12 / 4)^2 = 70.6
        (20, 2.0, 12.0, 119, 263),  # half the gain needs four times the questions
        (20, 4.0, 24.0, 119, 263),  # and so does twice the spread
        (40, 7.3, 21.0, 1, 25),  # nearly there
        (30, 50.0, 1.0, 1, 1),
        (20, 0.0, 12.0, None, None),
        (20, -3.0, 12.0, None, None),
    ],
)
def test_how_many_questions_are_missing_follows_from_gain_and_spread(
    asked: int, gain: float, spread: float, even: int | None, likely: int | None
) -> None:
    assert further_questions(asked, gain, spread, EVEN_ODDS) == even
    assert further_questions(asked, gain, spread, GOOD_ODDS) == likely


@pytest.mark.parametrize(
    ("found", "margin", "because"),
    [
        (of(3.7, -1.6, 10.0, 13.2), 0.0, "undecided"),
        (of(1.2, -5.3, 7.6, 14.7), 0.0, "too_small"),
        (of(0.0, 0.0, 0.0, 0.0), 0.0, "no_gain"),  # answers every question as the base does
        (of(-2.0, -6.0, 2.0, 9.0), 0.0, "no_gain"),
        (of(4.0, 1.0, 7.0, 7.0), 5.0, "no_gain"),  # better, but not by the margin
        (of(8.0, 3.0, 13.0, 11.0), 5.0, "undecided"),
        (of(-9.0, -14.0, -4.0, 11.0), 0.0, "worse"),
    ],
)
def test_the_reason_tells_whether_more_questions_would_help(found: Difference, margin: float, because: Because) -> None:
    advice = advise(20, [found], margin, forgets=False, most=MOST)
    assert advice is not None
    assert advice.because == because
    assert (advice.rival, advice.gain, advice.low, advice.high) == ("base", found.f1, found.low, found.high)
    assert (advice.even is not None, advice.likely is not None) == (because == "undecided",) * 2
    assert f"{found.low:.1f} to {found.high:.1f}" in advice.text


def test_an_undecided_version_is_told_the_number_in_words() -> None:
    advice = advise(20, [of(3.7, -1.6, 10.0, 13.2)], 0.0, forgets=False, most=MOST)
    assert advice is not None
    assert (advice.even, advice.likely) == (29, 80)
    assert "3.7 F1 points better than the base on 20 questions" in advice.text
    assert "about 29 more questions (49 in all)" in advice.text
    assert "about 80 more (100 in all)" in advice.text


def test_of_two_rivals_the_harder_one_is_told_of() -> None:
    near, far = of(6.0, -1.0, 13.0, 16.0), of(4.0, -3.0, 11.0, 16.0, "active")
    advice = advise(20, [near, far], 0.0, forgets=False, most=MOST)
    assert advice is not None
    assert (advice.because, advice.rival) == ("undecided", "active")
    assert "than the active version" in advice.text
    beaten = advise(20, [near, of(-9.0, -14.0, -4.0, 11.0, "active")], 0.0, forgets=False, most=MOST)
    assert beaten is not None
    assert (beaten.because, beaten.rival) == ("worse", "active")


def test_forgetting_comes_first_since_no_number_of_questions_mends_it() -> None:
    advice = advise(5, [of(3.7, -1.6, 10.0, 13.2)], 0.0, forgets=True, most=MOST)
    assert advice is not None
    assert (advice.because, advice.even) == ("forgets", None)
    assert "strength" in advice.text


def test_a_set_that_is_too_small_is_filled_up_first() -> None:
    advice = advise(5, [], 0.0, forgets=False, most=MOST)
    assert advice is not None
    assert (advice.because, advice.even, advice.likely) == ("too_few", 15, 15)
    assert advise(20, [], 0.0, forgets=False, most=MOST) is None


@pytest.mark.parametrize(("errors", "least", "most"), [(EVEN_ODDS, 0.35, 0.65), (GOOD_ODDS, 0.7, 0.9)])
def test_sets_of_the_advised_size_pass_as_often_as_was_said(errors: float, least: float, most: float) -> None:
    draw = np.random.default_rng(0)
    worse, better, share = 0.05, 0.20, 100.0  # of the questions: most are answered alike by both
    gain = share * (better - worse)
    spread = math.sqrt(share**2 * (better + worse) - gain**2)
    size = 20 + (further_questions(20, gain, spread, errors) or 0)
    passed = [
        difference("candidate", "base", outcomes(draw, size, worse, better), rounds=400).low > 0 for _ in range(200)
    ]
    assert least <= sum(passed) / len(passed) <= most


def outcomes(draw: np.random.Generator, size: int, worse: float, better: float) -> dict[str, list[Asked]]:
    kinds = draw.choice([(True, False), (False, True), (True, True)], size, p=[worse, better, 1 - worse - better])

    def asked(right: bool) -> Asked:
        return Asked(("yes",), "yes" if right else "no", abstained=False, milliseconds=1.0, tokens=1)

    return {"base": [asked(base) for base, _ in kinds], "candidate": [asked(own) for _, own in kinds]}


def test_advice_names_the_routes_and_promoting_all_the_same_only_where_policy_allows() -> None:
    helped = with_routes({"because": "undecided"}, "house", 2, may_promote=True)
    assert helped == {
        "because": "undecided",
        "next": "POST /adapters/house/versions/2/gate",
        "promote_anyway": "POST /adapters/house/promote",
    }
    strict = with_routes({"because": "forgets"}, "house", 2, may_promote=False)
    assert strict == {"because": "forgets", "next": "POST /adapters/house/train", "promote_anyway": None}
    assert with_routes(None, "house", 2, may_promote=True) is None
