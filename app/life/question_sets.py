"""Question sets as requests bring them: a simple list, or SQuAD's shape. Knows fields and limits; asks nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.answer_metrics import Gold, Place

MOST_QUESTIONS = 5000


class InvalidQuestionSet(Exception):
    """A question set cannot be used; the message names the place and says what to do."""


@dataclass(frozen=True, slots=True)
class Item:
    """A question with its gold answers.

    Attributes:
        golds: empty for a question that has no answer.
        context: the text that answers it, where the set says so.
    """

    question: str
    golds: tuple[Gold, ...]
    context: str | None = None

    @property
    def texts(self) -> tuple[str, ...]:
        return tuple(gold.text for gold in self.golds)

    def stored(self) -> dict[str, Any]:
        """As JSON values; `Item.read` is the way back."""
        golds = [[g.text, [[p.document, p.start, p.end] for p in g.places]] for g in self.golds]
        return {"question": self.question, "golds": golds, "context": self.context}

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> Item:
        golds = tuple(Gold(text, tuple(Place(*place) for place in places)) for text, places in stored["golds"])
        return cls(stored["question"], golds, stored["context"])


def from_squad(articles: Any) -> list[Item]:
    """The questions of SQuAD's ``data``, each with its paragraph. Raises InvalidQuestionSet."""
    items: list[Item] = []
    for i, article in enumerate(_list(articles, "data")):
        for j, paragraph in enumerate(_list(_field(article, "paragraphs", f"data[{i}]"), f"data[{i}].paragraphs")):
            where = f"data[{i}].paragraphs[{j}]"
            context = _text(_field(paragraph, "context", where), f"{where}.context")
            for k, question in enumerate(_list(_field(paragraph, "qas", where), f"{where}.qas")):
                items.append(_squad_item(question, context, f"{where}.qas[{k}]"))
    return items


def _squad_item(question: Any, context: str, where: str) -> Item:
    asked = _text(_field(question, "question", where), f"{where}.question")
    impossible = question.get("is_impossible") is True
    answers = [] if impossible else _list(_field(question, "answers", where), f"{where}.answers")
    golds = [
        Gold(_text(_field(answer, "text", f"{where}.answers[{i}]"), f"{where}.answers[{i}].text"))
        for i, answer in enumerate(answers)
    ]
    return Item(asked, tuple(dict.fromkeys(golds)), context)


def _field(value: Any, name: str, where: str) -> Any:
    if not isinstance(value, dict):
        raise InvalidQuestionSet(f"{where}: must be an object with {name!r}, as in SQuAD's format.")
    if name not in value:
        raise InvalidQuestionSet(f"{where}: {name!r} is missing; SQuAD's format has it.")
    return value[name]


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise InvalidQuestionSet(f"{where}: must be a list.")
    return value


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise InvalidQuestionSet(f"{where}: must be a text that says something.")
    return value
