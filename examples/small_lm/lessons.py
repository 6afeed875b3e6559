"""Lessons as tensors: the passages once, then each question with its answer in a lane of its own.

A lane sees the passages and itself, at the positions it would have in a prompt of its own, so one pass over the
passages teaches many questions, each exactly as serving will ask it. Knows tokens and masks, and how a model is asked
over them; knows no training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from adapters import Row
from adapters.prompt import render
from examples.small_lm.world import Lesson


@dataclass(frozen=True, slots=True)
class Batch:
    """Lessons of one step.

    Attributes:
        ids, positions: [B, T].
        mask: [B, 1, T, T], 0 where a token may look, else minus infinity.
        lanes: [B, T]; 0: the passages, n: question n with its answer, -1: padding.
        answers: [B, T], true for tokens of an answer.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    mask: torch.Tensor
    lanes: torch.Tensor
    answers: torch.Tensor


class LessonEncoder:
    """Turns lessons into batches.

    Args:
        tokenizer: the small model's.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def batch(self, lessons: Sequence[Lesson]) -> Batch:
        """One batch of lessons, padded to the longest."""
        encoded = [self._encode(lesson) for lesson in lessons]
        longest = max(len(ids) for ids, *_ in encoded)
        shape = (len(encoded), longest)
        ids = torch.full(shape, self._tokenizer.pad_token_id)  # [B, T]
        positions = torch.zeros(shape, dtype=torch.long)  # [B, T]
        lanes = torch.full(shape, -1)  # [B, T]
        answers = torch.zeros(shape, dtype=torch.bool)  # [B, T]
        for row, (tokens, places, lane, said) in enumerate(encoded):
            end = len(tokens)
            ids[row, :end] = torch.tensor(tokens)
            positions[row, :end] = torch.tensor(places)
            lanes[row, :end] = torch.tensor(lane)
            answers[row, :end] = torch.tensor(said)
        order = torch.arange(longest)
        mine = (lanes[:, :, None] == lanes[:, None, :]) | (lanes[:, None, :] == 0)  # [B, T, T]
        visible = (mine & (order[:, None] >= order[None, :]))[:, None]  # [B, 1, T, T]
        mask = torch.zeros(visible.shape, dtype=torch.bfloat16).masked_fill_(~visible, -torch.inf)
        return Batch(ids, positions, mask, lanes, answers)

    def _encode(self, lesson: Lesson) -> tuple[list[int], list[int], list[int], list[bool]]:
        """Token ids, positions, lanes, and which tokens belong to an answer."""
        shown = range(len(lesson.passages))
        prompt = render(Row("\0", lesson.passages), shown, self._tokenizer)
        before, after = prompt.split("\0")
        passages = self._ids(before.rstrip(" "))
        ids, positions = list(passages), list(range(len(passages)))
        lanes, answers = [0] * len(passages), [False] * len(passages)
        for number, asked in enumerate(lesson.asked, start=1):
            question = self._ids(f"{asked.question}{after}")
            said = [*self._ids(asked.answer), self._tokenizer.eos_token_id]
            ids += question + said
            positions += range(len(passages), len(passages) + len(question) + len(said))
            lanes += [number] * (len(question) + len(said))
            answers += [False] * len(question) + [True] * len(said)
        return ids, positions, lanes, answers

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return ids


def logits_at(model: Any, batch: Batch, where: torch.Tensor) -> torch.Tensor:
    """What the model makes of a batch after some of its tokens, in bfloat16 arithmetic: [tokens, V].

    Args:
        where: [B, T], true for the tokens after which the next is wanted.
    """
    with torch.autocast("cpu", torch.bfloat16):
        states = model.model(
            input_ids=batch.ids, attention_mask=batch.mask, position_ids=batch.positions, use_cache=False
        ).last_hidden_state  # [B, T, d]
        logits: torch.Tensor = model.lm_head(states[where])
    return logits.float()
