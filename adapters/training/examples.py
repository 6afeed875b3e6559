"""Training examples for the span reader: tokenised once, drawn afresh at every pass.

A draw is either the question over its own paragraph, or one of two kinds of unanswerable pair, so that the reader
learns to abstain: the question over a look-alike paragraph that does not hold the answer, or a question altered by
rule over its own paragraph. Knows tokenisers; knows no model.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from sklearn.feature_extraction.text import TfidfVectorizer

from adapters.squad import Question, normalize_answer
from adapters.training.alterations import QuestionAlterer


@dataclass(frozen=True, slots=True)
class Feature:
    """One encoded pair. ``start`` and ``end`` are token positions; both 0 ([CLS]) mean no answer."""

    input_ids: list[int]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class _Tokens:
    ids: list[int]
    offsets: list[tuple[int, int]]


class ExampleSource:
    """Draws features from a question set.

    Args:
        questions: the set; questions without answers are drawn as they are.
        tokenizer: a fast tokenizer with offsets.
        max_length: tokens of a pair at most; longer paragraphs are windowed around the answer.
        lookalike_share: share of draws over a look-alike paragraph.
        altered_share: share of draws with a question altered by ``alterer``; none without one.
    """

    def __init__(
        self,
        questions: Sequence[Question],
        tokenizer: Any,
        *,
        max_length: int = 320,
        lookalike_share: float = 0.0,
        altered_share: float = 0.0,
        alterer: QuestionAlterer | None = None,
        lookalikes: int = 6,
    ) -> None:
        self._questions = list(questions)
        self._tokenizer = tokenizer
        self._max_length = max_length
        self._lookalike_share = lookalike_share
        self._altered_share = altered_share
        contexts = list(dict.fromkeys(q.context for q in self._questions))
        number = {context: i for i, context in enumerate(contexts)}
        self._context_of = [number[q.context] for q in self._questions]
        self._contexts = [_tokenise(tokenizer, context) for context in contexts]
        self._question_ids = [_tokenise(tokenizer, q.question).ids[:64] for q in self._questions]
        self._alterer = alterer
        self._lookalikes = (
            [[number[context] for context in found] for found in lookalike_paragraphs(self._questions, lookalikes)]
            if lookalike_share
            else []
        )

    def __len__(self) -> int:
        return len(self._questions)

    def length(self, index: int) -> int:
        """Tokens of the pair as it stands, for bucketing."""
        return min(
            self._max_length,
            len(self._question_ids[index]) + len(self._contexts[self._context_of[index]].ids) + 3,
        )

    def draw(self, index: int, rng: random.Random) -> Feature:
        """One feature for the question at ``index``; what kind is drawn from ``rng``."""
        question = self._questions[index]
        kind = rng.random()
        if kind < self._lookalike_share and self._lookalikes[index]:
            # Cut to the length of the pair it stands for, or one long draw would pad its whole batch.
            return self._encode(
                self._question_ids[index], rng.choice(self._lookalikes[index]), None, rng, self.length(index)
            )
        if self._alterer is not None and question.answerable and kind > 1 - self._altered_share:
            altered = self._alterer.alter(question.question, question.context, rng)
            if altered is not None:
                return self._encode(_tokenise(self._tokenizer, altered).ids[:64], self._context_of[index], None, rng)
        answer = rng.choice(question.answers) if question.answerable else None
        span = (answer.start, answer.start + len(answer.text)) if answer else None
        return self._encode(self._question_ids[index], self._context_of[index], span, rng)

    def _encode(
        self,
        question: list[int],
        context_number: int,
        span: tuple[int, int] | None,
        rng: random.Random,
        longest: int | None = None,
    ) -> Feature:
        context = self._contexts[context_number]
        room = (longest or self._max_length) - len(question) - 3
        first, last = _token_span(context.offsets, span)
        begin = 0
        if len(context.ids) > room:
            low, high = 0, len(context.ids) - room
            if last >= 0:
                low, high = sorted((max(low, last - room + 1), min(first, high)))
            begin = rng.randint(low, high)
        window = context.ids[begin : begin + room]
        shift = len(question) + 2 - begin
        inside = last >= 0 and begin <= first and last < begin + room
        return Feature(
            input_ids=[self._tokenizer.cls_token_id, *question, self._tokenizer.sep_token_id, *window,
                       self._tokenizer.sep_token_id],
            start=first + shift if inside else 0,
            end=last + shift if inside else 0,
        )  # fmt: skip


def _tokenise(tokenizer: Any, text: str) -> _Tokens:
    encoding = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    return _Tokens(encoding["input_ids"], encoding["offset_mapping"])


def _token_span(offsets: list[tuple[int, int]], span: tuple[int, int] | None) -> tuple[int, int]:
    """First and last token that cover a character span; (-1, -1) when there is none."""
    if span is None:
        return -1, -1
    covered = [i for i, (low, high) in enumerate(offsets) if low < span[1] and high > span[0]]
    return (covered[0], covered[-1]) if covered else (-1, -1)


def lookalike_paragraphs(questions: Sequence[Question], count: int) -> list[list[str]]:
    """For each question the ``count`` paragraphs of the set most alike by TF-IDF that hold none of its answers."""
    contexts = list(dict.fromkeys(q.context for q in questions))
    number = {context: i for i, context in enumerate(contexts)}
    vectorizer = TfidfVectorizer(sublinear_tf=True, stop_words="english")
    paragraphs = vectorizer.fit_transform(contexts)
    normal = [f" {normalize_answer(context)} " for context in contexts]
    found: list[list[str]] = []
    for begin in range(0, len(questions), 1024):
        part = questions[begin : begin + 1024]
        own = [number[q.context] for q in part]
        # The paragraph itself is part of the query: what looks like it is what retrieval would bring beside it.
        query = vectorizer.transform([q.question for q in part]) * 2 + paragraphs[own]
        scores = (query @ paragraphs.T).toarray()
        for row, question in enumerate(part):
            golds = {f" {normalize_answer(a.text)} " for a in question.answers}
            best = scores[row].argsort()[::-1][: count * 4]
            alike = (i for i in best if i != own[row] and scores[row][i] > 0 and not any(g in normal[i] for g in golds))
            found.append([contexts[i] for i in islice(alike, count)])
    return found
