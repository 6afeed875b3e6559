"""Learning from preferences: pairs of answers (DPO) and rated answers (KTO), on the prompts that serving builds.

Both compare what the adapted model makes of an answer with what the base makes of it, β apart. The base's part does not
change, so it is computed once, before the model is adapted; a step then costs what supervised training costs, and any
method and the one loop with its checkpoints serve. Knows prompts and probabilities; knows no engine.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F

from adapters.errors import InvalidTrainingData, RequestTooLong
from adapters.training.data import TrainingExample
from adapters.training.language import encode_example

_REFERENCE_BATCH = 8
Encoded = tuple[list[int], list[int]]


class PairedAnswers:
    """Direct preference optimisation (Rafailov et al. 2023): the better answer gains on the worse one, and stays likely
    itself (`adapters.training.trainer.TrainingTask`).

    Args:
        model: the base, not yet adapted.
        sft_weight: of the better answers' own loss for each token, as in supervised training; 0: DPO alone.

    Raises:
        InvalidTrainingData: no pair fits ``longest`` tokens.
    """

    def __init__(
        self, model: Any, examples: Sequence[TrainingExample], tokenizer: Any, eos: int | None, pad: int, longest: int,
        beta: float, sft_weight: float = 0.0,
    ) -> None:  # fmt: skip
        self._pad, self._beta, self._sft_weight = pad, beta, sft_weight
        self._pairs: list[tuple[Encoded, Encoded]] = []
        for example in examples:
            try:
                better = encode_example(example, tokenizer, eos, longest)
                worse = encode_example(example, tokenizer, eos, longest, example.rejected)
            except RequestTooLong:
                continue
            self._pairs.append((better, worse))
        _check_some(self._pairs, longest)
        rows = [row for pair in self._pairs for row in pair]
        self._reference = reference_log_probabilities(model, rows, pad).view(-1, 2)  # [n, 2]

    def __len__(self) -> int:
        return len(self._pairs)

    def length(self, index: int) -> int:
        return max(len(prompt) + len(said) for prompt, said in self._pairs[index])

    def loss(self, model: Any, batch: Sequence[int], rng: random.Random) -> torch.Tensor:
        rows = [row for index in batch for row in self._pairs[index]]
        now = log_probabilities(model, rows, self._pad).view(-1, 2)  # [B, 2]
        gained = now - self._reference[list(batch)]  # [B, 2]
        preferred = -F.logsigmoid(self._beta * (gained[:, 0] - gained[:, 1])).mean()
        tokens = sum(len(self._pairs[index][0][1]) for index in batch)
        return preferred - self._sft_weight * now[:, 0].sum() / tokens


class RatedAnswers:
    """Kahneman-Tversky optimisation (Ethayarajh et al. 2024): liked answers gain, disliked ones lose, measured from how
    far the model has moved on answers to other questions (`adapters.training.trainer.TrainingTask`).

    Args:
        model: the base, not yet adapted.

    Raises:
        InvalidTrainingData: no example fits ``longest`` tokens.
    """

    def __init__(
        self, model: Any, examples: Sequence[TrainingExample], tokenizer: Any, eos: int | None, pad: int, longest: int,
        beta: float,
    ) -> None:  # fmt: skip
        self._pad, self._beta = pad, beta
        self._rows: list[Encoded] = []
        liked: list[bool] = []
        for example in examples:
            rated = [(None, example.rating >= 0)] + ([(example.rejected, False)] if example.rejected else [])
            for answer, is_liked in rated:
                try:
                    self._rows.append(encode_example(example, tokenizer, eos, longest, answer))
                except RequestTooLong:
                    continue
                liked.append(is_liked)
        _check_some(self._rows, longest)
        self._liked = torch.tensor(liked)  # [n]
        others = [*self._rows[1:], self._rows[0]]
        self._elsewhere = [(row[0], other[1]) for row, other in zip(self._rows, others, strict=True)]
        self._reference = reference_log_probabilities(model, self._rows, pad)  # [n]
        self._reference_elsewhere = reference_log_probabilities(model, self._elsewhere, pad)  # [n]
        count = int(self._liked.sum())  # the rarer kind weighs more, so that both weigh the same together
        self._weights = torch.where(self._liked, 0.5 / max(1, count), 0.5 / max(1, len(liked) - count)) * len(liked)

    def __len__(self) -> int:
        return len(self._rows)

    def length(self, index: int) -> int:
        prompt, said = self._rows[index]
        return len(prompt) + len(said)

    def loss(self, model: Any, batch: Sequence[int], rng: random.Random) -> torch.Tensor:
        chosen = list(batch)
        gained = log_probabilities(model, [self._rows[i] for i in chosen], self._pad) - self._reference[chosen]  # [B]
        with torch.no_grad():
            elsewhere = log_probabilities(model, [self._elsewhere[i] for i in chosen], self._pad)  # [B]
            moved = (elsewhere - self._reference_elsewhere[chosen]).mean().clamp(min=0)
        sign = torch.where(self._liked[chosen], 1.0, -1.0)  # [B]
        value = torch.sigmoid(sign * self._beta * (gained - moved))  # [B]
        return (self._weights[chosen] * (1 - value)).mean()


def log_probabilities(model: Any, rows: Sequence[Encoded], pad: int) -> torch.Tensor:
    """Log-probability of each answer after its prompt, summed over its tokens: [rows]."""
    longest = max(len(prompt) + len(said) for prompt, said in rows)
    ids = torch.full((len(rows), longest), pad)  # [B, T]
    mask = torch.zeros((len(rows), longest), dtype=torch.long)  # [B, T]
    answer = torch.zeros((len(rows), longest))  # [B, T]
    for r, (prompt, said) in enumerate(rows):
        end = len(prompt) + len(said)
        ids[r, :end] = torch.tensor(prompt + said)
        mask[r, :end] = 1
        answer[r, len(prompt) : end] = 1
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, -longest:][:, :-1]  # [B, T - 1, v]
    each = logits.float().log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]  # [B, T - 1]
    total: torch.Tensor = (each * answer[:, 1:]).sum(-1)  # [B]
    return total


def reference_log_probabilities(model: Any, rows: Sequence[Encoded], pad: int) -> torch.Tensor:
    """`log_probabilities` of the base as it stands, without gradients: [rows]."""
    model.eval()
    with torch.no_grad():
        parts = [
            log_probabilities(model, rows[begin : begin + _REFERENCE_BATCH], pad)
            for begin in range(0, len(rows), _REFERENCE_BATCH)
        ]
    return torch.cat(parts)


def _check_some(rows: Sequence[Any], longest: int) -> None:
    if not rows:
        raise InvalidTrainingData(f"No example fits {longest} tokens: shorten them or raise max_length.")
