"""How well the small model answers about buildings that training never named.

An answer counts only when all of its tokens, its mark and its end are what greedy decoding writes; comparing each
position's likeliest token with the right answer says the same in one pass. Knows lessons and logits; knows no training.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Any

import torch

from examples.small_lm.lessons import LessonEncoder, logits_at
from examples.small_lm.world import Difficulty, draw_lesson

_LESSONS_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Score:
    """Shares from 0 to 1.

    Attributes:
        exact: of the questions with an answer there, those answered with the right value and the right mark.
        abstained: of the questions without one, those answered with the abstention.
        questions: how many were asked.
    """

    exact: float
    abstained: float
    questions: int


def score(model: Any, encoder: LessonEncoder, difficulty: Difficulty, *, lessons: int, seed: int = 0) -> Score:
    """Ask about held-out buildings, as many lessons, each with the most sources the difficulty has."""
    rng = random.Random(f"score/{seed}")
    difficulty = replace(difficulty, fewest_sources=difficulty.sources)
    right, counted = {True: 0, False: 0}, {True: 0, False: 0}
    was_training = model.training
    model.eval()
    for begin in range(0, lessons, _LESSONS_AT_ONCE):
        drawn = [draw_lesson(rng, difficulty, held_out=True) for _ in range(min(_LESSONS_AT_ONCE, lessons - begin))]
        batch = encoder.batch(drawn)
        asked_for = batch.answers.roll(-1, 1)  # the tokens before those of answers
        with torch.no_grad():
            written = logits_at(model, batch, asked_for).argmax(-1)  # [tokens]
        wrong = torch.zeros_like(batch.answers)
        wrong[batch.answers] = written != batch.ids[batch.answers]
        for row, lesson in enumerate(drawn):
            missed = set(batch.lanes[row][wrong[row]].tolist())
            for number, asked in enumerate(lesson.asked, start=1):
                answerable = asked.source > 0
                counted[answerable] += 1
                right[answerable] += number not in missed
    model.train(was_training)
    return Score(right[True] / max(1, counted[True]), right[False] / max(1, counted[False]), sum(counted.values()))
