"""Supervised fine-tuning of a causal language model on the prompts it is served with.

An example is the prompt that serving would build (`adapters.prompt.pack`) followed by the answer; only the answer's
tokens are learned. Knows prompts and tokens; knows no engine.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F

from adapters.engine import Row
from adapters.errors import InvalidTrainingData, RequestTooLong
from adapters.prompt import pack
from adapters.template import ABSTENTION
from adapters.training.data import TrainingExample, find_answer

_NOT_LEARNED = -100
_SHORTEST_ROOM = 16  # tokens an answer may have at least


def answer_text(example: TrainingExample) -> str:
    """What the model should say: the answer with the mark of the first passage it stands in, or the abstention."""
    if not example.answers:
        return ABSTENTION
    answer = example.answers[0]
    source = next((n for n, p in enumerate(example.passages, 1) if find_answer(p.text, answer) >= 0), None)
    return answer if source is None or f"[{source}]" in answer else f"{answer} [{source}]"


def encode_example(
    example: TrainingExample, tokenizer: Any, eos: int | None, longest: int, answer: str | None = None
) -> tuple[list[int], list[int]]:
    """Token ids of the prompt as serving builds it, and of the answer.

    Args:
        longest: tokens of both together; passages that do not fit are dropped, as in serving.
        answer: instead of the example's own.

    Raises:
        RequestTooLong: question and answer do not fit.
    """
    said: list[int] = tokenizer.encode(answer_text(example) if answer is None else answer, add_special_tokens=False)
    said = [*said, eos] if eos is not None else said
    row = Row(example.question, example.passages, max_tokens=max(len(said), _SHORTEST_ROOM))
    return list(pack(row, tokenizer, context=longest).token_ids), said


class AnswerWriting:
    """The language model's task: to write the answer after the prompt (`adapters.training.trainer.TrainingTask`).

    Raises:
        InvalidTrainingData: no example fits ``longest`` tokens.
    """

    def __init__(
        self, examples: Sequence[TrainingExample], tokenizer: Any, eos: int | None, pad: int, longest: int
    ) -> None:
        self._pad = pad
        self._rows: list[tuple[list[int], list[int]]] = []
        for example in examples:
            try:
                self._rows.append(encode_example(example, tokenizer, eos, longest))
            except RequestTooLong:
                continue
        if not self._rows:
            raise InvalidTrainingData(f"No example fits {longest} tokens: shorten them or raise max_length.")

    def __len__(self) -> int:
        return len(self._rows)

    def length(self, index: int) -> int:
        prompt, said = self._rows[index]
        return len(prompt) + len(said)

    def loss(self, model: Any, batch: Sequence[int], rng: random.Random) -> torch.Tensor:
        rows = [self._rows[i] for i in batch]
        longest = max(len(prompt) + len(said) for prompt, said in rows)
        ids = torch.full((len(rows), longest), self._pad)  # [B, T]
        labels = torch.full((len(rows), longest), _NOT_LEARNED)  # [B, T]
        mask = torch.zeros((len(rows), longest), dtype=torch.long)  # [B, T]
        for r, (prompt, said) in enumerate(rows):
            end = len(prompt) + len(said)
            ids[r, :end] = torch.tensor(prompt + said)
            labels[r, len(prompt) : end] = torch.tensor(said)
            mask[r, :end] = 1
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits  # [B, V + T, vocabulary]
        logits = logits[:, -longest:][:, :-1]  # learned tokens of a prompt method stand before the text
        return F.cross_entropy(
            logits.reshape(-1, logits.shape[-1]).float(), labels[:, 1:].reshape(-1), ignore_index=_NOT_LEARNED
        )
