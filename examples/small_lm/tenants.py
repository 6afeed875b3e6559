"""Tenants of the synthetic world: documents in a wording of their own, answers in a manner of their own.

What adapters of the small model learn in tests and measurements, since pretraining shows neither. Knows wording; knows
no model.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from adapters import Passage
from adapters.training import TrainingExample
from examples.small_lm.world import Difficulty, Lesson, draw_lesson, draw_value

REGISTER_WORDING = "In the register, {entity} has {value} as {attribute}."


@dataclass(frozen=True, slots=True)
class Tenant:
    """How one tenant writes.

    Attributes:
        manner: of its answers: a text with ``{attribute}`` and ``{value}``.
        wording: of its documents' statements, with ``{entity}`` too; None: as in pretraining.
    """

    manner: str
    wording: str | None = None


LETTERS = Tenant("According to the records, it is {value}")
LEDGER = Tenant("{attribute}: {value}")
REGISTER = Tenant("{attribute}: {value}", REGISTER_WORDING)


def tenant_examples(tenant: Tenant, count: int, *, seed: int, held_out: bool = False) -> list[TrainingExample]:
    """Questions over two or three passages with the tenant's answers, each over passages of its own.

    Args:
        held_out: about buildings that neither pretraining nor other examples name.
    """
    rng = random.Random(f"tenant/{seed}/{held_out}")
    difficulty = Difficulty(sources=3, facts=2, wordings=3, absent=0.0, asked=1, fewest_sources=2)
    examples = []
    for number in range(count):
        lesson = draw_lesson(rng, difficulty, held_out=held_out)
        if tenant.wording is not None:
            lesson = _reworded(rng, lesson, tenant.wording)
        (asked,) = lesson.asked
        answer = f"{tenant.manner.format(attribute=asked.attribute, value=asked.value)} [{asked.source}]"
        examples.append(TrainingExample(asked.question, (answer,), lesson.passages, f"lesson {number}"))
    return examples


def _reworded(rng: random.Random, lesson: Lesson, wording: str) -> Lesson:
    """The lesson with passages that state, in the wording, what is asked, and something else about the others."""
    (asked,) = lesson.asked
    told = []
    for number, entity in enumerate(lesson.entities, start=1):
        value = asked.value if number == asked.source else draw_value(rng, asked.attribute)
        told.append(Passage(wording.format(entity=entity, attribute=asked.attribute, value=value), entity))
    return replace(lesson, passages=tuple(told))
