"""Unanswerable questions made from answerable ones, by rule.

The kinds are those that Rajpurkar et al. 2018 found in the unanswerable questions people write: a swapped name or
number, a swapped word, an antonym, a negation, a condition that was never met. Replacements often stand in the
paragraph themselves, so that matching words is not enough to tell the two apart. Knows text and word vectors; no model.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

_NAME = re.compile(r"(?<=[a-z,] )(?:[A-Z][\w'-]+)(?: [A-Z][\w'-]+)*")
_NUMBER = re.compile(r"\b\d[\d,.]*\b")
_WORD = re.compile(r"\b[a-z]{4,}\b")
_CONDITION = re.compile(r" (?:in|during|before|after|since|until|at|near|from|without|with|for) [^?]{4,30}(?=\?$)")
_AUXILIARY = re.compile(r"\b(is|are|was|were|did|does|do|can|could|has|had|will|would|should)\b", re.I)
_ANTONYMS = {
    "first": "last", "last": "first", "most": "least", "least": "most", "more": "less", "less": "more",
    "best": "worst", "worst": "best", "before": "after", "after": "before", "largest": "smallest",
    "smallest": "largest", "highest": "lowest", "lowest": "highest", "increase": "decrease", "decrease": "increase",
    "earliest": "latest", "latest": "earliest", "above": "below", "below": "above", "north": "south", "south": "north",
    "east": "west", "west": "east", "good": "bad", "bad": "good", "long": "short", "large": "small", "small": "large",
    "positive": "negative", "negative": "positive", "always": "never", "never": "always", "like": "dislike",
    "old": "new", "new": "old", "start": "end", "began": "ended", "won": "lost", "lost": "won", "easy": "difficult",
}  # fmt: skip
_ANTONYM = re.compile(r"\b(" + "|".join(_ANTONYMS) + r")\b")


class QuestionAlterer:
    """Changes questions so that their paragraph no longer answers them.

    Args:
        questions: the set that names and conditions are borrowed from.
        neighbours: for a word, words used like it (`word_neighbours`); without them no word is swapped.
    """

    def __init__(self, questions: Sequence[str], neighbours: Mapping[str, Sequence[str]] | None = None) -> None:
        self._neighbours = neighbours or {}
        self._names = [name for question in questions for name in _NAME.findall(question)]
        self._conditions = [found.group() for question in questions if (found := _CONDITION.search(question))]
        self._rules = {
            self._swap_word: 0.25,
            self._swap_name: 0.40,
            self._swap_number: 0.10,
            self._antonym: 0.10,
            self._negation: 0.10,
            self._add_condition: 0.05,
        }

    def alter(self, question: str, context: str, rng: random.Random) -> str | None:
        """A question that reads like the given one but is no longer answered by the context, or None if no rule
        applies."""
        rules = sorted(self._rules, key=lambda rule: rng.random() ** (1 / self._rules[rule]), reverse=True)
        return next((altered for rule in rules if (altered := rule(question, context, rng)) is not None), None)

    def _swap_word(self, question: str, context: str, rng: random.Random) -> str | None:
        found = [match for match in _WORD.finditer(question) if match.group() in self._neighbours]
        if not found:
            return None
        match = rng.choice(found)
        return _replace(question, match, rng.choice(self._neighbours[match.group()]))

    def _swap_name(self, question: str, context: str, rng: random.Random) -> str | None:
        found = list(_NAME.finditer(question))
        inside = rng.random() < 0.5
        names = _NAME.findall(context) if inside else self._names
        if not found or not names:
            return None
        match = rng.choice(found)
        for _ in range(8):
            name = rng.choice(names)
            if name not in question and match.group() not in name and (inside or name not in context):
                return _replace(question, match, name)
        return None

    def _swap_number(self, question: str, context: str, rng: random.Random) -> str | None:
        found = list(_NUMBER.finditer(question))
        if not found:
            return None
        match = rng.choice(found)
        others = [number for number in _NUMBER.findall(context) if number not in question]
        if others and rng.random() < 0.5:
            return _replace(question, match, rng.choice(others))
        digits = "".join(str(rng.randint(1, 9)) if c.isdigit() else c for c in match.group())
        return None if digits in context else _replace(question, match, digits)

    def _antonym(self, question: str, context: str, rng: random.Random) -> str | None:
        match = _ANTONYM.search(question)
        return None if match is None else _replace(question, match, _ANTONYMS[match.group()])

    def _negation(self, question: str, context: str, rng: random.Random) -> str | None:
        match = _AUXILIARY.search(question)
        if match is None or " not " in question or "n't" in question or " not " in context:
            return None
        return _replace(question, match, f"{match.group()} not")

    def _add_condition(self, question: str, context: str, rng: random.Random) -> str | None:
        if not self._conditions or not question.endswith("?") or _CONDITION.search(question):
            return None
        condition = rng.choice(self._conditions)
        return None if condition.split()[-1] in context else f"{question[:-1]}{condition}?"


def word_neighbours(
    questions: Sequence[str], tokenizer: Any, embeddings: npt.NDArray[np.float32], *, skip: int = 4, count: int = 30
) -> dict[str, list[str]]:
    """For each content word of the questions the words most alike by the encoder's own input embeddings.

    Words alike there are used alike: kinds, opposites and siblings of a word as well as its synonyms. The very nearest,
    mostly synonyms, and inflections of the word itself are left out; a few of the altered questions stay answerable.

    Args:
        embeddings: [V, d], the row of a token id is its vector.
        skip: how many of the nearest are left out.
    """
    vocabulary = tokenizer.get_vocab()
    words = sorted(
        word
        for word in {found for question in questions for found in _WORD.findall(question)}
        if word in vocabulary and word not in ENGLISH_STOP_WORDS
    )
    vectors = embeddings[[vocabulary[word] for word in words]]  # [n, d]
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    nearest: dict[str, list[str]] = {}
    for begin in range(0, len(words), 1024):
        scores = vectors[begin : begin + 1024] @ vectors.T  # [<=1024, n]
        for word, order in zip(words[begin : begin + 1024], np.argsort(-scores, axis=1), strict=False):
            others = (words[i] for i in order[1 + skip : 3 * count])
            nearest[word] = [other for other in others if other[:4] != word[:4]][:count]
    return {word: others for word, others in nearest.items() if others}


def _replace(question: str, match: re.Match[str], replacement: str) -> str:
    return question[: match.start()] + replacement + question[match.end() :]
