"""What to do about a version that the gate holds back: whether more questions would decide it, and how many.

Pure: paired differences in, numbers and a sentence out. The interval of a mean narrows with the square root of the
number of questions, so the spread of the differences tells where it would leave the margin behind. It is an estimate:
it takes the gain seen so far for the true one. Knows no rows and no HTTP beyond the names of routes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from app.life.comparison import TITLES, Difference

Because = Literal["forgets", "too_few", "worse", "no_gain", "too_small", "undecided"]
FEWEST_QUESTIONS = 20
EVEN_ODDS, GOOD_ODDS = 1.96, 1.96 + 0.84  # standard errors the gain must measure: passes one time in two, four in five
HOPELESS = 10  # times the questions asked; where even odds need more, these hardly hint at a gain
_WORST_FIRST: tuple[Because, ...] = ("worse", "no_gain", "too_small", "undecided")


@dataclass(frozen=True, slots=True)
class Advice:
    """Why a version is held back, and what to do.

    Attributes:
        because: ``forgets`` what the base knows; ``too_few`` questions; ``worse`` beyond chance; ``no_gain`` above the
            margin; a gain ``too_small`` beside its spread; ``undecided``, and more questions would probably decide.
        text: that in words.
        rival: whom it does not beat, by how many F1 points it is better, and the 95 % interval.
        even, likely: how many further questions would let it pass one time in two, and four times in five, if the gain
            is what it seems; None where more questions are not what is missing.
    """

    because: Because
    text: str
    questions: int
    rival: str | None = None
    gain: float | None = None
    low: float | None = None
    high: float | None = None
    even: int | None = None
    likely: int | None = None


def further_questions(asked: int, gain: float, spread: float, errors: float) -> int | None:
    """How many more questions make a gain measure so many standard errors of its mean; None where no number does.

    Args:
        gain: F1 points above the margin, on the average question.
        spread: standard deviation of the questions' differences.
        errors: `EVEN_ODDS` or `GOOD_ODDS`.
    """
    if gain <= 0:
        return None
    return max(1, math.ceil((errors * spread / gain) ** 2) - asked)


def advise(questions: int, unbeaten: Sequence[Difference], margin: float, *, forgets: bool, most: int) -> Advice | None:
    """What to do about a version; None for one that passes.

    Args:
        questions: how many were asked.
        unbeaten: the differences whose interval does not lie above the margin.
        forgets: whether it has lost on the general set.
        most: the questions a set may have.
    """
    if forgets:
        return Advice("forgets", _FORGETS, questions)
    if questions < FEWEST_QUESTIONS:
        missing = FEWEST_QUESTIONS - questions
        return Advice("too_few", _TOO_FEW.format(n=questions, missing=missing), questions, even=missing, likely=missing)
    found = [_of_rival(questions, each, margin, most) for each in unbeaten]
    return min(found, key=lambda each: (_WORST_FIRST.index(each.because), -(each.even or 0)), default=None)


def with_routes(
    stored: Mapping[str, Any] | None, name: str, version: int, *, may_promote: bool
) -> dict[str, Any] | None:
    """Kept advice with the routes to follow it by. ``may_promote``: the tenant's policy lets a version serve without
    the gate."""
    if stored is None:
        return None
    asks = stored["because"] in ("undecided", "too_few")
    return {
        **stored,
        "next": f"POST /adapters/{name}/versions/{version}/gate" if asks else f"POST /adapters/{name}/train",
        "promote_anyway": f"POST /adapters/{name}/promote" if may_promote else None,
    }


def _of_rival(questions: int, found: Difference, margin: float, most: int) -> Advice:
    even = further_questions(questions, found.f1 - margin, found.spread, EVEN_ODDS)
    likely = further_questions(questions, found.f1 - margin, found.spread, GOOD_ODDS)
    because: Because
    if found.high < 0:
        because = "worse"
    elif even is None or likely is None:
        because = "no_gain"
    else:
        because = "too_small" if questions + even > min(HOPELESS * questions, most) else "undecided"
    words = {
        "gain": f"{abs(found.f1):.1f} F1 points {'better' if found.f1 >= 0 else 'worse'}",
        "rival": TITLES[found.second],
        "interval": f"95 % interval {found.low:.1f} to {found.high:.1f}",
        "margin": f" by more than the margin of {margin:g}" if margin else "",
        "n": questions,
    }
    if even is not None and likely is not None:
        words |= {"even": even, "likely": likely, "even_all": questions + even, "likely_all": questions + likely}
    return Advice(
        because, _TEXTS[because].format(**words), questions, found.second, round(found.f1, 2), round(found.low, 2),
        round(found.high, 2), *((even, likely) if because == "undecided" else (None, None)),
    )  # fmt: skip


_FORGETS = (
    "It has learnt its own questions at the price of what the base knows of other texts; more questions would not "
    "change that. Train it again with less strength (0.4, say; 0.7 unless given), which keeps more of the base."
)
_TOO_FEW = "Too few questions to decide by ({n}): add {missing} or more that it was not trained on, and ask again."
_TEXTS: dict[Because, str] = {
    "undecided": (
        "It is {gain} than the {rival} on {n} questions, but so few cannot tell that from luck ({interval}). If the "
        "gain is what it seems, about {even} more questions ({even_all} in all) let it pass one time in two, about "
        "{likely} more ({likely_all} in all) four times in five. Add questions that it was not trained on, all at "
        "once, and ask again."
    ),
    "too_small": (
        "It is only {gain} than the {rival} on {n} questions, well within luck ({interval}): more questions would "
        "hardly decide that. Train it on more examples, or of more kinds, or with more strength."
    ),
    "no_gain": (
        "It is {gain} than the {rival} on {n} questions ({interval}), so not better{margin}: more questions would "
        "hardly change that. Train it on more examples, or look whether they are like these questions."
    ),
    "worse": (
        "It is {gain} than the {rival} on {n} questions, more than luck explains ({interval}): more questions would "
        "not change that. Look whether its training examples are right, and like these questions."
    ),
}
