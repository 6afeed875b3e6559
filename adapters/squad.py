"""Question sets in SQuAD format, and the SQuAD answer metrics.

Knows the file format and string comparison; knows no model and no service.
Metrics follow the official evaluation script (Rajpurkar et al. 2016, 2018).
"""

from __future__ import annotations

import collections
import json
import re
import string
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapters.errors import InvalidTrainingData

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = frozenset(string.punctuation)


@dataclass(frozen=True, slots=True)
class Answer:
    """A gold answer: its text and where it starts in the context, in code points."""

    text: str
    start: int


@dataclass(frozen=True, slots=True)
class Question:
    """One question over one paragraph. No answers means the paragraph does not answer it."""

    id: str
    question: str
    context: str
    article: str
    answers: tuple[Answer, ...]

    @property
    def answerable(self) -> bool:
        return bool(self.answers)


def read_squad(path: Path) -> list[Question]:
    """Read a SQuAD v1.1 or v2.0 JSON file.

    Returns:
        The questions in file order.

    Raises:
        InvalidTrainingData: the file is missing, is not JSON, or a field is absent; the message names the place.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InvalidTrainingData(f"{path}: no such file") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InvalidTrainingData(f"{path}: not a JSON text: {error}") from error
    try:
        return [question for i, article in enumerate(document["data"]) for question in _questions(i, article)]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InvalidTrainingData(f"{path}: not in SQuAD format: {type(error).__name__} {error}") from error


def _questions(number: int, article: dict[str, Any]) -> list[Question]:
    title = str(article.get("title") or f"article {number + 1}")
    return [
        Question(
            id=str(item["id"]),
            question=str(item["question"]),
            context=str(paragraph["context"]),
            article=title,
            answers=()
            if item.get("is_impossible")
            else tuple(Answer(str(a["text"]), int(a["answer_start"])) for a in item["answers"]),
        )
        for paragraph in article["paragraphs"]
        for item in paragraph["qas"]
    ]


def normalize_answer(text: str) -> str:
    """Lower-case, without punctuation, articles and extra white space."""
    kept = "".join(c for c in text.lower() if c not in _PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", kept).split())


def exact_match(prediction: str, golds: Sequence[str]) -> float:
    """1.0 if the prediction equals a gold answer after normalisation, else 0.0. No golds: 1.0 for no answer."""
    predicted = normalize_answer(prediction)
    return float(any(predicted == normalize_answer(gold) for gold in golds or [""]))


def f1_score(prediction: str, golds: Sequence[str]) -> float:
    """The best token F1 over the gold answers, from 0 to 1. No golds: 1.0 for no answer."""
    predicted = normalize_answer(prediction).split()
    return max(_token_f1(predicted, normalize_answer(gold).split()) for gold in golds or [""])


def _token_f1(predicted: list[str], gold: list[str]) -> float:
    if not predicted or not gold:
        return float(predicted == gold)
    common = sum((collections.Counter(predicted) & collections.Counter(gold)).values())
    return 2 * common / (len(predicted) + len(gold))
