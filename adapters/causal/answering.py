"""One row of the language-model engine, from its submission to its last token.

Knows its prompt, text, adapter and place in the model; knows no batch, no queue, no threads.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from adapters.causal.runner import Lane
from adapters.causal.text import AnswerText
from adapters.engine import Failed, Token
from adapters.errors import AdapterError, ModelFailed
from adapters.lora_stack import LoadedLora
from adapters.pooled import PooledRow
from adapters.prompt import Prompt


@dataclass(eq=False, kw_only=True)
class Answering(PooledRow[LoadedLora]):
    """A row under way.

    Attributes:
        virtual: learned tokens that its adapter puts before the prompt.
        lane: its place in the model, once it is admitted.
    """

    prompt: Prompt
    text: AnswerText
    generator: torch.Generator | None
    virtual: int = 0
    lane: Lane | None = None

    @property
    def tokens(self) -> int:
        """Tokens that must be held for it at most: of its longest answer, the last is never read again."""
        return self.virtual + len(self.prompt.token_ids) + max(1, self.row.max_tokens) - 1

    @property
    def reads_prompt(self) -> bool:
        """Whether the model has not seen all of its prompt yet; otherwise it generates."""
        return self.lane is not None and self.lane.cached < self.virtual + len(self.prompt.token_ids)

    def push(self, token_id: int, log_probability: float) -> None:
        """Take one generated token and tell what follows from it."""
        if not math.isfinite(log_probability):
            self.tell(Failed(ModelFailed("The model's scores are not finite; try another adapter or dtype.")))
            return
        shown = self.text.push(token_id, log_probability)
        if shown or (self.prompt.verbatim and self.text.finish_reason is not None):
            self.tell(Token(shown, self.text.scores()))
        if self.text.finish_reason is not None:
            self.tell(self.text.done(self.row, self.prompt))


def row_error(error: Exception) -> AdapterError:
    """What a row is told when the model raises ``error``."""
    known = ModelFailed(f"The model failed on this question ({type(error).__name__}); it may be asked again.")
    known.__cause__ = error
    return known
