"""A synthetic world of buildings with facts, told in passages and asked about: what the small model learns from.

Everything is drawn from a `random.Random` that is handed in, so a seed gives the same text. Some buildings are held
out: training never names them. Knows wording; knows no tokens, no model.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from adapters import ABSTENTION, Passage
from examples.small_lm.words import (
    ATTRIBUTES,
    FILLERS,
    KINDS,
    NAMES,
    NUMBERS,
    PEOPLE,
    QUESTIONS,
    STATEMENTS,
    UNITS,
    WORD_VALUES,
    YEARS,
)

_HELD_OUT_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class Difficulty:
    """How much a lesson asks of its reader.

    Attributes:
        sources, facts: the most passages, and the most facts in each.
        wordings: how many of `STATEMENTS` and `QUESTIONS` are used.
        absent: share of the questions that no passage answers.
        asked: questions in one lesson.
        sentences: share of the answers that are given as a sentence, by chance: a second manner that sampling brings up
            now and then, and that preferences can strengthen.
    """

    sources: int = 5
    facts: int = 4
    wordings: int = 4
    absent: float = 0.2
    asked: int = 10
    fewest_sources: int = 1
    sentences: float = 0.0


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, what should be answered, and the number of the passage that holds it; 0: none does."""

    question: str
    value: str
    source: int
    attribute: str = ""
    entity: str = ""
    as_sentence: bool = False

    @property
    def answer(self) -> str:
        """The answer with its mark, or the sentence that says there is none."""
        if not self.source:
            return ABSTENTION
        return f"It is {self.value} [{self.source}]." if self.as_sentence else f"{self.value} [{self.source}]"


@dataclass(frozen=True, slots=True)
class Lesson:
    """Passages, questions about them, and the buildings that the passages are about, in their order."""

    passages: tuple[Passage, ...]
    asked: tuple[Asked, ...]
    entities: tuple[str, ...] = ()


def draw_lesson(rng: random.Random, difficulty: Difficulty, *, held_out: bool = False) -> Lesson:
    """Passages about a few buildings that are easily mixed up, and questions of which some have no answer there.

    Args:
        held_out: about buildings that training never names, instead of the others.
    """
    count = rng.randint(difficulty.fewest_sources, difficulty.sources)
    entities = _entities(rng, count + 2, held_out)
    told, strangers = entities[:count], entities[count:]
    pool = rng.sample(ATTRIBUTES, min(len(ATTRIBUTES), difficulty.facts + 3))
    facts = {
        entity: {a: draw_value(rng, a) for a in rng.sample(pool, rng.randint(1, difficulty.facts))} for entity in told
    }
    passages = tuple(tell(rng, entity, facts[entity], difficulty.wordings) for entity in told)
    present = [(entity, a) for entity in told for a in facts[entity]]
    missing = [(entity, a) for entity in told for a in pool if a not in facts[entity]]
    missing += [(entity, a) for entity in strangers for a in pool]
    rng.shuffle(present)
    asked = []
    for n in range(difficulty.asked):
        if rng.random() < difficulty.absent:
            entity, a = rng.choice(missing)
            asked.append(Asked(ask(rng, entity, a, difficulty.wordings), "", 0, a, entity))
        else:
            entity, a = present[n % len(present)]
            question = ask(rng, entity, a, difficulty.wordings)
            manner = rng.random() < difficulty.sentences
            asked.append(Asked(question, facts[entity][a], told.index(entity) + 1, a, entity, manner))
    return Lesson(passages, tuple(asked), tuple(told))


def tell(rng: random.Random, entity: str, facts: dict[str, str], wordings: int) -> Passage:
    """A passage that tells the facts about a building."""
    titled = rng.random() < 0.6
    named = titled
    sentences = []
    for attribute, value in facts.items():
        usable = STATEMENTS[:wordings] if named else STATEMENTS[: min(wordings, len(STATEMENTS) - 1)]
        sentences.append(rng.choice(usable).format(attribute=attribute, entity=entity, value=value))
        named = True
        if wordings > 1 and rng.random() < 0.15:
            sentences.append(filler(rng))
    return Passage(" ".join(sentences), entity if titled else "")


def ask(rng: random.Random, entity: str, attribute: str, wordings: int = len(QUESTIONS)) -> str:
    """A question for one fact."""
    return rng.choice(QUESTIONS[:wordings]).format(attribute=attribute, entity=entity)


def draw_value(rng: random.Random, attribute: str) -> str:
    """A value as such an attribute has it."""
    if attribute in UNITS:
        return f"{rng.choice(NUMBERS)} {UNITS[attribute]}"
    if attribute in WORD_VALUES:
        return rng.choice(WORD_VALUES[attribute])
    return person(rng)


def person(rng: random.Random) -> str:
    """A first and a last name."""
    return " ".join(map(rng.choice, PEOPLE))


def filler(rng: random.Random) -> str:
    """A sentence that answers nothing."""
    towns = WORD_VALUES["town"]
    return rng.choice(FILLERS).format(person=person(rng), town=rng.choice(towns), year=rng.choice(YEARS))


def is_held_out(entity: str) -> bool:
    """Whether training never names a building: always the same ones, by a hash of the name."""
    return zlib.crc32(entity.encode()) < _HELD_OUT_SHARE * 2**32


def _entities(rng: random.Random, count: int, held_out: bool) -> Sequence[str]:
    """Different buildings; often of the same kind, sometimes of the same name."""
    kind, name = rng.choice(KINDS), rng.choice(NAMES)
    found: dict[str, None] = {}
    while len(found) < count:
        chance = rng.random()
        k = kind if chance < 0.4 else rng.choice(KINDS)
        n = name if chance > 0.7 else rng.choice(NAMES)
        entity = f"{n} {k}"
        if is_held_out(entity) == held_out:
            found[entity] = None
        elif rng.random() < 0.2:
            kind, name = rng.choice(KINDS), rng.choice(NAMES)
    entities = list(found)
    rng.shuffle(entities)
    return entities
