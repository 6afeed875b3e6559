"""One batch through `transformers` generate: greedy, left padded, every row told of each of its tokens as it comes.

Knows tensors and generate's hooks; knows nothing of prompts, text or who waits for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList

from adapters.causal_adapters import PeftRows
from adapters.causal_model import CausalModel
from adapters.row_lora import LoadedLora


class Receiver(Protocol):
    """A row of the batch: takes its tokens until it says that it is over."""

    @property
    def over(self) -> bool:
        """True once the row wants no more tokens."""

    def push(self, token_id: int, log_probability: float) -> None:
        """Take the next token. Called in order, not after `over`."""


def generate(
    base: CausalModel,
    rows: PeftRows,
    prompts: Sequence[Sequence[int]],
    adapters: Sequence[LoadedLora | None],
    receivers: Sequence[Receiver],
    max_tokens: int,
) -> None:
    """Generate for all rows until every receiver is over, or for ``max_tokens`` steps.

    Args:
        prompts: token ids, one sequence per row.
        adapters: row i is on ``adapters[i]``; None is the base model.
    """
    longest = max(map(len, prompts))
    padded = [[base.pad_id] * (longest - len(ids)) + list(ids) for ids in prompts]
    mask = [[0] * (longest - len(ids)) + [1] * len(ids) for ids in prompts]
    step = _Step(receivers)
    with torch.inference_mode():
        rows.generate(
            adapters,
            input_ids=torch.tensor(padded, device=base.device),  # [B, T]
            attention_mask=torch.tensor(mask, device=base.device),  # [B, T]
            generation_config=GenerationConfig(
                do_sample=False,
                max_new_tokens=max_tokens,
                eos_token_id=sorted(base.eos_ids) or None,
                pad_token_id=base.pad_id,
            ),
            logits_processor=LogitsProcessorList([_Note(step)]),
            stopping_criteria=StoppingCriteriaList([_Advance(step)]),
        )


class _Step:
    """Joins the two ends of a greedy step: the scores before it, the tokens after it."""

    def __init__(self, receivers: Sequence[Receiver]) -> None:
        self._receivers = receivers
        self._log_probabilities = torch.empty(0)  # [B]

    def note(self, scores: torch.Tensor) -> None:
        """``scores`` [B, V]. Greedy decoding takes the largest, so its log-probability needs no index."""
        self._log_probabilities = scores.amax(-1) - scores.logsumexp(-1)  # [B]

    def advance(self, tokens: torch.Tensor) -> torch.Tensor:
        """Hand out ``tokens`` [B]; returns which rows are over, bool [B]."""
        steps = zip(self._receivers, tokens.tolist(), self._log_probabilities.tolist(), strict=True)
        for receiver, token_id, log_probability in steps:
            if not receiver.over:
                receiver.push(token_id, log_probability)
        return torch.tensor([receiver.over for receiver in self._receivers], device=tokens.device)  # [B]


class _Note(LogitsProcessor):  # type: ignore[misc]
    def __init__(self, step: _Step) -> None:
        self._step = step

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self._step.note(scores)
        return scores  # [B, V]


class _Advance(StoppingCriteria):  # type: ignore[misc]
    def __init__(self, step: _Step) -> None:
        self._step = step

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        return self._step.advance(input_ids[:, -1])  # [B]
