"""Questions made from a document's own sentences by rule, for engines that write no text.

Only plain statements are turned round, each by one rule, and the answer is always the statement's own words: "X has 28
days of leave." asks "How many days does X have?", "X was built by Anna." asks "By whom was X built?" ("Who built X?"
would need the verb's form to be guessed). What no rule fits is left alone. The rules know English only. Knows text;
knows no model.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_SUBJECT = r"(?P<subject>(?:The |A |An |Its |Each |Every |All )?[A-Z]?[\w'’-]+(?: [\w'’-]+){0,6}?)"
_END = r"(?P<rest>[^.;:]*)\.$"
_PRONOUNS = frozenset("it he she they this that these those there here we you i".split())  # noqa: SIM905
_MOST_ANSWER_WORDS = 12


class Asked(NamedTuple):
    """A question and its answer, which stands in the sentence from ``start`` on."""

    question: str
    answer: str
    start: int


class _Rule(NamedTuple):
    pattern: re.Pattern[str]
    question: str


def _rule(pattern: str, question: str) -> _Rule:
    return _Rule(re.compile(pattern), question)


_BE = r"(?P<be>is|are|was|were)"
_DONE = r"(?P<verb>\w+(?:ed|ilt|ade|ritten|own|ept|old|un))"  # a form that follows "was" unchanged in a question
_WHEN = r"(?: (?:in|on|at|for|to|from|since|after|before) [^.;:]*)?"
_RULES = (
    _rule(
        rf"^{_SUBJECT} {_BE} {_DONE} by (?P<answer>(?:the |an? )?[\w'’ -]+?){_WHEN}\.$",
        "By whom {be} {subject} {verb}?",
    ),
    _rule(rf"^{_SUBJECT} {_BE} {_DONE} in (?P<answer>\d{{4}}){_END}", "When {be} {subject} {verb}?"),
    _rule(
        rf"^{_SUBJECT} (?P<have>has|have|had) (?P<answer>\d[\d,.]*) (?P<things>[\w'’-]+){_END}",
        "How many {things} {do} {subject} have?",
    ),
    _rule(
        rf"^{_SUBJECT} {_BE} (?P<answer>\d[\d,.]* [\w%]+) (?P<measure>tall|long|high|wide|deep|old|thick)\.$",
        "How {measure} {be} {subject}?",
    ),
    _rule(rf"^{_SUBJECT} costs? (?P<answer>[^.;:]*\d[^;:]*)\.$", "How much does {subject} cost?"),
    _rule(rf"^{_SUBJECT} {_BE} (?P<answer>(?:the|an?) [^.;:,]+)\.$", "What {be} {subject}?"),
    _rule(rf"^{_SUBJECT} (?:includes|contains|covers) (?P<answer>[^.;:]+)\.$", "What does {subject} include?"),
)
_AUXILIARY = {"has": "does", "have": "do", "had": "did"}


def questions_of(sentence: str) -> list[Asked]:
    """The questions a sentence answers by its own words; none for most sentences."""
    asked = []
    for pattern, form in _RULES:
        match = pattern.match(sentence)
        if match is None:
            continue
        found = match.groupdict()
        if found["subject"].lower() in _PRONOUNS or found["subject"].split()[0].lower() in _PRONOUNS:
            continue
        answer = found["answer"].strip()
        if not answer or len(answer.split()) > _MOST_ANSWER_WORDS:
            continue
        parts = {**found, "subject": _inside(found["subject"]), "do": _AUXILIARY.get(found.get("have") or "", "do")}
        asked.append(Asked(form.format(**parts), answer, match.start("answer")))
    return asked[:1]


def _inside(subject: str) -> str:
    """A sentence's first words as they stand inside a sentence: articles in small letters, names as they are."""
    first, _, rest = subject.partition(" ")
    if first in ("The", "A", "An", "Each", "Every", "All", "Its"):
        return f"{first.lower()} {rest}"
    return subject
