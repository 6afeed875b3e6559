"""Judges of answers: rules over an answer and its passages, and a model that is asked which of two is better.

A judge tells which of several answers to one question people would rather have; `app.preference_build` makes training
pairs of that. Knows answers as text; knows no tenants, no jobs and no sampling.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from adapters import Passage
from adapters.squad import normalize_answer

_MARK = re.compile(r" ?\[(\d+)\]")
_VERDICT = re.compile(r"(?<![\d.])[12](?![\d.]*\d)")  # alone: neither of 12 metres nor of 1.5
_TASK = (
    "Two answers were given to a question. Which is better by this standard: {standard} "
    "The question was: {question} Reply with the number of the better answer only: 1 or 2."
)
_VERDICT_TOKENS = 16  # some models say "Answer 1", or go on to say why; what is cut off is not needed
_SUPPORTED = 0.5  # share of an answer's words above which a passage is said to hold it
_SAYING_NOTHING = frozenset(
    "it its is are was were be of in on at to for by with and according".split()  # noqa: SIM905
)
Rule = Literal["grounded", "short"]
Complete = Callable[[str, Sequence[str], int], str]


@dataclass(frozen=True, slots=True)
class Preference:
    """The better and the worse of the answers to one question."""

    chosen: str
    rejected: str


Judge = Callable[[str, Sequence[Passage], Sequence[str]], Preference | None]
"""Question, passages and different answers to a preference; None where no answer is clearly better."""


def by_rule(rule: Rule) -> Judge:
    """A judge that prefers what is better ``grounded`` (the passages named hold what is said), or is ``short``: has
    fewer words than another answer that the passages support."""
    if rule == "short":
        return _among_supported(lambda answer: -len(_MARK.sub("", answer).split()))

    def judge(question: str, passages: Sequence[Passage], answers: Sequence[str]) -> Preference | None:
        return _extremes(answers, lambda answer: grounding(answer, passages))

    return judge


def by_manner(begins_with: str) -> Judge:
    """A judge that prefers, of the answers that the passages support, those that begin with a text."""
    return _among_supported(lambda answer: float(answer.startswith(begins_with)))


def _among_supported(worth: Callable[[str], float]) -> Judge:
    """Compares only answers that the passages support, so that manner is never bought with a wrong answer."""

    def judge(question: str, passages: Sequence[Passage], answers: Sequence[str]) -> Preference | None:
        return _extremes([a for a in answers if grounding(a, passages) > _SUPPORTED], worth)

    return judge


def _extremes(answers: Sequence[str], worth: Callable[[str], float]) -> Preference | None:
    ranked = sorted(answers, key=worth)
    if not ranked or worth(ranked[0]) == worth(ranked[-1]):
        return None
    return Preference(ranked[-1], ranked[0])


def by_model(complete: Complete, standard: str) -> Judge:
    """A judge that asks a model which of the first two answers is better, in both orders: models lean to one place, and
    a verdict that changes with the order is none.

    Args:
        complete: task, sources and a limit of tokens to the model's reply.
        standard: what makes an answer better, in words.
    """

    def better(question: str, first: str, second: str) -> str | None:
        reply = complete(_TASK.format(standard=standard, question=question), [first, second], _VERDICT_TOKENS)
        verdict = _VERDICT.search(reply)
        return None if verdict is None else (first, second)[int(verdict[0]) - 1]

    def judge(question: str, passages: Sequence[Passage], answers: Sequence[str]) -> Preference | None:
        if len(answers) < 2:
            return None
        one, other = answers[:2]
        verdicts = (better(question, one, other), better(question, other, one))
        if verdicts[0] is None or verdicts[0] != verdicts[1]:
            return None
        return Preference(one, other) if verdicts[0] == one else Preference(other, one)

    return judge


def grounding(answer: str, passages: Sequence[Passage]) -> float:
    """Share of an answer's telling words that stand in the passages it names, from 0 to 1; 0 when it names none."""
    named = {int(number) for number in _MARK.findall(answer)}
    if not named or not all(1 <= number <= len(passages) for number in named):
        return 0.0
    held = {word for number in named for word in normalize_answer(passages[number - 1].text).split()}
    said = [word for word in normalize_answer(_MARK.sub("", answer)).split() if word not in _SAYING_NOTHING]
    return sum(word in held for word in said) / len(said) if said else 0.0
