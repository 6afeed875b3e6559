"""Training sets: read from JSON Lines or SQuAD files, checked before anything is trained, written back as one form.

Knows file formats and what makes a set useless; knows no model, no corpus and no jobs. Every refusal says line and
field, or which rule the set as a whole breaks and what to do.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from adapters.errors import InvalidTrainingData
from adapters.squad import normalize_answer
from adapters.template import Passage
from adapters.training.chat_format import plain_fields

Objective = Literal["sft", "dpo", "kto"]
OBJECTIVES: tuple[Objective, ...] = get_args(Objective)
FEWEST_EXAMPLES = 20
FEW_EXAMPLES = 100
MOST_CHARACTERS = 100_000  # of one field
_ONE_ANSWER = 0.95  # share of one answer from which a set teaches nothing but that answer
_MANY_OF_ONE_ANSWER = 0.5
_FIELDS = frozenset(
    {"id", "question", "answer", "answers", "passage", "passages", "title", "document", "unanswerable", "rejected",
     "rating", "start"}
)  # fmt: skip
_WORDS_OF_ENGLISH = re.compile(
    r"\b(the|an?|of|in|on|to|for|from|by|with|is|are|was|were|be|do|does|did|has|have|had|can|could|will|would|should|may"
    r"|what|which|who|whom|whose|when|where|why|how|many|much|and|or|not|its?|this|that)\b",
    re.IGNORECASE,
)
_ENGLISH_SHARE = 0.3
_IDEOGRAPHS = "\u2e80"  # from here on scripts without spaces, and Korean


@dataclass(frozen=True, slots=True)
class TrainingExample:
    """One question with what should be answered.

    Attributes:
        answers: the accepted answers, the preferred one first; none: there is no answer in the passages.
        passages: what it is answered from; none: the tenant's own retrieval is asked before training.
        document: what it came from; sets are held out by it, never by row.
        rejected: an answer that is worse than the first accepted one.
        rating: 1 for an answer people liked, -1 for one they did not; 0 when nobody said.
        start: where the first answer stands in the first passage, in code points; -1: where it is first found.
    """

    question: str
    answers: tuple[str, ...] = ()
    passages: tuple[Passage, ...] = ()
    document: str = ""
    rejected: str | None = None
    rating: int = 0
    start: int = -1


def parse_examples(name: str, content: bytes) -> list[TrainingExample]:
    """The examples of a file: SQuAD JSON (an object with ``data``), or JSON Lines with an example on each line.

    A line holds ``question`` and, as far as known, ``answer`` or ``answers`` (or ``unanswerable: true``), ``passage``
    or ``passages`` (texts, or objects with ``text`` and ``title``), ``document``, ``rejected``, ``rating`` (1 or -1);
    or it is in OpenAI's chat or preference format.

    Raises:
        InvalidTrainingData: the message says line and field.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidTrainingData(f"{name}: not UTF-8 at byte {error.start}; save the file as UTF-8.") from error
    squad = _squad(text)
    if squad is not None:
        return _of_squad(name, squad)
    examples = [_of_line(name, number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    if not examples:
        raise InvalidTrainingData(f"{name}: holds no example. Give a JSON object with a question on each line.")
    return examples


def dump_examples(examples: Iterable[TrainingExample]) -> bytes:
    """Examples as JSON Lines in the one form that is stored and hashed."""
    lines = []
    for example in examples:
        fields: dict[str, Any] = {"question": example.question, "answers": list(example.answers)}
        if example.passages:
            fields["passages"] = [{"title": p.title, "text": p.text} for p in example.passages]
        for field in ("document", "rejected", "rating"):
            if value := getattr(example, field):
                fields[field] = value
        if example.start >= 0:
            fields["start"] = example.start
        lines.append(json.dumps(fields, ensure_ascii=False, sort_keys=True))
    return ("\n".join(lines) + "\n").encode()


def load_examples(content: bytes) -> list[TrainingExample]:
    """What `dump_examples` wrote."""
    return [_of_line("set", number, line) for number, line in enumerate(content.decode().split("\n"), 1) if line]


def check_examples(
    examples: Sequence[TrainingExample], objective: Objective = "sft", *, quotes: bool = False, english: bool = False
) -> tuple[list[TrainingExample], list[str]]:
    """Leave out what cannot be learned from, and refuse a set that would only cost time.

    Args:
        quotes: answers must stand in their passages, as the reader can only quote.
        english: the base model knows English only.

    Returns:
        the examples to train on, and warnings for a person.

    Raises:
        InvalidTrainingData: too few are left, nearly all have one answer, or none fits the objective.
    """
    warnings: list[str] = []
    kept = _without_duplicates(examples, warnings)
    kept = _fitting(kept, objective, warnings)
    if quotes:
        kept = _with_quotable_answers(kept, warnings)
    if len(kept) < FEWEST_EXAMPLES:
        left = f" ({' '.join(warnings)})" if warnings else ""
        raise InvalidTrainingData(
            f"The set has {len(kept)} usable examples{left}; at least {FEWEST_EXAMPLES} are needed, and a few hundred "
            "to gain anything. Add examples."
        )
    if len(kept) < FEW_EXAMPLES:
        warnings.append(f"Only {len(kept)} examples: expect little; a few hundred are better.")
    _check_answers(kept, objective, warnings)
    if english and (warning := _language_warning(kept)):
        warnings.append(warning)
    return kept, warnings


def _squad(text: str) -> Any:
    if not text.lstrip().startswith("{"):
        return None
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return document["data"] if isinstance(document, dict) and "data" in document else None


def _of_squad(name: str, articles: Any) -> list[TrainingExample]:
    examples = []
    for a, article in enumerate(_list(articles, f"{name}: data")):
        where = f"{name}: data[{a}]"
        title = str(_object(article, where).get("title") or f"article {a + 1}")
        for p, paragraph in enumerate(_list(article.get("paragraphs"), f"{where}.paragraphs")):
            at = f"{where}.paragraphs[{p}]"
            context = _text(_object(paragraph, at), "context", at)
            for q, item in enumerate(_list(paragraph.get("qas"), f"{at}.qas")):
                here = f"{at}.qas[{q}]"
                question = _text(_object(item, here), "question", here)
                found = [] if item.get("is_impossible") else _list(item.get("answers"), f"{here}.answers")
                answers = [
                    _text(_object(each, f"{here}.answers[{n}]"), "text", f"{here}.answers[{n}]")
                    for n, each in enumerate(found)
                ]
                start = found[0].get("answer_start", -1) if found else -1
                start = start if found and _stands(context, answers[0], start) else -1
                passage = Passage(context, title)
                examples.append(
                    TrainingExample(question, tuple(dict.fromkeys(answers)), (passage,), title, start=start)
                )
    if not examples:
        raise InvalidTrainingData(f"{name}: data holds no question.")
    return examples


def _of_line(name: str, number: int, line: str) -> TrainingExample:
    where = f"{name}, line {number}"
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InvalidTrainingData(f"{where}: not a JSON object: {error}") from error
    fields = plain_fields(_object(fields, where), where)
    if unknown := sorted(set(fields) - _FIELDS):
        raise InvalidTrainingData(
            f"{where}, field {unknown[0][:80]!r}: not known. Fields are {', '.join(sorted(_FIELDS))}."
        )
    question = _text(fields, "question", where)
    answers = _texts(fields, "answer", "answers", where)
    unanswerable = fields.get("unanswerable", False)
    if not isinstance(unanswerable, bool):
        raise InvalidTrainingData(f"{where}, field 'unanswerable': must be true or false.")
    if unanswerable and answers:
        raise InvalidTrainingData(f"{where}, field 'unanswerable': true, yet there is an answer. Remove one of them.")
    rating = fields.get("rating", 0)
    if isinstance(rating, bool) or rating not in (-1, 0, 1):
        raise InvalidTrainingData(f"{where}, field 'rating': must be 1 or -1.")
    rejected = _text(fields, "rejected", where) if fields.get("rejected") is not None else None
    if not answers and not unanswerable and "answers" not in fields:
        raise InvalidTrainingData(f"{where}, field 'answer': missing. Give the answer, or \"unanswerable\": true.")
    document = str(fields.get("document") or fields.get("title") or "")[:500]
    passages, start = _passages(fields, where), fields.get("start", -1)
    if start != -1 and not (passages and answers and _stands(passages[0].text, answers[0], start)):
        raise InvalidTrainingData(f"{where}, field 'start': the answer does not stand there in the first passage.")
    return TrainingExample(question, answers, passages, document, rejected, rating, start)


def _stands(passage: str, answer: str, start: Any) -> bool:
    return isinstance(start, int) and start >= 0 and passage[start : start + len(answer)] == answer


def _passages(fields: Mapping[str, Any], where: str) -> tuple[Passage, ...]:
    given = fields.get("passages")
    if given is None:
        given = [] if fields.get("passage") is None else [fields["passage"]]
    title = str(fields.get("title") or fields.get("document") or "")
    passages = []
    for n, each in enumerate(_list(given, f"{where}, field 'passages'")):
        at = f"{where}, field 'passages'[{n}]"
        if isinstance(each, str):
            passages.append(Passage(_text({"text": each}, "text", at), title))
        else:
            passages.append(Passage(_text(_object(each, at), "text", at), str(each.get("title", title))))
    return tuple(passages)


def _texts(fields: Mapping[str, Any], one: str, many: str, where: str) -> tuple[str, ...]:
    if fields.get(one) is not None and fields.get(many) is not None:
        raise InvalidTrainingData(f"{where}: give {one!r} or {many!r}, not both.")
    if fields.get(one) is not None:
        return (_text(fields, one, where),)
    given = _list(fields.get(many) or [], f"{where}, field {many!r}")
    return tuple(dict.fromkeys(_text({many: each}, many, where) for each in given))


def _text(fields: Mapping[str, Any], field: str, where: str) -> str:
    value = fields.get(field)
    if not isinstance(value, str) or not value.strip():
        raise InvalidTrainingData(f"{where}, field {field!r}: must be a text that is not empty.")
    if len(value) > MOST_CHARACTERS:
        raise InvalidTrainingData(f"{where}, field {field!r}: longer than {MOST_CHARACTERS} characters.")
    if "\0" in value or any("\ud800" <= c <= "\udfff" for c in value):
        raise InvalidTrainingData(f"{where}, field {field!r}: holds a NUL or half of a surrogate pair; remove it.")
    return value


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise InvalidTrainingData(f"{where}: must be a list.")
    return value


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidTrainingData(f"{where}: must be a JSON object.")
    return value


def _without_duplicates(examples: Sequence[TrainingExample], warnings: list[str]) -> list[TrainingExample]:
    """One example of each that says the same; a rating tells two apart, since both were said."""
    kept: dict[tuple[Any, ...], TrainingExample] = {}
    answers_of: dict[tuple[Any, ...], set[str]] = {}
    for example in examples:
        asked = (" ".join(example.question.lower().split()), tuple(p.text for p in example.passages))
        said = normalize_answer(example.answers[0]) if example.answers else ""
        kept.setdefault((*asked, said, example.rejected, example.rating), example)
        if not example.rejected and not example.rating:
            answers_of.setdefault(asked, set()).add(said)
    if dropped := len(examples) - len(kept):
        warnings.append(f"{dropped} duplicates were left out.")
    if torn := sum(len(said) > 1 for said in answers_of.values()):
        warnings.append(f"{torn} questions are there more than once with different answers; keep one of each.")
    return list(kept.values())


def _fitting(examples: Sequence[TrainingExample], objective: Objective, warnings: list[str]) -> list[TrainingExample]:
    if objective == "sft":
        kept = [example for example in examples if example.rating >= 0]
        needs = "a rating that is not -1"
    elif objective == "dpo":
        kept = [example for example in examples if example.answers and example.rejected]
        needs = "an answer and a rejected one"
    else:
        kept = [example for example in examples if example.answers and (example.rating or example.rejected)]
        needs = "an answer, and a rating or a rejected answer"
    if dropped := len(examples) - len(kept):
        warnings.append(f"{dropped} examples were left out: {objective} needs {needs}.")
    if examples and not kept:
        raise InvalidTrainingData(f"No example fits the objective {objective}: it needs {needs}.")
    return kept


def _with_quotable_answers(examples: Sequence[TrainingExample], warnings: list[str]) -> list[TrainingExample]:
    kept = []
    for example in examples:
        if example.answers and example.passages:
            standing = tuple(a for a in example.answers if any(find_answer(p.text, a) >= 0 for p in example.passages))
            if not standing:
                continue
            kept.append(replace(example, answers=standing))
        else:
            kept.append(example)
    missing = len(examples) - len(kept)
    if missing * 2 > len(examples):
        raise InvalidTrainingData(
            f"{missing} of {len(examples)} answers do not stand in their passages. The reader quotes: give the words "
            "of the passage as the answer, or leave the passages out so that they are retrieved."
        )
    if missing:
        warnings.append(f"{missing} examples were left out: their answers do not stand in their passages.")
    return kept


def _check_answers(examples: Sequence[TrainingExample], objective: Objective, warnings: list[str]) -> None:
    counted = Counter(normalize_answer(example.answers[0]) if example.answers else "" for example in examples)
    if counted[""] == len(examples):
        raise InvalidTrainingData("The training set holds no answered question: nothing can be learned from it.")
    answer, count = counted.most_common(1)[0]
    share, said = count / len(examples), f"the answer {answer[:60]!r}" if answer else "no answer"
    if share >= _ONE_ANSWER:
        raise InvalidTrainingData(
            f"{count} of {len(examples)} examples have {said}: the adapter would learn to say that always. Add "
            "questions with other answers."
        )
    if share >= _MANY_OF_ONE_ANSWER:
        warnings.append(f"{count} of {len(examples)} examples have {said}; add others, or it is said too often.")
    if objective == "kto":
        liked = sum(example.rating > 0 or bool(example.rejected) for example in examples)
        if liked in (0, len(examples)) and not any(example.rejected for example in examples):
            raise InvalidTrainingData("All ratings are alike: KTO needs answers people liked and such they did not.")


def _language_warning(examples: Sequence[TrainingExample]) -> str | None:
    english = sum(_WORDS_OF_ENGLISH.search(example.question) is not None for example in examples)
    if english >= _ENGLISH_SHARE * len(examples):
        return None
    return (
        f"Only {english} of {len(examples)} questions look English, the one language the base model knows: expect no "
        "gain. Set LOREBASE_MODEL to a model of their language."
    )


def find_answer(passage: str, answer: str) -> int:
    """Where an answer stands in a passage as whole words, in code points, whatever its case; -1: nowhere."""
    for text, sought in ((passage, answer), (passage.lower(), answer.lower())):
        if len(text) != len(passage):  # lower case of some letters is longer: offsets would not hold
            continue
        start = text.find(sought)
        while start >= 0:
            end = start + len(sought)
            torn = (start and _in_a_word(text[start - 1], sought[0])) or (
                end < len(text) and _in_a_word(sought[-1], text[end])
            )
            if not torn:
                return start
            start = text.find(sought, start + 1)
    return -1


def _in_a_word(left: str, right: str) -> bool:
    """Whether two neighbours belong to one word; Chinese and Japanese have no space between words."""
    return left.isalnum() and right.isalnum() and max(left, right) < _IDEOGRAPHS
